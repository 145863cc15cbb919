"""The cross-entropy of mixed tokens, in memory that does not grow with the vocabulary."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from hf_mixup.utils.constants import IGNORE_INDEX

from .targets import in_range, weighted

_SCORES = {"cpu": 2**19}  # scores worked on at once: on a CPU what its cache holds,
_MANY_SCORES = 2**25  # on an accelerator enough to keep it busy


def two_target_cross_entropy(
    logits: Tensor,
    own: Tensor,
    other: Tensor,
    own_weight: Tensor,
    other_weight: Tensor,
    smoothing: float = 0.0,
    class_weights: Tensor | None = None,
    chunk: int | None = None,
) -> Tensor:
    """Sum of own_weight * CE(logits, own) + other_weight * CE(logits, other) over all positions.

    Beyond the logits it holds their gradient and a chunk of float32 scores: no float32 copy of the logits, no
    log-softmax and no dense target outlive a chunk, whose softmax is computed again in the backward pass. (Inside
    `torch.compile` there are no chunks: what is kept there, the compiler decides.)

    Source: Zhang et al., "mixup: Beyond Empirical Risk Minimization", 2018, https://arxiv.org/abs/1710.09412, in the
    form of two cross-entropies; smoothing and class weights, of each of the two, as in `torch.nn.CrossEntropyLoss`.

    Args:
        logits: floating-point tensor [..., V] with any strides; a shifted slice is not copied.
        own: long tensor [...] with values in [0, V), or -100 where there is no target, which adds nothing.
        other: the same for the partner's labels.
        own_weight: float tensor [...] (or of a shape that broadcasts to it), the weight of each position's own label.
        other_weight: the same for the partner's label. The two need not sum to 1.
        smoothing: label smoothing in [0, 1].
        class_weights: [V], weighs each of the two cross-entropies by its own label.
        chunk: positions worked on at once; None for as many as suit the device.

    Returns:
        0-d tensor in float32, or float64 if the logits are. Gradients, in the dtype of each, flow to the logits and to
        the weights, once. A target of weight 0 adds nothing, even if its logit is -inf (a class that is masked); with
        another weight it makes the sum infinite.

    Raises:
        ValueError: the labels' shape or dtype does not fit, a label is (checked on CPU) out of range, class_weights is
            not [V], or smoothing or chunk is out of range.

    >>> logits, own, other = torch.zeros(1, 3, 4), torch.tensor([[0, 1, -100]]), torch.tensor([[2, -100, -100]])
    >>> lam = torch.tensor([[0.25]])
    >>> two_target_cross_entropy(logits, own, other, lam, 1 - lam)  # (0.25 + 0.75 + 0.25) * log 4
    tensor(1.7329)
    """
    labels, all_labelled = _checked(logits, {"own": own, "other": other}, smoothing, class_weights, chunk)
    weights = torch.stack([each.expand(own.shape) for each in (own_weight, other_weight)], -1)
    if torch.compiler.is_compiling():  # which would unroll the loop over chunks
        return weighted(weights, _label_losses(logits, labels, smoothing, class_weights)).sum()
    how = _How(smoothing, chunk or _fitting(logits), all_labelled)
    return _WeightedSum.apply(logits, labels, weights, class_weights, how)


def token_losses(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the cross-entropy at each position [...], 0 where the label is -100, in chunks and without gradients.

    Args:
        logits: floating-point tensor [..., V].
        labels: long tensor [...] with values in [0, V), or -100.

    Raises:
        ValueError: for labels of another shape or dtype, or (checked on CPU) out of range.

    >>> token_losses(torch.zeros(1, 2, 4), torch.tensor([[3, -100]]))
    tensor([[1.3863, 0.0000]])
    """
    stacked, all_labelled = _checked(logits, {"labels": labels}, 0.0, None, None)
    with torch.no_grad():
        return _losses(logits, stacked, None, _How(0.0, _fitting(logits), all_labelled))[..., 0]


class _How(NamedTuple):
    """How a loss is taken: its label smoothing, the positions worked on at once, and whether all have all labels."""

    smoothing: float
    chunk: int
    all_labelled: bool


