"""The callback that mixes."""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers import TrainerControl, TrainerState, TrainingArguments

from hf_mixup.engine.config import MixupConfig
from hf_mixup.engine.mixup import Mixup
from hf_mixup.engine.unwrap import unwrap
from hf_mixup.integrations.collator import MixupCollator
from hf_mixup.integrations.log_callback import LogCallback
from hf_mixup.integrations.model_hooks import ModelHooks
from hf_mixup.integrations.running import refuse_trainer, the_running_trainer
from hf_mixup.integrations.trl import batch_type_for, refuse_settings, take_smoothing_of_labels_left


class MixupCallback(LogCallback):
    """Mix in a Trainer, TRL's `SFTTrainer` and `RewardTrainer` included, by one more callback.

    Args:
        mixup: a `MixupConfig`, a method's name, or a mapping of settings.
        teacher: a model whose scores are distilled, see `distill_weight` in `MixupConfig`.
        guide: a pretrained model that is asked where to look in the images, see `Mixup`.

    Puts hooks on the model when training begins and removes them at the end, or at the first forward pass after an
    interruption. Schedules follow the Trainer's step. The Trainer logs `mixup_lam`, `mixup_rate` and `mixup_accuracy`
    to all trackers, saves `mixup_config.json` with the model and each checkpoint, and its model card names the method.
    It evaluates and saves with statistics of batch normalisation of clean samples (`refresh_batch_norm`).

    Raises:
        ValueError: when training begins, if the trainer mixes already, has no labels to mix, or is one whose settings
            do not go with mixing; in the first training step, if the batch reaches the model without labels.
        RuntimeError: in the first training step, if its gradients come from another loss than the mixed one.

    >>> MixupCallback("cutmix").mixup.config.method
    'cutmix'
    """

    mixup: Mixup

    def __init__(
        self,
        mixup: MixupConfig | str | dict[str, Any] = "mixup",
        teacher: nn.Module | None = None,
        guide: nn.Module | None = None,
    ) -> None:
        super().__init__(Mixup(mixup, teacher=teacher, guide=guide))
        self._hooks: ModelHooks | None = None
        self._looked = False  # whether the labels of the first step have been looked at

    def on_init_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if kwargs.get("model") is not None:  # before a resumed run loads its weights: a scale starts where it starts
            self.mixup.hold_temperature(kwargs["model"])

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._looked = False
        self._remove_hooks()  # an earlier run may have been interrupted
        trainer = the_running_trainer()
        config, batch_type = self.mixup.config, batch_type_for(args)
        if not config.plain:
            refuse_trainer(trainer, "MixupCallback")
            self._refuse_others(trainer)
            if batch_type is None:
                take_smoothing_of_labels_left(config, unwrap(kwargs["model"]), args.label_smoothing_factor)
            else:
                refuse_settings(batch_type, args, config)
        super().on_train_begin(args, state, control, **kwargs)
        self.mixup.set_tokenizer(kwargs.get("processing_class"))
        self._hooks = ModelHooks(self.mixup, kwargs["model"], self.stats, batch_type, trainer)

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        super().on_pre_optimizer_step(args, state, control, **kwargs)
        if not self._looked and self._hooks is not None:
            self._hooks.refuse_unlabelled()
        self._looked = True

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._remove_hooks()
        super().on_train_end(args, state, control, **kwargs)

    def _refuse_others(self, trainer: Any) -> None:
        others = [each for each in trainer.callback_handler.callbacks if isinstance(each, MixupCallback)]
        if len(others) > 1:
            raise ValueError(
                f"{len(others)} MixupCallbacks in one {type(trainer).__name__}: a model is mixed once, so leave all "
                "but one out ('switch' draws between methods)"
            )
        if isinstance(trainer.data_collator, MixupCollator):
            raise ValueError(
                f"this {type(trainer).__name__} has a MixupCollator and a MixupCallback: a model is mixed once, so "
                "leave one out"
            )

    def _remove_hooks(self) -> None:
        if self._hooks is not None:
            self._hooks.remove()
        self._hooks = None
