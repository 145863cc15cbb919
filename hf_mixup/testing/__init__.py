"""Tiny random models of every architecture in transformers' auto mappings, and what can be mixed in them rightly.

families    the families of tasks, and the architectures of each
build       architecture -> tiny random model; `sizes` holds the small sizes and what a configuration needs besides
batches     model -> a batch that fits it, with the labels of its family (`floats`: images, videos, audio clips, series)
exchange    plain and mixed scores, and the error between them
survey      the checks of all architectures, and the table ARCHITECTURES.md

`hf-mixup check MODEL` runs the same checks on a checkpoint.
"""

from __future__ import annotations

from hf_mixup.utils.lazy import lazy_modules

__getattr__ = lazy_modules(__name__, __path__)
