"""Intra-LADA: tokens of one text blended with each other, against the same by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import BertForTokenClassification, PreTrainedConfig

from hf_mixup import Mixup, MixupConfig, MixupTrainer
from hf_mixup.methods.intra import shuffled
from hf_mixup.utils.constants import IGNORE_INDEX
from tests.conftest import batch_of, build
from tests.methods.texts import TAGGERS, tagged, tagger


def shuffle_by_hand(states: Tensor, places: Tensor, lam: Tensor) -> Tensor:
    """Blend each state [B, T, H] with that of the position named, one at a time."""
    out = states.clone()
    for row in range(len(states)):
        for place in range(states.shape[1]):
            if places[row, place] >= 0:
                out[row, place] = lam[row] * states[row, place] + (1 - lam[row]) * states[row, places[row, place]]
    return out


@pytest.mark.parametrize("config", TAGGERS, ids=lambda config: config.model_type)
def test_intra_is_a_shuffle_of_the_last_states(config: PreTrainedConfig) -> None:
    model, batch = tagger(config), tagged()
    lam = torch.tensor([0.3, 0.0, 0.8, 1.0])
    with Mixup("intra")(model, batch, lam=lam) as mixed:
        outputs = model(**mixed.inputs)
        loss = mixed.loss(outputs)
    places = mixed.draw.positions
    assert places is not None
    seen: list[Tensor] = []
    handle = model.classifier.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    model(batch["input_ids"], attention_mask=batch["attention_mask"])
    handle.remove()
    logits = model.classifier(shuffle_by_hand(seen[0], places, lam.double()))
    torch.testing.assert_close(outputs.logits, logits)
    total, labels = torch.zeros((), dtype=torch.float64), batch["labels"]
    for row in range(len(labels)):
        for place in range(labels.shape[1]):
            if labels[row, place] == IGNORE_INDEX:
                continue
            scores = logits[row, place].log_softmax(-1)
            other = labels[row, places[row, place]] if places[row, place] >= 0 else labels[row, place]
            total -= lam[row] * scores[labels[row, place]] + (1 - lam[row]) * scores[other]
    torch.testing.assert_close(loss, total / (labels != IGNORE_INDEX).sum())


def test_intra_at_a_depth_goes_through_the_blocks_above() -> None:
    model, batch = tagger(), tagged()
    lam = torch.tensor([0.3, 0.5, 0.8, 0.2])
    with Mixup(MixupConfig("intra", layers=[1]))(model, batch, lam=lam) as mixed:
        found = model(**mixed.inputs).logits
    places = mixed.draw.positions
    assert places is not None

    def shuffle(module: nn.Module, args: Any, output: Any) -> Any:
        states = output[0] if isinstance(output, tuple) else output
        states = shuffle_by_hand(states, places, lam.double())
        return (states, *output[1:]) if isinstance(output, tuple) else states

    handle = model.bert.encoder.layer[0].register_forward_hook(shuffle)
    expected = model(batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    handle.remove()
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("settings", [{}, {"alpha": 60.0, "beta": 1.5}, {"alpha": 0.3, "lam_per": "sample"}], ids=str)
def test_intra_keeps_the_larger_half_of_each_token(settings: dict[str, Any]) -> None:
    """As LADA's code folds lam; a lam that is given is taken as it is."""
    model, batch, found = tagger(), tagged(), []
    mixup = Mixup(MixupConfig("intra", **settings))
    for _ in range(40):
        with mixup(model, batch) as mixed:
            found.append(mixed.lam)
    lam = torch.cat(found)
    assert lam.min() >= 0.5
    assert lam.max() <= 1
    assert lam.std() > 0.001
    with Mixup(MixupConfig("intra", lam=0.2))(model, batch) as mixed:
        assert (mixed.lam == torch.tensor(0.2)).all()


@pytest.mark.parametrize("seed", range(5))
def test_intra_moves_labelled_tokens_in_one_cycle(seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    chosen = torch.rand(8, 11, generator=rng) < 0.6
    chosen[0], chosen[1, 1:], chosen[1, 0] = False, False, True
    places = shuffled(chosen, rng)
    assert (places[~chosen] == -1).all()
    assert places[1, 0] == 0  # alone
    for row in range(2, 8):
        mine = chosen[row].nonzero().flatten().tolist()
        at, seen = mine[0], []
        while at not in seen:
            seen.append(at)
            at = int(places[row, at])
        assert sorted(seen) == mine


def test_intra_draws_every_order() -> None:
    rng = torch.Generator().manual_seed(0)
    drawn = shuffled(torch.ones(6000, 4, dtype=torch.bool), rng)
    cycles, counts = drawn.unique(dim=0, return_counts=True)
    assert len(cycles) == 6
    assert counts.min() > 850


def test_intra_trains_and_refuses_one_label_a_sample(arguments: Any) -> None:
    model = BertForTokenClassification(TAGGERS[0])
    data = [{key: value[row] for key, value in tagged().items()} for row in range(4)]
    trainer = MixupTrainer(model, arguments(max_steps=3, logging_steps=1), mixup="intra", train_dataset=data)
    assert trainer.train().training_loss > 0
    with pytest.raises(ValueError, match=r"needs a label for each, found labels \[6\]"):
        Mixup("intra")(build("bert"), batch_of("bert"))
