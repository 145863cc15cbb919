"""When a comparison is looked at, and how sure each look has to be."""

from __future__ import annotations

from dataclasses import dataclass

from hf_mixup.experiments.compare.arguments import FIRST_LOOK, MAX_SEEDS, CompareArguments


@dataclass(frozen=True)
class Look:
    """One look at the differences between methods.

    Whoever looks again and again, and stops when he likes what he sees, sees a difference where there is none more
    often than in 5 % of all cases. So each look has a `share` of the 5 %: half, a quarter, an eighth, ... Together
    these are less than the whole, and by Bonferroni's inequality all intervals of all looks hold at once with 95 %,
    whatever made one stop. As the shares are never used up, a comparison may always go on from where it stopped.

    Args:
        seeds: after how many of them.
        number: 1 for the first look, and so on; 0 where the number of seeds was fixed beforehand: nobody looks twice.
        most: seeds at the last look that the budget allows.

    Source: Lan and DeMets 1983, "Discrete sequential boundaries for clinical trials", for a chance that is spent look
    by look; here without their use of what the looks have in common, so that it holds for any kind of noise.

    >>> [look.share for look in looks(CompareArguments(seeds="auto"))]
    [0.5, 0.25, 0.125]
    """

    seeds: int
    number: int
    most: int

    @property
    def share(self) -> float:
        """The part of the 5 % that this look may use."""
        return 0.5**self.number

    @property
    def until_now(self) -> list[int]:
        """Numbers of seeds after which was looked, this look included."""
        return [FIRST_LOOK * 2**number for number in range(self.number)]


def looks(comparison: CompareArguments) -> list[Look]:
    """Return the looks of a comparison: one, or with `seeds: auto` each after twice the seeds of the one before.

    >>> [look.seeds for look in looks(CompareArguments(seeds="auto", max_seeds=39))]
    [5, 10, 20]
    """
    if isinstance(comparison.seeds, int):
        return [Look(comparison.seeds, 0, comparison.seeds)]
    seeds = [FIRST_LOOK]
    while 2 * seeds[-1] <= (comparison.max_seeds or MAX_SEEDS):
        seeds.append(2 * seeds[-1])
    return [Look(count, number, seeds[-1]) for number, count in enumerate(seeds, 1)]
