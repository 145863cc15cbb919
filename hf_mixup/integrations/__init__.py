"""The entry points for the libraries around: Trainer, data collator, callback, TRL, sentence-transformers."""

from __future__ import annotations

from hf_mixup.utils.lazy import lazy_modules

__getattr__ = lazy_modules(__name__, __path__)
