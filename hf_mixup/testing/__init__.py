"""Every architecture of transformers' auto mappings as a tiny random model, and what can be mixed in it rightly.

families    the families of tasks, and the architectures of each
build       architecture -> tiny random model; `sizes` says what a configuration needs beside small numbers
batches     model -> rows that fit it, with the labels of its family (`floats`: images, videos, audio clips, series)
exchange    plain and mixed scores, and how far they miss each other
trial       the checks of one architecture: exchange, rows of different length, padding, gradients, precision
survey      one row of the table; `table` makes all of it, ARCHITECTURES.md holds it
check       the same for a user's own checkpoint: `hf-mixup check MODEL`
"""

from __future__ import annotations

from hf_mixup.utils.lazy import lazy_modules

__getattr__ = lazy_modules(__name__, __path__)
