"""Gaussian noise around each sample, against loops that share no code with it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import (
    BartConfig,
    BartForSequenceClassification,
    BertConfig,
    BertForMultipleChoice,
    CanineConfig,
    CanineForSequenceClassification,
    Wav2Vec2Config,
    Wav2Vec2ForSequenceClassification,
    XLNetConfig,
    XLNetForSequenceClassification,
)

from hf_mixup import Mixup, MixupConfig
from hf_mixup.models.axes import visible_mask
from hf_mixup.models.noise import noisy, normal
from tests.conftest import CLASSES, batch_of, build


def logits(model: Any, batch: dict[str, Tensor]) -> Tensor:
    return model(**{key: value for key, value in batch.items() if key != "labels"}).logits


def test_noise_has_the_deviation_asked_for() -> None:
    batch = {"pixel_values": torch.randn(8, 3, 40, 33), "labels": torch.arange(8) % CLASSES}
    with Mixup({"method": "gaussian", "sigma": 0.3})(build("resnet"), batch) as mixed:
        noise = mixed.inputs["pixel_values"] - batch["pixel_values"]
    torch.testing.assert_close(noise.std(dim=(1, 2, 3)), torch.full((8,), 0.3), rtol=0.05, atol=0)
    assert noise.mean().abs() < 0.01
    rows = torch.corrcoef(noise.flatten(1))
    assert (rows - torch.eye(8)).abs().max() < 0.08  # each sample has its own
    assert mixed.rate == 1
    assert mixed.mean_lam == 1
    assert torch.equal(mixed.targets, F.one_hot(batch["labels"], CLASSES).float())


def test_inputs_have_noises_of_their_own() -> None:
    batch = {"one": torch.zeros(2, 50), "other": torch.zeros(2, 50), "labels": torch.tensor([0, 1])}
    with Mixup({"method": "gaussian", "self_check": False})(torch.nn.Linear(2, 2), batch) as mixed:
        assert (mixed.inputs["one"] != mixed.inputs["other"]).all()


@pytest.mark.parametrize("name", ["resnet", "vit", "bert", "distilbert"])
@pytest.mark.parametrize("prob_per", ["batch", "sample"])
def test_the_loss_is_the_models_own_on_noised_samples(name: str, prob_per: str) -> None:
    model, batch = build(name).eval(), batch_of(name, rows=5, lengths=True)
    mixup = Mixup({"method": "gaussian", "sigma": 0.5, "prob": 0.6, "prob_per": prob_per, "label_smoothing": 0.1})
    plain, left_alone, changed = logits(model, batch), 0, 0
    for _ in range(6):
        with mixup(model, batch) as mixed:
            outputs = model(**mixed.inputs)
        expected = F.cross_entropy(outputs.logits, batch["labels"], label_smoothing=0.1)
        torch.testing.assert_close(mixed.loss(outputs), expected)
        rows = mixed.draw.rows.tolist()
        assert mixed.rate == len(rows) / 5
        for row in range(5):
            same = torch.allclose(outputs.logits[row], plain[row], rtol=1e-5, atol=1e-6)
            assert same == (row not in rows)
            left_alone, changed = left_alone + same, changed + (not same)
        hits = (outputs.logits.argmax(-1) == batch["labels"]).float().mean()
        torch.testing.assert_close(mixed.accuracy(), hits)
    assert left_alone
    assert changed
    assert torch.equal(logits(model, batch), plain)  # no hook stays active


@pytest.mark.parametrize("name", ["bert", "distilbert"])
@pytest.mark.parametrize("masked", [True, False])
def test_noise_on_tokens_equals_adding_it_to_the_table_by_hand(name: str, masked: bool) -> None:
    model, batch = build(name).eval(), batch_of(name, lengths=True)
    if not masked:
        del batch["attention_mask"]
    read: list[Tensor] = []
    with Mixup({"method": "gaussian", "sigma": 0.7})(model, batch) as mixed:
        model.get_input_embeddings().register_forward_hook(lambda module, args, output: read.append(output))
        found = model(**mixed.inputs).logits
    noise = normal((6, 10, 16), torch.device("cpu"), torch.float32, mixed.draw.seed)
    embeds = model.get_input_embeddings()(batch["input_ids"]).detach().clone()
    for row in range(6):
        for place in range(10):
            if not masked or batch["attention_mask"][row, place]:
                embeds[row, place] += 0.7 * noise[row, place]
    torch.testing.assert_close(read[0], embeds)  # padding is as it was, though attention does not see it here
    expected = model(inputs_embeds=embeds, attention_mask=batch.get("attention_mask")).logits
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert (found - logits(model, batch)).abs().max() > 1e-2


SMALL = {"vocab_size": 60, "num_labels": CLASSES, "pad_token_id": 0}


def bart() -> Any:
    sizes = {"encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    return BartForSequenceClassification(BartConfig(d_model=16, eos_token_id=2, **sizes, **heads, **SMALL))


def xlnet() -> Any:
    return XLNetForSequenceClassification(XLNetConfig(d_model=16, n_layer=1, n_head=2, d_inner=16, **SMALL))


@pytest.mark.parametrize("make", [bart, xlnet])
def test_noise_reaches_models_with_another_layout_of_batches(make: Any) -> None:
    """With a large noise on some samples, their scores change and no others."""
    torch.manual_seed(0)
    model, batch = make().eval(), batch_of("bert")
    batch["input_ids"][:, -1] = 2
    plain, mixup = logits(model, batch), Mixup({"method": "gaussian", "sigma": 2.0, "prob": 0.5, "prob_per": "sample"})
    counts = set()
    for _ in range(4):
        with mixup(model, batch) as mixed:
            changed = ~torch.isclose(model(**mixed.inputs).logits, plain, rtol=1e-4, atol=1e-6).all(-1)
        assert changed.nonzero()[:, 0].tolist() == mixed.draw.rows.tolist()
        counts.add(len(mixed.draw.rows))
    assert counts & {1, 2, 3, 4, 5}


def test_padding_of_audios_stays_silent() -> None:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    convs = {"conv_dim": [8], "conv_kernel": [10], "conv_stride": [5], "num_feat_extract_layers": 1}
    model = Wav2Vec2ForSequenceClassification(
        Wav2Vec2Config(num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2, **sizes, **convs)
    ).eval()
    mask = (torch.arange(400) < torch.tensor([[400], [150]])).long()
    batch = {"input_values": torch.randn(2, 400) * mask, "attention_mask": mask, "labels": torch.tensor([0, 1])}
    with Mixup({"method": "gaussian"})(model, batch) as mixed:
        audio = mixed.inputs["input_values"]
        assert torch.isfinite(mixed.loss(model(**mixed.inputs)))
    assert (audio[1, 150:] == 0).all()
    assert ((audio != batch["input_values"]) == mask.bool()).all()


@pytest.mark.parametrize(
    ("batch", "shape", "expected"),
    [
        ({"attention_mask": (2, 7)}, (2, 7, 3), (2, 7, 1)),
        ({"attention_mask": (2, 7)}, (2, 3, 7), (2, 1, 7)),
        ({"attention_mask": (2, 7), "input_ids": (2, 7)}, (2, 7, 3), None),
        ({"attention_mask": (2, 7)}, (2, 3, 7, 7), None),
        ({"pixel_mask": (2, 5, 7), "attention_mask": (2, 3)}, (2, 3, 5, 7), (2, 1, 5, 7)),
        ({}, (2, 7), None),
    ],
)
def test_which_mask_belongs_to_an_input(batch: dict[str, Any], shape: tuple[int, ...], expected: Any) -> None:
    found = visible_mask({key: torch.ones(size) for key, size in batch.items()}, torch.zeros(shape))
    assert (None if found is None else tuple(found.shape)) == expected


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_noise_is_rounded_once_and_keeps_the_format(dtype: torch.dtype) -> None:
    values = torch.randn(3, 4, 5, 6).to(memory_format=torch.channels_last).to(dtype)
    scale = torch.tensor([0.0, 0.5, 2.0])
    found = noisy(values, scale, None, seed=3)
    wide = torch.promote_types(dtype, torch.float32)
    noise = normal((3, 4, 5, 6), values.device, wide, 3)
    expected = (values.to(wide) + scale.to(wide)[:, None, None, None] * noise).to(dtype)
    assert torch.equal(found, expected)
    assert torch.equal(found[0], values[0])
    assert found.dtype == dtype
    assert found.is_contiguous(memory_format=torch.channels_last)
    written = values.clone()
    assert noisy(written, scale, None, seed=3, inplace=True) is written
    torch.testing.assert_close(written, found)


def test_noise_depends_on_the_key_alone() -> None:
    model, batch = build("bert").eval(), batch_of("bert", lengths=True)

    def scores(mixup: Mixup) -> list[list[float]]:
        found = []
        for _ in range(3):
            torch.rand(2)
            with mixup(model, batch) as mixed:
                found.append(model(**mixed.inputs).logits.flatten().tolist())
        return found

    first = scores(Mixup("gaussian"))
    torch.manual_seed(5)
    state = torch.get_rng_state()
    with Mixup("gaussian")(model, batch) as mixed:
        assert model(**mixed.inputs).logits.flatten().tolist() == first[0]
    assert torch.equal(torch.get_rng_state(), state)
    assert scores(Mixup("gaussian")) == first
    assert len({str(each) for each in first}) == 3


@pytest.mark.parametrize("off", [{"prob": 0.0}, {"sigma": 0.0}])
def test_gaussian_off(off: dict[str, float]) -> None:
    batch = batch_of("resnet")
    with Mixup({"method": "gaussian", **off})(build("resnet"), batch) as mixed:
        assert mixed.inputs["pixel_values"] is batch["pixel_values"]
    assert mixed.rate == 0


@pytest.mark.parametrize("name", ["resnet", "bert"])
def test_gradients_flow_through_noise_and_checkpoints(name: str) -> None:
    """Recomputed layers see the noise of the forward pass."""
    gradients = []
    for checkpointed in (False, True):
        model, batch = build(name).train(), batch_of(name)
        if checkpointed and model.supports_gradient_checkpointing:
            model.gradient_checkpointing_enable()
        with Mixup({"method": "gaussian", "sigma": 0.4})(model, batch) as mixed:
            outputs = model(**mixed.inputs)
        mixed.loss(outputs).backward()
        gradients.append([p.grad for p in model.parameters() if p.grad is not None])
    for plain, again in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, again)


def test_gaussian_refuses_what_it_cannot_do() -> None:
    model, batch = build("resnet"), batch_of("resnet")
    for given in ({"partner": torch.arange(6)}, {"lam": 0.5}):
        with pytest.raises(ValueError, match="mixes no rows"):
            Mixup("gaussian")(model, batch, **given)
    with pytest.raises(ValueError, match="sigma=-1"):
        MixupConfig(method="gaussian", sigma=-1)
    torch.manual_seed(0)
    hashing = CanineForSequenceClassification(
        CanineConfig(
            hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, num_labels=CLASSES
        )
    )
    with pytest.raises(ValueError, match="in no table"), Mixup("gaussian")(hashing, batch_of("bert")):
        pass
    text = batch_of("bert")
    text["attention_mask"] = torch.ones(6, 10, 10)
    with pytest.raises(ValueError, match="attention_mask"), Mixup("gaussian")(build("bert"), text):
        pass


def test_gaussian_refuses_a_model_that_was_never_run_inside() -> None:
    model, batch = build("bert"), batch_of("bert")
    outputs = model(**{k: v for k, v in batch.items() if k != "labels"})
    with Mixup("gaussian")(model, batch) as mixed, pytest.raises(RuntimeError, match="did not pass the place"):
        mixed.loss(outputs)


def test_noise_on_the_choices_of_a_question() -> None:
    """Each choice has noise of its own; the scores are those of a table that was changed by hand."""
    torch.manual_seed(0)
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    model = BertForMultipleChoice(BertConfig(vocab_size=60, max_position_embeddings=16, **small)).eval()
    ids, mask = torch.randint(3, 60, (3, 4, 6)), torch.ones(3, 4, 6, dtype=torch.long)
    mask[1, 2, 4:] = 0
    batch = {"input_ids": ids, "attention_mask": mask, "labels": torch.tensor([0, 3, 1])}
    with Mixup({"method": "gaussian", "sigma": 0.5})(model, batch) as mixed:
        outputs = model(**mixed.inputs)
    noise = normal((12, 6, 16), torch.device("cpu"), torch.float32, mixed.draw.seed).reshape(3, 4, 6, 16)
    embeds = model.get_input_embeddings()(ids) + 0.5 * noise * mask[..., None]
    expected = model(inputs_embeds=embeds, attention_mask=mask).logits
    torch.testing.assert_close(outputs.logits, expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(mixed.loss(outputs), F.cross_entropy(expected, batch["labels"]), rtol=1e-4, atol=1e-6)


def test_noise_behind_an_adapted_table() -> None:
    from peft import LoraConfig, get_peft_model

    losses = []
    for targets in (["query"], ["query", "word_embeddings"]):  # LoRA starts as nothing
        model = get_peft_model(build("bert"), LoraConfig(task_type="SEQ_CLS", target_modules=targets)).eval()
        with Mixup({"method": "gaussian", "sigma": 0.5})(model, batch_of("bert")) as mixed:
            losses.append(mixed.loss(model(**mixed.inputs)))
    torch.testing.assert_close(*losses)
    losses[1].backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for n, p in model.named_parameters() if "lora" in n)
