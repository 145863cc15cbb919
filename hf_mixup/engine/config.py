"""A mixing run: the method with its settings, and what the engine needs to know: loss, schedule, pairs."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

from hf_mixup.methods import METHODS, Method, settings_of
from hf_mixup.methods.registry import changed, each_part, flat, method_named, readers, refusal, with_settings
from hf_mixup.utils.files import read_config, write_text
from hf_mixup.utils.values import check_settings, setting

CONFIG_NAME = "mixup_config.json"


@dataclass(kw_only=True)
class LossSettings:
    """How mixed samples are scored.

    Raises:
        ValueError: for a value of another type or outside its range, or class weights that are all 0.

    >>> LossSettings(label_smoothing=0.1).label_smoothing
    0.1
    """

    loss: Literal["auto", "bce", "own", "infonce", "sigmoid"] = setting(
        "auto",
        "auto follows problem type or model; bce scores each class by itself; own: the model's own loss with each "
        "label, by a second pass of at least the head; infonce, sigmoid: for pairs.",
    )
    label_smoothing: float = setting(
        0.0, "Label smoothing of class labels, applied before mixing. Begin with 0.1.", at_least=0, below=1
    )
    class_weights: list[float] | None = setting(None, "One weight a class for the cross-entropy.", at_least=0)
    distill_weight: float | None = setting(
        None,
        "With a teacher: share in [0, 1] of its scores in the loss, the labels have the rest (default: 0.5).",
        at_least=0,
        at_most=1,
    )
    distill_temperature: float = setting(2.0, "With a teacher: temperature that softens both models' scores.", above=0)

    def __post_init__(self) -> None:
        check_settings(self)
        if self.class_weights is not None and not any(self.class_weights):
            raise ValueError(f"class_weights={self.class_weights!r} are all 0, so that nothing would be learnt")


PAIR_LOSSES = ("infonce", "sigmoid")


@dataclass(kw_only=True)
class Schedule:
    """When batches are mixed, and from which seed.

    It needs to know how long training is: a Trainer tells it, a loop of one's own passes `total_steps` to `Mixup`.

    >>> Schedule(disable_last_epochs=5).disable_last_epochs
    5.0
    """

    prob_warmup_ratio: float = setting(
        0.0, "prob rises linearly from 0 over this share of the training steps.", at_least=0, at_most=1
    )
    disable_last_ratio: float = setting(
        0.0, "No mixing in this last share of the training steps.", at_least=0, at_most=1
    )
    disable_last_epochs: float = setting(0.0, "No mixing in this many last epochs.", at_least=0)
    draw_seed: int | None = setting(None, "Seed of the draws (default: the Trainer's seed, or 0).")

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(kw_only=True)
class PairSettings:
    """How dual encoders are trained on pairs.

    Raises:
        ValueError: for a value of another type or outside its range, or a bound of a scale that is not learnt.

    >>> PairSettings(chunk_size=64).chunk_size
    64
    """

    temperature: float | None = setting(
        None, "Pairs: contrastive temperature to start from (default: the model's).", above=0
    )
    learn_temperature: bool = setting(True, "Pairs: train the temperature; false keeps it.")
    max_logit_scale: float = setting(
        100.0,
        "Pairs: a learnt scale (1 / temperature) rises to this at most, or to where it starts if that is more.",
        above=0,
    )
    chunk_size: int | None = setting(
        None, "Pairs: cache gradients, so that a batch takes the memory of this many samples.", at_least=1
    )
    local_loss: bool = setting(
        True, "Pairs: each process scores its own samples against all; false: all samples against all."
    )
    duplicates: bool = setting(True, "Pairs: samples with the same caption or the same pair_ids are positives.")

    def __post_init__(self) -> None:
        check_settings(self)
        if not self.learn_temperature and self.max_logit_scale != 100.0:
            raise ValueError(
                f"max_logit_scale={self.max_logit_scale!r} is read only with learn_temperature=true: leave it out, or "
                "change that"
            )


@dataclass(kw_only=True)
class BatchNormSettings:
    """How batch normalisation, which sees mixed samples in training, is made ready for clean ones.

    >>> BatchNormSettings(refresh_batch_norm=False).refresh_batch_norm
    False
    """

    refresh_batch_norm: bool = setting(
        True,
        "Before each evaluation and each save, estimate the running statistics of batch normalisation from about 2,000 "
        "clean training samples, if any were mixed.",
    )

    def __post_init__(self) -> None:
        check_settings(self)


PARTS: dict[str, type] = {
    "losses": LossSettings,
    "schedule": Schedule,
    "pairs": PairSettings,
    "batch_norm": BatchNormSettings,
}
for part in PARTS.values():
    part.__doc__ = with_settings(part.__doc__ or "", part)


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
            own = {name: settings.pop(name) for name in _names(kind) if name in settings}
            setattr(self, part, kind(**own) if given[part] is None else replace(given[part], **own))  # a copy
        self.self_check = SelfCheck(self_check=self_check).self_check
        self.mixing = _method(mixing if method is None else method, settings)
        self._check()

    def replace(self, **settings: Any) -> MixupConfig:
        """Return a copy with other settings, given flat; `method` alone is another method at its defaults.

        >>> MixupConfig("cutmix", alpha=0.5).replace(draw_seed=3).changed
        {'alpha': 0.5, 'draw_seed': 3}
        """
        own: dict[str, Any] = {part: getattr(self, part) for part in PARTS}
        return MixupConfig(**{"method": self.mixing, **own, "self_check": self.self_check, **settings})

    def _check(self) -> None:
        """Refuse settings of pairs where there are labels, and the other way round."""
        method, loss = self.method, self.losses.loss
        if not self.mixing.for_pairs:
            for name, value in _changed(self.pairs).items():
                raise ValueError(
                    f"{name}={value!r}: method {method!r} does not read it; {pair_methods()}: leave it out"
                )
            if loss in PAIR_LOSSES:
                raise ValueError(
                    f"loss={loss!r} is for pairs, and method {method!r} is for samples with labels: leave it out, or "
                    "use 'cross_modal' (with prob=0 to mix nothing)"
                )
        elif not self.mixing.fuses:
            self.refuse_labels()
        self.refuse_beside_own()

    def refuse_labels(self) -> None:
        """Refuse settings of labels, for a model or method that has none.

        Raises:
            ValueError: naming the setting.
        """
        if self.losses.class_weights is not None:
            raise ValueError(
                f"class_weights={self.losses.class_weights!r}: a contrastive loss has no classes to weigh: leave it out"
            )
        if self.losses.loss in ("bce", "own"):
            raise ValueError(
                f"loss={self.losses.loss!r} is for labels, and a dual encoder has pairs: use 'infonce' or 'sigmoid'"
            )

    def refuse_pairs(self, name: str) -> None:
        """Refuse settings of pairs, for a model with labels.

        Args:
            name: the model's.

        Raises:
            ValueError: naming the setting.
        """
        loss = {"loss": self.losses.loss} if self.losses.loss in PAIR_LOSSES else {}
        for setting_, value in {**loss, **_changed(self.pairs)}.items():
            raise ValueError(f"{setting_}={value!r} is for dual encoders, and {name} is none: leave it out")

    def refuse_beside_own(self) -> None:
        """Refuse what does not go with the model's own loss by `loss="own"`, and with one lam for the whole batch.

        Raises:
            ValueError: naming the setting or the method.
        """
        losses = self.losses
        if losses.loss != "own":
            return
        for name in ("class_weights", "label_smoothing", "distill_weight"):
            if getattr(losses, name):
                raise ValueError(
                    f"{name}={getattr(losses, name)!r} does not go with loss='own', for the model computes its loss "
                    "itself: leave one of them out"
                )
        for each in () if self.off else each_part(self.mixing):
            if each.own_loss:
                raise ValueError(
                    f"method {each.name!r} has a rule of its own for labels, which is more than one lam for sample and "
                    "partner: leave loss='own' out, or use another method, such as 'mixup', 'embedding' or 'manifold'"
                )
            for name in ("lam_per", "prob_per"):
                if getattr(each, name, "batch") != "batch":
                    raise ValueError(
                        f"{name}={getattr(each, name)!r} of method {each.name!r} does not go with loss='own', which "
                        f"weighs the loss of a whole batch by one lam: leave {name} out"
                    )

    @property
    def method(self) -> str:
        """The name of the method."""
        return self.mixing.name

    def __getattr__(self, name: str) -> Any:
        """Read a setting of any part by its flat name."""
        if not name.startswith("_"):
            for part in ("mixing", *PARTS):
                own = self.__dict__.get(part)
                if own is not None and name in _names(type(own)):  # type: ignore[arg-type]
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
        parts = {name: value for part in PARTS for name, value in _changed(getattr(self, part)).items()}
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
    def scheduled(self) -> bool:
        """Whether the chance to mix changes in the course of training."""
        return bool(
            self.schedule.prob_warmup_ratio or self.schedule.disable_last_ratio or self.schedule.disable_last_epochs
        )

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


@dataclass(kw_only=True)
class SelfCheck:
    """Whether mixing is tried before it is trusted."""

    self_check: bool = setting(True, "Try the method and the loss on two samples before the first step.")

    def __post_init__(self) -> None:
        check_settings(self)


@cache
def _names(kind: type) -> list[str]:
    return [field.name for field in fields(kind)]


def _method(value: Any, settings: dict[str, Any]) -> Method:
    """Return the method, with the settings that are left."""
    if isinstance(value, type) and issubclass(value, Method):
        raise TypeError(f"method={value.__name__}: expected a method and found its class: write {value.__name__}()")
    if value is not None and not isinstance(value, (Method, str)):
        raise TypeError(f"method={value!r}: expected a method, its name or a mapping of settings")
    kind = type(value) if isinstance(value, Method) else method_named(value or "mixup")
    for name, given in settings.items():
        if name not in settings_of(kind):
            others = ["method", "self_check", *(each for part in PARTS.values() for each in _names(part))]
            raise ValueError(refusal(kind.name, name, given, others))
    # A copy: what a method learns of one run stays in it.
    return replace(value, **settings) if isinstance(value, Method) else kind(**settings)


def _changed(part: Any) -> dict[str, Any]:
    return {field.name: value for field in fields(part) if (value := getattr(part, field.name)) != field.default}


def pair_methods() -> str:
    """Say which methods read the settings of pairs."""
    return f"{', '.join(name for name, kind in METHODS.items() if kind.for_pairs is True)} do"
