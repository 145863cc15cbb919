"""Mixed batches with `loss="own"`: the model's own loss once with each label, whatever its head is."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from types import TracebackType
from typing import Any

from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.parallel import DistributedDataParallel

from hf_mixup.engine.all_gather import in_any, run_together
from hf_mixup.engine.batch import refuse_packed
from hf_mixup.engine.conflicts import refuse_beside_own
from hf_mixup.engine.context import Context, Requested
from hf_mixup.engine.loss_scale import ITEMS
from hf_mixup.engine.model_loss import ModelLossBatch, values_of
from hf_mixup.engine.own_exchange import OwnTrial, labels_besides, labels_if_needed
from hf_mixup.engine.own_head import encodes_once
from hf_mixup.engine.refusals import refuse_label_rules
from hf_mixup.methods import Draw, Method
from hf_mixup.methods._segmentation import refuse_for_maps
from hf_mixup.models.batches import DECODER, DECODER_IDS
from hf_mixup.models.hooks import hooks_of
from hf_mixup.models.inputs import decoder_inputs, takes
from hf_mixup.models.label_entries import labels_at, split_labels
from hf_mixup.models.labels import LABELS, segments, vocabulary_of
from hf_mixup.models.replay import Replay
from hf_mixup.utils.random_state import RandomState

logger = logging.getLogger(__name__)


class OwnBatch(ModelLossBatch):
    """A mixed batch that is scored by the model itself: lam * L(own labels) + (1 - lam) * L(partners' labels).

    Both losses are the model's, on the same mixed inputs, with the same dropout. The second one costs a second forward
    pass, through which gradients flow as well: of the head alone where labels do not enter the encoder below it.
    Running statistics (batch norm) are those of the first. Where loss="auto" takes the loss of blended numbers
    (regression), this one is more by a constant, with the same gradients.

    Source: the two losses of Zhang et al. 2018, arXiv 1710.09412 (`mixup_criterion` of
    https://github.com/facebookresearch/mixup-cifar10), for any head.

    >>> from hf_mixup import Mixup
    >>> from hf_mixup.testing.batches import tiny
    >>> model, batch = tiny("sequence-classification", "bert")
    >>> with Mixup({"method": "embedding", "loss": "own"})(model, batch, lam=0.75) as mixed:
    ...     loss = mixed.loss(model(**mixed.inputs))
    >>> loss.backward()
    """

    def __init__(
        self,
        context: Context,
        model: nn.Module,
        inputs: dict[str, Any],
        labels: dict[str, Any],
        given: dict[str, Any],
        draw: Draw,
        inplace: bool,
    ) -> None:
        super().__init__(context, model, inputs, labels, given, draw, inplace)
        self._share = one_lam(self._method, draw)
        self._twice = bool(self.rate) and self._share < 1
        if run_together(model):  # a second pass of one process is one of all
            self._twice = in_any(self._twice, next(model.parameters()).device)
        self._partners_labels = labels_at(labels, draw.partner) if self._twice else {}
        self._random: RandomState | None = None  # before the first pass; None outside the context
        self._replay: Replay | None = None
        self._replays = False  # whether the second pass needs the head alone
        self._recording = ExitStack()

    @classmethod
    def matches(cls, model: nn.Module, batch: Mapping[str, Any]) -> bool:
        """Return True: any batch may be scored so."""
        return True

    @classmethod
    def build(cls, context: Context, model: nn.Module, batch: Mapping[str, Any], requested: Requested) -> OwnBatch:
        """Tell labels from inputs, and draw; see `MixedBatch.build`.

        Raises:
            ValueError: for a batch without labels, or with labels that do not go with samples; for a setting, method or
                draw that is not one lam for all of the batch.
        """
        # Again: a Trainer may have added its label smoothing, or a teacher.
        refuse_beside_own(context.method, context.config.losses)
        refuse_label_rules(context.method, model)  # loss="own" is not the only way here: some heads need it
        refuse_packed(batch)
        if segments(model):
            refuse_for_maps(context.method, model)
        given = {key: batch[key] for key in (ITEMS,) if key in batch}
        inputs, labels = split_labels(model, {key: value for key, value in batch.items() if key not in given})
        for key in labels_besides(model, inputs, labels):
            labels[key] = inputs.pop(key)
        inputs, labels = _decoder_placed(context, model, inputs, labels)
        values = values_of(labels)
        draw = context.draw(model, inputs, values, requested, trial_of=partial(OwnTrial, labels=labels))
        _refuse_label_rule(context.method.chosen(draw), draw, values)
        mixed = cls(context, model, inputs, labels, given, draw, requested.inplace)
        mixed._replays = context.config.self_check and encodes_once(model, inputs, labels)
        _tell_cost_once(model, mixed._replays)
        return mixed

    def __enter__(self) -> OwnBatch:
        with labels_if_needed(self._model, lambda: self.labels):
            super().__enter__()
        self.inputs = {**self.inputs, **self.labels, **self._given}
        self._random, self._replay = RandomState(self._model), Replay(self._model)
        if self._twice and self._replays:
            self._recording.enter_context(self._replay.recording())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._random = self._replay = None
        self._recording.close()
        super().__exit__(kind, error, trace)

    def _mixed_loss(self, outputs: Any, model: nn.Module, given: Mapping[str, Any]) -> Tensor:
        own = self._own(outputs, self.labels, given)
        if not self._twice:
            return own
        if self._random is None or self._replay is None:
            raise RuntimeError(
                "loss='own' runs the model a second time, which has to be inside the context: take the loss there, or "
                "run `mixed.forward(model)` instead of model(**mixed.inputs)"
            )
        self._recording.close()
        hooks_of(self._model).again()
        with self._random.again(), self._replay.again():
            outputs = _run_beside(model, {**given, **self._partners_labels})
        if not self._replay.used:  # else the hooks in the encoder were passed before
            self._refuse_unmixed()
        partners = self._own(outputs, self._partners_labels, given)
        return self._share * own + (1 - self._share) * partners

    @property
    def targets(self) -> Tensor:
        """Refused: the model's loss is taken with each label, and there are no mixed targets."""
        raise ValueError("loss='own' has no mixed targets: it takes the model's loss with each label, see `labels`")


def one_lam(method: Method, draw: Draw) -> float:
    """Return the lam of a batch in which all samples have the same one; 1 where nothing is mixed.

    Raises:
        ValueError: if they differ.

    >>> import torch
    >>> import torch
    >>> from hf_mixup.methods import InputMixup
    >>> one_lam(InputMixup(), Draw("mixup", partner=torch.tensor([1, 0, 2]), lam=torch.tensor([0.25, 0.25, 1.0])))
    0.25
    """
    drawn = zip(draw.lam.tolist(), draw.partner.tolist())
    found = {lam for row, (lam, partner) in enumerate(drawn) if partner != row}
    if len(found) > 1:
        raise ValueError(
            f"lam differs between the samples of the batch ({min(found):.3g} to {max(found):.3g}, method "
            f"{method.name!r}): the model's own loss is weighed by one lam for the whole batch. Give one lam "
            "(lam_per='batch'), use 'mixup', 'embedding' or 'manifold', or leave loss='own' out where it was set"
        )
    return found.pop() if found else 1.0


def _refuse_label_rule(method: Method, draw: Draw, labels: Tensor) -> None:
    """Refuse a draw by which labels are mixed otherwise than by one lam for sample and partner."""
    if method.label_lam(labels, draw).dim() > 1 or method.further_rows(draw):
        raise ValueError(
            f"method {method.name!r} mixes labels {list(labels.shape)} by a rule of its own (one weight for each "
            "position, or several partners), which loss='own' cannot follow: leave loss out, or use 'mixup'"
        )


def _decoder_placed(
    context: Context, model: nn.Module, inputs: dict[str, Any], labels: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return inputs and labels with the decoder's inputs among the one or the other.

    As part of the content they are blended, as `loss="auto"` has it. Where a method leaves them as they are (it blends
    a spectrogram alone), they go with their labels: the decoder then reads each text for itself.
    """
    content = _with_decoder_inputs(model, inputs, labels)
    if content is None:
        return inputs, labels
    known: dict[Any, bool] = hooks_of(model).cache.setdefault("decoder reads labels", {})
    key = (repr(context.method), frozenset(content))
    if key not in known:
        trial_of = partial(OwnTrial, labels=labels)
        known[key] = context.passes(model, content, values_of(labels), trial_of)
    if known[key]:
        return content, labels
    moved = {key: value for key, value in inputs.items() if key.startswith(DECODER)}
    return {key: value for key, value in inputs.items() if key not in moved}, {**labels, **moved}


def _with_decoder_inputs(model: nn.Module, inputs: dict[str, Any], labels: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the inputs with those that a generating encoder-decoder derives from its labels; None for other models."""
    generates = getattr(getattr(model, "config", None), "is_encoder_decoder", False) and vocabulary_of(model)
    if inputs.get(DECODER_IDS) is not None:
        return inputs
    if not generates or not isinstance(labels.get(LABELS), Tensor) or not takes(model, DECODER_IDS):
        return None
    try:
        return {**inputs, DECODER_IDS: decoder_inputs(model, labels[LABELS])}
    except ValueError:  # the model does not say how they follow from the labels: it alone makes them
        return None


def _run_beside(model: nn.Module, inputs: Mapping[str, Any]) -> Any:
    """Run a model once more in a step, without a second update of running statistics.

    Not through DDP itself, which would write into buffers that the first pass still needs; gradients of the model
    inside are averaged all the same.
    """
    model = model.module if isinstance(model, DistributedDataParallel) else model
    copies = {
        f"{name}.{key}" if name else key: buffer.clone()
        for name, module in model.named_modules()
        if isinstance(module, _NormBase) and module.training and module.track_running_stats
        for key, buffer in module.named_buffers(recurse=False)
    }
    return functional_call(model, copies, kwargs=dict(inputs)) if copies else model(**inputs)


def _tell_cost_once(model: nn.Module, replays: bool) -> None:
    checked = hooks_of(model).checked
    if "own loss" not in checked:
        checked.add("own loss")
        name = type(model).__name__
        who, costs = (f"the head of {name}", "pass of the head") if replays else (name, "forward pass")
        logger.warning(
            "the model's own loss: %s runs twice on each mixed batch, once with each label, which costs a second %s",
            who,
            costs,
        )
