"""The part of a report that looks at each class: a good accuracy can hide one that is never found."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import confusion_matrix

from hf_mixup.experiments.compare.judge import Judged
from hf_mixup.experiments.compare.one_run import Outcomes
from hf_mixup.experiments.compare.results import finished_runs
from hf_mixup.experiments.report import html_page as html
from hf_mixup.experiments.tasks.prepare import finite
from hf_mixup.metrics.results import aggregate, direction
from hf_mixup.plots.confusion import confusion_matrices

_SHOWN = 40  # classes in a table; of more, those that are found least
_PLAIN = "none"


def class_blocks(judged: Judged, outcomes: Outcomes, figures: Path, select_by: str) -> Iterator[Any]:
    """Yield the recall of each class by method, a warning for those that a method misses, and confusion matrices.

    Args:
        select_by: the validation score that tells the best method, whose confusion matrix stands beside plain training.
    """
    prepared = judged.setting.prepared
    if not prepared.refits or not prepared.splits.label_names:
        return
    names = prepared.splits.label_names
    for number, split in enumerate(judged.splits):
        found = confusions(judged, outcomes, split, len(names))
        if not found:
            continue
        yield html.Heading(split)
        if points := [html.Point(f"{method}:", text) for method, text in missed(found, names)]:
            yield html.Text("Found less often than by a guess among all classes, all seeds together:")
            yield html.Points(points)
        yield _recalls(found, names)
        if number == 0:
            shown = {each: found[each] for each in (_PLAIN, _best(judged, select_by)) if each in found}
            alt = f"Confusion matrices on {split} of {' and '.join(shown)}; the diagonal is the recall of the table."
            path = confusion_matrices(shown, names, figures / "confusion.png")
            yield html.Image(path, alt, f"{split}: what the samples of each class are taken for, all seeds together.")


def confusions(judged: Judged, outcomes: Outcomes, split: str, classes: int) -> dict[str, np.ndarray]:
    """Return the numbers of samples [C, C] by method, over its finished seeds; without runs that diverged."""
    found: dict[str, np.ndarray] = {}
    classified = judged.setting.prepared.classified
    for label, outcome, _ in finished_runs(judged, outcomes):
        if classified is None or not finite(outcome.predictions[split][:-1]):
            continue
        logits, labels = classified(*outcome.predictions[split])
        counted = labels >= 0  # tokens that are none of a class have -100
        guesses = logits.argmax(-1)[counted]
        found[label] = found.get(label, 0) + confusion_matrix(labels[counted], guesses, labels=range(classes))
    return found


def recalls(matrix: np.ndarray) -> np.ndarray:
    """Return the share of each class's samples that are found, NaN for a class without any; their mean is balanced.

    >>> recalls(np.array([[9, 1], [5, 5]])).tolist()
    [0.9, 0.5]
    """
    totals = matrix.sum(1)
    return np.divide(matrix.diagonal(), totals, out=np.full(len(matrix), np.nan), where=totals > 0)


def missed(found: Mapping[str, np.ndarray], names: list[str]) -> Iterator[tuple[str, str]]:
    """Yield methods with the classes that they find less often than a guess among all classes would.

    >>> list(missed({"mixup": np.array([[98, 2], [29, 1]])}, ["day", "night"]))
    [('mixup', 'finds 1 of 30 samples of night')]
    """
    for method, matrix in found.items():
        low = np.flatnonzero(recalls(matrix) < 1 / len(names))
        if len(low):
            texts = [f"{matrix[each, each]} of {matrix[each].sum()} samples of {names[each]}" for each in low[:_SHOWN]]
            yield method, f"finds {', '.join(texts)}"


def _recalls(found: Mapping[str, np.ndarray], names: list[str]) -> html.Table:
    by_method = {method: recalls(matrix) for method, matrix in found.items()}
    sizes = next(iter(found.values())).sum(1)  # of all seeds that finished
    order = [each for each in range(len(names)) if sizes[each]]
    if len(order) > _SHOWN:
        order = sorted(order, key=lambda each: min(many[each] for many in by_method.values()))[:_SHOWN]
    balanced = [html.Cell(f"{np.nanmean(many):.3f}") for many in by_method.values()]
    rows = [[html.Cell("all (balanced accuracy)"), *balanced]]
    rows += [
        [html.Cell(names[each]), *(html.Cell(f"{many[each]:.3f}") for many in by_method.values())] for each in order
    ]
    least = f" The {_SHOWN} classes that are found least." if len(order) < int((sizes > 0).sum()) else ""
    return html.Table(["recall ↑", *by_method], rows, f"Share of a class's samples that are found.{least}")


def _best(judged: Judged, select_by: str) -> str:
    """Return the method with the best mean score on the validation rows."""
    means = aggregate([each for each in judged.results if each["split"] == "validation"])
    scored = {method: direction(select_by) * scores[select_by].mean for (method, _), scores in means.items()}
    finite_only = {method: score for method, score in scored.items() if math.isfinite(score)}
    return max(finite_only, key=lambda method: finite_only[method], default=_PLAIN)
