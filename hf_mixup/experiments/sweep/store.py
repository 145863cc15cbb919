"""The study: its trials, and the runs of plain training, as work for any number of workers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_mixup.engine.config import MixupConfig
from hf_mixup.experiments.mixing import SharedSettings
from hf_mixup.experiments.sweep.arguments import SweepArguments
from hf_mixup.experiments.sweep.shared import QUEUED, Shared, was_interrupted
from hf_mixup.experiments.sweep.storage import opened, without_password
from hf_mixup.metrics.results import direction

JOURNAL = "study.log"
SETTINGS = "settings"
SEED, METRICS, LABEL = "seed", "metrics", "label"
_FIRST = 5  # trials drawn at random before the sampler learns from them, and before one is given up
_ANY_SEED = 2**31 - 1


@dataclass(frozen=True)
class Study:
    """What a sweep does: trials of mixing, and runs of plain training by their seeds."""

    trials: Shared
    controls: Shared

    def found(self, seed: int) -> dict[str, float | None] | None:
        """Return the metrics of plain training with a seed, once they are there."""
        for trial in self.controls.done():
            if trial.params.get(SEED) == seed and METRICS in trial.user_attrs:
                return dict(trial.user_attrs[METRICS])
        return None


@contextmanager
def open_study(
    output: Path, arguments: SweepArguments, metric: str, settings: Mapping[str, Any], first_seed: int
) -> Iterator[Study]:
    """Open the study of a sweep, or begin one: in the storage that is named, or a journal in the output folder.

    Trials whose worker was interrupted are tried again, those of living workers are left to them.

    Raises:
        ValueError: if the storage cannot be opened, or was begun with other settings.
    """
    where = arguments.storage or str(output / JOURNAL)
    shown = without_password(where)
    with opened(where) as (storage, worker):
        study = _create(storage, arguments.study, metric)
        plain = _create(storage, f"{arguments.study}, plain training", metric)
        known = study.user_attrs.get(SETTINGS)
        text = json.dumps(settings, sort_keys=True, default=str)
        if known is not None and known != text:
            way = "another --study" if arguments.storage else "another --output_dir"
            raise ValueError(f"{shown} was begun with other settings: go on with those, or name {way}")
        if known is None:
            study.set_user_attr(SETTINGS, text)
        seeds = range(first_seed, first_seed + arguments.control_seeds)
        queued = {_seed(trial) for trial in plain.get_trials(deepcopy=False) if not was_interrupted(trial)}
        for seed in seeds:
            if seed not in queued:
                plain.enqueue_trial({SEED: seed})
        yield Study(Shared(study, arguments.trials, worker), Shared(plain, None, worker))


def _create(storage: Any, name: str, metric: str) -> Any:
    import optuna

    return optuna.create_study(
        storage=storage,
        study_name=name,
        direction="maximize" if direction(metric) > 0 else "minimize",
        pruner=optuna.pruners.MedianPruner(n_startup_trials=_FIRST),
        load_if_exists=True,
    )


def _seed(trial: Any) -> int | None:
    """Return the seed of a run of plain training, also of one that waits."""
    return trial.params.get(SEED, trial.system_attrs.get(QUEUED, {}).get(SEED))


def seed_of(trial: Any) -> int:
    """Return the seed that a run of plain training is for."""
    return int(trial.suggest_int(SEED, 0, _ANY_SEED))


def sample_from(study: Any, seed: int, before: int) -> None:
    """Let the settings of a trial follow from the seed and the number of trials before, interrupted or not."""
    import optuna

    study.sampler = optuna.samplers.TPESampler(seed=seed + before, n_startup_trials=_FIRST)


def suggested(trial: Any, arguments: SweepArguments, base: SharedSettings) -> tuple[str, MixupConfig]:
    """Return what a trial tries: as `compare --methods` writes it, and as a configuration."""
    methods = arguments.methods or [base.method]
    settings: dict[str, Any] = {"alpha": round(trial.suggest_float("alpha", *arguments.alphas, log=True), 4)}
    method = trial.suggest_categorical("method", methods)
    if arguments.probs is not None:
        settings["prob"] = round(trial.suggest_float("prob", *arguments.probs), 4)
    if arguments.depths and "layers" in base.for_method(method).known:
        settings["layers"] = json.loads(trial.suggest_categorical("layers", [json.dumps(d) for d in arguments.depths]))
    label = ":".join([method, *(f"{name}={json.dumps(value)}" for name, value in settings.items())])
    return label.replace(" ", ""), base.for_method(method, **settings)
