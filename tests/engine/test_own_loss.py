"""`loss="own"`: the model's own loss once with each label, for any head, at every entry point."""

from __future__ import annotations

import inspect
import logging
import warnings
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as tr
from torch import Tensor, nn
from transformers import Trainer, TrainingArguments

from hf_mixup import Mixup, MixupCallback, MixupCollator, MixupConfig, MixupTrainer
from hf_mixup.engine.own_loss import OwnBatch
from hf_mixup.methods import METHODS
from hf_mixup.testing.batches import tiny
from hf_mixup.utils.random_state import RandomState
from tests import streams
from tests.detectors import build_detector
from tests.entry_points import ENTRY_POINTS
from tests.segmenters import build_segmenter

PARTNER = torch.tensor([1, 2, 3, 0])
OWN = {"loss": "own"}
BERT = {**streams.SMALL, "vocab_size": 60}


def doubled(model: Any, batch: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    floats = {key: each.double() for key, each in batch.items() if torch.is_tensor(each) and each.is_floating_point()}
    return model.double(), {**batch, **floats}


def gradients(model: nn.Module) -> Tensor:
    return torch.cat([each.grad.flatten() for each in model.parameters() if each.grad is not None])


def scored(model: Any, batch: dict[str, Any], settings: dict[str, Any], lam: float = 0.3) -> tuple[float, Tensor]:
    """The mixed loss in training mode, dropout included, and all its gradients in one vector."""
    model.train().zero_grad()
    torch.manual_seed(0)
    with Mixup(settings)(model, batch, partner=PARTNER, lam=torch.tensor(lam, dtype=torch.float64)) as mixed:
        loss = mixed.loss(model(**mixed.inputs))
    loss.backward()
    return float(loss.detach()), torch.cat(
        [each.grad.flatten() for each in model.parameters() if each.grad is not None]
    )


def classified(problem: str) -> tuple[Any, dict[str, Any]]:
    torch.manual_seed(0)
    labels: dict[str, Tensor] = {"single_label_classification": torch.tensor([0, 2, 1, 2]), "regression": torch.rand(4)}
    labels["multi_label_classification"] = torch.rand(4, 3).round()
    classes = 1 if problem == "regression" else 3
    config = tr.BertConfig(**BERT, num_labels=classes, problem_type=problem)
    return tr.BertForSequenceClassification(config), {**streams.text(), "labels": labels[problem]}


def segmented() -> tuple[Any, dict[str, Any]]:
    torch.manual_seed(0)
    model = build_segmenter("segformer")
    return model, {"pixel_values": torch.randn(4, 3, 32, 32), "labels": torch.randint(0, 3, (4, 32, 32))}


SPECIAL: dict[str, tuple[Callable[[], tuple[Any, dict[str, Any]]], str]] = {
    "classes": (lambda: classified("single_label_classification"), "embedding"),
    "several labels": (lambda: classified("multi_label_classification"), "embedding"),
    "regression": (lambda: classified("regression"), "manifold"),
    "tokens": (lambda: tiny("token-classification", "bert"), "manifold"),
    "masked tokens": (lambda: tiny("masked-lm", "bert"), "embedding"),
    "next tokens": (lambda: tiny("causal-lm", "gpt2"), "manifold"),
    "spans": (lambda: tiny("question-answering", "bert"), "embedding"),
    "choices": (lambda: tiny("multiple-choice", "bert"), "embedding"),
    "t5": (lambda: tiny("seq2seq", "t5"), "embedding"),
    "bart": (lambda: tiny("seq2seq", "bart"), "embedding"),
    "image": (lambda: tiny("image-classification", "vit"), "cutmix"),
    "batch norm": (lambda: tiny("image-classification", "resnet"), "mixup"),
    "pixels": (segmented, "mixup"),
}


@pytest.mark.parametrize("name", SPECIAL)
def test_it_equals_the_special_rule(name: str) -> None:
    """Where every sample has as many labels, the model's mean is the one that loss="auto" takes."""
    build, method = SPECIAL[name]
    model, batch = doubled(*build())
    torch.manual_seed(1)
    found = {
        loss: scored(deepcopy(model), batch, {"method": method, "loss": loss, "draw_seed": 3})
        for loss in ("auto", "own")
    }
    # The squared error of a blended number lacks a constant: it is less than the blend of both squared errors.
    constant = float((0.21 * (batch["labels"] - batch["labels"][PARTNER]) ** 2).mean()) if name == "regression" else 0
    assert found["own"][0] == pytest.approx(found["auto"][0] + constant, abs=1e-6)
    torch.testing.assert_close(found["own"][1], found["auto"][1], rtol=0, atol=1e-6)
    assert found["own"][1].abs().max() > 1e-3


def explicit(model: Any, content: dict[str, Any], labels: dict[str, Any], lam: float) -> tuple[float, Tensor]:
    """lam * L(own labels) + (1 - lam) * L(partners' labels): two calls on the blended inputs, random state alike."""
    model.train().zero_grad()
    total = 0.0
    for share, rows in ((lam, torch.arange(4)), (1 - lam, PARTNER)):
        torch.manual_seed(0)
        np.random.seed(0)
        total = total + share * model(**content, **{k: streams.rows_at(v, rows) for k, v in labels.items()}).loss
    total.backward()  # type: ignore[attr-defined]
    return float(total.detach()), torch.cat(
        [each.grad.flatten() for each in model.parameters() if each.grad is not None]
    )


def speech_masked() -> tuple[Any, dict[str, Any]]:
    """CTC with dropout, layerdrop and SpecAugment, whose masks NumPy draws."""
    drops = {"mask_time_prob": 0.5, "mask_time_length": 2, "mask_time_min_masks": 2, "layerdrop": 0.5}
    config = tr.Wav2Vec2Config(**{**streams.FRAMES, **drops}, ctc_zero_infinity=True)
    return tr.Wav2Vec2ForCTC(config), {"input_values": streams.pixels(800), "labels": torch.randint(1, 20, (4, 6))}


def detected() -> tuple[Any, dict[str, Any]]:
    model = build_detector("detr")
    labels = [
        {"class_labels": torch.randint(0, 3, (count,)), "boxes": torch.rand(count, 4) * 0.4 + 0.3}
        for count in (1, 2, 3, 1)
    ]
    return model, {"pixel_values": torch.randn(4, 3, 32, 32), "labels": labels}


def vectors() -> tuple[Any, dict[str, Any]]:
    """Speakers told apart by a margin loss, whose logits are not those of its cross-entropy."""
    sizes = {"tdnn_dim": (8, 8), "tdnn_kernel": (3, 1), "tdnn_dilation": (1, 1), "xvector_output_dim": 8}
    config = tr.Wav2Vec2Config(**streams.FRAMES, **sizes, num_labels=5)
    return tr.Wav2Vec2ForXVector(config), {"input_values": streams.pixels(800), "labels": torch.randint(0, 5, (4,))}


HEADS = (speech_masked, vectors, detected, streams.depth, streams.mask2former)


@pytest.mark.parametrize("build", HEADS, ids=lambda each: each.__name__)
def test_any_head_equals_two_calls(build: Callable[[], tuple[Any, dict[str, Any]]]) -> None:
    model, batch = streams.make(build)
    names = {"labels", "mask_labels", "class_labels"}
    labels = {key: each for key, each in batch.items() if key in names}
    content = {
        key: 0.3 * each + 0.7 * each[PARTNER] if each.is_floating_point() else each
        for key, each in batch.items()
        if key not in names
    }
    wanted = explicit(deepcopy(model), content, labels, 0.3)
    np.random.seed(0)
    found = scored(model, batch, {"method": "mixup", **OWN})
    assert found[0] == pytest.approx(wanted[0], rel=1e-5)
    torch.testing.assert_close(found[1], wanted[1], rtol=1e-4, atol=1e-5)


def test_all_labels_of_a_pretraining_head_are_the_partners() -> None:
    torch.manual_seed(0)
    model = tr.BertForPreTraining(tr.BertConfig(**BERT))
    batch = {**streams.text(), "labels": streams.words(), "next_sentence_label": torch.tensor([0, 1, 1, 0])}
    model.eval()
    with Mixup({"method": "embedding", **OWN})(model, batch, partner=PARTNER, lam=0.0) as mixed:
        found = mixed.loss(model(**mixed.inputs))
    torch.testing.assert_close(found, model(**{key: each[PARTNER] for key, each in batch.items()}).loss)


def test_running_statistics_move_once() -> None:
    model, batch = tiny("image-classification", "resnet")
    other = deepcopy(model)
    scored(model, batch, {"method": "mixup", "loss": "auto"})
    scored(other, batch, {"method": "mixup", **OWN})
    for (name, one), (_, two) in zip(model.named_buffers(), other.named_buffers()):
        torch.testing.assert_close(one, two, rtol=0, atol=0, msg=name)


def test_the_random_state_goes_on_as_after_one_pass() -> None:
    model, batch = tiny("sequence-classification", "bert")
    drawn = []
    for loss in ("auto", "own"):
        scored(deepcopy(model), batch, {"method": "embedding", "loss": loss})
        drawn.append(torch.rand(2))
    torch.testing.assert_close(*drawn)


@pytest.mark.parametrize("lam", [1.0, 0.0])
def test_the_ends_are_the_sample_and_its_partner(lam: float) -> None:
    model, batch = streams.make(streams.transcripts)
    rows = torch.arange(4) if lam else torch.tensor([1, 0, 0, 1])
    with (
        torch.no_grad(),
        Mixup({"method": "mixup", **OWN})(model, batch, partner=torch.tensor([1, 0, 0, 1]), lam=lam) as mixed,
    ):
        found = mixed.loss(mixed.forward(model))
    wanted = model(**{key: each[rows] for key, each in batch.items()}).loss
    torch.testing.assert_close(found, wanted.detach())


@pytest.mark.parametrize("build", [streams.layout_page, streams.blip_captions])
def test_text_left_behind_is_refused_by_the_loss(build: Callable[[], tuple[Any, dict[str, Any]]]) -> None:
    model, batch = streams.make(build)
    with pytest.raises(RuntimeError, match=r"for it leaves input_ids(, bbox)? as they are"):
        Mixup({"method": "cutmix", **OWN})(model, batch)


def test_it_says_once_what_it_costs(caplog: pytest.LogCaptureFixture) -> None:
    model, batch = tiny("sequence-classification", "bert")
    with caplog.at_level(logging.WARNING, "hf_mixup"):
        scored(model, batch, {"method": "embedding", **OWN})
        scored(model, batch, {"method": "embedding", **OWN})
    assert [each for each in caplog.messages if "a second pass of the head" in each] == caplog.messages
    assert len(caplog.messages) == 1


def test_a_batch_left_alone_runs_once() -> None:
    model, batch = tiny("sequence-classification", "bert")
    scored(model, batch, {"method": "embedding", **OWN})  # the model is looked at once
    model.eval()
    calls: list[Any] = []
    model.register_forward_hook(lambda *_: calls.append(1))
    mixup = Mixup({"method": "embedding", "prob": 0.5, **OWN})
    for _ in range(20):
        calls.clear()
        with mixup(model, batch) as mixed:
            loss = mixed.loss(model(**mixed.inputs))
        assert len(calls) == (2 if mixed.rate else 1)
        if not mixed.rate:
            torch.testing.assert_close(loss, model(**batch).loss)


def test_one_sample_is_its_own() -> None:
    model, batch = tiny("sequence-classification", "bert", samples=1)
    with Mixup({"method": "embedding", **OWN})(model, batch) as mixed:
        loss = mixed.loss(model(**mixed.inputs))
    torch.testing.assert_close(loss, model(**batch).loss)


def test_the_second_pass_is_inside_the_context() -> None:
    model, batch = tiny("sequence-classification", "bert")
    with Mixup({"method": "embedding", **OWN})(model, batch, lam=0.5) as mixed:
        outputs = model(**mixed.inputs)
    with pytest.raises(RuntimeError, match=r"take the loss there, or run `mixed\.forward"):
        mixed.loss(outputs)
    with Mixup({"method": "embedding", **OWN})(model, batch, lam=0.5) as mixed:
        outputs = mixed.forward(model)
    torch.testing.assert_close(mixed.loss(outputs), outputs.loss)
    with pytest.raises(ValueError, match=r"num_items_in_batch=8: .* put it into the batch"):
        mixed.loss(outputs, 8)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"method": "mixup", "lam_per": "sample"}, "lam_per='sample' of method 'mixup' does not go with loss='own'"),
    ({"method": "mixup", "prob": 0.5, "prob_per": "sample"}, "prob_per='sample' of method 'mixup'"),
    ({"method": "embedding", "label_smoothing": 0.1}, "label_smoothing=0.1 does not go with loss='own'"),
    ({"method": "embedding", "class_weights": [1.0, 2.0]}, "class_weights=.* does not go with loss='own'"),
    ({"method": "embedding", "distill_weight": 0.5}, "distill_weight=0.5 does not go with loss='own'"),
    ({"method": "switch", "methods": ["mixup", "mosaic"]}, "method 'mosaic' has a rule of its own"),
    ({"method": "one_sided"}, "loss='own' is for labels, and a dual encoder has pairs"),
]


