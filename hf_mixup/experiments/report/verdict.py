"""A difference in plain words, which are never surer than its interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from hf_mixup.experiments.report.statistics import SIGNIFICANT, Difference
from hf_mixup.metrics.results import direction

AFTER = "_temperature"
MARGIN = 0.01
"""Scores that are shares, in [0, 1], are called equivalent where the whole interval lies closer to zero than this."""
Claim = Literal["better", "worse", "equivalent", "perhaps better", "perhaps worse", "not significant"]
_WORDS = {
    **{"ece": "calibration", "nll": "likelihood", "mean_recall": "recall"},
    **{"f1_entity": "F1 of names", "f1_macro": "F1", "exact_match": "exact matches"},
    **{"wer": "word errors", "cer": "character errors", "exact": "exact transcripts"},
    **{"mse": "squared error", "mae": "absolute error", "r2": "explained variance", "spearman": "rank correlation"},
}
# Scores that are shares of samples, in [0, 1].
SHARES = ("ece", "accuracy", "mean_recall", "f1_entity", "f1_macro", "exact_match", "wer", "cer", "exact")
# Scores of the verdict; the others are in the tables.
_ASKED = ("ece", "nll", *SHARES[1:], "mse", "mae", "r2", "spearman")
_ORDER: tuple[Claim, ...] = ("better", "worse", "perhaps better", "perhaps worse", "equivalent", "not significant")


def claim(name: str, difference: Difference) -> Claim:
    """Return the strongest claim that the interval of a score allows.

    - "better", "worse": the 95 % interval excludes zero, and so does the test after correction for all comparisons;
    - "equivalent": the whole interval lies within `MARGIN` of zero, of more than one seed; for shares alone, as other
      scores have units of their own;
    - "perhaps ...": the interval excludes zero, the test does not;
    - "not significant": all else.

    >>> claim("accuracy", Difference(0.02, 0.01, 0.03, p=0.001, seeds=5, rows=400))
    'better'
    >>> claim("accuracy", Difference(0.001, -0.004, 0.006, p=0.7, seeds=5, rows=400))
    'equivalent'
    >>> claim("accuracy", Difference(0.001, -0.9, 0.9, p=0.99, seeds=5, rows=400))
    'not significant'
    """
    sure = judgement(name, difference)
    if sure:
        return "better" if sure > 0 else "worse"
    if not difference.known:
        return "not significant"
    shares = name.removesuffix(AFTER) in SHARES
    if shares and difference.seeds > 1 and max(-difference.low, difference.high) <= MARGIN:
        return "equivalent"
    alone = _beyond_zero(name, difference)
    return {1: "perhaps better", -1: "perhaps worse"}.get(alone, "not significant")  # type: ignore[return-value]


def judgement(name: str, difference: Difference) -> int:
    """1 if the method is better in this score, -1 if worse, 0 if the noise does not tell.

    Requires the interval to exclude 0 and p < 0.05.

    >>> judgement("nll", Difference(-0.2, -0.3, -0.1, p=0.001, seeds=5, rows=400))
    1
    >>> judgement("nll", Difference(-0.2, -0.3, -0.1, p=0.2, seeds=5, rows=400))  # one of many comparisons
    0
    """
    return _beyond_zero(name, difference) if difference.known and difference.p < SIGNIFICANT else 0


def _beyond_zero(name: str, difference: Difference) -> int:
    if difference.low <= 0 <= difference.high:
        return 0
    return direction(name) * (1 if difference.low > 0 else -1)


def verdict(differences: Mapping[str, Difference]) -> str:
    """Return the changes of a method against its control, also after temperature scaling, and their scope.

    Args:
        differences: by score, their p-values adjusted for all that were tested.

    >>> better = Difference(-0.1, -0.12, -0.08, p=0.001, seeds=5, rows=400)
    >>> same = Difference(0.002, -0.01, 0.014, p=0.7, seeds=5, rows=400)
    >>> verdict({"accuracy": same, "ece": better})
    'better calibration; not significant with 5 seeds: accuracy (95 % interval -0.010 to +0.014)'
    """
    names = asked(differences)
    if not names:
        return "not judged: there is no score that tells"
    failed = max(differences[name].failed for name in names)
    if failed:
        return f"not judged: {failed} of {differences[names[0]].seeds} seeds failed or diverged, here or in the control"
    known = {name: differences[name] for name in names if differences[name].known}
    if not known:
        return "not judged: one run a method, and no scores by row to tell its noise from"
    text = _clauses(known)
    after = {name: differences[name + AFTER] for name in ("ece", "nll") if name + AFTER in differences}
    after = {name: difference for name, difference in after.items() if difference.known}
    if after:
        text += f"; after temperature scaling {_clauses(after)}"
    seeds = next(iter(known.values())).seeds
    scope = [f"{seeds} seeds"] if seeds > 1 and f"{seeds} seeds" not in text else []
    by_word = {_WORDS.get(name, name): difference for name, difference in known.items()}
    by_word |= {f"{_WORDS[name]} after temperature scaling": difference for name, difference in after.items()}
    scope += _reservations(by_word)
    return f"{text} ({'; '.join(scope)})" if scope else text


def asked(differences: Mapping[str, Difference]) -> list[str]:
    """Return the scores that a verdict is about, of those that there are."""
    return [name for name in _ASKED if name in differences]


def certain(differences: Mapping[str, Difference]) -> str:
    """Return the scores in which a method is better or worse for certain; empty if there is none.

    >>> certain({"accuracy": Difference(0.02, 0.01, 0.03, p=0.001, seeds=5, rows=400)})
    'better accuracy by 0.020'
    """
    parts = []
    for name in asked(differences):
        word = claim(name, differences[name])
        if word in ("better", "worse"):
            parts.append(f"{word} {_WORDS.get(name, name)} by {abs(differences[name].estimate):.3f}")
    return _listed(parts) if parts else ""


def _clauses(differences: Mapping[str, Difference]) -> str:
    seeds = next(iter(differences.values())).seeds
    with_ = f"with {seeds} seed{'s' if seeds > 1 else ''}"
    words: dict[Claim, str] = {
        "equivalent": f"equivalent within ±{MARGIN:g} {with_}:",
        "not significant": f"not significant {with_}:",
    }
    by_claim: dict[Claim, list[str]] = {}
    for name, difference in differences.items():
        by_claim.setdefault(claim(name, difference), []).append(name)
    parts = []
    for word in sorted(by_claim, key=_ORDER.index):
        # Where nothing is claimed, the interval tells how much may hide there.
        shown = [_WORDS.get(name, name) for name in by_claim[word]]
        if word not in ("better", "worse"):
            shown = [f"{each} ({_range(differences[name])})" for each, name in zip(shown, by_claim[word], strict=True)]
        parts.append(f"{words.get(word, word)} {_listed(shown)}")
        if word.startswith("perhaps"):
            parts[-1] += ", which is not sure among so many comparisons"
    return "; ".join(parts)


def _range(difference: Difference) -> str:
    return f"95 % interval {signed(difference.low)} to {signed(difference.high)}"


def signed(value: float) -> str:
    """Return a number with its sign and three digits; of a zero there is one kind.

    >>> signed(-0.0001), signed(0.25)
    ('+0.000', '+0.250')
    """
    return f"{round(value, 3) + 0.0:+.3f}"


def three_digits(value: float | None) -> str:
    """Return a number for a table, a dash for none."""
    return "-" if value is None else f"{value:.3f}"


def _listed(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _reservations(known: Mapping[str, Difference]) -> list[str]:
    """Return what the intervals do not cover: other trainings, or other test rows."""
    if next(iter(known.values())).seeds == 1:
        return ["one seed: of this training only"]
    given = [name for name, difference in known.items() if not difference.rows]
    if not given:
        return []
    return ["the test rows taken as given" + (f" for {_listed(given)}" if len(given) < len(known) else "")]
