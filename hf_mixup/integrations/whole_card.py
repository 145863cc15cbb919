"""The whole model card of a run: what was trained on what, with which settings, how good it is, how to use it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from hf_mixup import __version__
from hf_mixup.engine.config import MixupConfig
from hf_mixup.engine.unwrap import unwrap
from hf_mixup.integrations.card_usage import PIPELINES, usage
from hf_mixup.integrations.model_card import mixing_section, tags_of

TEMPLATE = Path(__file__).with_name("model_card.md.j2")
_FOLDERS = {"imagefolder", "audiofolder", "videofolder", "webdataset", "generator", "csv", "json", "parquet", "text"}
_NO_SCORES = ("runtime", "samples_per_second", "steps_per_second", "model_preparation_time", "num_tokens")
_SPECIAL = re.compile(r"([\\`*_\[\]<>|#~])")
_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")

Scores = Mapping[str, Mapping[str, float | None]]


def write_card(
    trainer: Any,
    config: MixupConfig | None,
    scores: Scores | None = None,
    settings: str = "",
    pipeline: str | None = None,
    **given: Any,
) -> None:
    """Write the model card of a Trainer into its output folder; process 0 does.

    Names from outside are escaped, and a path is never shown: of a local model or dataset the card says that it is one.

    Args:
        config: how it mixed, None if it did not.
        scores: by split and metric (default: those that the Trainer logged last); None and NaN are shown as "-".
        settings: YAML that repeats the run by `hf-mixup train`.
        pipeline: what the Hub calls the task (default: that of the model's class).
        given: what `Trainer.create_model_card` takes: language, license, tags, model_name, finetuned_from, tasks,
            dataset, dataset_tags, dataset_args.
    """
    if not trainer.is_world_process_zero():
        return
    from transformers.modelcard import TrainingSummary  # takes seconds

    told = TrainingSummary.from_trainer(trainer, **given)
    model = unwrap(trainer.model)
    tasks = [told.tasks] if isinstance(told.tasks, str) else list(told.tasks or ())
    task = pipeline or next(iter(tasks), None)
    base = told.finetuned_from if _HUB_NAME.fullmatch(told.finetuned_from or "") else None
    named, tagged = _names(told.dataset), [each for each in _names(told.dataset_tags) if each not in _FOLDERS]
    named = [each for each in named if each not in _FOLDERS]
    scores = _logged(trainer.state.log_history) if scores is None else scores
    results = eval_results(scores, task, (tagged or named or ["unknown"])[0], (named or tagged or ["unknown"])[0])
    data = ModelCardData(
        language=told.language,
        license=told.license,
        library_name="peft" if hasattr(model, "peft_config") else "transformers",
        pipeline_tag=task,
        base_model=base,
        datasets=tagged or None,
        tags=[*_names(told.tags), *(each for each in tags_of(config) if each not in _names(told.tags))],
        model_name=told.model_name,
        eval_results=results or None,
    )
    metrics = list(dict.fromkeys(name for found in scores.values() for name in found if found[name] is not None))
    hub_name = trainer.args.hub_model_id or told.model_name
    hyperparameters = {**told.hyperparameters, "optimizer": trainer.args.optim.value}  # whose text there is for logs
    served = next((each for each in tasks if each in PIPELINES), None)
    card = ModelCard.from_template(
        data,
        template_path=str(TEMPLATE),
        name=escaped(told.model_name),
        summary=_summary(model, base, named or tagged),
        usage=usage(model, trainer.processing_class, hub_name, served),
        metrics=[escaped(name) for name in metrics],
        scores=[(escaped(split), [_cell(found.get(name)) for name in metrics]) for split, found in scores.items()],
        training=[(escaped(name), escaped(value)) for name, value in hyperparameters.items()],
        settings=settings.strip(),
        versions=_versions(),
        mixing="" if config is None else mixing_section(config),
    )
    card.save(Path(trainer.args.output_dir, "README.md"))


def eval_results(scores: Scores, task: str | None, dataset: str, title: str) -> list[EvalResult]:
    """Return the finite scores, by split and metric, as the metadata of a card holds them.

    Args:
        task: what the Hub calls it.
        dataset, title: its name on the Hub, and the one to show.

    >>> [each.metric_type for each in eval_results({"test": {"accuracy": 0.9, "nll": None}}, None, "me/emoji", "emoji")]
    ['accuracy']
    """
    return [
        eval_result(task or "other", dataset, split, name, float(value), title)
        for split, found in scores.items()
        for name, value in found.items()
        if value is not None and math.isfinite(value)
    ]


def eval_result(task: str, dataset: str, split: str, metric: str, value: float, title: str | None = None) -> EvalResult:
    """Return one score as the metadata of a card holds it, see `eval_results`."""
    data: dict[str, Any] = {"dataset_type": dataset, "dataset_name": title or dataset, "dataset_split": split}
    return EvalResult(**data, task_type=task, metric_type=metric, metric_name=metric, metric_value=value)


def escaped(text: Any) -> str:
    """Return a text from outside as Markdown that shows it, in one line.

    >>> print(escaped("a|b <i>"))
    a\\|b \\<i\\>
    """
    return _SPECIAL.sub(r"\\\1", " ".join(str(text).split()))


def _names(value: str | list[str] | None) -> list[str]:
    return [value] if isinstance(value, str) else [each for each in value or () if each]


def _summary(model: Any, base: str | None, datasets: list[str]) -> str:
    """Say what the model is, and what it was trained from and on."""
    local = Path(getattr(model.config, "_name_or_path", "") or "-").is_dir()
    start = "trained from scratch"
    if base is not None or local:
        start = "fine-tuned from " + (
            "a local checkpoint" if base is None else f"[{base}](https://huggingface.co/{base})"
        )
    where = f" on {', '.join(map(escaped, datasets))}" if datasets else ""
    return f"A `{type(model).__name__}`, {start}{where}."


def _logged(history: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Return the scores that a Trainer logged last of each split: each evaluation logs its time under its prefix."""
    found: dict[str, dict[str, float]] = {}
    for line in history:
        for prefix in (name.removesuffix("_runtime") for name in line if name.endswith("_runtime")):
            if prefix != "train":
                split = "validation" if prefix == "eval" else prefix.removeprefix("eval_")
                found[split] = {
                    name.removeprefix(f"{prefix}_"): value
                    for name, value in line.items()
                    if name.startswith(f"{prefix}_") and isinstance(value, float) and not name.endswith(_NO_SCORES)
                }
    return found


def _cell(value: float | None) -> str:
    return "-" if value is None or not math.isfinite(value) else f"{value:.4g}"


def _versions() -> list[tuple[str, str]]:
    others = [("Transformers", "transformers"), ("Datasets", "datasets"), ("Accelerate", "accelerate")]
    found = [(name, version(package)) for name, package in others]
    return [("hf-mixup", __version__), *found, ("PyTorch", torch.__version__)]
