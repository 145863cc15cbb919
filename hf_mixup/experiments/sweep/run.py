"""Run all trials of a sweep and plain training beside them, then write image, report and winner."""

from __future__ import annotations

import math
import pickle
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from tqdm import tqdm
from transformers import TrainingArguments

from hf_mixup.experiments.compare.cluster import Cluster, connected
from hf_mixup.experiments.compare.one_run import Failed, Show, train_one
from hf_mixup.experiments.compare.plan import Run, Setting, plan_run
from hf_mixup.experiments.compare.processes import picklable, unpickled
from hf_mixup.experiments.compare.startup import check_methods, check_output, deciding_metric, refuse_launcher
from hf_mixup.experiments.compare.store import RUNNING, load_run, remove_dead_parts
from hf_mixup.experiments.compare.variants import Variant, parse_variants
from hf_mixup.experiments.mixing import SharedSettings
from hf_mixup.experiments.sweep.arguments import SweepArguments, require_packages
from hf_mixup.experiments.sweep.methods import swept_methods
from hf_mixup.experiments.sweep.pruning import PruneCallback
from hf_mixup.experiments.sweep.report import Swept, Trial, write_report
from hf_mixup.experiments.sweep.shared import REASON, TrialFailed
from hf_mixup.experiments.sweep.storage import without_password
from hf_mixup.experiments.sweep.store import JOURNAL, LABEL, METRICS, Study, open_study, sample_from, seed_of, suggested
from hf_mixup.experiments.tasks.arguments import PAIRS, TaskArguments
from hf_mixup.experiments.tasks.prepare import prepare
from hf_mixup.experiments.tasks.settings import settings_of
from hf_mixup.experiments.tasks.streaming import check_stream
from hf_mixup.utils.files import resumable, write_json
from hf_mixup.utils.hold import hold
from hf_mixup.utils.silence import silence_libraries

