"""Models that learn transcripts by connectionist temporal classification (CTC), which they compute themselves."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from hf_mixup.functional.ctc import frames_needed, mixed_ctc_loss
from hf_mixup.models.adapters import base_model


def learns_transcripts(model: nn.Module) -> bool:
    """Whether a model learns transcripts by CTC, as its class says (`...ForCTC`, or derived from such).

    >>> learns_transcripts(nn.Linear(2, 2))
    False
    """
    return _named_so(type(base_model(model)))  # type: ignore[arg-type]


@cache
def _named_so(kind: type) -> bool:
    return any(each.__name__.endswith("ForCTC") for each in kind.__mro__)


class MixedCTC(TorchFunctionMode):
    """While it is active, `torch.nn.functional.ctc_loss` is that of mixed recordings, see `mixed_ctc_loss`.

    So blank, reduction and the lengths of recordings and transcripts are the model's own, whatever its architecture.

    Args:
        sides: as `mixed_ctc_loss` takes them.

    Attributes:
        calls: how many losses were computed.
        reduction: that of the last.

    >>> scores, whole = torch.zeros(3, 1, 4).log_softmax(-1), [(torch.tensor([0]), torch.ones(1))]
    >>> with MixedCTC(whole) as mixed:
    ...     loss = F.ctc_loss(scores, torch.tensor([[1, 2]]), torch.tensor([3]), torch.tensor([2]))
    >>> mixed.calls, mixed.reduction
    (1, 'mean')
    """

    def __init__(self, sides: Sequence[tuple[Tensor, Tensor]]) -> None:
        super().__init__()
        self.sides, self.calls, self.reduction = sides, 0, ""

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        given = kwargs or {}
        return self._loss(*args, **given) if func is F.ctc_loss else func(*args, **given)

    def _loss(
        self,
        log_probs: Tensor,
        targets: Tensor,
        input_lengths: Any,
        target_lengths: Any,
        blank: int = 0,
        reduction: str = "mean",
        zero_infinity: bool = False,
    ) -> Tensor:
        rows = len(self.sides[0][0])
        input_lengths, target_lengths = torch.as_tensor(input_lengths), torch.as_tensor(target_lengths)
        if target_lengths.shape != (rows,) or input_lengths.shape != (rows,):
            raise RuntimeError(f"the CTC loss of this model is not taken once for each of the {rows} samples")
        self.calls, self.reduction = self.calls + 1, reduction
        if not zero_infinity:
            refuse_too_long(targets, input_lengths, target_lengths, self.sides)
        return mixed_ctc_loss(
            log_probs, targets, input_lengths, target_lengths, self.sides, blank, reduction, zero_infinity
        )


def refuse_too_long(
    targets: Tensor, input_lengths: Tensor, target_lengths: Tensor, sides: Sequence[tuple[Tensor, Tensor]]
) -> None:
    """Refuse a transcript that counts and has no path through its frames: its infinite loss would spoil all weights.

    The loss itself needs the lengths on the host, so that to look at them here costs no further wait.

    Args:
        targets, input_lengths, target_lengths, sides: as `mixed_ctc_loss` takes them.

    Raises:
        ValueError: naming transcript, frames and ways out.
    """
    needed, frames = frames_needed(targets, target_lengths).cpu(), input_lengths.cpu()
    for rows, weight in sides:
        short = (needed[rows.cpu()] > frames) & (weight.cpu() > 0)
        if bool(short.any()):
            sample = int(short.int().argmax())
            raise ValueError(
                f"sample {sample} of the batch has {int(frames[sample])} frames, and a transcript that needs "
                f"{int(needed[rows[sample]])}: its loss is infinite. Set ctc_zero_infinity=True in the model's "
                "config, or leave such samples out"
            )
