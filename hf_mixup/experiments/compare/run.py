"""All runs of a comparison, then the tables, the images and the best model."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from transformers import TrainingArguments

from hf_mixup.experiments.compare.arguments import CompareArguments
from hf_mixup.experiments.compare.cluster import Cluster, connected
from hf_mixup.experiments.compare.judge import Judged, judge
from hf_mixup.experiments.compare.looks import looks
from hf_mixup.experiments.compare.one_run import Failed, Outcomes
from hf_mixup.experiments.compare.plan import Plan, make_plan
from hf_mixup.experiments.compare.report import write_report
from hf_mixup.experiments.compare.results import best_of, publish, results_of, write_results
from hf_mixup.experiments.compare.settled import goes_on, progress_of
from hf_mixup.experiments.compare.startup import check_output, deciding_metric, refuse_launcher
from hf_mixup.experiments.compare.store import MARKER, RUNNING, Finished, remove_dead_parts
from hf_mixup.experiments.compare.training import train_all
from hf_mixup.experiments.mixing import SharedSettings
from hf_mixup.experiments.tasks.arguments import TaskArguments
from hf_mixup.experiments.tasks.card import check_card
from hf_mixup.experiments.tasks.prepare import rows_of
from hf_mixup.experiments.tasks.settings import settings_of
from hf_mixup.metrics.results import controls
from hf_mixup.utils.files import write_json
from hf_mixup.utils.hold import hold
from hf_mixup.utils.suggest import require


def compare(
    comparison: CompareArguments,
    task: TaskArguments,
    mixup: SharedSettings,
    args: TrainingArguments,
    command: str = "hf_mixup.experiments.compare.run.compare(...)",
) -> list[dict[str, Any]]:
    """Train every method with every seed, write the comparison into `args.output_dir`, and return all scores.

    All methods share seeds, order of the data and initial weights. A run that is stored there already is not trained
    again; each finished run is stored at once. A run that fails is reported in its cell, and the others go on. With
    `seeds: auto` there are as many seeds as settle the differences, see `Look`.

    Writes `results.json`, `differences.json`, `table.md`, `report.html`, which holds everything, its images in
    `figures/`, and in `best/` the model of the single run with the best `select_by` on the validation split; `runs/`
    keeps every run with its model.

    Args:
        command: how the comparison was started, for the report.

    Raises:
        ValueError: for settings, data or an output folder that do not fit or that another process is at work in, for a
            cluster without room, or under several processes.
        RuntimeError: if every run failed.
        ImportError: if matplotlib is not installed, or Ray for a cluster.
        ConnectionError: if no cluster answers.
        OSError, KeyboardInterrupt: if there is no space left, or after Ctrl-C, saying how much is done.

    >>> import contextlib, io, tempfile
    >>> task = TaskArguments(task="tabular-classification", dataset="wine")
    >>> args = TrainingArguments(tempfile.mkdtemp(), max_steps=2, report_to="none", use_cpu=True)
    >>> with contextlib.redirect_stdout(io.StringIO()):  # the tables
    ...     results = compare(CompareArguments(methods=["none", "mixup"]), task, SharedSettings(), args)
    >>> [(each["method"], each["split"]) for each in results]
    [('none', 'validation'), ('none', 'test'), ('mixup', 'validation'), ('mixup', 'test')]
    """
    refuse_launcher(args, "compare")
    output = Path(str(args.output_dir))
    check_output(output, [MARKER, RUNNING], "comparison")
    require("the images need", "matplotlib", "plots")
    check_card(task)
    with connected(comparison, args) as cluster:
        plan = make_plan(comparison, task, mixup, args)
        select_by = deciding_metric(comparison.select_by, plan.prepared, task)
        output.mkdir(parents=True, exist_ok=True)
        with hold(output / RUNNING, "a comparison"):
            return _run(plan, select_by, args, command, cluster)


def _run(
    plan: Plan, select_by: str, args: TrainingArguments, command: str, cluster: Cluster | None
) -> list[dict[str, Any]]:
    (comparison, task, mixup, _), output = plan.inputs, Path(str(args.output_dir))
    write_json(output / MARKER, asdict(comparison))
    remove_dead_parts(output)
    for each in plan.settings:
        print(f"{each.name}: " * bool(each.name) + rows_of(each.prepared, each.task))
    judged, outcomes = _until_settled(plan, comparison, args, cluster)
    remove_dead_parts(output)  # of processes and nodes that were lost meanwhile
    write_results(output, judged)
    print((output / "table.md").read_text(encoding="utf-8"))
    if not controls([run.variant.label for run in plan.runs]):
        print("no verdicts: add the controls none and smoothing to the methods\n")
    settings = settings_of(task, mixup, args) | {"compare": settings_of(comparison)}
    report = write_report(output, judged, outcomes, args, command, settings, select_by)
    best = best_of(outcomes, select_by)
    finished = outcomes[best]
    if isinstance(finished, Finished):
        publish(best, finished, next(each for each in judged if each.setting is best.setting), output / "best")
    print(f"best model by validation {select_by}: {best.variant.label}, seed {best.seed}: {output / 'best'}")
    print(f"report: {report}")
    return results_of(judged)


def _until_settled(
    plan: Plan, comparison: CompareArguments, args: TrainingArguments, cluster: Cluster | None
) -> tuple[list[Judged], Outcomes]:
    """Train and judge look by look, until the differences are settled or the looks are used up."""
    outcomes: Outcomes = {}
    for look in looks(comparison):
        outcomes = train_all(plan.of_seeds(look.seeds), args, outcomes, cluster)
        reasons = [outcome.reason for outcome in outcomes.values() if isinstance(outcome, Failed)]
        if len(reasons) == len(outcomes):
            raise RuntimeError(f"all {len(reasons)} runs failed, the first one with: {reasons[0]}")
        judged = [judge(setting, outcomes, look) for setting in plan.settings]
        if not goes_on(judged):
            break
        print(progress_of(judged))
    return judged, outcomes