MARKER = "sweep.json"  # tells a sweep's folder from others
# These may differ between the workers of a study, or when it goes on.
_MAY_DIFFER = ("trials", "control_seeds", "storage", "study", "ray", "cpus_per_run", "gpus_per_run")
LOOKS = 2.0  # seconds between two looks at what other workers do
On = Callable[[str], Show]
"""Called with the name of a run; returns what shows its steps."""


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
    With a `storage`, any number of workers share the study: each trial is taken by one of them, and a dead one's by
    another; each ends when all trials are done.

    Writes `best.yaml` for `hf-mixup train`, `sweep.png`, `results.json` and `report.html`.

    Raises:
        ValueError: for settings, data, an output folder or a storage that do not fit, or are in use.
        ImportError: without Optuna or matplotlib, or Ray for a cluster.
        RuntimeError: if every trial failed, or plain training.
        ConnectionError: if no cluster answers.
        OSError, KeyboardInterrupt: if there is no space left, or after Ctrl-C, saying how much is done.
    """
    refuse_launcher(args, "sweep")
    output = Path(str(args.output_dir))
    check_output(output, [MARKER, RUNNING, JOURNAL], "sweep")
    require_packages()
    with connected(arguments, args) as cluster, ExitStack() as stack:
        inputs = (arguments, task, mixup, args)
        setting, metric, settings = _start(*inputs)
        output.mkdir(parents=True, exist_ok=True)
        if arguments.storage is None:
            stack.enter_context(hold(output / RUNNING, "a sweep"))
            remove_dead_parts(output)  # where a study is shared, others may be alive
        study = stack.enter_context(open_study(output, arguments, metric, settings, args.seed))
        shown = None if arguments.storage is None else without_password(arguments.storage)
        write_json(output / MARKER, asdict(replace(arguments, storage=shown)))
        swept = _Sweep(*inputs, setting, metric, study).run(cluster)
        write_report(output, swept, args, without_password(command), settings)
    return swept


def _start(
    arguments: SweepArguments, task: TaskArguments, mixup: SharedSettings, args: TrainingArguments
) -> tuple[Setting, str, dict[str, Any]]:
    """Load the data; return them with the metric that decides, and the settings that all workers of a study share."""
    methods = swept_methods(arguments, mixup)
    check_stream(task, args, *methods)
    prepared = prepare(task)
    metric = deciding_metric(arguments.select_by, prepared, task)
    check_methods(prepared, methods)
    decisive = {name: value for name, value in settings_of(arguments).items() if name not in _MAY_DIFFER}
    settings = settings_of(task, mixup, args) | {"sweep": decisive}
    settings.pop("output_dir", None)
    return Setting("", 1.0, None, task, prepared), metric, settings


@dataclass
class _Sweep:
    """A running sweep."""

    arguments: SweepArguments
    task: TaskArguments
    mixup: SharedSettings
    args: TrainingArguments
    setting: Setting
    metric: str
    study: Study

    def run(self, cluster: Cluster | None) -> Swept:
        """Work until all is done, by this worker or by others."""
        total = self.arguments.control_seeds + self.arguments.trials
        with resumable(self._state), silence_libraries(), tqdm(total=total, unit="run") as bar:
            while self.left:
                bar.update(total - self.left - bar.n)
                if cluster is not None:
                    self._spread(cluster, bar)
                elif not self.work_once(partial(_show_on, bar)):
                    time.sleep(LOOKS)  # the last ones are with other workers, which may die yet
            bar.update(total - bar.n)
        return self._swept()

    def _spread(self, cluster: Cluster, bar: Any) -> None:
        """Do what is left on a cluster, a run a task."""
        from ray import cloudpickle

        inputs, left = cloudpickle.dumps(picklable((self.arguments, self.task, self.mixup, self.args))), self.left
        reason: str | None = None

        def hear(number: int, node: str, step: int, steps: int) -> None:
            bar.set_postfix_str(f"{node}: step {step}/{steps}")

        for _, failed in cluster.run(_work_there, dict.fromkeys(range(left), (inputs,)), hear):
            reason = failed or reason
            bar.update(bar.total - self.left - bar.n)
        if self.left == left:
            raise RuntimeError(f"no run came to an end: {reason}")

    @property
    def left(self) -> int:
        """Runs that are not done."""
        return (
            self.arguments.trials
            - len(self.study.trials.done())
            + sum(self.study.found(seed) is None for seed in self._seeds)
        )

    def work_once(self, on: On) -> bool:
        """Do one run that nobody has taken; return whether there was one."""
        return self.study.controls.work(partial(self._control, on)) or self.study.trials.work(partial(self._trial, on))

    def _swept(self) -> Swept:
        trials = [self._read(trial) for trial in self.study.trials.done()]
        if not any(trial.state == "complete" for trial in trials):
            raise RuntimeError(f"none of {len(trials)} trials came to an end, the first one: {trials[0].reason}")
        controls = [found for seed in self._seeds if (found := self.study.found(seed)) is not None]
        return Swept(self.setting, self.mixup, self.metric, controls, trials)

    @property
    def _seeds(self) -> range:
        return range(self.args.seed, self.args.seed + self.arguments.control_seeds)

    def _state(self) -> str:
        return f"{len(self.study.trials.done())} of {self.arguments.trials} trials are done and kept"

    def _control(self, on: On, trial: Any, before: int) -> float:
        """Train plainly."""
        (plain,) = parse_variants(["none"], self.mixup, paired=self.setting.task.task == PAIRS)
        run = self._run(plain, seed_of(trial))
        outcome = load_run(run.folder) or train_one(run, self.args, on(f"none, seed {run.seed}"))
        if isinstance(outcome, Failed):
            raise RuntimeError(f"plain training failed, seed {run.seed}: {outcome.reason}")
        trial.set_user_attr(METRICS, outcome.metrics["validation"])
        return 0.0  # it may have diverged

    def _trial(self, on: On, trial: Any, before: int) -> float:
        """Train with the settings that a trial suggests."""
        sample_from(self.study.trials.study, self.args.seed, before)
        label, mixup = suggested(trial, self.arguments, self.mixup)
        trial.set_user_attr(LABEL, label)
        run = self._run(Variant(label, mixup), self.args.seed)
        watch = [PruneCallback(trial, self.metric)] if self.arguments.prune else []
        outcome = load_run(run.folder) or train_one(run, self.args, on(label), watch)
        metrics = {} if isinstance(outcome, Failed) else outcome.metrics["validation"]
        value = metrics.get(self.metric)
        if value is None or not math.isfinite(value):
            reason = outcome.reason if isinstance(outcome, Failed) else "it diverged"
            tqdm.write(f"{label} failed: {reason}", file=sys.stderr)
            raise TrialFailed(reason)
        trial.set_user_attr(METRICS, metrics)
        return value

    def _run(self, variant: Variant, seed: int) -> Run:
        return plan_run(self.setting, variant, seed, self.args, self.arguments.device_type(self.args))

    def _read(self, trial: Any) -> Trial:
        import optuna

        _, mixup = suggested(optuna.trial.FixedTrial(trial.params), self.arguments, self.mixup)
        state, attrs = trial.state.name.lower(), trial.user_attrs
        metrics, reason = attrs.get(METRICS, {}), attrs.get(REASON)
        return Trial(trial.number, attrs[LABEL], mixup, trial.value, state, metrics, reason)


def _show_on(bar: Any, label: str) -> Show:
    return lambda step, steps: bar.set_postfix_str(f"{label}: step {step}/{steps}")


def _work_there(tell: Show, inputs: bytes) -> None:
    """Do one run of a sweep in a process of a cluster."""
    arguments, task, mixup, args, setting, metric, settings = _begun(inputs)
    with silence_libraries(), open_study(Path(args.output_dir), arguments, metric, settings, args.seed) as study:
        sweep = _Sweep(arguments, task, mixup, args, setting, metric, study)
        while sweep.left and not sweep.work_once(lambda label: tell):
            time.sleep(LOOKS)


@lru_cache(maxsize=1)
def _begun(inputs: bytes) -> tuple[Any, ...]:
    """Load the data once in a process, which may get several runs."""
    own = unpickled(pickle.loads(inputs))
    return *own, *_start(*own)
