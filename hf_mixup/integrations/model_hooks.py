"""Mixing inside somebody else's training loop, through hooks on the whole model.

This is how a collator or a callback reaches a plain Trainer: before the forward pass the labels are taken out and the
batch is mixed, after it the loss of the mixed batch is put into the output. Only while `model.training`. A model is
mixed once: whoever comes later replaces the hooks that are there, and a copy of the model has none.
"""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from transformers import Trainer

from hf_mixup.data.pair_collator import PAIR_IDS
from hf_mixup.engine.active import Hook, active_hooks
from hf_mixup.engine.all_gather import in_any, world_size
from hf_mixup.engine.batch import MixedBatch
from hf_mixup.engine.contrastive_eval import own_inputs
from hf_mixup.engine.labelled import LabelBatch
from hf_mixup.engine.mixup import Mixup, batch_type_of
from hf_mixup.engine.model_loss import ModelLossBatch
from hf_mixup.engine.rehearsal import rehearse
from hf_mixup.engine.schedule import Clock
from hf_mixup.engine.shares import refuse_other_shares
from hf_mixup.engine.stats import MixStats
from hf_mixup.engine.transcripts import TranscriptBatch
from hf_mixup.engine.unwrap import unwrap
from hf_mixup.integrations.running import refuse_sentences, running_trainer, why_unlabelled
from hf_mixup.integrations.trl import OwnLossBatch
from hf_mixup.models.hooks import hooks_of
from hf_mixup.models.labels import LABEL_KEYS, LABELS, read_labels
from hf_mixup.models.losses import mean_of
from hf_mixup.models.outputs import with_loss
from hf_mixup.models.unlabelled import ENOUGH, count_ignored, refuse_unlabelled
from hf_mixup.utils.constants import IGNORE_INDEX

ITEMS = "num_items_in_batch"


def remove_hooks(model: nn.Module) -> None:
    """Take the hooks that mix off a model, whoever has put them there."""
    hooks = active_hooks(model)
    if hooks is not None:
        hooks.remove()


