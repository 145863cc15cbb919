"""The adversary that learns: what it may do, what it learns from, when it steps, and how it is saved."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import Trainer

from hf_mixup import Mixup, MixupCollator, MixupConfig
from tests.conftest import CLASSES, batch_of, build, examples
from tests.entry_points import ENTRY_POINTS
from tests.kill import Kill, Killed
from tests.methods.attacks import logits, logits_at

NETWORK = {"method": "adversarial", "attack": "network"}


def learner_of(mixup: Mixup) -> Any:
    return mixup.method.learner  # type: ignore[attr-defined]


def copied(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


class Sums(nn.Module):
    """A model of inputs of any shape."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(2))

    def forward(self, **inputs: Tensor) -> Any:
        (x,) = (each for each in inputs.values() if each.is_floating_point())
        return {"logits": x.float().flatten(1).sum(1, keepdim=True) * self.scale}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("key", "shape"),
    [
        ("pixel_values", (3, 9, 8)),
        ("input_features", (7, 5)),
        ("input_features", (1, 6, 5)),
        ("pixel_values", (2, 3, 6, 5)),
    ],
)
def test_inputs_move_no_further_than_epsilon(key: str, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    batch = {key: torch.rand(4, *shape).to(dtype), "labels": torch.tensor([0, 1, 1, 0])}
    config = {**NETWORK, "epsilon": 0.25, "attack_range": [0.0, 1.0], "self_check": False}
    with Mixup(config)(Sums(), batch) as mixed:
        clean, moved = mixed.inputs[key].detach().chunk(2)
    assert moved.dtype == dtype
    assert moved.shape == clean.shape
    assert torch.equal(clean, batch[key])
    assert 0 <= moved.min() <= moved.max() <= 1
    away = (moved.float() - clean.float()).abs().flatten(1)
    assert (away.amax(1) <= 0.25 * (1 + (0.02 if dtype == torch.bfloat16 else 1e-6))).all()
    assert (away.mean(1) > 0.05).all()  # it uses what it may


def test_embeddings_move_within_a_ball_and_padding_stays() -> None:
    model, batch = build("bert"), batch_of("bert", lengths=True)
    with Mixup({**NETWORK, "epsilon": 0.5})(model, batch) as mixed:
        pass
    shift = mixed.draw.points["input_ids"][0].detach()
    assert (shift[batch["attention_mask"] == 0] == 0).all()
    length = shift.flatten(1).norm(dim=1)
    assert (length <= 0.5).all()
    assert (length > 0.1).all()


@pytest.mark.parametrize("name", ["vit", "bert"])
def test_both_gradients_are_those_of_the_loss_at_the_moved_samples(name: str) -> None:
    """The model's is that of the loss; the network's is minus that of what the loss makes of its proposal."""
    model, batch = build(name).double().eval(), batch_of(name, lengths=True)
    if name == "vit":
        batch["pixel_values"] = batch["pixel_values"].double()
    mixup = Mixup({**NETWORK, "epsilon": 0.3, "clean_weight": 0.4})
    mixup(model, batch)  # makes the network
    network = learner_of(mixup).network.double()
    with mixup(model, batch) as mixed:
        outputs = model(**mixed.inputs)
    mixed.loss(outputs).backward()
    found = [each.grad for each in model.parameters()]
    learnt = [each.grad for each in network.parameters()]

    told = F.one_hot(batch["labels"], CLASSES).double()
    if name == "vit":
        moved = batch["pixel_values"] + 0.3 * network(batch["pixel_values"], told).tanh()
    else:
        words, mask = model.get_input_embeddings()(batch["input_ids"]), batch["attention_mask"][..., None].bool()
        values = network(words.detach(), told, mask) * mask
        moved = words + 0.3 * values / (1 + values.square().sum((1, 2), keepdim=True)).sqrt()
    term = F.cross_entropy(logits_at(model, batch, moved), batch["labels"])
    loss = 0.4 * F.cross_entropy(logits(model, batch), batch["labels"]) + 0.6 * term
    expected = torch.autograd.grad(loss, list(model.parameters()), retain_graph=True, allow_unused=True)
    for mine, theirs in zip(found, expected, strict=True):
        if theirs is not None:
            torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-8)
    for mine, theirs in zip(learnt, torch.autograd.grad(-0.6 * term, list(network.parameters())), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("name", ["resnet", "bert"])
def test_it_learns_to_raise_the_loss_more_than_noise_does(name: str) -> None:
    model, batch = build(name).eval(), batch_of(name, rows=12)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)  # the model stays, and its steps are steps
    mixup = Mixup({**NETWORK, "epsilon": 0.5, "attack_learning_rate": 0.01})
    for _ in range(40):
        with mixup(model, batch) as mixed:
            outputs = model(**mixed.inputs)
        mixed.loss(outputs).backward()
        optimizer.step()
        optimizer.zero_grad()
    moved = F.cross_entropy(outputs.logits[12:].detach(), batch["labels"])
    rng, noisy = torch.Generator().manual_seed(0), []
    with torch.no_grad():
        start = batch["pixel_values"] if name == "resnet" else model.get_input_embeddings()(batch["input_ids"])
        for _ in range(20):
            noise = torch.randn(start.shape, generator=rng)
            noise = noise.sign() if name == "resnet" else noise / noise.flatten(1).norm(dim=1)[:, None, None]
            noisy.append(F.cross_entropy(logits_at(model, batch, start + 0.5 * noise), batch["labels"]))
    clean = F.cross_entropy(logits(model, batch), batch["labels"])
    assert moved - clean > 1.5 * (max(noisy) - clean)
    assert moved > clean


