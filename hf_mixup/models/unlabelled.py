"""Labels that are all ignored: a mistake if that holds for the whole first step, but not for a single batch."""

from __future__ import annotations

from typing import NoReturn

from hf_mixup.models.labels import Labels
from hf_mixup.utils.constants import IGNORE_INDEX

ENOUGH = 100
"""So many samples without a label are no coincidence, where it is not known what belongs to a step."""


def count_ignored(labels: Labels) -> int:
    """Return how many labels a batch has if all of them are ignored, 0 if one counts.

    >>> import torch
    >>> count_ignored(Labels(torch.tensor([-100, -100]), "single_label_classification", 2))
    2
    """
    values = labels.values
    return 0 if values.is_floating_point() or bool((values != IGNORE_INDEX).any()) else values.numel()


def refuse_unlabelled(count: int) -> NoReturn:
    """Refuse labels that are ignored from the first step on.

    Raises:
        ValueError: always.
    """
    raise ValueError(
        f"all {count} labels of the first batch are {IGNORE_INDEX}, which is ignored, so that nothing would be learnt: "
        "check the label column, and whether truncation cuts the labelled tokens off"
    )
