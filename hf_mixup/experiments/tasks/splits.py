"""The rows of a task, split by split."""

from __future__ import annotations

from dataclasses import dataclass

from datasets import Dataset


@dataclass(frozen=True)
class Splits:
    """The rows of a task; the label column of each split is a `ClassLabel` (or a list of them) with the same names.

    Pairs and texts to write have neither a label column nor `label_names`; numbers to predict have no names.
    """

    train: Dataset
    validation: Dataset
    tests: dict[str, Dataset]
    label_names: list[str]

    @property
    def evaluated(self) -> dict[str, Dataset]:
        """Validation and test rows by name."""
        return {"validation": self.validation, **self.tests}
