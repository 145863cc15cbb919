"""New models and checkpoints, with a head for the labels of a data set, and adapters."""

from __future__ import annotations

from typing import Any

from transformers import AutoConfig, PretrainedConfig, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

from hf_mixup.experiments.tasks.arguments import TaskArguments
from hf_mixup.experiments.tasks.shared import WithTexts
from hf_mixup.utils.suggest import did_you_mean, nearest


def classifier(auto_class: Any, task: TaskArguments, label_names: list[str], **settings: Any) -> PreTrainedModel:
    """Return a classifier: a checkpoint's weights below a head of the right width, or a new model.

    Seed before calling, as the head (or the whole model) is drawn at random.

    Args:
        auto_class: `AutoModelForImageClassification` or its like.
        settings: settings of a new model's configuration that the task dictates, e.g. a vocabulary's size.

    Raises:
        ValueError: for an architecture or configuration setting that does not exist.
        OSError: for a checkpoint that cannot be loaded.
    """
    labels: dict[str, Any] = {
        "id2label": dict(enumerate(label_names)),
        "label2id": {name: number for number, name in enumerate(label_names)},
    }
    if task.model_type is not None:
        return auto_class.from_config(new_config(task, **labels, **settings))
    # A checkpoint's own head has other classes as a rule: keep its body, draw a new head.
    return auto_class.from_pretrained(task.model, ignore_mismatched_sizes=True, **labels)


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
    overrides = task.overrides
    for name in overrides:
        # transformers would store an unknown setting silently.
        if not hasattr(default, name):
            raise ValueError(f"a {model_type} has no setting {name!r}: {did_you_mean(name, default.to_dict())}")
    known = {name: value for name, value in settings.items() if hasattr(default, name)}
    return AutoConfig.for_model(model_type, **{**known, **overrides})


def with_adapters(model: Any, task: WithTexts) -> Any:
    """Return the model with LoRA adapters on all linear layers if the task asks for them; a new head is trained, too.

    The embeddings of tokens keep their weights where the task asks for it.

    Raises:
        ImportError: if PEFT is not installed.
    """
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
