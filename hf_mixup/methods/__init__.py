"""The registry: one line a method, one file a method."""

from __future__ import annotations

from hf_mixup.methods.adversarial import Adversarial
from hf_mixup.methods.attentive import Attentive
from hf_mixup.methods.base import Method as Method
from hf_mixup.methods.base import Params as Params
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

METHODS: dict[str, type[Method]] = {
    "mixup": InputMixup,
    "cutmix": CutMix,
    "resizemix": ResizeMix,
    "fmix": FMix,
    "gridmix": GridMix,
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
