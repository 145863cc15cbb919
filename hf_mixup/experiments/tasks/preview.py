"""`hf-mixup preview`: what mixed samples look like, drawn by the engine that trains."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments, set_seed

from hf_mixup.engine.config import MixupConfig
from hf_mixup.engine.mixup import Mixup
from hf_mixup.experiments.tasks.arguments import TASKS, TaskArguments
from hf_mixup.experiments.tasks.drawings import Sample
from hf_mixup.experiments.tasks.prepare import Prepared, check_mixing, prepare

_BATCHES = 6  # several, because lam is one for a whole batch by default


def preview(task: TaskArguments, mixup: MixupConfig, args: TrainingArguments, output: Path) -> Path:
    """Draw mixed training samples with lam and label names into a PNG file.

    Images, videos and audio clips are shown as the model gets them. Where the blend happens inside the model, and for
    texts, a sample stands beside its partner. Pairs are those of one small batch, with the matrix of their targets.

    Raises:
        ValueError: if the configuration never mixes, or for settings and data that do not fit.
    """
    _refuse(task, mixup, output)
    return draw_preview(prepare(task), task, mixup, args, output)


def draw_preview(
    prepared: Prepared, task: TaskArguments, mixup: MixupConfig, args: TrainingArguments, output: Path
) -> Path:
    """Draw mixed samples of a task whose data is loaded, see `preview`."""
    _refuse(task, mixup, output)
    set_seed(args.seed)
    model = prepared.build_model()
    check_mixing(prepared, model, mixup)
    # A schedule says when to mix, not what it looks like; the draws follow the Trainer's seed as in training.
    seed = args.seed if mixup.draw_seed is None else mixup.draw_seed
    config = mixup.replace(draw_seed=seed, prob_warmup_ratio=0.0, disable_last_ratio=0.0, disable_last_epochs=0.0)
    engine = Mixup(config, tokenizer=getattr(prepared.processing_class, "tokenizer", None))
    alpha = f", alpha {mixup.alpha:g}" if "alpha" in mixup.known else ""
    title = f"{mixup.mixing.title}{alpha}"
    with torch.no_grad():
        samples = list(_samples(engine, model, prepared, args, task.preview_rows))
        return _drawing(task)(samples, prepared, output, title)


def _drawing(task: TaskArguments) -> Callable[..., Path]:
    draw = task.drawing()
    if draw is None:
        drawn = [name for name, kind in TASKS.items() if kind().drawing() is not None]
        raise ValueError(f"task={task.task!r} has no preview, only {', '.join(drawn)} do")
    return draw


def _refuse(task: TaskArguments, mixup: MixupConfig, output: Path) -> None:
    _drawing(task)
    if mixup.off:
        raise ValueError("nothing to preview: this configuration never mixes (alpha or prob is 0, or lam is 1)")
    if output.suffix.lower() != ".png":
        raise ValueError(f"output: images are PNG files, and {output.name!r} does not end in .png")


def _samples(
    engine: Mixup, model: Any, prepared: Prepared, args: TrainingArguments, rows: int | None = None
) -> Iterator[Sample]:
    """Yield the batch, its mixed form, and whether the blend is visible in the inputs."""
    order = torch.randperm(len(prepared.looked_at), generator=torch.Generator().manual_seed(args.seed)).tolist()
    size = min(rows or args.per_device_train_batch_size, max(1, len(order) // _BATCHES))
    for start in range(0, _BATCHES * size, size):
        batch = prepared.collator([prepared.looked_at[index] for index in order[start : start + size]])
        with engine(model, batch) as mixed:
            if mixed.draw.open:  # partners, or weights, that depend on what the model says
                mixed.loss(model(**mixed.inputs))
            yield batch, mixed, not engine.method.chosen(mixed.draw).enters(model, batch)
