"""A Trainer that mixes: a thin subclass, and the mixin behind it for other trainers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from transformers import Trainer

from hf_mixup.data.pair_collator import PairCollator
from hf_mixup.engine.all_gather import in_any, run_together
from hf_mixup.engine.config import MixupConfig
from hf_mixup.engine.contrastive_eval import evaluate_pairs, has_own_loss, own_inputs
from hf_mixup.engine.gradient_cache import refuse_deepspeed
from hf_mixup.engine.labelled import LabelBatch
from hf_mixup.engine.mixup import Mixup, batch_type_of, refuse_no_mapping
from hf_mixup.engine.model_loss import ModelLossBatch
from hf_mixup.engine.rehearsal import rehearse
from hf_mixup.engine.stats import MixStats
from hf_mixup.engine.transcripts import TranscriptBatch
from hf_mixup.engine.unwrap import unwrap
from hf_mixup.integrations.collator import MixupCollator
from hf_mixup.integrations.foreign import refuse_foreign_trainer
from hf_mixup.integrations.log_callback import ClockCallback, tell
from hf_mixup.integrations.model_hooks import remove_hooks
from hf_mixup.integrations.running import refuse_layout
from hf_mixup.integrations.trl import OwnLossBatch, batch_type_for, refuse_foreign_loss, refuse_settings, take_smoothing
from hf_mixup.integrations.weights import load_renamed
from hf_mixup.models.dual_encoder import is_dual_encoder
from hf_mixup.models.hooks import hooks_of
from hf_mixup.models.labels import LABEL_KEYS, LABELS, Labels
from hf_mixup.models.unlabelled import count_ignored, refuse_unlabelled
from hf_mixup.utils.constants import IGNORE_INDEX

if TYPE_CHECKING:
    _AnyTrainer = Trainer
else:
    _AnyTrainer = object


class MixupTrainerMixin(_AnyTrainer):
    """Mixing for a subclass of `transformers.Trainer`: put it first in the bases.

    Args:
        mixup: a `MixupConfig`, a method's name, or a mapping of settings; by default that of the data collator, if it
            is a `MixupCollator`, else "mixup".
        teacher: a model whose scores are distilled, see `distill_weight` in `MixupConfig`.
        guide: a pretrained model that is asked where to look in the images, see `Mixup`.
        args, kwargs: as the Trainer takes them.

    Evaluation and prediction are the Trainer's own, with running statistics of batch normalisation that are estimated
    from clean samples (`refresh_batch_norm`). Off (alpha = 0 or prob = 0) is bit-identical to the plain Trainer.
    The mean loss is taken over the whole accumulated batch and all processes, whatever the model's own loss does.
    Logs `mixup_lam`, `mixup_rate`, `mixup_accuracy` (training accuracy on the mixed labels) and
    `mixup_batch_norm_seconds` (what those estimates cost), saves `mixup_config.json` with the model and each
    checkpoint, and names the method in the model card. A class in front may
    build upon the loss that `super().compute_loss(...)` returns, or take `self.mixup(model, inputs)` apart itself.

    TRL's `SFTTrainer` and `RewardTrainer` compute their loss and logs themselves, as ever, from mixed outputs
    (`hf_mixup.integrations.trl`). Sentence pairs have a loss of their own, `MixedNegativesRankingLoss` in
    `hf_mixup.integrations.sentence_transformers`.

    Raises:
        ValueError: if the collator and `mixup` disagree, with a `compute_loss_func` or a trainer with another
            `compute_loss` of its own, which know no mixed labels, or with packed sequences.
        TypeError: for a class that has the Trainer before the mixin.
        RuntimeError: under DataParallel; in the first training step of a class that trains on another loss.

    >>> class MyTrainer(MixupTrainerMixin, Trainer):
    ...     pass
    """

    def __init__(
        self,
        *args: Any,
        mixup: MixupConfig | str | dict[str, Any] | Mixup | None = None,
        teacher: nn.Module | None = None,
        guide: nn.Module | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.mixup = self._engine(mixup)
        if teacher is not None:
            self.mixup.set_teacher(teacher)
        if guide is not None:
            self.mixup.set_guide(guide)
        self.mixup_stats = MixStats()
        self._masses: Tensor | None = None  # what the labels of this step weigh, see `LabelBatch.masses`
        self._predicts = False  # while a batch is evaluated, whose loss is the Trainer's own
        self._labelled = False  # whether a label that counts has been seen
        self._batch_type = batch_type_for(self.args)
        if self._batch_type is None or isinstance(self.data_collator, MixupCollator):
            collator = MixupCollator.wrap(self.data_collator, self.mixup)
            collator.adopt(cast(nn.Module, self.model))
            self.data_collator = collator
        self.mixup.set_tokenizer(self.processing_class)
        self._refuse_what_cannot_mix()
        if not self.mixup.plain:
            self.mixup.prepare(cast(nn.Module, self.model))
            if self._batch_type is not None:
                self._batch_type.prepare(cast(nn.Module, self.model))
        remove_hooks(cast(nn.Module, self.model))  # a collator or callback of an earlier run
        self.add_callback(ClockCallback(self.mixup, self.mixup_stats))
        tell(self, self.mixup, self.mixup_stats)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        bases = cls.__mro__
        if Trainer in bases and bases.index(Trainer) < bases.index(MixupTrainerMixin):
            raise TypeError(f"{cls.__name__} would train plainly: put MixupTrainerMixin before Trainer in its bases")

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Train as the Trainer does; however that ends, the model is plain afterwards."""
        try:
            return super().train(*args, **kwargs)
        finally:
            self._masses = None
            self.mixup.forget_labels()
            hooks_of(unwrap(cast(nn.Module, self.model))).forget()

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Return the loss of a batch: mixed in training, the Trainer's own in evaluation or where mixing is off."""
        if not model.training or self._plain:
            with self._smoother_for(model, inputs):
                return super().compute_loss(model, self._own_inputs(inputs), return_outputs, num_items_in_batch)
        if self._batch_type is not None:
            rehearse(self.mixup, unwrap(model), inputs, self._batch_type.from_batch)
            own = self._batch_type.from_batch(self.mixup, model, inputs)
            return self._scored_behind(own, model, own.seen(inputs), return_outputs, num_items_in_batch)
        mixed = self.mixup(model, inputs)
        if isinstance(mixed, ModelLossBatch):
            return self._scored_behind(mixed, model, None, return_outputs, num_items_in_batch)
        if isinstance(mixed, LabelBatch):
            mixed.masses = self._masses
        with mixed:
            outputs = mixed.forward(model)
        loss = mixed.loss(outputs, num_items_in_batch)
        self.mixup_stats.add(**mixed.statistics())
        loss = self._scaled_as_the_trainer_expects(loss, num_items_in_batch)
        return (loss, outputs) if return_outputs else loss

    def _scored_behind(
        self,
        mixed: ModelLossBatch | OwnLossBatch,
        model: nn.Module,
        seen: dict[str, Any] | None,
        return_outputs: bool,
        num_items_in_batch: Tensor | int | None,
    ) -> Any:
        """Return the loss that the trainer behind computes, with its logs, from what the model makes of a mixed batch.

        Args:
            seen: the batch as that trainer is to see it; None for the mixed inputs.
        """
        with mixed:
            given = dict(mixed.inputs) if seen is None else seen
            stand_in: Any = mixed.standing_for(model)
            result = super().compute_loss(stand_in, given, return_outputs, num_items_in_batch)
        self.mixup.watch.follow(result[0] if isinstance(result, tuple) else result)
        self.mixup_stats.add(**mixed.statistics())
        return result

    def prediction_step(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> tuple[Tensor | None, Any, Any]:
        """Evaluate a batch as the Trainer does; of a dual encoder, keep the embeddings, see `pair_compute_metrics`."""
        if not self._pairs:
            self._predicts = True
            try:
                return super().prediction_step(model, inputs, prediction_loss_only, ignore_keys)
            finally:
                self._predicts = False
        with self.compute_loss_context_manager():
            loss, embeds, ids = evaluate_pairs(model, unwrap(model), self._prepare_inputs(inputs))
        return (loss, None, None) if prediction_loss_only else (loss, embeds, ids)

    @property
    def _pairs(self) -> bool:
        return is_dual_encoder(unwrap(cast(nn.Module, self.model)))

    @property
    def _plain(self) -> bool:
        """Whether training is the plain Trainer's; a dual encoder without a loss of its own is given one."""
        return self.mixup.plain and (not self._pairs or has_own_loss(unwrap(cast(nn.Module, self.model))))

    def _own_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        return own_inputs(unwrap(cast(nn.Module, self.model)), inputs) if self._pairs else inputs

    @contextmanager
    def _smoother_for(self, model: nn.Module, inputs: dict[str, Any]) -> Iterator[None]:
        """Mend what the Trainer's smoother does not know of the labels.

        It knows one label a sample, and is left out where there are several to evaluate. It shifts the labels of
        language models by their names, and those of models that see images, too, are others: without the shift they
        would learn to repeat the token that they read.
        """
        labels, smoother = inputs.get(LABELS), self.label_smoother
        if not model.training and isinstance(labels, Tensor) and labels.is_floating_point():
            self.label_smoother = None
        elif smoother is not None and getattr(self, "_loss_shifts_labels", False):
            self.label_smoother = cast(Any, partial(smoother, shift_labels=True))
        try:
            yield
        finally:
            self.label_smoother = smoother

    def _scaled_as_the_trainer_expects(self, loss: Tensor, num_items_in_batch: Tensor | int | None) -> Tensor:
        """Undo the divisions that follow `compute_loss` and would count twice."""
        if num_items_in_batch is None:  # a mean over this batch: the Trainer divides it by the number of batches
            return loss
        if self.args.average_tokens_across_devices:  # DDP averages over processes what is already a share of the whole
            loss = loss * (self.accelerator.num_processes // self.get_tp_size())
        scaled = getattr(self, "loss_is_scaled_for_ga", None)
        scaled = self.model_accepts_loss_kwargs if scaled is None else scaled
        steps = 1 if scaled else self.current_gradient_accumulation_steps
        return loss if steps == 1 else loss * steps

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> Any:
        """Return what the summed loss of an accumulated batch is divided by, over all processes."""
        if self._predicts:
            # The mean of a process's own batch, whose mean over processes is exact. With a count the Trainer multiplies
            # the loss by the number of processes, also that of a model which takes the count and does not divide by it.
            return None
        self._masses = None
        model = unwrap(cast(nn.Module, self.model))
        if batch_samples and not self._plain:
            refuse_no_mapping(batch_samples[0])
        if batch_samples and self._batch_type is None and not self._plain and run_together(model):
            self.mixup.rehearse(model, self._prepare_inputs(batch_samples[0]))
        if self._counts_plainly(batch_samples):
            return super()._get_num_items_in_batch(batch_samples, device)
        if self.mixup.loss_is_unchecked(model, batch_samples[0]) and not self._pairs:
            # It also learns which labels of a language model count.
            self.mixup.check_loss(model, self._prepare_inputs(batch_samples[0]))
        labels = self.mixup.read_ahead(model, batch_samples)
        if not self._labelled:
            self._refuse_unlabelled(labels, device)
        items = [self.mixup.count_items(each) for each in labels]
        total = (items[0] if len(items) == 1 else torch.stack(items).sum()).to(device)
        if self._sums_over_processes:
            total = self.accelerator.gather(total).sum()
        if self.mixup.class_weights is not None or len(batch_samples) > 1 or self.args.world_size > 1:
            self._masses = self._masses_ahead(model, batch_samples, labels)
        return total

    def _counts_plainly(self, batches: list[Any]) -> bool:
        """Whether the labels of a step are none that are mixed here, and are counted as in any Trainer."""
        if self._plain or self._batch_type is not None or not batches:
            return True
        inner = unwrap(cast(nn.Module, self.model))
        if self.mixup.scored_by_model(inner, batches[0]):
            return True
        counted = batch_type_of(inner, batches[0]) in (LabelBatch, TranscriptBatch)
        return not counted or not any(key in batches[0] for key in LABEL_KEYS)

    def _refuse_unlabelled(self, labels: list[Labels], device: torch.device) -> None:
        """Refuse a first step whose labels are all ignored, in all processes."""
        ignored = [count_ignored(each) for each in labels]
        self._labelled = in_any(not all(ignored), device)
        if not self._labelled and not self._pairs:
            refuse_unlabelled(sum(ignored))

    def _masses_ahead(self, model: nn.Module, batches: list[Any], labels: list[Labels]) -> Tensor | None:
        """Return what the labels of the rows and of their partners weigh in all micro-batches of a step.

        None where it is the same for both. The batches are drawn for it, and will be drawn again, by the same keys.
        """
        counts = any(each.kind == "single_label_classification" for each in labels)
        differ = self.mixup.class_weights is not None
        if counts and not differ:  # one look at all of them: each waits for the device
            differ = bool(torch.stack([(each.values == IGNORE_INDEX).any() for each in labels]).any())
        if not in_any(counts and differ, self.accelerator.device):
            return None
        self.mixup.set_step(self.state.global_step)  # the step's own keys: it begins after the count
        with self.compute_loss_context_manager():
            drawn = [self.mixup(model, self._prepare_inputs(batch)) for batch in batches]
        self.mixup.set_step(self.state.global_step)
        return self._whole_masses([each.own_masses() for each in drawn if isinstance(each, LabelBatch)])

    def _whole_masses(self, masses: list[Tensor]) -> Tensor:
        """Add the masses of all micro-batches and processes; a batch with fewer sets of labels weighs as its own do."""
        width = max(map(len, masses))
        whole = torch.stack([torch.cat([each, each[:1].expand(width - len(each))]) for each in masses]).sum(0)
        if not self._sums_over_processes:
            return whole
        every = self.accelerator.gather(self.accelerator.pad_across_processes(whole, pad_index=-1)[None])
        return torch.where(every < 0, every[:, :1], every).sum(0)

    @property
    def _sums_over_processes(self) -> bool:
        """Whether the mean loss is taken over all processes."""
        return bool(self.args.average_tokens_across_devices and self.args.world_size > 1)

    def _remove_unused_columns(self, dataset: Any, description: str | None = None) -> Any:
        """Leave the columns of images and captions that a `PairCollator` is going to read."""
        return dataset if self._reads_columns else super()._remove_unused_columns(dataset, description)

    def _get_collator_with_removed_columns(self, data_collator: Any, description: str | None = None) -> Any:
        if self._reads_columns:
            return data_collator
        return super()._get_collator_with_removed_columns(data_collator, description)

    @property
    def _reads_columns(self) -> bool:
        return isinstance(getattr(self.data_collator, "base", None), PairCollator)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        if not self._loads_renamed(resume_from_checkpoint):
            super()._load_from_checkpoint(resume_from_checkpoint, *(() if model is None else (model,)))

    def _load_best_model(self) -> None:
        if not self._loads_renamed(str(self.state.best_model_checkpoint)):
            super()._load_best_model()

    def _loads_renamed(self, folder: str) -> bool:
        apart = self.is_fsdp_enabled or self.is_deepspeed_enabled  # which keep checkpoints of their own
        return not apart and load_renamed(unwrap(cast(nn.Module, self.model)), folder)

    def _engine(self, mixup: MixupConfig | str | dict[str, Any] | Mixup | None) -> Mixup:
        carried = self.data_collator.mixup if isinstance(self.data_collator, MixupCollator) else None
        if mixup is None:
            return carried or Mixup("mixup")
        engine = mixup if isinstance(mixup, Mixup) else Mixup(mixup)
        if carried is not None and carried.config != engine.config:
            raise ValueError(
                f"the data collator carries {carried.config.method!r} and mixup= says {engine.config.method!r}, or "
                "their settings differ: give the settings once"
            )
        return carried or engine

    def _refuse_what_cannot_mix(self) -> None:
        if self.mixup.plain:
            return
        refuse_layout(self)
        if self._pairs and self.args.train_batch_size * self.args.world_size == 1:
            raise ValueError(
                "per_device_train_batch_size=1: a pair alone has no other to be told from, so that nothing is learnt; "
                "use as many pairs a batch as you can (chunk_size trains many in little memory)"
            )
        if self.mixup.config.chunk_size is not None:
            refuse_deepspeed(cast(nn.Module, self.model), self.is_deepspeed_enabled)
        refuse_foreign_trainer(type(self))
        refuse_foreign_loss(self, MixupTrainerMixin)
        if self.compute_loss_func is not None:
            raise ValueError("compute_loss_func knows no mixed labels: leave it out, MixupTrainer computes the loss")
        if self._batch_type is not None:
            return refuse_settings(self._batch_type, self.args, self.mixup.config)
        take_smoothing(self.mixup.config, self.args.label_smoothing_factor)


class MixupTrainer(MixupTrainerMixin, Trainer):
    """`transformers.Trainer` that mixes.

    Args:
        mixup: a `MixupConfig`, a method's name ("mixup", "cutmix", "manifold", ...), or a mapping of settings.
        teacher: a model whose scores are distilled, see `MixupTrainerMixin`.
        args, kwargs: as `transformers.Trainer` takes them.

    See `MixupTrainerMixin` for what it does, and Zhang et al. 2018, arXiv 1710.09412, for the idea.

    >>> from transformers import ResNetConfig, ResNetForImageClassification, TrainingArguments
    >>> import tempfile
    >>> model = ResNetForImageClassification(ResNetConfig(num_labels=2, hidden_sizes=[8], depths=[1], embedding_size=8))
    >>> data = [{"pixel_values": torch.rand(3, 16, 16), "labels": i % 2} for i in range(8)]
    >>> args = TrainingArguments(tempfile.mkdtemp(), max_steps=1, report_to=[], disable_tqdm=True, use_cpu=True)
    >>> trainer = MixupTrainer(model, args, train_dataset=data, mixup="cutmix")
    >>> trainer.train().global_step  # doctest: +ELLIPSIS
    {...}
    1
    """
