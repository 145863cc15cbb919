"""Recordings with transcripts (CTC): two losses of one pass, against explicit calls and the models' own loss."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.nn import functional as F
from transformers import Trainer, Wav2Vec2ForCTC

from hf_mixup import Mixup, MixupCollator, MixupConfig, MixupTrainer
from hf_mixup.methods import METHODS
from hf_mixup.models.hooks import hooks_of
from hf_mixup.testing.exchange import is_refusal
from tests.entry_points import ENTRY_POINTS
from tests.kill import Kill, Killed
from tests.recordings import CTC, LAM, PARTNER, build_ctc, recogniser, recordings, recordings_for

BLANKS = {"omniasr_ctc": "blank_token_id"}


def batch_of(rows: int = 4) -> dict[str, Tensor]:
    made = recordings(rows)
    return {key: torch.stack([each[key] for each in made]) for key in made[0]}


def exchanged(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: value[PARTNER] for key, value in batch.items()}


def by_two_calls(model: Any, logits: Tensor, frames: Tensor, labels: Tensor, lam: Tensor, blank: int) -> Tensor:
    """lam * CTC(own) + (1 - lam) * CTC(partner's) in double precision, by the model's own configuration."""
    log_probs, reduction = logits.double().log_softmax(-1).transpose(0, 1), model.config.ctc_loss_reduction
    sums = torch.zeros(len(labels), dtype=torch.float64)
    for sample, other in enumerate(PARTNER.tolist()):
        for which, weight in ((sample, lam[sample]), (other, 1 - lam[sample])):
            tokens = labels[which][labels[which] >= 0][None]
            loss = F.ctc_loss(
                log_probs[:, sample : sample + 1],
                tokens,
                frames[sample : sample + 1],
                torch.tensor([tokens.shape[1]]),
                blank,
                reduction,
                model.config.ctc_zero_infinity,
            )
            sums[sample] += weight.double() * loss if weight > 0 else 0
    return sums.mean() if reduction == "mean" else sums.sum()


def frames_of(model: Any, mixed: Any) -> Tensor:
    """Return how many frames of each mixed recording the model's own loss sees."""
    seen: list[Tensor] = []
    own = F.ctc_loss

    def look(log_probs: Tensor, targets: Tensor, input_lengths: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        seen.append(input_lengths)
        return own(log_probs, targets, input_lengths, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(F, "ctc_loss", look)
        model(**mixed.inputs)
    return seen[0]


@pytest.mark.parametrize("kind", CTC)
def test_every_architecture_scores_both_transcripts(kind: str) -> None:
    model = build_ctc(kind)
    batch = recordings_for(model)
    with Mixup("mixup")(model, batch, partner=PARTNER, lam=LAM) as mixed:
        outputs = model(**mixed.inputs)
    frames, blank = frames_of(model, mixed), getattr(model.config, BLANKS.get(kind, "pad_token_id"))
    assert len(set(frames.tolist())) > 1  # of different length
    found = mixed.loss(outputs)
    expected = by_two_calls(model, outputs.logits, frames, batch["labels"], LAM, blank)
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-5)
    for lam, plain in ((1.0, batch), (0.0, exchanged(batch))):
        with Mixup("mixup")(model, batch, partner=PARTNER, lam=lam) as mixed:
            outputs = model(**mixed.inputs)
        torch.testing.assert_close(mixed.loss(outputs), model(**plain).loss, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(outputs.logits, model(**plain).logits)


@pytest.mark.parametrize("uneven", [False, True])
@pytest.mark.parametrize("kind", ["wav2vec2", "parakeet_ctc"])
@pytest.mark.parametrize("method", METHODS)
def test_a_method_is_exact_or_refused(method: str, kind: str, uneven: bool) -> None:
    model = build_ctc(kind)
    batch = recordings_for(model, uneven)
    for lam, plain in ((1.0, batch), (0.0, exchanged(batch))):
        try:
            with Mixup(method)(model, batch, partner=PARTNER, lam=lam) as mixed:
                outputs = model(**mixed.inputs)
        except (ValueError, RuntimeError, TypeError) as error:
            assert is_refusal(error)  # noqa: PT017 - or it mixes
            assert method not in ("mixup", "manifold") or (uneven and method == "manifold")
            return
        torch.testing.assert_close(mixed.loss(outputs), model(**plain).loss, rtol=1e-5, atol=1e-5)


def test_methods_that_enter_the_model_say_why_they_want_equal_lengths() -> None:
    model = build_ctc("wav2vec2")
    with pytest.raises(ValueError, match=r"'manifold' mixes inside the model, where a recording ends.*Use 'mixup'"):
        Mixup("manifold")(model, recordings_for(model))


@pytest.mark.parametrize("norm", ["group", "layer"])
def test_recordings_without_a_mask(norm: str) -> None:
    """Padding is then part of a recording, in the layer norms (or the group norm) of the convolutions, too."""
    model, batch = recogniser(feat_extract_norm=norm).eval(), batch_of()
    batch["input_values"][1, 300:], batch["input_values"][2, 200:] = 0, 0
    with Mixup("mixup")(model, batch, partner=PARTNER, lam=LAM) as mixed:
        outputs = model(**mixed.inputs)
    frames = torch.full((4,), outputs.logits.shape[1])
    expected = by_two_calls(model, outputs.logits, frames, batch["labels"], LAM, 0)
    torch.testing.assert_close(mixed.loss(outputs).double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("zero_infinity", [False, True])
def test_a_transcript_longer_than_its_recording(zero_infinity: bool) -> None:
    model, batch = recogniser(ctc_zero_infinity=zero_infinity).eval(), batch_of()
    batch["labels"] = torch.full((4, 30), -100)
    batch["labels"][:3, :2] = torch.tensor([3, 5])
    batch["labels"][3] = 1  # of which each needs a blank before the next
    mixup, lam = Mixup("mixup"), torch.tensor([0.5, 0.5, 0.5, 0.0])
    with mixup(model, batch, partner=PARTNER, lam=lam) as mixed:
        loss = mixed.loss(model(**mixed.inputs))  # where it counts nothing
    loss.backward()
    assert torch.isfinite(loss)
    assert all(bool(p.grad.isfinite().all()) for p in model.parameters() if p.grad is not None)
    lam[3] = 0.5
    if zero_infinity:
        with mixup(model, batch, partner=PARTNER, lam=lam) as mixed:
            outputs = model(**mixed.inputs)
        frames = torch.full((4,), outputs.logits.shape[1])
        expected = by_two_calls(model, outputs.logits, frames, batch["labels"], lam, 0)
        torch.testing.assert_close(mixed.loss(outputs).double(), expected, rtol=1e-5, atol=1e-5)
    else:
        message = r"sample 3 of the batch has 23 frames, and a transcript that needs 59.*Set ctc_zero_infinity=True"
        with pytest.raises(ValueError, match=message), mixup(model, batch, partner=PARTNER, lam=lam) as mixed:
            model(**mixed.inputs)


def test_gradients_are_those_of_two_passes() -> None:
    model, batch = recogniser().eval(), batch_of()
    with Mixup("mixup")(model, batch, partner=PARTNER, lam=0.3) as mixed:
        mixed.loss(model(**mixed.inputs)).backward()
    found = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    given = {key: value for key, value in mixed.inputs.items() if key != "labels"}
    own, other = (model(**given, labels=labels).loss for labels in (batch["labels"], batch["labels"][PARTNER]))
    (0.3 * own + 0.7 * other).backward()
    for ours, each in zip(found, (p.grad for p in model.parameters() if p.grad is not None)):
        torch.testing.assert_close(ours, each, rtol=1e-3, atol=1e-4)


def test_a_loss_that_is_no_ctc_of_torch_is_refused() -> None:
    class OwnForCTC(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head, self.config = nn.Linear(6, 5), recogniser().config

        def forward(self, input_values: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
            scores = self.head(input_values)
            return {"logits": scores} | ({} if labels is None else {"loss": scores.square().sum()})

    batch = {"input_values": torch.randn(4, 7, 6), "labels": torch.ones(4, 2, dtype=torch.long)}
    with pytest.raises(RuntimeError, match="OwnForCTC learns transcripts by a loss that is not one"):
        Mixup("mixup")(OwnForCTC(), batch)


def test_a_subclass_with_a_loss_beside_it_keeps_that() -> None:
    class RegularisedForCTC(Wav2Vec2ForCTC):
        def forward(self, *args: Any, **kwargs: Any) -> Any:
            outputs = super().forward(*args, **kwargs)
            if outputs.loss is not None:
                outputs.loss = outputs.loss + self.lm_head.weight.square().sum()
            return outputs

    plain, batch = recogniser().eval(), batch_of()
    model = RegularisedForCTC(plain.config).eval()
    model.load_state_dict(plain.state_dict())
    losses = []
    for each in (plain, model):
        with Mixup("mixup")(each, batch, partner=PARTNER, lam=LAM) as mixed:
            losses.append(mixed.loss(each(**mixed.inputs)))
    torch.testing.assert_close(losses[1] - losses[0], plain.lm_head.weight.square().sum(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"label_smoothing": 0.1}, "label_smoothing=0.1"),
        ({"class_weights": [1.0] * 20}, "class_weights"),
        ({"loss": "bce"}, "loss='bce'"),
    ],
)
def test_settings_that_change_a_loss_are_refused(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=f"{named} does not go with transcripts: Wav2Vec2ForCTC computes"):
        Mixup({"method": "mixup", **settings})(recogniser(), batch_of())
    with pytest.raises(ValueError, match="distill_weight"):
        Mixup("mixup", teacher=recogniser(1))(recogniser(), batch_of())


@pytest.mark.parametrize(
    ("labels", "named"),
    [
        (torch.ones(4, dtype=torch.long), r"labels hold torch.int64 \[4\], where Wav2Vec2ForCTC learns transcripts"),
        (torch.ones(4, 2), "labels hold torch.float32"),
        (torch.full((4, 2), 20), "label 20 is outside the model's 20 classes"),
        (None, "no tensor 'labels'"),
    ],
)
def test_labels_that_are_no_transcripts(labels: Tensor | None, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        Mixup("mixup")(recogniser(), {**batch_of(), "labels": labels})


def test_run_outside_of_the_context() -> None:
    model, batch = recogniser(), batch_of()
    with Mixup("mixup")(model, batch) as mixed:
        pass
    with pytest.raises(RuntimeError, match="computed no CTC loss: run it on"):
        mixed.loss(model(**mixed.inputs))


def test_an_interrupted_pass_leaves_the_loss_of_torch_alone(arguments: Any) -> None:
    model, batch = recogniser(), batch_of()
    MixupCollator(mixup="mixup", model=model)
    plain = model.eval()(**batch).loss
    handle = model.lm_head.register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        model.train()(**batch)
    handle.remove()
    torch.testing.assert_close(model.eval()(**batch).loss, plain)
    assert torch._C._len_torch_function_stack() == 0


def trained(entry_point: str, arguments: Any, rows: int, reduction: str, seed: int = 0, **settings: Any) -> Any:
    args = arguments(
        per_device_train_batch_size=rows,
        gradient_accumulation_steps=8 // rows,
        optim="sgd",
        num_train_epochs=2,
        train_sampling_strategy="sequential",
        learning_rate=1e-3 if reduction == "sum" else 0.1,
        max_grad_norm=0.0,
        logging_strategy="steps",
        logging_steps=1,
    )
    model = recogniser(ctc_loss_reduction=reduction)
    trainer = ENTRY_POINTS[entry_point](model, args, MixupConfig("mixup", **settings), train_dataset=recordings(8))
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry], model.state_dict()


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_all_entry_points_do_the_same(reduction: str, arguments: Any) -> None:
    settings = {"lam_per": "sample", "prob": 0.7, "prob_per": "sample", "prob_warmup_ratio": 0.2}
    found = {name: trained(name, arguments, 8, reduction, **settings) for name in ("trainer", "adopted", "callback")}
    for losses, weights in found.values():
        assert losses == pytest.approx(found["trainer"][0], rel=1e-5)
        torch.testing.assert_close(weights, found["trainer"][1])
    collated = trained("collator", arguments, 8, reduction, **settings)
    assert len(collated[0]) == 2  # its draws have other keys


@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("entry_point", ["trainer", "collator", "callback"])
def test_micro_batches_equal_the_large_batch(
    entry_point: str, reduction: str, arguments: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plain Trainer's loss of such a model is k times too large over k micro-batches where it is a mean."""
    monkeypatch.setattr("hf_mixup.methods.base.pair", lambda n, **_: torch.arange(n) ^ 1)
    whole, parts = (trained(entry_point, arguments, rows, reduction, lam=0.3) for rows in (8, 2))
    assert parts[0] == pytest.approx(whole[0], rel=1e-4)
    torch.testing.assert_close(parts[1], whole[1], rtol=1e-4, atol=1e-5)


def test_a_summed_loss_is_the_plain_trainers(arguments: Any) -> None:
    """lam = 1 beside a plain Trainer, over micro-batches."""
    found = []
    for mixing in (True, False):
        args = arguments(per_device_train_batch_size=2, gradient_accumulation_steps=4, optim="sgd", learning_rate=1e-3)
        model, data = recogniser(ctc_loss_reduction="sum"), recordings(8)
        config = MixupConfig("mixup", lam=1 - 1e-7)
        trainer = MixupTrainer(model, args, mixup=config, train_dataset=data) if mixing else None
        (trainer or Trainer(model, args, train_dataset=data)).train()
        found.append(model.state_dict())
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_off_is_the_plain_trainer(entry_point: str, arguments: Any) -> None:
    found = []
    for mixing in (True, False):
        args, model, data = arguments(), recogniser(), recordings(8)
        if mixing:
            ENTRY_POINTS[entry_point](model, args, MixupConfig("mixup", prob=0.0), train_dataset=data).train()
        else:
            Trainer(model, args, train_dataset=data).train()
        found.append(model.state_dict())
    assert all(torch.equal(found[0][key], found[1][key]) for key in found[0])


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_evaluation_is_plain(entry_point: str, arguments: Any) -> None:
    model, data = recogniser(), recordings(8)
    trainer = ENTRY_POINTS[entry_point](
        model, arguments(max_steps=1), MixupConfig("mixup"), train_dataset=data, eval_dataset=data
    )
    trainer.train()
    found = trainer.evaluate()["eval_loss"]
    assert found == pytest.approx(Trainer(model, arguments(), eval_dataset=data).evaluate()["eval_loss"])


def test_transcripts_that_are_all_empty_are_refused(arguments: Any) -> None:
    data = [{**each, "labels": torch.full((4,), -100)} for each in recordings(8)]
    with pytest.raises(ValueError, match="labels of the first batch are -100"):
        MixupTrainer(recogniser(), arguments(), mixup="mixup", train_dataset=data).train()


def test_one_pass_of_the_encoder() -> None:
    model, batch, calls = recogniser(), batch_of(), []
    mixup = Mixup("mixup")
    mixup(model, batch)  # which tries model and loss
    model.wav2vec2.register_forward_hook(lambda *_: calls.append(1))
    with mixup(model, batch) as mixed:
        mixed.loss(model(**mixed.inputs))
    assert len(calls) == 1


def test_compiled_models_mix_and_do_not_recompile() -> None:
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("eager")
    model, batch, mixup = recogniser().eval(), batch_of(), Mixup({"method": "mixup", "lam_per": "sample"})
    compiled, frames = torch.compile(model, backend=counter), 0
    for step in range(5):
        with mixup(compiled, batch) as mixed:
            found = mixed.loss(compiled(**mixed.inputs))
        with torch.compiler.set_stance("force_eager"):
            again = Mixup("mixup")(model, batch, partner=mixed.partner, lam=mixed.lam)
            with again:
                torch.testing.assert_close(found, again.loss(model(**again.inputs)))
        frames = counter.frame_count if step == 2 else frames
    assert counter.frame_count == frames
    torch._dynamo.reset()


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_a_killed_and_resumed_run_ends_the_same(entry_point: str, arguments: Any) -> None:
    args = arguments(save_strategy="steps", save_steps=3, num_train_epochs=2, gradient_accumulation_steps=2)
    config, data = MixupConfig("mixup", lam_per="sample"), recordings(26)

    def trainer(**kwargs: Any) -> Trainer:
        return ENTRY_POINTS[entry_point](augmenting(), args, config, train_dataset=data, **kwargs)

    whole = trainer()
    whole.train()
    with pytest.raises(Killed):
        trainer(callbacks=[Kill(5)]).train()
    resumed = trainer()
    resumed.train(resume_from_checkpoint=f"{args.output_dir}/checkpoint-3")
    assert resumed.state.global_step == whole.state.global_step == 8
    assert all(torch.equal(value, whole.model.state_dict()[key]) for key, value in resumed.model.state_dict().items())


def augmenting() -> Wav2Vec2ForCTC:
    """A recogniser that hides random frames in training, drops layers and units."""
    settings = {"apply_spec_augment": True, "mask_time_prob": 0.4, "mask_time_length": 2, "mask_time_min_masks": 1}
    return recogniser(**settings, layerdrop=0.3, hidden_dropout=0.1)


def test_random_masks_of_the_model_stay_as_they_were_drawn() -> None:
    """The self-check neither meets them nor moves the random state that they come from."""
    model, batch = augmenting().train(), batch_of()
    losses = []
    for self_check in (True, False):
        hooks_of(model).checked.clear()
        hooks_of(model).cache.clear()
        mixup = Mixup(MixupConfig("mixup", self_check=self_check))
        torch.manual_seed(3)
        np.random.seed(3)
        with mixup(model, batch, partner=PARTNER, lam=LAM) as mixed:
            losses.append(mixed.loss(model(**mixed.inputs)))
    assert torch.equal(*losses)
    with Mixup("mixup")(model, batch, partner=PARTNER, lam=LAM) as mixed:
        assert not torch.equal(mixed.loss(model(**mixed.inputs)), losses[0])


def test_bfloat16_changes_nothing_but_rounding() -> None:
    model, batch, losses = recogniser().eval(), batch_of(), []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled), Mixup("mixup")(model, batch, lam=0.3) as mixed:
            losses.append(mixed.loss(model(**mixed.inputs)))
    assert losses[1].dtype == torch.float32
    assert float(losses[1]) == pytest.approx(float(losses[0]), rel=0.02)
    halved = recogniser().eval().bfloat16()
    given = {**batch, "input_values": batch["input_values"].bfloat16()}
    with Mixup("mixup")(halved, given, partner=mixed.partner, lam=0.3) as mixed:
        assert float(mixed.loss(halved(**mixed.inputs))) == pytest.approx(float(losses[0]), rel=0.02)


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_a_last_batch_of_one_recording(entry_point: str, arguments: Any) -> None:
    args = arguments(per_device_train_batch_size=4, logging_strategy="steps", logging_steps=1)
    trainer = ENTRY_POINTS[entry_point](recogniser(), args, MixupConfig("mixup"), train_dataset=recordings(5))
    trainer.train()
    assert trainer.state.global_step == 2
    assert all(entry["loss"] > 0 for entry in trainer.state.log_history if "loss" in entry)


def test_a_recording_alone_has_its_own_loss() -> None:
    model, batch = recogniser().eval(), batch_of(1)
    with Mixup("mixup")(model, batch) as mixed:
        assert mixed.rate == 0
        torch.testing.assert_close(mixed.loss(model(**mixed.inputs)), model(**batch).loss)


def test_the_models_own_loss_with_each_label_is_the_same() -> None:
    """By `loss="own"`, which needs a second forward pass."""
    model, batch, found = recogniser(ctc_zero_infinity=True).eval(), batch_of(), []
    for loss in ("auto", "own"):
        with Mixup({"method": "mixup", "loss": loss})(model, batch, partner=PARTNER, lam=0.3) as mixed:
            found.append(mixed.loss(mixed.forward(model)))
    torch.testing.assert_close(found[1], found[0], rtol=1e-5, atol=1e-5)
