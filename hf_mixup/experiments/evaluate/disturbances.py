"""What the suites do to the rows, and rows of another kind."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from typing import Any

from hf_mixup.experiments.evaluate import images, texts
from hf_mixup.experiments.evaluate.arguments import (
    ADVERSARIAL,
    ALL,
    CALIBRATION,
    CORRUPTION,
    NOISE,
    OOD,
    EvaluateArguments,
)
from hf_mixup.experiments.evaluate.rows import Change, attack
from hf_mixup.experiments.tasks.arguments import AUDIO, IMAGE, TEXT, TOKENS, TaskArguments
from hf_mixup.experiments.tasks.data import load_raw, of_modality
from hf_mixup.experiments.tasks.prepared import Prepared
from hf_mixup.utils.suggest import did_you_mean

KNOWN = {
    IMAGE: (CALIBRATION, CORRUPTION, NOISE, ADVERSARIAL, OOD),
    TEXT: (CALIBRATION, CORRUPTION, NOISE, OOD),
    TOKENS: (CALIBRATION,),
    AUDIO: (CALIBRATION,),
}
_PIXEL_NOISE, _LETTER_NOISE = [0.05, 0.1, 0.2, 0.3], [0.05, 0.1, 0.2, 0.4]


@dataclass(frozen=True)
class Disturbance:
    """One cell: what is done to the rows, by its family and level.

    Attributes:
        rows: name of a split -> its rows, disturbed (or as they are, for an attack).
        change: what an attack does to a batch.
        settings: what else it depends on.
    """

    suite: str
    family: str
    level: float
    rows: Callable[[str], Any]
    change: Change | None = None
    settings: tuple[Any, ...] = ()


def checked_suites(evaluation: EvaluateArguments, task: TaskArguments) -> EvaluateArguments:
    """Return the arguments with the suites in their order, `all` being those that the task knows.

    What the task does not know, or needs a package that is not there, is refused before anything is loaded.

    Raises:
        ValueError: for a task without classes, a suite that the task does not know, or an unknown corruption.
        ImportError: for a package that is missing.
    """
    known = KNOWN.get(task.task)
    if known is None:
        raise ValueError(
            f"evaluate scores {', '.join(KNOWN)}, not {task.task}: `hf-mixup train` and `compare` leave its scores"
        )
    for suite in evaluation.suite:
        if suite not in (*known, ALL):
            raise ValueError(f"suite {suite!r} is not for {task.task}, which has {', '.join(known)}")
    suites = [name for name in known if {name, ALL} & set(evaluation.suite)]
    if CORRUPTION in suites:
        valid = (*images.CORRUPTIONS, *images.MORE_CORRUPTIONS) if task.task == IMAGE else tuple(texts.CORRUPTIONS)
        for name in evaluation.corruptions or ():
            if name not in valid:
                raise ValueError(f"corruptions has {name!r}, which is not known: {did_you_mean(name, valid)}")
        if task.task == IMAGE and find_spec("imagecorruptions") is None:
            raise ImportError(
                'corruptions need imagecorruptions-imaug, which is not installed: pip install "hf-mixup[robustness]"'
            )
    return replace(evaluation, suite=suites)


def disturbances(
    evaluation: EvaluateArguments,
    prepared: Prepared,
    task: TaskArguments,
    seed: int,
    memory: images.Memory | None = None,
) -> list[Disturbance]:
    """Return all cells of the suites, in the order of these; images are made once where there is a memory."""
    found: list[Disturbance] = []
    for suite in evaluation.suite:
        if task.task == IMAGE:
            found += _of_images(suite, evaluation, prepared, seed, memory)
        else:
            found += _of_texts(suite, evaluation, prepared, task, seed)
    return found


def _entropy(seed: int, *name: object) -> tuple[int, int]:
    """Return what draws follow from: the same for every order and choice of the suites."""
    return seed, zlib.crc32(" ".join(map(str, name)).encode())


def _of_images(
    suite: str, evaluation: EvaluateArguments, prepared: Prepared, seed: int, memory: images.Memory | None
) -> list[Disturbance]:
    processor = prepared.processing_class
    cells: list[tuple[str, float, images.Change]] = []
    if suite == CORRUPTION:
        names = evaluation.corruptions or images.CORRUPTIONS
        cells = [
            (name, level, images.corruption(name, level)) for name in names for level in sorted(evaluation.severities)
        ]
    if suite == NOISE:
        levels = sorted(evaluation.noise_levels or _PIXEL_NOISE)
        cells = [("gaussian_pixel_noise", level, images.gaussian_noise(level)) for level in levels]
    if suite == ADVERSARIAL:
        return [
            Disturbance(
                suite,
                name,
                eps,
                prepared.evaluated.__getitem__,
                attack(name, eps, evaluation, processor, seed),
                (evaluation.adversarial_steps,) if name == "pgd" else (),
            )
            for name in evaluation.adversarial_attacks
            for eps in sorted(evaluation.epsilons)
        ]

    def rows(family: str, level: float, change: images.Change, split: str) -> Any:
        own = _entropy(seed, suite, family, level)
        return images.ChangedImages(prepared.evaluated[split], processor, change, own, memory)

    return [Disturbance(suite, family, level, partial(rows, family, level, change)) for family, level, change in cells]


def _of_texts(
    suite: str, evaluation: EvaluateArguments, prepared: Prepared, task: TaskArguments, seed: int
) -> list[Disturbance]:
    cells: list[tuple[str, float, texts.Change]] = []
    if suite == CORRUPTION:
        names = evaluation.corruptions or list(texts.CORRUPTIONS)
        cells = [
            (name, level, texts.CORRUPTIONS[name](texts.SHARES[level - 1]))
            for name in names
            for level in sorted(evaluation.severities)
        ]
    if suite == NOISE:
        levels = sorted(evaluation.noise_levels or _LETTER_NOISE)
        cells = [("replaced_letters", level, texts.replaced_letters(level)) for level in levels]

    def rows(family: str, level: float, change: texts.Change, split: str) -> Any:
        own = _entropy(seed, suite, family, level)
        changed = texts.changed_texts(prepared.splits.evaluated[split], task.input_column, change, own)
        return task.samples(changed, prepared.processing_class)

    return [Disturbance(suite, family, level, partial(rows, family, level, change)) for family, level, change in cells]


def strange_rows(
    evaluation: EvaluateArguments,
    prepared: Prepared,
    task: TaskArguments,
    seed: int,
    memory: images.Memory | None = None,
) -> dict[str, Any]:
    """Return rows of another kind by name: those of `ood_dataset`, or made of the first test split.

    Raises:
        ValueError, FileNotFoundError: for a data set without that split or column, or that is not there.
    """
    if evaluation.ood_dataset is not None:
        return {evaluation.ood_dataset: _foreign(evaluation, prepared, task)}
    split = next(iter(prepared.splits.tests))
    own, processor = prepared.evaluated[split], prepared.processing_class
    if task.task == IMAGE:
        return {
            name: images.ChangedImages(own, processor, change, _entropy(seed, OOD, name), memory)
            for name, change in images.STRANGE.items()
        }
    return {"random_tokens": texts.RandomTokens(own, processor, _entropy(seed, OOD, "random_tokens"))}


def _foreign(evaluation: EvaluateArguments, prepared: Prepared, task: TaskArguments) -> Any:
    """Return the rows of another data set, whose labels do not matter."""
    other = replace(task, dataset=str(evaluation.ood_dataset), dataset_config=None)
    data = load_raw(other)
    split = evaluation.ood_split or ("test" if "test" in data else next(iter(data)))
    if split not in data:
        raise ValueError(f"ood_dataset has no split {split!r}: {did_you_mean(split, data)}")
    column = task.input_column
    rows = data[split]
    if column not in rows.column_names:
        raise ValueError(f"ood_dataset has no column {column!r}: {did_you_mean(column, rows.column_names)}")
    rows = of_modality(rows.select_columns([column]), split, other)
    rows = rows.add_column(task.columns["label"], [0] * len(rows))
    return task.samples(rows, prepared.processing_class)
