"""What every kind of mixed batch needs to know: method, settings, teacher, guide, and where training stands."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import ref

import torch
from torch import Tensor, nn

from hf_mixup.engine.all_gather import run_together
from hf_mixup.engine.config import MixupConfig
from hf_mixup.engine.exchange import check_exchange_once
from hf_mixup.engine.learning import Learning
from hf_mixup.engine.own_head import has_own_head
from hf_mixup.engine.schedule import Clock
from hf_mixup.engine.self_check import check_loss_once, loss_is_checked
from hf_mixup.engine.similarity_head import hold_temperature
from hf_mixup.engine.soft_trial import has_soft_labels
from hf_mixup.engine.stats import Watch
from hf_mixup.engine.teacher import Teacher
from hf_mixup.engine.trial import Trial
from hf_mixup.engine.unwrap import unwrap
from hf_mixup.methods import Draw, Method
from hf_mixup.methods.base import Request
from hf_mixup.methods.capabilities import AsksGuide, NeedsTokenizer
from hf_mixup.methods.registry import each_part
from hf_mixup.models.adapters import refuse_adapter
from hf_mixup.models.dual_encoder import is_dual_encoder
from hf_mixup.models.label_checks import refuse_other_classes
from hf_mixup.models.labels import LABEL_KEYS, Labels, ProblemType, read_labels
from hf_mixup.models.losses import loss_items, mixed_loss_sum
from hf_mixup.models.segmentation import install_auxiliary


@dataclass(frozen=True)
class Requested:
    """What the caller asks for, instead of what would be drawn.

    Args:
        partner, lam: see `Mixup.__call__`; None to draw them.
        inplace: whether the batch's own tensors may be written into.
    """

    partner: Tensor | None = None
    lam: Tensor | float | None = None
    inplace: bool = False


@dataclass
class LabelsAhead:
    """Labels that were read before their batch is mixed.

    Args:
        source: what they were read from, to be compared by identity.
        labels: the labels.
        items: what their summed loss is divided by, 0-d; None before it is asked.
    """

    source: list[Any]
    labels: Labels
    items: Tensor | None = None


class Context:
    """What is mixed how, in one training run: `Mixup` without the batch. See `Mixup` for the arguments.

    Attributes:
        config: the settings; a copy, to which a Trainer may add its label smoothing.
        method: the method that draws and mixes.
        clock: where training stands, which gives each draw its key.
        watch: whether the model learns from the mixed losses.
        batch_size: samples a batch, where a Trainer says it.
        has_mixed: whether anything was mixed since training began.
        learning: the networks that the method trains, if any.
        rehearses: whether its batches are tried and not trained on, see `rehearsal`.
    """

    rehearses = False

    def __init__(
        self,
        config: MixupConfig | Method | str | dict[str, Any] = "mixup",
        total_steps: int | None = None,
        tokenizer: Any = None,
        teacher: nn.Module | None = None,
        guide: nn.Module | None = None,
    ) -> None:
        if total_steps is not None and total_steps < 1:
            raise ValueError(
                f"total_steps={total_steps}: expected the optimizer steps of the whole run, 1 or more (a Trainer's "
                "max_steps=-1 stands for none), or None without a schedule"
            )
        self.config = MixupConfig.from_any(config).replace()  # a copy: a Trainer may add its label smoothing
        self.method: Method = self.config.mixing
        self.learning = Learning(self.method)
        self.clock = Clock(seed=self.config.draw_seed or 0, total_steps=total_steps)
        weights = self.config.class_weights
        self.class_weights = None if weights is None else torch.tensor(weights)
        self.off = self.config.off  # once: it is asked at every step, and nothing that changes later has a say
        self._scale_starts: dict[str, float] = {}
        self.watch = Watch()
        self.set_tokenizer(tokenizer)
        self.teacher: Teacher | None = None
        self._lacks_no_teacher = False  # no setting asks for one
        if teacher is not None:
            self.set_teacher(teacher)
        self.guide: nn.Module | None = None
        if guide is not None:
            self.set_guide(guide)
        self.batch_size: int | None = None
        self.has_mixed = False
        self._labels_ahead: list[LabelsAhead] = []
        self._alone: int | None = 0  # batches of one sample, None as soon as there was a larger one

    def draw(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        labels: Tensor,
        requested: Requested = Requested(),
        kind: ProblemType = "single_label_classification",
        boxes: bool = False,
        trial_of: Callable[..., Trial] | None = None,
        exchange: bool = True,
    ) -> Draw:
        """Draw how a batch is mixed, without mixing it: for a batch of which the caller takes the loss.

        Before the first draw the method is tried on the model, see `check_exchange_once`.

        Args:
            inputs: what the model is given.
            labels: one for each sample, [B, ...].
            requested: partner and lam, where they are not to be drawn.
            kind: the problem type of the labels.
            boxes: whether the samples have boxes, masks or maps of numbers instead of labels.
            trial_of: how two samples are tried, see `check_exchange_once`.
            exchange: whether to try it; not on a model that draws by itself what it does not look at.
        """
        rows, prob = len(labels), self.clock.prob(self.method.prob, self.config.schedule)
        together = run_together(model)
        request = Request(
            model=model,
            batch=inputs,
            labels=labels,
            prob=prob,
            rng=self.clock.tick(alike=together),
            partner=_checked_partner(requested.partner, rows),
            lam=_checked_lam(requested.lam, rows),
            guide=self.guide,
            kind=kind,
            boxes=boxes,
            loss_sum=self._loss_sum(kind),
            seed=self.clock.seed,
            together=together,
        )
        self._refuse_alone(request)
        self.learning.attend(request)
        tries = exchange and self.config.self_check and not self.off and (self.rehearses or not together)
        if tries and not (self.method.for_pairs and is_dual_encoder(model)):
            check_exchange_once(request, self.method, trial_of)
        return self.method.draw(request)

    def passes(self, model: nn.Module, inputs: dict[str, Any], labels: Tensor, trial_of: Callable[..., Trial]) -> bool:
        """Whether the exchange test of these inputs passes; True where none is wanted."""
        if not self.config.self_check or self.off:
            return True
        rng = torch.Generator().manual_seed(0)
        try:
            check_exchange_once(Request(model, inputs, labels, 1.0, rng, guide=self.guide), self.method, trial_of)
        except (RuntimeError, ValueError, TypeError):
            return False
        return True

    def _loss_sum(self, kind: ProblemType) -> Callable[[Tensor, Tensor], Tensor]:
        """Return the summed loss of samples that are not mixed, from logits and labels."""

        def loss_sum(logits: Tensor, labels: Tensor) -> Tensor:
            losses, whole = self.config.losses, torch.ones(len(labels), device=labels.device)
            weights = self.class_weights_on(labels.device)
            smoothing, bce = losses.label_smoothing, losses.loss == "bce"
            return mixed_loss_sum(logits, labels, labels, whole, kind, smoothing, weights, bce)

        return loss_sum

    def class_weights_on(self, device: torch.device) -> Tensor | None:
        """Return the weights of the classes [C], moved to a device once; None where there are none."""
        if self.class_weights is not None:
            self.class_weights = self.class_weights.to(device)
        return self.class_weights

    def _refuse_alone(self, request: Request) -> None:
        """Refuse batches of one sample, if there are no others: a sample alone is mixed with nothing."""
        if request.rows > 1:
            self._alone = None
        if self._alone is None or request.partner is not None or self.off:
            return
        if any(each.alone for each in self.method.choices()):
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
            return self.teacher.check(model, self.method)
        if self._lacks_no_teacher:
            return
        if self.config.distill_weight or "distill_temperature" in self.config.changed:
            name = "distill_weight" if self.config.distill_weight else "distill_temperature"
            raise ValueError(
                f"{name}={getattr(self.config, name)} needs a teacher: pass teacher=model to MixupTrainer, "
                "MixupCollator, MixupCallback or Mixup"
            )
        self._lacks_no_teacher = True

    def check_loss(self, model: nn.Module, batch: Mapping[str, Any]) -> None:
        """Compare the mixed loss with the model's own at the first batch, unless another is wanted, or no check."""
        if self.loss_is_unchecked(model, batch):
            check_loss_once(model, batch)

    def scored_by_model(self, model: nn.Module, batch: Mapping[str, Any]) -> bool:
        """Whether the model's own loss is taken: by `loss="own"`, of soft labels, or of a head with its own objective.

        Raises:
            RuntimeError: for soft labels whose loss cannot be taken of blended ones, see `has_soft_labels`.
        """
        losses = self.config.losses
        if losses.loss == "own":
            return True
        wished = self._own_loss or losses.distill_weight or not self.config.self_check
        if wished or self.off:
            return False
        return has_soft_labels(model, batch) or has_own_head(model, batch)

    def loss_is_unchecked(self, model: nn.Module, batch: Mapping[str, Any]) -> bool:
        """Whether the loss of such a batch is still to be compared with the model's own."""
        return self.compares_loss and not loss_is_checked(model, batch)

    @property
    def compares_loss(self) -> bool:
        """Whether the mixed loss has to be the model's own: no check is left out, and no other loss is wanted."""
        return self.config.self_check and not self._own_loss

    @property
    def _own_loss(self) -> bool:
        """Whether the loss is another than the model's by the user's wish."""
        losses = self.config.losses
        return losses.loss != "auto" or losses.class_weights is not None or losses.label_smoothing > 0

    def set_teacher(self, teacher: nn.Module) -> None:
        """Distil a teacher's scores on each mixed batch, see `Teacher` and `losses.distilled_loss_sum`."""
        self.teacher = Teacher(teacher)
        if self.config.distill_weight is None:
            self.config.losses.distill_weight = 0.5

    def set_guide(self, guide: nn.Module) -> None:
        """Ask another model than the one in training where to look in the images.

        Raises:
            ValueError: if the method asks no model.
        """
        if not any(isinstance(each, AsksGuide) and each.asks_guide for each in each_part(self.method)):
            raise ValueError(
                f"method {self.config.method!r} asks no model where to look: leave guide= out, or use 'attentive', "
                "'puzzlemix', or 'saliencymix' with saliency='gradient'"
            )
        self.guide = guide

    def set_tokenizer(self, processing_class: Any) -> None:
        """Give the tokenizer, or the processor that has it, to methods that read captions; ignore anything else."""
        if hasattr(processing_class, "all_special_ids") or hasattr(processing_class, "tokenizer"):
            for each in each_part(self.method):
                if isinstance(each, NeedsTokenizer):
                    each.set_tokenizer(processing_class)

    def prepare(self, model: nn.Module) -> None:
        """Install the hooks a method needs, and set the temperature, before the model is compiled or wrapped."""
        inner = unwrap(model)
        self.check_teacher(inner)
        if not self.plain:
            refuse_adapter(inner)
        self.method.prepare(inner)
        install_auxiliary(inner)
        self.hold_temperature(inner)

    def hold_temperature(self, model: nn.Module) -> None:
        """Set the temperature of a dual encoder at first use, and keep its scale within `max_logit_scale`."""
        inner = unwrap(model)
        if is_dual_encoder(inner) and not self.plain:
            hold_temperature(inner, self.config, self._scale_starts)

    def set_step(self, step: int) -> None:
        """Set the optimizer step of a hand-written loop, for schedules."""
        self.clock.step, self.clock.micro = step, 0

    def state_dict(self) -> dict[str, Any]:
        """Return where draws and networks stand and a learnt scale began, for an Accelerator to save.

        `accelerator.register_for_checkpointing(mixup)` does.
        """
        own = {"scale_starts": dict(self._scale_starts), "has_mixed": self.has_mixed}
        return {**self.clock.state_dict(), **own, "learning": self.learning.state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue the draws where a saved run stopped."""
        self.clock.load_state_dict(state)
        self._scale_starts.update(state["scale_starts"])
        self.has_mixed = state["has_mixed"]
        self.learning.begin(state["learning"])

    @property
    def plain(self) -> bool:
        """Whether training is plain training: nothing mixed, the model's own loss."""
        return self.off and self.config.plain

    def read_labels(self, model: nn.Module, batch: Mapping[str, Any]) -> Labels:
        """Read the labels of a batch as the model's own loss would, unless `read_ahead` has read these very tensors."""
        found = _source(model, batch) if self._labels_ahead else []
        for each in self._labels_ahead:
            if all(one is other for one, other in zip(each.source, found)):
                return each.labels
        return self._read(model, batch)

    def _read(self, model: nn.Module, batch: Mapping[str, Any]) -> Labels:
        labels = read_labels(model, batch)
        if self.class_weights is not None and labels.kind == "single_label_classification":
            refuse_other_classes(labels.values, labels.classes, len(self.class_weights), type(model).__name__)
        return labels

    def read_ahead(self, model: nn.Module, batches: Sequence[Mapping[str, Any]]) -> list[Labels]:
        """Read the labels of all batches of a step, and hold them until the next one, so that they are read once."""
        self._labels_ahead = [LabelsAhead(_source(model, batch), self._read(model, batch)) for batch in batches]
        return [each.labels for each in self._labels_ahead]

    def forget_labels(self) -> None:
        """Let go of the labels that `read_ahead` holds."""
        self._labels_ahead = []

    def count_items(self, labels: Labels) -> Tensor:
        """Return what the summed loss of these labels (see `read_labels`) is divided by."""
        ahead = next((each for each in self._labels_ahead if each.labels is labels), None)
        if ahead is not None and ahead.items is not None:
            return ahead.items
        classes = labels.classes if self.config.losses.loss == "bce" else None
        items = loss_items(labels.values, labels.kind, self.class_weights_on(labels.values.device), classes)
        if ahead is not None:
            ahead.items = items
        return items


def _source(model: nn.Module, batch: Mapping[str, Any]) -> list[Any]:
    """Return what the labels of a batch are read from, to be compared by identity."""
    tensors = [batch.get(key) for key in (*LABEL_KEYS, "input_ids", "inputs_embeds")]
    changes = [each._version for each in tensors if isinstance(each, Tensor) and not each.is_inference()]
    return [ref(model), *tensors, *changes]


def _checked_partner(partner: Tensor | None, rows: int) -> Tensor | None:
    if partner is None:
        return None
    partner = _numbers("partner", partner, f"{rows} row numbers from 0 to {rows - 1}").cpu()
    if partner.shape != (rows,) or partner.is_floating_point() or bool(((partner < 0) | (partner >= rows)).any()):
        raise ValueError(f"partner={partner.tolist()}: expected {rows} row numbers from 0 to {rows - 1}")
    return partner.long()


def _checked_lam(lam: Tensor | float | None, rows: int) -> Tensor | None:
    if lam is None:
        return None
    lam = _numbers("lam", lam, f"one number in [0, 1], or {rows} of them").to("cpu", torch.float32)
    if lam.dim() > 1 or (lam.dim() == 1 and len(lam) != rows) or not bool(((lam >= 0) & (lam <= 1)).all()):
        raise ValueError(f"lam={lam.tolist()}: expected one number in [0, 1], or {rows} of them")
    return lam.expand(rows).clone()


def _numbers(name: str, given: Any, expected: str) -> Tensor:
    try:
        return torch.as_tensor(given)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{name}={given!r}: expected {expected}") from error
