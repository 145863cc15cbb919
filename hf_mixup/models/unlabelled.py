"""Labels that are all ignored: a whole first step of them is a mistake, a batch among others is none."""

from __future__ import annotations

from typing import NoReturn

from hf_mixup.models.labels import IGNORED, Labels

ENOUGH = 100
"""Samples without a label that are no chance, where nobody says what belongs to a step."""


def count_ignored(labels: Labels) -> int:
    """Return how many labels a batch has if all of them are ignored, 0 if one counts.

    >>> import torch
    >>> count_ignored(Labels(torch.tensor([-100, -100]), "single_label_classification", 2))
    2
    """
    values = labels.values
    return 0 if values.is_floating_point() or bool((values != IGNORED).any()) else values.numel()


def refuse_unlabelled(count: int) -> NoReturn:
    """Refuse labels that are ignored from the first step on.

    Raises:
        ValueError: always.
    """
    raise ValueError(
        f"all {count} labels of the first batch are {IGNORED}, which is ignored, so that nothing would be learnt: "
        "check the label column, and whether truncation cuts the labelled tokens off"
    )
