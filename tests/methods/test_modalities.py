"""Every method on every modality: it mixes rightly, or says that it does not."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import (
    ASTConfig,
    ASTForAudioClassification,
    PatchTSTConfig,
    PatchTSTForClassification,
    PreTrainedConfig,
    VideoMAEConfig,
    VideoMAEForVideoClassification,
    Wav2Vec2Config,
    Wav2Vec2ForSequenceClassification,
    WhisperConfig,
    WhisperForAudioClassification,
)

from hf_mixup import Mixup, MixupConfig, MixupTrainer
from hf_mixup.functional import blocks_at, box_lam, inside_bands
from hf_mixup.methods import METHODS
from hf_mixup.methods.base import Request
from hf_mixup.models.dual_encoder import pair_logits_of
from hf_mixup.models.outputs import logits_of
from hf_mixup.tabular import TabularConfig, TabularMLP
from hf_mixup.testing.exchange import is_refusal
from tests import pair_models
from tests.conftest import CLASSES, build

ROWS = 5
SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


def waveforms() -> nn.Module:
    convolutions = {"conv_dim": [8, 8], "conv_kernel": [10, 8], "conv_stride": [5, 4], "feat_extract_norm": "layer"}
    positions = {"num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2, "classifier_proj_size": 8}
    config = Wav2Vec2Config(**SMALL, **convolutions, **positions, mask_time_prob=0.0, layerdrop=0.0, num_labels=CLASSES)
    return Wav2Vec2ForSequenceClassification(config)


def spectrograms() -> nn.Module:
    strides = {"patch_size": 4, "frequency_stride": 4, "time_stride": 4}
    return ASTForAudioClassification(ASTConfig(**SMALL, **strides, max_length=24, num_mel_bins=16, num_labels=CLASSES))


def transposed() -> nn.Module:
    layers = {"encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 32, "decoder_layers": 1}
    return WhisperForAudioClassification(
        WhisperConfig(**layers, d_model=16, num_mel_bins=16, max_source_positions=12, num_labels=CLASSES)
    )


def videos() -> nn.Module:
    size = {"image_size": 16, "patch_size": 8, "num_frames": 4, "tubelet_size": 2}
    return VideoMAEForVideoClassification(VideoMAEConfig(**SMALL, **size, num_labels=CLASSES))


def series() -> nn.Module:
    layers = {"d_model": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "ffn_dim": 32, "patch_length": 4}
    return PatchTSTForClassification(
        PatchTSTConfig(**layers, num_input_channels=2, context_length=24, num_targets=CLASSES, num_labels=CLASSES)
    )


def tables() -> nn.Module:
    sizes = {"numerical_size": 6, "categorical_sizes": [20, 20, 20], "hidden_size": 16, "num_hidden_layers": 2}
    return TabularMLP(TabularConfig(**sizes, num_labels=CLASSES))


Size = tuple[int, ...]
MODALITIES: dict[str, tuple[Callable[[], nn.Module], dict[str, Size]]] = {
    "pixels": (lambda: build("vit", attn_implementation="eager"), {"pixel_values": (3, 16, 16)}),
    "waveform": (waveforms, {"input_values": (400,), "attention_mask": (400,)}),
    "spectrogram": (spectrograms, {"input_values": (24, 16)}),
    "transposed": (transposed, {"input_features": (16, 24)}),
    "video": (videos, {"pixel_values": (4, 3, 16, 16)}),
    "series": (series, {"past_values": (24, 2), "past_observed_mask": (24, 2)}),
    "table": (tables, {"numerical_values": (6,), "categorical_values": (3,)}),
    "tokens": (lambda: build("bert"), {"input_ids": (10,), "attention_mask": (10,)}),
}
FLOATS = ("pixels", "waveform", "spectrogram", "transposed", "video", "series")

# What a method mixes, one row a method; elsewhere it must refuse.
CLAIMS: dict[str, tuple[str, ...]] = {
    "mixup": FLOATS,
    "cutmix": FLOATS,
    "switch": FLOATS,
    "regmixup": FLOATS,
    "cmixup": (*FLOATS, "table", "tokens"),
    "gaussian": (*FLOATS, "tokens"),
    "adversarial": (*FLOATS, "tokens"),
    "interpolated_adversarial": FLOATS,
    "tabular": (*FLOATS, "table"),
    "resizemix": ("pixels",),
    "fmix": ("pixels",),
    "gridmix": ("pixels",),
    "saliencymix": ("pixels",),
    "attentive": ("pixels",),
    "puzzlemix": ("pixels",),
    "patchmix": ("pixels",),
    "mosaic": ("pixels",),
    "transmix": ("pixels",),
    "between_class": ("waveform",),
    "specmix": ("spectrogram", "transposed"),
    "embedding": ("tokens",),
    "span_cut": ("tokens",),
    "ssmix": ("tokens",),
    "manifold": tuple(MODALITIES),
    "features": tuple(MODALITIES),
    "sentence": tuple(MODALITIES),
    "intra": (),  # labels of tokens
    "sftmix": (),  # language models
}
UNMIXED = ("gaussian", "adversarial")  # draws neither partner nor lam
# Gives the model other rows beside the mixed ones, which are these.
ADDED = {"regmixup": slice(-ROWS, None), "interpolated_adversarial": slice(ROWS)}
LATE = ("sentence",)  # mixes what the loss is given
PER_PLACE = ("span_cut", "ssmix")  # leaves special tokens where they are: their ends are in test_spans.py
FOUR = ("mosaic",)  # labels a row
HEARD = ("between_class", "transmix")  # lam is not the share of content
SINGLE = [name for name, method in METHODS.items() if method.for_pairs is not True]  # of switch it is a property


@cache
def model_of(modality: str) -> nn.Module:
    torch.manual_seed(0)
    return MODALITIES[modality][0]().eval()


def batch_of(modality: str, method: str = "", rows: int = ROWS, constant: bool = False) -> dict[str, Tensor]:
    """Make rows; of one value each, if wanted, and with unique labels: floats for C-Mixup."""
    rng, batch = torch.Generator().manual_seed(3), {}
    for key, size in MODALITIES[modality][1].items():
        if "mask" in key:
            batch[key] = torch.ones(rows, *size, dtype=torch.float if "observed" in key else torch.long)
        elif key in ("input_ids", "categorical_values"):
            batch[key] = torch.randint(3, 20, (rows, *size), generator=rng)
        else:
            batch[key] = torch.randn(rows, *size, generator=rng)
        if constant and "mask" not in key:
            batch[key] = (
                (torch.arange(rows) % CLASSES + 1)
                .reshape(-1, *(1,) * len(size))
                .expand(rows, *size)
                .to(batch[key].dtype)
            )
    labels = torch.arange(rows) % CLASSES
    if method == "cmixup":
        labels = torch.eye(CLASSES)[labels]
    return {**batch, "target_values" if modality == "series" else "labels": labels}


def inputs_of(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: value for key, value in batch.items() if key not in ("labels", "target_values")}


def floats(inputs: dict[str, Any]) -> dict[str, Tensor]:
    return {k: v for k, v in inputs.items() if isinstance(v, Tensor) and v.is_floating_point() and "mask" not in k}


def is_refused(method: str, modality: str) -> bool:
    """Whether the method says that it does not mix this; anything else that is raised is a failure."""
    batch = batch_of(modality, method)
    try:
        with Mixup(config_of(method))(model_of(modality), batch) as mixed:
            mixed.loss(mixed.forward(model_of(modality)))
    except (ValueError, TypeError, RuntimeError) as error:
        if not is_refusal(error):
            raise
        return True
    return False


def config_of(method: str, **settings: Any) -> MixupConfig:
    return MixupConfig(method, **({"lam": 0.3} if method not in UNMIXED else {}), **settings)


CASES = [(method, modality) for method in SINGLE for modality in MODALITIES]
MIXED = [(m, modality) for m, modality in CASES if modality in CLAIMS.get(m, ())]


@pytest.mark.parametrize("method", SINGLE)
def test_a_method_mixes_what_it_claims_and_refuses_the_rest(method: str) -> None:
    mixed = tuple(modality for modality in MODALITIES if not is_refused(method, modality))
    assert method in CLAIMS, f"say in CLAIMS what method {method!r} mixes; it took {mixed}"
    assert set(mixed) == set(CLAIMS[method])


def mixed_inputs(mixed: Any, method: str) -> dict[str, Any]:
    """Return the model's inputs that belong to mixed rows."""
    own = ADDED.get(method, slice(None))
    return {key: value[own] if isinstance(value, Tensor) else value for key, value in mixed.inputs.items()}


