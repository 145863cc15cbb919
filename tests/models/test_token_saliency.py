"""Saliency of tokens: the gradient, by finite differences."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import BertConfig

from hf_mixup.models.saliency import token_saliency
from tests.methods.texts import ARCHITECTURES, SIZES, classifier, inputs_of, texts

FIRST_BLOCK = {
    "bert": "bert.encoder.layer.0",
    "roberta": "roberta.encoder.layer.0",
    "gpt2": "transformer.h.0",
    "ctrl": "transformer.h.0",
    "xlnet": "transformer.layer.0",
    "bart": "model.encoder.layers.0",
    "t5": "transformer.encoder.block.0",
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_saliency_is_the_gradient_by_finite_differences(name: str) -> None:
    model, batch, labels = classifier(*ARCHITECTURES[name]()).double(), inputs_of(name), torch.tensor([0, 1, 2, 3])
    found = token_saliency(model, batch, labels)
    assert found.shape == batch["input_ids"].shape
    # T5 computes its norms in single precision
    step, relative, absolute = (1e-3, 5e-3, 1e-3) if name == "t5" else (1e-5, 1e-4, 1e-7)
    shift = torch.zeros(4, batch["input_ids"].shape[1], 16, dtype=torch.float64)

    def add(module: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Any]) -> Any:
        moved = shift.transpose(0, 1) if name == "xlnet" else shift
        if args:
            return (args[0] + moved, *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": kwargs["hidden_states"] + moved}

    def losses() -> Tensor:
        with torch.no_grad():
            return F.cross_entropy(model(**batch).logits, labels, reduction="none")

    handle = model.get_submodule(FIRST_BLOCK[name]).register_forward_pre_hook(add, with_kwargs=True)
    for place in range(0, shift.shape[1], 3):
        squares = torch.zeros(4, dtype=torch.float64)
        for unit in range(shift.shape[2]):
            shift[:, place, unit] = step
            above = losses()
            shift[:, place, unit] = -step
            squares += ((above - losses()) / (2 * step)) ** 2
            shift[:, place, unit] = 0
        torch.testing.assert_close(found[:, place].double(), squares.sqrt(), rtol=relative, atol=absolute)
    handle.remove()
    assert found.max() > 1e-4


def test_saliency_at_the_table_where_blocks_hold_no_tokens() -> None:
    """A model whose first block sees a mean of neighbours: the gradient there is of no token alone."""

    class Smeared(nn.Module):
        main_input_name = "input_ids"

        def __init__(self) -> None:
            super().__init__()
            self.config = BertConfig(vocab_size=60, num_labels=4, **SIZES)
            self.table, self.head = nn.Embedding(60, 16), nn.Linear(16, 4)
            self.blocks = nn.ModuleList(nn.Linear(16, 16) for _ in range(2))

        def get_input_embeddings(self) -> nn.Module:
            return self.table

        def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Any:
            states = self.table(input_ids)
            states = (states + states.roll(1, 1)) / 2
            for block in self.blocks:
                states = block(states).tanh()
            return {"logits": self.head(states.mean(1))}

    torch.manual_seed(0)
    model, batch, labels = Smeared().eval(), texts([5, 3]), torch.tensor([0, 1])
    del batch["token_type_ids"]
    ids = batch["input_ids"]
    found = token_saliency(model, batch, labels)
    embedded = model.table(ids).detach().requires_grad_()
    handle = model.table.register_forward_hook(lambda module, args, output: embedded)
    F.cross_entropy(model(ids)["logits"], labels, reduction="sum").backward()
    handle.remove()
    assert embedded.grad is not None
    torch.testing.assert_close(found, embedded.grad.norm(dim=-1))
