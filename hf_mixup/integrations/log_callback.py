"""What every way to mix in a Trainer needs from its training loop: the step, the logs, the saved settings."""

from __future__ import annotations

import inspect
import os
import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import wraps
from itertools import chain
from typing import Any

from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import has_length

from hf_mixup.engine.all_gather import world_size
from hf_mixup.engine.context import Context
from hf_mixup.engine.schedule import Clock
from hf_mixup.engine.stats import MixStats
from hf_mixup.engine.unwrap import unwrap
from hf_mixup.integrations.batch_norm import TrainerBatchNorm, batch_norm_of
from hf_mixup.integrations.ema import EMACallback
from hf_mixup.integrations.learnt import begin_learning, save_learnt
from hf_mixup.integrations.model_card import add_mixing_section
from hf_mixup.integrations.running import refuse_idle, refuse_unused, resumed_from, running_trainer, the_running_trainer
from hf_mixup.integrations.weights import refuse_renamed
from hf_mixup.integrations.whole_card import write_card
from hf_mixup.models.hooks import hooks_of


class ClockCallback(TrainerCallback):
    """Keep an engine's clock at the Trainer's optimizer step, and see to it that what is mixed is what trains.

    Args:
        every_step: whether each step of the optimizer has to come from mixed batches.
    """

    def __init__(self, mixup: Context, stats: MixStats | None = None, every_step: bool = True) -> None:
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
        self.stats.mixed, self.mixup.has_mixed = 0, False
        begin_learning(self.mixup.learning, resumed_from())
        statistics = batch_norm_of(running_trainer())
        if statistics is not None:
            statistics.begin()

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.mixup.set_step(state.global_step)

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        watch = self.mixup.watch
        undrawn = self._every_step and not watch.drawn
        if (watch.unused or undrawn) and not self.mixup.off:  # who trains is looked for only to be named
            refuse_unused(the_running_trainer(), kwargs["model"], watch)
        watch.reset()

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.mixup.learning.step()  # where the optimizer holds copies of the weights (DeepSpeed) nobody else tells it

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        hooks_of(unwrap(kwargs["model"])).forget()
        statistics = batch_norm_of(running_trainer())
        if statistics is not None:
            statistics.leave()
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
        tell(the_running_trainer(), self.mixup, self.stats)
        super().on_train_begin(args, state, control, **kwargs)


def tell(trainer: Any, mixup: Context, stats: MixStats) -> None:
    """Let a Trainer log what an engine mixes, save its settings with the model, and name them in the model card.

    It also evaluates and saves with the statistics of clean samples, see `TrainerBatchNorm`. No callback is asked
    before a model is evaluated or saved, nor for its card, and one that adds to the logs comes too late for the
    trackers before it. So some methods of this trainer do more than those of its class.
    """
    told = hasattr(trainer, "_mixing")
    trainer._mixing = mixup, stats
    if told:
        return
    log, save_model, create_model_card = trainer.log, trainer.save_model, trainer.create_model_card
    statistics = trainer._batch_norm = TrainerBatchNorm(trainer)

    @wraps(log)
    def log_mixing(logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        if "loss" in logs:
            logs.update(trainer._mixing[1].pop(trainer.accelerator.device, trainer.accelerator.reduce))
        cost = statistics.pop()
        logs.update(cost)  # not a copy: TRL's `log` leaves scores of its own in it
        log(logs, *args, **kwargs)
        for name in cost:  # an evaluation returns what it has logged
            del logs[name]

    @wraps(save_model)
    def save_with_settings(output_dir: str | None = None, *args: Any, **kwargs: Any) -> None:
        for each in trainer.callback_handler.callbacks:
            if isinstance(each, EMACallback):
                each.put_back()  # before the statistics are those of other weights than are saved
        # A callback of the user's may save in one process, where the others would not take part in an estimate.
        of_all = kwargs.get("_internal_call") or world_size() == 1
        with statistics.clean() if of_all else nullcontext(), nullcontext() if of_all else _whole(trainer):
            save_model(output_dir, *args, **kwargs)
            if trainer.args.should_save:
                statistics.save_average(str(output_dir or trainer.args.output_dir))
        if trainer.args.should_save:
            trainer._mixing[0].config.save_pretrained(str(output_dir or trainer.args.output_dir))
            save_learnt(trainer._mixing[0].learning, str(output_dir or trainer.args.output_dir))

    @wraps(create_model_card)
    def create_card_of_mixing(*args: Any, **kwargs: Any) -> None:
        if type(trainer).create_model_card is Trainer.create_model_card:
            given = inspect.signature(create_model_card).bind(*args, **kwargs).arguments
            write_card(trainer, trainer._mixing[0].config, **given)
            return
        create_model_card(*args, **kwargs)  # a card of its own, as those of TRL are, gets a section
        if trainer.is_world_process_zero() and os.path.exists(os.path.join(trainer.args.output_dir, "README.md")):
            add_mixing_section(str(trainer.args.output_dir), trainer._mixing[0].config)

    for name in ("evaluate", "predict"):
        setattr(trainer, name, _with_clean_statistics(getattr(trainer, name), statistics))
    trainer.log, trainer.save_model = log_mixing, save_with_settings
    trainer.get_batch_samples = _none_idle(trainer)
    trainer.create_model_card = create_card_of_mixing


def _none_idle(trainer: Any) -> Callable[..., Any]:
    """Let a Trainer see, before its first step, that all processes have a batch: those that have one would wait."""
    get_batch_samples = trainer.get_batch_samples
    begun: Any = None  # the run whose first batches were seen

    @wraps(get_batch_samples)
    def get_seen(batches: Iterator[Any], *args: Any, **kwargs: Any) -> Any:
        nonlocal begun
        if begun is not trainer.state and world_size() > 1:
            begun = trainer.state
            first = next(batches, None)
            refuse_idle(trainer, first is None)
            batches = chain([first], batches)
        return get_batch_samples(batches, *args, **kwargs)

    return get_seen


@contextmanager
def _whole(trainer: Any) -> Iterator[None]:
    """Let FSDP save a model as a whole, where its checkpoints are in parts and the Trainer would save none."""
    plugin = getattr(trainer.accelerator.state, "fsdp_plugin", None)
    if plugin is None:
        yield
        return
    from torch.distributed.fsdp import StateDictType

    kind, plugin.state_dict_type = plugin.state_dict_type, StateDictType.FULL_STATE_DICT
    try:
        yield
    finally:
        plugin.state_dict_type = kind


def _with_clean_statistics(method: Callable[..., Any], statistics: TrainerBatchNorm) -> Callable[..., Any]:
    @wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        with statistics.clean():
            return method(*args, **kwargs)

    return call
