"""The registry: one line a method, one file a method; `register` adds those of others."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TypeVar

from hf_mixup.methods.adversarial import Adversarial
from hf_mixup.methods.attentive import Attentive
from hf_mixup.methods.base import Draw as Draw
from hf_mixup.methods.base import Method as Method
from hf_mixup.methods.between_class import BetweenClass
from hf_mixup.methods.cmixup import CMixup
from hf_mixup.methods.cross_modal import CrossModal
from hf_mixup.methods.cutmix import CutMix
from hf_mixup.methods.embedding import Embedding
from hf_mixup.methods.features import Features
from hf_mixup.methods.fmix import FMix
from hf_mixup.methods.gaussian import Gaussian
from hf_mixup.methods.geodesic import Geodesic
from hf_mixup.methods.gridmix import GridMix
from hf_mixup.methods.interpolated_adversarial import InterpolatedAdversarial
from hf_mixup.methods.intra import Intra
from hf_mixup.methods.m2 import M2
from hf_mixup.methods.manifold import Manifold
from hf_mixup.methods.mixgen import MixGen
from hf_mixup.methods.mixup import InputMixup
from hf_mixup.methods.mosaic import Mosaic
from hf_mixup.methods.one_sided import OneSided
from hf_mixup.methods.patchmix import PatchMix
from hf_mixup.methods.puzzlemix import PuzzleMix
from hf_mixup.methods.regmixup import RegMixup
from hf_mixup.methods.resizemix import ResizeMix
from hf_mixup.methods.saliencymix import SaliencyMix
from hf_mixup.methods.sentence import Sentence
from hf_mixup.methods.sftmix import SFTMix
from hf_mixup.methods.span_cut import SpanCut
from hf_mixup.methods.specmix import SpecMix
from hf_mixup.methods.ssmix import SSMix
from hf_mixup.methods.switch import Switch
from hf_mixup.methods.tabular import Tabular
from hf_mixup.methods.transmix import TransMix
from hf_mixup.utils.suggest import did_you_mean

METHODS: dict[str, type[Method]] = {
    "mixup": InputMixup,
    "cutmix": CutMix,
    "resizemix": ResizeMix,
    "fmix": FMix,
    "gridmix": GridMix,
    "patchmix": PatchMix,
    "mosaic": Mosaic,
    "saliencymix": SaliencyMix,
    "attentive": Attentive,
    "puzzlemix": PuzzleMix,
    "transmix": TransMix,
    "regmixup": RegMixup,
    "gaussian": Gaussian,
    "adversarial": Adversarial,
    "interpolated_adversarial": InterpolatedAdversarial,
    "between_class": BetweenClass,
    "specmix": SpecMix,
    "tabular": Tabular,
    "embedding": Embedding,
    "manifold": Manifold,
    "features": Features,
    "sentence": Sentence,
    "intra": Intra,
    "sftmix": SFTMix,
    "cmixup": CMixup,
    "span_cut": SpanCut,
    "ssmix": SSMix,
    "switch": Switch,
    "cross_modal": CrossModal,
    "one_sided": OneSided,
    "geodesic": Geodesic,
    "m2": M2,
    "mixgen": MixGen,
}

Kind = TypeVar("Kind", bound=type[Method])
CONTROLS = ("none", "smoothing")
"""What a comparison calls training without mixing; no method may have such a name."""

_DESCRIBED = ("title", "blends", "paper")
_NAME = re.compile(r"[a-z][a-z0-9_]*")  # as a word of `--methods none,wave:alpha=0.2`


def register(method: Kind) -> Kind:
    """Make a method of your own known by its name, in this process, to all that takes a method's name.

    Use it as a decorator. A class of the same module and name takes the earlier one's place, so that the cell of a
    notebook may run twice. Other processes know the method once they have imported its module.

    Args:
        method: a subclass of `Method` (for pairs `PairMethod`) with `name`, `title`, `blends`, `paper` and `apply`.

    Returns:
        The class as it was.

    Raises:
        TypeError: for anything else than such a class, naming what it lacks.
        ValueError: for a name that is taken, or that no command line could tell from settings.

    >>> from hf_mixup import MixupConfig
    >>> @register
    ... class Half(InputMixup):
    ...     name, title, paper = "half", "Mixup by another name", "none"
    >>> MixupConfig("half").method
    'half'
    >>> del METHODS["half"]
    """
    if not (isinstance(method, type) and issubclass(method, Method)):
        raise TypeError(f"register takes a subclass of hf_mixup.methods.Method, found {method!r}")
    name = getattr(method, "name", None)
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(
            f"{method.__name__}.name is {name!r}: expected a name of small letters, digits and _, such as 'my_mix'"
        )
    missing = [each for each in _DESCRIBED if not isinstance(getattr(method, each, None), str)]
    if missing:
        raise TypeError(f"{method.__name__} lacks {', '.join(missing)}: texts that tables and model cards show")
    if method.apply is Method.apply:
        raise TypeError(f"{method.__name__} lacks apply(model, batch, draw, inplace), which returns the mixed inputs")
    known = METHODS.get(name)
    again = known is not None and (known.__module__, known.__qualname__) == (method.__module__, method.__qualname__)
    if name in CONTROLS or (known is not None and not again):
        owner = "a control of hf-mixup compare" if known is None else f"{known.__module__}.{known.__qualname__}"
        raise ValueError(f"{method.__name__}.name is {name!r}, which is taken by {owner}: give it another name")
    METHODS[name] = method
    return method


def unknown(name: str, others: Iterable[str] = ()) -> str:
    """Return what to say of a name that is no method's: the nearest one, and how one's own become known."""
    return (
        f"{did_you_mean(name, [*METHODS, *others])}. A method of your own is known once the module is imported that "
        "calls hf_mixup.register on it"
    )
