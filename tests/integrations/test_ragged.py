"""Images of several sizes, whose patches lie in one tensor: every way to train does the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import hf_mixup.methods.base
from hf_mixup import Mixup, MixupConfig
from tests import ragged_models
from tests.conftest import build
from tests.entry_points import ENTRY_POINTS
from tests.scripts.cases import neighbours

SMALL: dict[str, Any] = {"optim": "sgd", "gradient_accumulation_steps": 2, "max_steps": 3, "max_grad_norm": 0.0}


def train(entry_point: str, name: str, args: Any, config: MixupConfig, **resume: Any) -> Tensor:
    data: dict[str, Any] = {"train_dataset": ragged_models.rows(name, 32), "data_collator": ragged_models.collate}
    trainer = ENTRY_POINTS[entry_point](build(name), args, config, **data)
    trainer.train(**resume)
    return weights(trainer.model)


def weights(model: Any) -> Tensor:
    return torch.cat([each.detach().flatten() for each in model.parameters()])


@pytest.mark.parametrize("name", ragged_models.BUILD)
def test_every_entry_point_trains_alike(name: str, arguments: Any) -> None:
    start, config = weights(build(name)), MixupConfig("mixup")
    ends = {each: train(each, name, arguments(**SMALL), config) for each in ENTRY_POINTS}
    for end in ends.values():
        torch.testing.assert_close(end, ends["trainer"], rtol=0, atol=1e-6)
    off = train("trainer", name, arguments(**SMALL), MixupConfig("mixup", alpha=0.0))
    assert (off - start).abs().max() > 1e-4
    assert (off - ends["trainer"]).abs().max() > 1e-5


@pytest.mark.parametrize("name", ["qwen2_vl_pages", "pixtral"])
def test_a_step_in_parts_is_the_step_of_a_loop(name: str, arguments: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against a loop over whole batches: rows 2i and 2i + 1 are blended, however the batch is split."""
    monkeypatch.setattr(hf_mixup.methods.base, "pair", neighbours)
    config = MixupConfig("mixup", lam=0.3)
    settings = {**SMALL, "train_sampling_strategy": "sequential", "lr_scheduler_type": "constant", "weight_decay": 0.0}
    found = train("callback", name, arguments(**settings), config)
    model, mixup, rows = build(name).train(), Mixup(config), ragged_models.rows(name, 32)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    for step in range(3):
        with mixup(model, ragged_models.collate(rows[8 * step : 8 * step + 8])) as mixed:
            mixed.loss(model(**mixed.inputs)).backward()
        optimizer.step()
        optimizer.zero_grad()
    torch.testing.assert_close(found, weights(model), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("entry_point", "name"), [("trainer", "qwen2_vl_pages"), ("callback", "siglip2")])
def test_a_resumed_run_ends_where_it_would_have(entry_point: str, name: str, arguments: Any, tmp_path: Path) -> None:
    args, config = arguments(**SMALL, save_strategy="steps", save_steps=2), MixupConfig("mixup")
    whole = train(entry_point, name, args, config)
    resumed = train(entry_point, name, args, config, resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-2"))
    assert torch.equal(whole, resumed)


def test_an_image_of_a_size_of_its_own_stays_as_it_is() -> None:
    rows = ragged_models.rows("siglip2", 3)
    mixup, model = Mixup("mixup"), build("siglip2")
    assert {tuple(mixup(model, ragged_models.collate(rows)).partner.tolist()) for _ in range(8)} == {(1, 0, 2)}
