"""report.html of a comparison: verdicts, tables with intervals, images, mixed samples, hardest errors, commands."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from transformers import TrainingArguments

from hf_mixup.experiments.compare.judge import Differences, Judged
from hf_mixup.experiments.compare.one_run import Outcomes
from hf_mixup.experiments.compare.results import finished_runs, pooled, refit_note
from hf_mixup.experiments.report.html_page import (
    Card,
    Cards,
    Cell,
    Heading,
    Image,
    Point,
    Points,
    Section,
    Table,
    Text,
    embedded,
    made_by,
    write_page,
)
from hf_mixup.experiments.report.statistics import Difference
from hf_mixup.experiments.report.verdict import judgement, signed
from hf_mixup.experiments.tasks.prepare import finite
from hf_mixup.experiments.tasks.prepared import REFITTED
from hf_mixup.experiments.tasks.preview import draw_preview
from hf_mixup.metrics import log_probabilities
from hf_mixup.metrics.results import aggregate, direction
from hf_mixup.plots.charts import metric_bars, reliability_diagram
from hf_mixup.plots.curves import calibration_plane, training_curves

FIGURES = "figures"
_PREVIEWS = 4
_HARDEST = 8
_SIDE = 144  # pixels of an image among the hardest errors
_LONG = 220  # characters of a text there
_READING = (
    "Below the scores stands each method minus a control, with its 95 % interval over test rows and seeds; p is "
    "corrected for the number of comparisons with this control. Better and worse is what both interval and test are "
    "sure of; elsewhere these seeds do not tell the two apart, which does not make them equal. The calibration error "
    "counts noise as error, the more the fewer the rows."
)


def write_report(
    output: Path,
    judged: Sequence[Judged],
    outcomes: Outcomes,
    args: TrainingArguments,
    command: str,
    settings: Mapping[str, Any],
) -> Path:
    """Draw the figures into `figures/` and write `report.html`, which holds them all.

    Args:
        command: starts the comparison again.
        settings: all that are not the defaults.
    """
    figures = output / FIGURES
    several = len(judged) > 1
    sections = [Section("Verdicts", [block for each in judged for block in _verdicts(each)])]
    for number, each in enumerate(judged):
        name = f": {each.setting.name}" if each.setting.name else ""
        folder = figures / str(number) if several else figures
        sections.append(Section(f"Scores{name}", list(_scores(each, folder))))
        sections.append(Section(f"Calibration{name}", list(_calibration(each, outcomes, folder))))
        sections.append(Section(f"Training{name}", list(_training(each, outcomes, folder))))
    first = judged[0]
    sections.append(Section("Mixed samples", list(_samples(first, outcomes, args, figures))))
    sections.append(Section("Hardest errors", list(_hardest(first, outcomes))))
    methods = list(dict.fromkeys(run.variant.label for run in outcomes))
    seeds = sorted({run.seed for run in outcomes})
    sections.append(made_by(command, settings, f"Seeds {', '.join(map(str, seeds))}. "))
    lead = [
        f"{len(methods)} methods on {first.setting.task.task}, data set {first.setting.task.dataset}, "
        f"{len(seeds)} seed{'s' if len(seeds) > 1 else ''}"
        f"{f', {len(judged)} settings of the data' if several else ''}.",
        "All methods share seeds, order of the data and initial weights.",
    ]
    return write_page(output / "report.html", f"Does mixing help? {output.name}", lead, sections)


def _verdicts(judged: Judged) -> Iterator[Any]:
    if judged.setting.name:
        yield Heading(judged.setting.name)
    if not judged.verdicts:
        yield Text("There is no control to judge the methods against: add none and smoothing to the methods.")
        return
    for control, split in dict.fromkeys((v.control, v.split) for v in judged.verdicts):
        yield Heading(f"On {split}, against {control}")
        own = [v for v in judged.verdicts if (v.control, v.split) == (control, split)]
        yield Points([Point(f"{v.method}:", v.text) for v in own])
    if judged.failed:
        yield Heading("Runs that failed")
        reasons = judged.failed.items()
        yield Points([Point(f"{method}, seed {seed}:", reason) for (method, seed), reason in reasons])


def _scores(judged: Judged, figures: Path) -> Iterator[Any]:
    prepared, seeds = judged.setting.prepared, len({result["seed"] for result in judged.results})
    spread = "mean ± standard deviation over seeds" if seeds > 1 else "of the one seed"
    if judged.differences:
        yield Text(_READING)
    for split in judged.splits:
        yield Heading(split)
        yield _means(judged, split, spread)
        for (control, where), differences in judged.differences.items():
            if where == split and differences:
                yield _intervals(differences, f"minus {control}")
    metrics = _present(judged, prepared.metrics)
    path = metric_bars(judged.tested, figures / "metrics.png", metrics=metrics)
    alt = f"Bars of {', '.join(metrics)} by method and split; the numbers stand in the tables above."
    yield Image(path, alt, "The arrow points to the better values; bars are standard deviations over seeds.")


def _present(judged: Judged, names: Sequence[str]) -> list[str]:
    return [name for name in dict.fromkeys(names) if any(name in result["metrics"] for result in judged.tested)]


def _means(judged: Judged, split: str, spread: str) -> Table:
    summaries = aggregate(judged.tested)
    names = _present(judged, (*judged.setting.prepared.metrics, *REFITTED, "temperature"))
    rows = []
    for method in dict.fromkeys(result["method"] for result in judged.tested):
        found = summaries[method, split]
        rows.append([Cell(method), *(Cell(str(found[name]) if name in found else "-") for name in names)])
    notes = [f"{note[0].upper()}{note[1:]}." for note in (spread, refit_note(judged)) if note]
    return Table(["method", *map(_title, names)], rows, " ".join(notes))


def _title(name: str) -> str:
    arrow = {1: " ↑", 0: "", -1: " ↓"}[direction(name)]
    return name.replace("_temperature", " refitted") + arrow


def _intervals(differences: Differences, title: str) -> Table:
    names = list(dict.fromkeys(name for many in differences.values() for name in many))
    rows = [
        [Cell(method), *(_interval(name, many[name]) if name in many else Cell("-") for name in names)]
        for method, many in differences.items()
    ]
    return Table([title, *map(_title, names)], rows)


def _interval(name: str, difference: Difference) -> Cell:
    if difference.failed:
        return Cell("failed")
    if not difference.known:
        return Cell(signed(difference.estimate), below="no interval")
    mood = {1: "better", -1: "worse", 0: ""}[judgement(name, difference)]
    p = "< 0.001" if difference.p < 0.001 else f"{difference.p:.{3 if difference.p < 0.1 else 2}f}"
    range_ = f"{signed(difference.low)} to {signed(difference.high)}, p {p}"
    return Cell(f"{mood} {signed(difference.estimate)}".strip(), mood, range_)


def _calibration(judged: Judged, outcomes: Outcomes, figures: Path) -> Iterator[Any]:
    prepared = judged.setting.prepared
    score = next((name for name in ("accuracy", "mean_recall") if name in prepared.metrics), None)
    points = [[result["metrics"].get(name) for name in (score, "ece")] for result in judged.tested if score]
    if score is None or "ece" not in prepared.metrics or all(None in point for point in points):
        return
    yield Image(
        calibration_plane(judged.tested, figures / "plane.png", score=score),
        f"{score} against calibration error, a point a method and a panel a split.",
        "The lower right is best. A ring of the same colour is the method after its temperature refit.",
    )
    if prepared.classified is None:
        return
    split = judged.splits[0]
    curves = pooled(judged, outcomes, split, prepared.classified)
    yield _reliability(curves, figures / "reliability.png", split, "before any refit")
    if prepared.refits and split != "validation":
        after = pooled(judged, outcomes, split, prepared.classified, refitted=True)
        yield _reliability(after, figures / "reliability_refitted.png", split, "after the temperature refit")


def _reliability(curves: Mapping[str, Any], path: Path, split: str, when: str) -> Image:
    text = f"Reliability diagrams on {split}, {when}: accuracy by confidence, one panel a method ({', '.join(curves)})."
    return Image(reliability_diagram(curves, path), text, f"{split}, {when}, the rows of all seeds together.")


def _training(judged: Judged, outcomes: Outcomes, figures: Path) -> Iterator[Any]:
    curves: dict[str, list[list[tuple[float, float]]]] = {}
    times: dict[str, list[float]] = {}
    for label, outcome, _ in finished_runs(judged, outcomes):
        logged = [(line["step"], line["loss"]) for line in outcome.history if {"step", "loss"} <= set(line)]
        curves.setdefault(label, []).append(logged)
        seconds = [line["train_runtime"] for line in outcome.history if "train_runtime" in line]
        times.setdefault(label, []).extend(seconds)
    if not any(any(seeds) for seeds in curves.values()):
        yield Text("No loss was logged: the runs had fewer steps than logging_steps, or are of an older version.")
        return
    yield Image(
        training_curves(curves, figures / "curves.png", name="training loss"),
        f"Training loss over the steps of {', '.join(curves)}.",
        "Losses on mixed or smoothed labels have another floor: compare their shape, not their height.",
    )
    rows = [[Cell(method), Cell(f"{np.mean(many):.1f}")] for method, many in times.items() if many]
    if rows:
        yield Table(["method", "seconds a run"], rows, "Training alone, on a machine that may have had other work.")


def _samples(judged: Judged, outcomes: Outcomes, args: TrainingArguments, figures: Path) -> Iterator[Any]:
    variants = {run.variant.label: run.variant for run in outcomes if not run.variant.mixup.off}
    for number, (label, variant) in enumerate(list(variants.items())[:_PREVIEWS]):
        path = figures / f"mixed_{number}.png"
        try:
            draw_preview(judged.setting.prepared, judged.setting.task, variant.mixup, args, path)
        except (ValueError, TypeError, KeyError, RuntimeError) as error:  # an image less is no reason for no report
            yield Text(f"{label} is not drawn: {error}")
            continue
        alt = f"Training samples mixed by {label}, each with its weights and labels."
        yield Image(path, alt, f"{label}: what the model is shown, with the weights of both labels.")
    if len(variants) > _PREVIEWS:
        yield Text(f"{len(variants) - _PREVIEWS} more methods are not drawn.")


def _hardest(judged: Judged, outcomes: Outcomes) -> Iterator[Any]:
    """Yield the samples whose label is least probable on average, and what each method takes them for."""
    prepared, split = judged.setting.prepared, judged.splits[0]
    found = _probabilities(judged, outcomes, split) if prepared.refits else {}
    if not found:
        return
    labels = next(iter(found.values()))[1]
    own = [np.take_along_axis(probs, labels[:, None], axis=1)[:, 0] for probs, _ in found.values()]
    order = np.argsort(np.mean([np.log(np.maximum(each, 1e-30)) for each in own], axis=0), kind="stable")
    rows, names, cards = prepared.splits.evaluated[split], prepared.splits.label_names, []
    for index in order[:_HARDEST].tolist():
        lines = []
        for method, (probs, _) in found.items():
            guess = int(probs[index].argmax())
            lines.append(f"{method}: {names[guess]}, {100 * probs[index, guess]:.0f} %")
        cards.append(_card(rows[index], index, names[int(labels[index])], lines, judged.setting.task))
    yield Text(
        f"Rows of {split} whose own label is least probable over all runs, and what each method (the mean of its "
        "seeds) takes them for. Look for wrong labels here first."
    )
    yield Cards(cards)


def _probabilities(judged: Judged, outcomes: Outcomes, split: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return probabilities [N, C], the mean of a method's seeds, and labels; for samples with one class each."""
    parts: dict[str, list[np.ndarray]] = {}
    labels: dict[str, np.ndarray] = {}
    for label, outcome, _ in finished_runs(judged, outcomes):
        logits, classes = outcome.predictions[split]
        if logits.ndim == 2 and finite(logits):
            parts.setdefault(label, []).append(np.exp(log_probabilities(logits, classes)[0]))
            labels[label] = classes
    return {label: (np.mean(many, axis=0), labels[label]) for label, many in parts.items()}


def _card(row: Mapping[str, Any], index: int, label: str, lines: Sequence[str], task: Any) -> Card:
    image: Any = row.get(getattr(task, "image_column", ""))
    if hasattr(image, "convert"):
        shown = image.convert("RGB")
        shown.thumbnail((_SIDE, _SIDE))
        if max(shown.size) < _SIDE:  # small images are shown with their pixels
            factor = _SIDE // max(shown.size)
            shown = shown.resize((shown.width * factor, shown.height * factor), resample=0)
        buffer = io.BytesIO()
        shown.save(buffer, format="PNG")
        alt = f"Row {index}, labelled {label}"
        return Card(f"{label} (row {index})", lines, embedded(buffer.getvalue()), alt)
    text = row.get(getattr(task, "text_column", ""))
    head = [f"“{text if len(text) <= _LONG else text[: _LONG - 1] + '…'}”"] if isinstance(text, str) else []
    return Card(f"{label} (row {index})", [*head, *lines])
