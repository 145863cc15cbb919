"""Whether a micro-batch's loss is its share of the whole batch's, where hooks on a plain Trainer's model take it."""

from __future__ import annotations

from typing import Any

from accelerate.state import GradientState
from torch import Tensor

from hf_mixup.engine.all_gather import world_size
from hf_mixup.engine.batch import MixedBatch
from hf_mixup.engine.labelled import LabelBatch
from hf_mixup.utils.constants import IGNORE_INDEX

_WAY_OUT = "use MixupTrainer, which counts over all of them, or one batch a step in one process"


def refuse_other_shares(mixed: MixedBatch, given: Any, items: Any) -> None:
    """Refuse a micro-batch whose share of the accumulated batch (or of all processes) a hook on the model cannot know.

    A plain Trainer tells a model how many labels the accumulated batch has, if the model's forward takes that number;
    never what they weigh, nor how many the model ignores by another number than -100. Where it tells nothing, it takes
    the mean over the micro-batches, which is the mean over the labels only if each has as many.

    Args:
        given: the labels as the model was given them; None where they have another name.
        items: what the Trainer told the model; None if nothing.

    Raises:
        ValueError: naming what is in the way, and the way out.
    """
    if not isinstance(mixed, LabelBatch) or not is_part():
        return
    if mixed.weighted:
        raise ValueError(
            "class_weights: a plain Trainer tells nobody what the labels of the other micro-batches or processes "
            f"weigh, and the loss would not be that of the whole batch: {_WAY_OUT}"
        )
    if mixed.labels.is_floating_point():
        return
    counted = mixed.labels.ne(IGNORE_INDEX)
    if items is None:
        places = mixed.labels.dim() > 1 and given is not None  # tokens or pixels, of which some batches have more
        other = places or not bool(counted.all())
    else:
        maps = isinstance(given, Tensor) and given.dim() == 3
        other = maps and bool(counted.sum() != given.ne(IGNORE_INDEX).sum())
    other = other or (not mixed.permuted and not bool(counted.all()))  # nor how many their partners have
    if other:
        raise ValueError(
            f"labels {list(mixed.labels.shape)}: micro-batches have different numbers of labels that count, and a "
            f"plain Trainer does not tell this model how many there are in all: {_WAY_OUT}"
        )


def is_part() -> bool:
    """Whether gradients are being accumulated, or several processes share a batch.

    >>> is_part()
    False
    """
    accumulates = bool(GradientState._shared_state) and not GradientState().sync_gradients
    return accumulates or world_size() > 1
