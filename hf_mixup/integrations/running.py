"""The Trainer that runs: who it is, whether it can be mixed from outside, and whether it trains on what was mixed."""

from __future__ import annotations

import sys
from typing import Any

from torch import nn
from transformers import Trainer
from transformers.trainer_utils import has_length

from hf_mixup.engine.all_gather import first_with, process_index, refuse_shared_samples, world_size
from hf_mixup.engine.stats import Watch
from hf_mixup.integrations.foreign import base_from, refuse_foreign_trainer

TRAINING = ("train", "_inner_training_loop")  # some packages put a function of their own in place of the first
SETTINGS = "class weights, label smoothing and BCE are settings of MixupConfig"


def running_trainer() -> Trainer | None:
    """Return the Trainer whose `train` is running now, None where there is none.

    A collator, a callback and a hook are not told who trains, so it is looked for among their callers. (A forked worker
    of a data loader has the callers of its parent, too; a spawned one has not.)
    """
    return _of_training("self", Trainer)


def resumed_from() -> str | None:
    """Return the checkpoint that the Trainer which is running now has gone on from, None where it began anew."""
    return _of_training("resume_from_checkpoint", str)


def _of_training(name: str, kind: type) -> Any:
    """Return a variable of the innermost training loop among the callers, None where none of them has it."""
    frame = sys._getframe(0)
    while frame.f_back is not None:
        frame = frame.f_back
        if frame.f_code.co_name in TRAINING and isinstance(frame.f_locals.get("self"), Trainer):
            found = frame.f_locals.get(name)
            return found if isinstance(found, kind) else None
    return None


def the_running_trainer() -> Any:
    """Return the Trainer whose `train` is running now.

    Raises:
        RuntimeError: if there is none.
    """
    trainer = running_trainer()
    if trainer is None:
        raise RuntimeError("a callback that mixes is for `train` of a transformers Trainer, and none is running")
    return trainer


def mixes_itself(trainer: Any) -> bool:
    """Whether a trainer has MixupTrainerMixin among its bases."""
    return hasattr(trainer, "mixup_stats")


def owner_of(trainer: Any, method: str = "compute_loss", behind: type | None = None) -> type:
    """Return the class that a trainer has a method from, or would have it from behind one of its bases."""
    bases = type(trainer).__mro__
    return next(base for base in bases[0 if behind is None else bases.index(behind) + 1 :] if method in vars(base))


def refuse_trainer(trainer: Any, entry: str) -> None:
    """Refuse a trainer that cannot be mixed through the model, because it mixes already or has no labels to mix.

    Args:
        entry: what mixes, "MixupCallback" or "MixupCollator".

    Raises:
        ValueError: naming the trainer and the way out.
        RuntimeError: under DataParallel.
    """
    if mixes_itself(trainer):
        raise ValueError(f"{type(trainer).__name__} mixes by itself: leave the {entry} out, or use a plain Trainer")
    refuse_layout(trainer)
    for each in (type(trainer), type(trainer.args)):
        refuse_foreign_trainer(each)
    refuse_sentences(type(trainer))


def refuse_layout(trainer: Any) -> None:
    """Refuse several GPUs in one process, and processes that share their samples.

    Raises:
        RuntimeError: under DataParallel, naming the way out.
        ValueError: under tensor, context or sequence parallelism; for a weight that FSDP2 cannot spread.
    """
    if trainer.args.n_gpu > 1:
        raise RuntimeError(
            f"{trainer.args.n_gpu} GPUs in one process would run DataParallel, which splits a batch after its "
            "partners are drawn: launch with `accelerate launch` or `torchrun`"
        )
    spread = getattr(trainer.accelerator, "parallelism_config", None)  # None also in old releases of Accelerate
    refuse_shared_samples(
        {
            "layers (tensor parallelism)": getattr(spread, "tp_size", None),
            "sequences (context parallelism)": getattr(spread, "cp_size", None),
            "sequences (sequence parallelism)": getattr(spread, "sp_size", None),
        }
    )
    if getattr(getattr(trainer.accelerator.state, "fsdp_plugin", None), "fsdp_version", 1) == 2:
        _refuse_numbers(trainer.model)


