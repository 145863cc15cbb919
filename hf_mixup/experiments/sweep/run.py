"""All trials of a sweep, beside plain training, then the image, the report and the winner."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tqdm import tqdm
from transformers import TrainingArguments

from hf_mixup.experiments.compare.plan import Run, Setting
from hf_mixup.experiments.compare.runs import determinants, run_args
from hf_mixup.experiments.compare.store import Finished, key_of, load_run, remove_dead_parts, run_folder
from hf_mixup.experiments.compare.training import Failed, StopRun, train_one
from hf_mixup.experiments.compare.variants import Variant, parse_variants
from hf_mixup.experiments.mixing import SharedSettings
from hf_mixup.experiments.sweep.arguments import SweepArguments
from hf_mixup.experiments.sweep.output import Swept, Trial, write_output
from hf_mixup.experiments.sweep.study import done, next_trial, open_study, suggested
from hf_mixup.experiments.sweep.watch import PruneCallback
from hf_mixup.experiments.tasks.arguments import PAIRS, TaskArguments
from hf_mixup.experiments.tasks.prepare import Prepared, check_mixing, check_readable, prepare
from hf_mixup.experiments.tasks.settings import settings_of
from hf_mixup.methods import METHODS, unknown
from hf_mixup.methods.registry import readers
from hf_mixup.utils.files import NoSpaceError, check_writable, write_text
from hf_mixup.utils.silence import silence_libraries

MARKER = "sweep.json"  # tells a sweep's folder from others


def sweep(
    arguments: SweepArguments,
    task: TaskArguments,
    mixup: SharedSettings,
    args: TrainingArguments,
    command: str = "hf_mixup.experiments.sweep.run.sweep(...)",
) -> Swept:
    """Try methods, alpha, prob and layers, and write what was found into `args.output_dir`.

    All trials have the seed, the order of the data and the initial weights of the first plain run. A trial is judged on
    the validation rows. Finished runs and the study are kept at once; the same command goes on after an interrupt.

    Writes `best.yaml` for `hf-mixup train`, `sweep.png`, `results.json` and `report.html`.

    Raises:
        ValueError: for settings, data, an output folder or a study file that do not fit.
        ImportError: without Optuna or matplotlib.
        RuntimeError: if every trial failed.
        OSError, KeyboardInterrupt: if there is no space left, or after Ctrl-C, saying how much is done.
    """
    if args.world_size > 1:
        raise ValueError("sweep trains in one process: start it without a launcher")
    output = Path(str(args.output_dir))
    _check(arguments, mixup, output)
    prepared = prepare(task)
    metric = arguments.select_by or prepared.select_by
    if metric not in prepared.metrics:
        raise ValueError(f"select_by={metric!r} does not score {task.task}: {', '.join(prepared.metrics)} do")
    _check_methods(arguments, mixup, prepared)
    output.mkdir(parents=True, exist_ok=True)
    settings = settings_of(task, mixup, args) | {"sweep": _decisive(arguments)}
    study = open_study(output, metric, {key: value for key, value in settings.items() if key != "output_dir"})
    write_text(output / MARKER, json.dumps(asdict(arguments), indent=2) + "\n")
    remove_dead_parts(output)
    swept = _Sweep(arguments, Setting("", 1.0, None, task, prepared), mixup, args, metric, study).run()
    write_output(output, swept, args, command, settings)
    return swept


def _check(arguments: SweepArguments, mixup: SharedSettings, output: Path) -> None:
    check_writable(output)
    if output.is_dir() and any(output.iterdir()) and not (output / MARKER).exists():
        raise ValueError(f"output_dir: {output} is not empty and holds no sweep: name another with --output_dir")
    _check_settings(arguments, mixup)
    for package, extra in (("matplotlib", "plots"), ("optuna", "sweep")):
        if find_spec(package) is None:
            raise ImportError(f'a sweep needs {package}, which is not installed: pip install "hf-mixup[{extra}]"')


def _check_settings(arguments: SweepArguments, mixup: SharedSettings) -> None:
    """Refuse methods of which nothing would be varied, and settings that none of them reads."""
    methods = arguments.methods or [mixup.method]
    for name in methods:
        if name not in METHODS:
            raise ValueError(f"methods: {name!r} is no method: {unknown(name)}")
    own = [mixup.for_method(name) for name in methods]
    for each in own:
        if "alpha" not in each.read:
            why = "something else takes its place" if "alpha" in each.known else "it has none"
            raise ValueError(
                f"methods: a sweep tries values of alpha, and method {each.method!r} does not read it ({why}): leave "
                f"that out, or compare settings by hand: hf-mixup compare --methods {each.method}:setting=value,..."
            )
    mixup.refuse_unshared(own)
    if arguments.depths and not any("layers" in each.known for each in own):
        raise ValueError(
            f"layer_sets: none of the methods ({', '.join(methods)}) reads layers; {', '.join(readers('layers'))} do"
        )


def _check_methods(arguments: SweepArguments, mixup: SharedSettings, prepared: Prepared) -> None:
    """Refuse a method or layers that do not fit before the first run."""
    with silence_libraries():
        check_readable(prepared)
        model = prepared.build_model()
        for method in arguments.methods or [mixup.method]:
            own = mixup.for_method(method)
            tried = arguments.depths if "layers" in own.known else []
            for each in [own.replace(layers=layers) for layers in tried] or [own]:
                check_mixing(prepared, model, each)


def _decisive(arguments: SweepArguments) -> dict[str, Any]:
    """Return the settings that may not change in a study; more trials, or more seeds for the band, may be asked for."""
    return {k: v for k, v in settings_of(arguments).items() if k not in ("trials", "control_seeds")}


class _Sweep:
    """The state of a sweep that runs."""

    def __init__(
        self,
        arguments: SweepArguments,
        setting: Setting,
        mixup: SharedSettings,
        args: TrainingArguments,
        metric: str,
        study: Any,
    ) -> None:
        self.arguments, self.setting, self.mixup, self.args = arguments, setting, mixup, args
        self.metric, self.study = metric, study
        self.control = parse_variants(["none"], mixup, paired=setting.task.task == PAIRS)[0]
        self.trials: dict[int, Trial] = {}

    def run(self) -> Swept:
        total = self.arguments.control_seeds + self.arguments.trials
        try:
            with silence_libraries(), tqdm(total=total, unit="run") as bar:
                controls = [self._control(seed, bar) for seed in range(self.arguments.control_seeds)]
                bar.update(len(done(self.study)))
                while len(done(self.study)) < self.arguments.trials:
                    self._trial(next_trial(self.study, self.args.seed), bar)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(self._kept()) from None
        except NoSpaceError as error:
            raise NoSpaceError(f"{error}; {self._kept()}") from error
        trials = [self._read(trial) for trial in done(self.study)]
        if not any(trial.state == "complete" for trial in trials):
            raise RuntimeError(f"none of {len(trials)} trials came to an end, the first one: {trials[0].reason}")
        return Swept(self.setting, self.mixup, self.metric, controls, trials)

    def _kept(self) -> str:
        count = len(done(self.study))
        return f"{count} of {self.arguments.trials} trials are done and kept; the same command goes on from there"

    def _control(self, number: int, bar: Any) -> dict[str, float | None]:
        run = self._planned(self.control, self.args.seed + number)
        outcome = load_run(run.folder) or train_one(run, self.args, _shown(bar, f"none, seed {run.seed}"))
        if isinstance(outcome, Failed):
            raise RuntimeError(f"plain training failed, seed {run.seed}: {outcome.reason}")
        bar.update()
        return outcome.metrics["validation"]

    def _trial(self, trial: Any, bar: Any) -> None:
        import optuna

        label, mixup = suggested(trial, self.arguments, self.mixup)
        trial.set_user_attr("label", label)
        run = self._planned(Variant(label, mixup), self.args.seed)
        watch = [PruneCallback(trial, self.metric)] if self.arguments.prune else []
        try:
            outcome = load_run(run.folder) or train_one(run, self.args, _shown(bar, label), watch)
        except StopRun as stop:
            trial.set_user_attr("reason", str(stop))
            self.study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        else:
            self._tell(trial, label, outcome, bar)
        bar.update()

    def _tell(self, trial: Any, label: str, outcome: Finished | Failed, bar: Any) -> None:
        import optuna

        metrics = {} if isinstance(outcome, Failed) else outcome.metrics["validation"]
        value = metrics.get(self.metric)
        if value is None or not math.isfinite(value):
            reason = outcome.reason if isinstance(outcome, Failed) else "it diverged"
            trial.set_user_attr("reason", reason)
            self.study.tell(trial, state=optuna.trial.TrialState.FAIL)
            bar.write(f"{label} failed: {reason}", file=bar.fp)
            return
        trial.set_user_attr("metrics", metrics)
        self.study.tell(trial, value)

    def _planned(self, variant: Variant, seed: int) -> Run:
        output = Path(str(self.args.output_dir))
        own_args = run_args(self.args, variant, seed, output)
        own = determinants(self.setting.prepared, self.setting.task, variant, own_args)
        return Run(self.setting, variant, seed, own, run_folder(output, variant.label, seed, key_of(own)))

    def _read(self, trial: Any) -> Trial:
        _, mixup = suggested(_Fixed(trial.params), self.arguments, self.mixup)
        state, attrs = trial.state.name.lower(), trial.user_attrs
        return Trial(
            trial.number, attrs["label"], mixup, trial.value, state, attrs.get("metrics", {}), attrs.get("reason")
        )


class _Fixed:
    """A trial that suggests what was tried."""

    def __init__(self, params: dict[str, Any]) -> None:
        self.params = params

    def suggest_float(self, name: str, *bounds: float, log: bool = False) -> float:
        return float(self.params[name])

    def suggest_categorical(self, name: str, choices: list[Any]) -> Any:
        return self.params[name]


def _shown(bar: Any, label: str) -> Callable[[int, int], None]:
    return lambda step, steps: bar.set_postfix_str(f"{label}: step {step}/{steps}")
