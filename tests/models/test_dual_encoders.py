"""Every dual encoder of transformers' auto mappings: what can be mixed in it, found out by trying."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch.nn import functional as F

from hf_mixup import Mixup, MixupConfig, MixupTrainer
from hf_mixup.engine.similarity_head import Head
from hf_mixup.metrics import pair_compute_metrics
from hf_mixup.models.captions import TokenRules
from hf_mixup.models.dual_encoder import embeds_of, is_dual_encoder, pair_logits_of
from tests import pair_models

# A column of the table: the settings of the method, and whether images and captions are mixed.
PAGE = Path(__file__).parents[2] / "hf_mixup" / "docs" / "modalities" / "image-text.md"
COLUMNS: dict[str, tuple[dict[str, Any], bool, bool]] = {
    "pixels + late": ({"method": "cross_modal"}, True, True),
    "latent": ({"method": "cross_modal", "image_mix": "latent"}, True, True),
    "two_eot": ({"method": "one_sided", "side": "text", "text_mix": "two_eot"}, False, True),
    "aligned": ({"method": "one_sided", "side": "text", "text_mix": "aligned"}, False, True),
    "geodesic": ({"method": "geodesic"}, True, True),
    "mixgen": ({"method": "mixgen"}, False, False),
    "m2": ({"method": "m2"}, False, False),
}
REFUSALS = (ValueError, RuntimeError)
OWN_LOSS = {"AlignModel": {"label_smoothing": 0.1}}
"""Settings without which the loss would not be the model's own."""
CASES = [(name, column) for name in pair_models.dual_encoders() for column in COLUMNS]


@pytest.mark.slow
def test_no_dual_encoder_is_missed() -> None:
    assert pair_models.dual_encoders() == pair_models.dual_encoders(every=True)


@cache
def model_and_batch(name: str) -> tuple[torch.nn.Module, dict[str, torch.Tensor]]:
    model = pair_models.build(name)
    return model, pair_models.batch(model)


def mixup_of(column: str, name: str = "") -> Mixup:
    settings, _, _ = COLUMNS[column]
    mixup = Mixup({**settings, **OWN_LOSS.get(name, {})})
    if settings["method"] == "mixgen":
        mixup.method.rules = TokenRules(special=(1, 58, 59), pad=1)
    return mixup


def embeds(outputs: Any) -> list[torch.Tensor]:
    return [F.normalize(each, dim=-1) for each in embeds_of(outputs)]


@cache
def refusal(name: str, column: str) -> str | None:
    """Return why a model refuses a method, None if it takes it."""
    model, batch = model_and_batch(name)
    mixup = mixup_of(column, name)
    try:
        with mixup(model, batch, lam=0.5) as mixed:
            outputs = mixed.forward(model)
        mixed.loss(outputs)
    except REFUSALS as error:
        return str(error)
    return None


