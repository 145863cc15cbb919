"""A saved classifier, what is known of the run that left it, and its labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import ClassLabel, Dataset, List
from transformers import (
    AutoConfig,
    AutoModelForAudioClassification,
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)

from hf_mixup.engine.config import CONFIG_NAME, MixupConfig
from hf_mixup.experiments.tasks.arguments import AUDIO, IMAGE, TEXT, TOKENS
from hf_mixup.experiments.tasks.data import Splits
from hf_mixup.experiments.tasks.saved import saved_task

AUTO: dict[str, Any] = {
    IMAGE: AutoModelForImageClassification,
    TEXT: AutoModelForSequenceClassification,
    TOKENS: AutoModelForTokenClassification,
    AUDIO: AutoModelForAudioClassification,
}
_MATTERS = (".safetensors", ".bin", ".json", ".txt", ".model")  # not the card, which an evaluation changes


def run_label(checkpoint: str) -> tuple[str, int]:
    """Return what results call a model, and the seed of its run.

    A model that was trained by this package is called by its mixing method, or "none" where nothing was mixed; any
    other by its name.
    """
    path = Path(checkpoint)
    kept, seed = saved_task(path) if path.is_dir() else ({}, None)
    if (path / CONFIG_NAME).is_file():
        mixup = MixupConfig.from_pretrained(path)
        return "none" if mixup.off else mixup.method, seed or 0
    return ("none" if kept or seed is not None else path.resolve().name if path.is_dir() else checkpoint), seed or 0


def files_of(checkpoint: str) -> list[tuple[str, int, int]]:
    """Return names, sizes and times of a checkpoint's files, which may be trained further in place."""
    path = Path(checkpoint)
    if not path.is_dir():
        return []
    stats = [(each.name, each.stat()) for each in sorted(path.iterdir()) if each.suffix in _MATTERS]
    return [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]


def relabelled(splits: Splits, checkpoint: str, column: str) -> Splits:
    """Return the splits with their labels numbered as the model numbers its classes.

    Raises:
        ValueError: for a model of several labels a row, or one that lacks a class of the data.
        OSError: for a checkpoint that cannot be loaded.
    """
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
    places = [names.index(name) for name in splits.label_names]

    def numbered(rows: Dataset) -> Dataset:
        labels: Sequence[Any] = rows[column][:]
        if isinstance(rows.features[column], List):
            feature: Any = List(ClassLabel(names=names))
            moved: list[Any] = [[places[label] for label in each] for each in labels]
        else:
            feature, moved = ClassLabel(names=names), [places[label] for label in labels]
        return rows.remove_columns(column).add_column(column, moved, feature=feature)

    tests = {split: numbered(rows) for split, rows in splits.tests.items()}
    return Splits(numbered(splits.train), numbered(splits.validation), tests, names)


def noise_shares(runs: Sequence[str], checkpoint: str) -> dict[str, float]:
    """Return the share of wrong labels that each of the runs was trained on.

    Raises:
        ValueError: for a run that does not tell, or whose classes are not those of the checkpoint.
    """
    expected, shares = AutoConfig.from_pretrained(checkpoint).id2label, {}
    for run in runs:
        kept, seed = saved_task(Path(run))
        if seed is None:
            raise ValueError(f"noise_runs: {run} does not tell the share of wrong labels: name runs that train left")
        if AutoConfig.from_pretrained(run).id2label != expected:
            raise ValueError(f"noise_runs: {run} has other classes than {checkpoint}")
        shares[run] = float(kept.get("label_noise", 0.0))
    return shares


def load_model(checkpoint: str, task: str) -> Any:
    """Return the saved classifier, in evaluation mode and without gradients.

    Raises:
        ValueError: for a checkpoint without the weights of a head, which would score at random.
        OSError: for one that cannot be loaded.
    """
    # In float32 whatever it was saved in: the figures and the gradients of attacks are those of the weights.
    model, report = AUTO[task].from_pretrained(checkpoint, output_loading_info=True, dtype=torch.float32)
    missing = sorted(report["missing_keys"])
    if missing:
        raise ValueError(
            f"{checkpoint} lacks weights of a {type(model).__name__} ({', '.join(missing[:3])}): train it first"
        )
    return model.eval().requires_grad_(False)
