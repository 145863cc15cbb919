"""Columns of a table -> numbers and categories as a model takes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from transformers import FeatureExtractionMixin

from hf_mixup.utils.suggest import did_you_mean


class TabularProcessor(FeatureExtractionMixin):
    """Standardise columns of numbers and number the categories of the others, as learnt from training rows.

    A missing number becomes the training rows' mean; a category that is missing or was not seen becomes 0. It is saved
    and loaded like every processor of transformers.

    Args:
        numerical, mean, scale: names of the columns of numbers, and what is subtracted and divided by.
        categories: names of the other columns, each with its known values, as texts.
        target_mean, target_scale: of the number to predict, None where classes are.

    >>> columns = {"age": [20, 40, None], "town": ["Bath", "York", None]}
    >>> processor = TabularProcessor.fit(columns, ["age"], ["town"])
    >>> made = processor(columns)
    >>> made["numerical_values"].tolist(), made["categorical_values"].tolist()
    ([[-1.0], [1.0], [0.0]], [[1], [2], [0]])
    """

    model_input_names = ["numerical_values", "categorical_values"]  # noqa: RUF012  # as transformers declares it

    def __init__(
        self,
        numerical: Sequence[str] = (),
        mean: Sequence[float] = (),
        scale: Sequence[float] = (),
        categories: Mapping[str, Sequence[str]] | None = None,
        target_mean: float | None = None,
        target_scale: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.numerical, self.mean, self.scale = list(numerical), list(mean), list(scale)
        self.categories = {name: list(values) for name, values in (categories or {}).items()}
        self.target_mean, self.target_scale = target_mean, target_scale

    @classmethod
    def fit(
        cls,
        columns: Mapping[str, Sequence[Any]],
        numerical: Sequence[str],
        categorical: Sequence[str] = (),
        target: Sequence[float] | None = None,
    ) -> TabularProcessor:
        """Learn scales and categories from training rows.

        Args:
            columns: values by the name of their column.
            target: numbers to predict.

        Raises:
            ValueError: for a column that is not there or holds no number at all.
        """
        from sklearn.preprocessing import StandardScaler

        table = cls._numbers(columns, numerical)
        for column, name in zip(table.T, numerical):
            if not np.isfinite(column).any():
                raise ValueError(f"column {name!r} holds no number: leave it out, or name it in categorical_columns")
        known = {name: sorted({str(v) for v in cls._column(columns, name) if v is not None}) for name in categorical}
        learnt: dict[str, Any] = {"numerical": numerical, "categories": known}
        if numerical:
            scaler = StandardScaler().fit(table)
            learnt |= {"mean": scaler.mean_.tolist(), "scale": scaler.scale_.tolist()}
        if target is not None:
            scaler = StandardScaler().fit(np.asarray(target, dtype=np.float64)[:, None])
            learnt |= {"target_mean": float(scaler.mean_[0]), "target_scale": float(scaler.scale_[0])}
        return cls(**learnt)

    def __call__(self, columns: Mapping[str, Sequence[Any]]) -> dict[str, np.ndarray]:
        """Return `numerical_values` float32 [N, F] and `categorical_values` int64 [N, K], those that there are.

        Raises:
            ValueError: for a column that is not there, or one that is not a number.
        """
        made = {}
        if self.numerical:
            scaled = (self._numbers(columns, self.numerical) - np.array(self.mean)) / np.array(self.scale)
            made["numerical_values"] = np.nan_to_num(scaled, nan=0.0).astype(np.float32)
        if self.categories:
            made["categorical_values"] = np.stack([self._codes(columns, name) for name in self.categories], axis=1)
        return made

    def scaled_target(self, values: Sequence[float]) -> np.ndarray:
        """Return numbers to predict in standard deviations of the training rows from their mean, float32 [N]."""
        return ((np.asarray(values, dtype=np.float64) - self._aim[0]) / self._aim[1]).astype(np.float32)

    def unscaled_target(self, values: Any) -> np.ndarray:
        """Return a model's predictions in the units of the table; the inverse of `scaled_target`.

        >>> processor = TabularProcessor.fit({"x": [1, 2]}, ["x"], target=[10, 30])
        >>> processor.unscaled_target(processor.scaled_target([15]))
        array([15.])
        """
        return np.asarray(values, dtype=np.float64) * self._aim[1] + self._aim[0]

    @property
    def _aim(self) -> tuple[float, float]:
        if self.target_mean is None or self.target_scale is None:
            raise ValueError("this processor was fitted without a target: fit(..., target=...)")
        return self.target_mean, self.target_scale

    @property
    def categorical_sizes(self) -> list[int]:
        """Return how many categories each column has, with the unknown one."""
        return [len(values) + 1 for values in self.categories.values()]

    @staticmethod
    def _column(columns: Mapping[str, Sequence[Any]], name: str) -> Sequence[Any]:
        if name not in columns:
            raise ValueError(f"the table has no column {name!r}: {did_you_mean(name, list(columns))}")
        return columns[name]

    @classmethod
    def _numbers(cls, columns: Mapping[str, Sequence[Any]], names: Sequence[str]) -> np.ndarray:
        tables = []
        for name in names:
            values = [np.nan if value is None else value for value in cls._column(columns, name)]
            try:
                numbers = np.array(values, dtype=np.float64)
            except (TypeError, ValueError) as error:
                raise ValueError(f"column {name!r} holds a value that is not a number: {error}") from error
            tables.append(np.where(np.isfinite(numbers), numbers, np.nan))
        return np.stack(tables, axis=1) if tables else np.zeros((0, 0))

    def _codes(self, columns: Mapping[str, Sequence[Any]], name: str) -> np.ndarray:
        codes = {value: code for code, value in enumerate(self.categories[name], start=1)}
        return np.array([codes.get(str(value), 0) for value in self._column(columns, name)], dtype=np.int64)
