"""Noise around each row, and mixing beside the clean batch, against loops that share no code with them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch._dynamo.testing
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

from hf_mixup import Mixup, MixupConfig, MixupTrainer
from hf_mixup.experiments.mixing import SharedSettings
from hf_mixup.models.axes import visible_mask
from hf_mixup.models.noise import noisy, normal
from tests.conftest import CLASSES, batch_of, build, examples
from tests.entry_points import ENTRY_POINTS


def logits(model: Any, batch: dict[str, Tensor]) -> Tensor:
    return model(**{key: value for key, value in batch.items() if key != "labels"}).logits


# --- gaussian


def test_noise_has_the_deviation_asked_for() -> None:
    batch = {"pixel_values": torch.randn(8, 3, 40, 33), "labels": torch.arange(8) % CLASSES}
    with Mixup({"method": "gaussian", "sigma": 0.3})(build("resnet"), batch) as mixed:
        noise = mixed.inputs["pixel_values"] - batch["pixel_values"]
    torch.testing.assert_close(noise.std(dim=(1, 2, 3)), torch.full((8,), 0.3), rtol=0.05, atol=0)
    assert noise.mean().abs() < 0.01
    rows = torch.corrcoef(noise.flatten(1))
    assert (rows - torch.eye(8)).abs().max() < 0.08  # each row has its own
    assert mixed.rate == 1
    assert mixed.mean_lam == 1
    assert torch.equal(mixed.targets, F.one_hot(batch["labels"], CLASSES).float())


def test_inputs_have_noises_of_their_own() -> None:
    batch = {"one": torch.zeros(2, 50), "other": torch.zeros(2, 50), "labels": torch.tensor([0, 1])}
    with Mixup({"method": "gaussian", "self_check": False})(torch.nn.Linear(2, 2), batch) as mixed:
        assert (mixed.inputs["one"] != mixed.inputs["other"]).all()


@pytest.mark.parametrize("name", ["resnet", "vit", "bert", "distilbert"])
@pytest.mark.parametrize("prob_per", ["batch", "sample"])
def test_the_loss_is_the_models_own_on_noised_rows(name: str, prob_per: str) -> None:
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
def test_noise_on_tokens_reaches_encoder_decoders_and_rows_along_the_second_axis(make: Any) -> None:
    """With a large noise on some rows, their scores change and no others."""
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


# --- regmixup


@pytest.mark.parametrize("name", ["resnet", "vit"])
@pytest.mark.parametrize(
    "extra",
    [{}, {"lam_per": "sample", "loss_weight": 0.3}, {"prob": 0.5, "prob_per": "sample"}, {"label_smoothing": 0.1}],
)
@pytest.mark.parametrize("rows", [1, 5])
def test_regmixup_is_two_losses_row_by_row(name: str, extra: dict[str, Any], rows: int) -> None:
    model, batch = build(name).double().eval(), batch_of(name, rows=rows)
    batch["pixel_values"] = batch["pixel_values"].double()
    batch["labels"][-1] = -100
    mixup = Mixup({"method": "regmixup", "alpha": 10.0, **extra})
    smoothing, eta = extra.get("label_smoothing", 0.0), extra.get("loss_weight", 1.0)

    def loss(pixels: Tensor, label: int) -> Tensor:
        if label == -100:
            return torch.zeros((), dtype=torch.float64)
        scores = model(pixel_values=pixels[None]).logits[0].log_softmax(-1)
        return -(1 - smoothing) * scores[label] - smoothing * scores.mean()

    for _ in range(3):
        with mixup(model, batch) as mixed:
            outputs = model(**mixed.inputs)
        pixels, labels, total = batch["pixel_values"], batch["labels"].tolist(), 0.0
        for row, (partner, lam) in enumerate(zip(mixed.partner.tolist(), mixed.lam.double(), strict=True)):
            total = total + loss(pixels[row], labels[row])
            if lam < 1:
                blended = lam * pixels[row] + (1 - lam) * pixels[partner]
                total = total + eta * lam * loss(blended, labels[row])
                total = total + eta * (1 - lam) * loss(blended, labels[partner])
        counted = max(sum(label != -100 for label in labels), 1e-12)
        torch.testing.assert_close(mixed.loss(outputs), torch.as_tensor(total / counted, dtype=torch.float64))
        assert len(outputs.logits) == rows + len(mixed.draw.rows)
        assert mixed.labels.shape == (rows,)
        assert mixed.targets.shape == (rows, CLASSES)


def test_regmixup_gradients_are_those_of_both_halves_in_one_pass() -> None:
    """Batch normalisation sees clean and mixed rows together, as in the paper's code."""
    model, by_hand, batch = build("resnet").train(), build("resnet").train(), batch_of("resnet")
    partner, lam = torch.tensor([1, 2, 3, 4, 5, 0]), 0.4
    with Mixup("regmixup")(model, batch, partner=partner, lam=lam) as mixed:
        outputs = model(**mixed.inputs)
    mixed.loss(outputs).backward()
    pixels, labels = batch["pixel_values"], batch["labels"]
    blended = lam * pixels + (1 - lam) * pixels[partner]
    clean, mix = by_hand(pixel_values=torch.cat([pixels, blended])).logits.chunk(2)
    expected = F.cross_entropy(clean, labels)
    expected = expected + lam * F.cross_entropy(mix, labels) + (1 - lam) * F.cross_entropy(mix, labels[partner])
    expected.backward()
    for (name, one), other in zip(model.named_parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-6, msg=name)
    for one, other in zip(model.buffers(), by_hand.buffers(), strict=True):
        torch.testing.assert_close(one, other)
    hit = mix.argmax(-1)
    accuracy = (lam * (hit == labels) + (1 - lam) * (hit == labels[partner])).mean()
    torch.testing.assert_close(mixed.accuracy(), accuracy)


