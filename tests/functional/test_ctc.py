"""The CTC loss of mixed recordings, against sums over all paths in double precision."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from hf_mixup.functional.ctc import mixed_ctc_loss

TRANSCRIPTS = [[1, 2, 2], [3], [], [2, 1]]
INPUT_LENGTHS = torch.tensor([5, 4, 5, 3])
TARGET_LENGTHS = torch.tensor([len(each) for each in TRANSCRIPTS])
OWN, PARTNER, LAM = torch.arange(4), torch.tensor([1, 0, 0, 2]), torch.tensor([0.3, 0.8, 1.0, 0.0])
SIDES = [(OWN, LAM), (PARTNER, 1 - LAM)]


def scores(dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(5, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)


def by_paths(log_probs: Tensor, transcript: list[int], blank: int = 0) -> Tensor:
    """Minus the logarithm of the probability of all paths over the frames that read as the transcript."""
    total = torch.zeros((), dtype=log_probs.dtype)
    for path in itertools.product(range(log_probs.shape[-1]), repeat=len(log_probs)):
        read = [token for token, _ in itertools.groupby(path) if token != blank]
        if read == transcript:
            total = total + log_probs[range(len(path)), path].sum().exp()
    return -total.log()


def expected(log_probs: Tensor, reduction: str) -> Tensor:
    sums = torch.zeros(4, dtype=torch.float64)
    for sample, (other, lam) in enumerate(zip(PARTNER.tolist(), LAM.double().tolist())):
        frames = log_probs[: INPUT_LENGTHS[sample], sample]
        for which, weight in ((sample, lam), (other, 1 - lam)):
            if weight:
                length = max(len(TRANSCRIPTS[which]), 1) if reduction == "mean" else 1
                sums[sample] += weight * by_paths(frames, TRANSCRIPTS[which]) / length
    return sums if reduction == "none" else sums.sum() if reduction == "sum" else sums.mean()


def flat() -> Tensor:
    return torch.tensor([token for each in TRANSCRIPTS for token in each])


def padded() -> Tensor:
    return torch.tensor([[*each, *[0] * (3 - len(each))] for each in TRANSCRIPTS])


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("targets", [flat, padded])
def test_it_is_the_sum_over_all_paths(targets: Any, reduction: str) -> None:
    log_probs = scores().log_softmax(-1)
    found = mixed_ctc_loss(log_probs, targets(), INPUT_LENGTHS, TARGET_LENGTHS, SIDES, reduction=reduction)
    torch.testing.assert_close(found, expected(log_probs, reduction), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_the_ends_are_torchs_own_loss(reduction: str) -> None:
    log_probs = scores().log_softmax(-1)
    for rows, lam in ((OWN, 1.0), (PARTNER, 0.0)):
        sides = [(OWN, torch.full((4,), lam)), (PARTNER, torch.full((4,), 1 - lam))]
        found = mixed_ctc_loss(log_probs, flat(), INPUT_LENGTHS, TARGET_LENGTHS, sides, 0, reduction)
        own = F.ctc_loss(log_probs, padded()[rows], INPUT_LENGTHS, TARGET_LENGTHS[rows], 0, reduction)
        torch.testing.assert_close(found, own)


def test_another_blank() -> None:
    log_probs, blank = scores().log_softmax(-1), 3
    sides = [(torch.tensor([1, 0]), torch.ones(2))]
    found = mixed_ctc_loss(
        log_probs[:, :2],
        torch.tensor([[1], [2]]),
        torch.tensor([5, 5]),
        torch.tensor([1, 1]),
        sides,
        blank,
        "none",
    )
    torch.testing.assert_close(found[0], by_paths(log_probs[:, 0], [2], blank))


@pytest.mark.parametrize("zero_infinity", [False, True])
def test_a_transcript_that_counts_nothing_may_be_too_long(zero_infinity: bool) -> None:
    """Sample 3 has 3 frames; the three tokens of transcript 0 need 4, for two of them are alike."""
    rows, lengths = torch.tensor([1, 0, 0, 0]), INPUT_LENGTHS
    found = []
    for lam in (torch.ones(4), torch.tensor([0.5, 0.5, 0.5, 1.0])):
        logits = scores().requires_grad_()
        sides = [(OWN, lam), (rows, 1 - lam)]
        log_probs = logits.log_softmax(-1)
        loss = mixed_ctc_loss(log_probs, flat(), lengths, TARGET_LENGTHS, sides, 0, "none", zero_infinity)
        loss.sum().backward()
        found.append((loss[3].detach(), logits.grad[:, 3]))
    assert torch.isfinite(found[0][0])
    for whole, half in zip(*found):
        torch.testing.assert_close(half, whole)


def test_a_transcript_that_counts_and_is_too_long_is_infinite_or_zero() -> None:
    log_probs = scores().log_softmax(-1)
    sides = [(OWN, torch.full((4,), 0.5)), (torch.tensor([1, 0, 0, 0]), torch.full((4,), 0.5))]
    loss, zeroed = (
        mixed_ctc_loss(log_probs, flat(), INPUT_LENGTHS, TARGET_LENGTHS, sides, 0, "none", each)
        for each in (False, True)
    )
    assert torch.isinf(loss[3])
    torch.testing.assert_close(zeroed[3], 0.5 * by_paths(log_probs[:3, 3], TRANSCRIPTS[3]))


def test_gradients() -> None:
    def loss(logits: Tensor) -> Tensor:
        return mixed_ctc_loss(logits.log_softmax(-1), flat(), INPUT_LENGTHS, TARGET_LENGTHS, SIDES, 0, "mean")

    assert torch.autograd.gradcheck(loss, scores().requires_grad_(), atol=1e-4)