@pytest.mark.parametrize(("method", "modality"), [c for c in MIXED if c[0] not in UNMIXED + PER_PLACE])
def test_both_ends_are_exact(method: str, modality: str) -> None:
    """The scores at lam = 1 are the batch's, at lam = 0 those of the partners; so are the targets."""
    model, batch = model_of(modality), batch_of(modality, method)
    partner = torch.arange(ROWS).roll(1)
    with torch.no_grad():
        plain = logits_of(model(**inputs_of(batch)))
        for lam, source in ((1.0, torch.arange(ROWS)), (0.0, partner)):
            with Mixup(MixupConfig(method))(model, batch, partner=partner, lam=lam) as mixed:
                scores = logits_of(mixed.forward(model))
                loss = mixed.loss({"logits": scores})
            assert (mixed.lam == lam).all()
            if method not in LATE:
                torch.testing.assert_close(scores[ADDED.get(method, slice(None))], plain[source], rtol=1e-4, atol=1e-5)
            labels = next(batch[key] for key in ("labels", "target_values") if key in batch)
            assert torch.equal(
                mixed.targets, torch.eye(CLASSES)[labels][source] if labels.dim() == 1 else labels[source]
            )
            clean = Mixup(MixupConfig("mixup", lam=1.0, self_check=False))
            if method not in ADDED and modality != "tokens":
                with clean(model, batch) as plain_batch:
                    torch.testing.assert_close(loss, plain_batch.loss({"logits": plain}), rtol=1e-4, atol=1e-5)


