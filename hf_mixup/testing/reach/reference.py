"""What the loss of a mixed batch has to be: from plain passes of the model alone, without the engine's own word."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from hf_mixup.testing.exchange import brief, is_refusal
from hf_mixup.testing.layouts.fitting import loss_of
from hf_mixup.testing.layouts.targets import TARGETS

Batch = dict[str, Any]
Settings = dict[str, Any]
SHARE = 0.3  # lam between the ends
CLOSE = 2e-5  # of a loss: rounding
APART = 10  # how much further apart, in units of rounding, the losses have to be for a verdict
EXACT = "exact"


def pick(value: Any, which: Tensor, samples: int) -> Any:
    """Return the content of some of a batch's samples, in their order.

    Samples lie along the first axis, as equal shares of it (the patches of all samples in one tensor), or beside each
    other in one image.

    >>> pick(torch.arange(4), torch.tensor([1, 0]), samples=2)
    tensor([2, 3, 0, 1])
    >>> pick(["a", "b"], torch.tensor([1, 1]), samples=2)
    ['b', 'b']
    """
    if isinstance(value, list):
        return [value[each] for each in which.tolist()]
    if not isinstance(value, Tensor) or not value.dim():
        return value
    if len(value) % samples == 0:
        return value.unflatten(0, (samples, -1))[which].flatten(0, 1)
    if len(value) == 1 and value.shape[-1] % samples == 0:
        return value.unflatten(-1, (samples, -1)).index_select(-2, which).flatten(-2)
    return value


@dataclass
class Reference:
    """A model and its batch, and the losses that a mixed batch must have.

    Args:
        model: a tiny model in evaluation mode.
        batch: its batch, labels included.
        samples: number of samples B.
        pairs: whether the loss compares the samples of a batch with each other, whose order it then does not tell.
    """

    model: nn.Module
    batch: Batch
    samples: int
    pairs: bool = False

    @cached_property
    def partner(self) -> Tensor:
        """The partners, long [B]: no permutation where the order of the samples says nothing."""
        numbers = torch.arange(self.samples)
        return numbers.roll(1) if self.pairs else numbers % 2 ^ 1

    @cached_property
    def own(self) -> float:
        """The loss of the batch."""
        return self._loss(self.batch)

    @cached_property
    def partners(self) -> float:
        """The loss of the partners."""
        return self._loss(self._swapped(*self.batch))

    @property
    def tells(self) -> bool:
        """Whether the partners' loss is another than the samples' own."""
        return self.pairs or not self._near(self.own, self.partners, APART)

    @cached_property
    def blind(self) -> list[str]:
        """The inputs that may be swapped alone without a change: of these the verdicts say nothing."""
        inputs = [key for key, value in self.batch.items() if key not in TARGETS and self._differs(value)]
        return [key for key in inputs if self._near(self._loss(self._swapped(key)), self.own)]

    @cached_property
    def alike(self) -> Batch | None:
        """The batch with the first sample's inputs everywhere, and the labels of each: blending changes no input.

        None where labels are sets of objects (their mixture is a union, in which the loss is not linear) or missing.
        """
        labels = {key: value for key, value in self.batch.items() if key in TARGETS}
        if self.pairs or not labels or not all(isinstance(value, Tensor) for value in labels.values()):
            return None
        first = torch.zeros_like(self.partner)
        inputs = {key: pick(value, first, self.samples) for key, value in self.batch.items() if key not in TARGETS}
        if self._derives:
            answer = labels["labels"].clamp(min=0)
            inputs["decoder_input_ids"] = answer[first].roll(1, 1)  # else it would follow the labels
        return {**inputs, **labels}

    @property
    def _derives(self) -> bool:
        """Whether the model makes its decoder's inputs of the labels."""
        labels, takes = self.batch.get("labels"), inspect.signature(self.model.forward).parameters
        tokens = isinstance(labels, Tensor) and labels.dim() == 2 and not labels.is_floating_point()
        decodes = getattr(self.model.config, "is_encoder_decoder", False) and "decoder_input_ids" in takes
        return tokens and decodes and "decoder_input_ids" not in self.batch

    @cached_property
    def between(self) -> list[float]:
        """The losses that `alike` may have: those of both labels weighted by `SHARE`, and that of a blended number."""
        if self.alike is None:
            return []
        swapped = {key: pick(v, self.partner, self.samples) if key in TARGETS else v for key, v in self.alike.items()}
        found = [SHARE * self._loss(self.alike) + (1 - SHARE) * self._loss(swapped)]
        numbers = [key for key in swapped if key in TARGETS and swapped[key].is_floating_point()]
        if numbers:
            blended = {key: SHARE * self.alike[key] + (1 - SHARE) * swapped[key] for key in numbers}
            found.append(self._loss({**self.alike, **blended}))
        return found

    def judge(self, settings: Settings) -> str:
        """Return the verdict on a method: "exact", "refused: why", "wrong: how" or "crash: why"."""
        from hf_mixup import Mixup

        try:
            mixup = Mixup(settings)
            self._mixed(mixup, self.batch, 1.0)  # what is examined before the first step draws numbers of its own
            ends = {1.0: self.own, 0.0: self.partners}
            misses = [
                f"lam = {lam:g} gives {found:.5g}, not {expected:.5g}"
                for lam, expected in ends.items()
                if not self._near(found := self._mixed(mixup, self.batch, lam), expected)
            ]
            found = self._mixed(mixup, self.batch if self.alike is None else self.alike, SHARE)
        except TimeoutError:
            raise
        except Exception as error:  # noqa: BLE001 - a survey reports all
            return f"{'refused' if is_refusal(error) else 'crash'}: {brief(error)}"
        if self.alike is None and found != found:
            misses.append(f"lam = {SHARE} gives no finite loss")
        if self.between and not any(self._near(found, expected) for expected in self.between):
            misses.append(f"lam = {SHARE} weighs labels to {found:.5g}, not {self.between[0]:.5g}")
        return f"wrong: {', '.join(misses)}" if misses else EXACT

    def _mixed(self, mixup: Any, batch: Batch, lam: float) -> float:
        torch.manual_seed(0)
        with torch.no_grad(), mixup(self.model, batch, partner=self.partner, lam=lam) as mixed:
            return float(mixed.loss(mixed.forward(self.model)))

    def _loss(self, batch: Mapping[str, Any]) -> float:
        torch.manual_seed(0)
        with torch.no_grad():
            return float(loss_of(self.model(**batch)))  # type: ignore[arg-type]

    def _swapped(self, *keys: str) -> Batch:
        return {k: pick(v, self.partner, self.samples) if k in keys else v for k, v in self.batch.items()}

    def _differs(self, value: Any) -> bool:
        """Whether the samples differ in this input."""
        swapped = pick(value, self.partner, self.samples)
        return isinstance(value, Tensor) and not torch.equal(swapped, value)

    def _near(self, found: float, expected: float, times: float = 1) -> bool:
        return abs(found - expected) <= times * CLOSE * max(1.0, abs(expected))
