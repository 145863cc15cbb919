"""A tiny random model of any architecture, built from its own default configuration with small sizes."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import torch
from transformers import PreTrainedConfig, PreTrainedModel

from hf_mixup.testing.families import COMPARE, SCORED, Family, classes
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
    OPEN,
    PARTS,
    PATTERN,
    SHALLOW,
    SIZES,
    TOKENS,
    UNFIT,
    UNSET,
    WIDE,
    WIDER,
    WIDTHS,
)

INDICES = ("indices", "indexes", "feature_layer", "feature_layers", "layer_ids", "layer_index")  # which blocks are read
STAGES = ("depths", "hidden_sizes")  # lists with one number a block where there are as many
LIKE = ("dim", "size", "channels", "width", "features")  # sizes by the ends of their names
MOST_WEIGHTS = 60_000_000  # of a tiny model


@dataclass(frozen=True)
class Attempt:
    """One way to make a configuration small.

    Args:
        sizes: the small sizes by the names of settings.
        like: shrink also sizes of other names, like those that they equal.
        small: whether widths are small, so that the settings in `EXTRA` fit.
    """

    sizes: Mapping[str, Any]
    like: bool = False
    small: bool = True


SMALL = Attempt(SIZES)
ATTEMPTS = (
    Attempt(SIZES, like=True),
    SMALL,
    Attempt(WIDE, like=True, small=False),
    Attempt(WIDER, like=True, small=False),
    Attempt(SHALLOW, small=False),
    Attempt({}, small=False),
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
    failed: CannotBuild | None = None
    for found in builds(family, model_type):
        if not isinstance(found, CannotBuild):
            return found
        failed = failed or found
    raise failed or CannotBuild("nothing to try")


def builds(family: Family, model_type: str) -> Iterator[PreTrainedModel | CannotBuild]:
    """Yield tiny models of an architecture, the smallest first, or why none could be built that way.

    A configuration's sizes may have to agree in ways that it does not tell: each attempt leaves more as it is.

    Raises:
        ValueError: for an architecture that the family lacks.
    """
    name = classes(family).get(model_type)
    if name is None:
        raise ValueError(f"{model_type!r} is no architecture of {family}: see architectures({family!r})")
    unfit = UNFIT.get(model_type) or UNFIT.get(name)
    if unfit:
        yield CannotBuild(unfit)
        return
    for attempt in (SMALL,) if family in SCORED else ATTEMPTS:
        with _quiet():
            try:
                model = _built(family, model_class_of(name), attempt)
            except Exception as error:  # noqa: BLE001 - any error is the reason
                yield CannotBuild(f"{type(error).__name__}: {_short(error)}")
                continue
        _enlarge(model)
        yield model.eval()


def _built(family: Family, model_class: Any, attempt: Attempt) -> PreTrainedModel:
    config = default_config(model_class.config_class)
    given = dict(OPEN.get(model_class.__name__, {}))
    if family.endswith("classification") and family not in COMPARE:
        given["num_labels"] = CLASSES
    if family == "causal-lm" and "is_decoder" in _settings(config):
        given["is_decoder"] = True
    if "mask_time_prob" in _settings(config) and family != "pretraining":  # a random mask in each pass
        given["mask_time_prob"] = 0.0
    config = shrink(config, attempt=attempt, **given)
    if not attempt.small:
        with torch.device("meta"):
            weights = sum(each.numel() for each in model_class._from_config(config).parameters())
        if weights > MOST_WEIGHTS:
            raise ValueError(f"too large without smaller widths: {weights:,} weights")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return model_class._from_config(config)


def _equals(config: PreTrainedConfig, sizes: Mapping[str, Any]) -> dict[int, int]:
    """Return how sizes are shrunk by their value: a projector's width is shrunk as the hidden size that it equals."""
    found: dict[int, int] = {}
    for name, value in sorted(_settings(config).items(), key=lambda each: "hidden" not in each[0]):
        if isinstance(value, PreTrainedConfig):
            found = {**_equals(value, sizes), **found}
        elif name in sizes and _is_larger(value, sizes[name]) and value > 64 and "vocab" not in name:
            found.setdefault(value, sizes[name])
    return found


@torch.no_grad()
def _enlarge(model: PreTrainedModel) -> None:
    """Make weights so large that samples score apart: without training, many layers would level them.

    Gates that are closed before training are opened.
    """
    for name, parameter in model.named_parameters():
        if parameter.numel() == 1 and not parameter.any() and not name.endswith("bias"):
            parameter.fill_(1)
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


def shrink(
    config: PreTrainedConfig, tokens: dict[str, int] | None = None, attempt: Attempt = SMALL, **given: Any
) -> PreTrainedConfig:
    """Return a new configuration with small sizes, its parts included; what it derives from sizes is derived anew.

    >>> from transformers import BertConfig
    >>> shrink(BertConfig()).num_hidden_layers
    2
    """
    tokens = {f"{name}_token_id": value for name, value in TOKENS.items()} if tokens is None else tokens
    return _shrink(config, tokens, attempt, _equals(config, attempt.sizes) if attempt.like else {}, given)


