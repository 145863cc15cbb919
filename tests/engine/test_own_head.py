"""Heads with an objective of their own: the encoder runs once, and the head once with each label."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as tr

from hf_mixup import Mixup, MixupConfig
from hf_mixup.models.replay import encoder_of
from tests import heads, streams
from tests.engine.test_own_loss import PARTNER, doubled, losses_of, samples, scored, train
from tests.entry_points import ENTRY_POINTS

Build = Callable[[], tuple[Any, streams.Batch]]


def transducer() -> tuple[Any, streams.Batch]:
    """A transcript that is aligned with the frames, which a part of the model reads."""
    encoder = {**streams.SMALL, "num_mel_bins": 16, "subsampling_conv_channels": 4, "subsampling_factor": 4}
    sizes = {"decoder_hidden_size": 8, "joint_hidden_size": 8, "num_decoder_layers": 1, "vocab_size": 20}
    tokens = {"pad_token_id": 0, "blank_token_id": 19, "durations": [0, 1, 2]}
    config = tr.ParakeetTDTConfig(encoder_config=encoder, **sizes, **tokens)
    texts = torch.randint(1, 19, (4, 4))
    heard = {"input_features": streams.pixels(32, 16), "attention_mask": torch.ones(4, 32, dtype=torch.long)}
    before = torch.cat([torch.full((4, 1), 19), texts], 1)
    return tr.ParakeetForTDT(config), {**heard, "labels": texts, "decoder_input_ids": before}


@pytest.mark.parametrize("build", [*heads.OBJECTIVES, transducer], ids=lambda build: build.__name__)
def test_it_is_what_two_whole_passes_give_with_one_of_the_encoder(build: Build) -> None:
    """Loss and gradients in training mode, dropout included."""
    model, batch = streams.make(build)
    settings = {"method": "manifold" if "input_ids" in batch else "mixup"}
    found = scored(deepcopy(model), batch, settings)
    wanted = scored(deepcopy(model), batch, {**settings, "loss": "own", "self_check": False})
    assert found[0] == pytest.approx(wanted[0], rel=1e-6)
    assert (found[1] - wanted[1]).norm() < 1e-5 * wanted[1].norm()
    mixup, calls = Mixup(settings), []
    mixup(model, batch)  # which is tried first
    encoder = encoder_of(model)
    assert encoder is not None
    next(encoder.children()).register_forward_hook(lambda *given: calls.append(1))
    with mixup(model, batch, partner=PARTNER, lam=0.3) as mixed:
        mixed.loss(mixed.forward(model)).backward()
    assert calls == [1]


def test_words_and_sentences_weigh_both_samples_labels() -> None:
    """BERT's two losses on samples that read alike, in float64: plain passes with either labels, weighted by lam."""
    model, batch = doubled(*streams.make(heads.bert_pretraining))
    alike = {key: value[:1].expand(4, *value.shape[1:]) for key, value in batch.items() if "label" not in key}
    labels = {key: value for key, value in batch.items() if "label" in key}
    others = {key: value[PARTNER] for key, value in labels.items()}
    wanted = 0.3 * model(**alike, **labels).loss + 0.7 * model(**alike, **others).loss
    with Mixup("mixup")(model, {**batch, **labels}, partner=PARTNER, lam=0.3):
        pass  # tried on samples that differ
    lam = torch.tensor(0.3, dtype=torch.float64)
    with Mixup("mixup")(model, {**alike, **labels}, partner=PARTNER, lam=lam) as mixed:
        found = mixed.loss(model(**mixed.inputs))
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=0)


def test_a_batch_without_all_labels_of_the_objective_is_mixed_as_ever() -> None:
    model, batch = streams.make(heads.bert_pretraining)
    del batch["next_sentence_label"]
    with Mixup("embedding")(model, batch, partner=PARTNER, lam=0.0) as mixed:
        found = mixed.loss(model(**mixed.inputs))
    logits = model(**{key: value[PARTNER] for key, value in batch.items() if key != "labels"}).prediction_logits
    wanted = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch["labels"][PARTNER].flatten())
    torch.testing.assert_close(found, wanted)


def test_one_lam_for_the_batch() -> None:
    model, batch = streams.make(heads.electra_pretraining)
    with pytest.raises(ValueError, match=r"lam differs .* weighed by one lam .* \(lam_per='batch'\)"):
        Mixup({"method": "mixup", "lam_per": "sample"})(model, batch)


@pytest.mark.parametrize("entry_point", [name for name in ENTRY_POINTS if name != "trainer"])
def test_all_entry_points_train_alike(entry_point: str, tmp_path: Path) -> None:
    model, batch = streams.make(heads.bert_pretraining)
    other, config = deepcopy(model), MixupConfig("mixup", lam=0.3, pairing="flip")
    found = losses_of(train(entry_point, model, tmp_path, config, samples(batch)))
    assert found == pytest.approx(losses_of(train("trainer", other, tmp_path, config, samples(batch))), rel=1e-6)
    torch.testing.assert_close(model.state_dict(), other.state_dict())


@pytest.mark.parametrize("build", heads.OBJECTIVES, ids=lambda build: build.__name__)
@pytest.mark.parametrize("method", ["sentence", "regmixup"])
def test_methods_that_mix_in_their_own_loss_are_refused(method: str, build: Build) -> None:
    """The model's loss with each label knows nothing of them: labels would be mixed, and the content would not."""
    model, batch = streams.make(build)
    with pytest.raises(ValueError, match=f"method '{method}' has a rule of its own for labels"):
        Mixup(method)(model, batch)
