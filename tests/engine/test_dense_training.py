"""Masks, depth and hidden parts in training: all entry points do the same, evaluate as ever, resume to the bit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import Trainer

from hf_mixup import Mixup, MixupCollator, MixupConfig, MixupTrainer
from hf_mixup.engine.schedule import Clock
from tests import dense_models, instance_models
from tests.entry_points import ENTRY_POINTS
from tests.kill import Kill, Killed

KINDS = ["mask2former", "oneformer", "glpn", "vit", "mae"]
TRAINED = ["mask2former", "glpn", "vit", "mae"]  # OneFormer's loss has shape [1], which the plain Trainer does not take
CASES = [
    *((kind, "mixup") for kind in KINDS),
    ("maskformer", "cutmix"),
    ("eomt", "mosaic"),
    ("glpn", "mosaic"),
    ("vit", "cutmix"),
]


def build(kind: str) -> Any:
    return instance_models.build(kind) if kind in instance_models.KINDS else dense_models.build(kind)


def rows_of(kind: str, count: int, seed: int = 1) -> list[dict[str, Any]]:
    if kind in instance_models.KINDS:
        batch = instance_models.instances(kind, count, seed, counts=(0, 2, 3, 1))
    else:
        batch = dense_models.images(kind, count, seed)
    return [dict(zip(batch, values)) for values in zip(*batch.values())]


def collate(rows: list[dict[str, Any]]) -> dict[str, Any]:
    lists = ("mask_labels", "class_labels")
    return {
        key: [row[key] for row in rows] if key in lists else torch.stack([row[key] for row in rows]) for key in rows[0]
    }


def start(entry_point: str, kind: str, args: Any, config: MixupConfig, count: int = 7, **further: Any) -> Trainer:
    """Make a Trainer; the last of its batches has one sample."""
    model, data = build(kind), {"train_dataset": rows_of(kind, count), "eval_dataset": rows_of(kind, 3, 5), **further}
    if entry_point == "collator":
        return Trainer(model, args, data_collator=MixupCollator(collate, config, model=model), **data)
    if entry_point == "adopted":
        return MixupTrainer(model, args, mixup=config, data_collator=MixupCollator(collate, config), **data)
    return ENTRY_POINTS[entry_point](model, args, config, data_collator=collate, **data)


def steps(**further: Any) -> dict[str, Any]:
    quiet = {"logging_strategy": "steps", "logging_steps": 1, "remove_unused_columns": False, "optim": "sgd"}
    return {**quiet, "per_device_train_batch_size": 3, "prediction_loss_only": True, "learning_rate": 1e-4, **further}


def weights(model: Any) -> dict[str, Tensor]:
    return {key: value.detach().clone() for key, value in model.state_dict().items()}


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let all entry points draw from the number of the batch."""
    count = [0]

    def tick(clock: Clock, alike: bool = False) -> torch.Generator:
        count[0] += 1
        return torch.Generator().manual_seed(count[0])

    monkeypatch.setattr(Clock, "tick", tick)
    return count


