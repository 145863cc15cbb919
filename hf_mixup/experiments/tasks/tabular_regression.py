"""Rows of a table -> numbers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hf_mixup.experiments.tasks.arguments import register
from hf_mixup.experiments.tasks.shared import Tabular
from hf_mixup.utils.values import setting

if TYPE_CHECKING:
    from hf_mixup.experiments.tasks.prepared import Prepared
    from hf_mixup.experiments.tasks.splits import Splits


@register
@dataclass(kw_only=True)
class TabularRegression(Tabular):
    """One number a row of numbers and categories.

    >>> TabularRegression().dataset
    'diabetes'
    """

    task: str = "tabular-regression"
    dataset: str = setting("diabetes", "Data set: a Hub name, a folder, a CSV, JSON or Parquet file, or diabetes.")
    label_column: str = setting("label", "Column with the numbers.")
    label_kind = "number"
    tables = ("diabetes",)

    def prepared(self, splits: Splits) -> Prepared:
        from hf_mixup.experiments.tasks.prepared import SCORES_OF_NUMBERS

        return replace(super().prepared(splits), **SCORES_OF_NUMBERS)
