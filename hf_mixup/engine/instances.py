"""The mixed batch of a model that finds instances or segments: masks, each with a class."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hf_mixup.engine.batch import MixedTargetBatch, refuse_loss_settings
from hf_mixup.engine.context import Context, Requested
from hf_mixup.engine.detection import refuse_scattered
from hf_mixup.engine.own_exchange import SetTrial
from hf_mixup.methods import Draw
from hf_mixup.methods._instances import Instances, mixed_instances, united_instances
from hf_mixup.methods._segmentation import refuse_for_targets
from hf_mixup.models.adapters import base_model
from hf_mixup.models.batches import first_pair
from hf_mixup.models.hooks import hooks_of
from hf_mixup.models.labels import partner_weight
from hf_mixup.models.probe import eval_without_side_effects

MASKS, CLASSES, TASKS, TEXTS = "mask_labels", "class_labels", "task_inputs", "text_inputs"
LEARNS = "the masks of instances"


class InstanceBatch(MixedTargetBatch):
    """A mixed batch of images with masks, for MaskFormer, Mask2Former, OneFormer and EoMT; used as `MixedBatch` is.

    A blended image has the masks of both, each with its own class, weighing lam and 1 - lam in the loss; one that was
    cut has what is left of each mask, which weighs as much as the share of its pixels that is left. The model is given
    them and computes its own loss, with weights. OneFormer compares images with texts, too: a mixed image goes with the
    texts of both samples, by lam and 1 - lam. Its tasks are numbers to the model, and are blended as images are.

    Attributes:
        labels: the batch's own, a list of one dict a sample: `masks` [N, H, W], `class_labels` [N].
        targets: those of the mixed samples, with `weights` [N].
        texts: what is compared with the images, which stays as it is: it is the comparison that is weighed.
    """

    texts: Mapping[str, Any] = {}

    def __init__(
        self,
        context: Context,
        model: nn.Module,
        inputs: dict[str, Any],
        labels: list[Instances],
        draw: Draw,
        inplace: bool,
    ) -> None:
        method = context.method.chosen(draw)
        mixes = bool((draw.lam < 1).any())  # while draws are on the CPU
        alone = [united_instances(each, each, 1.0) for each in labels]
        self.instances = mixed_instances(method, draw, labels) if mixes else alone
        super().__init__(context, model, inputs, inputs["pixel_values"], draw, inplace)
        self.labels = labels  # type: ignore[assignment]

    @classmethod
    def matches(cls, model: nn.Module, batch: Mapping[str, Any]) -> bool:
        """Whether the batch has masks and their classes."""
        return batch.get(MASKS) is not None and batch.get(CLASSES) is not None

    @classmethod
    def build(cls, context: Context, model: nn.Module, batch: Mapping[str, Any], requested: Requested) -> InstanceBatch:
        """Refuse what does not go with masks, try the loss once, and draw; see `MixedBatch.build`.

        Raises:
            ValueError: for a model whose loss takes no weights, a setting or a method that does not go with masks, or
                masks of several sizes.
        """
        labels = [{"masks": masks, "class_labels": classes} for masks, classes in zip(batch[MASKS], batch[CLASSES])]
        refuse_model(model, batch, len(labels))
        refuse_loss_settings(context, model, LEARNS)
        refuse_scattered("masks")
        refuse_for_targets(context.method, model, context.guide is not None, LEARNS)
        if context.config.self_check:
            check_instance_loss_once(model, batch)
        inputs = {key: value for key, value in batch.items() if key not in (MASKS, CLASSES)}
        if isinstance(inputs.get(TASKS), Tensor):
            inputs[TASKS] = inputs[TASKS].to(inputs["pixel_values"].dtype)  # as the model's first layer takes them
        sizes = sorted({tuple(each["masks"].shape[-2:]) for each in labels})
        if len(sizes) > 1:
            raise ValueError(f"{MASKS} of several sizes, {sizes}: pad those of a batch to one size, as the images are")
        maps = torch.zeros((1, 1, 1), dtype=torch.long).expand(len(labels), *sizes[0])  # as large as they are
        texts = {key: inputs.pop(key) for key in (TEXTS,) if key in inputs}
        learnt = {**{key: batch[key] for key in (MASKS, CLASSES)}, **texts}
        draw = context.draw(model, inputs, maps, requested, boxes=True, trial_of=partial(SetTrial, labels=learnt))
        mixed = cls(context, model, inputs, labels, draw, requested.inplace)
        mixed.texts = texts
        return mixed

    @property
    def targets(self) -> Any:
        """The masks of each mixed sample, with their weights."""
        return self.instances

    def __enter__(self) -> InstanceBatch:
        super().__enter__()
        self.inputs = {**self.inputs, **given(self.instances), **self.texts}
        if not self._context.off:  # unmixed ones, too: processes exchange what their masks weigh, whatever each draws
            weigh(self._model, [each["weights"] for each in self.instances])
        if self.rate:
            self._pair_texts()
        return self

    def _pair_texts(self) -> None:
        """Let OneFormer compare each mixed image with the texts of all samples that it shows."""
        criterion = criterion_of(self._model)
        if not hasattr(criterion, "loss_contrastive"):
            return
        further = self._method.further_rows(self.draw)
        shares = [(self.partner, partner_weight(self.lam, further)), *further]

        def loss_contrastive(images: Tensor, texts: Tensor) -> dict[str, Tensor]:
            found = self.lam * _text_loss(criterion, images, texts)
            for rows, share in shares:
                found = found + share * _text_loss(criterion, images, texts[rows])
            return {"loss_contrastive": found.mean()}

        vars(criterion)["loss_contrastive"] = loss_contrastive
        hooks_of(self._model).on_deactivate.append(lambda: vars(criterion).pop("loss_contrastive", None))


def _text_loss(criterion: Any, images: Tensor, texts: Tensor) -> Tensor:
    """Return OneFormer's contrastive loss of each image and its text, float32 [B]: of both directions."""
    images, texts = (F.normalize(each.float().flatten(1), dim=-1) for each in (images, texts))
    logits = criterion.logit_scale.exp().clamp(max=100) * images @ texts.T
    own = torch.arange(len(logits), device=logits.device)
    return sum(F.cross_entropy(each, own, reduction="none") for each in (logits, logits.T))  # type: ignore[return-value]


