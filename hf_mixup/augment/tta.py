"""Test-time augmentation: a trained model's scores, averaged over several views of each sample."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.utils import ModelOutput

from hf_mixup.functional.blending import at_least_float32, expand_like
from hf_mixup.models.inputs import model_inputs
from hf_mixup.models.labels import LABELS, Labels, read_labels
from hf_mixup.models.losses import loss_items, mixed_loss_sum
from hf_mixup.models.outputs import logits_of
from hf_mixup.models.probe import pad_of

from .pixels import functional

Average = Literal["logits", "probabilities", "log_probabilities"]
Change = Callable[[nn.Module, dict[str, Any]], dict[str, Any]]
"""(the model, its inputs) -> the inputs of a view, without touching those given."""
PIXELS, IDS, MASK = "pixel_values", "input_ids", "attention_mask"
MULTI_LABEL, REGRESSION = "multi_label_classification", "regression"


@dataclass(frozen=True)
class View:
    """One way to look at a batch.

    Args:
        name: how errors call it.
        change: makes its inputs; None for the batch as it is.
        dropout: seed of a pass with dropout, None for a pass without.

    >>> brighter = View("brighter", lambda model, inputs: {**inputs, "pixel_values": inputs["pixel_values"] + 0.1})
    >>> brighter.change(None, {"pixel_values": torch.zeros(1)})["pixel_values"]
    tensor([0.1000])
    """

    name: str
    change: Change | None = None
    dropout: int | None = None


class TestTimeAugmentation(nn.Module):
    """Run a trained model on several views of a batch, one after the other, and average what it scores.

    A Trainer evaluates and predicts with it as with any model; its dataset needs the columns that the model reads, and
    `TrainingArguments(remove_unused_columns=False)`. Memory is that of one view and of two tensors of scores.

    Args:
        model: any model with a head that scores.
        views: e.g. `[identity(), flip(), *five_crops(0.9)]`, or `[identity(), *dropout_passes(8)]`.
        average: "probabilities" gives the logarithm of the mean probability (arithmetic mean). "log_probabilities"
            (geometric mean, normalised) and "logits" lead to the same probabilities as each other; "logits" keeps the
            scale of the model's own. A regression's outputs are averaged as they are.

    It returns a `ModelOutput` with `logits` in float32 at least, whose softmax (sigmoid, where each class is scored by
    itself) is the average; and, given `labels`, the `loss` of these. Of a single view the logits are the model's own.
    Batch normalisation, the random state and every module's mode stay as they were.

    Raises:
        ValueError: without views; for labels or logits that fit no average.
        RuntimeError: in training mode.

    Source: Krizhevsky et al. 2012, "ImageNet Classification with Deep Convolutional Neural Networks", section 4.1
    (crops and mirrors, probabilities averaged); Gal and Ghahramani 2016, "Dropout as a Bayesian Approximation", arXiv
    1506.02142, equation 6 (passes with dropout).

    >>> from transformers import ResNetConfig, ResNetForImageClassification
    >>> model = ResNetForImageClassification(ResNetConfig(num_labels=3, hidden_sizes=[8], depths=[1], embedding_size=8))
    >>> predictor = TestTimeAugmentation(model, [identity(), flip()]).eval()
    >>> predictor(pixel_values=torch.rand(2, 3, 16, 16)).logits.exp().sum(-1).round(decimals=4)
    tensor([1., 1.])
    """

    __test__: ClassVar[bool] = False  # pytest must not collect it
    accepts_loss_kwargs = False  # so that a Trainer does not pass num_items_in_batch

    def __init__(self, model: nn.Module, views: Sequence[View], average: Average = "probabilities") -> None:
        super().__init__()
        if not views:
            raise ValueError("views=[] leaves nothing to average: name some, e.g. [identity(), flip()]")
        if average not in ("logits", "probabilities", "log_probabilities"):
            raise ValueError(f"average={average!r}: expected 'logits', 'probabilities' or 'log_probabilities'")
        self.model, self.views, self.average = model, list(views), average
        self.config: Any = getattr(model, "config", None)
        self.training = model.training

    @torch.no_grad()
    def forward(self, labels: Tensor | None = None, **inputs: Any) -> ModelOutput:
        """Return the averaged `logits`, after the `loss` if there are labels (as the model takes them)."""
        if self.training or self.model.training:
            raise RuntimeError("test-time augmentation is for evaluation: call eval(), and train the model itself")
        if not inputs:
            raise ValueError(
                "no inputs reached the model: a Trainer removes the columns that its forward does not name, unless "
                "TrainingArguments(remove_unused_columns=False)"
            )
        read = None
        if labels is not None:
            batch = {**inputs, LABELS: labels}
            read = read_labels(self.model, batch)
            inputs = model_inputs(self.model, batch, read)
        problem_type = self._problem_type(read)
        average: Average = "logits" if problem_type == REGRESSION else self.average
        scores = self._scores(inputs, average, problem_type == MULTI_LABEL)
        return ModelOutput(logits=scores) if read is None else ModelOutput(loss=_loss(scores, read), logits=scores)

    def _problem_type(self, read: Labels | None) -> str | None:
        """Return the problem type: by the labels, or as the model's configuration tells."""
        if read is not None:
            return read.kind
        declared = getattr(self.config, "problem_type", None)
        return REGRESSION if declared is None and getattr(self.config, "num_labels", None) == 1 else declared

    def _scores(self, inputs: dict[str, Any], average: Average, each_class: bool) -> Tensor:
        if len(self.views) == 1:
            return self._logits(self.views[0], inputs)
        mean = _spread(self._logits(self.views[0], inputs), average, each_class)
        for count, view in enumerate(self.views[1:], start=2):
            logits = self._logits(view, inputs)
            own = _spread(logits, average, each_class)
            if own.shape != mean.shape:
                raise ValueError(
                    f"view {view.name!r} gives logits {list(logits.shape)}, unlike the views before it: views that "
                    "change the number of positions go with one label a sample"
                )
            if average == "probabilities":
                mean = torch.logaddexp(mean + math.log1p(-1 / count), own - math.log(count))
            else:
                mean = torch.where(own == mean, mean, mean + (own - mean) / count)  # -inf - -inf would be NaN
        return _gathered(mean, average, each_class)

    def _logits(self, view: View, inputs: dict[str, Any]) -> Tensor:
        seen = inputs if view.change is None else view.change(self.model, dict(inputs))
        with _dropping(self.model, view):
            logits = logits_of(self.model(**seen))
        if view.change is not None and logits.dim() > 2:
            raise ValueError(
                f"view {view.name!r} moves positions, and the model scores each one (logits {list(logits.shape)}): "
                "use views that leave the inputs as they are, as dropout_passes does"
            )
        return logits