@pytest.mark.parametrize(("settings", "text"), REFUSED)
def test_what_is_not_one_lam_is_refused_by_name(settings: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        MixupConfig({**settings, **OWN})


@pytest.mark.parametrize("name", [name for name, kind in METHODS.items() if not kind.for_pairs])
def test_each_method_goes_with_it_or_says_no(name: str) -> None:
    """Whatever a method draws, the loss is lam of the one and 1 - lam of the other, or it is refused in words."""
    kind = METHODS[name]
    if kind.own_loss:
        with pytest.raises(ValueError, match=f"method '{name}' has a rule of its own|does not go with loss='own'"):
            MixupConfig({"method": name, **OWN})
        return
    for family, model_type in (("image-classification", "vit"), ("sequence-classification", "bert")):
        model, batch = tiny(family, model_type)  # type: ignore[arg-type]
        model.eval()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                mixed = Mixup({"method": name, **OWN})(model, batch)
        except (ValueError, TypeError, RuntimeError):
            continue
        assert isinstance(mixed, OwnBatch)
        with mixed:
            loss = mixed.loss(model(**mixed.inputs))
            logits = (
                model(**{key: each for key, each in mixed.inputs.items() if key != "labels"}).logits.detach()
                if not mixed._method.enters_model
                else None
            )
        if logits is not None:
            losses = nn.functional.cross_entropy(logits, batch["labels"], reduction="none")
            others = nn.functional.cross_entropy(logits, batch["labels"][mixed.partner], reduction="none")
            torch.testing.assert_close(loss, (mixed.lam * losses + (1 - mixed.lam) * others).mean())


def test_lam_that_differs_by_sample_is_refused() -> None:
    model, batch = tiny("sequence-classification", "bert")
    with pytest.raises(ValueError, match=r"lam differs between the samples of the batch \(0\.2 to 0\.5"):
        Mixup({"method": "embedding", **OWN})(model, batch, partner=PARTNER, lam=torch.tensor([0.2, 0.5, 0.5, 0.5]))


def test_cut_label_maps_are_refused() -> None:
    model, batch = segmented()
    with pytest.raises(ValueError, match=r"method 'cutmix' mixes labels .* by a rule of its own"):
        Mixup({"method": "cutmix", **OWN})(model, batch)


def test_a_teacher_and_a_trainers_smoothing_are_refused(tmp_path: Path) -> None:
    model, batch = tiny("sequence-classification", "bert")
    mixup = Mixup({"method": "embedding", **OWN}, teacher=deepcopy(model))
    with pytest.raises(ValueError, match=r"distill_weight=0\.5 does not go"):
        mixup(model, batch)
    args = arguments(tmp_path, label_smoothing_factor=0.1)
    with pytest.raises(ValueError, match=r"label_smoothing=0\.1 does not go"):
        MixupTrainer(model, args, mixup={"method": "embedding", **OWN}, train_dataset=[])


def test_batches_without_labels_are_refused() -> None:
    model, batch = tiny("sequence-classification", "bert")
    del batch["labels"]
    with pytest.raises(ValueError, match=r"has no labels \(labels\); it holds: input_ids"):
        Mixup({"method": "embedding", **OWN})(model, batch)
    model, batch = streams.make(streams.mask2former)
    batch["mask_labels"] = torch.cat(batch["mask_labels"])
    with pytest.raises(ValueError, match=r"mask_labels \(\[8, 64, 64\]\) has not one item for each of the 4 samples"):
        Mixup({"method": "mixup", **OWN})(model, batch)


def arguments(folder: Path, **more: Any) -> TrainingArguments:
    settings: dict[str, Any] = {
        **{"per_device_train_batch_size": 4, "max_steps": 3, "learning_rate": 1e-2, "optim": "sgd", "use_cpu": True},
        **{"report_to": [], "logging_steps": 1, "disable_tqdm": True, "remove_unused_columns": False, "seed": 5},
        **{"average_tokens_across_devices": False, "lr_scheduler_type": "constant"},
    }
    return TrainingArguments(output_dir=str(folder), **{**settings, **more})


def samples(batch: dict[str, Any]) -> list[dict[str, Any]]:
    return [{key: each[row] for key, each in batch.items()} for row in range(4)] * 3


def lists(rows: list[dict[str, Any]]) -> dict[str, Any]:
    stacked = {key: [row[key] for row in rows] for key in rows[0]}
    return {key: each if key.endswith("_labels") else torch.stack(each) for key, each in stacked.items()}


def still_transcripts() -> tuple[Any, dict[str, Any]]:
    drops = ("hidden_dropout", "attention_dropout", "feat_proj_dropout", "final_dropout", "activation_dropout")
    config = tr.Wav2Vec2Config(**streams.FRAMES, **dict.fromkeys(drops, 0.0), ctc_zero_infinity=True)
    return tr.Wav2Vec2ForCTC(config), {"input_values": streams.pixels(800), "labels": torch.randint(1, 20, (4, 6))}


def train(point: str, model: Any, folder: Path, config: MixupConfig, data: Any, **settings: Any) -> Trainer:
    args = arguments(folder, per_device_train_batch_size=2, gradient_accumulation_steps=2, **settings)
    if point == "collator":
        collator = MixupCollator(lists, config, model=model)
        trainer = Trainer(model, args, data_collator=collator, train_dataset=data)
    elif point == "adopted":
        trainer = MixupTrainer(model, args, data_collator=MixupCollator(lists, config), train_dataset=data)
    else:
        trainer = ENTRY_POINTS[point](model, args, config, train_dataset=data, data_collator=lists)
    trainer.train()
    assert sum("mixup_lam" in entry for entry in trainer.state.log_history) == 3
    return trainer


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
@pytest.mark.parametrize("build", [still_transcripts, streams.mask2former])
def test_every_entry_point_ends_where_two_calls_end(
    build: Callable[[], tuple[Any, dict[str, Any]]], entry_point: str, tmp_path: Path
) -> None:
    """Three steps of SGD, with accumulation: as a plain Trainer on a model that makes both calls by itself."""
    mixed, batch = streams.make(build)
    plain = TwoCalls(deepcopy(mixed))
    config = MixupConfig("mixup", lam=0.3, pairing="flip", **OWN)
    losses = losses_of(train(entry_point, mixed, tmp_path, config, samples(batch)))
    args = arguments(tmp_path, per_device_train_batch_size=2, gradient_accumulation_steps=2)
    trainer = Trainer(plain, args, train_dataset=samples(batch), data_collator=lists)
    trainer.train()
    assert losses == pytest.approx(losses_of(trainer), rel=1e-5)
    for name, each in plain.inner.state_dict().items():
        torch.testing.assert_close(mixed.state_dict()[name], each, rtol=1e-5, atol=1e-6, msg=name)


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_tokens_are_counted_over_micro_batches(entry_point: str, tmp_path: Path) -> None:
    """A language model is told how many labels the whole step has, in both passes."""
    torch.manual_seed(0)
    model = tr.LlamaForCausalLM(tr.LlamaConfig(**BERT, num_key_value_heads=2))
    other, batch = deepcopy(model), streams.text()
    batch["labels"] = batch["input_ids"].clone()
    batch["labels"][0, 3:], batch["labels"][1, 5:] = -100, -100
    config = MixupConfig("embedding", lam=0.3, pairing="flip", **OWN)
    found = losses_of(train(entry_point, model, tmp_path, config, samples(batch)))
    wanted = losses_of(train("trainer", other, tmp_path, config.replace(loss="auto"), samples(batch)))
    assert found == pytest.approx(wanted, rel=1e-5)
    for name, each in other.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], each, rtol=1e-5, atol=1e-6, msg=name)


