"""The mixed batch of an object detector."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from accelerate.data_loader import DataLoaderDispatcher
from accelerate.state import GradientState
from torch import Tensor, nn

from hf_mixup.engine.all_gather import world_size
from hf_mixup.engine.batch import MixedTargetBatch, refuse_loss_settings
from hf_mixup.engine.context import Context, Requested
from hf_mixup.engine.own_exchange import SetTrial
from hf_mixup.methods import METHODS, Draw
from hf_mixup.methods.capabilities import MixesBoxes
from hf_mixup.methods.mixup import united_boxes
from hf_mixup.models.adapters import base_model
from hf_mixup.models.hooks import hooks_of
from hf_mixup.models.labels import LABELS, OWN_WAY
from hf_mixup.models.probe import eval_without_side_effects, two_samples
from hf_mixup.utils.suggest import did_you_mean

Boxes = list[dict[str, Tensor]]


class BoxBatch(MixedTargetBatch):
    """A mixed batch of images with boxes, for DETR and its kin; used as `MixedBatch` is.

    A mixed image has the boxes of both, each with its own class, weighing lam and 1 - lam in the loss; a mosaic has
    those of all four, weighing 1. The model is given them (some need boxes in training to draw queries from) and
    computes its own loss, with weights.

    Attributes:
        labels: the batch's own, a list of one dict a row.
        targets: those of the mixed rows: `class_labels` [N], `boxes` [N, 4], `weights` [N].

    Source: Zhang et al. 2019, "Bag of Freebies for Training Object Detection Neural Networks", arXiv 1902.04103,
    section 3.1 (there lam ~ Beta(1.5, 1.5)).
    """

    def __init__(
        self, context: Context, model: nn.Module, inputs: dict[str, Any], labels: Boxes, draw: Draw, inplace: bool
    ) -> None:
        method: Any = context.method.chosen(draw)  # which MixesBoxes
        size = inputs["pixel_values"].shape[-2:]
        mixes = bool((draw.lam < 1).any())  # while draws are on the CPU
        alone = labels if context.off else [united_boxes(each, each, 1.0) for each in labels]
        boxes: Any = method.mixed_boxes(labels, draw, *size) if mixes else alone
        super().__init__(context, model, inputs, inputs["pixel_values"], draw, inplace)
        self.labels, self.boxes = labels, boxes  # type: ignore[assignment]

    @classmethod
    def matches(cls, model: nn.Module, batch: Mapping[str, Any]) -> bool:
        """Whether the labels are boxes."""
        return has_boxes(batch)

    @classmethod
    def build(cls, context: Context, model: nn.Module, batch: Mapping[str, Any], requested: Requested) -> BoxBatch:
        """Refuse what does not go with boxes, try the loss once, and draw; see `MixedBatch.build`."""
        labels = list(batch[LABELS])
        refuse_detector(model, labels, context)
        refuse_scattered("boxes")
        if context.config.self_check:
            check_box_loss_once(model, batch)
        inputs = {key: value for key, value in batch.items() if key != LABELS}
        trial_of = partial(SetTrial, labels={LABELS: labels})
        draw = context.draw(model, inputs, torch.zeros(len(labels)), requested, boxes=True, trial_of=trial_of)
        return cls(context, model, inputs, labels, draw, requested.inplace)

    @property
    def targets(self) -> Any:
        """The boxes of each mixed row, with their weights."""
        return self.boxes

    def __enter__(self) -> BoxBatch:
        super().__enter__()
        self.inputs = {**self.inputs, LABELS: self.boxes}
        if not self._context.off:  # unmixed ones, too: processes exchange what their boxes weigh, whatever each draws
            _weigh(self._model)
        return self


def has_boxes(batch: Mapping[str, Any]) -> bool:
    """Whether the labels of a batch are those of object detection, one dict a row.

    >>> has_boxes({"labels": [{"class_labels": [0], "boxes": [[0.5, 0.5, 1.0, 1.0]]}]})
    True
    """
    labels = batch.get(LABELS)
    return isinstance(labels, (list, tuple)) and len(labels) > 0 and isinstance(labels[0], Mapping)


def refuse_scattered(what: str) -> None:
    """Refuse boxes of a stream that one process reads for all: Accelerate hands out parts of each sample's tensors.

    Args:
        what: the name of what a sample has several of.

    Raises:
        ValueError: naming the way out.
    """
    if world_size() > 1 and isinstance(GradientState().active_dataloader, DataLoaderDispatcher):
        raise ValueError(
            f"one process reads the stream for all, and hands out the {what} of a sample in parts, to other samples: "
            "let each process read its own, by accelerator_config={'dispatch_batches': False} in TrainingArguments (or "
            "DataLoaderConfiguration(dispatch_batches=False) in an Accelerator)"
        )


def refuse_detector(model: nn.Module, labels: Boxes, context: Context) -> None:
    """Refuse detectors whose loss takes no weights, settings that change a loss, and methods that know no boxes.

    Raises:
        ValueError: naming the model, the setting or the method.
    """
    base = base_model(model)
    name = type(base).__name__
    own = getattr(model, "loss_function", None)
    if (
        "ForObjectDetection" not in name
        or own not in weighted_losses()
        or not {"class_labels", "boxes"} <= set(labels[0])
    ):
        raise ValueError(
            f"{name} learns boxes by a loss that takes no weights ({getattr(own, '__name__', own)}): boxes are mixed "
            "for DETR, Conditional, Deformable, DAB-, LW-, RF- and RT-DETR, Table Transformer and YOLOS, whose labels "
            f"are dicts with class_labels and boxes; found {', '.join(labels[0])}. {OWN_WAY}"
        )
    refuse_loss_settings(context, model, "boxes")
    for each in context.method.choices():
        if not isinstance(each, MixesBoxes):
            names = [method for method, kind in METHODS.items() if issubclass(kind, MixesBoxes)]
            raise ValueError(f"method {each.name!r} does not mix boxes: {did_you_mean(each.name, names)}")


def weighted_losses() -> dict[Any, Any]:
    """Return the losses with weights by transformers' own: they bring scipy along, which other batches do without."""
    from hf_mixup.engine.detection_loss import WEIGHTED

    return WEIGHTED


def check_box_loss_once(model: nn.Module, batch: Mapping[str, Any]) -> None:
    """Hold the loss with weights, all 1, against the model's own on two rows, at the first batch.

    Raises:
        RuntimeError: if they differ.
    """
    checked = hooks_of(model).checked
    if "boxes" in checked:
        return
    rows = two_samples(batch, model)
    with eval_without_side_effects(model):
        own = model(**rows)["loss"]
        _weigh(model)
        ours = model(**{**rows, LABELS: [united_boxes(each, each, 1.0) for each in rows[LABELS]]})["loss"]
    if not abs(float(own) - float(ours)) <= 1e-3 * abs(float(own)) + 1e-4:
        raise RuntimeError(
            f"the loss of {type(model).__name__} on two rows is {float(own):.6g}, and {float(ours):.6g} with weights "
            "that are all 1: this release of transformers computes it otherwise. Train it without mixing"
        )
    checked.add("boxes")


def _weigh(model: Any) -> None:
    """Let the model's loss weigh each box, until its hooks are deactivated."""
    base = base_model(model)
    given = vars(base).get("_loss_function")

    def put_back() -> None:
        if given is None:
            vars(base).pop("_loss_function", None)
        else:
            base.loss_function = given

    weighted = weighted_losses()[base.loss_function]
    base.loss_function = weighted
    hooks_of(model).on_deactivate.append(put_back)
