"""The suite `ood`: out-of-distribution samples, to be told from the test samples."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from hf_mixup.experiments.evaluate.parsing import Checked
from hf_mixup.experiments.tasks.arguments import IMAGE
from hf_mixup.utils.suggest import did_you_mean
from hf_mixup.utils.values import setting

if TYPE_CHECKING:
    from hf_mixup.experiments.evaluate.perturbation import Source

OOD = "ood"


@dataclass
class OodSettings(Checked):
    """Where out-of-distribution samples come from."""

    ood_dataset: str | None = setting(None, "Dataset of out-of-distribution samples (default: made of test samples).")
    ood_split: str | None = setting(None, "Split of ood_dataset (default: test, or else its first).")


def ood_samples(settings: OodSettings, source: Source) -> dict[str, Any]:
    """Return out-of-distribution samples by name: those of `ood_dataset`, or made from the first test split."""
    from hf_mixup.experiments.evaluate.image_changes import OUT_OF_DISTRIBUTION
    from hf_mixup.experiments.evaluate.text_changes import RandomTokens

    if settings.ood_dataset is not None:
        return {settings.ood_dataset: _of_dataset(settings.ood_dataset, settings.ood_split, source)}
    split = next(iter(source.prepared.splits.tests))
    if source.task.task == IMAGE:
        return {name: source.images(split, change, OOD, name) for name, change in OUT_OF_DISTRIBUTION.items()}
    rows, tokenizer = source.prepared.evaluated[split], source.prepared.processing_class
    return {"random_tokens": RandomTokens(rows, tokenizer, source.entropy(OOD, "random_tokens"))}


def _of_dataset(dataset: str, split: str | None, source: Source) -> Any:
    """Return the samples of another dataset, whose labels do not matter."""
    from hf_mixup.experiments.tasks.data import load_raw, of_modality

    task = replace(source.task, dataset=dataset, dataset_config=None)
    data = load_raw(task)
    split = split or ("test" if "test" in data else next(iter(data)))
    if split not in data:
        raise ValueError(f"ood_dataset has no split {split!r}: {did_you_mean(split, data)}")
    column = task.input_column
    rows = data[split]
    if column not in rows.column_names:
        raise ValueError(f"ood_dataset has no column {column!r}: {did_you_mean(column, rows.column_names)}")
    rows = of_modality(rows.select_columns([column]), split, task)
    rows = rows.add_column(task.columns["label"], [0] * len(rows))
    return task.samples(rows, source.prepared.processing_class)
