"""Mixing inside somebody else's training loop, through hooks on the whole model.

This is how a collator or a callback reaches a plain Trainer: before the forward pass the labels are taken out and the
batch is mixed, after it the loss of the mixed batch is put into the output. Only while `model.training`.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from hf_mixup.batch import MixedBatch
from hf_mixup.contrastive.evaluation import own_inputs
from hf_mixup.contrastive.gather import in_any, world_size
from hf_mixup.engine import ITEMS, Mixup, unwrap
from hf_mixup.forecasts import is_forecast
from hf_mixup.pairs import PAIR_IDS
from hf_mixup.schedule import Clock
from hf_mixup.sites.towers import is_dual_encoder
from hf_mixup.stats import MixStats
from hf_mixup.targets import IGNORED, LABEL_KEYS, LABELS
from hf_mixup.trainers import OwnLossBatch
from hf_mixup.trainers.fused import FUSED
from hf_mixup.unlabelled import ENOUGH, count_ignored, refuse_unlabelled


class Armed:
    """A model whose training forward passes mix their batch, until `remove` is called.

    Args:
        kind: the kind of batch for a trainer that computes its loss itself; None puts the mixed loss into the outputs.
    """

    def __init__(
        self,
        mixup: Mixup,
        model: nn.Module,
        stats: MixStats | None = None,
        kind: type[OwnLossBatch] | None = None,
    ) -> None:
        self.mixup, self.model, self.stats, self._kind = mixup, unwrap(model), stats or MixStats(), kind
        if self.mixup.config.chunk_size is not None:
            raise ValueError("chunk_size needs MixupTrainer, or `mixed.forward(model)` in a loop of your own")
        self._mixed: MixedBatch | None = None
        self._items: Any = None
        self._own_items: Any = None
        self.ignored: int | None = 0  # labels so far, all of them ignored; None as soon as one counts
        self._rows_ignored = 0
        mixup.prepare(model)
        if kind is not None:
            kind.prepare(model)
        # Drawing is plain Python; a compiled model is traced from its own forward on.
        before, after = torch.compiler.disable(self._before), torch.compiler.disable(self._after)
        self._handles = [
            self.model.register_forward_pre_hook(before, with_kwargs=True),
            self.model.register_forward_hook(after, with_kwargs=True),
        ]

    def refuse_unlabelled(self) -> None:
        """Refuse a whole step whose labels are all ignored, in all processes; each of them has to ask."""
        if not in_any(self.ignored is None, next(self.model.parameters()).device) and self.ignored:
            refuse_unlabelled(self.ignored)
        self.ignored = None

    def remove(self) -> None:
        """Take the hooks off: the model trains plainly again."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _before(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        batch = self._named(args, kwargs)
        if not model.training or not torch.is_grad_enabled() or self.mixup.config.plain:
            return ((), own_inputs(model, batch)) if PAIR_IDS in batch else None
        if self._kind is not None:
            return self._before_own_loss(self._kind, batch)
        if batch.get(FUSED):
            raise ValueError(
                "SFTTrainer asks for its fused head, which a MixupCollator cannot mix: use MixupCallback, or "
                "class MixupSFTTrainer(MixupTrainerMixin, SFTTrainer)"
            )
        unlabelled = all(batch.get(key) is None for key in LABEL_KEYS)
        if unlabelled and not is_dual_encoder(model) and not is_forecast(batch):
            raise ValueError(
                f"{type(model).__name__} is armed for mixing, but its batch came without labels ({', '.join(batch)}). "
                "A Trainer's label_smoothing_factor or compute_loss_func takes them away: set label_smoothing in "
                "MixupConfig instead, or use MixupTrainer"
            )
        self._items = batch.pop(ITEMS, None)
        self._look_for_labels(batch)
        labels = batch.get(LABELS)
        if self._items is not None and isinstance(labels, torch.Tensor) and labels.dim() == 3:
            self._own_items = labels.ne(IGNORED).sum()  # as the Trainer counts pixels, whatever the model ignores
        self._mixed = self.mixup(model, batch).__enter__()
        return (), self._mixed.inputs

    def _look_for_labels(self, batch: dict[str, Any]) -> None:
        """Refuse labels that are all ignored, once that is no chance; a callback asks at the end of the first step."""
        if self.ignored is None:
            return
        ignored = count_ignored(self.model, batch)
        if not ignored or (self._items is not None and self._items > 0):
            self.ignored = None
            return
        self.ignored += ignored
        self._rows_ignored += len(next(batch[key] for key in LABEL_KEYS if batch.get(key) is not None))
        whole_step = self._items is not None and world_size() == 1
        if whole_step or self._rows_ignored >= ENOUGH:
            refuse_unlabelled(self.ignored)

    def _before_own_loss(self, kind: type[OwnLossBatch], batch: dict[str, Any]) -> Any:
        if batch.get("margin") is not None:
            raise ValueError(
                "the batch has a 'margin', which hooks on the model cannot mix: use class "
                "MixupRewardTrainer(MixupTrainerMixin, RewardTrainer)"
            )
        self._mixed = kind.draw(self.mixup, self.model, batch).__enter__()
        return (), {**batch, **self._mixed.inputs}

    def _after(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], outputs: Any) -> Any:
        mixed, self._mixed = self._mixed, None
        if mixed is None:
            return None
        mixed.__exit__(None, None, None)
        if isinstance(mixed, OwnLossBatch):
            self.stats.add(mixed)
            return mixed.read(outputs)
        loss = mixed.loss(outputs)
        if self._items is not None:  # the Trainer counted the labels of the whole accumulated batch: take our share
            own = mixed.labels.ne(IGNORED).sum() if self._own_items is None else self._own_items
            loss = loss * own / self._items
        self.stats.add(mixed)
        return with_loss(outputs, loss)

    def _named(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        if not args:
            return dict(kwargs)
        names = list(inspect.signature(self.model.forward).parameters)
        return {**dict(zip(names, args)), **kwargs}


def with_loss(outputs: Any, loss: torch.Tensor) -> Any:
    """Return a model's outputs with a loss in front, where its own would stand."""
    if isinstance(outputs, Mapping):
        return type(outputs)(**{"loss": loss, **{key: value for key, value in outputs.items() if key != "loss"}})
    return (loss, *outputs)


def torch_clock(mixup: Mixup) -> Clock:
    """Return a clock for a loop that tells nobody its step: keys come from torch's generator."""
    return Clock(seed=mixup.config.draw_seed or 0, follows_torch=True)
