"""Targets and losses of mixed image-text pairs: which caption belongs to which image, and how much."""

from __future__ import annotations

import torch
from torch import Tensor

from ._rows import check_partner
from .blending import at_least_float32, expand_like
from .targets import binary_cross_entropy, weighted

Mix = tuple[Tensor, Tensor]
"""How one side was mixed: partner, long [N], and lam, [N]."""


def mix_rows(values: Tensor, mix: Mix | None) -> Tensor:
    """Return M @ values for the mix operator M = diag(lam) + diag(1 - lam) P, without building M.

    Args:
        values: [N, ...].
        mix: partner long [N] and lam [N] or 0-d; None leaves the values as they are.

    Raises:
        IndexError: a partner is outside [0, N).

    >>> mix_rows(torch.eye(2), (torch.tensor([1, 0]), torch.tensor([0.75, 1.0])))
    tensor([[0.7500, 0.2500],
            [0.0000, 1.0000]])
    """
    if mix is None:
        return values
    partner, lam = mix
    check_partner(values, partner)
    lam = expand_like(lam.to(values.dtype), values)
    return lam * values + (1 - lam) * values.index_select(0, partner)


def relevance_of(*keys: Tensor | None) -> Tensor:
    """Return which rows belong together: 1.0 where any of the keys agree, [N, N] float32.

    Args:
        keys: integer tensors [N], e.g. of captions and of image ids; None is passed over.

    Raises:
        ValueError: there is no key at all.

    >>> relevance_of(torch.tensor([7, 8, 7]))
    tensor([[1., 0., 1.],
            [0., 1., 0.],
            [1., 0., 1.]])
    """
    same = [key[:, None] == key[None, :] for key in keys if key is not None]
    if not same:
        raise ValueError("relevance needs at least one key")
    return torch.stack(same).any(0).float()


def pair_targets(relevance: Tensor, rows: Mix | None = None, columns: Mix | None = None) -> Tensor:
    """Return how much of each column's content is in each row: Q = M_rows R M_columns^T, [n, N] float32.

    Both sides mixed alike give the overlap M R M^T, one side alone M R. Rows do not sum to 1: `soft_info_nce` divides
    each direction by its own sums, as the columns of M do not sum to 1 even under a permutation.

    Args:
        relevance: [n, N], 1 where the unmixed pair belongs together (the identity, or `relevance_of`).
        rows: how the rows were mixed, None if they were not.
        columns: how the columns were mixed.

    >>> swap = (torch.tensor([1, 0]), torch.tensor([0.75, 0.75]))
    >>> pair_targets(torch.eye(2), rows=swap, columns=swap)
    tensor([[0.6250, 0.3750],
            [0.3750, 0.6250]])
    """
    return mix_rows(mix_rows(relevance.float(), rows).mT, columns).mT.contiguous()


def cosine_overlap(relevance: Tensor, rows: Mix | None = None, columns: Mix | None = None) -> Tensor:
    """Return the targets of a sigmoid loss: overlaps divided by the lengths of both mixes, [N, N] in [0, 1].

    C_ij = <m_i, m_j> / (|m_i| |m_j|) with the relevance as inner product, so that a row and its own column score 1 if
    both sides are mixed alike, where the raw overlap would cap a true pair at 1/2.

    Args:
        relevance: [N, N], symmetric.

    >>> swap = (torch.tensor([1, 0]), torch.tensor([0.75, 0.75]))
    >>> cosine_overlap(torch.eye(2), rows=swap, columns=swap)
    tensor([[1.0000, 0.6000],
            [0.6000, 1.0000]])
    """
    overlap = pair_targets(relevance, rows, columns)
    return scaled_overlap(overlap, mix_lengths(relevance, rows), mix_lengths(relevance, columns))


def mix_lengths(relevance: Tensor, mix: Mix | None) -> Tensor:
    """Return the length of each row of the mix operator under the relevance as inner product, [N].

    >>> mix_lengths(torch.eye(2), (torch.tensor([1, 0]), torch.tensor([0.6, 1.0])))
    tensor([0.7211, 1.0000])
    """
    return pair_targets(relevance, mix, mix).diagonal().clamp(min=1e-12).sqrt()


