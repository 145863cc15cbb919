"""A mixing run: the method with its settings, and what the engine needs to know: loss, schedule, pairs."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hf_mixup.engine.conflicts import refuse_conflicts
from hf_mixup.engine.settings import PARTS, BatchNormSettings, SelfCheck, changed_settings, names_of
from hf_mixup.engine.settings import LossSettings as LossSettings
from hf_mixup.engine.settings import PairSettings as PairSettings
from hf_mixup.engine.settings import Schedule as Schedule
from hf_mixup.methods import Method, settings_of
from hf_mixup.methods.registry import changed, flat, method_named, readers, refusal
from hf_mixup.utils.files import read_config, write_text

CONFIG_NAME = "mixup_config.json"


@dataclass(init=False)
class MixupConfig:
    """A mixing run: `method`, and settings of the method, the loss, the schedule and (for dual encoders) of pairs.

    All of them may be given flat, as in YAML and `mixup_config.json`, and may be read so: `config.alpha`,
    `config.label_smoothing`. Each goes to the part that declares it.

    Args:
        method: a method, its name (`hf-mixup methods` lists them), or a mapping of its settings.
        settings: of the method, `LossSettings`, `Schedule`, `PairSettings`, `BatchNormSettings`, or `self_check`.

    Attributes:
        mixing: the method with its settings.
        losses, schedule, pairs, batch_norm: the other parts.
        self_check: whether the method and the loss are tried on two samples before the first step.

    Raises:
        ValueError: for a value of another type or outside its range, an unknown method (naming the nearest valid one),
            or a setting that the method does not have (naming the methods that do).
        TypeError: for anything else in place of a method, or of a part.

    Source: Zhang et al. 2018, "mixup: Beyond Empirical Risk Minimization", section 2.

    >>> from hf_mixup.methods import CutMix
    >>> MixupConfig("cutmix", alpha=0.5) == MixupConfig(CutMix(alpha=0.5))
    True
    >>> MixupConfig("gridmix", grid=2, label_smoothing=0.1).grid
    2
    >>> MixupConfig(method="cutmx")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    ValueError: method='cutmx' is not known: did you mean 'cutmix'? Valid: ...
    """

    mixing: Method
    losses: LossSettings
    schedule: Schedule
    pairs: PairSettings
    batch_norm: BatchNormSettings
    self_check: bool

    def __init__(
        self,
        method: Method | str | Mapping[str, Any] | None = None,
        *,
        mixing: Method | None = None,
        losses: LossSettings | None = None,
        schedule: Schedule | None = None,
        pairs: PairSettings | None = None,
        batch_norm: BatchNormSettings | None = None,
        self_check: Any = True,
        **settings: Any,
    ) -> None:
        if isinstance(method, Mapping):
            settings = {**method, **settings}
            method, self_check = settings.pop("method", None), settings.pop("self_check", self_check)
        given: dict[str, Any] = {"losses": losses, "schedule": schedule, "pairs": pairs, "batch_norm": batch_norm}
        for part, kind in PARTS.items():
            if given[part] is not None and not isinstance(given[part], kind):
                raise TypeError(f"{part}={given[part]!r}: expected {kind.__name__}(...)")
            own = {name: settings.pop(name) for name in names_of(kind) if name in settings}
            setattr(self, part, kind(**own) if given[part] is None else replace(given[part], **own))  # a copy
        self.self_check = SelfCheck(self_check=self_check).self_check
        self.mixing = _method(mixing if method is None else method, settings)
        refuse_conflicts(self.mixing, self.losses, self.pairs)

    def replace(self, **settings: Any) -> MixupConfig:
        """Return a copy with other settings, given flat; `method` alone is another method at its defaults.

        >>> MixupConfig("cutmix", alpha=0.5).replace(draw_seed=3).changed
        {'alpha': 0.5, 'draw_seed': 3}
        """
        own: dict[str, Any] = {part: getattr(self, part) for part in PARTS}
        return MixupConfig(**{"method": self.mixing, **own, "self_check": self.self_check, **settings})

    @property
    def method(self) -> str:
        """The name of the method."""
        return self.mixing.name

    def __getattr__(self, name: str) -> Any:
        """Read a setting of any part by its flat name."""
        if not name.startswith("_"):
            for part in ("mixing", *PARTS):
                own = self.__dict__.get(part)
                if own is not None and name in names_of(type(own)):  # type: ignore[arg-type]
                    return getattr(own, name)
            if "mixing" in self.__dict__ and readers(name):
                raise AttributeError(f"method {self.method!r} has no setting {name!r}")
        raise AttributeError(f"MixupConfig has no attribute {name!r}")

    def __repr__(self) -> str:
        return f"MixupConfig({', '.join([repr(self.method), *(f'{k}={v!r}' for k, v in self.changed.items())])})"

    @property
    def changed(self) -> dict[str, Any]:
        """The settings that differ from their defaults, but for the method; methods that it holds as users write them.

        >>> MixupConfig("switch", methods=["mixup", {"method": "fmix", "alpha": 0.2}], prob=1.0).changed
        {'methods': ['mixup', {'method': 'fmix', 'alpha': 0.2}]}
        """
        parts = {name: value for part in PARTS for name, value in changed_settings(getattr(self, part)).items()}
        return {**changed(self.mixing), **parts, **({} if self.self_check else {"self_check": False})}

    @property
    def known(self) -> set[str]:
        """Names of the settings that may be given beside this method."""
        return {*self.to_dict()}

    @property
    def read(self) -> set[str]:
        """Names of the settings that have a bearing on this configuration: its method's, the loss's, the schedule's."""
        return self.known - self.mixing.unread().keys()

    @property
    def off(self) -> bool:
        """Whether this configuration can never mix anything."""
        return self.mixing.off

    @property
    def plain(self) -> bool:
        """Whether training under this configuration is plain training: nothing mixed, the model's own loss."""
        losses, pairs = self.losses, self.pairs
        own_loss = losses.loss in ("auto", "own") and losses.class_weights is None and not losses.label_smoothing
        own_loss = own_loss and not losses.distill_weight
        own_temperature = pairs.temperature is None and pairs.learn_temperature
        return self.off and own_loss and own_temperature and pairs.chunk_size is None

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> MixupConfig:
        """Build from a flat mapping.

        Raises:
            ValueError: for a key that is no setting, naming the nearest one.

        >>> MixupConfig.from_dict({"method": "mixup", "alpha": 0.2}).alpha
        0.2
        """
        return cls(values)

    @classmethod
    def from_any(cls, value: MixupConfig | Method | str | Mapping[str, Any]) -> MixupConfig:
        """Accept what users pass as `mixup=`: a configuration, a method, its name, or a mapping.

        Raises:
            TypeError: for anything else.
            ValueError: as the configuration.

        >>> MixupConfig.from_any("cutmix").method
        'cutmix'
        """
        if isinstance(value, MixupConfig):
            return value
        if isinstance(value, (Method, str, Mapping, type)):
            method: Any = value  # a class is refused with the way out
            return cls(method)
        raise TypeError(f"mixup={value!r}: expected a method, its name, a mapping of settings or a MixupConfig")

    @classmethod
    def from_yaml(cls, path: str | os.PathLike[str]) -> MixupConfig:
        """Read a YAML (or JSON) file whose top level is the mapping of settings.

        Raises:
            ValueError: if the file is no YAML mapping, naming the file and the place.
            FileNotFoundError: if there is no such file.
        """
        return cls.from_dict(read_config(Path(path)))

    def to_dict(self) -> dict[str, Any]:
        """Return all settings that this method can have as plain values, flat."""
        parts = [name for name in PARTS if name != "pairs" or self.mixing.for_pairs]
        others = {k: v for part in parts for k, v in vars(getattr(self, part)).items()}
        if self.mixing.for_pairs and not self.mixing.fuses:
            others.pop("class_weights")
        return {**flat(self.mixing), **others, "self_check": self.self_check}

    def save_pretrained(self, directory: str | os.PathLike[str]) -> None:
        """Write `mixup_config.json` into a directory (made if missing), whole or not at all."""
        folder = Path(directory)
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / CONFIG_NAME, json.dumps(self.to_dict(), indent=2) + "\n")

    @classmethod
    def from_pretrained(cls, directory: str | os.PathLike[str]) -> MixupConfig:
        """Read the `mixup_config.json` that was saved beside a model.

        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> MixupConfig(alpha=0.4).save_pretrained(folder)
        >>> MixupConfig.from_pretrained(folder).alpha
        0.4
        """
        return cls.from_yaml(Path(directory) / CONFIG_NAME)  # JSON is YAML


def _method(value: Any, settings: dict[str, Any]) -> Method:
    """Return the method, with the settings that are left."""
    if isinstance(value, type) and issubclass(value, Method):
        raise TypeError(f"method={value.__name__}: expected a method and found its class: write {value.__name__}()")
    if value is not None and not isinstance(value, (Method, str)):
        raise TypeError(f"method={value!r}: expected a method, its name or a mapping of settings")
    kind = type(value) if isinstance(value, Method) else method_named("mixup" if value is None else value)
    for name, given in settings.items():
        if name not in settings_of(kind):
            others = ["method", "self_check", *(each for part in PARTS.values() for each in names_of(part))]
            raise ValueError(refusal(kind.name, name, given, others))
    # A copy: what a method learns of one run stays in it.
    return replace(value, **settings) if isinstance(value, Method) else kind(**settings)