@pytest.mark.parametrize(("name", "column"), CASES)
def test_mixed_rightly_or_refused_by_name(name: str, column: str) -> None:
    """lam = 1 leaves both embeddings, lam = 0 gives the partner's on the mixed sides; gradients flow."""
    model, batch = model_and_batch(name)
    reason = refusal(name, column)
    if reason is not None:
        assert name in reason
        return
    partner = torch.tensor([2, 3, 1, 0])
    plain = pair_logits_of(model(**batch))[0]
    _, image, text = COLUMNS[column]
    for lam in (1.0, 0.0):
        with mixup_of(column, name)(model, batch, partner=partner, lam=lam) as mixed:
            found = pair_logits_of(mixed.forward(model))[0]
        if column == "mixgen" and lam == 0:  # its captions are joined
            continue
        expected = plain[partner] if image and lam == 0 else plain
        expected = expected[:, partner] if text and lam == 0 else expected
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
    with mixup_of(column, name)(model, batch, partner=partner, lam=0.5) as mixed:
        outputs = mixed.forward(model)
    mixed.loss(outputs).backward()
    grads = [p.grad for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    assert grads
    assert all(torch.isfinite(grad).all() for grad in grads)
    assert torch.equal(pair_logits_of(model(**batch))[0], plain)  # no hook stays active


@pytest.mark.parametrize("name", pair_models.dual_encoders())
def test_scale_and_bias_are_the_models_own(name: str) -> None:
    model, batch = model_and_batch(name)
    if refusal(name, "m2") is not None or embeds(model(**batch))[1].dim() != 2:
        pytest.skip("no similarities of embeddings to compare")
    outputs = model(**batch)
    expected = pair_logits_of(outputs)
    found = Head(model).logits(*embeds(outputs))
    for one, other in zip(found, expected):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("prob", [0.0, 1.0])
@pytest.mark.parametrize("name", pair_models.dual_encoders())
def test_trains_and_evaluates_in_the_trainer(name: str, prob: float, arguments: Any) -> None:
    """Also unmixed, where a model without a loss of its own is given one."""
    if refusal(name, "pixels + late") is not None:
        pytest.skip("refused, see above")
    model = pair_models.build(name)
    batch = pair_models.batch(model)
    data = [{key: value[row] for key, value in batch.items()} for row in range(4)]
    config = MixupConfig("cross_modal", prob=prob, **OWN_LOSS.get(name, {}))
    trainer = MixupTrainer(model, arguments(), mixup=config, train_dataset=data, eval_dataset=data)
    before = {key: value.clone() for key, value in model.named_parameters()}
    trainer.train()
    assert any(not torch.equal(before[key], value) for key, value in model.named_parameters())
    found = trainer.predict(data)
    assert np.isfinite(found.metrics["test_loss"])
    if name != "XCLIPModel":  # whose texts are embedded anew for each video
        assert [len(each) for each in found.predictions] == [4, 4, 4]
        assert np.isfinite(pair_compute_metrics(found)["nll"])


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("text_mix", ["two_eot", "aligned"])
@pytest.mark.parametrize("name", ["CLIPModel", "SiglipModel", "ChineseCLIPModel", "MetaClip2Model", "OwlViTModel"])
def test_tokens_are_exact_in_both_attentions(name: str, text_mix: str, attention: str) -> None:
    model = pair_models.build(name, attention)
    batch, partner = pair_models.batch(model), torch.tensor([2, 3, 1, 0])
    plain = embeds(model(**batch))[1]
    for lam, expected in ((1.0, plain), (0.0, plain[partner])):
        mixup = Mixup({"method": "one_sided", "side": "text", "text_mix": text_mix})
        with mixup(model, batch, partner=partner, lam=lam) as mixed:
            found = embeds(mixed.forward(model))[1]
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=5e-6)


@pytest.mark.parametrize("name", ["CLIPModel", "SiglipModel", "ChineseCLIPModel", "AltCLIPModel"])
def test_aligned_is_continuous_at_both_ends(name: str) -> None:
    """A union of masks would jump: near an end, the tokens of the row without weight would be seen in full."""
    model, batch = model_and_batch(name)
    partner, plain = torch.tensor([2, 3, 1, 0]), embeds(model(**batch))[1]
    for lam, expected in ((1 - 1e-6, plain), (1e-6, plain[partner])):
        mixup = Mixup({"method": "one_sided", "side": "text", "text_mix": "aligned"})
        with mixup(model, batch, partner=partner, lam=lam) as mixed:
            found = embeds(mixed.forward(model))[1]
        assert (found - expected).abs().max() < 0.02


def table() -> str:
    """Return the table of the documentation: what each architecture takes."""
    lines = [f"| architecture | {' | '.join(COLUMNS)} |", f"| --- |{' --- |' * len(COLUMNS)}"]
    for name, model_type in pair_models.dual_encoders().items():
        if not is_dual_encoder(model_and_batch(name)[0]):
            continue
        marks = ["no" if refusal(name, column) else "yes" for column in COLUMNS]
        lines.append(f"| {model_type} | {' | '.join(marks)} |")
    return "\n".join(lines)


def test_the_documentation_tells_what_each_architecture_takes() -> None:
    release = ".".join(transformers.__version__.split(".")[:2])
    text = PAGE.read_text(encoding="utf-8")
    if f"transformers {release} takes" not in text:
        pytest.skip(f"the table was made with another transformers than {release}")
    assert table() in text, f"put this table into {PAGE.name}:\n{table()}"
