"""Models whose blocks no hook sees, and models without attention on a CPU."""

from __future__ import annotations

import pytest
import torch

from hf_mixup import Mixup
from hf_mixup.testing.batches import tiny


def test_blocks_that_are_run_past_their_hooks_are_mixed_at_their_ends() -> None:
    """SqueezeBERT calls `layer.forward`."""
    torch.manual_seed(0)
    model, batch = tiny("sequence-classification", "squeezebert")
    model.eval()
    inputs = {key: value for key, value in batch.items() if key != "labels"}
    plain, partner = model(**inputs).logits, torch.tensor([1, 2, 3, 0])
    depths = range(1, model.config.num_hidden_layers + 1)
    for depth in depths:
        mixup = Mixup({"method": "manifold", "layers": [depth]})
        for lam, expected in ((1.0, plain), (0.0, plain[partner])):
            with mixup(model, batch, partner=partner, lam=lam) as mixed:
                torch.testing.assert_close(model(**mixed.inputs).logits, expected, rtol=1e-5, atol=1e-6)
        with mixup(model, batch, partner=partner, lam=0.5) as mixed:
            assert (model(**mixed.inputs).logits - plain).abs().max() > 1e-4
    with pytest.raises(ValueError, match="is given no hidden states"):
        Mixup({"method": "manifold", "layers": [0], "self_check": False})(model, batch).__enter__()


def test_a_model_blind_to_all_but_the_first_token_mixes_rows_of_any_length() -> None:
    """MRA's attention is a tensor of zeros where its CUDA kernel is not: no end of a row could leak."""
    torch.manual_seed(0)
    model, batch = tiny("sequence-classification", "mra")
    batch["attention_mask"][1, 9:] = 0
    batch["input_ids"][1, 9:] = model.config.pad_token_id
    with Mixup("manifold")(model.eval(), batch, lam=1.0) as mixed:
        loss = mixed.loss(model(**mixed.inputs))
    torch.testing.assert_close(loss, model(**batch).loss)
