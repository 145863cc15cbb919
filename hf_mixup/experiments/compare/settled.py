"""Whether the differences of a comparison are settled, and in words, why it went on no further."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from hf_mixup.experiments.compare.judge import Judged
from hf_mixup.experiments.report.statistics import Difference
from hf_mixup.experiments.report.verdict import MARGIN, SHARES, claim

State = Literal["settled", "open", "out of reach", "failed"]
_SETTLED = ("better", "worse", "equivalent")


def ranking_score(judged: Judged) -> str:
    """Return the score that settles a comparison: its first share of samples, else the one that picks the best model.

    Shares have a margin within which two methods are equivalent; other scores have units of their own.
    """
    scored = {name for result in judged.tested for name in result["metrics"]}
    shares = (name for name in judged.setting.prepared.metrics if name in SHARES and name in scored)
    return next(shares, judged.setting.prepared.select_by)


@dataclass(frozen=True)
class Pair:
    """A method and its control on a split, and how far the comparison is with them."""

    method: str
    control: str
    split: str
    difference: Difference
    state: State

    def __str__(self) -> str:
        return f"{self.method} against {self.control} on {self.split}"


def pairs(judged: Judged) -> list[Pair]:
    """Return all pairs of a setting."""
    name = ranking_score(judged)
    return [
        Pair(method, control, split, scores[name], state(name, scores[name], judged.look.most))
        for (control, split), methods in judged.differences.items()
        for method, scores in methods.items()
    ]


def state(name: str, difference: Difference, most: int) -> State:
    """Return whether a difference is settled, and if not, whether so many seeds could settle it.

    It is settled as better, worse or, for shares of samples, equivalent. Out of reach means that the noise of the test
    rows alone is too large: it shrinks at best with the root of the number of seeds, and neither a difference from
    zero nor equivalence would be seen through what is then left. Not to go on for that is no claim, and costs none.

    >>> state("accuracy", Difference(0.04, 0.01, 0.07, p=0.001, seeds=5, rows=400), 20)
    'settled'
    >>> state("accuracy", Difference(0.00, -0.05, 0.05, p=1.0, seeds=5, rows=100, rows_alone=0.05), 20)
    'out of reach'
    """
    if difference.failed:
        return "failed"
    if claim(name, difference) in _SETTLED:
        return "settled"
    if not difference.known:
        return "open"
    left = difference.rows_alone * math.sqrt(difference.seeds / most)
    half = (difference.high - difference.low) / 2
    of_seeds = math.sqrt(max(half**2 - difference.rows_alone**2, 0.0))
    narrow = name in SHARES and left <= MARGIN
    return "open" if narrow or abs(difference.estimate) + of_seeds >= left else "out of reach"


def goes_on(judged: Sequence[Judged]) -> bool:
    """Whether there is a pair that more seeds may settle, and a look left for it."""
    look = judged[0].look
    return look.seeds < look.most and any(pair.state == "open" for each in judged for pair in pairs(each))


def progress_of(judged: Sequence[Judged]) -> str:
    """Return in one line how far a comparison is."""
    look, found = judged[0].look, [pair for each in judged for pair in pairs(each)]
    return f"look {look.number}, after {look.seeds} seeds: {_count(found, judged[0])}"


def how_often(judged: Judged) -> str:
    """Return what is settled and how often was looked; empty where the number of seeds was fixed beforehand."""
    look = judged.look
    if not look.number:
        return ""
    times = "once" if look.number == 1 else f"{look.number} times"
    return (
        f"{_count(pairs(judged), judged)}. Looked {times}, after {_listed(look.until_now)} seeds. Each look may use "
        "half of the chance of a wrong claim that the one before had, together less than 5 %: intervals are wider and "
        "p larger than for seeds fixed beforehand, and hold over all looks."
    )


def left_open(judged: Judged) -> list[tuple[str, str]]:
    """Return why it went on no further, and for which pairs; nothing where all are settled or the seeds were fixed."""
    most, number = judged.look.most, judged.look.number
    reasons: dict[State, str] = {
        "open": f"Not settled within max_seeds; the next look would be after {2 * most} seeds",
        "out of reach": f"{most} seeds would not settle it, as the test rows alone leave so much",
        "failed": "Not judged, as a run failed or diverged",
    }
    found = {state: [pair for pair in pairs(judged) if number and pair.state == state] for state in reasons}
    return [
        (reasons[state], "; ".join(f"{pair}{_rows_leave(pair)}" for pair in many))
        for state, many in found.items()
        if many
    ]


def _rows_leave(pair: Pair) -> str:
    return f" (±{pair.difference.rows_alone:.3f})" if pair.state == "out of reach" else ""


def _count(found: Sequence[Pair], judged: Judged) -> str:
    score, settled = ranking_score(judged), sum(pair.state == "settled" for pair in found)
    words = f"better, worse or equivalent within ±{MARGIN:g}" if score in SHARES else "better or worse"
    return f"{settled} of {len(found)} differences in {score} are settled ({words})"


def _listed(numbers: Sequence[int]) -> str:
    words = [str(number) for number in numbers]
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