def stepped(model: Any, optimizer: Any, mixup: Mixup, batches: list[dict[str, Tensor]], items: int) -> None:
    for batch in batches:
        with mixup(model, batch) as mixed:
            outputs = model(**mixed.inputs)
        mixed.loss(outputs, items).backward()
    optimizer.step()
    optimizer.zero_grad()


@pytest.mark.parametrize("optim", [{}, {"fused": True}])
def test_accumulated_batches_make_one_step(optim: dict[str, Any]) -> None:
    whole = batch_of("vit", rows=8)
    halves = [{key: value[part] for key, value in whole.items()} for part in (slice(4), slice(4, 8))]
    ends = []
    for batches in ([whole], halves):
        model, mixup = build("vit"), Mixup(NETWORK)
        optimizer, unrelated = torch.optim.AdamW(model.parameters(), **optim), torch.optim.SGD([torch.ones(1)])
        mixup(model, whole)
        before = copied(learner_of(mixup).network)
        for _ in range(3):
            stepped(model, optimizer, mixup, batches, items=8)
        assert learner_of(mixup).optimizer.state_dict()["state"][0]["step"] == 3
        unrelated.step()
        assert learner_of(mixup).optimizer.state_dict()["state"][0]["step"] == 3
        ends.append(copied(learner_of(mixup).network))
        assert any(not torch.equal(before[name], value) for name, value in ends[-1].items())
    for name, value in ends[0].items():
        torch.testing.assert_close(ends[1][name], value, rtol=1e-3, atol=1e-5)


def test_a_gradient_that_is_not_finite_teaches_nothing() -> None:
    model, batch, mixup = build("vit"), batch_of("vit"), Mixup(NETWORK)
    with mixup(model, batch) as mixed:
        outputs = model(**mixed.inputs)
    (mixed.loss(outputs) * torch.inf).backward()
    before = copied(learner_of(mixup).network)
    mixup.learning.step()
    assert all(torch.equal(value, before[name]) for name, value in learner_of(mixup).network.state_dict().items())


def test_its_first_weights_follow_from_the_seed_alone() -> None:
    model, batch, found = build("vit"), batch_of("vit"), []
    for seed in (1, 1, 2):
        torch.manual_seed(len(found))
        state, mixup = torch.get_rng_state(), Mixup({**NETWORK, "draw_seed": seed})
        mixup(model, batch)
        assert torch.equal(torch.get_rng_state(), state)
        found.append(learner_of(mixup).network.down.weight)
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


TRAINED = {
    "save_strategy": "steps",
    "save_steps": 2,
    "max_steps": 4,
    "gradient_accumulation_steps": 2,
    "optim": "sgd",
    "lr_scheduler_type": "constant",
    "max_grad_norm": 0.0,
    "train_sampling_strategy": "sequential",
}


