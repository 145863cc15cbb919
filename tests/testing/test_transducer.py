"""The loss of a transducer against the sum over all alignments, one by one."""

from __future__ import annotations

import itertools

import torch

from hf_mixup.testing.transducer import rnnt_loss


def test_it_sums_all_alignments() -> None:
    draws = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 4, 3, 5, generator=draws, dtype=torch.float64)
    targets = torch.randint(1, 5, (2, 2), generator=draws)
    frames, lengths, scores, expected = torch.tensor([4, 3]), torch.tensor([2, 1]), logits.log_softmax(-1), []
    for sample, (count, length) in enumerate(zip(frames.tolist(), lengths.tolist())):
        paths = []
        for said_at in itertools.combinations_with_replacement(range(count), length):  # the frame of each token
            path, token = torch.zeros((), dtype=torch.float64), 0
            for frame in range(count):
                while token < length and said_at[token] == frame:
                    path = path + scores[sample, frame, token, targets[sample, token]]
                    token += 1
                path = path + scores[sample, frame, token, 0]
            paths.append(path)
        expected.append(-torch.stack(paths).logsumexp(0))
    torch.testing.assert_close(rnnt_loss(logits, targets, frames, lengths, blank=0), torch.stack(expected))