def _spread(logits: Tensor, average: Average, each_class: bool) -> Tensor:
    """Return what is averaged: logits, log-probabilities [..., C], or those of yes and no [2, ..., C]."""
    logits = at_least_float32(logits)
    if average == "logits" or (each_class and average == "log_probabilities"):
        return logits  # the geometric mean of yes and no, normalised, has the mean logit
    if each_class:
        return torch.stack([F.logsigmoid(logits), F.logsigmoid(-logits)])
    return logits.log_softmax(-1)


def _gathered(mean: Tensor, average: Average, each_class: bool) -> Tensor:
    """Return the logits of what was averaged."""
    if average == "logits" or (each_class and average == "log_probabilities"):
        return mean
    return mean[0] - mean[1] if each_class else mean.log_softmax(-1)


def _loss(scores: Tensor, read: Labels) -> Tensor:
    """Return the mean loss of the averaged scores, as the problem type has it."""
    ones = torch.ones(len(read.values), device=scores.device)
    return mixed_loss_sum(scores, read.values, read.values, ones, read.kind) / loss_items(read.values, read.kind)


@contextmanager
def _dropping(model: nn.Module, view: View) -> Iterator[None]:
    """Let the model's dropout layers drop by the view's seed; random state and modes are as they were afterwards."""
    if view.dropout is None:
        yield
        return
    layers = [module for module in model.modules() if "Dropout" in type(module).__name__ and _drops(module)]
    if not layers:
        raise ValueError(f"{type(model).__name__} has no dropout layer that drops: {view.name!r} would change nothing")
    devices = sorted({p.device.index for p in model.parameters() if p.device.type == "cuda"})
    modes = [module.training for module in layers]
    with torch.random.fork_rng(devices):
        torch.random.default_generator.manual_seed(view.dropout)
        for device in devices:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(view.dropout)
        try:
            for module in layers:
                module.training = True
            yield
        finally:
            for module, mode in zip(layers, modes, strict=True):
                module.training = mode


