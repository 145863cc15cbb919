"""New models and checkpoints, with a head for the labels of a dataset, and adapters."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import transformers
from transformers import AutoConfig, PretrainedConfig, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

from hf_mixup.experiments.tasks.arguments import TaskArguments
from hf_mixup.experiments.tasks.shared import WithTexts
from hf_mixup.utils.suggest import did_you_mean, nearest


def auto_class(task: type[TaskArguments] | TaskArguments) -> Any:
    """Return the class of transformers that builds the model of a task."""
    return getattr(transformers, task.auto_class)


def classifier(task: TaskArguments, label_names: list[str], **settings: Any) -> PreTrainedModel:
    """Return a classifier with one output a label: a checkpoint's weights below a new head, or a new model.

    Args:
        settings: settings of a new model's configuration that the task dictates, e.g. a vocabulary's size.
    """
    labels = numbered(label_names)
    if task.model_type is not None:
        return auto_class(task).from_config(new_config(task, **labels, **settings))
    # A checkpoint's own head has other classes as a rule: keep its body, draw a new head.
    return auto_class(task).from_pretrained(task.model, ignore_mismatched_sizes=True, **labels)


def numbered(label_names: list[str]) -> dict[str, Any]:
    """Return the names of labels as a configuration holds them."""
    numbers = {name: number for number, name in enumerate(label_names)}
    return {"id2label": dict(enumerate(label_names)), "label2id": numbers}


def new_config(task: TaskArguments, **settings: Any) -> PretrainedConfig:
    """Return the configuration of a new model of the task's `model_type`.

    Raises:
        ValueError: for an unknown `model_type` or a setting it does not have.
    """
    model_type = str(task.model_type)
    if model_type not in CONFIG_MAPPING_NAMES:
        hint = nearest(model_type, CONFIG_MAPPING_NAMES) or "see the documentation of transformers"
        raise ValueError(f"model_type={model_type!r} is no architecture of transformers: {hint}")
    default = AutoConfig.for_model(model_type)
    refuse_unknown_settings(f"a {model_type}", task.overrides, default)
    known = {name: value for name, value in settings.items() if hasattr(default, name)}
    return AutoConfig.for_model(model_type, **{**known, **task.overrides})


def refuse_unknown_settings(owner: str, names: Iterable[str], config: PretrainedConfig) -> None:
    """Refuse settings that a configuration does not have: transformers would store them silently."""
    for name in names:
        if not hasattr(config, name):
            raise ValueError(f"{owner} has no setting {name!r}: {did_you_mean(name, config.to_dict())}")


def with_adapters(model: Any, task: WithTexts) -> Any:
    """Freeze the embeddings of tokens, or train LoRA adapters of all linear layers and a new head, if asked for."""
    if task.freeze == "embeddings":
        model.get_input_embeddings().requires_grad_(False)
    if task.lora_rank is None:
        return model
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise ImportError("lora_rank needs PEFT, which is not installed: pip install peft") from error
    settings: dict[str, Any] = {"r": task.lora_rank, "lora_alpha": 2 * task.lora_rank, "target_modules": "all-linear"}
    if task.peft_task == "TOKEN_CLS":  # PEFT trains such a head whole, and would stumble over an adapter on it
        settings["exclude_modules"] = ["classifier", "score"]
    return get_peft_model(model, LoraConfig(**settings, task_type=task.peft_task))
