"""One mixed batch: what every kind of them shares, and the batch of a model with labels."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from hf_mixup.losses import mixed_loss_sum
from hf_mixup.methods import Method, Params
from hf_mixup.sites.check import check_exchange_once
from hf_mixup.sites.hooks import sites_of
from hf_mixup.targets import ProblemType, dense_targets

if TYPE_CHECKING:
    from hf_mixup.engine import Mixup


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
        params: Params,
        inplace: bool,
    ) -> None:
        self.inputs, self.labels = inputs, labels
        drawn = params.lam.tolist()  # read while the parameters are on the CPU, where nobody has to wait for them
        self.mean_lam, self.rate = sum(drawn) / len(drawn), sum(lam < 1 for lam in drawn) / len(drawn)
        self.params = params.to(labels.device)
        self.lam, self.partner = self.params.lam, self.params.partner
        self._mixup, self._model, self._inplace = mixup, model, inplace
        self._logits: Tensor | None = None

    def __enter__(self) -> MixedBatch:
        sites_of(self._model).forget()
        self._look_first()
        if self.rate:
            self.inputs = self._method.apply(self._model, self.inputs, self.params, self._inplace)
        return self

    @property
    def _method(self) -> Method:
        return self._mixup.method.chosen(self.params)

    def _look_first(self) -> None:
        """Try the method on the model before it is trusted."""
        if self.rate and self._method.enters_model:
            check_exchange_once(self._model, self._method, self.inputs, self.params.layer)

    def forward(self, model: nn.Module) -> Any:
        """Run the model (wrapped or not) on the mixed inputs."""
        return model(**self.inputs)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        sites_of(self._model).disarm()

    def _refuse_unmixed(self) -> None:
        for site in sites_of(self._model).armed:
            if site.partner is self.partner and site.calls == 0:
                raise RuntimeError(
                    f"{type(self._model).__name__} did not pass the place where method {self.params.method!r} mixes. "
                    "Run it on `mixed.inputs` inside the context before taking the loss; if it was compiled, call "
                    "`Mixup.prepare(model)`, or mix a first batch, before it is run unmixed"
                )

    @property
    def targets(self) -> Tensor:
        """Dense float32 targets of the mixed rows."""
        raise NotImplementedError

    def loss(self, outputs: Any, num_items_in_batch: Tensor | int | None = None) -> Tensor:
        """Return the loss of the mixed batch, a 0-d tensor."""
        raise NotImplementedError

    def accuracy(self) -> Tensor | None:
        """Return how much of the targets' mass the model found, 0-d; None before the loss."""
        raise NotImplementedError


class LabelBatch(MixedBatch):
    """A mixed batch whose rows have labels: classification and regression."""

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
        super().__init__(mixup, model, inputs, labels, params, inplace)
        self.kind = kind

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
