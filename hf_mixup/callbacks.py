"""The door for trainers that take callbacks, and what every Trainer door needs from the training loop."""

from __future__ import annotations

import os
from typing import Any

from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from hf_mixup.arming import Armed
from hf_mixup.config import MixupConfig
from hf_mixup.engine import Mixup, unwrap
from hf_mixup.schedule import Clock
from hf_mixup.stats import MixStats
from hf_mixup.trainers import kind_for, refuse_settings, take_smoothing_of_labels_left
from hf_mixup.trainers.foreign import refuse_foreign_trainer
from hf_mixup.weights import refuse_renamed


class ClockCallback(TrainerCallback):
    """Keep an engine's clock at the Trainer's optimizer step."""

    def __init__(self, mixup: Mixup) -> None:
        self.mixup = mixup

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        seed = self.mixup.config.draw_seed
        self.mixup.batch_size = args.train_batch_size
        self.mixup.clock = Clock(
            seed=args.seed if seed is None else seed, total_steps=state.max_steps, total_epochs=state.num_train_epochs
        )

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.mixup.set_step(state.global_step)


class LogCallback(ClockCallback):
    """Log what an engine mixed, and save its settings with each checkpoint."""

    def __init__(self, mixup: Mixup, stats: MixStats | None = None) -> None:
        super().__init__(mixup)
        self.stats = stats or MixStats()

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            folder = os.path.join(str(args.output_dir), f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}")
            self.mixup.config.save_pretrained(folder)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if logs is not None and "loss" in logs:
            found = self.stats.pop()
            logs.update(found)
            state.log_history[-1].update(found)


class MixupCallback(LogCallback):
    """Mix in a Trainer, TRL's `SFTTrainer` and `RewardTrainer` included, by one more callback.

    Args:
        mixup: a `MixupConfig`, a method's name, or a mapping of settings.
        teacher: a model whose scores are distilled, see `distill_weight` in `MixupConfig`.
        guide: a pretrained model that is asked where to look in the pictures, see `Mixup`.

    Arms the model when training begins and disarms it at the end. It knows the Trainer's step, so schedules work, and
    it saves `mixup_config.json` with each checkpoint. `mixup_lam`, `mixup_rate` and `mixup_accuracy` go to the log
    history and to callbacks that come after it; `MixupTrainer` sends them to all trackers.

    Raises:
        ValueError: in the first training step, if the batch reaches the model without labels, and when training
            begins, if the settings do not go with a trainer that computes its loss itself.

    >>> MixupCallback("cutmix").mixup.config.method
    'cutmix'
    """

    def __init__(
        self,
        mixup: MixupConfig | str | dict[str, Any] = "mixup",
        teacher: nn.Module | None = None,
        guide: nn.Module | None = None,
    ) -> None:
        super().__init__(Mixup(mixup, teacher=teacher, guide=guide))
        self._armed: Armed | None = None
        self._looked = False  # whether the labels of the first step have been looked at

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        super().on_train_begin(args, state, control, **kwargs)
        self._looked = False
        self._disarm()  # an earlier run may have been interrupted
        self.mixup.knows(kwargs.get("processing_class"))
        kind = kind_for(args)
        if kind is not None and not self.mixup.config.plain:
            refuse_settings(kind, args, self.mixup.config)
        if not self.mixup.config.plain:
            refuse_foreign_trainer(type(args))
            refuse_renamed(kwargs["model"], args, state)
            if kind is None:
                take_smoothing_of_labels_left(self.mixup.config, unwrap(kwargs["model"]), args.label_smoothing_factor)
        self._armed = Armed(self.mixup, kwargs["model"], self.stats, kind)

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if not self._looked and self._armed is not None:
            self._armed.refuse_unlabelled()
        self._looked = True

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._disarm()

    def _disarm(self) -> None:
        if self._armed is not None:
            self._armed.remove()
        self._armed = None