def _shrink(
    config: PreTrainedConfig,
    tokens: dict[str, int],
    attempt: Attempt,
    equals: Mapping[int, int],
    given: Mapping[str, Any],
) -> PreTrainedConfig:
    sizes = attempt.sizes
    extra = {**_extra(config, attempt), **OPEN.get(config.model_type, {})}
    blocks = {**extra, **given}.get("num_hidden_layers", _blocks(config))
    small = _own_choices(config)
    for name, value in _settings(config).items():
        if isinstance(value, PreTrainedConfig):
            small[name] = _shrink(value, tokens, attempt, equals, {})
        elif name.endswith(("_token_id", "_token_index")):
            small[name] = tokens.setdefault(name.replace("_index", "_id"), END_OF_WORDS + len(tokens))
        elif name in BLOCKS and isinstance(value, int):
            small[name] = blocks if name in sizes else value
        elif isinstance(value, (list, tuple)):
            made = _shrink_list(name, value, config, blocks, attempt)
            if made is not None:
                small[name] = made
        elif isinstance(value, dict) and "mrope_section" in str(value):
            small[name] = _shrink_rope(value, sizes)
        elif name == "initializer_range" and isinstance(value, float) and value < 1e-3:
            small[name] = 0.02  # else the part would show nothing
        elif name in sizes and (_is_larger(value, sizes[name]) or (value is None and name in NEEDED)):
            small[name] = sizes[name]
        elif name not in sizes and name.endswith(LIKE) and value in equals:
            small[name] = equals[value]
        if (
            name in KEY_HEADS
            and name in sizes
            and value is not None
            and value == vars(config).get("num_attention_heads")
        ):
            small[name] = sizes["num_attention_heads"]
    small = {**small, **extra, **given}
    return type(config)(**{name: value for name, value in small.items() if value is not UNSET})


def _shrink_rope(rope: Mapping[str, Any], sizes: Mapping[str, Any]) -> dict[str, Any]:
    """Return positions in several axes with sections that fit a small head."""
    if "mrope_section" not in rope or "head_dim" not in sizes:
        return {key: _shrink_rope(value, sizes) if isinstance(value, dict) else value for key, value in rope.items()}
    half = int(sizes["head_dim"] * rope.get("partial_rotary_factor", 1.0)) // 2
    axes = len(rope["mrope_section"])
    return {**rope, "mrope_section": [half - (axes - 1) * (half // axes)] + [half // axes] * (axes - 1)}


def _settings(config: PreTrainedConfig) -> dict[str, Any]:
    """Return the settings that make a configuration, by name."""
    special = ["pad_token_id", "bos_token_id", "eos_token_id"]
    special += ["decoder_start_token_id"] if config.is_encoder_decoder else []
    names = [field.name for field in fields(config)] if is_dataclass(config) else list(vars(config))
    stored = {name: name if name in vars(config) else config.attribute_map.get(name, name) for name in names}
    held = {name: vars(config).get(stored[name]) for name in names if not name.startswith("_")}
    if len(vars(config).get("_out_indices") or ()) > 1:  # of a backbone
        held["out_indices"] = config.out_indices
        held.pop("out_features", None)
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
    return size is not None and isinstance(value, int) and not isinstance(value, bool) and value > size


def _extra(config: PreTrainedConfig, attempt: Attempt) -> dict[str, Any]:
    """Return what an architecture needs besides small sizes, as a backbone whose stages are read if it is one."""
    stages = vars(config).get("_out_indices") or ()
    backbone = EXTRA.get(f"{config.model_type} backbone") if len(stages) > 2 else None
    extra = (backbone or EXTRA.get(config.model_type or type(config).__name__, {})) if attempt.small else {}
    if attempt.sizes and hasattr(config, "spatial_merge_size") and hasattr(config, "window_size"):
        extra = {"window_size": 32, **extra}  # in pixels: some merged patches
    return extra


def _blocks(config: PreTrainedConfig) -> int:
    """Return how many blocks show each kind of them, or give each of the features that are read."""
    settings = _settings(config)
    read = [len(value) for name, value in settings.items() if _are_indices(name, value)]
    read += [len(value) for name, value in settings.items() if name in STAGES and len(value) == settings.get(BLOCKS[0])]
    return max([PATTERN if _has_pattern(config) else LAYERS, *read])


def _are_indices(name: str, value: Any) -> bool:
    return name.endswith(INDICES) and isinstance(value, (list, tuple)) and set(map(type, value)) == {int}


def _has_pattern(config: PreTrainedConfig) -> bool:
    kinds = (getattr(config, name, None) for name in ("layer_types", "layers_block_type", "mlp_layer_types"))
    return any(isinstance(kind, (list, tuple)) and len(set(kind)) > 1 for kind in kinds)


def _shrink_list(
    name: str, values: Sequence[Any], config: PreTrainedConfig, blocks: int, attempt: Attempt
) -> list[Any] | None:
    """Return a list of small sizes, None if the configuration should derive it."""
    sizes = attempt.sizes
    if not sizes:
        return list(values)
    if _are_indices(name, values):
        if "feature_layer" in name and not set(BLOCKS) & set(vars(config)):
            blocks = LAYERS  # of a part, which has no more
        return [place * blocks // len(values) for place in range(len(values))] if max(values) > blocks else list(values)
    if name == "image_grid_pinpoints" and "image_size" in sizes:
        return [[tiles * sizes["image_size"] for tiles in grid] for grid in ((1, 2), (2, 1), (2, 2))]
    if name in WIDTHS and attempt.small and all(width % 8 == 0 for width in values):
        return [width // 8 for width in values]
    small = [sizes[name] if name in LISTS and _is_larger(value, sizes.get(name)) else value for value in values]
    if len(values) > PATTERN and len(values) == vars(config).get("num_hidden_layers"):
        return _cut(small, blocks)
    return small if name in LISTS else None


def _cut(values: Sequence[Any], blocks: int) -> list[Any]:
    """Return one item a block, so that each kind occurs."""
    kinds = [value for place, value in enumerate(values) if value not in values[:place]]
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
