"""The files that a sweep writes: best.yaml, sweep.png, results.json and report.html."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml
from transformers import TrainingArguments

from hf_mixup.engine.config import MixupConfig
from hf_mixup.experiments.compare.plan import Setting
from hf_mixup.experiments.mixing import SharedSettings
from hf_mixup.experiments.report.html_page import Cell, Code, Image, Section, Table, Text, made_by, write_page
from hf_mixup.experiments.report.statistics import LEVEL
from hf_mixup.experiments.report.verdict import three_digits
from hf_mixup.experiments.tasks.settings import settings_of
from hf_mixup.metrics.results import direction
from hf_mixup.plots.canvas import INK, PALETTE, drawable, new_figure, save_png
from hf_mixup.utils.files import write_json, write_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Metrics = Mapping[str, float | None]
_STATES = {"complete": "", "pruned": "given up", "fail": "failed"}


@dataclass(frozen=True)
class Trial:
    """One trial: its settings, the validation metric that decides (or None), its state at the end and the reason."""

    number: int
    label: str
    mixup: MixupConfig
    value: float | None
    state: str
    metrics: Metrics
    reason: str | None


@dataclass(frozen=True)
class Swept:
    """A finished sweep: the validation metrics of plain training, one mapping a seed, and all trials."""

    setting: Setting
    mixup: SharedSettings
    metric: str
    controls: Sequence[Metrics]
    trials: list[Trial]

    @property
    def ranked(self) -> list[Trial]:
        """All trials, the best first; those that were given up or failed come last."""

        def place(trial: Trial) -> float:
            if trial.state != "complete" or trial.value is None:
                return math.inf
            return -direction(self.metric) * trial.value

        return sorted(self.trials, key=place)

    @property
    def best(self) -> Trial:
        """The trial with the best value."""
        return self.ranked[0]

    def band(self, name: str) -> tuple[float, float]:
        """Mean and sample deviation of a metric over the seeds of plain training; NaN where one diverged."""
        values = [metrics.get(name) for metrics in self.controls]
        found = np.array([math.nan if value is None else value for value in values])
        return float(found.mean()), float(found.std(ddof=1))

    def expected(self, name: str) -> tuple[float, float]:
        """The interval that holds one more run of plain training with a probability of 95 %; NaN where one diverged.

        By Student's t, as the deviation itself is known from a few seeds alone.
        """
        from scipy import stats

        (mean, deviation), seeds = self.band(name), len(self.controls)
        reach = stats.t.ppf((1 + LEVEL) / 2, seeds - 1) * deviation * math.sqrt(1 + 1 / seeds)
        return mean - reach, mean + reach

    @property
    def verdict(self) -> str:
        """The best trial in words, never surer than the noise of plain training."""
        (mean, _), (low, high) = self.band(self.metric), self.expected(self.metric)
        value = self.best.value or 0.0
        start = f"{self.best.label} is the best of {len(self.trials)} trials: validation {self.metric} {value:.3f}"
        plain = f"plain training ({mean:.3f})"
        if not math.isfinite(mean):
            return f"{start}; {plain} with {len(self.controls)} seeds: nothing to compare it with"
        noise = f"with {len(self.controls)} seeds of it (95 % interval of one more {low:.3f} to {high:.3f})"
        if low <= value <= high:
            return f"{start}, not significantly different from {plain} {noise}"
        if direction(self.metric) * (value - mean) < 0:
            return f"{start}, worse than {plain} {noise}"
        return f"{start}, better than {plain} {noise}; the best of many flatters: compare it on more seeds"


def write_report(
    output: Path, swept: Swept, args: TrainingArguments, command: str, settings: Mapping[str, Any]
) -> None:
    """Write all files, and print the verdict."""
    winner, report = output / "best.yaml", output / "report.html"
    write_text(winner, _winner(output, swept, args))
    write_json(output / "results.json", _results(swept))
    again = f"hf-mixup compare CONFIG --methods 'none,smoothing,{swept.best.label}' --seeds 5"
    follow = Text(
        "The winner was chosen on the validation samples. This measures whether it helps on the test samples:"
    )
    sections = [
        Section("What was found", [Text(swept.verdict), follow, Code(again)]),
        Section("Over alpha", [Image(draw(swept, output / "sweep.png"), _alt(swept), _CAPTION)]),
        Section("Trials", [_table(swept)]),
        Section("The winner, for hf-mixup train", [Code(winner.read_text(encoding="utf-8"))]),
        made_by(command, settings),
    ]
    task = swept.setting.task
    trials = f"{len(swept.trials)} trials on {task.task}, dataset {task.dataset}, seed {args.seed}"
    lead = [f"{trials}, scores of the validation samples."]
    write_page(report, f"Which mixing? {output.name}", lead, sections)
    print(f"{swept.verdict}\n\nto train it: hf-mixup train {winner}\nto judge it: {again}\nreport: {report}")


_CAPTION = (
    "Each point is a trial; small ones were given up early and stand at their last value. The line is plain training, "
    "the band one standard deviation over its seeds on both sides."
)


def draw(swept: Swept, path: Path) -> Path:
    """Draw the deciding score and the calibration error over alpha, with the noise of plain training as a band."""
    shown = [name for name in dict.fromkeys((swept.metric, "ece")) if any(name in t.metrics for t in swept.trials)]
    figure = new_figure(7, 3.1 * len(shown) + 0.4, constrained=True)
    panels = figure.subplots(len(shown), 1, squeeze=False, sharex=True)[:, 0]
    for panel, name in zip(panels, shown, strict=True):
        _draw_band(panel, swept, name)
        _draw_trials(panel, swept, name)
        _style(panel, name)
    _mark_alpha(panels[-1])
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=8.5)
    return save_png(figure, path)


def _draw_band(panel: Axes, swept: Swept, name: str) -> None:
    mean, deviation = swept.band(name)
    if math.isfinite(mean):
        panel.axhline(mean, color=INK, linewidth=1, linestyle="--", label="plain training")
        panel.axhspan(mean - deviation, mean + deviation, color=INK, alpha=0.1, linewidth=0)


def _draw_trials(panel: Axes, swept: Swept, name: str) -> None:
    """Draw a point for each trial in the colour of its method; a small one at the last value of a trial given up."""
    for index, method in enumerate(dict.fromkeys(trial.mixup.method for trial in swept.trials)):
        own = [trial for trial in swept.trials if trial.mixup.method == method]
        colour = PALETTE[index % len(PALETTE)]
        whole = [(trial.mixup.alpha, trial.metrics.get(name)) for trial in own]
        early = [(trial.mixup.alpha, trial.value) for trial in own if trial.state == "pruned" and name == swept.metric]
        panel.scatter(*_xy(whole), s=34, color=colour, label=drawable(method))
        panel.scatter(*_xy(early), s=10, color=colour, alpha=0.6)


def _xy(points: Sequence[tuple[float, float | None]]) -> tuple[list[float], list[float]]:
    known = [(x, y) for x, y in points if y is not None]
    return [x for x, _ in known], [y for _, y in known]


def _style(panel: Axes, name: str) -> None:
    arrow = {1: "better →", -1: "← better", 0: ""}[direction(name)]  # the label is turned: its right end is above
    panel.set_ylabel(f"validation {drawable(name)} {arrow}", fontsize=8.5)
    panel.set_xscale("log")
    panel.tick_params(labelsize=7.5)
    panel.spines[["top", "right"]].set_visible(False)
    panel.grid(color="#e4e7eb", linewidth=0.7)
    panel.set_axisbelow(True)


def _mark_alpha(panel: Axes) -> None:
    low, high = panel.get_xlim()
    ticks = [digit * 10.0**power for power in range(-4, 5) for digit in (1, 2, 5)]
    shown = [tick for tick in ticks if low <= tick <= high]
    panel.set_xticks(shown, [f"{tick:g}" for tick in shown])
    panel.set_xticks([], minor=True)
    panel.set_xlabel("alpha", fontsize=8.5)


def _alt(swept: Swept) -> str:
    mean, deviation = swept.band(swept.metric)
    plain = f"plain training is at {mean:.3f} ± {deviation:.3f}"
    return f"Validation {swept.metric} and calibration error over alpha; {plain}."


def _winner(output: Path, swept: Swept, args: TrainingArguments) -> str:
    values = settings_of(swept.setting.task, swept.best.mixup, args)
    values["output_dir"] = str(output.with_name(f"{output.name}-best"))
    head = f"# {swept.verdict}\n# Run it with: hf-mixup train {output / 'best.yaml'}\n"
    return head + yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=1000)


def _results(swept: Swept) -> dict[str, Any]:
    names = ("number", "label", "state", "value", "metrics")
    trials = [
        {name: getattr(trial, name) for name in names} | ({"reason": trial.reason} if trial.reason else {})
        for trial in swept.trials
    ]
    return {"metric": swept.metric, "best": swept.best.number, "controls": list(swept.controls), "trials": trials}


def _table(swept: Swept) -> Table:
    names = [name for name in swept.setting.prepared.metrics if any(name in t.metrics for t in swept.trials)]
    bands = [swept.band(name) for name in names]
    rows = [[Cell("none (control)"), *(Cell(f"{mean:.3f} ± {std:.3f}") for mean, std in bands), Cell("")]]
    for trial in swept.ranked:
        cells = [Cell(three_digits(trial.metrics.get(name))) for name in names]
        rows.append([Cell(trial.label), *cells, Cell(_STATES.get(trial.state, trial.state), below=trial.reason or "")])
    return Table(["trial", *names, "end"], rows, "Validation rows; the best trial first, one seed each.")
