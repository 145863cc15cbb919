"""Rows of a table -> numbers."""

from __future__ import annotations

from dataclasses import dataclass

from hf_mixup.experiments.tasks.arguments import register
from hf_mixup.experiments.tasks.bases import Tabular
from hf_mixup.experiments.tasks.shared import Numbered
from hf_mixup.utils.values import setting


@register
@dataclass(kw_only=True)
class TabularRegression(Tabular, Numbered):
    """One number a row of numbers and categories."""

    task: str = "tabular-regression"
    dataset: str = setting("diabetes", "Dataset: a Hub name, a folder, a CSV, JSON or Parquet file, or diabetes.")
    tables = ("diabetes",)
