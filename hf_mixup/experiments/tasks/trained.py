"""A saved classifier: its weights, its files, and the dataset with labels numbered as the model numbers them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig

from hf_mixup.experiments.tasks.arguments import TASKS
from hf_mixup.experiments.tasks.labels import renumbered
from hf_mixup.experiments.tasks.models import auto_class
from hf_mixup.experiments.tasks.prepared import Splits

_SUFFIXES = (".safetensors", ".bin", ".json", ".txt", ".model")  # not the card, which an evaluation changes


def files_of(checkpoint: str | None) -> list[tuple[str, int, int]]:
    """Return names, sizes and times of a local checkpoint's files, which may be trained further in place."""
    path = Path(checkpoint or "")
    if checkpoint is None or not path.is_dir():
        return []
    stats = [(each.name, each.stat()) for each in sorted(path.iterdir()) if each.suffix in _SUFFIXES]
    return [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]


def relabelled(splits: Splits, checkpoint: str, column: str) -> Splits:
    """Return the splits with their labels numbered as the model numbers its classes; refuse one that lacks a class."""
    config = AutoConfig.from_pretrained(checkpoint)
    if config.problem_type not in (None, "single_label_classification"):
        raise ValueError(f"{checkpoint} is a model for {config.problem_type}: evaluate knows one class a row")
    names = [str(config.id2label[number]) for number in range(config.num_labels)]
    if names == splits.label_names:
        return splits
    missing = [name for name in splits.label_names if name not in names]
    if missing:
        raise ValueError(
            f"{checkpoint} does not know the class {missing[0]!r} of the data ({len(missing)} of "
            f"{len(splits.label_names)} are missing): it scores {', '.join(names[:6])}{' ...' if names[6:] else ''}"
        )
    numbers = [names.index(name) for name in splits.label_names]
    train, validation = (renumbered(rows, column, numbers, names) for rows in (splits.train, splits.validation))
    tests = {split: renumbered(rows, column, numbers, names) for split, rows in splits.tests.items()}
    return Splits(train, validation, tests, names)


def load_model(checkpoint: str, task: str) -> Any:
    """Return the saved classifier, in evaluation mode and without gradients; refuse one without a head's weights."""
    # In float32 whatever it was saved in: the figures and the gradients of attacks are those of the weights.
    model, report = auto_class(TASKS[task]).from_pretrained(checkpoint, output_loading_info=True, dtype=torch.float32)
    missing = sorted(report["missing_keys"])
    if missing:
        raise ValueError(f"{checkpoint} lacks weights of a {type(model).__name__} ({', '.join(missing[:3])}): train it")
    return model.eval().requires_grad_(False)
