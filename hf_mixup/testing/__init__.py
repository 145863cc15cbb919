"""Tiny random models of every architecture in transformers' auto mappings, and what can be mixed in them rightly.

families    the families of tasks, and the architectures of each
build       architecture -> tiny random model; `sizes` holds the small sizes and what a configuration needs besides
batches     model -> a batch that fits it, with the labels of its family (`floats`: images, videos, audio clips, series)
layouts     the same for models of several streams, or with other targets: the first layout that runs and has a loss
exchange    plain and mixed scores, and the error between them
survey      the checks of all architectures that score samples or tokens, and the table ARCHITECTURES.md
reach       which methods train each class of every mapping exactly, by its loss, and the tables REACH.md and REACH.json

`hf-mixup check MODEL` runs the same checks on a checkpoint.
"""

from __future__ import annotations

from hf_mixup.utils.lazy import lazy_modules

__getattr__ = lazy_modules(__name__, __path__)
