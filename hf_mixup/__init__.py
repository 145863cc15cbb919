"""Mixup-style training for every Hugging Face model.

The public names load on first use, so that `import hf_mixup` costs nothing and pulls in no optional package.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "Mixup": "engine",
    "MixupConfig": "config",
    "MixupCollator": "collator",
    "MixupTrainer": "trainer",
    "MixupTrainerMixin": "trainer",
    "MixupCallback": "callbacks",
    "EMACallback": "ema",
    "PairCollator": "pairs",
    "register": "methods",
    "load_emoji": "data",
}

__all__ = [*_HOMES, "__version__"]

if TYPE_CHECKING:
    from hf_mixup.callbacks import MixupCallback as MixupCallback
    from hf_mixup.collator import MixupCollator as MixupCollator
    from hf_mixup.config import MixupConfig as MixupConfig
    from hf_mixup.data import load_emoji as load_emoji
    from hf_mixup.ema import EMACallback as EMACallback
    from hf_mixup.engine import Mixup as Mixup
    from hf_mixup.methods import register as register
    from hf_mixup.pairs import PairCollator as PairCollator
    from hf_mixup.trainer import MixupTrainer as MixupTrainer
    from hf_mixup.trainer import MixupTrainerMixin as MixupTrainerMixin


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'hf_mixup' has no attribute {name!r}; its public names are {', '.join(__all__)}")
    value = getattr(import_module(f"hf_mixup.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