def blends_inputs(method: str, modality: str) -> bool:
    if method == "cmixup":
        return modality != "tokens"
    return not METHODS[method].enters_model and method not in (*UNMIXED, *LATE, *PER_PLACE, *HEARD)


@pytest.mark.parametrize("lam_per", ["batch", "sample"])
@pytest.mark.parametrize(("method", "modality"), [case for case in MIXED if blends_inputs(*case)])
def test_targets_are_the_shares_of_what_is_seen(method: str, modality: str, lam_per: Any) -> None:
    """Rows of one value for each class: the mean of a mixed row is that of the values by its targets."""
    model, batch = model_of(modality), batch_of(modality, method, constant=True)
    for seed in range(3):
        config = MixupConfig(method, lam_per=lam_per, draw_seed=seed, self_check=False)
        with Mixup(config)(model, batch) as mixed:
            inputs = mixed_inputs(mixed, method)
        expected = mixed.targets @ (torch.arange(CLASSES) + 1.0)
        for key, value in floats(inputs).items():
            torch.testing.assert_close(value.flatten(1).mean(1), expected, rtol=1e-4, atol=1e-4, msg=key)
        if method not in FOUR:  # and lam is the weight of the own label
            labels = torch.eye(CLASSES)[torch.arange(ROWS) % CLASSES]
            by_lam = mixed.lam[:, None] * labels + (1 - mixed.lam[:, None]) * labels[mixed.partner]
            torch.testing.assert_close(mixed.targets, by_lam)


@pytest.mark.parametrize(("method", "modality"), MIXED)
def test_rows_targets_dtypes_and_the_users_tensors(method: str, modality: str) -> None:
    """Odd batches and one row; targets of two rows that sum to 1; 16 bits stay 16 bits; nothing is written to."""
    model = model_of(modality)
    for rows in (ROWS, 1):
        batch = batch_of(modality, method, rows)
        before = {key: value.clone() for key, value in batch.items()}
        with Mixup(config_of(method))(model, batch) as mixed:
            scores = logits_of(mixed.forward(model))
            loss = mixed.loss({"logits": scores})
        assert torch.isfinite(loss)
        for key, value in before.items():
            assert torch.equal(batch[key], value), key
        targets = mixed.targets
        assert targets.dtype == torch.float32
        torch.testing.assert_close(targets.sum(-1), torch.ones(len(targets)))
        assert ((targets > 0).sum(-1) <= (4 if method in FOUR else 2)).all()
        if method not in UNMIXED and rows > 1:
            assert not (mixed.partner == torch.arange(rows)).any()
    if modality == "series" and method.endswith("adversarial"):
        return  # it runs the model, and PatchTST does not run in 16 bits
    low = {
        k: v.to(torch.bfloat16) if v.is_floating_point() and k != "labels" else v
        for k, v in batch_of(modality, method).items()
    }
    model.to(torch.bfloat16)
    try:
        with Mixup(config_of(method, self_check=False))(model, low) as mixed:
            found = mixed.inputs
    finally:
        model.to(torch.float32)
    for key, value in inputs_of(low).items():
        assert found[key].dtype == value.dtype, key


