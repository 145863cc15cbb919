"""The trials on disk: an Optuna journal that is continued after an interrupt."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hf_mixup.engine.config import MixupConfig
from hf_mixup.experiments.mixing import SharedSettings
from hf_mixup.experiments.sweep.arguments import SweepArguments
from hf_mixup.metrics.results import direction

JOURNAL = "study.log"
SETTINGS = "settings"
_FIRST = 5  # trials drawn at random before the sampler learns from them, and before one is given up


def open_study(output: Path, metric: str, settings: Mapping[str, Any]) -> Any:
    """Open the study in a folder, or begin one.

    Trials that were running when the sweep was interrupted are tried again. (Optuna's own heartbeat and retry callback
    need a database as storage: a journal has no heartbeat.)

    Raises:
        ValueError: if the journal is corrupt, or was begun with other settings.
    """
    import optuna
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    path = output / JOURNAL
    _mend(path)
    try:
        storage = optuna.storages.JournalStorage(JournalFileBackend(str(path)))
        study = optuna.create_study(
            storage=storage,
            study_name="sweep",
            direction="maximize" if direction(metric) > 0 else "minimize",
            pruner=optuna.pruners.MedianPruner(n_startup_trials=_FIRST),
            load_if_exists=True,
        )
        known = study.user_attrs.get(SETTINGS)
    except (ValueError, KeyError, TypeError, AssertionError) as error:
        raise ValueError(f"{path} is corrupt ({error}): delete it; the runs in {output / 'runs'} are kept") from error
    text = json.dumps(settings, sort_keys=True, default=str)
    if known is not None and known != text:
        raise ValueError(f"{path} was begun with other settings: go on with those, or name another --output_dir")
    if known is None:
        study.set_user_attr(SETTINGS, text)
    for trial in study.get_trials(states=(optuna.trial.TrialState.RUNNING,)):
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        study.set_user_attr(f"interrupted {trial.number}", True)
        if trial.params:
            study.enqueue_trial(trial.params)
    return study


def _mend(path: Path) -> None:
    """Cut off a last line that a killed process left half written; Optuna would append to it."""
    content = path.read_bytes() if path.exists() else b""
    if not content.endswith(b"\n") and content:
        path.write_bytes(content[: content.rfind(b"\n") + 1])


def done(study: Any) -> list[Any]:
    """Return the trials that ended; interrupted ones do not count."""
    return [
        trial
        for trial in study.get_trials(deepcopy=False)
        if trial.state.is_finished() and f"interrupted {trial.number}" not in study.user_attrs
    ]


def next_trial(study: Any, seed: int) -> Any:
    """Return the next trial to run; its settings follow from the seed and the trials before, interrupted or not."""
    import optuna

    number = len(done(study))
    study.sampler = optuna.samplers.TPESampler(seed=seed + number, n_startup_trials=_FIRST)
    return study.ask()


def end_trial(study: Any, trial: Any, state: str, reason: str) -> None:
    """Store that a trial was "pruned" or did "fail", and why."""
    import optuna

    trial.set_user_attr("reason", reason)
    study.tell(trial, state=optuna.trial.TrialState[state.upper()])


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
