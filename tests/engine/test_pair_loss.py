"""The loss of pairs is held against the model's own before the first step."""

from __future__ import annotations

from functools import wraps
from typing import Any

import pytest
import torch

from hf_mixup import Mixup, MixupConfig
from hf_mixup.functional import soft_info_nce, soft_sigmoid_loss
from tests import pair_models
from tests.conftest import build, examples
from tests.entry_points import ENTRY_POINTS


def scoring(model: Any, loss_of: Any) -> Any:
    """Give a dual encoder another loss of its own."""
    plain = model.forward

    @wraps(plain)
    def forward(*args: Any, **kwargs: Any) -> Any:
        outputs = plain(*args, **kwargs)
        if kwargs.get("return_loss"):
            outputs.loss = loss_of(outputs.logits_per_image)
        return outputs

    model.forward = forward
    return model


def smoothed(logits: torch.Tensor) -> torch.Tensor:
    return soft_info_nce(logits, torch.eye(len(logits)), label_smoothing=0.1)


def smoothed_sigmoid(logits: torch.Tensor) -> torch.Tensor:
    return soft_sigmoid_loss(logits, torch.eye(len(logits)), label_smoothing=0.05)


def test_label_smoothing_of_the_model_is_to_be_that_of_mixed_pairs() -> None:
    model = pair_models.build("AlignModel")
    batch, before = pair_models.batch(model), float(model.temperature.detach())
    with pytest.raises(RuntimeError, match=r"by 0\.1, .*: set label_smoothing=0\.1, or loss='infonce'"):
        Mixup("cross_modal")(model, batch).__enter__()
    assert float(model.temperature.detach()) == before
    losses = {}
    for name, value in (("label_smoothing", 0.1), ("loss", "infonce"), ("self_check", False)):
        with torch.no_grad(), Mixup({"method": "cross_modal", name: value})(model, batch, lam=1.0) as mixed:
            losses[name] = float(mixed.loss(mixed.forward(model)))
    own = float(model(**batch, return_loss=True).loss.detach())
    assert losses["label_smoothing"] == pytest.approx(own, rel=1e-6)
    assert losses["loss"] == losses["self_check"] != pytest.approx(own, rel=1e-6)


def test_sigmoid_losses_are_compared_as_well() -> None:
    model = scoring(pair_models.build("SiglipModel"), smoothed_sigmoid)
    batch = pair_models.batch(model)
    with pytest.raises(RuntimeError, match=r"set label_smoothing=0\.05, or loss='sigmoid'"):
        Mixup("cross_modal")(model, batch).__enter__()
    Mixup({"method": "cross_modal", "label_smoothing": 0.2})(model, batch).__enter__()


def test_what_no_label_smoothing_explains_is_refused_with_both_losses() -> None:
    model = scoring(pair_models.build("CLIPModel"), lambda logits: smoothed(logits) + 0.3)
    with pytest.raises(RuntimeError, match="mixing would leave out what it adds or weighs"):
        Mixup("cross_modal")(model, pair_models.batch(model)).__enter__()


@pytest.mark.parametrize("name", ["CLIPModel", "ClapModel", "SiglipModel", "Tipsv2Model", "Aimv2Model"])
def test_other_models_mix_as_they_did(name: str) -> None:
    """CLAP takes one direction twice, AIMv2 has no loss of its own."""
    model = pair_models.build(name)
    with Mixup("cross_modal")(model, pair_models.batch(model)) as mixed:
        mixed.loss(mixed.forward(model)).backward()


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_all_entry_points_refuse(entry_point: str, arguments: Any) -> None:
    model, config = scoring(build("clip"), smoothed), MixupConfig("cross_modal")
    trainer = ENTRY_POINTS[entry_point](model, arguments(max_steps=1), config, train_dataset=examples("clip", 4))
    with pytest.raises(RuntimeError, match=r"label_smoothing=0\.1"):
        trainer.train()
