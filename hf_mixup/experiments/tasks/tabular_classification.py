"""Rows of a table -> classes."""

from __future__ import annotations

from dataclasses import dataclass

from hf_mixup.experiments.tasks.arguments import register
from hf_mixup.experiments.tasks.bases import Tabular
from hf_mixup.experiments.tasks.shared import Classified
from hf_mixup.utils.values import setting


@register
@dataclass(kw_only=True)
class TabularClassification(Tabular, Classified):
    """One class a row of numbers and categories."""

    task: str = "tabular-classification"
    dataset: str = setting(
        "wine", "Dataset: a Hub name, a folder, a CSV, JSON or Parquet file, or wine, breast_cancer, digits."
    )
    tables = ("wine", "breast_cancer", "digits")
