"""The straight line: draw -> apply -> forward -> loss. All doors walk it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from hf_mixup.config import MixupConfig
from hf_mixup.losses import loss_items, mixed_loss_sum
from hf_mixup.methods import METHODS, Method, Params
from hf_mixup.methods.base import Request
from hf_mixup.schedule import Clock
from hf_mixup.sites.check import check_exchange_once
from hf_mixup.sites.hooks import sites_of
from hf_mixup.targets import ProblemType, check_labels, dense_targets, problem_type

LABELS = "labels"
ITEMS = "num_items_in_batch"


class Mixup:
    """Mix batches in a hand-written loop; the engine behind the other doors.

    Args:
        config: a `MixupConfig`, a method's name, or a mapping of settings.
        total_steps: optimizer steps of the whole run; needed only for a schedule, with `set_step`.

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

    def __init__(self, config: MixupConfig | str | dict[str, Any] = "mixup", total_steps: int | None = None) -> None:
        self.config = replace(MixupConfig.from_any(config))  # a copy: a Trainer may add its label smoothing
        self.method: Method = METHODS[self.config.method](self.config)
        self.clock = Clock(seed=self.config.draw_seed or 0, total_steps=total_steps)
        weights = self.config.class_weights
        self.class_weights = None if weights is None else torch.tensor(weights)

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
            batch: model inputs and `labels`.
            partner: long [B], row i is blended with row partner[i]; drawn if None.
            lam: scalar or [B] in [0, 1], weight of the own row; drawn if None.
            inplace: write into the batch's own tensors. Only for batches that nobody else holds.

        Raises:
            ValueError: for a batch without labels, with labels outside the classes, or with nothing to mix.
            TypeError: for integer tensors where the method blends floats.
        """
        inner = unwrap(model)
        inputs = {key: value for key, value in batch.items() if key != LABELS}
        labels = _labels_of(batch, inner)
        config = getattr(inner, "config", None)
        kind = problem_type(config, labels)
        if labels.device.type == "cpu":  # elsewhere it would stall the device; the collator has checked
            check_labels(labels, getattr(config, "num_labels", None), kind)
        params = self._draw(inner, inputs, labels, partner, lam)
        return MixedBatch(self, inner, inputs, labels, kind, params, inplace)

    def _draw(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        labels: Tensor,
        partner: Tensor | None,
        lam: Tensor | float | None,
    ) -> Params:
        rows, prob = len(labels), self.clock.prob(self.config)
        request = Request(
            model=model,
            batch=inputs,
            labels=labels,
            prob=prob,
            rng=self.clock.tick(),
            partner=_given_partner(partner, rows),
            lam=_given_lam(lam, rows),
        )
        return self.method.draw(request)

    def prepare(self, model: nn.Module) -> None:
        """Install the hooks a method needs before the model is compiled or wrapped."""
        self.method.prepare(unwrap(model))

    def set_step(self, step: int) -> None:
        """Tell a hand-written loop's optimizer step, for schedules."""
        self.clock.step, self.clock.micro = step, 0

    def state_dict(self) -> dict[str, Any]:
        """Return where the draws stand, for `accelerator.register_for_checkpointing`."""
        return self.clock.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the draws where a saved run stopped."""
        self.clock.load_state_dict(state)

    def count_items(self, labels: Tensor, kind: ProblemType, classes: int) -> Tensor:
        """Return what the summed loss of these labels is divided by."""
        return loss_items(labels, kind, self.class_weights, classes if self.config.loss == "bce" else None)


class MixedBatch:
    """One mixed batch: enter it, run the model on `inputs`, take the `loss`.

    Attributes:
        inputs: what the model is given; no labels, so that it computes no loss of its own.
        lam: float32 [B], weight of the own row's label.
        partner: long [B].
        mean_lam: mean of lam over the rows.
        rate: share of the rows that are blended; 0 where the coin of `prob` or the schedule left the batch alone.
        params: everything that was drawn.
        labels: the batch's own labels, untouched.
    """

    def __init__(
        self,
        mixup: Mixup,
        model: nn.Module,
        inputs: dict[str, Any],
        labels: Tensor,
        kind: ProblemType,
        params: Params,
        inplace: bool,
    ) -> None:
        self.inputs, self.labels, self.kind = inputs, labels, kind
        drawn = params.lam.tolist()  # read while the parameters are on the CPU, where nobody has to wait for them
        self.mean_lam, self.rate = sum(drawn) / len(drawn), sum(lam < 1 for lam in drawn) / len(drawn)
        self.params = params.to(labels.device)
        self.lam, self.partner = self.params.lam, self.params.partner
        self._mixup, self._model, self._inplace = mixup, model, inplace
        self._logits: Tensor | None = None

    def __enter__(self) -> MixedBatch:
        if self.rate:
            method = self._mixup.method.chosen(self.params)
            if method.enters_model:
                check_exchange_once(self._model, method, self.inputs, self.params.layer)
            self.inputs = method.apply(self._model, self.inputs, self.params, self._inplace)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        sites_of(self._model).disarm()

    @property
    def classes(self) -> int:
        """Number of classes: the model's, or the number of logits once there are any."""
        declared = getattr(getattr(self._model, "config", None), "num_labels", None)
        if self._logits is not None:
            return self._logits.shape[-1]
        if declared is None:
            raise ValueError(f"{type(self._model).__name__} does not say num_labels: run it and take the loss first")
        return declared

    @property
    def targets(self) -> Tensor:
        """Dense float32 targets: [B, C], or the shape of the labels for regression."""
        return dense_targets(
            self.labels, self.partner, self.lam, self.classes, self.kind, self._mixup.config.label_smoothing
        )

    def loss(self, outputs: Any, num_items_in_batch: Tensor | int | None = None) -> Tensor:
        """Return the loss of the mixed batch, a 0-d tensor.

        Args:
            outputs: what the model returned: a `ModelOutput`, a mapping with `logits`, a tuple, or the logits.
            num_items_in_batch: divisor of the summed loss over all micro-batches and processes of an optimizer step;
                this batch's own count if None, which gives the mean.

        Raises:
            RuntimeError: if the model never passed the site where it should have blended.
        """
        self._refuse_unmixed()
        config = self._mixup.config
        self._logits = logits = logits_of(outputs)
        weights = self._mixup.class_weights
        total = mixed_loss_sum(
            logits,
            self.labels,
            self.partner,
            self.lam,
            self.kind,
            smoothing=config.label_smoothing,
            class_weights=None if weights is None else weights.to(logits.device),
            bce=config.loss == "bce",
        )
        if num_items_in_batch is None:
            num_items_in_batch = self._mixup.count_items(self.labels, self.kind, self.classes).clamp(min=1e-12)
        return total / num_items_in_batch

    def accuracy(self) -> Tensor | None:
        """Return the share of the targets' mass on the predicted class, 0-d; None before the loss or elsewhere.

        A prediction of the own label counts lam, one of the partner's label 1 - lam.
        """
        if self._logits is None or self.kind != "single_label_classification":
            return None
        predicted = self._logits.detach().argmax(-1)
        own, other = (predicted == self.labels).float(), (predicted == self.labels[self.partner]).float()
        return torch.lerp(other, own, self.lam).mean()

    def _refuse_unmixed(self) -> None:
        for site in sites_of(self._model).armed:
            if site.partner is self.partner and site.calls == 0:
                raise RuntimeError(
                    f"{type(self._model).__name__} did not pass the place where method {self.params.method!r} mixes. "
                    "Run it on `mixed.inputs` inside the context before taking the loss; if it was compiled, "
                    "call `Mixup.prepare(model)` before its first forward pass"
                )


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


def logits_of(outputs: Any) -> Tensor:
    """Return the logits of a model's output.

    Raises:
        ValueError: if there are none.
    """
    if isinstance(outputs, Tensor):
        return outputs
    if isinstance(outputs, Mapping) and isinstance(outputs.get("logits"), Tensor):
        return outputs["logits"]
    if isinstance(outputs, tuple) and outputs and isinstance(outputs[0], Tensor):
        return outputs[0]
    raise ValueError(f"the model returned {type(outputs).__name__} without logits: mixing needs a classification head")


def _labels_of(batch: Mapping[str, Any], model: nn.Module) -> Tensor:
    labels = batch.get(LABELS)
    if not isinstance(labels, Tensor):
        raise ValueError(
            f"the batch for {type(model).__name__} has no tensor 'labels' to mix; "
            f"it holds: {', '.join(batch) or 'nothing'}"
        )
    if labels.dim() == 0 or len(labels) == 0:
        raise ValueError(f"labels of shape {list(labels.shape)}: the batch has no rows")
    return labels


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
