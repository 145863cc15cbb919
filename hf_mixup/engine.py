"""The straight line: draw -> apply -> forward -> loss. All doors walk it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from hf_mixup.batch import LabelBatch, MixedBatch
from hf_mixup.config import MixupConfig
from hf_mixup.contrastive.batch import PairBatch
from hf_mixup.contrastive.head import hold_temperature
from hf_mixup.contrastive.keys import caption_keys
from hf_mixup.detection.batch import BoxBatch, check_box_loss_once, has_boxes, refuse_detector
from hf_mixup.distillation import Teacher
from hf_mixup.forecasts import FUTURE, ForecastBatch, is_forecast, refuse_forecast
from hf_mixup.losses import loss_items
from hf_mixup.methods import METHODS, Method, Params
from hf_mixup.methods.base import Request
from hf_mixup.pairs import PAIR_IDS, tower_inputs
from hf_mixup.schedule import Clock
from hf_mixup.sites.captions import most_tokens
from hf_mixup.sites.check import check_exchange_once, check_loss_once, loss_is_checked
from hf_mixup.sites.inputs import model_inputs
from hf_mixup.sites.maps import install_auxiliary
from hf_mixup.sites.towers import OTHER_SIDES, is_dual_encoder
from hf_mixup.targets import LABELS, Labels, ProblemType, check_labels, read_labels

ITEMS = "num_items_in_batch"


class Mixup:
    """Mix batches in a hand-written loop; the engine behind the other doors.

    Args:
        config: a `MixupConfig`, a method's name, or a mapping of settings.
        total_steps: optimizer steps of the whole run; needed only for a schedule, with `set_step`.
        tokenizer: tokenizer (or the processor that has it), for methods that read captions.
        teacher: a model whose scores are distilled into the one that is trained, see `distill_weight`.
        guide: a pretrained transformers model that methods which look at pictures (attentive, puzzlemix, saliencymix by
            gradient) ask where to look, instead of the model in training. It takes the same pictures and stays as it
            is: never trained, never saved; it is moved to their device.

    Calling it gives a context that holds one mixed batch. It mixes whatever `model.training` says, so call it in
    training only. Each call draws anew, from the key (seed, process, step, number of the call);
    `accelerator.register_for_checkpointing(mixup)` makes a resumed run draw what it would have drawn.

    Source: Zhang et al. 2018, arXiv 1710.09412, and the papers that `hf-mixup methods` lists.

    >>> from transformers import ResNetConfig, ResNetForImageClassification
    >>> model = ResNetForImageClassification(ResNetConfig(num_labels=3, hidden_sizes=[8, 8], depths=[1, 1],
    ...     embedding_size=8, layer_type="basic"))
    >>> mixup = Mixup(MixupConfig(method="cutmix", alpha=1.0))
    >>> batch = {"pixel_values": torch.rand(4, 3, 32, 32), "labels": torch.tensor([0, 1, 2, 0])}
    >>> with mixup(model, batch) as mixed:
    ...     outputs = model(**mixed.inputs)
    ...     loss = mixed.loss(outputs)
    >>> loss.backward()
    >>> mixed.lam.shape, mixed.partner.shape, mixed.targets.shape
    (torch.Size([4]), torch.Size([4]), torch.Size([4, 3]))
    """

    def __init__(
        self,
        config: MixupConfig | str | dict[str, Any] = "mixup",
        total_steps: int | None = None,
        tokenizer: Any = None,
        teacher: nn.Module | None = None,
        guide: nn.Module | None = None,
    ) -> None:
        self.config = replace(MixupConfig.from_any(config))  # a copy: a Trainer may add its label smoothing
        self.method: Method = METHODS[self.config.method](self.config)
        self.clock = Clock(seed=self.config.draw_seed or 0, total_steps=total_steps)
        weights = self.config.class_weights
        self.class_weights = None if weights is None else torch.tensor(weights)
        self.knows(tokenizer)
        self.teacher: Teacher | None = None
        if teacher is not None:
            self.learn_from(teacher)
        self.guide: nn.Module | None = None
        if guide is not None:
            self.look_through(guide)

    def __call__(
        self,
        model: nn.Module,
        batch: Mapping[str, Any],
        partner: Tensor | None = None,
        lam: Tensor | float | None = None,
        inplace: bool = False,
    ) -> MixedBatch:
        """Return the mixed batch as a context: the model blends inside it, its backward pass may come later.

        Args:
            model: a transformers model, wrapped (DDP, compiled) or not.
            batch: model inputs and `labels`; for a dual encoder (CLIP, SigLIP, CLAP, ...) the inputs of both sides, and
                `pair_ids` [B] if rows with equal ids belong together; for a model that forecasts, `future_values`.
            partner: long [B], row i is blended with row partner[i]; drawn if None.
            lam: scalar or [B] in [0, 1], weight of the own row; drawn if None.
            inplace: write into the batch's own tensors. Only for batches that nobody else holds.

        Raises:
            ValueError: for a batch without labels, with labels outside the classes, or with nothing to mix.
            TypeError: for integer tensors where the method blends floats.
        """
        inner = unwrap(model)
        self.check_teacher(inner)
        if is_dual_encoder(inner):
            return self._pairs(inner, batch, partner, lam, inplace)
        if self.method.for_pairs:
            raise ValueError(
                f"method {self.config.method!r} mixes pairs, and {type(inner).__name__} is no dual encoder with a "
                "temperature of its own (get_text_features, get_image_features or its like, and logit_scale)"
            )
        if has_boxes(batch):
            return self._boxes(inner, batch, partner, lam, inplace)
        if is_forecast(batch):
            return self._forecasts(inner, batch, partner, lam, inplace)
        refuse_packed(batch)
        self.check_loss(inner, batch)
        labels = read_labels(inner, batch)
        if labels.values.device.type == "cpu":  # elsewhere it would stall the device; the collator has checked
            check_labels(labels.values, labels.classes, labels.kind)
        inputs = model_inputs(inner, batch, labels)
        if labels.pixels:
            self.check_maps(inner)
        params = self.draw(inner, inputs, labels.values, partner, lam, labels.kind)
        return LabelBatch(self, inner, inputs, labels, params, inplace)

    def _forecasts(
        self,
        model: nn.Module,
        batch: Mapping[str, Any],
        partner: Tensor | None,
        lam: Tensor | float | None,
        inplace: bool,
    ) -> ForecastBatch:
        refuse_forecast(self, model)
        inputs, future = dict(batch), batch[FUTURE]
        params = self.draw(model, inputs, future.flatten(1), partner, lam)
        return ForecastBatch(self, model, inputs, future, params, inplace)

    def _pairs(
        self,
        model: nn.Module,
        batch: Mapping[str, Any],
        partner: Tensor | None,
        lam: Tensor | float | None,
        inplace: bool,
    ) -> PairBatch:
        if not self.config.off and not self.method.for_pairs:
            names = ", ".join(name for name, method in METHODS.items() if method.for_pairs is True)
            raise ValueError(
                f"{type(model).__name__} is a dual encoder, and method {self.config.method!r} does not mix pairs: use "
                f"one of {names}"
            )
        inputs, ids = pair_inputs(batch, model)
        keys = caption_keys(inputs["input_ids"], inputs.get("attention_mask"))
        params = self.draw(model, inputs, keys, partner, lam)
        hold_temperature(model, self.config)
        return PairBatch(self, model, inputs, keys, ids, params, inplace)

    def _boxes(
        self,
        model: nn.Module,
        batch: Mapping[str, Any],
        partner: Tensor | None,
        lam: Tensor | float | None,
        inplace: bool,
    ) -> BoxBatch:
        labels = list(batch[LABELS])
        refuse_detector(model, labels, self)
        if self.config.self_check:
            check_box_loss_once(model, batch)
        inputs = {key: value for key, value in batch.items() if key != LABELS}
        params = self.draw(model, inputs, torch.zeros(len(labels)), partner, lam, boxes=True)
        return BoxBatch(self, model, inputs, labels, params, inplace)

    def draw(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        labels: Tensor,
        partner: Tensor | None,
        lam: Tensor | float | None,
        kind: ProblemType = "single_label_classification",
        boxes: bool = False,
    ) -> Params:
        """Draw how a batch is mixed, without mixing it: for a batch of another kind than these.

        Before the first draw the method is tried on the model, see `check_exchange_once`.

        Args:
            inputs: what the model is given.
            labels: one for each row, [B, ...].
            partner, lam: as in a call; None to draw them.
            kind: the problem type of the labels.
            boxes: whether the rows have boxes in their place.
        """
        if self.config.self_check and not self.method.for_pairs:
            check_exchange_once(model, self.method, inputs)
        rows, prob = len(labels), self.clock.prob(self.config)
        request = Request(
            model=model,
            batch=inputs,
            labels=labels,
            prob=prob,
            rng=self.clock.tick(),
            partner=_given_partner(partner, rows),
            lam=_given_lam(lam, rows),
            guide=self.guide,
            kind=kind,
            boxes=boxes,
        )
        return self.method.draw(request)

    def check_maps(self, model: nn.Module) -> None:
        """Refuse methods that have no rule for the labels of pixels.

        Raises:
            ValueError: naming the method.
        """
        for each in self.method.choices():
            if not each.for_pixels:
                names = ", ".join(name for name, method in METHODS.items() if method.for_pixels)
                raise ValueError(
                    f"method {each.name!r} does not mix the labels of pixels that {type(model).__name__} learns from: "
                    f"use one of {names}"
                )

    def check_teacher(self, model: nn.Module) -> None:
        """Refuse a teacher that does not fit the model, and settings that need one where there is none."""
        if self.teacher is not None:
            self.teacher.check(model, self.method)
        elif self.config.distill_weight:
            raise ValueError(
                f"distill_weight={self.config.distill_weight} needs a teacher: pass teacher=model to MixupTrainer, "
                "MixupCollator, MixupCallback or Mixup"
            )

    def check_loss(self, model: nn.Module, batch: Mapping[str, Any]) -> None:
        """Hold the mixed loss against the model's own at the first batch, unless another is wanted, or no check."""
        if self.tries_loss(model):
            check_loss_once(model, batch)

    def tries_loss(self, model: nn.Module) -> bool:
        """Whether the loss is still to be held against the model's own."""
        return self.config.self_check and not self._own_loss and not loss_is_checked(model)

    @property
    def _own_loss(self) -> bool:
        """Whether the loss is another than the model's by the user's wish."""
        config = self.config
        return config.loss != "auto" or config.class_weights is not None or config.label_smoothing > 0

    def learn_from(self, teacher: nn.Module) -> None:
        """Distil a teacher's scores on each mixed batch, see `Teacher` and `losses.distilled_loss_sum`."""
        self.teacher = Teacher(teacher)
        if self.config.distill_weight is None:
            self.config.distill_weight = 0.5

    def look_through(self, guide: nn.Module) -> None:
        """Ask another model than the one in training where to look in the pictures.

        Raises:
            ValueError: if the method asks no model.
        """
        if not self.method.takes_guide:
            raise ValueError(
                f"method {self.config.method!r} asks no model where to look: leave guide= out, or use 'attentive', "
                "'puzzlemix', or 'saliencymix' with saliency='gradient'"
            )
        self.guide = guide

    def knows(self, processing_class: Any) -> None:
        """Tell methods that read captions about the tokenizer, or the processor that has it; others are passed over."""
        if hasattr(processing_class, "all_special_ids") or hasattr(processing_class, "tokenizer"):
            self.method.knows(processing_class)

    def prepare(self, model: nn.Module) -> None:
        """Install the hooks a method needs, and set the temperature, before the model is compiled or wrapped."""
        inner = unwrap(model)
        self.check_teacher(inner)
        self.method.prepare(inner)
        install_auxiliary(inner)
        if is_dual_encoder(inner) and not self.config.plain:
            hold_temperature(inner, self.config)

    def set_step(self, step: int) -> None:
        """Tell a hand-written loop's optimizer step, for schedules."""
        self.clock.step, self.clock.micro = step, 0

    def state_dict(self) -> dict[str, Any]:
        """Return where the draws stand, for `accelerator.register_for_checkpointing`."""
        return self.clock.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the draws where a saved run stopped."""
        self.clock.load_state_dict(state)

    def count_items(self, labels: Labels) -> Tensor:
        """Return what the summed loss of these labels (see `read_labels`) is divided by."""
        classes = labels.classes if self.config.loss == "bce" else None
        return loss_items(labels.values, labels.kind, self.class_weights, classes)


def unwrap(model: nn.Module) -> nn.Module:
    """Return the model inside DDP, FSDP or torch.compile wrappers.

    Raises:
        RuntimeError: for DataParallel, which splits a batch after its partners are drawn.
    """
    from accelerate.utils import extract_model_from_parallel

    if isinstance(model, nn.DataParallel):
        raise RuntimeError(
            "DataParallel splits a batch after its partners are drawn: launch one process a device "
            "(`accelerate launch` or `torchrun`), or show the process a single device (CUDA_VISIBLE_DEVICES=0)"
        )
    if not hasattr(model, "module") and not hasattr(model, "_orig_mod"):
        return model  # no wrapper; asking Accelerate would walk through every submodule at every step
    return extract_model_from_parallel(model, keep_fp32_wrapper=True, keep_torch_compile=False)


def pair_inputs(batch: Mapping[str, Any], model: nn.Module) -> tuple[dict[str, Any], Tensor | None]:
    """Return what a dual encoder's towers are given, and the `pair_ids`.

    Raises:
        ValueError: if a side is missing, the sides differ in their rows, a caption is longer than the text tower takes,
            or the batch is empty or has labels.

    >>> pair_inputs({"pixel_values": torch.zeros(2, 3, 4, 4)}, torch.nn.Identity())
    Traceback (most recent call last):
    ...
    ValueError: the batch for Identity has no captions ('input_ids'); it holds: pixel_values
    """
    name, held = type(model).__name__, ", ".join(batch) or "nothing"
    inputs = tower_inputs(batch)
    ids = inputs.get("input_ids")
    if not isinstance(ids, Tensor):
        raise ValueError(f"the batch for {name} has no captions ('input_ids'); it holds: {held}")
    if LABELS in inputs:
        raise ValueError(
            f"the batch for {name} has 'labels', which a dual encoder does not take: call them 'pair_ids' if equal "
            "ones belong together, else leave them out"
        )
    others = [v for k, v in inputs.items() if isinstance(v, Tensor) and v.is_floating_point() and v.dim() > 1]
    if not others:
        raise ValueError(f"the batch for {name} has captions, but no {' or '.join(OTHER_SIDES)}; it holds: {held}")
    for each in (*others, batch.get(PAIR_IDS)):
        if isinstance(each, Tensor) and len(each) != len(ids):
            raise ValueError(f"the batch for {name} has {len(ids)} captions, but {len(each)} of something else: {held}")
    if len(ids) == 0:
        raise ValueError(f"the batch for {name} has no rows")
    limit = most_tokens(model)
    if limit is not None and ids.shape[1] > limit:
        mask = inputs.get("attention_mask")
        longest = 0 if mask is None else int(mask.sum(-1).argmax())
        raise ValueError(
            f"row {longest} of the batch has a caption of {ids.shape[1]} tokens, and the text tower of {name} takes "
            f"{limit}: tokenize with truncation=True, max_length={limit}, or PairCollator(..., max_length={limit})"
        )
    return inputs, batch.get(PAIR_IDS)


PACKED = ("cu_seq_lens_q", "cu_seqlens", "seq_idx", "packed_seq_lengths", "shift_labels")


def refuse_packed(batch: Mapping[str, Any]) -> None:
    """Refuse sequences that are packed into one row, which have no rows to exchange.

    Raises:
        ValueError: naming what gives the packing away.

    >>> refuse_packed({"input_ids": torch.zeros(1, 6), "position_ids": torch.tensor([[0, 1, 2, 0, 1, 2]])})
    Traceback (most recent call last):
    ...
    ValueError: 'position_ids' tells of sequences packed into one row, which cannot be mixed row by row: ...
    """
    places = batch.get("position_ids")
    one_row = isinstance(places, Tensor) and places.dim() == 2 and len(places) == 1
    found = [key for key in PACKED if batch.get(key) is not None]
    if one_row and bool((places.diff() < 0).any()):  # type: ignore[union-attr]
        found.append("position_ids")
    if found:
        raise ValueError(
            f"{found[0]!r} tells of sequences packed into one row, which cannot be mixed row by row: train without "
            "packing (packing=False, padding_free=False)"
        )


def _given_partner(partner: Tensor | None, rows: int) -> Tensor | None:
    if partner is None:
        return None
    partner = torch.as_tensor(partner).cpu()
    if partner.shape != (rows,) or partner.is_floating_point() or bool(((partner < 0) | (partner >= rows)).any()):
        raise ValueError(f"partner={partner.tolist()}: expected {rows} row numbers from 0 to {rows - 1}")
    return partner.long()


def _given_lam(lam: Tensor | float | None, rows: int) -> Tensor | None:
    if lam is None:
        return None
    lam = torch.as_tensor(lam, dtype=torch.float32).cpu()
    if lam.dim() > 1 or (lam.dim() == 1 and len(lam) != rows) or not bool(((lam >= 0) & (lam <= 1)).all()):
        raise ValueError(f"lam={lam.tolist()}: expected one number in [0, 1], or {rows} of them")
    return lam.expand(rows).clone()
