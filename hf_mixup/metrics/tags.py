"""Scores of token classification: of tokens, and of the names (entities) that IOB tags spell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_mixup.metrics.functional import calibration_metrics
from hf_mixup.utils.constants import IGNORE_INDEX

if TYPE_CHECKING:
    from transformers import EvalPrediction


def entities(tags: Sequence[str]) -> set[tuple[str, int, int]]:
    """Return type, first and last position of the names in a sequence of IOB tags.

    A name begins at B-, or at an I- that does not go on with a name of its type, as in conlleval.

    Source: Ramshaw and Marcus 1995, "Text Chunking using Transformation-Based Learning"; conlleval of CoNLL-2000.

    >>> sorted(entities(["B-PER", "I-PER", "O", "I-LOC", "B-LOC"]))
    [('LOC', 3, 3), ('LOC', 4, 4), ('PER', 0, 1)]
    """
    found, start = set(), 0
    for position, tag in enumerate(tags):
        prefix, _, entity = tag.partition("-")
        if prefix == "B" or tags[position - 1].partition("-")[2] != entity or position == 0:
            start = position
        following = tags[position + 1] if position + 1 < len(tags) else "O"
        if prefix != "O" and following != f"I-{entity}":
            found.add((entity, start, position))
    return found


def tag_metrics(eval_prediction: EvalPrediction, tags: Sequence[str]) -> dict[str, float]:
    """Return `calibration_metrics` over the labelled tokens, and f1_entity for IOB tags or else f1_macro, in [0, 1].

    A name counts as found if its type and both ends are right; f1_entity is the micro average over all names, 0 where
    there are none. f1_macro is the mean F1 of the tags that occur.

    Args:
        eval_prediction: `predictions` are logits [N, T, C], or a tuple that begins with them; `label_ids` integers
            [N, T], -100 for tokens without a tag.
        tags: names of the C tags.

    Raises:
        ValueError: as `calibration_metrics`.

    >>> from types import SimpleNamespace
    >>> labels = np.array([[1, 2, 0], [0, 1, 2]])
    >>> rows = SimpleNamespace(predictions=np.eye(3)[[[1, 2, 0], [0, 1, 1]]], label_ids=labels)
    >>> round(tag_metrics(rows, ["O", "B-PER", "I-PER"])["f1_entity"], 3)  # one of two, and two of one's own
    0.4
    """
    logits, labels = eval_prediction.predictions, np.asarray(eval_prediction.label_ids)
    logits = np.asarray(logits[0] if isinstance(logits, tuple) else logits)
    scores = calibration_metrics(logits, labels)
    guesses, kept = logits.argmax(-1), labels != IGNORE_INDEX
    if all(tag == "O" or tag.startswith(("B-", "I-")) for tag in tags):
        own, found = ([_names(row[mask], tags) for row, mask in zip(side, kept)] for side in (labels, guesses))
        right = sum(len(a & b) for a, b in zip(own, found))
        return {**scores, "f1_entity": 2 * right / max(1, sum(map(len, own)) + sum(map(len, found)))}
    from sklearn.metrics import f1_score

    present = np.unique(labels[kept])
    return {**scores, "f1_macro": float(f1_score(labels[kept], guesses[kept], labels=present, average="macro"))}


def _names(row: np.ndarray, tags: Sequence[str]) -> set[Any]:
    return entities([tags[number] for number in row])