def _drops(module: nn.Module) -> bool:
    return any(bool(getattr(module, name, 0)) for name in ("p", "drop_prob"))


def identity() -> View:
    """Return the view of a batch as it is.

    >>> identity()
    View(name='identity', change=None, dropout=None)
    """
    return View("identity")


def dropout_passes(passes: int, seed: int = 0) -> list[View]:
    """Return views with dropout on (Monte-Carlo dropout), each with masks of its own, the same for every batch.

    Dropout layers only: what a model drops within attention, by a number instead of a layer, stays off.

    Raises:
        ValueError: for no pass.

    Source: Gal and Ghahramani 2016, arXiv 1506.02142, equation 6.

    >>> [view.name for view in dropout_passes(2)]
    ['dropout 0', 'dropout 1']
    """
    if passes < 1:
        raise ValueError(f"passes={passes}: expected a whole number from 1 on")
    return [View(f"dropout {number}", dropout=seed + number) for number in range(passes)]


def flip() -> View:
    """Return the view of images mirrored left to right.

    >>> flip().change(None, {"pixel_values": torch.tensor([[[[1, 2, 3]]]])})["pixel_values"]
    tensor([[[[3, 2, 1]]]])
    """
    return View("flip", _on_pixels(lambda pixels: functional().horizontal_flip(pixels)))


def five_crops(share: float = 0.875) -> list[View]:
    """Return views of the four corners and the centre, each resized to the image's size.

    Args:
        share: of the image's sides that a crop has, in (0, 1]; 1 leaves the image as it is.

    Raises:
        ValueError: for a share out of range.

    Source: Krizhevsky et al. 2012, section 4.1 (there 224 of 256 pixels).

    >>> [view.name for view in five_crops(0.9)]
    ['top left', 'top right', 'bottom left', 'bottom right', 'centre']
    """
    if not 0 < share <= 1:
        raise ValueError(f"share={share}: expected a number in (0, 1]")

    def crop(corner: int, pixels: Tensor) -> Tensor:
        size = list(pixels.shape[-2:])
        sides = [max(1, round(share * side)) for side in size]
        cut = functional().five_crop(pixels, sides)[corner]
        return cut if sides == size else _resize(cut, size)

    names = ("top left", "top right", "bottom left", "bottom right", "centre")
    return [View(name, _on_pixels(partial(crop, at))) for at, name in enumerate(names)]


def scale(factor: float) -> View:
    """Return the view of images resized by a factor above 0, for models that take images of any size.

    Raises:
        ValueError: for a factor out of range.

    >>> scale(1.5).change(None, {"pixel_values": torch.zeros(2, 3, 8, 8)})["pixel_values"].shape
    torch.Size([2, 3, 12, 12])
    """
    if not 0 < factor < math.inf:
        raise ValueError(f"factor={factor}: expected a number above 0")

    def resize(pixels: Tensor) -> Tensor:
        size = [max(1, round(factor * side)) for side in pixels.shape[-2:]]
        return pixels if size == list(pixels.shape[-2:]) else _resize(pixels, size)

    return View(f"scale {factor:g}", _on_pixels(resize))


