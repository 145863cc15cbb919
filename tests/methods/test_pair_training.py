"""Methods for image-text pairs as they are trained: entry points, precision, adapters, resuming."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch._dynamo.testing
from transformers import Trainer, default_data_collator

from hf_mixup import MixupConfig, MixupTrainer
from tests.conftest import batch_of, build, examples
from tests.engine.test_invariants import assert_same, weights
from tests.entry_points import ENTRY_POINTS
from tests.kill import Kill, Killed
from tests.methods.pairs import PARTNER, mixup_of
from tests.settings import PAIR_METHODS


def collate(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """As a processor would: asking the model for its loss."""
    return {**default_data_collator(rows), "return_loss": True}


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
@pytest.mark.parametrize("method", PAIR_METHODS)
def test_every_entry_point_trains(method: str, entry_point: str, arguments: Any) -> None:
    if method == "mixgen" and entry_point != "trainer":
        pytest.skip("mixgen has to be given a tokenizer, see test_pairs.py")
    model = build("clip")
    before = weights(model)
    kwargs = {"processing_class": processing_class()} if method == "mixgen" else {}
    config = MixupConfig(method)
    trainer = ENTRY_POINTS[entry_point](model, arguments(logging_strategy="steps", logging_steps=1), config,
                          train_dataset=examples("clip", 8), **kwargs)  # fmt: skip
    trainer.train()
    assert any(not torch.equal(before[key], value) for key, value in weights(model).items())
    assert 0 <= trainer.state.log_history[0]["mixup_lam"] <= 1 if entry_point != "collator" else True


def processing_class() -> Any:
    from tokenizers import Tokenizer as Words
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    words = Words(WordLevel({f"w{i}": i for i in range(60)}, unk_token="w1"))
    return PreTrainedTokenizerFast(tokenizer_object=words, pad_token="w0", bos_token="w58", eos_token="w59")


@pytest.mark.parametrize("off", [{"alpha": 0.0}, {"prob": 0.0}, {"lam": 1.0}])
@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_off_is_the_plain_trainer(entry_point: str, off: dict[str, float], arguments: Any) -> None:
    ends = []
    for mixes in (False, True):
        model, args = build("clip", dropout=0.2), arguments(gradient_accumulation_steps=2)
        data = examples("clip", 10)
        if mixes and entry_point in ("trainer", "callback"):
            kwargs = {"data_collator": collate} if entry_point == "callback" else {}
            ENTRY_POINTS[entry_point](
                model, args, MixupConfig("cross_modal", **off), train_dataset=data, **kwargs
            ).train()
        elif mixes:
            from hf_mixup import MixupCollator

            collator = MixupCollator(collate, mixup=MixupConfig("cross_modal", **off), model=model)
            Trainer(model=model, args=args, train_dataset=data, data_collator=collator).train()
        else:
            Trainer(model=model, args=args, train_dataset=data, data_collator=collate).train()
        ends.append(weights(model))
    assert_same(ends[1], ends[0])


@pytest.mark.parametrize("method", PAIR_METHODS)
def test_any_number_of_workers_draws_the_same(method: str, arguments: Any) -> None:
    ends = []
    for workers in (0, 2):
        model = build("clip", dropout=0.2)
        args = arguments(dataloader_num_workers=workers)
        MixupTrainer(
            model, args, mixup=method, train_dataset=examples("clip", 12), processing_class=processing_class()
        ).train()
        ends.append(weights(model))
    assert_same(ends[1], ends[0])


@pytest.mark.parametrize("entry_point", ["trainer", "callback", "collator"])
def test_killed_and_resumed_ends_with_the_same_bits(entry_point: str, arguments: Any, tmp_path: Any) -> None:
    def run(folder: str, **kwargs: Any) -> Trainer:
        args = arguments(output_dir=str(tmp_path / folder), save_strategy="steps", save_steps=3, num_train_epochs=2)
        config = MixupConfig("cross_modal", text_mix="aligned")
        return ENTRY_POINTS[entry_point](
            build("clip", dropout=0.2), args, config, train_dataset=examples("clip", 16), **kwargs
        )

    whole = run("whole")
    whole.train()
    with pytest.raises(Killed):
        run("cut", callbacks=[Kill(5)]).train()
    resumed = run("cut")
    resumed.train(resume_from_checkpoint=str(tmp_path / "cut" / "checkpoint-3"))
    assert_same(weights(resumed.model), weights(whole.model))


@pytest.mark.parametrize("text_mix", ["late", "two_eot", "aligned"])
def test_checkpointing_changes_nothing(text_mix: str) -> None:
    batch, grads = batch_of("clip"), []
    for checkpointing in (False, True):
        model = build("clip", dropout=0.2).train()
        if checkpointing:
            model.gradient_checkpointing_enable()
        torch.manual_seed(3)
        mixup = mixup_of("cross_modal", text_mix=text_mix)
        with mixup(model, batch, partner=PARTNER, lam=0.7) as mixed:
            outputs = mixed.forward(model)
        mixed.loss(outputs).backward()
        grads.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    torch.testing.assert_close(grads[1], grads[0])


@pytest.mark.parametrize("text_mix", ["late", "two_eot", "aligned"])
def test_compiled_models_mix_the_same_and_do_not_recompile(text_mix: str) -> None:
    batch, losses = batch_of("clip"), []
    for backend in (None, torch._dynamo.testing.CompileCounter()):
        torch._dynamo.reset()
        model, mixup = build("clip"), mixup_of("cross_modal", text_mix=text_mix)
        run = model if backend is None else torch.compile(model, backend=backend)
        found = []
        for _ in range(4):
            with mixup(run, batch) as mixed:
                outputs = mixed.forward(run)
            found.append(mixed.loss(outputs).detach())
        losses.append(torch.stack(found))
    assert backend is not None
    assert backend.frame_count == 1
    torch.testing.assert_close(losses[1], losses[0])


@pytest.mark.parametrize("chunk_size", [None, 3])
def test_autocast_keeps_targets_and_loss_in_float32(chunk_size: int | None) -> None:
    model, batch = build("clip"), batch_of("clip")
    mixup = mixup_of("cross_modal", text_mix="aligned", chunk_size=chunk_size)
    with torch.autocast("cpu", dtype=torch.bfloat16), mixup(model, batch, partner=PARTNER, lam=0.7) as mixed:
        loss = mixed.loss(mixed.forward(model))
    loss.backward()
    assert loss.dtype == mixed.targets.dtype == mixed.lam.dtype == torch.float32
    with mixup_of("cross_modal", text_mix="aligned")(model, batch, partner=PARTNER, lam=0.7) as exact:
        assert float(loss) == pytest.approx(float(exact.loss(exact.forward(model))), rel=0.05)


def test_a_bfloat16_model() -> None:
    model, batch = build("clip").to(torch.bfloat16), batch_of("clip")
    batch["pixel_values"] = batch["pixel_values"].to(torch.bfloat16)
    for text_mix in ("late", "two_eot", "aligned"):
        with mixup_of("cross_modal", text_mix=text_mix)(model, batch) as mixed:
            loss = mixed.loss(mixed.forward(model))
        assert torch.isfinite(loss)
        assert loss.dtype == torch.float32


@pytest.mark.parametrize("tower", ["text_model", "vision_model"])
@pytest.mark.parametrize("chunk_size", [None, 3])
def test_one_frozen_encoder(tower: str, chunk_size: int | None) -> None:
    """LiT: the other encoder learns, the frozen one gets no gradient."""
    model, batch = build("clip"), batch_of("clip")
    getattr(model, tower).requires_grad_(False)
    with mixup_of("cross_modal", chunk_size=chunk_size)(model, batch) as mixed:
        outputs = mixed.forward(model)
    mixed.loss(outputs).backward()
    assert all(p.grad is None for p in getattr(model, tower).parameters())
    other = model.vision_model if tower == "text_model" else model.text_model
    assert all(p.grad is not None for name, p in other.named_parameters() if "embeddings" not in name)


@pytest.mark.parametrize("chunk_size", [None, 3])
@pytest.mark.parametrize("text_mix", ["late", "two_eot", "aligned"])
def test_lora_on_both_encoders(text_mix: str, chunk_size: int | None) -> None:
    from peft import LoraConfig, get_peft_model

    batch, losses = batch_of("clip"), []
    for lora in (False, True):
        model = build("clip")
        if lora:
            targets = ["q_proj", "v_proj", "text_projection", "visual_projection"]
            model = get_peft_model(model, LoraConfig(target_modules=targets, r=2))
        mixup = mixup_of("cross_modal", text_mix=text_mix, chunk_size=chunk_size)
        with mixup(model, batch, partner=PARTNER, lam=0.7) as mixed:
            outputs = mixed.forward(model)
        losses.append(mixed.loss(outputs))
    torch.testing.assert_close(losses[1], losses[0])
    losses[1].backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for n, p in model.named_parameters() if "lora_B" in n)
    with torch.no_grad():  # an adapter on the projection that does something: the site has to lie behind it
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    model.eval()
    with torch.no_grad(), mixup_of("cross_modal", image_mix="latent")(model, batch, partner=PARTNER, lam=0.0) as mixed:
        found = mixed.forward(model)
    with torch.no_grad():
        torch.testing.assert_close(found.text_embeds, model(**batch).text_embeds[PARTNER], rtol=1e-4, atol=1e-5)
