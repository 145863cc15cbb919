"""A network of residual blocks for tables."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from hf_mixup.tabular.configuration import TabularConfig


class Block(nn.Module):
    """Two layers with a residual connection around them: [B, H] -> [B, H]."""

    def __init__(self, config: TabularConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.hidden_size)
        self.up = nn.Linear(config.hidden_size, config.intermediate_size)
        self.down = nn.Linear(config.intermediate_size, config.hidden_size)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, states: Tensor) -> Tensor:
        return states + self.down(self.dropout(F.relu(self.up(self.norm(states)))))


class TabularMLP(PreTrainedModel):
    """Classes or a number from a row of a table.

    Numbers and the embeddings of categories stand side by side, are brought to one width and pass residual blocks.

    Source: the ResNet of Gorishniy et al. 2021, "Revisiting Deep Learning Models for Tabular Data", arXiv 2106.11959,
    section 3.2, with layer in place of batch normalisation, so that no row's output depends on the others'.

    >>> model = TabularMLP(TabularConfig(numerical_size=3, num_labels=1))
    >>> model(numerical_values=torch.zeros(2, 3), labels=torch.zeros(2)).logits.shape
    torch.Size([2, 1])
    """

    config_class = TabularConfig
    config: TabularConfig
    base_model_prefix = "tabular"
    main_input_name = "numerical_values"

    def __init__(self, config: TabularConfig) -> None:
        super().__init__(config)
        width = config.numerical_size + config.embedding_size * len(config.categorical_sizes)
        self.embeddings = nn.ModuleList(nn.Embedding(size, config.embedding_size) for size in config.categorical_sizes)
        self.project = nn.Linear(width, config.hidden_size)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_hidden_layers))
        self.norm = nn.LayerNorm(config.hidden_size)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels or 1)
        self.post_init()

    def forward(
        self,
        numerical_values: Tensor | None = None,
        categorical_values: Tensor | None = None,
        labels: Tensor | None = None,
        return_dict: bool | None = None,
        num_items_in_batch: Tensor | int | None = None,
    ) -> SequenceClassifierOutput | tuple[Tensor, ...]:
        """Return the logits [B, C], and with labels the loss.

        Args:
            numerical_values: floats [B, F], standardised.
            categorical_values: integers [B, K]; 0 is an unknown category.
            labels: classes [B], or for one output numbers [B].
            num_items_in_batch: what the summed loss is divided by, where the Trainer accumulates gradients.

        Raises:
            ValueError: for columns that are not those of the configuration.
        """
        parts = self._columns(numerical_values, categorical_values)
        states = self.project(torch.cat(parts, dim=-1))
        for block in self.blocks:
            states = block(states)
        logits = self.classifier(F.relu(self.norm(states)))
        loss = None if labels is None else self._loss(logits, labels, num_items_in_batch)
        if return_dict is False:
            return (logits,) if loss is None else (loss, logits)
        return SequenceClassifierOutput(loss=loss, logits=logits)

    def _columns(self, numbers: Tensor | None, categories: Tensor | None) -> list[Tensor]:
        for name, given, size in (
            ("numerical_values", numbers, self.config.numerical_size),
            ("categorical_values", categories, len(self.config.categorical_sizes)),
        ):
            found = 0 if given is None else given.shape[-1]
            if found != size:
                raise ValueError(f"{name} has {found} columns, and the model was made for {size}")
        parts = [] if numbers is None else [numbers.to(self.dtype)]
        if categories is not None:
            parts += [table(categories[..., column]) for column, table in enumerate(self.embeddings)]
        return parts

    def _loss(self, logits: Tensor, labels: Tensor, items: Tensor | int | None) -> Tensor:
        problem_type = self.config.problem_type
        if problem_type is None:
            problem_type = "regression" if self.config.num_labels == 1 else "single_label_classification"
        if problem_type == "regression":
            total = F.mse_loss(logits.reshape(labels.shape), labels.to(logits.dtype), reduction="sum")
        elif problem_type == "multi_label_classification":
            total = F.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype), reduction="sum")
        else:
            total = F.cross_entropy(logits, labels, reduction="sum")
        return total / (labels.numel() if items is None else items)