def head(length: int) -> View:
    """Return the view of texts cut to their first tokens: those, and each sample's last one (often a separator).

    Args:
        length: tokens that a sample keeps at most, from 2 on. Shorter samples stay as they are.

    Raises:
        ValueError: for a length below 2.

    >>> from hf_mixup.testing.build import build
    >>> model = build("sequence-classification", "bert")
    >>> head(3).change(model, {"input_ids": torch.tensor([[2, 10, 11, 12, 3]])})["input_ids"].tolist()
    [[2, 10, 3]]
    """
    return View(f"head {length}", _truncation(length, lambda at, count: (at < length - 1) | (at == count - 1)))


def tail(length: int) -> View:
    """Return the view of texts cut to their last tokens: those, and each sample's first one. Otherwise as `head`.

    >>> from hf_mixup.testing.build import build
    >>> model = build("sequence-classification", "bert")
    >>> tail(3).change(model, {"input_ids": torch.tensor([[2, 10, 11, 12, 3]])})["input_ids"].tolist()
    [[2, 12, 3]]
    """
    return View(f"tail {length}", _truncation(length, lambda at, count: (at == 0) | (at > count - length)))


def _on_pixels(change: Callable[[Tensor], Tensor]) -> Change:
    def changed(model: nn.Module, inputs: dict[str, Any]) -> dict[str, Any]:
        pixels = inputs.get(PIXELS)
        if not isinstance(pixels, Tensor) or pixels.dim() != 4 or "pixel_mask" in inputs:
            held = ", ".join(inputs)
            raise ValueError(f"views of images need {PIXELS} [B, C, H, W] without a pixel_mask; the batch has {held}")
        return {**inputs, PIXELS: change(pixels)}

    return changed


def _resize(pixels: Tensor, size: list[int]) -> Tensor:
    return functional().resize(pixels, size, antialias=True)


def _truncation(length: int, keeps: Callable[[Tensor, Tensor], Tensor]) -> Change:
    """Return the change that keeps tokens by their position among a sample's `count` visible ones."""
    if length < 2:
        raise ValueError(f"length={length}: expected a whole number of tokens from 2 on")

    def changed(model: nn.Module, inputs: dict[str, Any]) -> dict[str, Any]:
        ids = inputs.get(IDS)
        if not isinstance(ids, Tensor) or ids.dim() != 2:
            raise ValueError(f"views of texts need {IDS} [B, T]; the batch has {', '.join(inputs)}")
        mask = inputs.get(MASK)
        seen = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask.bool()
        kept = seen & keeps(seen.long().cumsum(-1) - 1, seen.sum(-1, keepdim=True))
        return inputs if bool((kept == seen).all()) else _compressed(inputs, kept, pad_of(model))

    return changed


def _compressed(inputs: dict[str, Any], kept: Tensor, pad: int) -> dict[str, Any]:
    """Return the inputs with the kept tokens of each sample side by side, padded where it was padded before."""
    counts, left = kept.sum(-1), bool((~kept[:, 0] & kept.any(-1)).any())
    width = int(counts.max())
    order = kept.to(torch.uint8).sort(dim=-1, descending=not left, stable=True).indices
    order = order[:, -width:] if left else order[:, :width]
    gone = ~kept.gather(1, order)
    moved = dict(inputs)
    for key, value in inputs.items():
        if isinstance(value, Tensor) and value.shape[:2] == kept.shape and not key.startswith("decoder"):
            index = expand_like(order, value).expand(-1, -1, *value.shape[2:])
            moved[key] = value.gather(1, index).masked_fill(expand_like(gone, value), pad if key == IDS else 0)
    return moved
