"""From settings to a running page."""

from __future__ import annotations

import socket
from contextlib import closing

import torch
from transformers import TrainingArguments, set_seed

from hf_mixup.experiments.mixing import SharedSettings
from hf_mixup.experiments.playground.controller import Page
from hf_mixup.experiments.playground.show import VIEWS
from hf_mixup.experiments.playground.stage import Stage, fitting_methods
from hf_mixup.experiments.tasks.arguments import TaskArguments
from hf_mixup.experiments.tasks.data import load_splits
from hf_mixup.experiments.tasks.prepare import check_mixing
from hf_mixup.experiments.tasks.saved import check_folder
from hf_mixup.experiments.tasks.trained import load_model, relabelled
from hf_mixup.utils.silence import silence_libraries

_ROWS = 100  # to choose from
_UNTRAINED = (
    "These are predictions of the model **before training**: name a trained one with `--model`, such as the folder "
    "that `hf-mixup train` left."
)


def playground(
    task: TaskArguments,
    mixup: SharedSettings,
    args: TrainingArguments,
    checkpoint: str | None = None,
    port: int | None = None,
) -> None:
    """Serve a page on this machine to mix two validation rows by hand, until Ctrl-C.

    Args:
        checkpoint: folder of a trained model, or its name on the Hub; without it, predictions are those of the model
            that training would start from.
        port: of 127.0.0.1; by default the first free one from 7860 on.

    Raises:
        ImportError: if gradio or matplotlib is not installed.
        ValueError, OSError: for a task, settings, data, a model or a port that do not do.
    """
    _refuse(task, checkpoint, port)
    from hf_mixup.experiments.playground.app import build, launch

    launch(build(make_page(task, mixup, args, checkpoint)), port)


def make_page(
    task: TaskArguments, mixup: SharedSettings, args: TrainingArguments, checkpoint: str | None = None
) -> Page:
    """Load data and model, try which methods fit, and return the content of the page; see `playground`."""
    set_seed(args.seed)
    splits = load_splits(task)
    if checkpoint is not None:
        splits, task = relabelled(splits, checkpoint, task.columns["label"]), task.for_checkpoint(checkpoint)
    prepared = task.prepared(splits)
    model = prepared.build_model() if checkpoint is None else load_model(checkpoint, task.task).requires_grad_()
    view = VIEWS[task.task](prepared, task)
    stage = Stage(view.rows, prepared.collator, model, mixup, prepared.processing_class)
    rows = torch.randperm(len(view.rows), generator=torch.Generator().manual_seed(args.seed))[:_ROWS].tolist()
    if len(rows) < 2:
        raise ValueError(f"two rows are mixed, and the validation split has {len(rows)}: give it more")
    own = rows[0]
    first = own, next((row for row in rows if view.label(row) != view.label(own)), rows[1])
    with silence_libraries():
        fits = fitting_methods(stage, *first, lambda config: check_mixing(prepared, model, config))
    if fits[mixup.method]:
        those = ", ".join(name for name, reason in fits.items() if not reason)
        raise ValueError(f"{fits[mixup.method]} These methods mix such rows: {those or 'none'}")
    methods = sorted((name for name, reason in fits.items() if not reason), key=lambda name: name != mixup.method)
    named = type(model).__name__ + ("" if checkpoint is None else f" of `{checkpoint}`")
    heading = f"{task.task}, dataset `{task.dataset}`, {named}. The samples are of the validation split."
    return Page(stage, view, sorted(rows, key=view.choice), first, methods, heading, "" if checkpoint else _UNTRAINED)


def _refuse(task: TaskArguments, checkpoint: str | None, port: int | None) -> None:
    if task.task not in VIEWS:
        raise ValueError(f"task={task.task!r} has no playground, only {', '.join(VIEWS)} do")
    if checkpoint is not None:
        check_folder(checkpoint)
    if port is not None:
        _refuse_port(port)


def _refuse_port(port: int) -> None:
    if not 1 <= port <= 65535:
        raise ValueError(f"port={port}: expected a number from 1 to 65535")
    with closing(socket.socket()) as probe:
        if probe.connect_ex(("127.0.0.1", port)) == 0:
            raise OSError(f"port {port} is taken: name another, or leave --port out for the first free one")