def losses_of(trainer: Trainer) -> list[float]:
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


class TwoCalls(nn.Module):
    """A model that blends pixels or waves with the flipped batch, and returns the loss of two explicit calls."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner = inner

    @property
    def accepts_loss_kwargs(self) -> bool:
        parameters = inspect.signature(self.inner.forward).parameters.values()
        return any(each.kind is each.VAR_KEYWORD for each in parameters)  # as the Trainer asks

    def forward(self, labels: Any = None, mask_labels: Any = None, class_labels: Any = None, **content: Tensor) -> Any:
        given = {"labels": labels, "mask_labels": mask_labels, "class_labels": class_labels}
        blend = {key: 0.3 * each + 0.7 * each.flip(0) if each.is_floating_point() else each
                 for key, each in content.items()}  # fmt: skip
        state = RandomState(self.inner)
        own = {key: each for key, each in given.items() if each is not None}
        partners = {key: each.flip(0) if isinstance(each, Tensor) else each[::-1] for key, each in own.items()}
        first = self.inner(**blend, **own).loss
        with state.again():
            return {"loss": 0.3 * first + 0.7 * self.inner(**blend, **partners).loss}


def test_a_resumed_run_ends_as_one_that_was_not_interrupted(tmp_path: Path) -> None:
    ends = []
    for stops in (False, True):
        model, batch = streams.make(streams.transcripts)
        args = arguments(tmp_path / str(stops), save_steps=1, max_steps=4)
        trainer = MixupTrainer(model, args, mixup=MixupConfig("mixup", **OWN), train_dataset=samples(batch))
        if stops:
            args.max_steps = 2
            trainer.train()
            model, _ = streams.make(streams.transcripts)
            args = arguments(tmp_path / str(stops), save_steps=1, max_steps=4)
            trainer = MixupTrainer(model, args, mixup=MixupConfig("mixup", **OWN), train_dataset=samples(batch))
            trainer.train(resume_from_checkpoint=True)
        else:
            trainer.train()
        ends.append(model.state_dict())
    for name, each in ends[0].items():
        torch.testing.assert_close(each, ends[1][name], rtol=0, atol=0, msg=name)


def test_off_is_the_plain_trainer(tmp_path: Path) -> None:
    ends = []
    for mixes in (True, False):
        model, batch = streams.make(streams.transcripts)
        callbacks = [MixupCallback(MixupConfig("mixup", prob=0.0, **OWN))] if mixes else []
        Trainer(model, arguments(tmp_path), train_dataset=samples(batch), callbacks=callbacks).train()
        ends.append(model.state_dict())
    for name, each in ends[0].items():
        torch.testing.assert_close(each, ends[1][name], rtol=0, atol=0, msg=name)
