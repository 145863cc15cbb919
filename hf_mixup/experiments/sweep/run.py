"""Run all trials of a sweep and plain training beside them, then write image, report and winner."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm
from transformers import TrainingArguments

from hf_mixup.experiments.compare.one_run import Failed, Show, StopRun, train_one
from hf_mixup.experiments.compare.plan import Setting, plan_run
from hf_mixup.experiments.compare.startup import check_methods, check_output, deciding_metric, refuse_launcher
from hf_mixup.experiments.compare.store import load_run, remove_dead_parts
from hf_mixup.experiments.compare.variants import Variant, parse_variants
from hf_mixup.experiments.mixing import SharedSettings
from hf_mixup.experiments.sweep.arguments import SweepArguments
from hf_mixup.experiments.sweep.methods import swept_methods
from hf_mixup.experiments.sweep.pruning import PruneCallback
from hf_mixup.experiments.sweep.report import Swept, Trial, write_report
from hf_mixup.experiments.sweep.store import done, end_trial, next_trial, open_study, suggested
from hf_mixup.experiments.tasks.arguments import PAIRS, TaskArguments
from hf_mixup.experiments.tasks.prepare import prepare
from hf_mixup.experiments.tasks.settings import settings_of
from hf_mixup.experiments.tasks.streaming import check_stream
from hf_mixup.utils.files import resumable, write_json
from hf_mixup.utils.silence import silence_libraries
from hf_mixup.utils.suggest import require

MARKER = "sweep.json"  # tells a sweep's folder from others
_MAY_GROW = ("trials", "control_seeds")  # in a study that goes on


def sweep(
    arguments: SweepArguments,
    task: TaskArguments,
    mixup: SharedSettings,
    args: TrainingArguments,
    command: str = "hf_mixup.experiments.sweep.run.sweep(...)",
) -> Swept:
    """Try methods, alpha, prob and layers, and write what was found into `args.output_dir`.

    All trials have the seed, the order of the data and the initial weights of the first plain run. A trial is judged on
    the validation rows. Finished runs and the study are stored at once; the same command goes on after an interrupt.

    Writes `best.yaml` for `hf-mixup train`, `sweep.png`, `results.json` and `report.html`.

    Raises:
        ValueError: for settings, data, an output folder or a study file that do not fit.
        ImportError: without Optuna or matplotlib.
        RuntimeError: if every trial failed.
        OSError, KeyboardInterrupt: if there is no space left, or after Ctrl-C, saying how much is done.
    """
    refuse_launcher(args, "sweep")
    output = Path(str(args.output_dir))
    check_output(output, [MARKER], "sweep")
    methods = swept_methods(arguments, mixup)
    require("a sweep needs", "matplotlib", "plots")
    require("a sweep needs", "optuna", "sweep")
    check_stream(task, args, *methods)
    prepared = prepare(task)
    metric = deciding_metric(arguments.select_by, prepared, task)
    check_methods(prepared, methods)
    output.mkdir(parents=True, exist_ok=True)
    decisive = {name: value for name, value in settings_of(arguments).items() if name not in _MAY_GROW}
    settings = settings_of(task, mixup, args) | {"sweep": decisive}
    study = open_study(output, metric, {key: value for key, value in settings.items() if key != "output_dir"})
    write_json(output / MARKER, asdict(arguments))
    remove_dead_parts(output)
    swept = _Sweep(arguments, Setting("", 1.0, None, task, prepared), mixup, args, metric, study).run()
    write_report(output, swept, args, command, settings)
    return swept


@dataclass
class _Sweep:
    """A running sweep."""

    arguments: SweepArguments
    setting: Setting
    mixup: SharedSettings
    args: TrainingArguments
    metric: str
    study: Any

    def run(self) -> Swept:
        total = self.arguments.control_seeds + self.arguments.trials
        with resumable(self._state), silence_libraries(), tqdm(total=total, unit="run") as bar:
            controls = [self._control(seed, bar) for seed in range(self.arguments.control_seeds)]
            bar.update(len(done(self.study)))
            while len(done(self.study)) < self.arguments.trials:
                self._trial(next_trial(self.study, self.args.seed), bar)
        trials = [self._read(trial) for trial in done(self.study)]
        if not any(trial.state == "complete" for trial in trials):
            raise RuntimeError(f"none of {len(trials)} trials came to an end, the first one: {trials[0].reason}")
        return Swept(self.setting, self.mixup, self.metric, controls, trials)

    def _state(self) -> str:
        return f"{len(done(self.study))} of {self.arguments.trials} trials are done and kept"

    def _control(self, number: int, bar: Any) -> dict[str, float | None]:
        (plain,) = parse_variants(["none"], self.mixup, paired=self.setting.task.task == PAIRS)
        run = plan_run(self.setting, plain, self.args.seed + number, self.args)
        outcome = load_run(run.folder) or train_one(run, self.args, _show_on(bar, f"none, seed {run.seed}"))
        if isinstance(outcome, Failed):
            raise RuntimeError(f"plain training failed, seed {run.seed}: {outcome.reason}")
        bar.update()
        return outcome.metrics["validation"]

    def _trial(self, trial: Any, bar: Any) -> None:
        label, mixup = suggested(trial, self.arguments, self.mixup)
        trial.set_user_attr("label", label)
        run = plan_run(self.setting, Variant(label, mixup), self.args.seed, self.args)
        watch = [PruneCallback(trial, self.metric)] if self.arguments.prune else []
        try:
            outcome = load_run(run.folder) or train_one(run, self.args, _show_on(bar, label), watch)
        except StopRun as stop:
            end_trial(self.study, trial, "pruned", str(stop))
        else:
            metrics = {} if isinstance(outcome, Failed) else outcome.metrics["validation"]
            value = metrics.get(self.metric)
            if value is not None and math.isfinite(value):
                trial.set_user_attr("metrics", metrics)
                self.study.tell(trial, value)
            else:
                reason = outcome.reason if isinstance(outcome, Failed) else "it diverged"
                end_trial(self.study, trial, "fail", reason)
                bar.write(f"{label} failed: {reason}", file=bar.fp)
        bar.update()

    def _read(self, trial: Any) -> Trial:
        import optuna

        _, mixup = suggested(optuna.trial.FixedTrial(trial.params), self.arguments, self.mixup)
        state, attrs = trial.state.name.lower(), trial.user_attrs
        metrics, reason = attrs.get("metrics", {}), attrs.get("reason")
        return Trial(trial.number, attrs["label"], mixup, trial.value, state, metrics, reason)


def _show_on(bar: Any, label: str) -> Show:
    return lambda step, steps: bar.set_postfix_str(f"{label}: step {step}/{steps}")