def loop(
    kind: str, batches: list[Any], config: MixupConfig, args: Any, loader: Any
) -> tuple[list[float], dict[str, Tensor]]:
    """Train in a loop of one's own, with gradients accumulated as the Trainer does."""
    model, mixup, losses = build(kind).train(), Mixup(config), []
    optimizer = torch.optim.SGD(model.parameters(), lr=args.learning_rate)
    parts = args.gradient_accumulation_steps
    for first in range(0, len(batches), parts):
        micro = batches[first : first + parts]
        for batch in micro:
            torch.manual_seed(3)
            with mixup(model, batch) as mixed:
                loss = mixed.loss(model(**mixed.inputs)) / len(micro)
            loss.backward()
            losses.append(loss.item())
        torch.nn.utils.clip_grad_norm_(model.parameters(), args.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
    mixup.clock.seed = args.seed
    mixup.refresh_batch_norm(model, loader)  # as a Trainer does when training ends
    return [sum(losses[first : first + parts]) for first in range(0, len(losses), parts)], weights(model)


@pytest.mark.parametrize(("kind", "method"), CASES)
def test_all_entry_points_train_alike(kind: str, method: str, arguments: Any, counted: list[int]) -> None:
    """Over micro-batches of three, three and one sample, two to a step."""
    args = arguments(**steps(gradient_accumulation_steps=2, lr_scheduler_type="constant"))
    config, ends, order = MixupConfig(method), {}, []
    for entry_point in ENTRY_POINTS:
        counted[0] = 0
        trainer = start(entry_point, kind, args, config)
        loader = trainer.get_train_dataloader()
        order = order or list(loader)
        before = weights(trainer.model)
        trainer.model.register_forward_pre_hook(lambda *_: torch.manual_seed(3) and None)  # of what a model draws
        trainer.train()
        logs = [each for each in trainer.state.log_history if "loss" in each]
        assert 0 < logs[0]["mixup_lam"] < 1
        assert logs[0]["mixup_rate"] == 1
        assert any(not torch.equal(value, before[key]) for key, value in weights(trainer.model).items())
        ends[entry_point] = [each["loss"] for each in logs], weights(trainer.model)
    counted[0] = 0
    ends["loop"] = loop(kind, order, config, args, loader)
    for losses, end in ends.values():
        assert losses == pytest.approx(ends["trainer"][0], rel=1e-5)
        torch.testing.assert_close(end, ends["trainer"][1], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
@pytest.mark.parametrize("kind", TRAINED)
def test_evaluation_never_mixes_and_off_is_the_plain_trainer(kind: str, entry_point: str, arguments: Any) -> None:
    # The plain Trainer multiplies a loss that it counted labels for in place, which GLPN's square root does not take.
    args = arguments(**steps(max_steps=1, average_tokens_across_devices=False))
    off = start(entry_point, kind, args, MixupConfig("mixup", prob=0.0))
    off.train()
    plain = Trainer(build(kind), args, train_dataset=rows_of(kind, 7), data_collator=collate)
    plain.train()
    torch.testing.assert_close(weights(off.model), weights(plain.model), rtol=0, atol=0)
    mixed = start(entry_point, kind, args, MixupConfig("mixup"))
    mixed.train()
    assert any(not torch.equal(value, weights(plain.model)[key]) for key, value in weights(mixed.model).items())
    mixed.model.load_state_dict(plain.model.state_dict())
    rows, found = collate(rows_of(kind, 3, 5)), []
    for trainer in (mixed, plain):
        torch.manual_seed(0)
        found.append(trainer.prediction_step(trainer.model.eval(), dict(rows), True)[0])
        with torch.no_grad():
            torch.manual_seed(0)
            found.append(trainer.model(**rows)["loss"].reshape(()))
    assert found[0] is None or found[0] == found[2]
    assert found[1] == found[3]


# transformers saves Mask2Former and ViTMAE under names that its own Trainer does not find again.
@pytest.mark.parametrize(
    ("kind", "entry_point"),
    [("mask2former", "trainer"), ("mae", "trainer"), *(("glpn", entry_point) for entry_point in ENTRY_POINTS)],
)
def test_a_killed_and_resumed_run_ends_the_same(kind: str, entry_point: str, arguments: Any) -> None:
    args = arguments(**steps(save_strategy="steps", save_steps=2, max_steps=4, gradient_accumulation_steps=2))
    config = MixupConfig("mixup", lam_per="sample", prob=0.7)
    whole = start(entry_point, kind, args, config, count=13)
    whole.train()
    with pytest.raises(Killed):
        start(entry_point, kind, args, config, count=13, callbacks=[Kill(3)]).train()
    resumed = start(entry_point, kind, args, config, count=13)
    resumed.train(resume_from_checkpoint=f"{args.output_dir}/checkpoint-2")
    torch.testing.assert_close(weights(resumed.model), weights(whole.model), rtol=0, atol=0)
