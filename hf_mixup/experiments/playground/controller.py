"""The answers of the page to its pickers, sliders and buttons, without gradio."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hf_mixup.experiments.playground.charts import curves, density, distance
from hf_mixup.experiments.playground.show import LEAST, SampleView, describe
from hf_mixup.experiments.playground.stage import Stage


@dataclass(frozen=True)
class Page:
    """The content of the page.

    Attributes:
        rows: numbers of the rows to choose from, at least two; `first` is the pair that it begins with.
        methods: those that fit; it begins with the first.
        heading, note: Markdown that names task, data and model, and a remark on the predictions.
    """

    stage: Stage
    view: SampleView
    rows: Sequence[int]
    first: tuple[int, int]
    methods: Sequence[str]
    heading: str
    note: str = ""

    def look(self, own: int, partner: int, method: str, lam: float, draw: int) -> tuple[Any, ...]:
        """Return the mixed row, its description, soft label, prediction, curves and their distance."""
        mixed = self.stage.mix(own, partner, method, lam, draw)
        along = self.stage.interpolation(own, partner, method, draw)
        names = self.view.names
        classes = [names.index(self.view.label(row)) for row in (own, partner)]
        return (
            self.view.mixed(mixed, lam),
            describe(mixed, method, names),
            {name: share for name, share in zip(names, mixed.target.tolist()) if share > LEAST},
            dict(zip(names, mixed.probabilities.tolist())),
            curves(along, lam, classes, names),
            f"<small>On average along lam the prediction is {distance(along):.2f} from the soft label "
            "(total variation: 0 the same, 1 nothing in common).</small>",
        )

    def density(self, alpha: float, lam: float) -> str:
        """Draw the density of lam."""
        return density(alpha, lam, self.stage.beta, bool(self.stage.folded))

    def drawn(self, alpha: float, draw: int) -> tuple[float, int]:
        """Draw another lam; return it and the number of its draw."""
        return round(self.stage.draw_lam(alpha, draw + 1), 2), draw + 1

    def another(self) -> tuple[int, int]:
        """Return two other rows, of different classes where possible."""
        own, partner = random.sample(list(self.rows), 2)
        others = [row for row in self.rows if self.view.label(row) != self.view.label(own)]
        return own, random.choice(others) if others else partner
