"""What differs between the runs of a comparison: "mixup:alpha=0.2" -> settings."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import yaml

from hf_mixup.config import MixupConfig
from hf_mixup.errors import did_you_mean
from hf_mixup.methods import METHODS

CONTROLS = ("none", "smoothing")
SMOOTHING = 0.1
_COMMA = re.compile(r",(?![^\[]*\])")  # not those within [brackets]


@dataclass(frozen=True)
class Variant:
    """One row of the comparison.

    Args:
        label: as the user wrote it.
        mixup: its mixing settings; `plain` for the controls.
        smoothing: the Trainer's `label_smoothing_factor`, None to leave it as it is.
    """

    label: str
    mixup: MixupConfig
    smoothing: float | None = None


def parse_variants(methods: Sequence[str], base: MixupConfig) -> list[Variant]:
    """Read `name` or `name:setting=value:setting=value`, separated by commas or as several words.

    Settings are those of `MixupConfig` and override `base`. The controls never mix: "none" trains plainly, "smoothing"
    with the Trainer's label smoothing of 0.1 (another strength: `smoothing:label_smoothing=0.2`).

    Raises:
        ValueError: for an unknown method or setting (with the nearest one), a wrong value, or a method given twice.

    >>> [v.mixup.alpha for v in parse_variants(["mixup,mixup:alpha=0.2"], MixupConfig())]
    [1.0, 0.2]
    """
    labels = [label.strip() for word in methods for label in _COMMA.split(word) if label.strip()]
    if not labels:
        raise ValueError("methods names no method")
    twice = {label for label in labels if labels.count(label) > 1}
    if twice:
        raise ValueError(f"methods has {', '.join(sorted(twice))} twice")
    return [_variant(label, base) for label in labels]


def _variant(label: str, base: MixupConfig) -> Variant:
    name, *texts = label.split(":")
    settings = dict(_setting(text, label) for text in texts)
    if name in CONTROLS:
        return _control(label, name, settings, base)
    if name not in METHODS:
        raise ValueError(f"{name!r} is no method: {did_you_mean(name, [*METHODS, *CONTROLS])}")
    try:
        mixup = MixupConfig.from_dict({**base.to_dict(), **settings, "method": name})
    except ValueError as error:
        raise ValueError(f"{label}: {error}") from error
    return Variant(label, mixup)


def _control(label: str, name: str, settings: dict[str, Any], base: MixupConfig) -> Variant:
    valid = ["label_smoothing"] if name == "smoothing" else []
    for setting in settings:
        if setting not in valid:
            raise ValueError(f"{label}: control {name!r} does not mix and has no setting {setting!r}")
    # What belongs to the loss stays; what belongs to the mixing is left out, so that changing it repeats no control.
    off = MixupConfig(prob=0.0, loss=base.loss, class_weights=base.class_weights, label_smoothing=base.label_smoothing)
    if name == "none":
        return Variant(label, off)
    try:
        strength = replace(off, label_smoothing=settings.get("label_smoothing", SMOOTHING)).label_smoothing
    except ValueError as error:
        raise ValueError(f"{label}: {error}") from error
    return Variant(label, replace(off, label_smoothing=0.0), strength)


def _setting(text: str, label: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"{label}: expected setting=value after the colon, found {text!r}")
    try:
        return name.strip(), yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ValueError(f"{label}: cannot read the value {value!r}") from error
