"""What a difference means, in plain words that are never surer than its interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from hf_mixup.report.results import direction
from hf_mixup.report.statistics import SIGNIFICANT, Difference

REFITTED = "_temperature"
_WORDS = {
    **{"ece": "calibration", "nll": "likelihood", "mean_recall": "recall"},
    **{"f1_entity": "F1 of names", "f1_macro": "F1", "exact_match": "exact matches"},
    **{"mse": "squared error", "mae": "absolute error", "r2": "explained variance", "spearman": "rank correlation"},
}
# Said of each method; the others stand in the tables. Of several that say the same, the first.
_ASKED = (
    *("ece", "nll", "accuracy", "mean_recall", "f1_entity", "f1_macro", "exact_match"),
    *("mse", "mae", "r2", "spearman"),
)
_PERHAPS = {1: "perhaps helps", -1: "perhaps hurts"}
_UNCLEAR, _SAME = "unclear", "unchanged within noise"


def judgement(name: str, difference: Difference) -> int:
    """1 if the method is better in this score, -1 if worse, 0 if the noise does not tell.

    Both the interval and the test must be sure of it.

    >>> judgement("nll", Difference(-0.2, -0.3, -0.1, p=0.001, seeds=5, rows=400))
    1
    >>> judgement("nll", Difference(-0.2, -0.3, -0.1, p=0.2, seeds=5, rows=400))  # one of many comparisons
    0
    """
    if not difference.known or difference.p >= SIGNIFICANT or difference.low <= 0 <= difference.high:
        return 0
    return direction(name) * (1 if difference.low > 0 else -1)


def verdict(differences: Mapping[str, Difference]) -> str:
    """Say what a method changes against its control, after a temperature refit too, and how far that holds.

    Args:
        differences: by score, their p-values adjusted for all that were tested.

    >>> better = Difference(-0.1, -0.12, -0.08, p=0.001, seeds=5, rows=400)
    >>> same = Difference(0.002, -0.01, 0.014, p=0.7, seeds=5, rows=400)
    >>> verdict({"accuracy": same, "ece": better})
    'helps calibration, accuracy unchanged within noise (-0.010 to +0.014; 5 seeds)'
    """
    asked = [name for name in _ASKED if name in differences]
    if not asked:
        return "not judged: there is no score that tells"
    failed = max(differences[name].failed for name in asked)
    if failed:
        return f"not judged: {failed} of {differences[asked[0]].seeds} seeds failed or diverged, here or in the control"
    if not any(differences[name].known for name in asked):
        return "not judged: one run a method, and no scores by row to tell its noise from"
    own = _clauses({name: differences[name] for name in asked if differences[name].known}, spelt=True)
    refitted = {
        name: differences[name + REFITTED]
        for name in ("ece", "nll")
        if name + REFITTED in differences and differences[name + REFITTED].known
    }
    after = f"; after a temperature refit {_clauses(refitted)}" if refitted else ""
    # The interval of what is unchanged stands beside it, and with it how many seeds it speaks of.
    text, scope = own + after, _scope({name: differences[name] for name in asked if differences[name].known})
    return f"{text[:-1]}; {scope})" if text.endswith(")") else f"{text} ({scope})"


def _clauses(differences: Mapping[str, Difference], spelt: bool = False) -> str:
    told: dict[str, list[str]] = {word: [] for word in ("helps", "hurts", *_PERHAPS.values(), _UNCLEAR, _SAME)}
    for name, difference in differences.items():
        told[_word(name, difference)].append(name)
    parts = []
    for word, names in told.items():
        if names and word in (_UNCLEAR, _SAME):
            # How much noise there is, of the score that a model is chosen by; the tables have the others.
            chosen = [name for name in names if name not in ("ece", "nll")] if spelt else []
            range_ = f" ({_range(differences[chosen[0]], '' if len(names) == 1 else chosen[0])})" if chosen else ""
            parts.append(f"{_listed(names)} {word}{range_}")
        elif names:
            doubt = " (not sure among so many comparisons)" if word in _PERHAPS.values() else ""
            parts.append(f"{word} {_listed(names)}{doubt}")
    return ", ".join(parts)


def _range(difference: Difference, name: str) -> str:
    low, high = (signed(value) for value in (difference.low, difference.high))
    return f"{_WORDS.get(name, name)} {low} to {high}".strip()


def signed(value: float) -> str:
    """Return a number with its sign and three digits; of a zero there is one kind.

    >>> signed(-0.0001), signed(0.25)
    ('+0.000', '+0.250')
    """
    return f"{round(value, 3) + 0.0:+.3f}"


def _word(name: str, difference: Difference) -> str:
    sure = judgement(name, difference)
    if sure:
        return "helps" if sure > 0 else "hurts"
    alone = judgement(name, replace(difference, p=0.0))  # what the interval says by itself
    if alone:
        return _PERHAPS[alone]
    # Zero lies well inside the interval, or near its end.
    return _SAME if abs(difference.estimate) <= (difference.high - difference.low) / 4 else _UNCLEAR


def _listed(names: Sequence[str]) -> str:
    words = [_WORDS.get(name, name) for name in names]
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _scope(known: Mapping[str, Difference]) -> str:
    seeds = next(iter(known.values())).seeds
    if seeds == 1:
        return "one seed: of this training only"
    given = [name for name, difference in known.items() if not difference.rows]
    if not given:
        return f"{seeds} seeds"
    return f"{seeds} seeds; the test rows taken as given" + (
        f" for {_listed(given)}" if len(given) < len(known) else ""
    )
