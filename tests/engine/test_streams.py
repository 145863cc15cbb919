"""Samples with several inputs: all content of a sample is mixed with its labels, or the method is refused."""

from __future__ import annotations

import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    Trainer,
    TrainingArguments,
    ViltConfig,
    ViltForImagesAndTextClassification,
)

import hf_mixup
from hf_mixup import Mixup, MixupConfig, MixupTrainer
from hf_mixup.functional import blend
from hf_mixup.methods import METHODS, EmbeddingMixup
from hf_mixup.methods.base import Blend, Method
from hf_mixup.testing.batches import tiny
from tests import streams
from tests.entry_points import ENTRY_POINTS
from tests.streams import Fusion, fused

PACKAGE = str(Path(hf_mixup.__file__).parent)
PARTNER = torch.tensor([1, 0, 0, 1])  # no permutation, so that the mean losses of the two ends differ


def own_loss(model: Any, batch: streams.Batch, which: Tensor | None = None) -> float:
    rows = batch if which is None else {key: streams.rows_at(value, which) for key, value in batch.items()}
    torch.manual_seed(1)  # some losses look at random points
    with torch.no_grad():
        return float(model(**rows).loss)


def mixed_loss(mixup: Mixup, model: Any, batch: streams.Batch, lam: float) -> float:
    with torch.no_grad(), mixup(model, batch, partner=PARTNER, lam=lam) as mixed:
        torch.manual_seed(1)
        return float(mixed.loss(mixed.forward(model)))


def verdict(model: Any, batch: streams.Batch, method: str, ends: dict[float, float]) -> str:
    """Return "exact", "refused: why", "wrong" (silently) or "crash: where", outside this package."""
    try:
        mixup = Mixup(method)
        found = {lam: mixed_loss(mixup, model, batch, lam) for lam in ends}
    except Exception as error:  # noqa: BLE001 - what a method raises is the question
        last = traceback.extract_tb(error.__traceback__)[-1].filename
        return f"{'refused' if last.startswith(PACKAGE) else 'crash'}: {error}"
    near = all(abs(found[lam] - ends[lam]) <= 2e-4 * max(1, abs(ends[lam])) for lam in ends)
    return "exact" if near else f"wrong: {found}, expected {ends}"


DENSE = (streams.depth, streams.mask2former)
"""Images alone, whose labels lie in them."""


@pytest.mark.parametrize("build", streams.MODELS, ids=lambda build: build.__name__)
def test_every_method_mixes_all_of_a_sample_or_says_no(build: Callable[[], tuple[Any, streams.Batch]]) -> None:
    model, batch = streams.make(build)
    ends = {1.0: own_loss(model, batch), 0.0: own_loss(model, batch, PARTNER)}
    found = {method: verdict(model, batch, method, ends) for method in METHODS}
    assert not {method: each for method, each in found.items() if not each.startswith(("exact", "refused"))}
    exact = {method for method, each in found.items() if each == "exact"}
    if build in DENSE:
        assert {"mixup", "cutmix", "mosaic"} <= exact
    else:
        assert {"mixup", "manifold"} <= exact
        assert build is streams.transcripts or not {"cutmix", "fmix"} & exact  # each leaves a stream behind


LEFT = {
    streams.layout_page: r"leaves input_ids, bbox as they are and mixes the labels\. Use 'mixup' or 'manifold'",
    streams.trocr: r"leaves decoder_input_ids as they are and mixes the labels\. Use 'mixup' or 'manifold'",
    streams.llava: r"leaves input_ids as they are and mixes the labels\. Use 'mixup' or 'manifold'",
}


