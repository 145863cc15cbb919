"""An evaluation as tables, images and a section of the model card."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard

from hf_mixup.experiments.report.verdict import three_digits
from hf_mixup.integrations.whole_card import eval_result
from hf_mixup.metrics.detection import SCORES
from hf_mixup.metrics.levels import summarise_levels
from hf_mixup.metrics.results import Measured
from hf_mixup.plots.charts import reliability_diagram
from hf_mixup.plots.levels import level_curves, score_histograms
from hf_mixup.plots.table import markdown_table
from hf_mixup.utils.files import write_text

HEADING = "## Robustness evaluation"
BY_LEVEL = {
    "corruption": ("Common corruptions", "severity"),
    "noise": ("Noise on the inputs", "strength of the noise"),
    "adversarial": ("Adversarial attacks", "largest change of a pixel, in 255ths"),
    "label_noise": ("Trained on wrong labels", "share of wrong labels"),
}
"""Suites with levels: their title, and what a level is."""
_AFTER = "after temperature scaling"
_OF_CARD = ("accuracy", "nll", "ece", "ece_temperature")


def level_summaries(
    results: Sequence[Measured], suite: str, baseline: Sequence[Measured] | None = None
) -> dict[str, dict[str, Any]]:
    """Return `hf_mixup.metrics.summarise_levels` of a suite, by split; relative to a baseline that has that suite.

    >>> cells = [{"suite": "noise", "of": "test", "family": "hiss", "level": 1.0, "metrics": {"accuracy": 0.5}}]
    >>> level_summaries(cells, "noise")["test"]["accuracy"]
    0.5
    """
    others = level_summaries(baseline, suite) if baseline else {}
    cells: dict[str, dict[tuple[str, float], Mapping[str, Any]]] = {}
    clean: dict[str, Mapping[str, Any]] = {}
    for each in results:
        split, is_clean = each["of"], each.get("level", 0) == 0
        if each["suite"] == suite and not is_clean:
            cells.setdefault(split, {})[each["family"], each["level"]] = _numbers(each["metrics"])
        elif is_clean and each["suite"] == (suite if suite == "label_noise" else "calibration"):
            clean[split] = _numbers(each["metrics"])
    summaries = {}
    for split, found in cells.items():
        names = next(iter(found.values()))
        start = {name: value for name, value in clean.get(split, {}).items() if name in names}
        summaries[split] = summarise_levels(found, start or None, others.get(split))
    return summaries


def _numbers(metrics: Mapping[str, float | None]) -> dict[str, float]:
    return {name: float("nan") if value is None else value for name, value in metrics.items()}


def evaluation_tables(results: Sequence[Measured]) -> str:
    """Return all results as Markdown tables, each under a heading of the third level."""
    parts = [_clean_table(results)]
    for suite, (title, _) in BY_LEVEL.items():
        for split, summary in level_summaries(results, suite).items():
            whole = next((each["metrics"] for each in results if each["split"] == split), {})
            parts.append(_level_table(f"{title}, {split}", suite, summary, whole))
    outside = [each for each in results if each["suite"] == "ood"]
    if outside:
        parts.append(_ood_table(outside))
    return "\n".join(parts)


def _clean_table(results: Sequence[Measured]) -> str:
    splits = list(dict.fromkeys(each["of"] for each in results))
    rows = [each for each in results if each["suite"] in ("calibration", "tta")]
    rows.sort(key=lambda each: splits.index(each["of"]))
    columns = {"accuracy": "accuracy", "NLL": "nll", "ECE": "ece", "temperature": "temperature"}
    columns |= {f"{name.upper()} {_AFTER}": f"{name}_temperature" for name in ("nll", "ece")} | {"cost": "tta_cost"}
    cells = {title: [_cell(each["metrics"], name) for each in rows] for title, name in columns.items()}
    shown = {title: column for title, column in cells.items() if any(cell != "-" for cell in column)}
    note = "The temperature was fitted to the validation samples alone."
    if "cost" in shown:
        views = next(each["family"] for each in rows if each["suite"] == "tta")
        note += f" tta: averaged over views ({views}); its cost is the time of that many forward passes against one."
    return f"### Test splits\n\n{markdown_table('split', [each['split'] for each in rows], shown)}\n\n{note}\n"


def _level_table(title: str, suite: str, summary: Mapping[str, Any], whole: Mapping[str, Any]) -> str:
    families = summary["families"]
    levels = sorted({level for curve in families.values() for level in curve["levels"]})
    scale, unit = (255, "/255") if suite == "adversarial" else (1, "")
    columns: dict[str, list[str]] = {}
    if "clean" in summary:
        columns["clean"] = [three_digits(summary["clean"]["accuracy"])] * len(families)
    for level in levels:
        found = [dict(zip(curve["levels"], curve["accuracy"])) for curve in families.values()]
        columns[f"{level * scale:.3g}{unit}"] = [three_digits(each.get(level)) for each in found]
    for title_of, name in (("mean ECE", "ece"), (f"mean ECE {_AFTER}", "ece_temperature")):
        if name in summary:
            columns[title_of] = [three_digits(sum(curve[name]) / len(curve[name])) for curve in families.values()]
    text = f"### {title}\n\n{markdown_table('accuracy', list(families), columns)}\n\n"
    text += f"Mean accuracy {three_digits(summary['accuracy'])}, mean ECE {three_digits(summary['ece'])}"
    prefix = "" if suite == "corruption" else f"{suite}_"
    if whole.get(f"{prefix}mce") is not None:
        text += f"; errors relative to the baseline (mCE) {three_digits(whole[f'{prefix}mce'])}"
        if whole.get(f"{prefix}relative_mce") is not None:
            text += f", the loss against clean samples likewise {three_digits(whole[f'{prefix}relative_mce'])}"
    return text + ".\n"


def _ood_table(outside: Sequence[Measured]) -> str:
    rows = [(each, score) for each in outside for score in SCORES]
    names = [f"{each['split']}, by {score.replace('_', ' ')}" for each, score in rows]
    measures = {"AUROC": "auroc", "AUPR in": "aupr_in", "AUPR out": "aupr_out", "FPR95": "fpr95"}
    columns = {
        title: [_cell(each["metrics"], f"{name}_{score}") for each, score in rows] for title, name in measures.items()
    }
    return f"### Out-of-distribution samples\n\n{markdown_table('samples', names, columns)}\n"


def _cell(metrics: Mapping[str, Any], name: str) -> str:
    return three_digits(metrics[name]) if name in metrics else "-"


def draw_evaluation(results: Sequence[Measured], arrays: Mapping[str, Any], folder: Path) -> list[Path]:
    """Draw the images of an evaluation into a folder, and return their paths.

    Args:
        arrays: `temperature`; `clean`: split -> `logits` [N, C] and `labels` [N]; `outside`: name -> logits [M, C].
    """
    temperature, curves = arrays["temperature"], {}
    for split, found in arrays["clean"].items():
        curves[split] = found["logits"], found["labels"]
        curves[f"{split}, T = {temperature:.2f}"] = found["logits"] / temperature, found["labels"]
    made = [reliability_diagram(curves, folder / "reliability.png")]
    for suite, (title, level) in BY_LEVEL.items():
        summaries = level_summaries(results, suite)
        if summaries:
            scale = 255 if suite == "adversarial" else 1
            made.append(level_curves(summaries, folder / f"{suite}.png", title=title, level=level, scale=scale))
    if arrays["outside"]:
        split, found = next(iter(arrays["clean"].items()))
        made.append(score_histograms(split, found["logits"], arrays["outside"], folder / "ood.png"))
    return made


def add_evaluation_section(
    directory: str | os.PathLike[str], results: Sequence[Measured], images: Sequence[Path], task: str, dataset: str
) -> None:
    """Add the results to the `README.md` of a model directory, as a section and as metadata of the Hub.

    A section that an earlier call wrote is replaced, and so are its figures in the metadata; those of others stay.
    Images are shown where they lie within the directory.
    """
    path = Path(directory) / "README.md"
    card = ModelCard.load(path) if path.is_file() else ModelCard("---\n{}\n---\n")
    name = Path(dataset).name
    before, _, rest = card.text.partition(HEADING)
    behind = rest.partition("\n## ")[2]
    section = f"{HEADING}\n\nMeasured by `hf-mixup evaluate`.\n\n{evaluation_tables(results)}"
    root = path.parent.resolve()
    for image in images:
        if image.resolve().is_relative_to(root):
            section += f"\n![{image.stem}]({image.resolve().relative_to(root).as_posix()})\n"
    card.text = f"{before.rstrip()}\n\n{section}" + (f"\n## {behind}" if behind else "")
    data: Any = card.data
    data.model_name = data.model_name or root.name
    # Scores of the clean splits, and means over their perturbations.
    ours = [
        eval_result(task, name, each["of"], metric, round(value, 4))
        for each in results
        if each["suite"] == "calibration"
        for metric, value in each["metrics"].items()
        if value is not None and (metric in _OF_CARD or metric.endswith(("_accuracy", "_ece", "mce")))
    ]
    measured = {(each.dataset_split, each.metric_type) for each in ours}
    kept = [each for each in data.eval_results or [] if (each.dataset_split, each.metric_type) not in measured]
    data.eval_results = [*kept, *ours]
    write_text(path, str(card))
