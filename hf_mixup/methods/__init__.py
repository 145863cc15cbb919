"""The mixing methods: one file a method, which this module imports in the order that tables show them."""
# ruff: noqa: I001

from __future__ import annotations

from hf_mixup.methods.base import Blend as Blend
from hf_mixup.methods.base import BoxDraw as BoxDraw
from hf_mixup.methods.base import Draw as Draw
from hf_mixup.methods.base import MaskDraw as MaskDraw
from hf_mixup.methods.base import Method as Method
from hf_mixup.methods.base import Request as Request
from hf_mixup.methods.base import setting as setting
from hf_mixup.methods.registry import CONTROLS as CONTROLS
from hf_mixup.methods.registry import METHODS as METHODS
from hf_mixup.methods.registry import build as build
from hf_mixup.methods.registry import register as register
from hf_mixup.methods.registry import settings_of as settings_of
from hf_mixup.methods.registry import first_try as first_try
from hf_mixup.methods.registry import unknown as unknown

# Inputs: images, audio, tables
from hf_mixup.methods.mixup import InputMixup as InputMixup
from hf_mixup.methods.cutmix import CutMix as CutMix
from hf_mixup.methods.resizemix import ResizeMix as ResizeMix
from hf_mixup.methods.fmix import FMix as FMix
from hf_mixup.methods.gridmix import GridMix as GridMix
from hf_mixup.methods.patchmix import PatchMix as PatchMix
from hf_mixup.methods.mosaic import Mosaic as Mosaic
from hf_mixup.methods.saliencymix import SaliencyMix as SaliencyMix
from hf_mixup.methods.attentive import AttentiveCutMix as AttentiveCutMix
from hf_mixup.methods.puzzlemix import PuzzleMix as PuzzleMix
from hf_mixup.methods.transmix import TransMix as TransMix
from hf_mixup.methods.regmixup import RegMixup as RegMixup
from hf_mixup.methods.gaussian import GaussianNoise as GaussianNoise
from hf_mixup.methods.adversarial import AdversarialTraining as AdversarialTraining
from hf_mixup.methods.interpolated_adversarial import InterpolatedAdversarialTraining as InterpolatedAdversarialTraining
from hf_mixup.methods.between_class import BetweenClassMixup as BetweenClassMixup
from hf_mixup.methods.specmix import SpecMix as SpecMix
from hf_mixup.methods.tabular import TabularMixup as TabularMixup

# Tokens and hidden states
from hf_mixup.methods.embedding import EmbeddingMixup as EmbeddingMixup
from hf_mixup.methods.manifold import ManifoldMixup as ManifoldMixup
from hf_mixup.methods.features import FeatureMixup as FeatureMixup
from hf_mixup.methods.sentence import SentenceMixup as SentenceMixup
from hf_mixup.methods.intra import IntraLADA as IntraLADA
from hf_mixup.methods.sftmix import SFTMix as SFTMix
from hf_mixup.methods.cmixup import CMixup as CMixup
from hf_mixup.methods.span_cut import SpanCut as SpanCut
from hf_mixup.methods.ssmix import SSMix as SSMix

# Several methods
from hf_mixup.methods.switch import Switch as Switch

# Image-text pairs
from hf_mixup.methods.cross_modal import CrossModalMixup as CrossModalMixup
from hf_mixup.methods.one_sided import OneSidedMixup as OneSidedMixup
from hf_mixup.methods.geodesic import GeodesicMixup as GeodesicMixup
from hf_mixup.methods.m2 import M2Mix as M2Mix
from hf_mixup.methods.mixgen import MixGen as MixGen
