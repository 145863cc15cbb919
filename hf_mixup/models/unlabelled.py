"""Labels that are all ignored: a mistake if that holds for the whole first step, but not for a single batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

from torch import Tensor, nn

from hf_mixup.models.labels import LABEL_KEYS, read_labels
from hf_mixup.utils.constants import IGNORE_INDEX

ENOUGH = 100
"""So many samples without a label are no coincidence, where it is not known what belongs to a step."""


def count_ignored(model: nn.Module, batch: Mapping[str, Any]) -> int:
    """Return the number of labels if all of them are ignored; 0 if one counts or there are none.

    >>> import torch
    >>> count_ignored(nn.Identity(), {"labels": torch.tensor([-100, -100])})
    2
    """
    given = [value for key in LABEL_KEYS if isinstance(value := batch.get(key), Tensor)]
    if not given or given[0].is_floating_point():
        return 0
    labels = read_labels(model, batch).values
    return 0 if bool((labels != IGNORE_INDEX).any()) else labels.numel()


def refuse_unlabelled(count: int) -> NoReturn:
    """Refuse labels that are ignored from the first step on.

    Raises:
        ValueError: always.
    """
    raise ValueError(
        f"all {count} labels of the first batch are {IGNORE_INDEX}, which is ignored, so that nothing would be learnt: "
        "check the label column, and whether truncation cuts the labelled tokens off"
    )
