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
    VideoMAEConfig,
    VideoMAEForVideoClassification,
    Wav2Vec2Config,
    Wav2Vec2ForSequenceClassification,
    WhisperConfig,
    WhisperForAudioClassification,
)

from hf_mixup import Mixup, MixupConfig, MixupTrainer
from hf_mixup.methods import METHODS
from hf_mixup.methods.registry import settings_of
from hf_mixup.models.outputs import logits_of
from hf_mixup.tabular import TabularConfig, TabularMLP
from hf_mixup.testing.exchange import is_refusal
from tests.conftest import CLASSES, build
from tests.methods.inputs import Size
from tests.settings import ROWS, methods_with

SAMPLES = 5
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


MODELS: dict[str, tuple[Callable[[], nn.Module], dict[str, Size]]] = {
    "pixels": (lambda: build("vit", attn_implementation="eager"), {"pixel_values": (3, 16, 16)}),
    "waveform": (waveforms, {"input_values": (400,), "attention_mask": (400,)}),
    "spectrogram": (spectrograms, {"input_values": (24, 16)}),
    "transposed": (transposed, {"input_features": (16, 24)}),
    "video": (videos, {"pixel_values": (4, 3, 16, 16)}),
    "series": (series, {"past_values": (24, 2), "past_observed_mask": (24, 2)}),
    "table": (tables, {"numerical_values": (6,), "categorical_values": (3,)}),
    "tokens": (lambda: build("bert"), {"input_ids": (10,), "attention_mask": (10,)}),
}


UNMIXED = methods_with("no lam")  # neither partner nor lam is drawn
LATE = methods_with("blends at the loss")
STAYING = methods_with("special tokens stay")  # their ends are in test_spans.py
FOUR = methods_with("four labels")
OTHER_SHARE = methods_with("lam is another share")
# Where the mixed samples stand among those that the model is given.
MIXED_PART = {method: slice(-SAMPLES, None) for method in methods_with("adds samples in front")}
MIXED_PART |= {method: slice(SAMPLES) for method in methods_with("adds samples behind")}
SINGLE = [name for name, method in METHODS.items() if method.for_pairs is not True]  # of switch it is a property


@cache
def model_of(modality: str) -> nn.Module:
    torch.manual_seed(0)
    return MODELS[modality][0]().eval()


def batch_of(modality: str, method: str = "", rows: int = SAMPLES, constant: bool = False) -> dict[str, Tensor]:
    """Make samples; of one value each, if wanted, and with unique labels: floats for C-Mixup."""
    rng, batch = torch.Generator().manual_seed(3), {}
    for key, size in MODELS[modality][1].items():
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
        with Mixup(method)(model_of(modality), batch, **given(method)) as mixed:
            mixed.loss(mixed.forward(model_of(modality)))
    except (ValueError, TypeError, RuntimeError) as error:
        if not is_refusal(error):
            raise
        return True
    return False


def given(method: str) -> dict[str, float]:
    """Return the lam that a method is called with."""
    return {} if method in UNMIXED else {"lam": 0.3}


CASES = [(method, modality) for method in SINGLE for modality in MODELS]
MIXED = [(m, modality) for m, modality in CASES if modality in ROWS[m].mixes]


@pytest.mark.parametrize("method", SINGLE)
def test_a_method_mixes_what_it_claims_and_refuses_the_rest(method: str) -> None:
    mixed = tuple(modality for modality in MODELS if not is_refused(method, modality))
    assert set(mixed) == set(ROWS[method].mixes)


# What users call these kinds of samples, and those of the scenes that stand for methods of labels of another kind.
CALLED = {"pixels": "image", "waveform": "audio", "spectrogram": "audio", "transposed": "audio", "video": "video"}
CALLED |= {"table": "table", "tokens": "text", "tagged": "text", "causal": "text", "clip": "pairs"}


@pytest.mark.parametrize("method", METHODS)
def test_a_method_declares_the_modalities_that_it_mixes(method: str) -> None:
    """As the test above finds them; a series has no word of its own."""
    mixes = ROWS[method].mixes or (ROWS[method].scene,)
    assert {*METHODS[method].modalities} == {CALLED[each] for each in mixes if each != "series"}


def mixed_inputs(mixed: Any, method: str) -> dict[str, Any]:
    """Return the model's inputs that belong to mixed samples."""
    own = MIXED_PART.get(method, slice(None))
    return {key: value[own] if isinstance(value, Tensor) else value for key, value in mixed.inputs.items()}


