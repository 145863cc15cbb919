"""Mixed batches of a model that scores soft labels by a loss of its own: it is given the blended labels."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import Tensor, nn

from hf_mixup.engine.batch import refuse_packed
from hf_mixup.engine.context import Context, Requested
from hf_mixup.engine.loss_scale import ITEMS
from hf_mixup.engine.model_loss import ModelLossBatch
from hf_mixup.engine.own_exchange import OwnTrial
from hf_mixup.engine.refusals import refuse_label_rules
from hf_mixup.models.label_entries import split_labels
from hf_mixup.models.labels import LABELS, dense_targets


class SoftLabelBatch(ModelLossBatch):
    """A mixed batch with soft labels, floats [B, C], of which the model's own loss is taken in one pass.

    For losses that are linear in the labels, but for what does not depend on the scores: the binary cross-entropy that
    visual question answering multiplies by the number of answers, or the divergence from soft answers. That they are is
    tried before the first step, see `soft_trial`.

    >>> from transformers import ViltConfig, ViltForQuestionAnswering
    >>> import torch
    >>> from hf_mixup import Mixup
    >>> tiny = ViltConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, num_labels=3,
    ...     vocab_size=20, image_size=8, patch_size=4, max_image_length=-1)
    >>> model, answers = ViltForQuestionAnswering(tiny), torch.eye(3)
    >>> batch = {"input_ids": torch.arange(1, 13).view(3, 4), "pixel_values": torch.rand(3, 3, 8, 8), "labels": answers}
    >>> with Mixup("manifold")(model, batch, partner=torch.tensor([1, 2, 0]), lam=0.75) as mixed:
    ...     loss = mixed.loss(model(**mixed.inputs))
    >>> mixed.targets[0]
    tensor([0.7500, 0.2500, 0.0000])
    """

    @classmethod
    def matches(cls, model: nn.Module, batch: Mapping[str, Any]) -> bool:
        """Return True: `Context.scored_by_model` has asked before."""
        return True

    @classmethod
    def build(
        cls, context: Context, model: nn.Module, batch: Mapping[str, Any], requested: Requested
    ) -> SoftLabelBatch:
        """Tell labels from inputs, and draw; see `MixedBatch.build`.

        Raises:
            LabelRuleError: for a method with a rule of its own for labels.
        """
        refuse_packed(batch)
        refuse_label_rules(context.method, model)
        given = {key: batch[key] for key in (ITEMS,) if key in batch}
        inputs, labels = split_labels(model, {key: value for key, value in batch.items() if key not in given})
        trial_of = partial(OwnTrial, labels=labels)
        draw = context.draw(model, inputs, labels[LABELS], requested, "multi_label_classification", trial_of=trial_of)
        return cls(context, model, inputs, labels, given, draw, requested.inplace)

    def __enter__(self) -> SoftLabelBatch:
        super().__enter__()
        self.inputs = {**self.inputs, **self.labels, **self._given, LABELS: self.targets}
        return self

    @property
    def targets(self) -> Tensor:
        """The blended labels, float32 [B, C] (float64 where they were)."""
        labels, method = self.labels[LABELS], self._method
        if not self.rate:
            return labels
        others, lam = method.other_labels(labels, self.draw), method.label_lam(labels, self.draw)
        further = method.further_labels(labels, self.draw)
        return dense_targets(labels, others, lam, labels.shape[1], "multi_label_classification", 0.0, further)

    def _mixed_loss(self, outputs: Any, model: nn.Module, given: Mapping[str, Any]) -> Tensor:
        return self._own(outputs, self.labels, given)
