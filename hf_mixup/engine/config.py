"""Every knob of a mixing run, in one dataclass that `HfArgumentParser`, YAML and JSON can fill."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from hf_mixup.utils.files import read_config, write_text
from hf_mixup.utils.suggest import did_you_mean
from hf_mixup.utils.values import check_above, check_range, check_whole, convert_fields, convert_values

CONFIG_NAME = "mixup_config.json"
SWITCHED = ("mixup", "cutmix")
"""What `switch` chooses from where nothing else is named."""
_NEVER_EMPTY = ("keys", "layers", "modules", "switch_methods", "switch_probs", "switch_alphas", "class_weights")


def knob(default: Any, text: str) -> Any:
    """Declare a dataclass field with the help text that command lines show."""
    return field(default=default, metadata={"help": text})


@dataclass
class MixupConfig:
    """What is blended with what, how much, where and when.

    Args:
        method: a name of the registry (`hf-mixup methods` lists them).
        alpha: lam ~ Beta(alpha, alpha); 0 is off, 1 uniform, large values tend to 1/2. In [0, inf).
        beta: second parameter of an asymmetric Beta(alpha, beta).
        lam: a fixed coefficient in [0, 1] instead of a drawn one.
        prob: chance in [0, 1] that a batch (or a row, see `prob_per`) is mixed.
        layers: depths for hidden-layer mixing. Whole numbers count blocks (0 is what enters the first, -1 what leaves
            the last); if any lies strictly between 0 and 1, all are shares of the depth.
        off_epochs, off_ratio, prob_warmup: the schedule. It needs to know how long training is: a Trainer tells it,
            a hand-written loop passes `total_steps` to `Mixup`.

    Each method has settings of its own. One that the method does not read is refused unless it has its default.

    Raises:
        ValueError: for a value of another type or outside its range, an unknown method (naming the nearest valid one),
            or a setting that the method does not read (naming the methods that do).

    Source: Zhang et al. 2018, "mixup: Beyond Empirical Risk Minimization", section 2.

    >>> MixupConfig(method="cutmix", alpha=1.0).method
    'cutmix'
    >>> MixupConfig(method="cutmx")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    ValueError: method='cutmx' is not known: did you mean 'cutmix'? Valid: ...
    """

    method: str = knob("mixup", "Name of the mixing method; `hf-mixup methods` lists them.")
    alpha: float = knob(1.0, "lam ~ Beta(alpha, alpha). 0 switches mixing off.")
    beta: float | None = knob(None, "Second parameter of an asymmetric Beta(alpha, beta).")
    lam: float | None = knob(None, "A fixed lam in [0, 1] instead of a drawn one.")
    lam_per: Literal["batch", "pair", "row"] = knob("batch", "Draw lam once a batch, once a pair, or once a row.")
    host_dominant: bool = knob(False, "Fold lam to max(lam, 1 - lam), so that a row's own content dominates.")
    prob: float = knob(1.0, "Chance that a batch (or row) is mixed.")
    prob_per: Literal["batch", "row"] = knob("batch", "Toss the coin of `prob` once a batch or once a row.")
    pairing: Literal["random", "match", "flip", "roll", "length"] = knob(
        "random", "Partners: in random order, disjoint pairs, reversed batch, the row before, or the nearest in length."
    )
    pair_class: Literal["any", "same", "different"] = knob("any", "Restrict partners to the same or another class.")
    keys: list[str] | None = knob(None, "Model inputs to blend; by default every floating-point input.")
    layers: list[float] | None = knob(None, "Depths for hidden-layer mixing; one is drawn for each batch.")
    modules: list[str] | None = knob(None, "Paths of the modules to take as blocks, instead of those that are found.")
    mask: Literal["union", "weighted"] = knob(
        "union", "embedding: attention sees the tokens of both rows alike, or each as much as its row counts."
    )
    minmax: list[float] | None = knob(
        None, "CutMix, resizemix: sides of the box as shares of the image, e.g. 0.2 0.8 (resizemix: default 0.1 0.8)."
    )
    box: Literal["timm", "torchvision"] = knob("timm", "CutMix and its kin: whose rounding of the box to follow.")
    cut_along: Literal["time", "space", "both"] | None = knob(
        None, "CutMix: cut along time, along space (or frequency), or both; by default as befits the input."
    )
    time_axis: int | None = knob(None, "CutMix: the axis of the input that is time, e.g. 1 in [B, T, F].")
    correct_lam: bool = knob(True, "Images cut and pasted: set lam to the true share of the row's own pixels.")
    grid: int = knob(4, "gridmix: cells along each side of the image.")
    saliency: Literal["spectral", "gradient"] = knob(
        "spectral", "saliencymix: what stands out by its spectrum, or what moves the loss (one more pass)."
    )
    attention: Literal["last", "rollout"] = knob(
        "last", "attentive: the attention of the last layer, or rolled out through all of them."
    )
    bands: int = knob(3, "specmix: bands along time, and as many along frequency, at most.")
    band_width: float = knob(0.3, "specmix: width of a band as a share of its axis, where no lam is given.")
    swap_keys: list[str] | None = knob(
        None, "tabular, cmixup: model inputs whose columns are swapped, not blended (default: integer `*_values`)."
    )
    switch_methods: list[str] | None = knob(None, "switch: the methods to choose from (default: mixup cutmix).")
    switch_probs: list[float] | None = knob(None, "switch: their probabilities (default: equal).")
    switch_alphas: list[float] | None = knob(None, "switch: their alphas (default: `alpha` for each).")
    bandwidth: float = knob(1.0, "cmixup: standard deviation of the Gaussian over distances of labels, in their units.")
    sampling_rate: int = knob(16000, "between_class: samples a second of the audio clips.")
    mix_weight: float | None = knob(
        None, "sftmix, geodesic: weight of the mixed loss beside the plain one (default: 0.2; geodesic: no plain one)."
    )
    eta: float = knob(1.0, "regmixup: weight of the mixed loss beside the clean one.")
    sigma: float = knob(0.1, "gaussian: standard deviation of the noise, in units of the inputs or embeddings.")
    attack: Literal["fgsm", "fgm", "pgd", "pgd_l2", "freelb"] | None = knob(
        None, "adversarial: a step of signs, an L2 step, several of either, or FreeLB (default: fgsm; tokens: fgm)."
    )
    epsilon: float | None = knob(
        None, "adversarial: reach in units of inputs or embeddings (default: fgsm, pgd 0.1 a value; others 1 a row)."
    )
    attack_steps: int = knob(3, "adversarial: gradient steps of pgd, pgd_l2 and freelb.")
    attack_step_size: float | None = knob(None, "adversarial: length of such a step (default: 2.5 epsilon / steps).")
    attack_range: list[float] | None = knob(
        None, "adversarial: lowest and highest value of an input, e.g. -1 1 for pixels normalised by 0.5 and 0.5."
    )
    clean_weight: float | None = knob(
        None, "adversarial, ssmix: the clean rows' share of the loss (default: 0.5, freelb 0; at 0 they are not run)."
    )
    interpolated_by: Literal[
        "mixup", "cutmix", "resizemix", "fmix", "gridmix", "saliencymix", "manifold", "features", "embedding"
    ] = knob("mixup", "interpolated_adversarial: the method that mixes clean and adversarial rows; tokens: embedding.")
    side: Literal["both", "image", "text"] | None = knob(
        None, "Pairs: which side geodesic (default both) or one_sided (default image) mixes."
    )
    image_mix: Literal["blend", "cut", "latent"] = knob(
        "blend", "Pairs: mix images by blending pixels, by cut and paste, or as embeddings."
    )
    text_mix: Literal["late", "two_eot", "aligned"] = knob(
        "late", "Pairs: mix captions as embeddings (late), or their tokens with two pooled ends or aligned."
    )
    duplicates: bool = knob(True, "Pairs: rows with the same caption or the same pair_ids are positives.")
    paper_compat: bool = knob(False, "geodesic on both sides: the published targets, right at lam = 1/2 only.")
    m2_weight: float = knob(0.1, "m2: weight of the loss with mixed negatives.")
    m2_temperature: float = knob(0.07, "m2: temperature of that loss.")
    temperature: float | None = knob(None, "Pairs: contrastive temperature to start from (default: the model's).")
    learn_temperature: bool = knob(True, "Pairs: train the temperature; false keeps it.")
    max_logit_scale: float = knob(
        100.0, "Pairs: a learnt scale (1 / temperature) rises to this at most, or to where it starts if that is more."
    )
    chunk_size: int | None = knob(None, "Pairs: cache gradients, so that a batch takes the memory of this many rows.")
    local_loss: bool = knob(True, "Pairs: each process scores its own rows against all; false: all rows against all.")
    loss: Literal["auto", "bce", "infonce", "sigmoid"] = knob(
        "auto", "auto follows problem type or model; bce scores each class by itself; infonce, sigmoid: for pairs."
    )
    label_smoothing: float = knob(0.0, "Label smoothing of class labels, applied before mixing.")
    class_weights: list[float] | None = knob(None, "One weight a class for the cross-entropy.")
    distill_weight: float | None = knob(
        None, "With a teacher: share in [0, 1] of its scores in the loss, the labels have the rest (default: 0.5)."
    )
    distill_temperature: float = knob(2.0, "With a teacher: temperature that softens both models' scores.")
    prob_warmup: float = knob(0.0, "prob rises linearly from 0 over this share of the training steps.")
    off_ratio: float = knob(0.0, "No mixing in this last share of the training steps.")
    off_epochs: float = knob(0.0, "No mixing in this many last epochs.")
    self_check: bool = knob(True, "Try the method and the loss on two rows before the first step.")
    draw_seed: int | None = knob(None, "Seed of the draws (default: the Trainer's seed, or 0).")

    def __post_init__(self) -> None:
        from hf_mixup.methods import METHODS, unknown

        convert_fields(self)
        if self.method not in METHODS:
            raise ValueError(f"method={self.method!r} is not known: {unknown(self.method)}")
        for name in self.switch_methods or ():
            if name not in METHODS or name == "switch":
                raise ValueError(
                    f"switch_methods has {name!r}, which it cannot switch to: "
                    f"{did_you_mean(name, set(METHODS) - {'switch'})}"
                )
        self._check_ranges()
        self._check_lists()
        self._check_switch()
        self._refuse_unread()

    def _check_ranges(self) -> None:
        for name in ("alpha", "beta", "off_epochs", "m2_weight", "eta", "sigma", "mix_weight"):
            check_range(name, getattr(self, name), 0)
        for name in ("epsilon", "attack_step_size"):
            check_range(name, getattr(self, name), 0)
        for name in ("prob", "prob_warmup", "off_ratio", "lam", "distill_weight", "band_width"):
            check_range(name, getattr(self, name), 0, 1, closed=True)
        for name in ("label_smoothing", "clean_weight"):
            check_range(name, getattr(self, name), 0, 1)
        for name in ("temperature", "m2_temperature", "max_logit_scale", "distill_temperature", "bandwidth"):
            check_above(name, getattr(self, name))
        counts = {"chunk_size": "number of rows", "grid": "number of cells", "attack_steps": "number of steps"}
        for name in ("chunk_size", "grid", "attack_steps", "bands"):
            check_whole(name, getattr(self, name), counts.get(name, "number"))
        check_range("sampling_rate", self.sampling_rate, 1, 1_000_000)
        if self.time_axis is not None and self.time_axis < 1:
            raise ValueError(f"time_axis={self.time_axis!r}: expected an axis from 1 on (rows are axis 0)")
        if self.lam_per == "pair" and self.pairing == "roll":
            raise ValueError("lam_per='pair' needs disjoint pairs: set pairing to 'match' or 'flip', found 'roll'")
        if self.pairing == "length" and self.pair_class != "any":
            raise ValueError(
                f"pairing='length' and pair_class={self.pair_class!r}: partners can follow one of them only"
            )

    def _check_lists(self) -> None:
        for name in _NEVER_EMPTY:
            if getattr(self, name) == []:
                raise ValueError(f"{name}=[] names nothing: leave it unset for the default")
        for weight in self.class_weights or ():
            check_range("class_weights", weight, 0)
        if self.class_weights is not None and not any(self.class_weights):
            raise ValueError(f"class_weights={self.class_weights!r} are all 0, so that nothing would be learnt")
        layers = self.layers or []
        if any(0 < depth < 1 for depth in layers):
            shares = all(0 <= depth <= 1 for depth in layers)
        else:
            shares = all(depth == int(depth) for depth in layers)
        if not shares:
            raise ValueError(f"layers={self.layers!r}: use whole numbers of blocks, or shares of the depth in [0, 1]")
        if self.minmax is not None and (len(self.minmax) != 2 or not 0 <= self.minmax[0] <= self.minmax[1] <= 1):
            raise ValueError(f"minmax={self.minmax!r}: expected two shares 0 <= low <= high <= 1")
        if self.attack_range is not None and (
            len(self.attack_range) != 2 or not self.attack_range[0] < self.attack_range[1]
        ):
            raise ValueError(f"attack_range={self.attack_range!r}: expected two numbers low < high")

    def _check_switch(self) -> None:
        count = len(self.switch_methods or SWITCHED)
        for name in ("switch_probs", "switch_alphas"):
            values = getattr(self, name)
            if values is not None and len(values) != count:
                raise ValueError(f"{name} has {len(values)} values for {count} methods")
            for value in values or ():
                check_range(name, value, 0)
        if self.switch_probs is not None and sum(self.switch_probs) <= 0:
            raise ValueError(f"switch_probs={self.switch_probs!r} sum to 0: no method could be chosen")

    def _refuse_unread(self) -> None:
        from hf_mixup.methods.settings import refuse_unread

        refuse_unread(vars(self), self._defaults())

    @classmethod
    def _defaults(cls) -> dict[str, Any]:
        return {field.name: field.default for field in fields(cls)}

    @property
    def changed(self) -> dict[str, Any]:
        """The settings that differ from their defaults, but for the method."""
        default = self._defaults()
        return {k: v for k, v in self.to_dict().items() if v != default[k] and k != "method"}

    @property
    def known(self) -> set[str]:
        """Names of the settings that the method reads in some configuration."""
        from hf_mixup.methods.settings import known_by

        return known_by(vars(self))

    @property
    def read(self) -> set[str]:
        """Names of the settings that have a bearing on this configuration: its method's, the loss's, the schedule's."""
        from hf_mixup.methods.settings import read_by

        return read_by(vars(self))

    def for_method(self, method: str, **settings: Any) -> MixupConfig:
        """Return the configuration of a method that shares these settings with others: of them those that it reads.

        Args:
            settings: the method's own, which win over the shared ones.

        Raises:
            ValueError: for own settings that it does not read, and as the configuration.

        >>> MixupConfig("gridmix", alpha=0.4, grid=2).for_method("mixup").changed
        {'alpha': 0.4}
        """
        from hf_mixup.methods.settings import read_by

        own = convert_values(MixupConfig, settings)
        names = read_by({**vars(self), **own, "method": method})
        shared = {name: value for name, value in self.to_dict().items() if name in names}
        return MixupConfig(**{**shared, **own, "method": method})

    @property
    def off(self) -> bool:
        """Whether this configuration can never mix anything."""
        from hf_mixup.methods.settings import never_mixes

        return never_mixes(vars(self))

    @property
    def scheduled(self) -> bool:
        """Whether the chance to mix changes in the course of training."""
        return bool(self.prob_warmup or self.off_ratio or self.off_epochs)

    @property
    def plain(self) -> bool:
        """Whether training under this configuration is plain training: nothing mixed, the model's own loss."""
        own_loss = self.loss == "auto" and self.class_weights is None and not self.label_smoothing
        own_loss = own_loss and not self.distill_weight
        own_temperature = self.temperature is None and self.learn_temperature
        return self.off and own_loss and own_temperature and self.chunk_size is None

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> MixupConfig:
        """Build from a mapping.

        Raises:
            ValueError: for a key that is no field, naming the nearest one.

        >>> MixupConfig.from_dict({"method": "mixup", "alpha": 0.2}).alpha
        0.2
        """
        return cls(**convert_values(cls, values))

    @classmethod
    def from_any(cls, value: MixupConfig | str | dict[str, Any]) -> MixupConfig:
        """Accept what users pass as `mixup=`: a configuration, a method's name, or a mapping.

        Raises:
            TypeError: for anything else.
            ValueError: as the configuration.

        >>> MixupConfig.from_any("cutmix").method
        'cutmix'
        """
        if isinstance(value, MixupConfig):
            return value
        if isinstance(value, str):
            return cls(method=value)
        if isinstance(value, dict):
            return cls.from_dict(value)
        raise TypeError(f"mixup={value!r}: expected a MixupConfig, a method's name or a mapping")

    @classmethod
    def from_yaml(cls, path: str | os.PathLike[str]) -> MixupConfig:
        """Read a YAML (or JSON) file whose top level is the mapping of settings.

        Raises:
            ValueError: if the file is no YAML mapping, naming the file and the place.
            FileNotFoundError: if there is no such file.
        """
        return cls.from_dict(read_config(Path(path)))

    def to_dict(self) -> dict[str, Any]:
        """Return all settings as plain values."""
        return asdict(self)

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


@dataclass
class SharedConfig(MixupConfig):
    """Settings that several methods share, as in a comparison: each method is given those that it reads.

    `for_method` deals them out; `refuse_unshared` refuses those that none of the methods takes.

    >>> SharedConfig("mixup", grid=2).for_method("gridmix").grid
    2
    """

    def _refuse_unread(self) -> None:
        pass


def refuse_unshared(shared: MixupConfig, methods: Sequence[MixupConfig]) -> None:
    """Refuse shared settings that none of these methods reads.

    Raises:
        ValueError: naming the setting, and the methods that do read it.
    """
    from hf_mixup.methods.settings import readers

    for name, value in shared.changed.items():
        if methods and not any(name in each.known for each in methods):
            names = ", ".join(dict.fromkeys(each.method for each in methods))
            raise ValueError(f"{name}={value!r}: none of the methods ({names}) reads it; {readers(name)}")