@pytest.mark.parametrize("labels", [torch.rand(3, CLASSES).round(), torch.randn(3)])
def test_regmixup_of_other_problem_types(labels: Tensor) -> None:
    model, batch = build("resnet").eval(), batch_of("resnet", rows=3)
    if labels.dim() == 1:
        model.config.num_labels, model.classifier[1] = 1, torch.nn.Linear(12, 1)
    partner, lam = torch.tensor([1, 2, 0]), torch.tensor([0.2, 1.0, 0.4])
    with Mixup("regmixup")(model, {**batch, "labels": labels}, partner=partner, lam=lam) as mixed:
        outputs = model(**mixed.inputs)
    share = lam.reshape(-1, *(1,) * (labels.dim() - 1))
    mix_labels = share * labels + (1 - share) * labels[partner]
    pixels, wide = batch["pixel_values"], lam[:, None, None, None]
    blended = wide * pixels + (1 - wide) * pixels[partner]
    score = F.mse_loss if labels.dim() == 1 else F.binary_cross_entropy_with_logits
    clean, mix = (model(pixel_values=each).logits.reshape(labels.shape) for each in (pixels, blended))
    kept = torch.tensor([0, 2])  # the second row is left alone
    expected = score(clean, labels) + score(mix[kept], mix_labels[kept], reduction="sum") / labels.numel()
    torch.testing.assert_close(mixed.loss(outputs), expected)


def test_regmixup_carries_what_goes_with_a_row() -> None:
    """Masks of audio clips are united for the mixed half alone; names in a list and flags follow their rows."""
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]])
    clips = torch.tensor([[1.0, 2, 3, 4], [5, 6, 0, 0], [7, 0, 0, 0]])
    batch = {"input_values": clips, "attention_mask": mask, "names": ["a", "b", "c"], "speed": torch.arange(3)}
    batch |= {"flag": True, "scale": torch.tensor(2.0), "labels": torch.tensor([0, 1, 0])}
    mixup = Mixup({"method": "regmixup", "self_check": False})
    partner, lam = torch.tensor([1, 0, 1]), torch.tensor([0.5, 1.0, 0.25])
    with mixup(torch.nn.Linear(2, 2), batch, partner=partner, lam=lam) as mixed:
        found = mixed.inputs
    expected = torch.stack([0.5 * clips[0] + 0.5 * clips[1], 0.25 * clips[2] + 0.75 * clips[1]])
    torch.testing.assert_close(found["input_values"], torch.cat([clips, expected]))
    assert found["attention_mask"].tolist() == [*mask.tolist(), [1, 1, 1, 1], [1, 1, 0, 0]]
    assert found["names"] == ["a", "b", "c", "a", "c"]
    assert found["speed"].tolist() == [0, 1, 2, 0, 2]
    assert found["flag"] is True
    assert found["scale"] == 2
    assert mixed.rate == 2 / 3


def test_regmixup_left_alone_is_the_plain_loss() -> None:
    model, batch = build("resnet").eval(), batch_of("resnet")
    with Mixup({"method": "regmixup", "prob": 0.0})(model, batch) as mixed:
        outputs = model(**mixed.inputs)
    assert mixed.inputs["pixel_values"] is batch["pixel_values"]
    torch.testing.assert_close(mixed.loss(outputs), F.cross_entropy(outputs.logits, batch["labels"]))


def test_regmixup_refuses_tokens() -> None:
    with pytest.raises(ValueError, match="'embedding'"):
        Mixup("regmixup")(build("bert"), batch_of("bert"))


# --- both, compiled and through the entry points


