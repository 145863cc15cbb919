"""report.html of a comparison: verdicts, tables with intervals, images, mixed samples, hardest errors, commands."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from transformers import TrainingArguments

from hf_mixup.experiments.compare.classes import class_blocks
from hf_mixup.experiments.compare.judge import Differences, Judged
from hf_mixup.experiments.compare.one_run import Outcomes
from hf_mixup.experiments.compare.results import finished_runs, pooled, refit_note
from hf_mixup.experiments.compare.settled import how_often, left_open, ranking_score
from hf_mixup.experiments.report import html_page as html
from hf_mixup.experiments.report.statistics import MOST_SEEDS, Difference, seeds_to_settle
from hf_mixup.experiments.report.verdict import MARGIN, SHARES, asked, certain, claim, judgement, signed
from hf_mixup.experiments.tasks.prepare import finite
from hf_mixup.experiments.tasks.prepared import REFITTED
from hf_mixup.experiments.tasks.preview import draw_preview
from hf_mixup.experiments.tasks.stream import LOADER, STEP, WAITING
from hf_mixup.metrics import log_probabilities
from hf_mixup.metrics.results import aggregate, direction
from hf_mixup.plots.charts import metric_bars, reliability_diagram
from hf_mixup.plots.curves import calibration_plane, training_curves
from hf_mixup.utils.suggest import shortened

FIGURES = "figures"
_PREVIEWS = 4
_HARDEST = 8
_SIDE = 144  # pixels of an image among the hardest errors
_LONG = 220  # characters of a text there
_READING = (
    "Below the scores stands each method minus a control, with the 95 % interval of the difference over test samples "
    "and seeds, and p, corrected for the number of comparisons with this control. Better and worse: the interval "
    "excludes zero, and p is below 0.05. Elsewhere the difference is not significant, which does not mean that the two "
    "are equal. With few samples the ECE is too large, for every method."
)
_NUMBERS = {
    "accuracy": "accuracy is the share of right answers",
    "nll": "nll is the mean negative log-likelihood of the right answer",
    "ece": "ece, the expected calibration error, is the mean distance between confidence and accuracy",
    "mean_recall": "mean_recall is the mean of the shares of searches with a right answer among the first 1, 5 and 10",
    "wer": "wer is the share of wrong words",
    "cer": "cer is the share of wrong characters",
}
"""What the commonest scores are."""


def write_report(
    output: Path,
    judged: Sequence[Judged],
    outcomes: Outcomes,
    args: TrainingArguments,
    command: str,
    settings: Mapping[str, Any],
    select_by: str,
) -> Path:
    """Draw the figures into `figures/` and write `report.html`, which holds them all.

    Args:
        command: starts the comparison again.
        settings: all that are not the defaults.
        select_by: the validation score that tells the best method.
    """
    figures = output / FIGURES
    several = len(judged) > 1
    sections = [html.Section("Verdicts", [block for each in judged for block in _verdicts(each)])]
    for number, each in enumerate(judged):
        name = f": {each.setting.name}" if each.setting.name else ""
        folder = figures / str(number) if several else figures
        sections.append(html.Section(f"Scores{name}", list(_scores(each, folder))))
        sections.append(html.Section(f"Classes{name}", list(class_blocks(each, outcomes, folder, select_by))))
        sections.append(html.Section(f"Calibration{name}", list(_calibration(each, outcomes, folder))))
        sections.append(html.Section(f"Training{name}", list(_training(each, outcomes, folder))))
    first = judged[0]
    sections.append(html.Section("Mixed samples", list(_samples(first, outcomes, args, figures))))
    sections.append(html.Section("Hardest errors", list(_hardest(first, outcomes))))
    methods = list(dict.fromkeys(run.variant.label for run in outcomes))
    seeds = sorted({run.seed for run in outcomes})
    sections.append(html.made_by(command, settings, f"Seeds {', '.join(map(str, seeds))}. "))
    lead = [
        f"{len(methods)} methods on {first.setting.task.task}, dataset {first.setting.task.dataset}, "
        f"{len(seeds)} seed{'s' if len(seeds) > 1 else ''}"
        f"{f', {len(judged)} settings of the data' if several else ''}.",
        "All methods share seeds, order of the data and initial weights.",
        *_explained(first),
    ]
    return html.write_page(output / "report.html", f"Does mixing help? {output.name}", lead, sections)


def _explained(judged: Judged) -> list[str]:
    """Return a sentence on what the scores are; none where no score is explained."""
    known = [_NUMBERS[name] for name in _present(judged, judged.setting.prepared.metrics) if name in _NUMBERS]
    text = "; ".join(known)
    return [f"{text[0].upper()}{text[1:]}. An arrow points to the better values (↑ more, ↓ less)."] if known else []


def _verdicts(judged: Judged) -> Iterator[Any]:
    if judged.setting.name:
        yield html.Heading(judged.setting.name)
    if not judged.verdicts:
        yield html.Text("There is no control to judge the methods against: add none and smoothing to the methods.")
        return
    if looked := how_often(judged):
        yield html.Text(looked)
        if points := [html.Point(f"{reason}:", which) for reason, which in left_open(judged)]:
            yield html.Points(points)
    for control, split in dict.fromkeys((v.control, v.split) for v in judged.verdicts):
        yield html.Heading(f"On {split}, against {control}")
        yield _claims(judged.differences[control, split], " over all looks" * bool(judged.look.number))
        told = ((method, certain(scores)) for method, scores in judged.differences[control, split].items())
        if sure := [html.Point(f"{method}:", text) for method, text in told if text]:
            yield html.Points(sure)
        yield from _to_settle(judged, control, split)
    if judged.failed:
        yield html.Heading("Runs that failed")
        reasons = judged.failed.items()
        yield html.Points([html.Point(f"{method}, seed {seed}:", reason) for (method, seed), reason in reasons])


def _claims(differences: Differences, scope: str) -> html.Table:
    """Return what is claimed of each method and score, with the interval that allows no more."""
    first = next(iter(differences.values()))
    names = [name for name in first if name in asked(first)]
    rows = []
    for method, scores in differences.items():
        rows.append([html.Cell(method), *(_claimed(name, scores[name]) for name in names)])
    return html.Table(["method", *map(_title, names)], rows, f"Below each: the 95 % interval of the difference{scope}.")


def _claimed(name: str, difference: Difference) -> html.Cell:
    if difference.failed:
        return html.Cell("failed")
    word = claim(name, difference)
    if not difference.known:
        return html.Cell(word, below="no interval")
    seeds = f"{difference.seeds} seed{'s' if difference.seeds > 1 else ''}: "
    range_ = f"{signed(difference.low)} to {signed(difference.high)}"
    mood = word if word in ("better", "worse") else ""
    return html.Cell(word, mood, seeds * (word == "not significant") + range_)


def _to_settle(judged: Judged, control: str, split: str) -> Iterator[html.Text]:
    """Yield how many seeds a difference of one point of a share would take, by the method with the widest spread."""
    name = ranking_score(judged)
    scores: dict[str, list[float | None]] = {}
    for result in judged.tested:
        if result["split"] == split:
            scores.setdefault(result["method"], []).append(result["metrics"].get(name))
    others = [many for method, many in scores.items() if method != control]
    if judged.look.number or name not in SHARES or len(scores.get(control, ())) < 2 or not others:
        return
    needed = [seeds_to_settle(many, scores[control], MARGIN) for many in others]
    known = [each for each in needed if each is not None]
    if known:
        number = f"about {max(known)}" if len(known) == len(needed) else f"more than {MOST_SEEDS}"
        yield html.Text(
            f"With this spread between seeds, {number} seeds are needed until a difference of {MARGIN:g} in {name} is "
            f"significant on these test samples (now {len(scores[control])}); --seeds auto goes on until it is settled."
        )


def _scores(judged: Judged, figures: Path) -> Iterator[Any]:
    prepared, seeds = judged.setting.prepared, len({result["seed"] for result in judged.results})
    spread = "mean ± standard deviation over seeds" if seeds > 1 else "of the one seed"
    if judged.differences:
        yield html.Text(_READING)
    for split in judged.splits:
        yield html.Heading(split)
        yield _means(judged, split, spread)
        for (control, where), differences in judged.differences.items():
            if where == split and differences:
                yield _intervals(differences, f"minus {control}")
    metrics = _present(judged, prepared.metrics)
    path = metric_bars(judged.tested, figures / "metrics.png", metrics=metrics)
    alt = f"Bars of {', '.join(metrics)} by method and split; the numbers stand in the tables above."
    yield html.Image(path, alt, "The arrow points to the better values; bars are standard deviations over seeds.")


def _present(judged: Judged, names: Sequence[str]) -> list[str]:
    return [name for name in dict.fromkeys(names) if any(name in result["metrics"] for result in judged.tested)]


def _means(judged: Judged, split: str, spread: str) -> html.Table:
    summaries = aggregate(judged.tested)
    names = _present(judged, (*judged.setting.prepared.metrics, *REFITTED, "temperature"))
    rows = []
    for method in dict.fromkeys(result["method"] for result in judged.tested):
        found = summaries[method, split]
        rows.append([html.Cell(method), *(html.Cell(str(found[name]) if name in found else "-") for name in names)])
    notes = [f"{note[0].upper()}{note[1:]}." for note in (spread, refit_note(judged)) if note]
    return html.Table(["method", *map(_title, names)], rows, " ".join(notes))


def _title(name: str) -> str:
    arrow = {1: " ↑", 0: "", -1: " ↓"}[direction(name)]
    return name.replace("_temperature", " after temperature scaling") + arrow


def _intervals(differences: Differences, title: str) -> html.Table:
    names = list(dict.fromkeys(name for many in differences.values() for name in many))
    rows = [
        [html.Cell(method), *(_interval(name, many[name]) if name in many else html.Cell("-") for name in names)]
        for method, many in differences.items()
    ]
    return html.Table([title, *map(_title, names)], rows)


def _interval(name: str, difference: Difference) -> html.Cell:
    if difference.failed:
        return html.Cell("failed")
    if not difference.known:
        return html.Cell(signed(difference.estimate), below="no interval")
    mood = {1: "better", -1: "worse", 0: ""}[judgement(name, difference)]
    p = "< 0.001" if difference.p < 0.001 else f"{difference.p:.{3 if difference.p < 0.1 else 2}f}"
    range_ = f"{signed(difference.low)} to {signed(difference.high)}, p {p}"
    return html.Cell(f"{mood} {signed(difference.estimate)}".strip(), mood, range_)


def _calibration(judged: Judged, outcomes: Outcomes, figures: Path) -> Iterator[Any]:
    prepared = judged.setting.prepared
    score = next((name for name in ("accuracy", "mean_recall") if name in prepared.metrics), None)
    points = [[result["metrics"].get(name) for name in (score, "ece")] for result in judged.tested if score]
    if score is None or "ece" not in prepared.metrics or all(None in point for point in points):
        return
    yield html.Image(
        calibration_plane(judged.tested, figures / "plane.png", score=score),
        f"{score} against calibration error, a point a method and a panel a split.",
        "The lower right is best. A ring of the same colour is the method after temperature scaling.",
    )
    if prepared.classified is None:
        return
    split = judged.splits[0]
    curves = pooled(judged, outcomes, split, prepared.classified)
    yield _reliability(judged, curves, figures / "reliability.png", split, "before temperature scaling")
    if prepared.refits and split != "validation":
        after = pooled(judged, outcomes, split, prepared.classified, refitted=True)
        path = figures / "reliability_temperature.png"
        yield _reliability(judged, after, path, split, "after temperature scaling", "ece_temperature")


def _reliability(
    judged: Judged, curves: Mapping[str, Any], path: Path, split: str, when: str, name: str = "ece"
) -> html.Image:
    """Draw the rows of all seeds together; the numbers are those of the tables, means over seeds."""
    means = aggregate(judged.tested)
    told = {
        method: f"ECE {means[method, split][name].mean:.3f}    accuracy {means[method, split]['accuracy'].mean:.3f}"
        for method in curves
        if {name, "accuracy"} <= means[method, split].keys()
    }
    text = f"Reliability diagrams on {split}, {when}: accuracy by confidence, one panel a method ({', '.join(curves)})."
    return html.Image(
        reliability_diagram(curves, path, subtitles=told),
        text,
        f"{split}, {when}: bars of the samples of all seeds together; numbers as in the tables, means over seeds.",
    )


def _training(judged: Judged, outcomes: Outcomes, figures: Path) -> Iterator[Any]:
    curves: dict[str, list[list[tuple[float, float]]]] = {}
    ends: dict[str, list[Mapping[str, Any]]] = {}
    for label, outcome, _ in finished_runs(judged, outcomes):
        logged = [(line["step"], line["loss"]) for line in outcome.history if {"step", "loss"} <= set(line)]
        curves.setdefault(label, []).append(logged)
        ends.setdefault(label, []).extend(line for line in outcome.history if "train_runtime" in line)
    if not any(any(seeds) for seeds in curves.values()):
        yield html.Text("No loss was logged: the runs had fewer steps than logging_steps, or are of an older version.")
        return
    yield html.Image(
        training_curves(curves, figures / "curves.png", name="training loss"),
        f"Training loss over the steps of {', '.join(curves)}.",
        "Losses on mixed or smoothed labels have another floor: compare their shape, not their height.",
    )
    yield from _times({method: many for method, many in ends.items() if many})


def _times(ends: Mapping[str, Sequence[Mapping[str, Any]]]) -> Iterator[Any]:
    """Yield a table of what runs logged when they had been trained."""
    told = {"train_runtime": ("seconds a run", ".1f")}
    if any(LOADER in line for many in ends.values() for line in many):
        told |= {LOADER: ("samples a second: of the loader", ",.0f"), STEP: ("of training", ",.0f")}
        told |= {WAITING: ("time spent waiting for samples", ".0%")}
    rows = [
        [html.Cell(method), *(html.Cell(format(_mean(name, many), form)) for name, (_, form) in told.items())]
        for method, many in ends.items()
    ]
    if rows:
        heads = ["method", *(head for head, _ in told.values())]
        yield html.Table(heads, rows, "Training alone; the machine may have had other work.")


def _mean(name: str, lines: Sequence[Mapping[str, Any]]) -> float:
    return float(np.mean([line.get(name, math.nan) for line in lines]))


def _samples(judged: Judged, outcomes: Outcomes, args: TrainingArguments, figures: Path) -> Iterator[Any]:
    variants = {run.variant.label: run.variant for run in outcomes if not run.variant.mixup.off}
    for number, (label, variant) in enumerate(list(variants.items())[:_PREVIEWS]):
        path = figures / f"mixed_{number}.png"
        try:
            draw_preview(judged.setting.prepared, judged.setting.task, variant.mixup, args, path)
        except (ValueError, TypeError, KeyError, RuntimeError) as error:  # an image less is no reason for no report
            yield html.Text(f"{label} is not drawn: {error}")
            continue
        alt = f"Training samples mixed by {label}, each with its weights and labels."
        yield html.Image(path, alt, f"{label}: what the model is shown, with the weights of both labels.")
    if len(variants) > _PREVIEWS:
        yield html.Text(f"{len(variants) - _PREVIEWS} more methods are not drawn.")


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
    yield html.Text(
        f"Samples of {split} whose own label is least probable over all runs, with the prediction of each method (the "
        "mean of its seeds) and its confidence. Look for wrong labels here first."
    )
    yield html.Cards(cards)


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


def _card(row: Mapping[str, Any], index: int, label: str, lines: Sequence[str], task: Any) -> html.Card:
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
        return html.Card(f"{label} (row {index})", lines, html.embedded(buffer.getvalue()), alt)
    text = row.get(getattr(task, "text_column", ""))
    head = [f"“{shortened(text, _LONG)}”"] if isinstance(text, str) else []
    return html.Card(f"{label} (row {index})", [*head, *lines])
