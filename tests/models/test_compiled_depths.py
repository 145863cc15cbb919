"""torch.compile over hidden states mixed at many depths: one trace for all of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch._dynamo.utils import counters
from transformers import (
    AlbertConfig,
    AlbertForSequenceClassification,
    BertConfig,
    BertForTokenClassification,
    T5Config,
    T5ForConditionalGeneration,
)

from hf_mixup import Mixup

DEPTHS = 2
TINY = {"hidden_size": 8, "num_hidden_layers": DEPTHS, "num_attention_heads": 1, "intermediate_size": 8}
WORDS = {"vocab_size": 30, "max_position_embeddings": 16, "num_labels": 3}


class Deep(nn.Module):
    """Twelve cheap blocks."""

    main_input_name = "pixel_values"

    def __init__(self) -> None:
        super().__init__()
        self.config = BertConfig(num_labels=3)
        self.blocks, self.head = nn.ModuleList(nn.Linear(8, 8) for _ in range(12)), nn.Linear(8, 3)

    def forward(self, pixel_values: Tensor) -> dict[str, Tensor]:
        for block in self.blocks:
            pixel_values = block(pixel_values).sin()
        return {"logits": self.head(pixel_values)}


def tagger() -> Any:
    return BertForTokenClassification(BertConfig(**WORDS, **TINY))


def albert() -> Any:
    """Runs one block over and over."""
    return AlbertForSequenceClassification(AlbertConfig(embedding_size=8, **WORDS, **TINY))


def t5() -> Any:
    """Has a decoder, which is blended beside the encoder."""
    return T5ForConditionalGeneration(
        T5Config(vocab_size=30, d_model=8, d_kv=8, d_ff=8, num_layers=DEPTHS, num_decoder_layers=1, num_heads=1,
                 pad_token_id=0, decoder_start_token_id=0)
    )  # fmt: skip


def batch_for(model: Any, rows: int = 4) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(rows) % 3
    if isinstance(model, Deep):
        return {"pixel_values": torch.rand(rows, 8, generator=generator), "labels": labels}
    ids = torch.randint(3, 30, (rows, 7), generator=generator)
    many = isinstance(model, (T5ForConditionalGeneration, BertForTokenClassification))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids % 3 if many else labels}


CASES = [("manifold", Deep), ("manifold", albert), ("manifold", t5), ("manifold", tagger), ("intra", tagger)]


@pytest.mark.parametrize(("method", "build"), CASES, ids=lambda each: getattr(each, "__name__", each))
def test_many_depths_are_one_trace(method: str, build: Any) -> None:
    """As many frames after all depths as after the first; numbers and gradients are the uncompiled model's."""
    torch._dynamo.reset()
    counters.clear()
    torch.manual_seed(0)
    model = build().eval()
    batch, count = batch_for(model), 12 if build is Deep else DEPTHS
    counter = CompileCounterWithBackend("eager")
    settings = {"method": method, "layers": list(range(count + 1)), "lam_per": "sample"}
    eager, mixup = Mixup(settings), Mixup(settings)
    mixup.prepare(model)
    compiled = torch.compile(model, backend=counter)
    frames, depths = [], set()
    while len(depths) < count + 1:
        with mixup(compiled, batch) as mixed:
            found = mixed.loss(compiled(**mixed.inputs))
        frames.append(counter.frame_count)
        depths.add(mixed.draw.depth)
        with eager(model, batch) as mixed, torch.compiler.set_stance("force_eager"):
            expected = mixed.loss(model(**mixed.inputs))
        torch.testing.assert_close(found, expected)
        gradients = [torch.autograd.grad(loss, [*model.parameters()], allow_unused=True) for loss in (found, expected)]
        for one, other in zip(*gradients, strict=True):
            torch.testing.assert_close(one, other)
        assert len(frames) < 200
    assert frames[0] > 0
    assert set(frames) == {frames[0]}
    assert not counters["recompile_limit"]
    torch._dynamo.reset()


def test_a_compiled_model_mixes_nothing_outside_of_a_mixed_batch() -> None:
    torch._dynamo.reset()
    torch.manual_seed(0)
    model, mixup = Deep().eval(), Mixup({"method": "manifold", "layers": list(range(13))})
    batch = batch_for(model)
    inputs = {key: value for key, value in batch.items() if key != "labels"}
    plain = model(**inputs)["logits"]
    mixup.prepare(model)
    compiled = torch.compile(model, backend="eager")
    for _ in range(3):
        with mixup(compiled, batch, lam=0.3) as mixed:
            mixed.loss(compiled(**mixed.inputs))
        assert torch.equal(compiled(**inputs)["logits"], plain)
        with mixup(compiled, batch, lam=0.0) as mixed:
            torch.testing.assert_close(compiled(**mixed.inputs)["logits"], plain[mixed.partner])
    torch._dynamo.reset()


def test_an_uncompiled_model_blends_once() -> None:
    """The other depths cost nothing where nothing is traced."""
    model, mixup, calls = Deep().eval(), Mixup({"method": "manifold", "layers": list(range(13))}), []
    batch = batch_for(model)
    mixup(model, batch)  # is tried on the model
    handles = [
        block.register_forward_hook(lambda module, args, output: calls.append((args[0], output)))
        for block in model.blocks
    ]  # behind the sites: sees what they return
    for _ in range(5):
        with mixup(model, batch, lam=0.3) as mixed:
            calls.clear()
            mixed.loss(model(**mixed.inputs))
        changed = [
            depth
            for depth, (given, output) in enumerate(calls, 1)
            if not torch.equal(output, nn.functional.linear(given, *model.blocks[depth - 1].parameters()))
        ]
        assert changed == [mixed.draw.depth] * (mixed.draw.depth > 0)
    for handle in handles:
        handle.remove()
