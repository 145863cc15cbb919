"""What the page shows and does, without the page."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hf_mixup.experiments.playground.charts import curves, density, distance
from hf_mixup.experiments.playground.show import LEAST, View, said
from hf_mixup.experiments.playground.stage import Stage


@dataclass(frozen=True)
class Page:
    """What the page is made of.

    Attributes:
        rows: numbers of the rows to choose from, at least two.
        first: the pair that it begins with.
        methods: those that fit, the first of which it begins with.
        heading: Markdown that says which task, data and model these are.
        note: what is to be known about the predictions; "" for nothing.
    """

    stage: Stage
    view: View
    rows: Sequence[int]
    first: tuple[int, int]
    methods: Sequence[str]
    heading: str
    note: str = ""

    def look(self, own: int, partner: int, method: str, lam: float, draw: int) -> tuple[Any, ...]:
        """Return what is shown of a mixture: the row and what is said of it, soft label, prediction, curves."""
        mixed = self.stage.mix(own, partner, method, lam, draw)
        way = self.stage.way(own, partner, method, draw)
        names = self.view.names
        classes = [names.index(self.view.label(row)) for row in (own, partner)]
        return (
            self.view.mixed(mixed, lam),
            said(mixed, method, names),
            {name: share for name, share in zip(names, mixed.target.tolist()) if share > LEAST},
            dict(zip(names, mixed.probabilities.tolist())),
            curves(way, lam, classes, names),
            f"<small>On average along the way the prediction is {distance(way):.2f} from the soft label "
            "(total variation: 0 the same, 1 nothing in common).</small>",
        )

    def density(self, alpha: float, lam: float) -> str:
        """Draw where lam comes from."""
        return density(alpha, lam, self.stage.beta, bool(self.stage.folded))

    def drawn(self, alpha: float, draw: int) -> tuple[float, int]:
        """Return another lam, and the number of its draw."""
        return round(self.stage.draw_lam(alpha, draw + 1), 2), draw + 1

    def another(self) -> tuple[int, int]:
        """Return two other rows, of two classes where there are."""
        own, partner = random.sample(list(self.rows), 2)
        others = [row for row in self.rows if self.view.label(row) != self.view.label(own)]
        return own, random.choice(others) if others else partner
