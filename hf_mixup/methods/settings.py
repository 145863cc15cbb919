"""Which method reads which settings of `MixupConfig`: one line a method.

A setting that a method does not read is refused, so that none is given in vain. Tests hold the table against the code:
each setting in a method's line changes something, and no other one is looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from hf_mixup.engine.config import SWITCHED
from hf_mixup.methods import METHODS
from hf_mixup.methods._pairs import PairMethod
from hf_mixup.methods.adversarial import Adversarial
from hf_mixup.methods.base import Method
from hf_mixup.methods.cutmix import CutMix
from hf_mixup.methods.gaussian import Gaussian
from hf_mixup.methods.interpolated_adversarial import InterpolatedAdversarial
from hf_mixup.methods.switch import Switch

Values = Mapping[str, Any]

_COIN = "prob prob_per"
_LAM = f"alpha beta lam lam_per host_dominant {_COIN}"
_DRAW = f"{_LAM} pairing pair_class"
_BOX = "minmax box cut_along time_axis correct_lam"
_ATTACK = "attack epsilon attack_steps attack_step_size attack_range clean_weight"
_ENGINE = (
    "method loss label_smoothing distill_weight distill_temperature prob_warmup off_ratio off_epochs self_check "
    "draw_seed"
)
_OF_PAIRS = "temperature learn_temperature max_logit_scale chunk_size local_loss duplicates"

READS = {
    "mixup": f"{_DRAW} keys",
    "cutmix": f"{_DRAW} keys {_BOX}",
    "resizemix": f"{_DRAW} keys minmax correct_lam",
    "fmix": f"{_DRAW} keys correct_lam",
    "gridmix": f"{_DRAW} keys correct_lam grid",
    "patchmix": f"{_DRAW} keys correct_lam",
    "mosaic": f"{_DRAW} keys",
    "saliencymix": f"{_DRAW} keys correct_lam box saliency",
    "attentive": f"{_DRAW} keys attention",
    "puzzlemix": f"{_DRAW} keys correct_lam",
    "transmix": f"{_DRAW} keys correct_lam box minmax",
    "regmixup": f"{_DRAW} keys eta",
    "gaussian": f"{_COIN} keys sigma",
    "adversarial": f"{_COIN} keys {_ATTACK}",
    "interpolated_adversarial": f"keys {_ATTACK} interpolated_by",  # and what that method reads
    "between_class": f"{_DRAW} keys sampling_rate",
    "specmix": f"lam lam_per {_COIN} pairing pair_class keys correct_lam time_axis bands band_width",
    "tabular": f"{_DRAW} keys correct_lam swap_keys",
    "embedding": f"{_DRAW} mask",
    "manifold": f"{_DRAW} layers modules",
    "features": f"{_DRAW} layers modules",
    "sentence": _DRAW,
    "intra": f"alpha beta lam lam_per {_COIN} layers modules",  # folds lam; its partners are tokens of the same row
    "sftmix": f"{_LAM} mix_weight",  # pairs sure rows with unsure ones
    "cmixup": f"{_LAM} keys correct_lam swap_keys mask bandwidth",  # pairs rows by their labels
    "span_cut": _DRAW,
    "ssmix": f"{_DRAW} clean_weight",
    "switch": "switch_methods switch_probs switch_alphas",  # and what its methods read
    "cross_modal": f"{_DRAW} keys image_mix text_mix {_BOX}",
    "one_sided": f"{_DRAW} keys side image_mix text_mix {_BOX}",
    "geodesic": f"{_DRAW} side paper_compat mix_weight",
    "m2": f"{_LAM} m2_weight m2_temperature",  # mixes the two sides of one pair
    "mixgen": f"{_DRAW} keys",
}
# Classes that only others derive from, and what a method of one's own reads that derives from them directly.
_BASES = {
    "Method": f"{_DRAW} keys correct_lam",
    "MaskMethod": f"{_DRAW} keys correct_lam",
    "RandomMask": f"{_DRAW} keys correct_lam",
    "SpanMethod": _DRAW,
    "PairMethod": f"{_DRAW} keys side image_mix text_mix {_BOX}",
}


def _mixes(values: Values, side: str) -> bool:
    """Whether a method for pairs mixes a side, "image" or "text"."""
    method: Any = METHODS[values["method"]]
    chosen = values["side"] if "side" in _own(method) else None
    return (chosen or method.default_side) in ("both", side)


# Settings that are read only beside others: names, in which methods, what they need in words, and whether it is given.
_NEEDS: list[tuple[str, type[Method], str, Callable[[Values], bool]]] = [
    ("alpha beta host_dominant switch_alphas minmax band_width", Method, "without lam", lambda v: v["lam"] is None),
    ("alpha beta host_dominant", CutMix, "without minmax", lambda v: v["minmax"] is None),
    ("alpha beta host_dominant", PairMethod, "without minmax", lambda v: v["minmax"] is None),
    ("alpha", Switch, "without switch_alphas", lambda v: v["switch_alphas"] is None),
    (
        "attack_steps attack_step_size",
        Adversarial,
        "with attack='pgd', 'pgd_l2' or 'freelb'",
        lambda v: v["attack"] in ("pgd", "pgd_l2", "freelb"),
    ),
    ("image_mix", PairMethod, "where the image is mixed (side)", lambda v: _mixes(v, "image")),
    ("text_mix", PairMethod, "where the text is mixed (side)", lambda v: _mixes(v, "text")),
    ("paper_compat", PairMethod, "with side='both'", lambda v: v["side"] in (None, "both")),
    (
        _BOX,
        PairMethod,
        "where images are mixed with image_mix='cut'",
        lambda v: _mixes(v, "image") and v["image_mix"] == "cut",
    ),
    (
        "keys",
        PairMethod,
        "where images are mixed with image_mix='blend' or 'cut'",
        lambda v: _mixes(v, "image") and v["image_mix"] != "latent",
    ),
    ("max_logit_scale", PairMethod, "with learn_temperature=true", lambda v: v["learn_temperature"]),
]


def known_by(values: Values) -> set[str]:
    """Return the names of the settings that the method of some values reads, in this or another configuration."""
    names = _line(METHODS[values["method"]])
    return names.union(*(known_by(each) for each in _delegates(values)))


def read_by(values: Values) -> set[str]:
    """Return the names of the settings that a configuration with these values reads.

    >>> from hf_mixup import MixupConfig
    >>> "alpha" in read_by(vars(MixupConfig("mixup"))), "alpha" in read_by(vars(MixupConfig("mixup", lam=0.5)))
    (True, False)
    """
    method = METHODS[values["method"]]
    names = _line(method).union(*(read_by(each) for each in _delegates(values)))
    return names - {name for name, _ in _missing(method, values)}


def refuse_unread(values: Values, default: Values) -> None:
    """Refuse a setting that differs from its default and that the method does not read.

    Alpha may stand beside what takes its place, a fixed lam or `switch_alphas`.

    Raises:
        ValueError: naming the setting and the methods that read it, or what it needs beside it.

    >>> from hf_mixup import MixupConfig
    >>> MixupConfig("mixup", grid=9)
    Traceback (most recent call last):
    ...
    ValueError: grid=9: method 'mixup' does not read it; gridmix does: leave it out
    """
    method, known, read = values["method"], known_by(values), read_by(values)
    for name, value in values.items():
        if value == default[name] or name in read:
            continue
        if name not in known:
            raise ValueError(f"{name}={value!r}: method {method!r} does not read it; {readers(name)}")
        if name != "alpha":
            needs = next((needs for each, needs in _missing(METHODS[method], values) if each == name), None)
            beside = f"only {needs}" if needs else "only in some configurations"
            raise ValueError(f"{name}={value!r}: method {method!r} reads it {beside}: leave it out, or change that")
    _refuse_loss(values)


def _refuse_loss(values: Values) -> None:
    """Refuse a loss of pairs where there are labels, and the other way round."""
    loss, method = values["loss"], values["method"]
    paired = "temperature" in known_by(values)
    if loss in ("infonce", "sigmoid") and not paired:
        raise ValueError(
            f"loss={loss!r} is for pairs, and method {method!r} is for samples with labels: leave it out, or use "
            "'cross_modal' (with prob=0 to mix nothing)"
        )
    if loss == "bce" and paired:
        raise ValueError(f"loss='bce' is for labels, and method {method!r} mixes pairs: use 'infonce' or 'sigmoid'")


def readers(name: str) -> str:
    """Say which methods read a setting.

    >>> readers("grid")
    'gridmix does: leave it out'
    """
    if name == "class_weights":
        return "a contrastive loss has no classes: leave it out"
    names = [each for each, kind in METHODS.items() if name in _own(kind)]
    if name in _OF_PAIRS.split():
        names = [each for each, kind in METHODS.items() if issubclass(kind, PairMethod)]
    return f"{', '.join(names)} {'does' if len(names) == 1 else 'do'}: leave it out"


def never_mixes(values: Values) -> bool:
    """Whether a configuration with these values can never mix anything."""
    method = METHODS[values["method"]]
    if values["prob"] == 0:
        return True
    if issubclass(method, (Switch, InterpolatedAdversarial)):
        return all(never_mixes(each) for each in _delegates(values))
    names = _own(method)
    undrawn = "alpha" in names and values["lam"] is None and values["alpha"] == 0
    unmoved = (issubclass(method, Adversarial) and values["epsilon"] == 0) or (
        issubclass(method, Gaussian) and values["sigma"] == 0
    )
    return undrawn or unmoved or ("lam" in names and values["lam"] == 1)


def _line(method: type[Method]) -> set[str]:
    """Return what a method reads by itself, and what the engine reads for it."""
    names = {*_ENGINE.split(), *_own(method)}
    if issubclass(method, PairMethod):
        return names | {*_OF_PAIRS.split()}
    return names if issubclass(method, Switch) else names | {"class_weights"}


def _own(method: type[Method]) -> list[str]:
    """Return the names in a method's own line: that of the nearest class which has one."""
    for kind in method.__mro__:
        name = vars(kind).get("name")
        if kind.__module__.startswith("hf_mixup.") and (name in READS or kind.__name__ in _BASES):
            return (READS[name] if name in READS else _BASES[kind.__name__]).split()
    raise TypeError(f"{method.__name__} derives from no method")


def _delegates(values: Values) -> list[dict[str, Any]]:
    """Return the values with which a method calls others: none, for most."""
    method = METHODS[values["method"]]
    if issubclass(method, InterpolatedAdversarial):
        return [{**values, "method": values["interpolated_by"]}]
    if not issubclass(method, Switch):
        return []
    names = values["switch_methods"] or SWITCHED
    alphas = values["switch_alphas"] or [values["alpha"]] * len(names)
    probs = values["switch_probs"] or [1.0] * len(names)
    return [{**values, "method": name, "alpha": alpha} for name, alpha, prob in zip(names, alphas, probs) if prob > 0]


def _missing(method: type[Method], values: Values) -> Iterator[tuple[str, str]]:
    """Yield the settings that are not read for want of others, and what they need."""
    for names, kind, needs, given in _NEEDS:
        if issubclass(method, kind) and not given(values):
            for name in names.split():
                yield name, needs
