"""Cross-Modal Mixup of models that fuse image and text, and have labels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from hf_mixup import Mixup
from hf_mixup.testing.batches import tiny
from tests import streams

PARTNER = torch.tensor([1, 0, 0, 1])
FUSE = (
    streams.vilt_two_images,
    streams.layout_page,
    streams.blip_captions,
    streams.trocr,
    streams.whisper,
    streams.llava,
    streams.qwen2_vl,
)


def mixed_loss(mixup: Mixup, model: Any, batch: streams.Batch, lam: float) -> float:
    with torch.no_grad(), mixup(model, batch, partner=PARTNER, lam=lam) as mixed:
        return float(mixed.loss(mixed.forward(model)))


@pytest.mark.parametrize("build", FUSE, ids=lambda build: build.__name__)
@pytest.mark.parametrize("image_mix", ["blend", "latent"])
def test_the_ends_are_the_sample_and_its_partner(build: Callable[[], tuple[Any, Any]], image_mix: str) -> None:
    model, batch = streams.make(build)
    mixup = Mixup({"method": "cross_modal", "image_mix": image_mix})
    theirs = {key: streams.rows_at(value, PARTNER) for key, value in batch.items()}
    with torch.no_grad():
        ends = {1.0: float(model(**batch).loss), 0.0: float(model(**theirs).loss)}
    for lam, expected in ends.items():
        assert mixed_loss(mixup, model, batch, lam) == pytest.approx(expected, abs=2e-4)


def uneven(batch: streams.Batch) -> streams.Batch:
    """Return a batch whose samples show fewer and fewer of the last tokens (or patches)."""
    mask = batch["attention_mask"].clone()
    for row in range(len(mask)):
        mask[row, mask.shape[1] - row :] = 0
    return {**batch, "attention_mask": mask}


@pytest.mark.parametrize("build", [streams.vilt_two_images, streams.layout_page, streams.llava, streams.pix2struct])
def test_the_fusion_point_sees_what_either_sample_shows(build: Callable[[], tuple[Any, Any]]) -> None:
    model, batch = streams.make(build)
    batch = uneven(batch)
    if build is streams.llava:
        batch["labels"] = batch["labels"].masked_fill(batch["attention_mask"] == 0, -100)
    settings = {"method": "mixup"} if build is streams.pix2struct else {"method": "cross_modal", "image_mix": "latent"}
    partner = torch.tensor([3, 2, 1, 0])
    theirs = {key: streams.rows_at(value, partner) for key, value in batch.items()}
    with torch.no_grad():
        expected = float(model(**theirs).loss)
        with Mixup(settings)(model, batch, partner=partner, lam=0.0) as mixed:
            found = float(mixed.loss(mixed.forward(model)))
    assert found == pytest.approx(expected, abs=2e-4)


@pytest.mark.parametrize("build", FUSE, ids=lambda build: build.__name__)
def test_blending_is_method_mixup(build: Callable[[], tuple[Any, Any]]) -> None:
    model, batch = streams.make(build)
    assert mixed_loss(Mixup("cross_modal"), model, batch, 0.3) == mixed_loss(Mixup("mixup"), model, batch, 0.3)


def test_with_a_cut_text_and_labels_weigh_as_the_image_does() -> None:
    torch.manual_seed(0)
    model, batch = streams.Fusion(), streams.fused(input_ids=torch.randint(0, 20, (4, 5)))
    batch["pixel_values"] = torch.randn(4, 3, 2, 2)
    with Mixup({"method": "cross_modal", "image_mix": "cut"})(model, batch, partner=PARTNER, lam=0.5) as mixed:
        logits = model(**mixed.inputs)["logits"]
        loss = mixed.loss({"logits": logits})
    lam, pixels = mixed.lam[0], batch["pixel_values"]
    top, left, bottom, right = mixed.draw.boxes.tolist()
    image = pixels.clone()
    image[:, :, top:bottom, left:right] = pixels[PARTNER][:, :, top:bottom, left:right]
    assert 0 < float(lam) == 1 - (bottom - top) * (right - left) / 4 < 1
    words = model.read(batch["input_ids"]).mean(1)
    state = model.seen(image.flatten(1)) + lam * words + (1 - lam) * words[PARTNER]
    scores = model.head(state.tanh())
    assert torch.allclose(logits, scores, atol=1e-6)
    each = [torch.nn.functional.cross_entropy(scores, labels) for labels in (batch["labels"], batch["labels"][PARTNER])]
    assert torch.allclose(loss, lam * each[0] + (1 - lam) * each[1])


def test_images_are_cut_beside_a_text_of_a_language_model() -> None:
    model, batch = streams.make(streams.llava)
    mixup = Mixup({"method": "cross_modal", "image_mix": "cut"})
    with mixup(model, batch, lam=0.6) as mixed:
        loss = mixed.loss(mixed.forward(model))
    assert torch.isfinite(loss)
    assert 0 < float(mixed.lam[0]) < 1
    assert not torch.equal(mixed.inputs["pixel_values"], batch["pixel_values"])


def test_labels_have_their_settings() -> None:
    torch.manual_seed(0)
    model, batch = streams.Fusion(), streams.fused(input_ids=torch.randint(0, 20, (4, 5)))
    settings = {"class_weights": [1.0, 2.0, 3.0], "label_smoothing": 0.1}
    losses = [mixed_loss(Mixup({"method": name, **settings}), model, batch, 0.3) for name in ("cross_modal", "mixup")]
    assert losses[0] == losses[1]


REFUSED: dict[str, Any] = {
    r"text_mix='aligned' is for dual encoders, and Fusion fuses image and text": {"text_mix": "aligned"},
    r"keys=\['pixel_values'\] is for dual encoders": {"keys": ["pixel_values"]},
    "chunk_size=2 is for dual encoders, and Fusion is none": {"chunk_size": 2},
    "loss='sigmoid' is for dual encoders, and Fusion is none": {"loss": "sigmoid"},
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_is_for_dual_encoders_is_refused(message: str) -> None:
    batch = streams.fused(input_ids=torch.randint(0, 20, (4, 5)))
    with (
        pytest.raises(ValueError, match=message),
        Mixup({"method": "cross_modal", **REFUSED[message]})(streams.Fusion(), batch),
    ):
        pass


def test_a_cut_that_leaves_something_is_refused() -> None:
    model, batch = streams.make(streams.whisper)  # a spectrogram can be cut
    with Mixup({"method": "cross_modal", "image_mix": "cut"})(model, batch, lam=0.5):
        pass
    model, batch = streams.make(streams.qwen2_vl)
    with (
        pytest.raises(ValueError, match=r"'cut' does not fit Qwen2VL\w+: of pixel_values no box can be cut: use"),
        Mixup({"method": "cross_modal", "image_mix": "cut"})(model, batch, lam=0.5),
    ):
        pass


def test_one_input_is_for_method_mixup() -> None:
    model, batch = tiny("image-classification", "vit")
    with pytest.raises(ValueError, match="is no dual encoder and is given pixel_values: use 'mixup'"):
        Mixup("cross_modal")(model, batch)


def test_the_other_methods_for_pairs_are_for_dual_encoders() -> None:
    batch = streams.fused(input_ids=torch.randint(0, 20, (4, 5)))
    with pytest.raises(ValueError, match="'one_sided' mixes pairs, and Fusion is no dual encoder"):
        Mixup("one_sided")(streams.Fusion(), batch)
    switch = {"method": "switch", "methods": ["cross_modal", "one_sided"]}
    with pytest.raises(ValueError, match="'switch' mixes pairs, and Fusion is no dual encoder"):
        Mixup(switch)(streams.Fusion(), batch)
