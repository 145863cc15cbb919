"""Trainers that write what they hear when they evaluate: best path of CTC, or greedy decoding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from torch.overrides import TorchFunctionMode
from transformers import Trainer

from hf_mixup.engine.unwrap import unwrap
from hf_mixup.integrations.trainer import MixupTrainer
from hf_mixup.models.batches import DECODER_IDS
from hf_mixup.models.labels import LABELS
from hf_mixup.models.transcripts import learns_transcripts
from hf_mixup.utils.constants import IGNORE_INDEX

if TYPE_CHECKING:
    _AnyTrainer = Trainer
else:
    _AnyTrainer = object


class FrameCounts(TorchFunctionMode):
    """While it is active, the frames of each recording are noted that a model counts in its CTC loss.

    Which they are depends on the architecture; the loss is told them by every one.

    Attributes:
        frames: those of the last loss, one number a recording; None before.
        blank: its blank.

    >>> scores = torch.zeros(3, 1, 4).log_softmax(-1)
    >>> with FrameCounts() as counts:
    ...     loss = F.ctc_loss(scores, torch.tensor([[1, 2]]), torch.tensor([3]), torch.tensor([2]))
    >>> counts.frames
    [3]
    """

    def __init__(self) -> None:
        super().__init__()
        self.frames: list[int] | None = None
        self.blank = 0

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        if func is F.ctc_loss:
            self._note(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))

    def _note(
        self, log_probs: Tensor, targets: Tensor, input_lengths: Any, target_lengths: Any, blank: int = 0, **rest: Any
    ) -> None:
        self.frames, self.blank = torch.as_tensor(input_lengths).tolist(), blank


def best_tokens(logits: Tensor, frames: list[int], blank: int) -> Tensor:
    """Return the tokens that the best of each frame read as, long [B, U], -100 behind their ends.

    Args:
        logits: [B, T, C].
        frames: how many of them each recording has: what a model says of padding is no part of it.

    Source: Graves et al. 2006, "Connectionist Temporal Classification", section 3.2 (best path decoding).

    >>> scores = torch.eye(3)[torch.tensor([[1, 1, 0, 1, 2], [2, 0, 1, 1, 1]])]
    >>> best_tokens(scores, frames=[5, 2], blank=0)
    tensor([[   1,    1,    2],
            [   2, -100, -100]])
    """
    paths = [row[:count].unique_consecutive() for row, count in zip(logits.argmax(-1), frames, strict=True)]
    return pad_sequence([path[path != blank] for path in paths], batch_first=True, padding_value=IGNORE_INDEX)


class Transcribes(_AnyTrainer):
    """For a subclass of `transformers.Trainer`: predictions are tokens [N, U]; put it first in the bases.

    `hf_mixup.metrics.speech_metrics` scores them. A model that learns by CTC writes the best path, an encoder-decoder
    the tokens of its greedy decoding, as many as its `generation_config` allows.
    """

    def prediction_step(
        self, model: nn.Module, inputs: Any, prediction_loss_only: bool, ignore_keys: list[str] | None = None
    ) -> tuple[Tensor | None, Any, Any]:
        """Return loss, tokens and labels of a batch."""
        inputs = self._prepare_inputs(inputs)
        labels = inputs[LABELS]
        own: Any = unwrap(model)
        with FrameCounts() as counts:
            whole = learns_transcripts(own) and not prediction_loss_only
            loss, logits, _ = super().prediction_step(model, inputs, not whole, ignore_keys)
        if prediction_loss_only:
            return loss, None, None
        if whole:
            scores: Any = logits[0] if isinstance(logits, tuple) else logits
            return loss, best_tokens(scores, counts.frames or [scores.shape[1]] * len(scores), counts.blank), labels
        heard = {name: value for name, value in inputs.items() if name not in (LABELS, DECODER_IDS)}
        with torch.no_grad():
            tokens = own.generate(**heard, do_sample=False, num_beams=1)
        return loss, tokens, labels


class SpeechTrainer(Transcribes, MixupTrainer):
    """A `MixupTrainer` that evaluates transcripts.

    >>> SpeechTrainer.__mro__[2].__name__
    'MixupTrainer'
    """
