"""Language models whose head is fused with the loss, so that nobody ever builds the logits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from hf_mixup.engine.batch import refuse_packed
from hf_mixup.engine.context import Context
from hf_mixup.engine.unwrap import unwrap
from hf_mixup.functional.targets import weighted
from hf_mixup.integrations.trl.batch import OwnLossBatch
from hf_mixup.models.adapters import refuse_adapter
from hf_mixup.models.batches import expand_shared
from hf_mixup.models.hooks import MixHook, hooks_of
from hf_mixup.models.labels import LABELS

FUSED = "fused_lm_head"  # how TRL asks for the fused head


class FusedBatch(OwnLossBatch):
    """A batch for TRL's fused head, which returns the log-probability of one label a token.

    The mixed hidden states are scored twice, against the rows' own labels and against the partners'. What the head
    returns for the two (log-probability, entropy, hit) is blended by lam and 1 - lam; so is the mask of labels, whose
    sum is the mass that means are divided by. The backbone runs once, and nothing grows with the vocabulary.

    Source: Zhang et al. 2018, arXiv 1710.09412, equation 1, for each token.
    """

    @classmethod
    def from_batch(cls, context: Context, model: nn.Module, batch: Mapping[str, Any]) -> FusedBatch:
        if batch.get(LABELS) is None:
            raise ValueError(
                "the trainer keeps the labels back and asks for logits, to compute another loss of them, as a "
                "compute_loss_func does: leave it out, or mix in a loop of your own with `Mixup`"
            )
        refuse_packed(batch)
        batch = expand_shared(batch)
        inner, labels = unwrap(model), batch[LABELS]
        inputs = {key: value for key, value in batch.items() if key not in (LABELS, FUSED)}
        return cls(context, inner, inputs, labels, context.draw(inner, inputs, labels), inplace=False)

    @classmethod
    def prepare(cls, model: nn.Module) -> None:
        refuse_adapter(unwrap(model), fused=True)
        _doubled(unwrap(model))

    def __enter__(self) -> FusedBatch:
        super().__enter__()
        labels = self.labels
        if self.rate:
            labels = torch.cat([labels, labels[self.partner]])
            hooks_of(self._model).track(_doubled(self._model).activate(self.partner, self.lam))
        self.inputs = {**self.inputs, LABELS: labels}
        return self

    def read(self, outputs: Any) -> Any:
        """Return the head's outputs [2B, T] as those of the mixed rows, [B, T]."""
        self._refuse_unmixed()
        if not self.rate:
            return outputs
        tokens = {key: self._blended(value) for key, value in outputs.items() if value.dim() == 2}
        loss = -tokens["log_probs"].sum() / tokens["label_mask"].sum().clamp(min=1e-12)
        return replace(outputs, **{**tokens, "loss": loss})

    def _blended(self, values: Tensor) -> Tensor:
        own, others = values.chunk(2)
        lam = self.lam[:, None]
        return weighted(lam, own) + weighted(1 - lam, others)


class Doubled(MixHook):
    """Repeats the last hidden states, so that each row can be scored against two labels."""

    def after(self, module: nn.Module, args: Any, output: Any) -> Any:
        if not self.on:
            return None
        self.count(module)
        return type(output)(**{**output, "last_hidden_state": output.last_hidden_state.repeat(2, 1, 1)})


def _doubled(model: Any) -> Any:
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model  # of a PEFT model
    return hooks_of(model).after(causal.base_model, Doubled)