def _refuse_numbers(model: nn.Module) -> None:
    """Refuse weights that are a number alone, as the temperature of a dual encoder, of which FSDP2 makes no parts."""
    for name, parameter in model.named_parameters():
        if parameter.dim() == 0:
            raise ValueError(
                f"{name} of {type(model).__name__} is a number alone, which FSDP2 cannot spread over processes: use "
                "DDP (chunk_size trains large batches in little memory)"
            )


def refuse_idle(trainer: Any, empty: bool) -> None:
    """Refuse a run in which a process has nothing to train on; all processes have to ask.

    Args:
        empty: whether this one has not a single batch.

    Raises:
        ValueError: naming the first process without samples of its own, and the way out.
    """
    data, processes = trainer.train_dataset, world_size()
    rows = len(data) if has_length(data) else processes
    idle = first_with(empty or process_index() >= rows, trainer.args.device)
    if idle is not None:
        held = f"of {rows} samples" if has_length(data) else "of the stream"
        raise ValueError(
            f"process {idle} of {processes} has no samples {held} to train on, and the others would wait for it: start "
            "fewer processes (--num_processes, --nproc-per-node), or give them more samples (of a stream that is "
            "divided by shards, as many shards as processes)"
        )


def refuse_sentences(kind: type) -> None:
    """Refuse a class of sentence-transformers, a trainer or a model: its losses are objects of their own.

    Raises:
        ValueError: naming the class and the way out.

    >>> refuse_sentences(nn.Linear)
    """
    name = base_from("sentence_transformers", kind)
    if name is not None:
        raise ValueError(
            f"{name} takes a loss that knows no mixed labels: pass loss=MixedNegativesRankingLoss(model) "
            "(hf_mixup.integrations.sentence_transformers) to a plain SentenceTransformerTrainer; its other losses are "
            "not mixed"
        )


def refuse_unused(trainer: Any, model: nn.Module, watch: Watch) -> None:
    """Refuse a step of the optimizer that has its gradients from something else than mixed losses.

    Raises:
        RuntimeError: naming what computes the loss, and the way out.
    """
    if not any(each.grad is not None for each in model.parameters()):
        return  # a step that the trainer has skipped
    if not watch.drawn:
        way = (
            "trains without the loss of MixupTrainer. Build upon what super().compute_loss(...) returns, or take "
            "mixed.inputs and mixed.targets of `with self.mixup(model, inputs) as mixed`"
            if mixes_itself(trainer)
            else "passes over the hooks of the model. Call model(**inputs), not model.forward or a part of the model"
        )
        raise RuntimeError(
            f"nothing was mixed in this step, and yet {type(model).__name__} has gradients: {_loss_of(trainer)} {way}"
        )
    if watch.unused:
        way = (
            "Build upon the loss that super().compute_loss(...) returns"
            if mixes_itself(trainer)
            else "Give the labels to the model and use the loss in its outputs (outputs.loss)"
        )
        raise RuntimeError(
            f"no gradient reached the loss of the mixed batch: {_loss_of(trainer)} trains on another one, with blended "
            f"inputs and labels that are not mixed. {way} ({SETTINGS}), or write the loop with `Mixup`"
        )


def _loss_of(trainer: Any) -> str:
    """Return the name of what a trainer has its loss from."""
    if getattr(trainer, "compute_loss_func", None) is not None:
        return "compute_loss_func"
    if "compute_loss" in vars(trainer):
        return f"the compute_loss that was put into this {type(trainer).__name__}"
    step, loss = owner_of(trainer, "training_step"), owner_of(trainer)
    ours = loss.__module__.startswith("hf_mixup.")
    own_step = step is not Trainer and step is not loss and (ours or issubclass(step, loss))
    return f"{step.__name__}.training_step" if own_step else f"{loss.__name__}.compute_loss"


def why_unlabelled(trainer: Any) -> str:
    """Return why a batch may have come without labels to a model that mixes, and the way out."""
    if getattr(trainer, "compute_loss_func", None) is not None:
        return f"compute_loss_func takes them away, and knows no mixed labels: leave it out ({SETTINGS})"
    if trainer is not None and owner_of(trainer) is not Trainer:
        return (
            f"{_loss_of(trainer)} keeps them for a loss of its own, which knows no mixed labels: give them to the "
            f"model and use outputs.loss ({SETTINGS}), or write the loop with `Mixup`"
        )
    return "Put them into the batch as 'labels', or train without mixing"
