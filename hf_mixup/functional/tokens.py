"""The cross-entropy of mixed tokens, in memory that does not grow with the vocabulary."""

from __future__ import annotations

import math
from collections.abc import Iterator
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
    all_labelled = _check(logits, (own, other), smoothing, class_weights, chunk)
    if torch.compiler.is_compiling():  # which would unroll the loop over chunks
        losses = _pair_losses(logits, own, other, smoothing, class_weights)
        return (weighted(own_weight, losses[0]) + weighted(other_weight, losses[1])).sum()
    how = _How(smoothing, chunk or _fitting(logits), all_labelled)
    return _WeightedSum.apply(logits, own, other, own_weight, other_weight, class_weights, how)


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
    how = _How(0.0, _fitting(logits), _check(logits, (labels, labels), 0.0, None, None))
    with torch.no_grad():
        return _losses(logits, labels, labels, None, how)[0]


class _How(NamedTuple):
    """How a loss is taken: its label smoothing, the positions worked on at once, and whether all have both labels."""

    smoothing: float
    chunk: int
    all_labelled: bool


def _fitting(logits: Tensor) -> int:
    """Return how many positions suit the device."""
    return max(1, _SCORES.get(logits.device.type, _MANY_SCORES) // max(1, logits.shape[-1]))


def _pair_losses(
    logits: Tensor,
    own: Tensor,
    other: Tensor,
    smoothing: float,
    class_weights: Tensor | None,
    all_labelled: bool = False,
) -> tuple[Tensor, Tensor]:
    """Return both cross-entropies of each position, [...] and [...]."""
    scores = logits.log_softmax(-1, dtype=torch.promote_types(logits.dtype, torch.float32))
    weights = None if class_weights is None else class_weights.to(scores)
    uniform = -(scores if weights is None else weighted(weights, scores)).mean(-1) if smoothing else None

    def loss(labels: Tensor) -> Tensor:
        label = labels if all_labelled else labels.where(labels != IGNORE_INDEX, 0)
        hard = -scores.gather(-1, label.unsqueeze(-1)).squeeze(-1)
        hard = hard if weights is None else weighted(weights[label], hard)
        if uniform is not None:  # with a smoothing of 1 the label itself counts nothing
            hard = smoothing * uniform + (1 - smoothing) * hard if smoothing < 1 else uniform
        return hard if all_labelled else torch.where(labels != IGNORE_INDEX, hard, 0.0)

    return loss(own), loss(other)


def _losses(
    logits: Tensor, own: Tensor, other: Tensor, class_weights: Tensor | None, how: _How
) -> tuple[Tensor, Tensor]:
    """Return `_pair_losses`, chunk by chunk."""
    chunks = list(_chunks(own.shape, how.chunk))
    if len(chunks) == 1:
        return _pair_losses(logits, own, other, how.smoothing, class_weights, how.all_labelled)
    dtype = torch.promote_types(logits.dtype, torch.float32)
    losses = logits.new_empty(own.shape, dtype=dtype), logits.new_empty(own.shape, dtype=dtype)
    for index in chunks:
        found = _pair_losses(logits[index], own[index], other[index], how.smoothing, class_weights, how.all_labelled)
        losses[0][index], losses[1][index] = found
    return losses


def _write_gradient(
    grad: Tensor,
    logits: Tensor,
    shares: list[tuple[Tensor, Tensor]],
    class_weights: Tensor | None,
    how: _How,
    finite: bool,
) -> None:
    """Write the gradient of the sum over (labels, share) of share * CE(logits, labels) into `grad`."""
    dtype, smoothing = torch.promote_types(logits.dtype, torch.float32), how.smoothing
    found = torch.softmax(logits, -1, dtype, out=grad) if grad.dtype == dtype else logits.softmax(-1, dtype)
    weights = None if class_weights is None else class_weights.to(found)
    smooth: Tensor | None = None
    pulls = []
    for label, share in shares:
        if not how.all_labelled:
            kept = label != IGNORE_INDEX
            label, share = label.where(kept, 0), share.where(kept, 0)
        pull = share if weights is None else (1 - smoothing) * weights[label] * share
        if smoothing:
            smooth = smoothing * share if smooth is None else smooth + smoothing * share
            pull = (1 - smoothing) * share if weights is None else pull
        pulls.append((label.unsqueeze(-1), pull.unsqueeze(-1)))
    counted = pulls[0][1] + pulls[1][1]
    if smooth is not None:
        smooth = smooth.unsqueeze(-1)
        counted = (smooth if weights is None else weights.mean() * smooth) + pulls[0][1] + pulls[1][1]
    found.mul_(counted)
    if not (finite and how.all_labelled):  # where nothing counts, NaN and infinite scores do not either
        found.masked_fill_(counted == 0, 0.0)
    for label, pull in pulls:
        found.scatter_add_(-1, label, -pull)
    if smooth is not None:
        found.addcmul_(
            smooth, found.new_ones(found.shape[-1]) if weights is None else weights, value=-1 / found.shape[-1]
        )
    if found is not grad:
        grad.copy_(found)


class _WeightedSum(torch.autograd.Function):
    """The weighted sum of both losses, of which nothing but the logits themselves is kept for the backward pass."""

    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        own: Tensor,
        other: Tensor,
        own_weight: Tensor,
        other_weight: Tensor,
        class_weights: Tensor | None,
        how: _How,
    ) -> Tensor:
        losses = _losses(logits, own, other, class_weights, how)
        held = losses if any(ctx.needs_input_grad[3:5]) else (None, None)
        ctx.save_for_backward(logits, own, other, own_weight, other_weight, class_weights, *held)
        ctx.how = how
        total = (own_weight * losses[0] + other_weight * losses[1]).sum()
        ctx.finite = total.device.type == "cpu" and math.isfinite(total.item())  # an accelerator had to be waited for
        if ctx.finite:
            return total
        return (weighted(own_weight, losses[0]) + weighted(other_weight, losses[1])).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        logits, own, other, own_weight, other_weight, class_weights, *losses = ctx.saved_tensors
        grads: list[Tensor | None] = [None, None]
        for number, (weight, loss) in enumerate(zip((own_weight, other_weight), losses)):
            if ctx.needs_input_grad[3 + number]:
                found = (slope * loss).masked_fill((weight == 0) & ~loss.isfinite(), 0.0)
                grads[number] = found.sum_to_size(weight.shape).to(weight.dtype)
        if not ctx.needs_input_grad[0]:
            return None, None, None, *grads, None, None
        dtype = torch.promote_types(logits.dtype, torch.float32)
        shares = [(slope * weight).to(dtype).expand(own.shape) for weight in (own_weight, other_weight)]
        grad, chunks = torch.empty_like(logits), list(_chunks(own.shape, ctx.how.chunk))
        if len(chunks) == 1:
            _write_gradient(grad, logits, list(zip((own, other), shares)), class_weights, ctx.how, ctx.finite)
            return grad, None, None, *grads, None, None
        for index in chunks:
            pairs = [(labels[index], share[index]) for labels, share in zip((own, other), shares)]
            _write_gradient(grad[index], logits[index], pairs, class_weights, ctx.how, ctx.finite)
        return grad, None, None, *grads, None, None


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


