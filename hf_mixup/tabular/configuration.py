"""Settings of the network for tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedConfig


class TabularConfig(PreTrainedConfig):
    """Sizes of a `TabularMLP`.

    Args:
        numerical_size: columns of numbers.
        categorical_sizes: for each column of categories, how many there are, with the unknown one.
        embedding_size: width of the embedding of a category.
        hidden_size: width of the blocks.
        intermediate_size: width between the two layers of a block.
        num_hidden_layers: blocks.
        hidden_dropout_prob: share of a block's hidden values that are dropped in training, in [0, 1).
        num_labels: classes; 1 is regression.

    Raises:
        ValueError: if there is no column.

    >>> TabularConfig(numerical_size=4, num_labels=1).hidden_size
    64
    """

    model_type = "tabular-mlp"

    def __init__(
        self,
        numerical_size: int = 1,
        categorical_sizes: Sequence[int] = (),
        embedding_size: int = 8,
        hidden_size: int = 64,
        intermediate_size: int = 128,
        num_hidden_layers: int = 3,
        hidden_dropout_prob: float = 0.1,
        **kwargs: Any,
    ) -> None:
        if numerical_size < 1 and not categorical_sizes:
            raise ValueError("numerical_size=0 and no categorical_sizes: a table needs a column")
        self.numerical_size, self.categorical_sizes = numerical_size, list(categorical_sizes)
        self.embedding_size, self.hidden_size, self.intermediate_size = embedding_size, hidden_size, intermediate_size
        self.num_hidden_layers, self.hidden_dropout_prob = num_hidden_layers, hidden_dropout_prob
        super().__init__(**kwargs)