class ModelHooks:
    """Hooks that mix the batch of each training forward pass, until `remove` is called or others replace them.

    Args:
        batch_type: for a trainer that computes its loss itself; None puts the mixed loss into the outputs.
        trainer: the Trainer for whose `train` alone the hooks are active: when that has ended, also by an exception or
            Ctrl-C, the next forward pass removes them.
        meet: called before each mixed forward pass with the Trainer that makes it, if one does.
    """

    def __init__(
        self,
        mixup: Mixup,
        model: nn.Module,
        stats: MixStats | None = None,
        batch_type: type[OwnLossBatch] | None = None,
        trainer: Trainer | None = None,
        meet: Callable[[Trainer], None] | None = None,
    ) -> None:
        self.mixup, self.model, self.stats, self._batch_type = mixup, unwrap(model), stats or MixStats(), batch_type
        refuse_sentences(type(self.model))
        if self.mixup.config.chunk_size is not None:
            raise ValueError("chunk_size needs MixupTrainer, or `mixed.forward(model)` in a loop of your own")
        self._only_in = trainer is not None
        self._trainer = None if trainer is None else weakref.ref(trainer)  # the last that trained
        self._meet = meet
        self._mixed: MixedBatch | None = None
        self._runs_again = False  # while the model runs with the partners' labels
        self._items: Any = None
        self._own_items: Any = None
        self._batches = 1  # that make an optimizer step, in all micro-steps and processes
        self.ignored: int | None = 0  # labels so far, all of them ignored; None as soon as one counts
        self._rows_ignored = 0
        mixup.prepare(model)
        if batch_type is not None:
            batch_type.prepare(model)
        remove_hooks(self.model)  # of an earlier run: a cell of a notebook that is run again
        self._handles = [
            self.model.register_forward_pre_hook(Hook(self, self._before), with_kwargs=True),
            self.model.register_forward_hook(Hook(self, self._after), with_kwargs=True, always_call=True),
        ]

    def refuse_unlabelled(self) -> None:
        """Refuse a whole step whose labels are all ignored, in all processes; each of them has to ask."""
        if not in_any(self.ignored is None, next(self.model.parameters()).device) and self.ignored:
            refuse_unlabelled(self.ignored)
        self.ignored = None

    def remove(self) -> None:
        """Take the hooks off: the model trains plainly again."""
        self._forget()
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _forget(self) -> None:
        """Let go of the last batch."""
        self._mixed = None
        hooks_of(self.model).forget()

    def _before(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self._runs_again:
            return None
        trainer = running_trainer()
        ended = self._trainer is not None and (trainer is None or trainer is not self._trainer())
        if ended and self._only_in:
            return self.remove()
        if ended or self._mixed is not None:  # a run, or a forward pass, was interrupted
            self._forget()
        batch = self._named(args, kwargs)
        if not model.training or not torch.is_grad_enabled() or self.mixup.plain:
            return ((), own_inputs(model, batch)) if PAIR_IDS in batch else None
        self._trainer = None if trainer is None else weakref.ref(trainer)
        if trainer is not None and self._meet is not None:
            self._meet(trainer)
        if self._batch_type is not None:
            return self._before_own_loss(self._batch_type, batch)
        self.mixup.rehearse(model, {key: value for key, value in batch.items() if key != ITEMS})
        if self.mixup.scored_by_model(model, batch):  # it is the model that reads labels, and what the Trainer counted
            self._items = None
            return (), self._entered(self.mixup(model, batch)).inputs
        unlabelled = all(batch.get(key) is None for key in LABEL_KEYS)
        if unlabelled and batch_type_of(self.model, batch) is LabelBatch:
            raise ValueError(
                f"{type(model).__name__} is set up for mixing, but its batch came without labels ({', '.join(batch)}). "
                + why_unlabelled(trainer)
            )
        self._items = batch.pop(ITEMS, None)
        self._batches = _batches_of_step(trainer)
        self._look_for_labels(batch)
        labels, self._own_items = batch.get(LABELS), None
        if self._items is not None and isinstance(labels, torch.Tensor) and labels.dim() == 3:
            self._own_items = labels.ne(IGNORE_INDEX).sum()  # as the Trainer counts pixels, whatever the model ignores
        mixed = self.mixup(model, batch)
        refuse_other_shares(mixed, labels, self._items)
        return (), self._entered(mixed).inputs

    def _look_for_labels(self, batch: dict[str, Any]) -> None:
        """Refuse labels that are all ignored, once that is no chance; a callback asks at the end of the first step."""
        if self.ignored is None:
            return
        given = any(isinstance(batch.get(key), torch.Tensor) for key in LABEL_KEYS)
        given = given and batch_type_of(self.model, batch) in (LabelBatch, TranscriptBatch)
        ignored = count_ignored(read_labels(self.model, batch)) if given else 0
        if not ignored or (self._items is not None and self._items > 0):
            self.ignored = None
            return
        self.ignored += ignored
        self._rows_ignored += len(next(batch[key] for key in LABEL_KEYS if batch.get(key) is not None))
        whole_step = self._items is not None and world_size() == 1
        if whole_step or self._rows_ignored >= ENOUGH:
            refuse_unlabelled(self.ignored)

    def _before_own_loss(self, batch_type: type[OwnLossBatch], batch: dict[str, Any]) -> Any:
        if batch.get("margin") is not None:
            raise ValueError(
                "the batch has a 'margin', which hooks on the model cannot mix: use class "
                "MixupRewardTrainer(MixupTrainerMixin, RewardTrainer)"
            )
        rehearse(self.mixup, self.model, batch, batch_type.from_batch)
        return (), {**batch, **self._entered(batch_type.from_batch(self.mixup, self.model, batch)).inputs}

    def _entered(self, mixed: MixedBatch) -> MixedBatch:
        try:
            mixed.__enter__()
            self._mixed = mixed
        except BaseException:  # Ctrl-C, too
            self._forget()
            raise
        return mixed

    def _after(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], outputs: Any) -> Any:
        mixed, self._mixed = self._mixed, None
        if mixed is None:
            return None
        if outputs is None:  # the forward pass has failed
            return self._forget()
        if isinstance(mixed, ModelLossBatch):
            outputs = self._with_model_loss(mixed, outputs)
        mixed.__exit__(None, None, None)
        if isinstance(mixed, OwnLossBatch):
            self.stats.add(**mixed.statistics())
            outputs = mixed.read(outputs)
            for each in outputs.values():  # of which the trainer makes its loss
                if isinstance(each, torch.Tensor):
                    self.mixup.watch.follow(each)
            return outputs
        loss = self._share(mixed, outputs)
        self.stats.add(**mixed.statistics())
        return with_loss(outputs, loss)

    def _share(self, mixed: MixedBatch, outputs: Any) -> torch.Tensor:
        """Return the loss of a batch: its share of the step's, if the Trainer has counted the labels of that."""
        if self._items is None:
            return mixed.loss(outputs)
        if isinstance(mixed, TranscriptBatch):  # a mean of samples, which nobody counts: all batches have as many
            return mixed.loss(outputs, self._batches * len(mixed.labels))
        own = mixed.labels.ne(IGNORE_INDEX).sum() if self._own_items is None else self._own_items
        return mean_of(mixed.loss(outputs) * own, self._items)

    def _with_model_loss(self, mixed: ModelLossBatch, outputs: Any) -> Any:
        """Return the outputs with the mixed loss; where the model runs again for it, it is not mixed anew."""
        self._runs_again = True
        try:
            return mixed.scored(outputs)
        except BaseException:  # Ctrl-C, too
            self._forget()
            raise
        finally:
            self._runs_again = False

    def _named(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        if not args:
            return dict(kwargs)
        names = list(inspect.signature(self.model.forward).parameters)
        return {**dict(zip(names, args)), **kwargs}


def _batches_of_step(trainer: Any) -> int:
    """Return how many batches a Trainer adds up to the loss of a step whose labels it has counted."""
    processes = trainer.args.world_size if trainer is not None and trainer.args.average_tokens_across_devices else 1
    return processes * getattr(trainer, "current_gradient_accumulation_steps", 1)


def torch_clock(mixup: Mixup) -> Clock:
    """Return a clock for a loop that tells nobody its step: keys come from torch's generator."""
    return Clock(seed=mixup.config.draw_seed or 0, follows_torch=True)