@pytest.mark.parametrize(("method", "modality"), [c for c in MIXED if c[0] not in UNMIXED + STAYING])
def test_both_ends_are_exact(method: str, modality: str) -> None:
    """The scores at lam = 1 are the batch's, at lam = 0 those of the partners; so are the targets."""
    model, batch = model_of(modality), batch_of(modality, method)
    partner = torch.arange(SAMPLES).roll(1)
    with torch.no_grad():
        plain = logits_of(model(**inputs_of(batch)))
        for lam, source in ((1.0, torch.arange(SAMPLES)), (0.0, partner)):
            # The floats that C-Mixup asks for are classes to some of these heads.
            config = MixupConfig(method, self_check=method != "cmixup")
            with Mixup(config)(model, batch, partner=partner, lam=lam) as mixed:
                scores = logits_of(mixed.forward(model))
                loss = mixed.loss({"logits": scores})
            assert (mixed.lam == lam).all()
            if method not in LATE:
                torch.testing.assert_close(
                    scores[MIXED_PART.get(method, slice(None))], plain[source], rtol=1e-4, atol=1e-5
                )
            labels = next(batch[key] for key in ("labels", "target_values") if key in batch)
            assert torch.equal(
                mixed.targets, torch.eye(CLASSES)[labels][source] if labels.dim() == 1 else labels[source]
            )
            clean = Mixup(MixupConfig("mixup", lam=1.0, self_check=False))
            if method not in MIXED_PART and modality != "tokens":
                with clean(model, batch) as plain_batch:
                    torch.testing.assert_close(loss, plain_batch.loss({"logits": plain}), rtol=1e-4, atol=1e-5)


def blends_inputs(method: str, modality: str) -> bool:
    if modality == "tokens":
        return False
    if method not in ("cmixup", "switch") and (
        METHODS[method].enters_model or "lam_per" not in settings_of(METHODS[method])
    ):
        return False
    return method not in (*UNMIXED, *LATE, *STAYING, *OTHER_SHARE)


@pytest.mark.parametrize("lam_per", ["batch", "sample"])
@pytest.mark.parametrize(("method", "modality"), [case for case in MIXED if blends_inputs(*case)])
def test_targets_are_the_shares_of_what_is_seen(method: str, modality: str, lam_per: Any) -> None:
    """Each class is one value: the mean of a mixed sample is that of these values, weighted by its targets."""
    model, batch = model_of(modality), batch_of(modality, method, constant=True)
    for seed in range(3):
        own: dict[str, Any] = {"lam_per": lam_per}
        if method == "switch":
            own = {"methods": [{"method": each, **own} for each in ("mixup", "cutmix")]}
        config = MixupConfig(method, draw_seed=seed, self_check=False, **own)
        with Mixup(config)(model, batch) as mixed:
            inputs = mixed_inputs(mixed, method)
        expected = mixed.targets @ (torch.arange(CLASSES) + 1.0)
        for key, value in floats(inputs).items():
            torch.testing.assert_close(value.flatten(1).mean(1), expected, rtol=1e-4, atol=1e-4, msg=key)
        if method not in FOUR:  # and lam is the weight of the own label
            labels = torch.eye(CLASSES)[torch.arange(SAMPLES) % CLASSES]
            by_lam = mixed.lam[:, None] * labels + (1 - mixed.lam[:, None]) * labels[mixed.partner]
            torch.testing.assert_close(mixed.targets, by_lam)


@pytest.mark.parametrize(("method", "modality"), MIXED)
def test_batch_sizes_targets_dtypes_and_the_users_tensors(method: str, modality: str) -> None:
    """Odd batches and one sample; targets of two samples that sum to 1; 16 bits stay 16 bits; nothing is written to."""
    model = model_of(modality)
    for rows in (SAMPLES, 1):
        batch = batch_of(modality, method, rows)
        before = {key: value.clone() for key, value in batch.items()}
        with Mixup(method)(model, batch, **given(method)) as mixed:
            loss = mixed.loss(mixed.forward(model))
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
        with Mixup(MixupConfig(method, self_check=False))(model, low, **given(method)) as mixed:
            found = mixed.inputs
    finally:
        model.to(torch.float32)
    for key, value in inputs_of(low).items():
        assert found[key].dtype == value.dtype, key


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


@pytest.mark.parametrize("modality", MODELS)
def test_a_switch_chooses_each_method_and_does_as_it_does(modality: str) -> None:
    model, seen = model_of(modality), set()
    names = [name for name, row in ROWS.items() if modality in row.mixes and name not in ("switch", "cmixup")]
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
