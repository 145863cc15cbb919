"""CutMix along time, space or both, and what padding means for lam, against loops."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import PreTrainedConfig

from hf_mixup.functional import box_lam, boxes_at
from tests.methods.inputs import LENGTHS, Named, Size, drawn, loop_cut, ragged

CUTS: dict[str, tuple[str, Size]] = {
    "waveform": ("input_values", (40,)),
    "channel": ("input_values", (1, 40)),
    "spectrogram": ("input_features", (14, 6)),
    "transposed": ("input_features", (6, 14)),
    "clap": ("input_features", (1, 14, 6)),
    "image": ("pixel_values", (3, 9, 8)),
    "video": ("pixel_values_videos", (5, 3, 9, 8)),
    "series": ("past_values", (14, 3)),
}


AXES: dict[tuple[str, Any], tuple[int, ...] | None] = {
    ("waveform", None): (1,), ("waveform", "time"): (1,), ("waveform", "space"): None, ("waveform", "both"): None,
    ("channel", None): (2,), ("channel", "time"): (2,), ("channel", "space"): None,
    ("spectrogram", None): (1, 2), ("spectrogram", "time"): (1,), ("spectrogram", "space"): (2,),
    ("spectrogram", "both"): (1, 2),
    ("transposed", None): (1, 2), ("transposed", "time"): (2,), ("transposed", "space"): (1,),
    ("transposed", "both"): (1, 2),
    ("clap", None): (2, 3), ("clap", "time"): (2,), ("clap", "space"): (3,), ("clap", "both"): (2, 3),
    ("image", None): (2, 3), ("image", "time"): None, ("image", "space"): (2, 3), ("image", "both"): None,
    ("video", None): (3, 4), ("video", "time"): (1,), ("video", "space"): (3, 4), ("video", "both"): (1, 3, 4),
    ("series", None): (1,), ("series", "time"): (1,), ("series", "space"): None, ("series", "both"): None,
}  # fmt: skip


@pytest.mark.parametrize("settings", [{}, {"lam_per": "sample"}, {"box_sides": [0.2, 0.8], "lam_per": "pair"}], ids=str)
@pytest.mark.parametrize(("kind", "along"), AXES)
def test_boxes_lie_in_the_axes_that_are_asked_for(kind: str, along: Any, settings: dict[str, Any]) -> None:
    key, size = CUTS[kind]
    batch = {key: torch.randn(7, *size, generator=torch.Generator().manual_seed(1))}
    axes = AXES[kind, along]
    if axes is None:
        with pytest.raises(ValueError, match=rf"cut_along='{along}': {key} .* leave it unset"):
            drawn("cutmix", batch, cut_along=along, **settings)
        return
    before = batch[key].clone()
    for seed in range(5):
        draw, mixed = drawn("cutmix", batch, cut_along=along, draw_seed=seed, **settings)
        expected, share = loop_cut(before, draw, axes)
        assert torch.equal(mixed[key], expected)
        torch.testing.assert_close(draw.lam, share)
        assert draw.boxes.shape == ((2 * len(axes),) if settings == {} else (7, 2 * len(axes)))
    low = {key: batch[key].to(torch.bfloat16).requires_grad_()}
    assert drawn("cutmix", low, cut_along=along, **settings)[1][key].dtype == torch.bfloat16  # the formula, for a graph
    for dictated, source in ((torch.ones(7), torch.arange(7)), (torch.zeros(7), torch.arange(7).roll(1))):
        draw, mixed = drawn("cutmix", batch, cut_along=along, partner=torch.arange(7).roll(1), dictated=dictated)
        assert torch.equal(mixed[key], before[source])
        assert torch.equal(draw.lam, dictated)


def test_sides_leave_lam_of_an_audio_and_of_a_video() -> None:
    """In the middle, where nothing is clipped: 1 - lam of a stretch, its third root along each side of a block."""
    for size in ((4000,), (200, 300, 400)):
        lam = torch.tensor([0.0, 0.3, 0.8, 1.0], dtype=torch.float64)
        boxes = boxes_at(torch.tensor([n // 2 for n in size]).expand(4, -1), size, lam)
        torch.testing.assert_close(box_lam(boxes, *size).double(), lam, atol=0.02, rtol=0)


def test_which_axis_is_time() -> None:
    square = torch.randn(3, 8, 8)
    for settings, message in (
        ({"cut_along": "time"}, r"which axis of input_features \[3, 8, 8\] is time: set time_axis to 1 or 2"),
        ({"time_axis": 3}, r"time_axis=3: time in input_features \[3, 8, 8\] can be axis 1 or 2"),
    ):
        with pytest.raises(ValueError, match=message):
            drawn("cutmix", {"input_features": square}, **settings)
    for axis in (1, 2):
        draw, mixed = drawn("cutmix", {"input_features": square}, cut_along="time", time_axis=axis)
        assert torch.equal(mixed["input_features"], loop_cut(square, draw, (axis,))[0])
    longer = torch.randn(3, 6, 8)
    for model, mask, axis in (
        (Named(), torch.ones(3, 6), 1),
        (Named(num_mel_bins=8), None, 1),
        (Named(audio_config=PreTrainedConfig(num_mel_bins=6)), None, 2),
    ):
        batch = {"input_features": longer} if mask is None else {"input_features": longer, "attention_mask": mask}
        draw, mixed = drawn("cutmix", batch, model, cut_along="time")
        assert torch.equal(mixed["input_features"], loop_cut(longer, draw, (axis,))[0])
    channels_first = torch.randn(3, 2, 5, 4, 4)
    draw, mixed = drawn("cutmix", {"pixel_values": channels_first}, cut_along="time", time_axis=2)
    assert torch.equal(mixed["pixel_values"], loop_cut(channels_first, draw, (2,))[0])


def test_inputs_of_other_sizes_are_refused_and_images_go_first() -> None:
    two = {"input_values": torch.randn(3, 9), "past_values": torch.randn(3, 12)}
    with pytest.raises(
        ValueError, match=r"input_values and past_values .* \[9\] and \[12\], .* keys=\['input_values'\]"
    ):
        drawn("cutmix", two)
    _, mixed = drawn("cutmix", two, keys=["past_values"], lam=0.5)
    assert mixed["input_values"] is two["input_values"]
    both = {"scores": torch.randn(3, 4), "pixel_values": torch.randn(3, 1, 8, 8)}
    draw, mixed = drawn("cutmix", both)
    assert mixed["scores"] is both["scores"]
    assert torch.equal(mixed["pixel_values"], loop_cut(both["pixel_values"], draw, (2, 3))[0])
    with pytest.raises(ValueError, match=r"that is an image \[B, C, H, W\], a video"):
        drawn("cutmix", {"pixel_values": torch.randn(3, 8, 8)})


@pytest.mark.parametrize("lam_per", ["batch", "sample"])
@pytest.mark.parametrize(
    ("method", "kind", "along"),
    [("cutmix", kind, along) for kind in ("waveform", "spectrogram", "transposed") for along in (None, "time")]
    + [("cutmix", "transposed", "space"), ("cutmix", "series", None)]
    + [("specmix", "spectrogram", None), ("specmix", "transposed", None)],
)
def test_padding_is_no_content(method: str, kind: str, along: Any, lam_per: Any) -> None:
    """lam is the own share of what is seen: of positions that are not 0, in samples of one value each."""
    batch, shares, settings = ragged(kind), [], {} if along is None else {"cut_along": along}
    for seed in range(12):
        draw, mixed = drawn(method, batch, draw_seed=seed, lam_per=lam_per, **settings)
        key = next(iter(batch))
        for row, value in enumerate(mixed[key]):
            seen = value[value != 0]
            own = row + 1.0
            assert len(seen)  # a sample that would show nothing keeps its own
            assert float(draw.lam[row]) == pytest.approx(float((seen == own).float().mean()), abs=1e-6)
        shares.append(draw.lam)
        if kind == "series":
            assert torch.equal(mixed["past_observed_mask"], mixed["past_values"] != 0)
        else:  # the longer of the two that have a share
            lengths, other, lam = LENGTHS, LENGTHS[draw.partner], draw.lam
            expected = torch.where(lam == 1, lengths, torch.where(lam == 0, other, lengths.maximum(other)))
            assert torch.equal(mixed["attention_mask"].sum(1), expected)
    assert 0.2 < torch.stack(shares).mean() < 0.95
    before = ragged(kind)
    for key in batch:
        assert torch.equal(batch[key], before[key])


def test_samples_that_would_show_nothing_keep_their_own() -> None:
    observed = torch.zeros(4, 40, dtype=torch.bool)
    observed[0, :5] = observed[1, 35:] = observed[2, :40] = observed[3, 10:30] = True
    batch, found = {"past_values": observed.float(), "past_observed_mask": observed}, 0
    for seed in range(20):
        for given in (torch.full((4,), 0.5), torch.tensor([0.5, 0.4, 0.3, 0.2])):
            draw, mixed = drawn(
                "cutmix", batch, correct_lam=False, dictated=given, partner=torch.tensor([1, 0, 3, 2]), draw_seed=seed
            )
            nothing = draw.lam == 1
            found += int(nothing.sum())
            assert (draw.lam[~nothing] == given[~nothing]).all()
            assert torch.equal(mixed["past_values"][nothing], batch["past_values"][nothing])
            assert mixed["past_observed_mask"].any(1).all()
    assert found


def test_pixel_masks_are_cut_with_their_pixels() -> None:
    mask = torch.zeros(4, 9, 8, dtype=torch.long)
    for row in range(4):
        mask[row, : 4 + row, : 8 - row] = 1
    batch = {"pixel_values": torch.randn(4, 3, 9, 8) * mask[:, None], "pixel_mask": mask}
    _, mixed = drawn("cutmix", batch, lam_per="sample")
    assert torch.equal(mixed["pixel_mask"].bool(), (mixed["pixel_values"] != 0).all(1))