def scaled_overlap(overlap: Tensor, row_lengths: Tensor, column_lengths: Tensor) -> Tensor:
    """Return an overlap [n, N] divided by the lengths of its rows [n] and columns [N], in [0, 1]."""
    return (overlap / row_lengths[:, None] / column_lengths[None, :]).clamp(0, 1)


def soft_info_nce(
    logits_per_image: Tensor, targets: Tensor, logits_per_text: Tensor | None = None, label_smoothing: float = 0.0
) -> Tensor:
    """Symmetric InfoNCE with soft targets: the mean of both directions' cross-entropies, a 0-d tensor.

    With the identity as targets this is the loss of CLIP (Radford et al. 2021, arXiv 2103.00020, figure 3) and of the
    models that follow it; with `label_smoothing=0.1` that of ALIGN in transformers. CLAP's loss in transformers takes
    one direction twice; this one takes both.

    Args:
        logits_per_image: [N, N], row an image, column a caption: scaled similarities.
        targets: [N, N], not negative; each direction divides by its own row sums. A row without mass adds nothing.
        logits_per_text: [N, N], the other direction; by default the transpose (CLAP scales the two apart).
        label_smoothing: share in [0, 1) of each row spread over all columns.

    Raises:
        ValueError: shapes differ.

    Source: van den Oord et al. 2018, arXiv 1807.03748, equation 4, in both directions; with soft targets i-Mix, Lee et
    al. 2021, arXiv 2010.08887, equation 4.

    >>> soft_info_nce(torch.zeros(4, 4), torch.eye(4))
    tensor(1.3863)
    """
    per_text = logits_per_image.mT if logits_per_text is None else logits_per_text
    return (
        contrastive_cross_entropy(logits_per_image, targets, label_smoothing)
        + contrastive_cross_entropy(per_text, targets.mT, label_smoothing)
    ) / 2


def contrastive_cross_entropy(logits: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Return one direction of `soft_info_nce`: mean over rows [n, N] of the cross-entropy to the row's own shares.

    Raises:
        ValueError: shapes differ.

    Source: van den Oord et al. 2018, arXiv 1807.03748, equation 4, with soft targets.

    >>> contrastive_cross_entropy(torch.zeros(1, 4), torch.tensor([[2.0, 0.0, 0.0, 2.0]]))
    tensor(1.3863)
    """
    if logits.shape != targets.shape:
        raise ValueError(f"logits {list(logits.shape)} and targets {list(targets.shape)} must have the same shape")
    scores = at_least_float32(logits).log_softmax(-1)
    targets = targets.to(scores.dtype)
    shares = targets / targets.sum(-1, keepdim=True).clamp(min=1e-12)
    if label_smoothing:
        shares = (1 - label_smoothing) * shares + label_smoothing / shares.shape[-1]
    return -weighted(shares, scores).sum(-1).mean()


def soft_sigmoid_loss(logits: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Sigmoid loss of all pairs with soft targets: binary cross-entropy summed over columns, mean over rows, 0-d.

    With the identity as targets this is the loss of SigLIP.

    Args:
        logits: [n, N], scaled similarities plus bias.
        targets: [n, N] in [0, 1], e.g. `cosine_overlap`.
        label_smoothing: share in [0, 1) of each row's mass spread over all columns.

    Raises:
        ValueError: shapes differ.

    Source: Zhai et al. 2023, "Sigmoid Loss for Language Image Pre-Training", arXiv 2303.15343, equation 1.

    >>> soft_sigmoid_loss(torch.zeros(2, 2), torch.eye(2))  # 2 log 2
    tensor(1.3863)
    """
    if logits.shape != targets.shape:
        raise ValueError(f"logits {list(logits.shape)} and targets {list(targets.shape)} must have the same shape")
    logits = at_least_float32(logits)
    targets = (1 - label_smoothing) * targets.to(logits.dtype) + label_smoothing / targets.shape[-1]
    return binary_cross_entropy(logits, targets).sum() / len(logits)
