"""A tiny random model of any architecture, built from its own default configuration with small sizes."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from transformers import PreTrainedConfig, PreTrainedModel

from hf_mixup.testing.families import Family, classes
from hf_mixup.testing.sizes import (
    BLOCKS,
    CLASSES,
    END_OF_WORDS,
    EXTRA,
    KEY_HEADS,
    LARGE,
    LAYERS,
    LISTS,
    NEEDED,
    PARTS,
    PATTERN,
    SIZES,
    TOKENS,
    UNFIT,
    UNSET,
    WIDTHS,
)


class CannotBuild(Exception):
    """No tiny model of an architecture can be built here; the message is the reason."""


def build(family: Family, model_type: str) -> PreTrainedModel:
    """Build a tiny random model in evaluation mode, its weights large enough that samples score apart.

    Args:
        family: one of `hf_mixup.testing.families.FAMILIES`.
        model_type: one of `architectures(family)`.

    Raises:
        CannotBuild: with the reason, e.g. a package that is not installed.
        ValueError: for an architecture that the family lacks.

    >>> model = build("sequence-classification", "bert")
    >>> type(model).__name__, model.config.hidden_size, model.config.num_labels
    ('BertForSequenceClassification', 32, 4)
    """
    name = classes(family).get(model_type)
    if name is None:
        raise ValueError(f"{model_type!r} is no architecture of {family}: see architectures({family!r})")
    if model_type in UNFIT:
        raise CannotBuild(UNFIT[model_type])
    with _quiet():
        try:
            model_class = model_class_of(name)
            config = default_config(model_class.config_class)
            given: dict[str, Any] = {"num_labels": CLASSES} if family.endswith("classification") else {}
            if family == "causal-lm" and "is_decoder" in _settings(config):
                given["is_decoder"] = True
            if "mask_time_prob" in _settings(config):  # a random mask in each pass, for longer audio clips
                given["mask_time_prob"] = 0.0
            config = shrink(config, **given)
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                model = model_class._from_config(config)
        except Exception as error:
            raise CannotBuild(f"{type(error).__name__}: {_short(error)}") from error
    _enlarge(model)
    return model.eval()


@torch.no_grad()
def _enlarge(model: PreTrainedModel) -> None:
    """Make weights so large that samples score apart: without training, many layers would level them."""
    for parameter in model.parameters():
        if parameter.dim() < 2 or not parameter.is_floating_point() or not parameter.std() > 1e-6:
            continue  # a vector, or a scale
        if parameter.dim() != 4 and model.config.model_type in LARGE:
            continue
        unit = (2 / parameter[0].numel()) ** 0.5 / parameter.std()
        parameter.mul_(unit if parameter.dim() == 4 else unit.clamp(min=3))
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # some are near 0
            module.weight.fill_(1)


def model_class_of(name: str) -> type[PreTrainedModel]:
    """Return a class of transformers by name."""
    import transformers

    return getattr(transformers, name)


def default_config(config_class: Any) -> PreTrainedConfig:
    """Return a class's default configuration, or one made of parts that have no defaults."""
    parts: dict[str, Any] = {
        name: default_config(_config_class(kind)) for name, kind in PARTS.get(config_class.model_type, {}).items()
    }
    if "decoder" in parts:
        parts["decoder"].update({"is_decoder": True, "add_cross_attention": True})
    return config_class(**parts)


def _config_class(model_type: str) -> type[PreTrainedConfig]:
    from transformers import CONFIG_MAPPING

    return CONFIG_MAPPING[model_type]


def shrink(config: PreTrainedConfig, tokens: dict[str, int] | None = None, **given: Any) -> PreTrainedConfig:
    """Return a new configuration with small sizes, its parts included; what it derives from sizes is derived anew.

    >>> from transformers import BertConfig
    >>> shrink(BertConfig()).num_hidden_layers
    2
    """
    tokens = {f"{name}_token_id": value for name, value in TOKENS.items()} if tokens is None else tokens
    extra = EXTRA.get(config.model_type, {})
    blocks = extra.get("num_hidden_layers", PATTERN if _has_pattern(config) else LAYERS)
    small = _own_choices(config)
    for name, value in _settings(config).items():
        if isinstance(value, PreTrainedConfig):
            small[name] = shrink(value, tokens)
        elif name.endswith(("_token_id", "_token_index")):
            small[name] = tokens.setdefault(name.replace("_index", "_id"), END_OF_WORDS + len(tokens))
        elif name in BLOCKS and isinstance(value, int):
            small[name] = blocks
        elif isinstance(value, (list, tuple)):
            made = _shrink_list(name, value, config, blocks)
            if made is not None:
                small[name] = made
        elif name in SIZES and (_is_larger(value, SIZES[name]) or (value is None and name in NEEDED)):
            small[name] = SIZES[name]
        if name in KEY_HEADS and value is not None and value == vars(config).get("num_attention_heads"):
            small[name] = SIZES["num_attention_heads"]
    small = {**small, **extra, **given}
    return type(config)(**{name: value for name, value in small.items() if value is not UNSET})


def _settings(config: PreTrainedConfig) -> dict[str, Any]:
    """Return the settings that make a configuration, by name."""
    special = ["pad_token_id", "bos_token_id", "eos_token_id"]
    special += ["decoder_start_token_id"] if config.is_encoder_decoder else []
    names = [field.name for field in fields(config)] if is_dataclass(config) else list(vars(config))
    held = {name: vars(config).get(name) for name in names if not name.startswith("_")}
    return {**dict.fromkeys(special), **held}


def _own_choices(config: PreTrainedConfig) -> dict[str, Any]:
    """Return the settings of a part that differ from its defaults: the whole chose them."""
    try:
        usual = _settings(type(config)())
    except Exception:  # noqa: BLE001 - made of parts that have no defaults
        return {}
    return {
        name: value
        for name, value in _settings(config).items()
        if isinstance(value, (bool, int, float, str)) and value != usual.get(name)
    }


def _is_larger(value: Any, size: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > size


def _has_pattern(config: PreTrainedConfig) -> bool:
    kinds = (getattr(config, name, None) for name in ("layer_types", "layers_block_type", "mlp_layer_types"))
    return any(isinstance(kind, (list, tuple)) and len(set(kind)) > 1 for kind in kinds)


def _shrink_list(name: str, values: Sequence[Any], config: PreTrainedConfig, blocks: int) -> list[Any] | None:
    """Return a list of small sizes, None if the configuration should derive it."""
    if name in WIDTHS and all(width % 8 == 0 for width in values):
        return [width // 8 for width in values]
    small = [SIZES[name] if name in LISTS and _is_larger(value, SIZES[name]) else value for value in values]
    if len(values) > PATTERN and len(values) == vars(config).get("num_hidden_layers"):
        return _cut(small, blocks)
    return small if name in LISTS else None


def _cut(values: Sequence[Any], blocks: int) -> list[Any]:
    """Return one item a block, so that each kind occurs."""
    kinds = list(dict.fromkeys(values))
    return [kinds[block % len(kinds)] for block in range(blocks)]


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence transformers' warnings about unusual configurations."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