def given(labels: list[Instances]) -> dict[str, list[Tensor]]:
    """Return masks and classes under the names that models take."""
    return {MASKS: [each["masks"] for each in labels], CLASSES: [each["class_labels"] for each in labels]}


def criterion_of(model: nn.Module) -> Any:
    """Return the module that computes a model's loss of masks, None where there is none."""
    return getattr(base_model(model), "criterion", None)


def refuse_model(model: nn.Module, batch: Mapping[str, Any], samples: int) -> None:
    """Refuse a model whose loss takes no weights, and images that are no rows of the batch.

    Raises:
        ValueError: naming the model.
    """
    from hf_mixup.engine.instance_loss import takes_weights  # brings scipy along, which other batches do without

    name, pixels = type(base_model(model)).__name__, batch.get("pixel_values")
    if not takes_weights(criterion_of(model)):
        raise ValueError(
            f"{name} learns masks by a loss that takes no weights: masks are mixed for MaskFormer, Mask2Former, "
            f"OneFormer and EoMT; the batch holds: {', '.join(batch)}"
        )
    if not isinstance(pixels, Tensor) or pixels.dim() != 4 or len(pixels) != samples:
        found = list(pixels.shape) if isinstance(pixels, Tensor) else None
        raise ValueError(
            f"the batch for {name} has masks of {samples} samples and pixel_values {found}: expected images "
            f"[{samples}, C, H, W], one for each list of masks"
        )


def weigh(model: nn.Module, weights: list[Tensor]) -> None:
    """Let the model's loss weigh each mask, until its hooks are deactivated."""
    from hf_mixup.engine.instance_loss import weigh_criterion

    hooks_of(model).on_deactivate.append(weigh_criterion(criterion_of(model), weights))


def check_instance_loss_once(model: nn.Module, batch: Mapping[str, Any]) -> None:
    """Hold the loss with weights, all 1, against the model's own on two samples, at the first batch.

    Raises:
        ValueError: if the model has no loss.
        RuntimeError: if they differ.
    """
    checked, name = hooks_of(model).checked, type(base_model(model)).__name__
    if "instances" in checked:
        return
    rows = first_pair(batch)
    with eval_without_side_effects(model):
        try:
            torch.manual_seed(0)  # both are to look at the same points
            own = model(**rows)["loss"]
        except NotImplementedError as error:
            raise ValueError(f"{name} has no loss to train on: {error}") from error
        weigh(model, [torch.ones(len(each), device=each.device) for each in rows[CLASSES]])
        torch.manual_seed(0)
        ours = model(**rows)["loss"]
    if not abs(float(own) - float(ours)) <= 1e-3 * abs(float(own)) + 1e-4:
        raise RuntimeError(
            f"the loss of {name} on two samples is {float(own):.6g}, and {float(ours):.6g} with weights that are all "
            "1: this release of transformers computes it otherwise. Train it without mixing"
        )
    checked.add("instances")
