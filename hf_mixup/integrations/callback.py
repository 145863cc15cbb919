"""The callback that mixes, and what every way to mix in a Trainer needs from the training loop."""

from __future__ import annotations

import os
import warnings
import weakref
from functools import wraps
from typing import Any

from torch import nn
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import has_length

from hf_mixup.engine.config import MixupConfig
from hf_mixup.engine.mixup import Mixup, unwrap
from hf_mixup.engine.schedule import Clock
from hf_mixup.engine.stats import MixStats
from hf_mixup.integrations.model_hooks import Armed
from hf_mixup.integrations.running import refuse_trainer, refuse_unused, running_trainer
from hf_mixup.integrations.trl import kind_for, refuse_settings, take_smoothing_of_labels_left
from hf_mixup.integrations.weights import refuse_renamed
from hf_mixup.models.hooks import hooks_of


class ClockCallback(TrainerCallback):
    """Keep an engine's clock at the Trainer's optimizer step, and see to it that what is mixed is what trains.

    Args:
        every_step: whether each step of the optimizer has to come from mixed batches.
    """

    def __init__(self, mixup: Mixup, stats: MixStats | None = None, every_step: bool = True) -> None:
        self.mixup = mixup
        self.stats = stats or MixStats()
        self._every_step = every_step

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        seed = self.mixup.config.draw_seed
        self.mixup.batch_size = args.train_batch_size
        self.mixup.clock = Clock(
            seed=args.seed if seed is None else seed,
            total_steps=state.max_steps,
            total_epochs=_epochs(args, state, kwargs.get("train_dataloader")),
        )
        self.mixup.watch.reset()
        self.stats.mixed = 0

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.mixup.set_step(state.global_step)

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        watch = self.mixup.watch
        if not self.mixup.config.off and (watch.drawn or self._every_step):
            refuse_unused(_the_trainer(), kwargs["model"], watch)
        watch.reset()

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        hooks_of(unwrap(kwargs["model"])).forget()
        if not self.stats.mixed and not self.mixup.config.off:
            warnings.warn(
                f"nothing was mixed in {state.global_step} steps: look at prob={self.mixup.config.prob}, the schedule "
                "and the batch size",
                UserWarning,
                stacklevel=2,
            )


