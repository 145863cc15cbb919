"""Mixing settings of a command: flat, from a file and from flags, for one method or for several that share them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import field, fields, make_dataclass
from typing import Any, get_args, get_type_hints

from hf_mixup.engine.config import MixupConfig
from hf_mixup.engine.conflicts import pair_methods
from hf_mixup.engine.settings import PARTS, SelfCheck
from hf_mixup.methods import METHODS, Method
from hf_mixup.methods.registry import method_named, readers, who_reads
from hf_mixup.utils.files import parse_text
from hf_mixup.utils.suggest import did_you_mean
from hf_mixup.utils.values import convert

SMOOTHING = 0.1
"""Of the control "smoothing"."""
OF_THE_LOSS = (
    *("loss", "class_weights", "label_smoothing"),
    *("duplicates", "temperature", "learn_temperature", "max_logit_scale", "chunk_size", "local_loss"),
)
"""A control keeps the settings of the loss, without those of the mixing: a change of them repeats no control."""
UNSET: Any = type("Unset", (), {"__repr__": lambda self: "unset"})()
"""The default of a flag that was not given."""


class SharedSettings:
    """Flat settings that several methods share, as in a comparison: each method is given those that it has.

    Raises:
        ValueError: for a name that is no setting of any method.

    >>> SharedSettings({"grid": 2, "alpha": 0.4}).for_method("mixup").changed
    {'alpha': 0.4}
    """

    def __init__(self, values: Mapping[str, Any] | None = None) -> None:
        self.values, known = dict(values or {}), all_settings()
        for name, value in self.values.items():
            if name == "method":
                continue
            if name not in known:
                raise ValueError(f"{name!r} is no setting of any method: {did_you_mean(name, known)}")
            if value is not None:
                self.values[name] = convert(name, value, get_type_hints(known[name][0])[name])

    @property
    def method(self) -> str:
        """The method that is named beside them, else "mixup"."""
        return self.values.get("method", "mixup")

    @property
    def changed(self) -> dict[str, Any]:
        """The settings beside the method, as they were given."""
        return {name: value for name, value in self.values.items() if name != "method"}

    def for_method(self, method: str, **own: Any) -> MixupConfig:
        """Return the configuration of one method: its own settings, and of the shared ones those that have a bearing.

        Raises:
            ValueError: for own settings that it does not have, and as the configuration.
        """
        kind = method_named(method)
        names = MixupConfig(kind()).known
        shared = {name: value for name, value in self.values.items() if name in names}
        trial = object.__new__(kind)  # not checked: settings that have no bearing beside others would be refused
        vars(trial).update({**shared, **own})
        shared = {name: value for name, value in shared.items() if name not in trial.unread()}
        return MixupConfig({**shared, **own, "method": method})

    def refuse_unshared(self, methods: Iterable[MixupConfig]) -> None:
        """Refuse shared settings that none of these methods has.

        Raises:
            ValueError: naming the setting, and the methods that do have it.
        """
        methods = list(methods)
        for name, value in self.values.items():
            if methods and name != "method" and not any(name in each.read for each in methods):
                names = ", ".join(dict.fromkeys(each.method for each in methods))
                has = who_reads(name) if readers(name) else pair_methods()
                raise ValueError(f"{name}={value!r}: none of the methods ({names}) reads it; {has}: leave it out")


def control(name: str, given: Mapping[str, Any], paired: bool) -> MixupConfig:
    """Return what trains as a control does: without mixing, and for "smoothing" with label smoothing (0.1 by default).

    Args:
        given: settings, of which those of the loss are kept.
        paired: whether the samples are pairs.

    >>> control("smoothing", {"alpha": 0.4}, paired=False).changed
    {'prob': 0.0, 'label_smoothing': 0.1}
    """
    kept = {setting: value for setting, value in given.items() if setting in OF_THE_LOSS}
    smoothing = {"label_smoothing": SMOOTHING} if name == "smoothing" else {}
    return MixupConfig({**smoothing, **kept, "prob": 0.0, "method": "cross_modal" if paired else "mixup"})


def all_settings() -> dict[str, Any]:
    """Return the settings of all methods and of the engine: name -> (dataclass, field), the first that declares it."""
    kinds = [*METHODS.values(), *PARTS.values(), SelfCheck]
    found: dict[str, Any] = {}
    for kind in kinds:
        for each in fields(kind):
            found.setdefault(each.name, (kind, each))
    return found


def flags_of(without: Iterable[str] = ()) -> type:
    """Return a dataclass of all mixing settings, for a parser of flags; what is not given stays `UNSET`.

    Args:
        without: names that the command has for something else.

    >>> filled = flags_of()(method="cutmix", alpha="0.4")
    >>> filled.given
    {'method': 'cutmix', 'alpha': '0.4'}
    """
    known = {name: each for name, each in all_settings().items() if name not in {*without}}
    made: list[Any] = [("method", str, field(default=UNSET, metadata={"help": "Name of the mixing method."}))]
    for name, (kind, declared) in known.items():
        made.append((name, _as_flag(get_type_hints(kind)[name]), field(default=UNSET, metadata=declared.metadata)))
    return make_dataclass("MixingFlags", made, bases=(_Given,), namespace={"__module__": __name__})


def _as_flag(hint: Any) -> Any:
    """Return the type that a flag has for a setting: methods are named, or spelled as a JSON mapping."""
    if Method in get_args(hint):
        return str
    return list[str] if any(Method in get_args(each) for each in get_args(hint)) else hint


class _Given:
    @property
    def given(self) -> dict[str, Any]:
        """The settings that were given."""
        return {name: _read(value) for name, value in vars(self).items() if value is not UNSET}


def _read(value: Any) -> Any:
    """Return the value of a flag, with mappings in place of their JSON text."""
    if isinstance(value, list):
        return [_read(each) for each in value]
    return parse_text(value) if isinstance(value, str) and value.startswith("{") else value
