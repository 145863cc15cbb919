"""The model card of a run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from transformers import Trainer

from hf_mixup.engine.config import MixupConfig
from hf_mixup.experiments.tasks.arguments import TaskArguments
from hf_mixup.experiments.tasks.settings import settings_of
from hf_mixup.experiments.tasks.streaming import shown
from hf_mixup.integrations import whole_card
from hf_mixup.utils.suggest import shortened

_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]+)*|multilingual|code")
_LICENSE = re.compile(r"[a-z0-9][a-z0-9.+-]*")
_LICENSES = "https://huggingface.co/docs/hub/repositories-licenses; other is for what is not there"
_LONGEST = 300  # characters of what the Hub says
# Settings that say where files go and how fast data comes: another machine has its own.
_OF_THE_MACHINE = (
    *("output_dir", "overwrite_output_dir", "cache_images", "resume_from_checkpoint", "run_name", "hub_model_id"),
    *("report_to", "disable_tqdm", "use_cpu", "push_to_hub", "project", "dataloader_pin_memory"),
)


def write_card(
    trainer: Trainer,
    task: TaskArguments,
    mixup: MixupConfig,
    scores: Mapping[str, Mapping[str, float | None]] | None = None,
    model_name: str | None = None,
) -> None:
    """Write the model card of a run, with the mixing section where it mixed, into the Trainer's output folder.

    Args:
        scores: of the model, by split and metric.
        model_name: title of the card (default: the name of the output folder).

    >>> import tempfile
    >>> from transformers import TrainingArguments
    >>> from hf_mixup import MixupTrainer
    >>> from hf_mixup.testing.build import build
    >>> args = TrainingArguments(tempfile.mkdtemp(), use_cpu=True, report_to="none")
    >>> trainer = MixupTrainer(build("image-classification", "vit"), args, mixup="cutmix")
    >>> write_card(trainer, TaskArguments(), MixupConfig("cutmix"), model_name="emoji-cutmix")
    >>> "# emoji-cutmix" in Path(args.output_dir, "README.md").read_text()
    True
    """
    whole_card.write_card(
        trainer,
        None if mixup.off else mixup,
        scores,
        settings=yaml.safe_dump(_public(settings_of(task, mixup, trainer.args)), sort_keys=False, allow_unicode=True),
        pipeline=task.hub_task or task.task,
        model_name=model_name,
        dataset=task.dataset_name,
        dataset_tags=task.dataset if task.on_the_hub else None,
        language=task.language,
        license=task.license,
    )


def check_card(task: TaskArguments) -> None:
    """Refuse a language or license that the Hub does not take, before anything is trained.

    The Hub is asked, as `huggingface_hub` does before it pushes a card. Where it cannot be reached, only the form of
    both is checked.

    Raises:
        ValueError: naming it, and where the valid ones are listed.

    >>> check_card(TaskArguments(license="Apache 2.0"))
    Traceback (most recent call last):
    ...
    ValueError: license='Apache 2.0': expected an id such as apache-2.0, see
    https://huggingface.co/docs/hub/repositories-licenses; other is for what is not there
    """
    for each in task.language or ():
        if not _LANGUAGE.fullmatch(each):
            raise ValueError(f"language={each!r}: expected a code of ISO 639 such as en, or multilingual")
    if task.license is not None and not _LICENSE.fullmatch(task.license):
        raise ValueError(f"license={task.license!r}: expected an id such as apache-2.0, see {_LICENSES}")
    if task.language or task.license:
        _ask_the_hub(task)


def _ask_the_hub(task: TaskArguments) -> None:
    from huggingface_hub import ModelCard, ModelCardData
    from huggingface_hub.errors import HTTPError

    data = ModelCardData(language=task.language, license=task.license)
    try:
        ModelCard(f"---\n{data.to_yaml()}\n---\n").validate()
    except ValueError as error:
        told = ", ".join(f"{name}={value!r}" for name, value in data.to_dict().items())
        raise ValueError(
            f"the Hub takes no card with {told}: {shortened(str(error), _LONGEST)}; see {_LICENSES}"
        ) from error
    except (OSError, HTTPError):  # offline; a push will ask it again
        return


def _public(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings without what belongs to one machine; of a path there is the last part."""
    return {name: _without_folders(value) for name, value in settings.items() if name not in _OF_THE_MACHINE}


def _without_folders(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_folders(each) for each in value]
    if isinstance(value, str) and "://" in value:
        return shown(value)
    local = isinstance(value, str) and (Path(value).is_absolute() or value.startswith((".", "~")))
    return Path(value).name if local else value
