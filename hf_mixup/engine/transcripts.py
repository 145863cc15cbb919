"""Mixed batches of recordings with transcripts, for models that learn them by CTC."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from hf_mixup.engine.batch import MixedBatch, refuse_loss_settings
from hf_mixup.engine.context import Context, Requested
from hf_mixup.methods import Draw, Method
from hf_mixup.methods.capabilities import MixesTranscripts
from hf_mixup.models.batches import HEARD
from hf_mixup.models.hooks import hooks_of
from hf_mixup.models.labels import LABELS, Labels, check_labels
from hf_mixup.models.losses import mean_of
from hf_mixup.models.transcripts import MixedCTC, learns_transcripts


class TranscriptBatch(MixedBatch):
    """A mixed batch of recordings with transcripts: lam * CTC(own) + (1 - lam) * CTC(partner's), one pass.

    The model is given the samples' own transcripts and computes its loss itself; both are scored where it takes the
    CTC loss, with its own blank, reduction and lengths.

    Attributes:
        labels: the transcripts, long [B, U], -100 behind their ends.

    Source: Meng et al. 2021, "MixSpeech: Data Augmentation for Low-resource Automatic Speech Recognition", arXiv
    2102.12664, section 2 (there lam ~ Beta(0.5, 0.5), for 15 % of a batch: `alpha=0.5, prob=0.15,
    prob_per="sample"`).

    >>> from hf_mixup import Mixup
    >>> from transformers import Wav2Vec2Config, Wav2Vec2ForCTC
    >>> config = Wav2Vec2Config(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
    ...     conv_dim=(8, 8), conv_kernel=(10, 3), conv_stride=(5, 2), num_conv_pos_embedding_groups=2, vocab_size=9)
    >>> batch = {"input_values": torch.randn(2, 400), "labels": torch.tensor([[5, 3, 8], [4, -100, -100]])}
    >>> model = Wav2Vec2ForCTC(config)
    >>> with Mixup("mixup")(model, batch, lam=0.75) as mixed:
    ...     loss = mixed.loss(model(**mixed.inputs))
    >>> mixed.targets[1]
    tensor([[   4, -100, -100],
            [   5,    3,    8]])
    """

    def __init__(
        self, context: Context, model: nn.Module, inputs: dict[str, Any], labels: Labels, draw: Draw, inplace: bool
    ) -> None:
        super().__init__(context, model, inputs, labels.values, draw, inplace)
        self._ctc = MixedCTC(self._sides)

    @classmethod
    def matches(cls, model: nn.Module, batch: Mapping[str, Any]) -> bool:
        """Whether the model learns transcripts, and the batch has some."""
        return learns_transcripts(model) and isinstance(batch.get(LABELS), Tensor)

    @classmethod
    def build(cls, context: Context, model: nn.Module, batch: Mapping[str, Any], requested: Requested) -> MixedBatch:
        """Refuse what does not go with transcripts, try the loss once, and draw; see `MixedBatch.build`."""
        refuse_loss_settings(context, model, "transcripts")
        context.check_loss(model, batch)
        labels = context.read_labels(model, batch)
        if labels.values.device.type == "cpu":
            check_labels(labels.values, labels.classes, labels.kind)
        inputs = {key: value for key, value in batch.items() if key != LABELS}
        for method in context.method.choices():
            refuse_method(method, model, inputs)
        draw = context.draw(model, inputs, labels.values, requested, labels.kind)
        return cls(context, model, inputs, labels, draw, requested.inplace)

    def __enter__(self) -> MixedBatch:
        super().__enter__()
        self.inputs = {**self.inputs, LABELS: self.labels}
        self._ctc.__enter__()
        hooks_of(self._model).on_deactivate.append(lambda: self._ctc.__exit__(None, None, None))
        return self

    @property
    def _sides(self) -> list[tuple[Tensor, Tensor]]:
        """Whose transcripts are scored for each sample, and their weights: its own, its partner's, further ones."""
        own = torch.arange(len(self.labels), device=self.labels.device)
        if not self.rate:
            return [(own, torch.ones_like(self.lam))]
        lam, further = self._method.label_lam(self.labels, self.draw), self._method.further_rows(self.draw)
        rest = 1 - lam - sum(weight for _, weight in further)
        return [(own, lam), (self.partner, rest.clamp(min=0)), *further]

    @property
    def targets(self) -> Any:
        """The transcripts that are scored for each sample, its own first, long [B, U] each."""
        return tuple(self.labels[rows] for rows, _ in self._sides)

    def loss(self, outputs: Any, num_items_in_batch: Tensor | int | None = None) -> Tensor:
        """Return the loss that the model computed, 0-d: a sum or a mean over the samples, as it is configured.

        Args:
            outputs: what the model returned inside the context.
            num_items_in_batch: samples of all micro-batches and processes of an optimizer step, by which a mean is
                divided; a sum is divided by nothing.

        Raises:
            RuntimeError: if the model did not compute its loss inside the context.
        """
        self._refuse_unmixed()
        found = outputs.get("loss") if isinstance(outputs, Mapping) else outputs[0]
        if not self._ctc.calls or not isinstance(found, Tensor):
            raise RuntimeError(
                f"{type(self._model).__name__} computed no CTC loss: run it on `mixed.inputs` as they are, inside the "
                "context"
            )
        if self._ctc.reduction == "mean" and num_items_in_batch is not None:
            found = mean_of(found * len(self.labels), num_items_in_batch)
        return self._context.watch.follow(found)

    def accuracy(self) -> Tensor | None:
        """Return None: what a frame says is right or wrong only within its transcript."""
        return None


def refuse_method(method: Method, model: nn.Module, inputs: Mapping[str, Any]) -> None:
    """Refuse a method that has no rule for transcripts.

    Raises:
        ValueError: naming the method and a way out.
    """
    if not isinstance(method, MixesTranscripts):
        raise ValueError(
            f"method {method.name!r} has no rule for the transcripts of {type(model).__name__}: use 'mixup', or "
            "'manifold' for recordings of equal length"
        )
    masks = [inputs[key] for key in HEARD if isinstance(inputs.get(key), Tensor)]
    if method.enters(model, inputs) and any(bool((mask.sum(-1) != mask[0].sum()).any()) for mask in masks):
        raise ValueError(
            f"method {method.name!r} mixes inside the model, where a recording ends where its own does: the partner's "
            "transcript would be scored on a part of it. Use 'mixup', or batches of recordings of equal length"
        )
