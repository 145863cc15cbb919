"""What mixing did since the last log, and whether the model learns from it; no step waits for either."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any
from weakref import finalize, ref

import torch
from torch import Tensor, nn
from torch.optim.optimizer import Optimizer

from hf_mixup.engine.optimizer_steps import listen


class MixStats:
    """Running sums over batches: lam, share of samples mixed, accuracy on the mixed labels."""

    def __init__(self) -> None:
        self.mixed = 0.0  # batches of the whole run by the share of their samples that was blended
        self._reset()

    def _reset(self) -> None:
        self._batches, self._rate, self._rated = 0, 0.0, 0
        self._lam: float | Tensor = 0.0
        self._accuracy: Tensor | None = None
        self._items: Tensor | None = None

    def add(
        self, mean_lam: float | Tensor, rate: float, accuracy: Tensor | None = None, items: Tensor | None = None
    ) -> None:
        """Count one batch whose loss has been taken.

        Args:
            mean_lam: mean of lam over its samples.
            rate: share of its samples that are mixed.
            accuracy: share of its targets' mass that the model found, 0-d.
            items: what its summed loss is divided by, 0-d.
        """
        self._batches += 1
        self.mixed += rate
        self._lam += mean_lam
        self._rate += rate
        if accuracy is not None:
            self._rated += 1
            self._accuracy = accuracy if self._accuracy is None else self._accuracy + accuracy
        if items is not None:
            self._items = items.detach().float() if self._items is None else self._items + items.detach()

    def pop(
        self, device: torch.device | str = "cpu", reduce: Callable[[Tensor], Tensor] = lambda sums: sums
    ) -> dict[str, float]:
        """Return the means since the last call as `mixup_lam`, `mixup_rate`, `mixup_accuracy`, and start anew.

        Args:
            device: where `reduce` wants the sums.
            reduce: adds the sums over processes.
        """
        accuracy = 0.0 if self._accuracy is None else self._accuracy.item()
        items = 1.0 if self._items is None else self._items.item()
        sums = torch.tensor([self._batches, float(self._lam), self._rate, self._rated, accuracy, items], device=device)
        self._reset()
        batches, lam, rate, rated, accuracy, items = reduce(sums).tolist()
        if not batches:
            return {}
        if not items:
            warnings.warn(
                "no label since the last log counts: all are ignored (-100), or of classes whose class_weights are 0; "
                "nothing is learnt from them",
                UserWarning,
                stacklevel=2,
            )
        logs = {"mixup_lam": lam / batches, "mixup_rate": rate / batches}
        return {**logs, "mixup_accuracy": accuracy / rated} if rated else logs


class Watch:
    """Whether a model learns from the losses of mixed batches, or from something else.

    Counts, since the last step of the optimizer, the batches that were drawn, the losses that were taken of them, and
    how many of these a gradient reached. Batches drawn in evaluation mode or without gradients do not count.

    >>> watch, model = Watch(), nn.Linear(1, 1)
    >>> watch.draw(model)
    >>> loss = watch.follow(model(torch.ones(1)).sum())
    >>> loss.backward()
    >>> watch.drawn, watch.taken, watch.reached
    (1, 1, 1)
    """

    def __init__(self) -> None:
        self._weight: tuple[int, int] | None = None
        self._trained: tuple[ref[nn.Module], ref[nn.Parameter]] | None = None
        self._heard: finalize[Any, Watch] | None = None
        self._stepped = False
        self.reset()

    def __reduce__(self) -> tuple[type[Watch], tuple[()]]:
        return Watch, ()  # a copy is for another run

    def reset(self) -> None:
        """Begin to count anew."""
        self.drawn = self.taken = self.reached = 0

    @property
    def unused(self) -> bool:
        """Whether losses were taken, and a gradient reached none of them."""
        return self.taken > 0 and not self.reached

    def draw(self, model: nn.Module) -> None:
        """Count a batch that is drawn for a pass with gradients.

        Raises:
            RuntimeError: if weights have changed since the last one, and no gradient had reached its loss.
        """
        if not model.training or not torch.is_grad_enabled():
            return
        trained = self._trained_weight(model)
        weight = None if trained is None else (id(trained), trained._version)
        if self._heard is None:
            self._heard = listen(self)
        if self._weight is not None and (weight != self._weight or self._stepped):
            if self.unused and weight is not None and weight[0] == self._weight[0]:
                raise RuntimeError(
                    f"{type(model).__name__} was updated, but no gradient reached the loss of the batch that was mixed "
                    "for it: its inputs were blended, and the loss in use does not see the blended labels. Call "
                    "backward on the mixed loss (`mixed.loss(outputs)`; `outputs.loss` of a model with hooks)"
                )
            self.reset()
        self._weight, self._stepped = weight, False
        self.drawn += 1

    def stepped(self, optimizer: Optimizer) -> None:
        """Take notice of a step of an optimizer: the version of a weight does not tell of a fused one."""
        trained = None if self._trained is None else self._trained[1]()
        if trained is not None and trained.grad is not None:
            self._stepped |= any(each is trained for group in optimizer.param_groups for each in group["params"])

    def _trained_weight(self, model: nn.Module) -> nn.Parameter | None:
        """Return a weight of the model that training changes: the first, looked for once."""
        if self._trained is not None:
            owner, held = self._trained[0](), self._trained[1]()
            if owner is model and held is not None and held.requires_grad:
                return held
        weights = (each for each in model.parameters() if each.requires_grad and each.numel() > 1)  # no clamped scale
        found = next(weights, None)
        self._trained = None if found is None else (ref(model), ref(found))
        return found

    def follow(self, loss: Tensor) -> Tensor:
        """Return the loss of a mixed batch; from now on it is known whether a gradient reaches it."""
        if loss.requires_grad:
            self.taken += 1
            loss.register_hook(self._reach)
        return loss

    def _reach(self, gradient: Tensor) -> None:
        self.reached += 1
