"""The registry: one line a method, one file a method."""

from __future__ import annotations

from hf_mixup.methods.base import Method as Method
from hf_mixup.methods.base import Params as Params
from hf_mixup.methods.cutmix import CutMix
from hf_mixup.methods.embedding import Embedding
from hf_mixup.methods.features import Features
from hf_mixup.methods.manifold import Manifold
from hf_mixup.methods.mixup import InputMixup
from hf_mixup.methods.switch import Switch

METHODS: dict[str, type[Method]] = {
    "mixup": InputMixup,
    "cutmix": CutMix,
    "embedding": Embedding,
    "manifold": Manifold,
    "features": Features,
    "switch": Switch,
}
