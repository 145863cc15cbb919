"""The base of this package's `evaluate` modules, each of which wraps a plain function."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, ClassVar

import datasets
import evaluate


class FunctionMetric(evaluate.Metric):
    """A metric of `evaluate` that calls a function and shows its docstring as the description.

    Import this module, not the class: `evaluate.load` takes the first metric class in a module's namespace.
    """

    function: ClassVar[Callable[..., dict[str, Any]]]
    """(predictions, references, **options) -> scores"""
    reference: ClassVar[Any] = datasets.Value("int64")
    prediction: ClassVar[Any] = datasets.Sequence(datasets.Value("float64"))
    """One reference, and one prediction: a row of logits, probabilities or an embedding, unless a metric says else."""

    def _info(self) -> evaluate.MetricInfo:
        features = {"predictions": self.prediction, "references": self.reference}
        description = inspect.getdoc(self.function) or ""
        return evaluate.MetricInfo(
            description=description,
            citation="The description names the sources.",
            inputs_description=inspect.getdoc(type(self)) or "",
            features=datasets.Features(features),
        )

    def _compute(self, predictions: Any, references: Any, **options: Any) -> dict[str, Any]:
        return type(self).function(predictions, references, **options)
