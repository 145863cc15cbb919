"""The straight line: draw -> apply -> forward -> loss. All entry points walk it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from hf_mixup.engine.config import MixupConfig
from hf_mixup.engine.contrastive import PairBatch
from hf_mixup.engine.detection import BoxBatch
from hf_mixup.engine.exchange import check_exchange_once
from hf_mixup.engine.forecasting import ForecastBatch
from hf_mixup.engine.labelled import LabelBatch, MixedBatch
from hf_mixup.engine.schedule import Clock
from hf_mixup.engine.self_check import check_loss_once, loss_is_checked
from hf_mixup.engine.similarity_head import hold_temperature
from hf_mixup.engine.stats import Watch
from hf_mixup.engine.teacher import Teacher
from hf_mixup.methods import METHODS, Draw, Method
from hf_mixup.methods.base import Given, Request
from hf_mixup.models.adapters import refuse_adapter
from hf_mixup.models.batches import expand_shared
from hf_mixup.models.dual_encoder import is_dual_encoder
from hf_mixup.models.labels import Labels, ProblemType
from hf_mixup.models.losses import loss_items
from hf_mixup.models.segmentation import install_auxiliary

ITEMS = "num_items_in_batch"
KINDS: tuple[type[MixedBatch], ...] = (PairBatch, BoxBatch, ForecastBatch, LabelBatch)  # the last takes what is left


class Mixup:
    """Mix batches in a hand-written loop; the engine behind the other entry points.

    Args:
        config: a `MixupConfig`, a method's name, or a mapping of settings.
        total_steps: optimizer steps of the whole run; needed only for a schedule, with `set_step`.
        tokenizer: tokenizer (or the processor that has it), for methods that read captions.
        teacher: a model whose scores are distilled into the one that is trained, see `distill_weight`.
        guide: a pretrained transformers model that methods which look at images (attentive, puzzlemix, saliencymix by
            gradient) ask where to look, instead of the model in training. It takes the same images and stays as it
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
        self._scale_starts: dict[str, float] = {}
        self.watch = Watch()
        self.knows(tokenizer)
        self.teacher: Teacher | None = None
        if teacher is not None:
            self.learn_from(teacher)
        self.batch_size: int | None = None  # rows a batch, where a Trainer says it
        self._alone: int | None = 0  # batches of one row, None as soon as there was a larger one
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
            ValueError: for a batch without labels, with labels outside the classes, or with nothing to mix; for a model
                that a collator or callback mixes already.
            TypeError: for integer tensors where the method blends floats.
        """
        inner = unwrap(model)
        self._refuse_armed(inner)
        self.check_teacher(inner)
        refuse_adapter(inner)
        batch = expand_shared(batch)
        kind = next(kind for kind in KINDS if kind.takes(inner, batch))
        if self.method.for_pairs and kind is not PairBatch:
            raise ValueError(
                f"method {self.config.method!r} mixes pairs, and {type(inner).__name__} is no dual encoder with a "
                "temperature of its own (get_text_features, get_image_features or its like, and logit_scale)"
            )
        return kind.make(self, inner, batch, Given(partner, lam, inplace))

    def _refuse_armed(self, model: nn.Module) -> None:
        """Refuse a model that something else mixes already."""
        from hf_mixup.integrations.model_hooks import armed_of

        armed = armed_of(model)
        if armed is not None and armed.mixup is not self:
            raise ValueError(
                f"{type(model).__name__} is armed already, by a MixupCollator or MixupCallback with method "
                f"{armed.mixup.config.method!r}, and would be mixed twice: take that off (`collator.remove()`), or "
                "leave this out"
            )

    def draw(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        labels: Tensor,
        given: Given = Given(),  # noqa: B008 - frozen
        kind: ProblemType = "single_label_classification",
        boxes: bool = False,
    ) -> Draw:
        """Draw how a batch is mixed, without mixing it: for a batch of another kind than these.

        Before the first draw the method is tried on the model, see `check_exchange_once`.

        Args:
            inputs: what the model is given.
            labels: one for each row, [B, ...].
            given: partner and lam, where they are not to be drawn.
            kind: the problem type of the labels.
            boxes: whether the rows have boxes in their place.
        """
        rows, prob = len(labels), self.clock.prob(self.config)
        request = Request(
            model=model,
            batch=inputs,
            labels=labels,
            prob=prob,
            rng=self.clock.tick(),
            partner=_given_partner(given.partner, rows),
            lam=_given_lam(given.lam, rows),
            guide=self.guide,
            kind=kind,
            boxes=boxes,
        )
        self._refuse_alone(request)
        if self.config.self_check and not self.config.off and not self.method.for_pairs:
            check_exchange_once(request, self.method)
        return self.method.draw(request)

    def _refuse_alone(self, request: Request) -> None:
        """Refuse batches of one row, if there are no others: a row alone is mixed with nothing."""
        if request.partner is not None or self.config.off or any(each.alone for each in self.method.choices()):
            return
        if request.rows > 1:
            self._alone = None
        if self._alone is None or request.rows > 1:
            return
        self._alone += 1
        text = (
            "batches of one sample have no other to mix it with, so that nothing is mixed: set "
            "per_device_train_batch_size to 2 or more (and gradient_accumulation_steps lower)"
        )
        if self.batch_size == 1:
            raise ValueError(text)
        if self._alone == 2:  # the first may have been what was left of an epoch
            warnings.warn(text, UserWarning, stacklevel=2)

    def check_teacher(self, model: nn.Module) -> None:
        """Refuse a teacher that does not fit the model, and settings that need one where there is none.

        Raises:
            ValueError: naming what does not fit, or what is missing.
        """
        if self.teacher is not None:
            self.teacher.check(model, self.method)
        elif self.config.distill_weight or "distill_temperature" in self.config.changed:
            name = "distill_weight" if self.config.distill_weight else "distill_temperature"
            raise ValueError(
                f"{name}={getattr(self.config, name)} needs a teacher: pass teacher=model to MixupTrainer, "
                "MixupCollator, MixupCallback or Mixup"
            )

    def check_loss(self, model: nn.Module, batch: Mapping[str, Any]) -> None:
        """Hold the mixed loss against the model's own at the first batch, unless another is wanted, or no check."""
        if self.tries_loss(model, batch):
            check_loss_once(model, batch)

    def tries_loss(self, model: nn.Module, batch: Mapping[str, Any]) -> bool:
        """Whether the loss of such a batch is still to be held against the model's own."""
        return self.config.self_check and not self._own_loss and not loss_is_checked(model, batch)

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
        """Ask another model than the one in training where to look in the images.

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
        if not self.config.plain:
            refuse_adapter(inner)
        self.method.prepare(inner)
        install_auxiliary(inner)
        self.hold_temperature(inner)

    def hold_temperature(self, model: nn.Module) -> None:
        """Set the temperature of a dual encoder at first use, and keep its scale within `max_logit_scale`."""
        inner = unwrap(model)
        if is_dual_encoder(inner) and not self.config.plain:
            hold_temperature(inner, self.config, self._scale_starts)

    def set_step(self, step: int) -> None:
        """Tell a hand-written loop's optimizer step, for schedules."""
        self.clock.step, self.clock.micro = step, 0

    def state_dict(self) -> dict[str, Any]:
        """Return where the draws stand and a learnt scale began, for `accelerator.register_for_checkpointing`."""
        return {**self.clock.state_dict(), "scale_starts": dict(self._scale_starts)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the draws where a saved run stopped."""
        self.clock.load_state_dict(state)
        self._scale_starts.update(state["scale_starts"])

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
