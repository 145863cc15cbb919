"""What differs between the runs of a comparison: "mixup:alpha=0.2" -> settings."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hf_mixup.engine.config import MixupConfig
from hf_mixup.experiments.mixing import OF_THE_LOSS, SMOOTHING, SharedSettings
from hf_mixup.methods import CONTROLS, METHODS, unknown
from hf_mixup.utils.files import parse_text

_COMMA = re.compile(r",(?![^\[]*\])")  # not those within [brackets]


@dataclass(frozen=True)
class Variant:
    """One method of the comparison, labelled as the user wrote it.

    Args:
        mixup: its mixing settings; `plain` for the controls.
        smoothing: the Trainer's `label_smoothing_factor`, None to leave it as it is.
    """

    label: str
    mixup: MixupConfig
    smoothing: float | None = None


def parse_variants(methods: Sequence[str], base: SharedSettings, paired: bool = False) -> list[Variant]:
    """Read `name` or `name:setting=value:setting=value`, separated by commas or as several words.

    Settings are those of `MixupConfig`. They override `base`, from which each method takes the settings that it has.
    The controls never mix: "none" trains plainly, "smoothing" with the Trainer's label smoothing of 0.1 (another
    strength: `smoothing:label_smoothing=0.2`). The Trainer does not smooth `paired` rows; there it is the smoothing of
    `MixupConfig`. Controls take settings of the loss, too: `none:temperature=0.1:learn_temperature=false`.

    Raises:
        ValueError: for an unknown method or setting (with the nearest one), a wrong value, one that the method does
            not read (of `base`: that none of the methods reads), or a method given twice.

    >>> [v.mixup.alpha for v in parse_variants(["mixup,mixup:alpha=0.2"], SharedSettings())]
    [1.0, 0.2]
    """
    labels = [label.strip() for word in methods for label in _COMMA.split(word) if label.strip()]
    if not labels:
        raise ValueError("methods names no method")
    if twice := {label for label in labels if labels.count(label) > 1}:
        raise ValueError(f"methods has {', '.join(sorted(twice))} twice")
    variants = [_variant(label, base, paired) for label in labels]
    base.refuse_unshared(each.mixup for each in variants if each.label.partition(":")[0] not in CONTROLS)
    return variants


def _variant(label: str, base: SharedSettings, paired: bool) -> Variant:
    name, *texts = label.split(":")
    settings = dict(_setting(text, label) for text in texts)
    if "method" in settings:
        raise ValueError(f"{label}: the method is what stands before the first colon")
    if name in CONTROLS:
        return _control(label, name, settings, base, paired)
    if name not in METHODS:
        raise ValueError(f"{name!r} is no method: {unknown(name, CONTROLS)}")
    return Variant(label, _configured(label, base, name, settings))


def _control(label: str, name: str, settings: dict[str, Any], base: SharedSettings, paired: bool) -> Variant:
    smoothed = name == "smoothing"
    valid = [each for each in OF_THE_LOSS if smoothed or each != "label_smoothing"]
    for setting in settings:
        if setting not in valid:
            raise ValueError(f"{label}: control {name!r} does not mix and has no setting {setting!r}")
    shared = SharedSettings({name: value for name, value in base.values.items() if name in OF_THE_LOSS})
    settings = ({"label_smoothing": SMOOTHING} if smoothed else {}) | settings | {"prob": 0.0}
    control = _configured(label, shared, "cross_modal" if paired else "mixup", settings)
    if paired or not smoothed:
        return Variant(label, control)
    return Variant(label, control.replace(label_smoothing=0.0), control.label_smoothing)


def _configured(label: str, shared: SharedSettings, method: str, settings: dict[str, Any]) -> MixupConfig:
    try:
        return shared.for_method(method, **settings)
    except ValueError as error:
        raise ValueError(f"{label}: {error}") from error


def _setting(text: str, label: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"{label}: expected setting=value after the colon, found {text!r}")
    try:
        return name.strip(), parse_text(value)
    except ValueError as error:
        raise ValueError(f"{label}: cannot read the value {value!r}") from error
