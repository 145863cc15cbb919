"""Adapters of PEFT that change the positions or samples of a model, or add to its loss."""

from __future__ import annotations

from typing import Any

from torch import nn

ONE_A_TOKEN = ("CAUSAL_LM", "TOKEN_CLS")
BY_TASK = ("MULTITASK_PROMPT_TUNING", "POLY")
BEHIND = ("PREFIX_TUNING", "CARTRIDGE")  # keys and values for the blocks: no positions of their own


def base_model(model: nn.Module) -> Any:
    """Return the model beneath its PEFT adapters."""
    found = getattr(type(model), "get_base_model", None)  # of the class: what a module lacks is looked up slowly
    return model if found is None else found(model)


def refuse_adapter(model: nn.Module, fused: bool = False) -> None:
    """Refuse adapters with which mixing would get positions, samples or the loss wrong.

    Args:
        fused: whether the head is fused with the loss, and given its own labels.

    Raises:
        ValueError: naming the adapter and a way out.
    """
    config: Any = getattr(model, "active_peft_config", None)
    if config is None:
        return
    kind, task = (str(getattr(each, "value", each)) for each in (config.peft_type, config.task_type))
    if kind == "ADALORA":
        why = "adds a loss on its own weights wherever the model sees labels, which mixed labels leave out"
    elif kind in BY_TASK:
        why = "gives each sample the weights of its task, and a blend of two samples has two"
    elif config.is_prompt_learning and (fused or (kind not in BEHIND and task in ONE_A_TOKEN)):
        why = f"puts {config.num_virtual_tokens} tokens before each sample, which moves labels and logits"
    else:
        return
    raise ValueError(f"the adapter {kind} {why}: it cannot be mixed. Use LoRA, or train without mixing (prob=0)")


def learns_prompts(model: nn.Module) -> set[nn.Module]:
    """Return the parts of a model that hold learnt prompts, which are the same for all samples."""
    encoders = getattr(model, "prompt_encoder", None)
    return set(encoders.modules()) if isinstance(encoders, nn.Module) else set()
