"""torch.compile around the model: one compilation serves all draws, whatever method mixes."""

from __future__ import annotations

import pytest
import torch
import torch._dynamo.testing

from hf_mixup import Mixup
from hf_mixup.methods import METHODS
from hf_mixup.models.hooks import hooks_of
from tests.methods.pairs import Tokenizer
from tests.methods.test_settings_table import place_of, scene

DRAWS = 50
IN_PARTS = {"transmix"}  # asks for attention scores, which transformers collects outside of the graph
LONGER = {"mixgen"}  # joined captions have any length, for which torch compiles once more


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_no_draw_recompiles_the_model(method: str) -> None:
    """fullgraph: nothing that mixing does inside the model breaks its graph."""
    torch._dynamo.reset()
    model, batch = scene(place_of(method))
    mixup = Mixup(method, tokenizer=Tokenizer())
    mixup.prepare(model)
    counter = torch._dynamo.testing.CompileCounterWithBackend("eager")
    compiled = torch.compile(model, backend=counter, fullgraph=method not in IN_PARTS)
    frames = []
    try:
        for _ in range(DRAWS):
            with mixup(compiled, batch) as mixed:
                outputs = mixed.forward(compiled)
            mixed.loss(outputs)
            frames.append(counter.frame_count)
    finally:
        hooks_of(model).forget()
        hooks_of(model).checked.clear()
        model.requires_grad_(True)
        torch._dynamo.reset()
    assert frames[0] > 0
    assert frames[-1] == frames[0] + (method in LONGER)
