"""Weights as they were saved: a checkpoint may name them otherwise than the model does.

`save_pretrained` writes the weights of some architectures (ViT, DINOv2, Swin, AST, mixtures of experts, ...) under the
names and in the shapes of their first release. `from_pretrained` turns them back. The Trainer does not: to resume, and
to load the best model, it reads the file into the model by name with `strict=False`, and leaves out what it cannot
place.
"""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import nn
from transformers import PreTrainedModel, TrainerState, TrainingArguments
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME


def load_renamed(model: nn.Module, folder: str) -> bool:
    """Load a checkpoint whose names are not the model's; return False, and do nothing, where the names agree.

    Raises:
        ValueError: if weights of the model are not in the checkpoint, or the other way round.
    """
    saved = _saved_names(Path(folder))
    if not saved or (not isinstance(model, PreTrainedModel) and hasattr(model, "save_pretrained")):
        return False  # adapters, sentence encoders and the like have ways of their own
    missing, unexpected = _differences(model, saved)
    if not missing and not unexpected:
        return False
    if unexpected and isinstance(model, PreTrainedModel):
        with torch.random.fork_rng(devices=[]):  # new weights are drawn before they are read
            read: Any = type(model).from_pretrained(
                folder, config=deepcopy(model.config), dtype=torch.float32, output_loading_info=True
            )
        whole, report = read
        missing, unexpected = set(report["missing_keys"]), set(report["unexpected_keys"])
        missing |= {str(key) for key in report.get("mismatched_keys", ())}
        if not missing and not unexpected:
            model.load_state_dict(whole.state_dict())
            return True
    lacks, has = (", ".join(sorted(names)[:3]) or "nothing" for names in (missing, unexpected))
    raise ValueError(
        f"{folder} does not hold the weights of this {type(model).__name__}: it lacks {lacks} and has {has} beside. "
        "Build the model as the one that was saved, or load what fits with from_pretrained and start anew"
    )


def _saved_names(folder: Path) -> set[str]:
    """Return the names of the weights in a checkpoint, none where it holds no whole model in safetensors."""
    index, file = folder / SAFE_WEIGHTS_INDEX_NAME, folder / SAFE_WEIGHTS_NAME
    if file.is_file():
        with safe_open(file, "pt") as held:
            return set(held.keys())
    return set(json.loads(index.read_text())["weight_map"]) if index.is_file() else set()


def _differences(model: nn.Module, saved: set[str]) -> tuple[set[str], set[str]]:
    """Return the names that the checkpoint lacks (of tied weights one is enough), and those that it has beside."""
    own = model.state_dict()
    found = {own[name].data_ptr() for name in saved & own.keys()}
    unsaved = set(getattr(model, "_keys_to_ignore_on_save", None) or ())
    missing = {name for name, value in own.items() if name not in saved and value.data_ptr() not in found}
    return missing - unsaved, saved - own.keys()


def is_renamed(model: nn.Module) -> bool:
    """Whether the model is saved under other names than it has.

    >>> from transformers import BertConfig, BertForSequenceClassification
    >>> is_renamed(BertForSequenceClassification(BertConfig(num_hidden_layers=1, vocab_size=9)))
    False
    """
    try:
        from transformers.core_model_loading import revert_weight_conversion
    except ImportError:  # a release that saves all models under their own names
        return False
    if not isinstance(model, PreTrainedModel):
        return False
    own: dict[str, Any] = {name: value.to("meta") for name, value in model.state_dict().items()}
    return set(revert_weight_conversion(model, dict(own))) != set(own)


def refuse_renamed(model: nn.Module, args: TrainingArguments, state: TrainerState) -> None:
    """Refuse to go on from a checkpoint that a plain Trainer reads only in part, which nobody else would notice.

    Raises:
        ValueError: naming what the Trainer would do, and the way out.
    """
    wants = "load_best_model_at_end" if args.load_best_model_at_end else ""
    wants = "resume_from_checkpoint" if state.global_step else wants
    if wants and is_renamed(model):
        raise ValueError(
            f"{wants}: {type(model).__name__} is saved under other names than it has, and the plain Trainer leaves "
            "out the weights whose names it does not find. Use MixupTrainer (or MixupTrainerMixin before your trainer),"
            f" which loads them all{'' if state.global_step else ', or load_best_model_at_end=False'}"
        )