def _fitting(logits: Tensor) -> int:
    """Return how many positions suit the device."""
    return max(1, _SCORES.get(logits.device.type, _MANY_SCORES) // max(1, logits.shape[-1]))


def _label_losses(
    logits: Tensor, labels: Tensor, smoothing: float, class_weights: Tensor | None, all_labelled: bool = False
) -> Tensor:
    """Return the cross-entropy of each label [..., K] with the logits of its position, of the shape of the labels."""
    scores = logits.log_softmax(-1, dtype=torch.promote_types(logits.dtype, torch.float32))
    label = labels if all_labelled else labels.where(labels != IGNORE_INDEX, 0)
    losses, weights = -scores.gather(-1, label), None if class_weights is None else class_weights.to(scores)
    if weights is not None:
        losses = weighted(weights[label], losses)
    if smoothing:
        uniform = -(scores if weights is None else weighted(weights, scores)).mean(-1, keepdim=True)
        # With a smoothing of 1 the label itself counts nothing.
        losses = smoothing * uniform + (1 - smoothing) * losses if smoothing < 1 else uniform.expand_as(losses)
    return losses if all_labelled else torch.where(labels != IGNORE_INDEX, losses, 0.0)


def _losses(logits: Tensor, labels: Tensor, class_weights: Tensor | None, how: _How) -> Tensor:
    """Return `_label_losses`, chunk by chunk."""
    chunks = list(_chunks(labels.shape[:-1], how.chunk))
    if len(chunks) == 1:
        return _label_losses(logits, labels, how.smoothing, class_weights, how.all_labelled)
    losses = logits.new_empty(labels.shape, dtype=torch.promote_types(logits.dtype, torch.float32))
    for index in chunks:
        losses[index] = _label_losses(logits[index], labels[index], how.smoothing, class_weights, how.all_labelled)
    return losses


def _write_gradient(
    grad: Tensor,
    logits: Tensor,
    labels: Tensor,
    shares: Tensor,
    class_weights: Tensor | None,
    how: _How,
    finite: bool,
) -> None:
    """Write the gradient of the sum over labels and shares [..., 2] of share * CE(logits, label) into `grad`."""
    dtype, smoothing = torch.promote_types(logits.dtype, torch.float32), how.smoothing
    found = torch.softmax(logits, -1, dtype, out=grad) if grad.dtype == dtype else logits.softmax(-1, dtype)
    weights = None if class_weights is None else class_weights.to(found)
    if not how.all_labelled:
        kept = labels != IGNORE_INDEX
        labels, shares = labels.where(kept, 0), shares.where(kept, 0)
    pulls = shares if weights is None else (1 - smoothing) * weights[labels] * shares
    counted, smooth = pulls.sum(-1, keepdim=True), None
    if smoothing:
        pulls = (1 - smoothing) * shares if weights is None else pulls
        smooth = (smoothing * shares).sum(-1, keepdim=True)
        counted = (smooth if weights is None else weights.mean() * smooth) + pulls[..., :1] + pulls[..., 1:]
    found.mul_(counted)
    if not (finite and how.all_labelled):  # where nothing counts, NaN and infinite scores do not either
        found.masked_fill_(counted == 0, 0.0)
    for label, pull in zip(labels.split(1, -1), pulls.neg().split(1, -1)):  # one by one, in a fixed order
        found.scatter_add_(-1, label, pull)
    if smooth is not None:
        found.addcmul_(
            smooth, found.new_ones(found.shape[-1]) if weights is None else weights, value=-1 / found.shape[-1]
        )
    if found is not grad:
        grad.copy_(found)


class _WeightedSum(torch.autograd.Function):
    """The weighted sum of all losses, of which nothing but the logits themselves is kept for the backward pass."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, labels: Tensor, weights: Tensor, class_weights: Tensor | None, how: _How
    ) -> Tensor:
        losses = _losses(logits, labels, class_weights, how)
        ctx.save_for_backward(logits, labels, weights, class_weights, losses if ctx.needs_input_grad[2] else None)
        ctx.how = how
        total = (weights * losses).sum(-1).sum()
        ctx.finite = total.device.type == "cpu" and math.isfinite(total.item())  # an accelerator had to be waited for
        return total if ctx.finite else weighted(weights, losses).sum(-1).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        logits, labels, weights, class_weights, losses = ctx.saved_tensors
        weights_grad = None
        if losses is not None:
            weights_grad = (slope * losses).masked_fill((weights == 0) & ~losses.isfinite(), 0.0).to(weights.dtype)
        if not ctx.needs_input_grad[0]:
            return None, None, weights_grad, None, None
        shares = (slope * weights).to(torch.promote_types(logits.dtype, torch.float32))
        grad, chunks = torch.empty_like(logits), list(_chunks(labels.shape[:-1], ctx.how.chunk))
        for index in chunks if len(chunks) > 1 else [...]:
            part = grad[index], logits[index], labels[index], shares[index]
            _write_gradient(*part, class_weights, ctx.how, ctx.finite)
        return grad, None, weights_grad, None, None


def _chunks(shape: torch.Size, size: int) -> Iterator[tuple[Any, ...]]:
    """Yield indices that cut `shape` into views of at most `size` positions; flattening would copy a slice."""
    if not shape:
        yield ()
        return
    below = max(1, math.prod(shape[1:]))
    if below > size:
        yield from ((row, *rest) for row in range(shape[0]) for rest in _chunks(shape[1:], size))
    else:
        step = size // below
        yield from ((slice(start, start + step),) for start in range(0, shape[0], step))


def _checked(
    logits: Tensor, labels: Mapping[str, Tensor], smoothing: float, class_weights: Tensor | None, chunk: int | None
) -> tuple[Tensor, bool]:
    """Refuse what does not fit; return all labels [..., K], and whether each position is known to have all of them."""
    classes = logits.shape[-1]
    for name, each in labels.items():
        if each.shape != logits.shape[:-1] or each.dtype != torch.long:
            raise ValueError(
                f"{name} must be a long tensor of shape {list(logits.shape[:-1])} for logits of shape "
                f"{list(logits.shape)}, got {each.dtype} of shape {list(each.shape)}"
            )
    stacked, all_labelled = torch.stack(list(labels.values()), -1), False
    if stacked.device.type == "cpu" and not torch.compiler.is_compiling():  # on an accelerator this would synchronise
        all_labelled = not stacked.numel() or in_range(stacked, classes)  # in one pass, if they are as they should be
        for name, each in () if all_labelled else labels.items():
            wrong = each[(each != IGNORE_INDEX) & ((each < 0) | (each >= classes))]
            if len(wrong):
                raise ValueError(f"{name} holds label {int(wrong[0])}, outside [0, {classes}) and not {IGNORE_INDEX}")
    if class_weights is not None and class_weights.shape != (classes,):
        raise ValueError(f"class_weights must have shape [{classes}], got {list(class_weights.shape)}")
    if not 0 <= smoothing <= 1:
        raise ValueError(f"smoothing must lie in [0, 1], got {smoothing}")
    if chunk is not None and chunk < 1:
        raise ValueError(f"chunk must be at least 1, or None for the default, got {chunk}")
    return stacked, all_labelled