def _epochs(args: TrainingArguments, state: TrainerState, loader: Any) -> float | None:
    """Return how many epochs training has, in parts, too; None where nobody knows how long one is."""
    if not has_length(loader):
        return None
    return state.max_steps / max(1, -(-len(loader) // args.gradient_accumulation_steps))


class LogCallback(ClockCallback):
    """Let a Trainer log what an engine mixes, save its settings with the model, and name them in the model card."""

    _joined: weakref.ref[Trainer] | None = None

    def join(self, trainer: Trainer | None) -> bool:
        """Take part in a Trainer that is running already; return False, and do nothing, without one, or if it does."""
        if trainer is None or self in trainer.callback_handler.callbacks:
            return False
        trainer.add_callback(self)
        self._joined = weakref.ref(trainer)
        loader = trainer.callback_handler.train_dataloader
        self.on_train_begin(trainer.args, trainer.state, trainer.control, model=trainer.model, train_dataloader=loader)
        self.on_step_begin(trainer.args, trainer.state, trainer.control)
        return True

    def leave(self) -> None:
        """Take part no longer in the Trainer that was joined."""
        trainer = None if self._joined is None else self._joined()
        if trainer is not None:
            trainer.remove_callback(self)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if not self.mixup.config.plain:
            refuse_renamed(kwargs["model"], args, state)
        super().on_train_begin(args, state, control, **kwargs)
        tell(_the_trainer(), self.mixup, self.stats)


def tell(trainer: Any, mixup: Mixup, stats: MixStats) -> None:
    """Let a Trainer log what an engine mixes, save its settings with the model, and name them in the model card.

    No callback is asked when a model or its card is saved, and one that adds to the logs comes too late for the
    trackers before it. So three methods of this trainer do more than those of its class.
    """
    told = hasattr(trainer, "_mixing")
    trainer._mixing = mixup, stats
    if told:
        return
    log, save_model, create_model_card = trainer.log, trainer.save_model, trainer.create_model_card

    @wraps(log)
    def log_mixing(logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        if "loss" in logs:
            logs.update(trainer._mixing[1].pop(trainer.accelerator.device, trainer.accelerator.reduce))
        log(logs, *args, **kwargs)

    @wraps(save_model)
    def save_with_settings(output_dir: str | None = None, *args: Any, **kwargs: Any) -> None:
        save_model(output_dir, *args, **kwargs)
        if trainer.args.should_save:
            trainer._mixing[0].config.save_pretrained(str(output_dir or trainer.args.output_dir))

    @wraps(create_model_card)
    def create_card_of_mixing(*args: Any, **kwargs: Any) -> None:
        create_model_card(*args, **kwargs)
        if trainer.is_world_process_zero() and os.path.exists(os.path.join(trainer.args.output_dir, "README.md")):
            from hf_mixup.integrations.model_card import add_mixing_section

            add_mixing_section(str(trainer.args.output_dir), trainer._mixing[0].config)

    trainer.log, trainer.save_model = log_mixing, save_with_settings
    trainer.create_model_card = create_card_of_mixing


def _the_trainer() -> Any:
    trainer = running_trainer()
    if trainer is None:
        raise RuntimeError("a callback that mixes is for `train` of a transformers Trainer, and none is running")
    return trainer


class MixupCallback(LogCallback):
    """Mix in a Trainer, TRL's `SFTTrainer` and `RewardTrainer` included, by one more callback.

    Args:
        mixup: a `MixupConfig`, a method's name, or a mapping of settings.
        teacher: a model whose scores are distilled, see `distill_weight` in `MixupConfig`.
        guide: a pretrained model that is asked where to look in the images, see `Mixup`.

    Arms the model when training begins and disarms it at the end, or at the first forward pass after an interruption.
    It knows the Trainer's step, so schedules work. The Trainer logs `mixup_lam`, `mixup_rate` and `mixup_accuracy` to
    all trackers, saves `mixup_config.json` with the model and each checkpoint, and its model card names the method.

    Raises:
        ValueError: when training begins, if the trainer mixes already, has no labels to mix, or is one whose settings
            do not go with mixing; in the first training step, if the batch reaches the model without labels.
        RuntimeError: in the first training step, if its gradients come from another loss than the mixed one.

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

    def on_init_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if kwargs.get("model") is not None:  # before a resumed run loads its weights: a scale starts where it starts
            self.mixup.hold_temperature(kwargs["model"])

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._looked = False
        self._disarm()  # an earlier run may have been interrupted
        trainer = _the_trainer()
        config, kind = self.mixup.config, kind_for(args)
        if not config.plain:
            refuse_trainer(trainer, "MixupCallback")
            self._refuse_others(trainer)
            if kind is None:
                take_smoothing_of_labels_left(config, unwrap(kwargs["model"]), args.label_smoothing_factor)
            else:
                refuse_settings(kind, args, config)
        super().on_train_begin(args, state, control, **kwargs)
        self.mixup.knows(kwargs.get("processing_class"))
        self._armed = Armed(self.mixup, kwargs["model"], self.stats, kind, trainer)

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        super().on_pre_optimizer_step(args, state, control, **kwargs)
        if not self._looked and self._armed is not None:
            self._armed.refuse_unlabelled()
        self._looked = True

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._disarm()
        super().on_train_end(args, state, control, **kwargs)

    def _refuse_others(self, trainer: Any) -> None:
        from hf_mixup.integrations.collator import MixupCollator

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

    def _disarm(self) -> None:
        if self._armed is not None:
            self._armed.remove()
        self._armed = None
