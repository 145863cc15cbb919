"""Tables: rows of numbers and categories, and a small network for them.

configuration   `TabularConfig`
model           `TabularMLP`, registered with `AutoModel`
processor       `TabularProcessor`: columns, scales and categories, learnt from the training rows

>>> import torch
>>> from transformers import AutoModel
>>> model = AutoModel.from_config(TabularConfig(numerical_size=3, categorical_sizes=[4], num_labels=2))
>>> batch = {"numerical_values": torch.zeros(5, 3), "categorical_values": torch.ones(5, 1, dtype=torch.long)}
>>> model(**batch).logits.shape
torch.Size([5, 2])
"""

from __future__ import annotations

from transformers import AutoConfig, AutoModel

from hf_mixup.tabular.configuration import TabularConfig as TabularConfig
from hf_mixup.tabular.model import TabularMLP as TabularMLP
from hf_mixup.tabular.processor import TabularProcessor as TabularProcessor

AutoConfig.register(TabularConfig.model_type, TabularConfig, exist_ok=True)
AutoModel.register(TabularConfig, TabularMLP, exist_ok=True)
