"""Mixup-style training for every Hugging Face model.

The public names and the modules load on first use, so that `import hf_mixup` costs nothing and pulls in no optional
package. Every method is here by its class, too: `hf_mixup.CutMix`, `hf_mixup.ManifoldMixup`, ...
"""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_mixup.utils.lazy import lazy_modules, module_names

__version__ = "0.1.0"

_HOMES = {
    "Mixup": "engine.mixup",
    "MixupConfig": "engine.config",
    "LossSettings": "engine.settings",
    "Schedule": "engine.settings",
    "PairSettings": "engine.settings",
    "MixupCollator": "integrations.collator",
    "MixupTrainer": "integrations.trainer",
    "MixupTrainerMixin": "integrations.trainer",
    "MixupCallback": "integrations.callback",
    "EMACallback": "integrations.ema",
    "PairCollator": "data.pair_collator",
    "register": "methods",
    "load_emoji": "data",
}

__all__ = [*_HOMES, "__version__"]

if TYPE_CHECKING:
    from hf_mixup import augment as augment
    from hf_mixup import data as data
    from hf_mixup import functional as functional
    from hf_mixup import methods as methods
    from hf_mixup import metrics as metrics
    from hf_mixup import plots as plots
    from hf_mixup import testing as testing
    from hf_mixup.data import load_emoji as load_emoji
    from hf_mixup.data.pair_collator import PairCollator as PairCollator
    from hf_mixup.engine.config import MixupConfig as MixupConfig
    from hf_mixup.engine.mixup import Mixup as Mixup
    from hf_mixup.engine.settings import LossSettings as LossSettings
    from hf_mixup.engine.settings import PairSettings as PairSettings
    from hf_mixup.engine.settings import Schedule as Schedule
    from hf_mixup.integrations.callback import MixupCallback as MixupCallback
    from hf_mixup.integrations.collator import MixupCollator as MixupCollator
    from hf_mixup.integrations.ema import EMACallback as EMACallback
    from hf_mixup.integrations.trainer import MixupTrainer as MixupTrainer
    from hf_mixup.integrations.trainer import MixupTrainerMixin as MixupTrainerMixin
    from hf_mixup.methods import *  # noqa: F403 - for editors; what is imported there is every method
    from hf_mixup.methods import register as register


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(import_module(f"hf_mixup.{_HOMES[name]}"), name)
    elif name[:1].isupper() and name in _methods():
        value = _methods()[name]
    else:
        others = [*__all__, *_methods()] if name[:1].isupper() else __all__
        return lazy_modules(__name__, __path__, others)(name)  # noqa: F405
    globals()[name] = value
    return value


def _methods() -> dict[str, Any]:
    """Return the classes of the methods by their names."""
    known = import_module("hf_mixup.methods").METHODS
    return {each.__name__: each for each in known.values() if each.__module__.startswith("hf_mixup.")}


def _method_names() -> list[str]:
    """Return the names of those classes, as the text of `hf_mixup.methods` has them: to load it takes seconds."""
    text = Path(__file__).with_name("methods").joinpath("__init__.py").read_text(encoding="utf-8")
    return re.findall(r"^from hf_mixup\.methods\.(?!base|registry|capabilities)\w+ import (\w+) as", text, re.MULTILINE)


def __dir__() -> list[str]:
    return sorted({*__all__, *_method_names(), *module_names(__path__)})  # noqa: F405