@pytest.mark.parametrize("build", LEFT, ids=lambda build: build.__name__)
def test_what_a_cut_leaves_behind_is_named_with_a_way_out(build: Callable[[], tuple[Any, streams.Batch]]) -> None:
    model, batch = streams.make(build)
    with pytest.raises(RuntimeError, match=LEFT[build]):
        Mixup("cutmix")(model, batch)


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_every_entry_point_refuses_before_the_first_step(entry_point: str, arguments: Any) -> None:
    model, batch = streams.make(streams.layout_page)
    rows = [{key: value[row] for key, value in batch.items()} for row in range(4)]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trainer = ENTRY_POINTS[entry_point](model, arguments(max_steps=1), MixupConfig("cutmix"), train_dataset=rows)
    with pytest.raises(RuntimeError, match="leaves input_ids, bbox as they are"):
        trainer.train()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    model, _ = streams.make(streams.layout_page)
    ENTRY_POINTS[entry_point](model, arguments(max_steps=1), MixupConfig("manifold"), train_dataset=rows).train()


class Framewise(nn.Module):
    """CTC under another name, whose labels may be as many as its frames: its loss is then not finite."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.config = nn.Linear(6, 5), SimpleNamespace(num_labels=5)

    def forward(self, input_values: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        scores = self.head(input_values)
        if labels is None:
            return {"logits": scores}
        size = torch.full((len(scores),), scores.shape[1])
        return {"loss": F.ctc_loss(scores.log_softmax(-1).transpose(0, 1), labels, size, size), "logits": scores}


def test_a_loss_that_is_not_finite_is_not_close_to_one_that_is() -> None:
    batch = {"input_values": torch.randn(4, 7, 6), "labels": torch.ones(4, 7, dtype=torch.long)}
    model = Framewise()
    assert torch.isinf(model(**batch)["loss"])
    with pytest.raises(RuntimeError, match="the loss of Framewise on two rows is inf"):
        Mixup("mixup")(model, batch)


def test_each_set_of_inputs_is_tried() -> None:
    torch.manual_seed(0)
    model, mixup = Fusion(), Mixup("fmix")
    mixup(model, fused())
    mixup(model, fused())
    with pytest.raises(RuntimeError, match=r"leaves input_ids as they are and mixes the labels\. Use 'mixup'"):
        mixup(model, fused(input_ids=torch.randint(0, 20, (4, 5))))
    with pytest.raises(RuntimeError, match="leaves condition as they are"):
        mixup(model, fused(condition=torch.tensor([0, 3, 1, 2])))
    mixup(model, fused())
    Mixup("embedding")(model, fused(input_ids=torch.randint(0, 20, (4, 5)), condition=torch.tensor([0, 3, 1, 2])))


def test_the_two_samples_that_are_tried_differ_in_what_the_batch_holds() -> None:
    torch.manual_seed(0)
    with pytest.raises(RuntimeError, match="leaves condition as they are"):
        Mixup("cutmix")(Fusion(), fused(condition=torch.tensor([3, 3, 3, 1])))


def test_an_input_that_was_alike_in_the_first_batch_is_looked_at_again() -> None:
    torch.manual_seed(0)
    model, mixup = Fusion(), Mixup("cutmix")
    for _ in range(3):  # one prompt for all images: nothing stays behind
        mixup(model, fused(condition=torch.tensor([3, 3, 3, 3])))
    with pytest.raises(RuntimeError, match="leaves condition as they are"):
        mixup(model, fused(condition=torch.tensor([3, 3, 1, 3])))


def test_keys_that_leave_content_behind_are_refused() -> None:
    model, batch = tiny("image-classification", "vit")
    Mixup(MixupConfig("mixup", keys=["pixel_values"]))(model, batch)

    class Two(nn.Module):
        config = SimpleNamespace(num_labels=3)

        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(4, 3)

        def forward(self, image: Tensor, audio: Tensor) -> dict[str, Tensor]:
            return {"logits": self.head(image + audio)}

    both = {"image": torch.randn(4, 4), "audio": torch.randn(4, 4), "labels": torch.tensor([0, 1, 2, 0])}
    model = Two()
    Mixup("mixup")(model, both)
    with pytest.raises(RuntimeError, match=r"leaves audio as they are and mixes the labels\. Use 'sentence'$"):
        Mixup(MixupConfig("mixup", keys=["image"]))(model, both)


def test_a_mask_of_pixels_that_a_method_leaves_is_content_left_behind() -> None:
    class Masked(nn.Module):
        config = SimpleNamespace(num_labels=3)

        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(3, 3)

        def forward(self, pixel_values: Tensor, pixel_mask: Tensor) -> dict[str, Tensor]:
            seen = (pixel_values * pixel_mask[:, None]).sum((2, 3)) / pixel_mask.sum((1, 2))[:, None]
            return {"logits": self.head(seen)}

    shown = torch.ones(4, 8, 8, dtype=torch.long)
    shown[1, :, 4:] = shown[2, 4:] = 0
    batch = {"pixel_values": torch.randn(4, 3, 8, 8), "pixel_mask": shown, "labels": torch.tensor([0, 1, 2, 0])}
    for method in ("mixup", "cutmix"):
        Mixup(method)(Masked(), batch)
    with pytest.raises(RuntimeError, match="does not mix rightly with method 'fmix'"):
        Mixup("fmix")(Masked(), batch)


class Forgetful(Blend):
    """Blends the images and takes the samples' own labels for the partners'."""

    name, title, blends, paper = "forgetful", "Forgetful", "images", "none"

    def apply(self, model: nn.Module, batch: Any, drawn: Any, inplace: bool) -> dict[str, Any]:
        lam, pixels = drawn.lam[:, None, None, None], batch["pixel_values"]
        return {**batch, "pixel_values": lam * pixels + (1 - lam) * pixels[drawn.partner]}

    def other_labels(self, labels: Tensor, drawn: Any) -> Tensor:
        return labels


class Idle(Forgetful):
    """Mixes the labels of images that stay."""

    name = "idle"

    def apply(self, model: nn.Module, batch: Any, drawn: Any, inplace: bool) -> dict[str, Any]:
        return dict(batch)


@pytest.mark.parametrize(
    ("method", "reason"),
    [
        (Forgetful, "its loss misses the partner's"),
        (Idle, "leaves all inputs as they are and mixes the labels"),
    ],
)
def test_a_method_of_ones_own_is_tried_on_inputs_and_loss(
    method: type[Method], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(METHODS, method.name, method)
    model, batch = tiny("image-classification", "vit")
    with pytest.raises(RuntimeError, match=f"{reason}.*Use 'mixup' or 'manifold'"):
        Mixup(method.name)(model, batch)
    Mixup(MixupConfig(method.name, self_check=False))(model, batch)  # at the user's own risk


@pytest.mark.parametrize("method", ["gaussian", "adversarial"])
def test_methods_that_mix_no_labels_may_change_a_part_of_a_sample(method: str) -> None:
    torch.manual_seed(0)
    model, batch = Fusion(), fused(condition=torch.tensor([0, 3, 1, 2]))
    with Mixup(MixupConfig(method, prob=1.0))(model, batch) as mixed:
        assert torch.isfinite(mixed.loss(model(**mixed.inputs)))


def test_the_trial_leaves_no_trace() -> None:
    model, batch = tiny("image-classification", "resnet")
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    Mixup("puzzlemix")(model, batch)
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_model_that_cannot_be_run_by_itself_is_not_tried_and_says_so() -> None:
    class FlatParameter(nn.Parameter):
        """As the first FSDP calls what it makes of the weights."""

    model, mixup = Fusion(), Mixup("mixup")
    model.head.weight = FlatParameter(model.head.weight.detach())
    with pytest.warns(UserWarning, match="the first version of FSDP, so that mixing cannot be tried"):
        mixup(model, fused(condition=torch.tensor([0, 3, 1, 2])))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mixup(model, fused())


def test_a_sample_alone_is_not_tried() -> None:
    torch.manual_seed(0)
    model, mixup = Fusion(), Mixup("cutmix")
    batch = fused(condition=torch.tensor([0, 3, 1, 2]))
    mixup(model, {key: value[:1] for key, value in batch.items()})
    with pytest.raises(RuntimeError, match="leaves condition"):
        mixup(model, batch)


def test_a_refusal_by_the_method_speaks_of_the_batch() -> None:
    model, batch = tiny("sequence-classification", "bert")
    with pytest.raises(ValueError, match=r"'fmix' found no floating-point input of 4 .*input_ids int64 \[4, 10\]"):
        Mixup("fmix")(model, batch)


def test_an_accumulated_batch_may_end_with_other_inputs(arguments: Callable[..., TrainingArguments]) -> None:
    """Each kind of batch has its own trial, also where a Trainer counts the labels of several at once."""
    config = BertConfig(**streams.SMALL, vocab_size=60, num_labels=3)
    model = BertForSequenceClassification(config)
    rows = [{"input_ids": torch.randint(5, 60, (6,)), "labels": row % 3} for row in range(8)]

    def collate(samples: list[Any]) -> streams.Batch:
        ids = torch.stack([sample["input_ids"] for sample in samples])
        batch = {"input_ids": ids, "labels": torch.tensor([sample["labels"] for sample in samples])}
        return batch if ids.sum() % 2 else {**batch, "token_type_ids": ids % 2}

    trainer: Trainer = MixupTrainer(
        model,
        arguments(max_steps=2, gradient_accumulation_steps=2, per_device_train_batch_size=2),
        train_dataset=rows,
        data_collator=collate,
        mixup="embedding",
    )
    trainer.train()


def brute_force(model: Any, batch: streams.Batch, lam: float) -> Tensor:
    """Return the logits of ViLT on samples whose pixels and word embeddings were blended by hand."""
    words = model.vilt.embeddings.text_embeddings.word_embeddings
    mixed = {key: value for key, value in batch.items() if key != "labels"}
    embeds = words(mixed.pop("input_ids"))
    for key, value in (("pixel_values", mixed["pixel_values"]), ("inputs_embeds", embeds)):
        mixed[key] = lam * value + (1 - lam) * value[PARTNER]
    return model(**mixed).logits


@pytest.mark.parametrize("lam", [0.3, 0.8])
def test_a_blend_of_images_and_words_is_the_one_that_is_made_by_hand(lam: float) -> None:
    model, batch = streams.make(streams.vilt_two_images)
    model.double()
    batch["pixel_values"] = batch["pixel_values"].double()
    with torch.no_grad(), Mixup("mixup")(model, batch, partner=PARTNER, lam=lam) as mixed:
        logits = model(**mixed.inputs).logits
        loss = mixed.loss({"logits": logits})
    expected, labels = brute_force(model, batch, lam), batch["labels"]
    share = float(mixed.lam[0])  # lam in float32
    assert torch.allclose(logits, expected, rtol=1e-6, atol=1e-8)
    own, others = F.cross_entropy(expected, labels), F.cross_entropy(expected, labels[PARTNER])
    assert torch.allclose(loss, share * own + (1 - share) * others, rtol=1e-6)


def test_an_input_that_was_alike_first_is_blended_when_it_differs() -> None:
    torch.manual_seed(0)
    model, mixup = Fusion(), Mixup("mixup")
    mixup(model, fused(condition=torch.tensor([3, 3, 3, 3])))
    batch = fused(condition=torch.tensor([3, 3, 1, 3]))
    with torch.no_grad():
        expected = model(**{key: value for key, value in batch.items() if key != "labels"})["logits"]
        with mixup(model, batch, partner=torch.tensor([2, 0, 1, 3]), lam=0.0) as mixed:
            found = model(**mixed.inputs)["logits"]
    assert torch.allclose(found, expected[[2, 0, 1, 3]], atol=1e-6)


class Page(nn.Module):
    """Scores words and where they stand: looked up in a grid of ten, and where it measures read as numbers, too."""

    def __init__(self, measures: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.config, self.measures = SimpleNamespace(num_labels=3), measures
        self.words, self.places, self.sizes = nn.Embedding(20, 8), nn.Embedding(10, 8), nn.Linear(4, 8)
        self.head = nn.Linear(8, 3)

    def forward(self, input_ids: Tensor, bbox: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        states = self.words(input_ids) + self.places((bbox * 9).long()).sum(2)
        return self.said((states + self.sizes(bbox) if self.measures else states).mean(1), labels)

    def said(self, states: Tensor, labels: Tensor | None) -> dict[str, Tensor]:
        logits = self.head(states.tanh())
        loss = {} if labels is None else {"loss": F.cross_entropy(logits, labels)}
        return {**loss, "logits": logits}


@pytest.mark.parametrize("method", ["mixup", "embedding"])
def test_floats_that_choose_entries_of_a_table_are_blended_where_these_are_looked_up(method: str) -> None:
    ids, boxes, labels = torch.randint(0, 20, (4, 5)), torch.rand(4, 5, 4).double(), torch.tensor([0, 1, 2, 0])
    model, batch = Page(measures=False).double(), {"input_ids": ids, "bbox": boxes, "labels": labels}
    states = (model.words(ids) + model.places((boxes * 9).long()).sum(2)).mean(1)
    for lam in (1.0, 0.3, 0.0):
        with Mixup(method)(model, batch, partner=PARTNER, lam=lam) as mixed:
            found = model(**mixed.inputs)["logits"]
        share = float(mixed.lam[0])
        expected = model.said(share * states + (1 - share) * states[PARTNER], None)["logits"]
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8)
    with pytest.raises(
        RuntimeError, match=f"Page does not mix rightly with method '{method}': with lam = 0 its outputs"
    ):
        Mixup(method)(Page(measures=True).double(), batch)


def test_content_that_is_exchanged_twice_is_found() -> None:
    """Two samples of which one becomes the other do not show it: both are the other one then."""

    class Twice(EmbeddingMixup):
        def apply(self, model: nn.Module, batch: Any, draw: Any, inplace: bool) -> dict[str, Any]:
            mixed = super().apply(model, batch, draw, inplace)
            return {**mixed, "bbox": blend(batch["bbox"], draw.partner, draw.lam)}

    batch = {
        "input_ids": torch.randint(0, 20, (4, 5)),
        "bbox": torch.rand(4, 5, 4),
        "labels": torch.tensor([0, 1, 2, 0]),
    }
    with pytest.raises(RuntimeError, match="method 'embedding': with lam = 0 its outputs miss the partner's"):
        Mixup(Twice())(Page(measures=False), batch)


def test_parts_that_belong_to_no_sample_are_named() -> None:
    class Tiles(Fusion):
        def forward(self, pixel_values: Tensor, input_ids: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
            return super().forward(pixel_values.unflatten(0, (4, 2)).mean(1), input_ids, None, labels)

    batch = {**fused(input_ids=torch.randint(0, 20, (4, 5))), "pixel_values": torch.randn(8, 3, 2, 2)}
    with pytest.raises(RuntimeError, match=r"pixel_values \[8, 3, 2, 2\] .* holds the content of all 4 samples"):
        Mixup("mixup")(Tiles(), batch)


def test_as_many_tokens_as_patches_by_chance_is_no_bond() -> None:
    """The types of 17 patches look like those of 17 tokens, until a batch has more tokens."""
    small = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    config = ViltConfig(**small, vocab_size=60, image_size=32, patch_size=8, num_images=1, num_labels=3)
    torch.manual_seed(0)
    model, engine, partner = ViltForImagesAndTextClassification(config).eval(), Mixup("mixup"), torch.tensor([1, 0])
    for length in (17, 19, 12, 17):
        ids, labels = torch.randint(5, 60, (2, length)), torch.tensor([0, 1])
        batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values": torch.randn(2, 3, 32, 32)}
        with torch.no_grad():
            with engine(model, {**batch, "labels": labels}, partner, lam=0.0) as mixed:
                logits = model(**mixed.inputs).logits
            torch.testing.assert_close(logits, model(**batch).logits[partner], atol=1e-6, rtol=0)
