"""Models that write a text for audio or an image: one pass of the encoder, the decoder once with each text."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend
from torch.nn import functional as F

from hf_mixup import Mixup, MixupConfig
from hf_mixup.models.inputs import decoder_inputs
from hf_mixup.models.masks import masks_of_floats
from hf_mixup.testing.batches import tiny
from tests.entry_points import ENTRY_POINTS
from tests.recordings import recogniser, recordings
from tests.writers import WRITERS, make, whisper

TWO: dict[str, Any] = {"method": "mixup", "decoder": "two"}
SWAPPED, CHOSEN = torch.tensor([1, 0, 3, 2]), torch.tensor([1, 0, 0, 2])


def by_hand(model: Any, batch: dict[str, Tensor], partner: Tensor, lam: Tensor) -> Tensor:
    """lam * CE(own text) + (1 - lam) * CE(partner's), each the mean over the tokens of all texts; in double precision.

    The two texts are decoded by passes of their own, encoder included.
    """
    model, (key, sound) = model.double(), next(iter(batch.items()))
    share = lam.double().reshape(-1, *[1] * (sound.dim() - 1))
    given = {name: value for name, value in batch.items() if name != "labels"}
    given |= masks_of_floats(given, partner, lam)
    given[key] = share * sound.double() + (1 - share) * sound[partner].double()
    total = torch.zeros((), dtype=torch.float64)
    for labels, weight in ((batch["labels"], lam.double()), (batch["labels"][partner], 1 - lam.double())):
        logits = model(**given, decoder_input_ids=decoder_inputs(model, labels), use_cache=False).logits
        each = F.cross_entropy(logits.transpose(1, 2), labels, reduction="none")
        total = total + (weight[:, None] * each).sum() / (labels >= 0).sum()
    return total


@pytest.mark.parametrize("build", WRITERS, ids=lambda build: build.__name__)
def test_it_is_two_passes_by_hand(build: Any) -> None:
    model, batch = make(build)
    mixup = Mixup(TWO)
    for partner, lam in ((SWAPPED, torch.tensor([0.3, 0.8, 1.0, 0.0])), (CHOSEN, torch.full((4,), 0.3))):
        with mixup(model, batch, partner=partner, lam=lam) as mixed:
            found = mixed.loss(model(**mixed.inputs))
        expected = by_hand(make(build)[0], batch, partner, lam)
        torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-5)


def test_a_class_of_ones_own_shifts_texts_as_its_base_does() -> None:
    """So does the class that FSDP2 makes of a model's, which lies in a module of torch."""
    model, batch = make(whisper)
    expected = decoder_inputs(model, batch["labels"])
    model.__class__ = type("Mine", (type(model),), {"__module__": __name__})
    assert torch.equal(decoder_inputs(model, batch["labels"]), expected)
    assert torch.equal(expected[:, 1:], batch["labels"][:, :-1].clamp(min=0))  # the padding is token 0


@pytest.mark.parametrize("decoder", ["two", "blend"])
@pytest.mark.parametrize("build", WRITERS, ids=lambda build: build.__name__)
def test_the_ends_are_the_models_own_loss(build: Any, decoder: str) -> None:
    model, batch = make(build)
    for lam, plain in ((1.0, batch), (0.0, {key: value[CHOSEN] for key, value in batch.items()})):
        with Mixup({**TWO, "decoder": decoder})(model, batch, partner=CHOSEN, lam=lam) as mixed:
            found = mixed.loss(model(**mixed.inputs))
        torch.testing.assert_close(found, model(**plain).loss, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("build", WRITERS, ids=lambda build: build.__name__)
def test_one_pass_of_the_encoder_two_of_the_decoder(build: Any) -> None:
    model, batch = make(build)
    mixup, rows = Mixup(TWO), []
    mixup(model, batch).__enter__().__exit__(None, None, None)  # tries model and loss
    layer = next(each for each in model.get_encoder().modules() if isinstance(each, torch.nn.ModuleList))[-1]
    layer.register_forward_hook(lambda _, args, out: rows.append(len(out[0] if isinstance(out, tuple) else out)))
    with mixup(model, batch) as mixed:
        outputs = model(**mixed.inputs)
    assert rows == [4]
    assert len(outputs.logits) == 8
    model(**batch)
    assert rows == [4, 4]  # plain again


def test_gradients_are_those_by_hand() -> None:
    model, batch = make(whisper)
    lam = torch.tensor([0.3, 0.8, 0.6, 0.1])
    with Mixup(TWO)(model, batch, partner=SWAPPED, lam=lam) as mixed:
        mixed.loss(model(**mixed.inputs)).backward()
    other = make(whisper)[0]
    by_hand(other, batch, SWAPPED, lam).backward()
    for mine, theirs in zip(model.parameters(), other.parameters()):
        if theirs.grad is not None:
            torch.testing.assert_close(mine.grad.double(), theirs.grad, rtol=1e-3, atol=1e-6)


def test_an_encoder_that_its_hooks_do_not_see_runs_on_both(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = make(whisper)
    plain = type(model.get_encoder()).forward
    monkeypatch.setattr(type(model.get_encoder()), "__call__", plain)
    with Mixup(TWO)(model, batch, partner=SWAPPED, lam=0.3) as mixed:
        found = mixed.loss(model(**mixed.inputs))
    expected = by_hand(make(whisper)[0], batch, SWAPPED, torch.full((4,), 0.3))
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-5)


def test_compiled_models_mix_and_do_not_recompile() -> None:
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("eager")
    model, batch = make(whisper)
    mixup = Mixup({**TWO, "lam_per": "sample"})
    mixup.prepare(model)
    compiled, frames = torch.compile(model, backend=counter), 0
    for step in range(5):
        with mixup(compiled, batch) as mixed:
            found = mixed.loss(compiled(**mixed.inputs))
        expected = by_hand(make(whisper)[0], batch, mixed.partner, mixed.lam)
        torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-5)
        both = {key: torch.cat([value, value.flip(0)]) for key, value in batch.items()}  # as large, and not mixed
        torch.testing.assert_close(compiled(**both).loss, model(**batch).loss, rtol=1e-4, atol=1e-5)
        frames = counter.frame_count if step == 2 else frames
    assert counter.frame_count == frames
    torch._dynamo.reset()


def test_a_teacher_hears_the_blend_and_reads_both_texts() -> None:
    """A teacher that is the model itself: distillation alone has no loss."""
    model, batch = make(whisper)
    mixup = Mixup({**TWO, "distill_weight": 1.0, "distill_temperature": 1.0}, teacher=make(whisper)[0])
    with mixup(model, batch, partner=SWAPPED, lam=0.3) as mixed:
        assert float(mixed.loss(model(**mixed.inputs))) == pytest.approx(0, abs=1e-4)


def test_a_sample_alone_has_its_own_loss() -> None:
    model, batch = make(whisper)
    one = {key: value[:1] for key, value in batch.items()}
    with Mixup(TWO)(model, one) as mixed:
        found = mixed.loss(model(**mixed.inputs))
    torch.testing.assert_close(found, model(**one).loss, rtol=1e-4, atol=1e-5)


def test_other_models_are_refused() -> None:
    message = r"decoder='two' is for encoder-decoders that write a text for audio or an image"
    with pytest.raises(ValueError, match=message):
        Mixup(TWO)(*tiny("image-classification", "vit")).__enter__()
    batch = {key: torch.stack([row[key] for row in recordings(4)]) for key in ("input_values", "labels")}
    with pytest.raises(ValueError, match=message):
        Mixup(TWO)(recogniser(), batch).__enter__()


def rows_of(count: int) -> list[dict[str, Tensor]]:
    torch.manual_seed(5)
    made = []
    for row in range(count):
        labels = torch.randint(5, 60, (6,))
        labels[2 + row % 5 :] = -100
        made.append({"input_features": torch.randn(8, 40), "labels": labels})
    return made


def trained(entry_point: str, arguments: Any, rows: int, **settings: Any) -> Any:
    args = arguments(
        per_device_train_batch_size=rows,
        gradient_accumulation_steps=8 // rows,
        optim="sgd",
        num_train_epochs=2,
        train_sampling_strategy="sequential",
        learning_rate=0.1,
        logging_strategy="steps",
        logging_steps=1,
    )
    model = make(whisper)[0]
    config = MixupConfig("mixup", decoder="two", **settings)
    trainer = ENTRY_POINTS[entry_point](model, args, config, train_dataset=rows_of(8))
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry], model.state_dict()


def test_all_entry_points_do_the_same(arguments: Any) -> None:
    settings = {"lam_per": "sample", "prob": 0.7, "prob_per": "sample"}
    found = {name: trained(name, arguments, 8, **settings) for name in ("trainer", "adopted", "callback")}
    for losses, weights in found.values():
        assert losses == pytest.approx(found["trainer"][0], rel=1e-5)
        torch.testing.assert_close(weights, found["trainer"][1])
    assert len(trained("collator", arguments, 8, **settings)[0]) == 2  # its draws have other keys


@pytest.mark.parametrize("entry_point", ["trainer", "collator", "callback"])
def test_micro_batches_equal_the_large_batch(entry_point: str, arguments: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hf_mixup.methods.base.pair", lambda n, **_: torch.arange(n) ^ 1)
    whole, parts = (trained(entry_point, arguments, rows, lam=0.3) for rows in (8, 2))
    assert parts[0] == pytest.approx(whole[0], rel=1e-4)
    torch.testing.assert_close(parts[1], whole[1], rtol=1e-4, atol=1e-5)
