"""Every knob of a mixing run, in one dataclass that `HfArgumentParser`, YAML and JSON can fill."""

from __future__ import annotations

import json
import math
import os
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from hf_mixup.errors import did_you_mean
from hf_mixup.files import read_config, write_text

CONFIG_NAME = "mixup_config.json"


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

    Raises:
        ValueError: for a value outside its range or an unknown method, naming the nearest valid one.

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
    correct_lam: bool = knob(True, "Pictures cut and pasted: set lam to the true share of the row's own pixels.")
    grid: int = knob(4, "gridmix: cells along each side of the picture.")
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
    sampling_rate: int = knob(16000, "between_class: samples a second of the sounds.")
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
        "blend", "Pairs: mix pictures by blending pixels, by cut and paste, or as embeddings."
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
    max_logit_scale: float = knob(100.0, "Pairs: the learnt scale (1 / temperature) is held at or below this.")
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

        if self.method not in METHODS:
            raise ValueError(f"method={self.method!r} is not known: {unknown(str(self.method))}")
        for name in self.switch_methods or ():
            if name not in METHODS or name == "switch":
                raise ValueError(
                    f"switch_methods has {name!r}, which it cannot switch to: "
                    f"{did_you_mean(name, set(METHODS) - {'switch'})}"
                )
        self._check_choices()
        self._check_ranges()
        self._check_switch()

    def _check_choices(self) -> None:
        choices = {
            "lam_per": ("batch", "pair", "row"),
            "prob_per": ("batch", "row"),
            "pairing": ("random", "match", "flip", "roll", "length"),
            "pair_class": ("any", "same", "different"),
            "mask": ("union", "weighted"),
            "box": ("timm", "torchvision"),
            "saliency": ("spectral", "gradient"),
            "attention": ("last", "rollout"),
            "attack": (None, "fgsm", "fgm", "pgd", "pgd_l2", "freelb"),
            "cut_along": (None, "time", "space", "both"),
            "interpolated_by": (
                *("mixup", "cutmix", "resizemix", "fmix", "gridmix", "saliencymix"),
                *("manifold", "features", "embedding"),
            ),
            "side": (None, "both", "image", "text"),
            "image_mix": ("blend", "cut", "latent"),
            "text_mix": ("late", "two_eot", "aligned"),
            "loss": ("auto", "bce", "infonce", "sigmoid"),
        }
        for name, valid in choices.items():
            if getattr(self, name) not in valid:
                names = [choice for choice in valid if choice is not None]
                raise ValueError(
                    f"{name}={getattr(self, name)!r} is not known: {did_you_mean(str(getattr(self, name)), names)}"
                )
        if self.lam_per == "pair" and self.pairing == "roll":
            raise ValueError("lam_per='pair' needs disjoint pairs: set pairing to 'match' or 'flip', found 'roll'")
        if self.pairing == "length" and self.pair_class != "any":
            raise ValueError(
                f"pairing='length' and pair_class={self.pair_class!r}: partners can follow one of them only"
            )

    def _check_ranges(self) -> None:
        _number("alpha", self.alpha, 0, math.inf)
        if self.beta is not None:
            _number("beta", self.beta, 0, math.inf)
        for name in ("prob", "prob_warmup", "off_ratio", "lam", "distill_weight"):
            value = getattr(self, name)
            if value is not None:
                _number(name, value, 0, 1, closed=True)
        _number("off_epochs", self.off_epochs, 0, math.inf)
        _number("label_smoothing", self.label_smoothing, 0, 1)
        self._check_pairs()
        self._check_attack()
        for weight in self.class_weights or ():
            _number("class_weights", weight, 0, math.inf)
        for depth in self.layers or ():
            _number("layers", depth, -math.inf, math.inf)
        if any(0 < depth < 1 for depth in self.layers or ()):
            shares = all(0 <= depth <= 1 for depth in self.layers or ())
        else:
            shares = all(depth == int(depth) for depth in self.layers or ())
        if not shares:
            raise ValueError(f"layers={self.layers!r}: use whole numbers of blocks, or shares of the depth in [0, 1]")
        if self.layers is not None and not self.layers:
            raise ValueError("layers=[] leaves no depth to mix at: name some, or leave it unset for the default")
        if not isinstance(self.bands, int) or self.bands < 1:
            raise ValueError(f"bands={self.bands!r}: expected a whole number from 1 on")
        _number("band_width", self.band_width, 0, 1, closed=True)
        if not isinstance(self.grid, int) or self.grid < 1:
            raise ValueError(f"grid={self.grid!r}: expected a whole number of cells from 1 on")
        if self.time_axis is not None and (not isinstance(self.time_axis, int) or self.time_axis < 1):
            raise ValueError(f"time_axis={self.time_axis!r}: expected an axis from 1 on (rows are axis 0)")
        if self.minmax is not None and (len(self.minmax) != 2 or not 0 <= self.minmax[0] <= self.minmax[1] <= 1):
            raise ValueError(f"minmax={self.minmax!r}: expected two shares 0 <= low <= high <= 1")

    def _check_pairs(self) -> None:
        _number("m2_weight", self.m2_weight, 0, math.inf)
        for name in ("temperature", "m2_temperature", "max_logit_scale", "distill_temperature"):
            value = getattr(self, name)
            if value is not None:
                _number(name, value, 0, math.inf)
                if value == 0:
                    raise ValueError(f"{name}={value!r}: expected a number above 0")
        _number("bandwidth", self.bandwidth, 0, math.inf)
        _number("sampling_rate", self.sampling_rate, 1, math.inf)
        for name in ("eta", "sigma"):
            _number(name, getattr(self, name), 0, math.inf)
        if self.mix_weight is not None:
            _number("mix_weight", self.mix_weight, 0, math.inf)
        if self.bandwidth == 0:
            raise ValueError("bandwidth=0: expected a number above 0")
        if self.chunk_size is not None and (not isinstance(self.chunk_size, int) or self.chunk_size < 1):
            raise ValueError(f"chunk_size={self.chunk_size!r}: expected a whole number of rows from 1 on")

    def _check_attack(self) -> None:
        if self.epsilon is not None:
            _number("epsilon", self.epsilon, 0, math.inf)
        if self.attack_step_size is not None:
            _number("attack_step_size", self.attack_step_size, 0, math.inf)
        if self.clean_weight is not None:
            _number("clean_weight", self.clean_weight, 0, 1)
        if not isinstance(self.attack_steps, int) or self.attack_steps < 1:
            raise ValueError(f"attack_steps={self.attack_steps!r}: expected a whole number of steps from 1 on")
        if self.attack_range is not None and (
            len(self.attack_range) != 2 or not self.attack_range[0] < self.attack_range[1]
        ):
            raise ValueError(f"attack_range={self.attack_range!r}: expected two numbers low < high")

    def _check_switch(self) -> None:
        count = len(self.switch_methods or ("mixup", "cutmix"))
        for name in ("switch_probs", "switch_alphas"):
            values = getattr(self, name)
            if values is not None and len(values) != count:
                raise ValueError(f"{name} has {len(values)} values for {count} methods")
            for value in values or ():
                _number(name, value, 0, math.inf)
        if self.switch_probs is not None and sum(self.switch_probs) <= 0:
            raise ValueError(f"switch_probs={self.switch_probs!r} sum to 0: no method could be chosen")

    @property
    def off(self) -> bool:
        """Whether this configuration can never mix anything."""
        drawn = self.switch_alphas if self.method == "switch" and self.switch_alphas else [self.alpha]
        never_drawn = self.lam is None and not any(drawn)
        unmoved = self.method == "adversarial" and self.epsilon == 0
        return self.prob == 0 or never_drawn or self.lam == 1 or unmoved

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
        names = {f.name for f in fields(cls)}
        for key in values:
            if key not in names:
                raise ValueError(f"{key!r} is no setting of MixupConfig: {did_you_mean(str(key), names)}")
        return cls(**values)

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


def _number(name: str, value: Any, low: float, high: float, closed: bool = False) -> None:
    valid = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not valid or not (low <= value < high or (closed and value == high)):
        bracket = "]" if closed else ")"
        raise ValueError(f"{name}={value!r}: expected a number in [{low}, {high}{bracket}")