@pytest.fixture(scope="module")
def loop() -> list[Tensor]:
    """The weights that a loop of one's own ends with, which was stopped and taken up again in its middle."""
    batches, model = list(torch.utils.data.DataLoader(examples("resnet", 16), batch_size=4)), build("resnet")
    optimizer, mixup = torch.optim.SGD(model.parameters(), lr=1e-2), Mixup({**NETWORK, "draw_seed": 42})
    for step in range(4):
        stepped(model.train(), optimizer, mixup, batches[2 * (step % 2) :][:2], items=8)
        if step == 1:
            state = pickle.loads(pickle.dumps(mixup.state_dict()))
            mixup = Mixup({**NETWORK, "draw_seed": 42})
            mixup.load_state_dict(state)
    return [each.detach() for each in model.parameters()]


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_every_entry_point_trains_alike_and_goes_on_where_it_was_killed(
    entry_point: str, arguments: Any, loop: list[Tensor]
) -> None:
    args = arguments(**TRAINED)

    def trainer(**kwargs: Any) -> Trainer:
        data = examples("resnet", 16)
        return ENTRY_POINTS[entry_point](build("resnet"), args, MixupConfig(NETWORK), train_dataset=data, **kwargs)

    whole = trainer()
    whole.train()
    for mine, theirs in zip(whole.model.parameters(), loop, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)
    with pytest.raises(Killed):
        trainer(callbacks=[Kill(3)]).train()
    resumed = trainer()
    resumed.train(resume_from_checkpoint=f"{args.output_dir}/checkpoint-2")
    assert all(map(torch.equal, resumed.model.parameters(), whole.model.parameters()))
    whole.save_model(f"{args.output_dir}/end")
    assert not (Path(args.output_dir) / "end" / "mixup_learnt.pt").exists()  # of no use to who predicts


def test_without_its_state_it_begins_anew_and_says_so(arguments: Any) -> None:
    args = arguments(**TRAINED)
    plain = Trainer(build("resnet"), args, train_dataset=examples("resnet", 16))
    plain.train()
    resumed = ENTRY_POINTS["trainer"](build("resnet"), args, MixupConfig(NETWORK), train_dataset=examples("resnet", 16))
    with pytest.warns(UserWarning, match="mixup_learnt.pt is not there: the network of the method begins anew"):
        resumed.train(resume_from_checkpoint=f"{args.output_dir}/checkpoint-2")


def test_copies_begin_anew() -> None:
    model, batch = build("vit"), batch_of("vit")
    collator = MixupCollator(mixup=NETWORK, model=model)
    loss = model(**batch).loss
    loss.backward()
    assert learner_of(collator.mixup) is not None
    for made in (copy.deepcopy(collator.mixup.config), pickle.loads(pickle.dumps(collator)).mixup.config):
        assert made == collator.mixup.config
        assert made.mixing.learner is None
    collator.remove()


@pytest.mark.parametrize("by", ["mixup", "cutmix", "manifold"])
def test_it_learns_through_what_is_mixed(by: str) -> None:
    model, batch = build("vit"), batch_of("vit")
    mixup = Mixup({**NETWORK, "method": "interpolated_adversarial", "by": by})
    with mixup(model, batch) as mixed:
        outputs = model(**mixed.inputs)
    mixed.loss(outputs).backward()
    assert all(each.grad.abs().sum() > 0 for each in learner_of(mixup).network.parameters())


@pytest.mark.parametrize("name", ["resnet", pytest.param("bert", marks=pytest.mark.slow)])
def test_mixed_precision_and_compiled_models(name: str) -> None:
    model, batch, mixup = build(name), batch_of(name), Mixup(NETWORK)
    mixup.prepare(model)
    compiled = torch.compile(model, backend="eager" if name == "resnet" else "aot_eager")
    with torch.autocast("cpu", torch.bfloat16), mixup(compiled, batch) as mixed:
        loss = mixed.loss(compiled(**mixed.inputs))
    loss.backward()
    assert loss.dtype == torch.float32
    assert {each.dtype for each in learner_of(mixup).network.parameters()} == {torch.float32}
    own = learner_of(mixup).gradient().clone()
    learner_of(mixup).optimizer.zero_grad()
    model.zero_grad()
    with mixup(model, batch) as mixed:
        mixed.loss(model(**mixed.inputs)).backward()
    assert F.cosine_similarity(own, learner_of(mixup).gradient(), dim=0) > 0.9


def test_off_makes_no_network() -> None:
    for off in ({"epsilon": 0.0}, {"prob": 0.0}, {"attack": "fgsm"}):
        mixup = Mixup({**NETWORK, **off, "class_weights": [1.0] * CLASSES})
        with mixup(build("vit"), batch_of("vit")) as mixed:
            pass
        assert learner_of(mixup) is None
        assert mixup.state_dict()["learning"] == []
        assert not any(value.requires_grad for value in mixed.inputs.values())


def test_what_it_cannot_read_is_refused() -> None:
    model, batch = Sums(), {"input_values": torch.rand(2, 9), "labels": torch.tensor([0, 1])}
    with pytest.raises(ValueError, match=r"input_values is \[2, 9\]: use attack='fgsm' or 'pgd'"):
        Mixup({**NETWORK, "self_check": False})(model, batch)
    batch = {"one": torch.rand(2, 3, 4), "other": torch.rand(2, 3, 4), "labels": torch.tensor([0, 1])}
    with pytest.raises(ValueError, match="one, other: name one in keys"):
        Mixup({**NETWORK, "self_check": False})(model, batch)