def _check(
    logits: Tensor, labels: tuple[Tensor, Tensor], smoothing: float, class_weights: Tensor | None, chunk: int | None
) -> bool:
    """Refuse what does not fit; return whether each position is known to have both labels."""
    classes, all_labelled = logits.shape[-1], True
    for name, each in zip(("own", "other"), labels):
        if each.shape != logits.shape[:-1] or each.dtype != torch.long:
            raise ValueError(
                f"{name} must be a long tensor of shape {list(logits.shape[:-1])} for logits of shape "
                f"{list(logits.shape)}, got {each.dtype} of shape {list(each.shape)}"
            )
        if each.device.type != "cpu" or torch.compiler.is_compiling():  # on an accelerator this would synchronise
            all_labelled = False
        elif each.numel() and not in_range(each, classes):  # with one pass over labels that are as they should be
            all_labelled, wrong = False, each[(each != IGNORE_INDEX) & ((each < 0) | (each >= classes))]
            if len(wrong):
                raise ValueError(f"{name} holds label {int(wrong[0])}, outside [0, {classes}) and not {IGNORE_INDEX}")
    if class_weights is not None and class_weights.shape != (classes,):
        raise ValueError(f"class_weights must have shape [{classes}], got {list(class_weights.shape)}")
    if not 0 <= smoothing <= 1:
        raise ValueError(f"smoothing must lie in [0, 1], got {smoothing}")
    if chunk is not None and chunk < 1:
        raise ValueError(f"chunk must be at least 1, or None for the default, got {chunk}")
    return all_labelled