# --- cutmix along time, space or both --------------------------------------------------------------------------------

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


class Named(nn.Module):
    """A model that is only asked for its configuration."""

    def __init__(self, **config: Any) -> None:
        super().__init__()
        self.config = PreTrainedConfig(**config)


def drawn(method: str, batch: dict[str, Tensor], model: nn.Module | None = None, **settings: Any) -> tuple[Any, Any]:
    """Draw and apply; return the parameters and the mixed inputs. `partner` and `dictated` go to the request."""
    partner, lam = settings.pop("partner", None), settings.pop("dictated", None)
    mixing = MixupConfig(method, **settings).mixing
    model, rng = model or Named(num_mel_bins=6), torch.Generator().manual_seed(settings.get("draw_seed") or 0)
    rows = len(next(iter(batch.values())))
    draw = mixing.draw(Request(model, batch, torch.arange(rows), mixing.config.prob, rng, partner, lam))
    return draw, mixing.apply(model, batch, draw, False)


def loop_cut(x: Tensor, draw: Any, axes: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Cut and paste a row at a time; return the rows and the share of places that each kept."""
    out, shares = x.clone(), []
    boxes = draw.boxes.expand(len(x), 2 * len(axes)).tolist()
    for row, box in enumerate(boxes):
        window = [slice(None)] * (x.dim() - 1)
        for place, axis in enumerate(axes):
            window[axis - 1] = slice(box[place], box[place + len(axes)])
        out[row][tuple(window)] = x[draw.partner[row]][tuple(window)]
        taken = torch.zeros(x.shape[1:])
        taken[tuple(window)] = 1
        shares.append(1 - taken.mean())
    return out, torch.stack(shares)


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


def test_sides_leave_lam_of_a_audio_and_of_a_video() -> None:
    """In the middle, where nothing is clipped: 1 - lam of a stretch, its third root along each side of a block."""
    for size in ((4000,), (200, 300, 400)):
        lam = torch.tensor([0.0, 0.3, 0.8, 1.0], dtype=torch.float64)
        boxes = blocks_at(torch.tensor([n // 2 for n in size]).expand(4, -1), size, lam)
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


def test_inputs_of_different_size_are_refused_and_images_go_first() -> None:
    two = {"input_values": torch.randn(3, 9), "past_values": torch.randn(3, 12)}
    with pytest.raises(
        ValueError, match=r"input_values and past_values .* \[9\] and \[12\] .* keys=\['input_values'\]"
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


@pytest.mark.parametrize("along", [None, "time", "both"])
def test_videos_of_pairs_are_cut(along: Any) -> None:
    model = pair_models.build("XCLIPModel")
    batch, partner = pair_models.batch(model), torch.tensor([2, 3, 1, 0])
    plain = pair_logits_of(model(**batch))[0]
    for lam, source in ((1.0, torch.arange(4)), (0.0, partner), (0.5, None)):
        mixup = Mixup(MixupConfig("one_sided", image_mix="cut", cut_along=along))
        with mixup(model, batch, partner=partner, lam=lam) as mixed:
            outputs = mixed.forward(model)
        assert torch.isfinite(mixed.loss(outputs))
        if source is not None:
            torch.testing.assert_close(pair_logits_of(outputs)[0], plain[source], rtol=1e-3, atol=1e-3)
        else:
            axes = {None: (3, 4), "time": (1,), "both": (1, 3, 4)}[along]
            expected, share = loop_cut(batch["pixel_values"], mixed.draw, axes)
            assert torch.equal(mixed.inputs["pixel_values"], expected)
            torch.testing.assert_close(mixed.lam, share)


# --- padding ---------------------------------------------------------------------------------------------------------

LENGTHS = torch.tensor([40, 25, 3, 12, 40])
RAGGED = (torch.arange(40) < LENGTHS[:, None]).long()


def ragged(kind: str) -> dict[str, Tensor]:
    """Make rows of one value each, at least 1, with 0 in the place of padding."""
    values = torch.arange(5) + 1.0
    if kind == "series":
        observed = torch.rand(5, 40, 3, generator=torch.Generator().manual_seed(0)) < 0.6
        return {"past_values": values[:, None, None] * observed, "past_observed_mask": observed}
    size = {"waveform": (5, 40), "spectrogram": (5, 40, 6), "transposed": (5, 6, 40)}[kind]
    places = RAGGED if kind == "waveform" else RAGGED[:, :, None] if kind == "spectrogram" else RAGGED[:, None]
    return {
        "input_values": (values.reshape(-1, *(1,) * (len(size) - 1)) * places).expand(size),
        "attention_mask": RAGGED,
    }


@pytest.mark.parametrize("lam_per", ["batch", "sample"])
@pytest.mark.parametrize(
    ("method", "kind", "along"),
    [("cutmix", kind, along) for kind in ("waveform", "spectrogram", "transposed") for along in (None, "time")]
    + [("cutmix", "transposed", "space"), ("cutmix", "series", None)]
    + [("specmix", "spectrogram", None), ("specmix", "transposed", None)],
)
def test_padding_is_no_content(method: str, kind: str, along: Any, lam_per: Any) -> None:
    """lam is the own share of what is seen: of places that are not 0, in rows of one value each."""
    batch, shares = ragged(kind), []
    for seed in range(12):
        draw, mixed = drawn(method, batch, cut_along=along, draw_seed=seed, lam_per=lam_per)
        key = next(iter(batch))
        for row, value in enumerate(mixed[key]):
            seen = value[value != 0]
            own = row + 1.0
            assert len(seen)  # a row that would show nothing keeps its own
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


def test_rows_that_would_show_nothing_keep_their_own_even_without_the_correction() -> None:
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


def test_blended_series_are_observed_where_both_were() -> None:
    batch, partner = ragged("series"), torch.tensor([1, 2, 3, 4, 0])
    observed = batch["past_observed_mask"]
    for lam, expected in ((1.0, observed), (0.0, observed[partner]), (0.4, observed & observed[partner])):
        _, mixed = drawn("mixup", batch, partner=partner, dictated=torch.full((5,), lam))
        assert torch.equal(mixed["past_observed_mask"], expected)


# --- specmix ---------------------------------------------------------------------------------------------------------


def bands_by_hand(spots: Any, count: int, width: float, length: int, apart: bool) -> list[bool]:
    used = sorted(float(spot) for spot in spots[:count])
    free = 1 - width * (count if apart else 1)
    starts = [spot * free + (number * width if apart else 0) for number, spot in enumerate(used)]
    edges = [(int(start * length + 0.5 + 1e-9), int((start + width) * length + 0.5 + 1e-9)) for start in starts]
    return [any(first <= place < behind for first, behind in edges) for place in range(length)]


@pytest.mark.parametrize("apart", [False, True])
def test_bands_by_hand(apart: bool) -> None:
    rng = torch.Generator().manual_seed(0)
    spots, count = torch.rand(200, 3, generator=rng, dtype=torch.float64), torch.randint(4, (200,), generator=rng)
    width = torch.rand(200, generator=rng, dtype=torch.float64) / (count.clamp(min=1) if apart else 1)
    for length in (1, 7, 40):
        found = inside_bands(spots, count, width, length, apart)
        expected = [
            bands_by_hand(*row, length, apart) for row in zip(spots, count.tolist(), width.tolist(), strict=True)
        ]
        assert found.tolist() == expected
    for full in range(1, 8):  # bands that together are the whole axis, at any length
        for length in range(1, 30):
            assert inside_bands(torch.rand(5, full), torch.tensor([full]), torch.tensor([1 / full]), length, True).all()


def test_specmix_draws_bands_as_the_paper_says() -> None:
    """Over many rows: 15 kinds alike often, whole bands of time or of frequency, each of the given width."""
    batch = {"input_values": torch.zeros(3000, 40, 20)}
    draw, _ = drawn("specmix", batch, lam_per="sample", band_share=0.1)
    taken = ~draw.mask
    in_time, in_frequency = taken.all(2), taken.all(1)
    assert torch.equal(taken, in_time[:, :, None] | in_frequency[:, None])
    assert (in_time.sum(1) <= 12).all()
    assert (in_frequency.sum(1) <= 6).all()
    none = [(~inside.any(1)).float().mean() for inside in (in_time, in_frequency)]
    assert all(abs(share - 3 / 15) < 0.04 for share in none)  # none along time: 1, 2 or 3 along frequency
    assert (taken.any(-1).any(-1)).all()
    torch.testing.assert_close(draw.lam, 1 - taken.float().mean((1, 2)))


@pytest.mark.parametrize("lam_per", ["batch", "pair", "sample"])
def test_specmix_meets_a_lam_that_is_given(lam_per: Any) -> None:
    batch = {"input_values": torch.randn(8, 400, 300)}
    for given in (0.0, 0.2, 0.5, 0.9, 1.0):
        draw, mixed = drawn("specmix", batch, lam_per=lam_per, lam=given)
        torch.testing.assert_close(draw.lam, torch.full((8,), given), atol=0.02 if 0 < given < 1 else 0, rtol=0)
        expected = torch.where(draw.mask, batch["input_values"], batch["input_values"][draw.partner])
        assert torch.equal(mixed["input_values"], expected)
        kept = drawn("specmix", batch, lam_per=lam_per, lam=given, correct_lam=False)[0].lam
        assert (kept == torch.tensor(given)).all()
    masks = {tuple(mask.flatten().tolist()) for mask in drawn("specmix", batch, lam_per=lam_per)[0].mask}
    assert len(masks) == {"batch": 1, "pair": 4, "sample": 8}[lam_per] or lam_per == "pair"


def test_specmix_tosses_the_coin_and_is_off_with_lam_1() -> None:
    batch = {"input_values": torch.randn(64, 20, 10)}
    draw, _ = drawn("specmix", batch, prob=0.5, prob_per="sample")
    assert 16 < int((draw.lam == 1).sum()) < 48
    assert (drawn("specmix", batch, lam=1.0)[0].lam == 1).all()
    for settings, message in (({"num_bands": 0}, "num_bands=0"), ({"band_share": 1.5}, r"band_share=1.5: .* \[0, 1\]")):
        with pytest.raises(ValueError, match=message):
            MixupConfig("specmix", **settings)


# --- tables ----------------------------------------------------------------------------------------------------------


def table(rows: int = 6) -> dict[str, Tensor]:
    values = torch.arange(rows)
    return {
        "numerical_values": (values + 1.0)[:, None].expand(rows, 4).clone(),
        "categorical_values": values[:, None].expand(rows, 5).clone(),
        "flags_categorical": (values % 2 == 0)[:, None].expand(rows, 2).clone(),
    }


@pytest.mark.parametrize("lam_per", ["batch", "pair", "sample"])
def test_numbers_are_blended_and_categories_swapped(lam_per: Any) -> None:
    batch, kept = table(), []
    for seed in range(60):
        draw, mixed = drawn("tabular", batch, lam_per=lam_per, lam=0.3, draw_seed=seed, pairing="match")
        own, other = torch.arange(6), draw.partner
        assert (draw.lam == torch.tensor(0.3)).all()
        blended = 0.3 * (own + 1) + 0.7 * (other + 1)
        torch.testing.assert_close(mixed["numerical_values"], blended[:, None].expand(6, 4))
        categories = mixed["categorical_values"]
        assert categories.dtype == torch.long
        assert ((categories == own[:, None]) | (categories == other[:, None])).all()
        kept.append((categories == own[:, None]).float().mean())
        if lam_per == "pair":
            assert torch.equal(categories == own[:, None], (categories == own[:, None])[other])
        assert mixed["flags_categorical"].dtype == torch.bool
    assert abs(torch.stack(kept).mean() - 0.3) < 0.05


def test_lam_follows_the_columns_where_all_are_swapped() -> None:
    """CutMix of tables, of categories alone or of numbers as well."""
    batch = table()
    swapped = ["numerical_values", "categorical_values"]
    for rows, settings in (
        ({"categorical_values": batch["categorical_values"]}, {}),
        ({key: batch[key] for key in swapped}, {"swap_keys": swapped}),
    ):
        draw, mixed = drawn("tabular", rows, lam=0.4, **settings)
        own = torch.cat([mixed[key] == rows[key] for key in rows], 1)
        torch.testing.assert_close(draw.lam, own.float().mean(1))
        assert len(draw.lam.unique()) > 1
        assert (drawn("tabular", rows, lam=0.4, correct_lam=False, **settings)[0].lam == torch.tensor(0.4)).all()


def test_cmixup_swaps_categories_between_rows_near_in_label() -> None:
    batch = {**table(), "labels": torch.tensor([0.0, 0.1, 5.0, 5.1, 9.0, 9.1])}
    labels = batch.pop("labels")
    mixing = MixupConfig("cmixup", label_bandwidth=0.2, lam=0.5).mixing
    draw = mixing.draw(Request(Named(), batch, labels, 1.0, torch.Generator().manual_seed(0)))
    assert draw.partner.tolist() == [1, 0, 3, 2, 5, 4]
    mixed = mixing.apply(Named(), batch, draw, False)
    near = torch.arange(6) // 2
    assert (mixed["categorical_values"] // 2 == near[:, None]).all()
    assert not torch.equal(mixed["categorical_values"], batch["categorical_values"])


def test_columns_that_nobody_named_are_refused() -> None:
    batch = {**table(), "colours": torch.zeros(6, 3, dtype=torch.long)}
    with pytest.raises(ValueError, match=r"colours holds torch.int64 \[6, 3\], .* name in `swap_keys`"):
        drawn("tabular", batch)
    _, mixed = drawn("tabular", batch, swap_keys=["categorical_values", "colours", "flags_categorical"])
    assert mixed["colours"].dtype == torch.long
    with pytest.raises(ValueError, match=r"swap_keys names 'sizes', and columns are \[6, K\]: found none"):
        drawn("tabular", batch, swap_keys=["sizes"])
    with pytest.raises(TypeError, match="method='tabular'"):
        drawn("mixup", batch)


# --- training --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("modality", "settings"),
    [
        ("waveform", {"method": "cutmix"}),
        ("transposed", {"method": "specmix", "lam_per": "sample"}),
        ("video", {"method": "cutmix", "cut_along": "both"}),
        ("series", {"method": "cutmix"}),
        ("series", {"method": "switch", "methods": ["mixup", "cutmix"]}),
        ("table", {"method": "tabular"}),
    ],
    ids=str,
)
def test_trains_in_the_trainer(modality: str, settings: dict[str, Any], arguments: Any) -> None:
    model, batch = copy.deepcopy(model_of(modality)), batch_of(modality, rows=6)
    data = [{key: value[row] for key, value in batch.items()} for row in range(6)]
    before = {key: value.clone() for key, value in model.named_parameters()}
    label = "target_values" if modality == "series" else "labels"
    args = arguments(max_steps=2, label_names=[label], remove_unused_columns=False)
    logs = MixupTrainer(model, args, mixup=settings, train_dataset=data).train().metrics
    assert np.isfinite(logs["train_loss"])
    assert any(not torch.equal(before[key], value) for key, value in model.named_parameters())


@pytest.mark.parametrize("modality", MODALITIES)
def test_a_switch_over_all_that_a_modality_takes_chooses_each_and_does_as_it_does(modality: str) -> None:
    model, seen = model_of(modality), set()
    names = [name for name, claimed in CLAIMS.items() if modality in claimed and name not in ("switch", "cmixup")]
    batch = batch_of(modality)
    switch = Mixup(MixupConfig("switch", methods=names))
    for number in range(12 * len(names)):
        switch.set_step(number)
        with switch(model, batch) as mixed:
            drawn = mixed.draw
            loss = mixed.loss(mixed.forward(model))
        if drawn.method not in seen:
            alone = Mixup(MixupConfig(drawn.method, self_check=False))  # it draws nothing of its own
            alone.method.draw = lambda request, drawn=drawn: drawn  # type: ignore[method-assign]
            with alone(model, batch) as same:
                assert torch.equal(same.loss(same.forward(model)), loss), drawn.method
        seen.add(drawn.method)
        if len(seen) == len(names):
            break
    assert seen == set(names)
