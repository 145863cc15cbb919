"""The inputs of a model: float inputs that can be blended, and the inputs of a decoder."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from hf_mixup.models.adapters import base_model
from hf_mixup.models.axes import TABLE
from hf_mixup.models.batches import DECODER_IDS
from hf_mixup.models.labels import LABEL_KEYS, LABELS, Labels
from hf_mixup.utils.suggest import did_you_mean

SHAPES = {2: "(audio clips [B, T])", 3: "(spectrograms [B, T, F])", 4: "(images [B, C, H, W])"}


def float_keys(
    batch: Mapping[str, Any], count: int, method: str, wanted: list[str] | None = None, dims: int | None = None
) -> list[str]:
    """Return the names of the inputs to blend: `wanted`, or every floating-point tensor with `count` samples.

    Args:
        dims: required number of dimensions, if the method needs a certain shape.

    Raises:
        ValueError: if nothing can be blended, naming what the batch holds and the way out.
        TypeError: if the tensor to blend holds integers.

    >>> float_keys({"pixel_values": torch.zeros(2, 3, 4, 4), "attention_mask": torch.ones(2, 4)}, 2, "mixup")
    ['pixel_values']
    """
    if wanted is not None:
        missing = [key for key in wanted if key not in batch]
        if missing:
            raise ValueError(f"keys names {missing[0]!r}, which the batch lacks: {did_you_mean(missing[0], batch)}")
        found = list(wanted)
    else:
        found = [key for key, value in batch.items() if is_blendable(key, value, count)]
    if dims is not None:
        found = [key for key in found if batch[key].dim() == dims]
    refuse_integers(batch, found)
    if not found:
        kind = "" if dims is None else f" of {dims} dimensions {SHAPES[dims]}"
        raise ValueError(nothing_to_blend(batch, method, kind))
    return found


def refuse_integers(batch: Mapping[str, Any], keys: Iterable[str]) -> None:
    """Refuse inputs to blend that hold integers.

    Raises:
        TypeError: naming the first.
    """
    for key in keys:
        if not torch.is_floating_point(batch[key]):
            raise TypeError(
                f"{key} holds {batch[key].dtype}: convert it to a floating-point type before mixing; if it holds "
                "categories, swap them with method='tabular', or name in `keys` what is to be mixed instead"
            )


def image_keys(keys: list[str]) -> list[str]:
    """Return the inputs that are images or videos, or all if there are none: other inputs beside images are not cut.

    >>> image_keys(["scores", "pixel_values"])
    ['pixel_values']
    """
    return [key for key in keys if key.startswith("pixel")] or keys


def is_blendable(key: str, value: Any, count: int) -> bool:
    """Whether an entry of a batch is an input that can be blended sample by sample."""
    if not isinstance(value, torch.Tensor) or value.dim() < 2 or len(value) != count or "mask" in key:
        return False
    # An integer image is a mistake and must be refused; ids and masks are integers by nature.
    return value.is_floating_point() or (is_named_as_input(key) and not value.is_complex())


def is_named_as_input(key: str) -> bool:
    """Whether integers of this name are pixels, numbers or categories rather than ids."""
    return key.endswith("_values") or "categorical" in key


def nothing_to_blend(batch: Mapping[str, Any], method: str, kind: str = "") -> str:
    """Return the error message for a batch without an input to blend."""
    held = ", ".join(
        f"{key} {str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
        if isinstance(value, torch.Tensor)
        else f"{key} ({type(value).__name__})"
        for key, value in batch.items()
    )
    text = (
        " Text is blended inside the model: use method='mixup', 'embedding' or 'manifold'."
        if "input_ids" in batch
        else ""
    )
    table = " Columns of a table are mixed by method='tabular'." if any(key.startswith(TABLE) for key in batch) else ""
    found = f"method {method!r} found no floating-point input{kind} to mix"
    floats = (key for key, each in batch.items() if isinstance(each, Tensor) and each.is_floating_point())
    number = next((key for key in floats if batch[key].dim() == 1), None)
    one = "" if number is None or kind else f" One number a sample is mixed where `keys` names it: keys=[{number!r}]."
    return f"{found}. The batch holds: {held or 'nothing'}.{text}{table}{one}"


def model_inputs(model: nn.Module, batch: Mapping[str, Any], labels: Labels) -> dict[str, Any]:
    """Return a batch without its labels, but with the decoder inputs that an encoder-decoder derives from them.

    Raises:
        ValueError: if they are missing and the model does not say how they follow from the labels.
    """
    inputs = {key: value for key, value in batch.items() if key not in LABEL_KEYS}
    generates = labels.vocabulary and getattr(getattr(model, "config", None), "is_encoder_decoder", False)
    if generates and inputs.get(DECODER_IDS) is None:
        inputs[DECODER_IDS] = decoder_inputs(model, batch[LABELS])
    twice = labels.vocabulary and getattr(model, "is_gradient_checkpointing", False)  # each pass would add to a cache
    if (generates or twice) and takes(model, "use_cache"):
        inputs["use_cache"] = False  # as with labels; one model is not causal otherwise
    return inputs


def decoder_inputs(model: nn.Module, labels: Tensor) -> Tensor:
    """Return the tokens that an encoder-decoder feeds to its decoder to predict the labels, both [B, T].

    Raises:
        ValueError: if the model does not say how they follow from the labels.
    """
    base = base_model(model)
    for name in ("prepare_decoder_input_ids_from_labels", "_shift_right"):
        if hasattr(base, name):
            return getattr(base, name)(labels)
    # A class of one's own, or the one that FSDP2 makes, lies in another module than that of transformers.
    modules = (sys.modules.get(each.__module__) for each in type(base).__mro__)
    shift = next((found for each in modules if (found := getattr(each, "shift_tokens_right", None))), None)
    start = getattr(base.config, "decoder_start_token_id", None)
    if shift is None or start is None:
        raise ValueError(
            f"{type(base).__name__} does not say how its decoder's inputs follow from the labels: put "
            "'decoder_input_ids' into the batch"
        )
    return shift(labels, base.config.pad_token_id, start)


def takes(model: nn.Module, name: str) -> bool:
    """Whether the model's forward has an argument of this name."""
    return name in inspect.signature(base_model(model).forward).parameters