@pytest.mark.parametrize(("method", "name"), [("gaussian", "bert"), ("gaussian", "resnet"), ("regmixup", "vit")])
def test_compiled_models_give_the_same_and_do_not_recompile(method: str, name: str) -> None:
    torch._dynamo.reset()
    counter = torch._dynamo.testing.CompileCounterWithBackend("eager")
    model, batch = build(name).eval(), batch_of(name)
    eager, mixup = Mixup(method), Mixup(method)
    mixup.prepare(model)
    compiled = torch.compile(model, backend=counter)
    for step in range(5):
        with mixup(compiled, batch) as mixed:
            found = mixed.loss(compiled(**mixed.inputs))
        with eager(model, batch) as mixed, torch.compiler.set_stance("force_eager"):
            expected = mixed.loss(model(**mixed.inputs))
        torch.testing.assert_close(found, expected)
        if step == 1:
            frames = counter.frame_count
    assert counter.frame_count == frames
    torch._dynamo.reset()


PAIRS = [("gaussian", "vit"), ("gaussian", "bert"), ("regmixup", "vit")]


@pytest.mark.parametrize(("method", "name"), PAIRS)
def test_micro_batches_take_their_share_of_all_labels(method: str, name: str) -> None:
    """What is divided by the labels of the whole, as the Trainer counts them, is the sum over the own rows."""
    batch = batch_of(name, rows=6)
    batch["labels"][1] = -100
    model, mixup = build(name).eval(), Mixup(SharedSettings({"sigma": 0.4}).for_method(method))
    for part in (slice(0, 4), slice(4, 6)):
        with mixup(model, {key: value[part] for key, value in batch.items()}) as mixed:
            outputs = model(**mixed.inputs)
        share = mixed.loss(outputs, num_items_in_batch=5)
        torch.testing.assert_close(share * 5, mixed.loss(outputs) * (mixed.labels != -100).sum())
        assert share > 0


@pytest.mark.parametrize(
    ("method", "off"),
    [
        ("gaussian", {"prob": 0.0}),
        ("gaussian", {"sigma": 0.0}),
        ("regmixup", {"prob": 0.0}),
        ("regmixup", {"alpha": 0.0}),
    ],
)
def test_off_is_the_plain_trainer(method: str, off: dict[str, float], arguments: Any) -> None:
    results = []
    for config in (MixupConfig(method=method, **off), MixupConfig(method="mixup", prob=0.0)):
        model = build("resnet")
        MixupTrainer(model, arguments(max_steps=2), train_dataset=examples("resnet", 8), mixup=config).train()
        results.append(model.state_dict())
    for key, value in results[0].items():
        assert torch.equal(value, results[1][key]), key


@pytest.mark.parametrize(("method", "name"), PAIRS)
@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_entry_points_train_to_the_same_weights(method: str, name: str, entry_point: str, arguments: Any) -> None:
    """Two accumulated micro-batches of two rows; a collator alone knows no step, and draws other noise."""
    made, sigma = [], 1e-6 if entry_point == "collator" else 0.3
    for each in ("trainer", entry_point):
        model, config = build(name), SharedSettings({"lam": 0.3, "pairing": "flip", "sigma": sigma, "draw_seed": 0})
        config = config.for_method(method)
        args = arguments(max_steps=1, per_device_train_batch_size=2, gradient_accumulation_steps=2, optim="sgd")
        trainer = ENTRY_POINTS[each](model, args, config, train_dataset=examples(name, 4))
        trainer.train()
        made.append((model.state_dict(), SimpleNamespace(**trainer.state.log_history[-1])))
    for key, value in made[0][0].items():
        torch.testing.assert_close(made[1][0][key], value, rtol=1e-3, atol=1e-4, msg=key)
    assert made[1][1].train_loss == pytest.approx(made[0][1].train_loss, rel=1e-3)


@pytest.mark.parametrize("method", ["gaussian", "regmixup"])
def test_logs_tell_the_rate(method: str, arguments: Any) -> None:
    args = arguments(max_steps=2, logging_strategy="steps", logging_steps=1)
    trainer = MixupTrainer(
        build("resnet"),
        args,
        train_dataset=examples("resnet", 8),
        mixup=SharedSettings({"alpha": 10.0}).for_method(method),
    )
    trainer.train()
    logs = [entry for entry in trainer.state.log_history if "mixup_rate" in entry]
    assert len(logs) == 2
    for entry in logs:
        assert entry["mixup_rate"] == 1
        assert entry["mixup_lam"] == 1 if method == "gaussian" else 0.1 < entry["mixup_lam"] < 0.9
        assert 0 <= entry["mixup_accuracy"] <= 1


@pytest.mark.parametrize("methods", [["gaussian", "regmixup"], ["gaussian", "mixup"]])
def test_switch_may_choose_them(methods: list[str]) -> None:
    model, batch = build("vit").eval(), batch_of("vit")
    mixup, chosen = Mixup({"method": "switch", "methods": methods}), set()
    for _ in range(12):
        with mixup(model, batch) as mixed:
            loss = mixed.loss(model(**mixed.inputs))
        assert torch.isfinite(loss)
        chosen.add(mixed.draw.method)
    assert chosen == set(methods)
