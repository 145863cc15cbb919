"""Batches of pairs for dual encoders: which rows belong together, gathering over processes, losses, cached gradients.

keys       captions -> numbers that agree where the captions do
head       the model's own scale and bias of similarities
gather     embeddings of all processes, with gradients
objective  targets and loss from embeddings or from the model's similarities
batch      `PairBatch`, the mixed batch of a dual encoder
cached     its forward and backward pass in chunks
sentences  a loss for sentence-transformers
"""

from hf_mixup.lazy import lazy_modules

__getattr__ = lazy_modules(__name__, __path__)
