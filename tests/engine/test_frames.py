"""Classes of the frames of audio, and the embeddings of speakers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from torch import Tensor
from torch.nn import functional as F
from transformers.models.auto import modeling_auto

from hf_mixup import Mixup, MixupConfig
from hf_mixup.models.masks import united_mask
from hf_mixup.testing.build import default_config, shrink
from tests.entry_points import ENTRY_POINTS
from tests.recordings import PARTNER, recordings_for

FRAMES: dict[str, str] = dict(modeling_auto.MODEL_FOR_AUDIO_FRAME_CLASSIFICATION_MAPPING_NAMES)
VOICES: dict[str, str] = dict(modeling_auto.MODEL_FOR_AUDIO_XVECTOR_MAPPING_NAMES)
UNTRAINED = ("nemotron3_diarization",)  # has no loss
CLASSES = 3


def build(model_class: Any) -> Any:
    """Build a tiny model, in evaluation mode."""
    config: Any = default_config(model_class.config_class)
    random = [
        name for name in vars(config) if name.endswith(("dropout", "dropout_prob", "layerdrop", "mask_time_prob"))
    ]
    settings = {**dict.fromkeys(random, 0.0), "num_labels": CLASSES}
    settings |= {"tdnn_dim": (8, 8), "tdnn_kernel": (2, 1), "tdnn_dilation": (1, 1)}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = model_class._from_config(shrink(config, **settings))
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() == 2:
                    parameter.mul_(4)
    return model.eval()


def frames_for(model: Any) -> dict[str, Tensor]:
    batch = {key: value for key, value in recordings_for(model).items() if key != "labels"}
    with torch.no_grad():
        count = model(**batch).logits.shape[1]
    classes = torch.randint(CLASSES, (4, count), generator=torch.Generator().manual_seed(0))
    return {**batch, "labels": F.one_hot(classes, CLASSES).float()}


@pytest.mark.parametrize("kind", [kind for kind in FRAMES if kind not in UNTRAINED])
def test_each_frame_has_both_classes(kind: str) -> None:
    model = build(getattr(transformers, FRAMES[kind]))
    batch = frames_for(model)
    for lam, plain in ((1.0, batch), (0.0, {key: value[PARTNER] for key, value in batch.items()})):
        with Mixup("mixup")(model, batch, partner=PARTNER, lam=lam) as mixed:
            found = mixed.loss(model(**mixed.inputs))
        torch.testing.assert_close(found, model(**plain).loss, rtol=1e-4, atol=1e-5)
    with Mixup("mixup")(model, batch, partner=PARTNER, lam=0.3) as mixed:
        found = mixed.loss(model(**mixed.inputs)).double()
    torch.testing.assert_close(found, by_hand(model, batch, 0.3), rtol=1e-4, atol=1e-5)


def by_hand(model: Any, batch: dict[str, Tensor], lam: float) -> Tensor:
    """lam * CE(own) + (1 - lam) * CE(partner's) over all frames of the blended sound, in double precision."""
    model, share = model.double(), torch.full((4,), lam)
    given = {key: value for key, value in batch.items() if key != "labels"}
    given |= united_mask(given, PARTNER, share)
    sound = batch[model.main_input_name].double()
    given[model.main_input_name] = lam * sound + (1 - lam) * sound[PARTNER]
    scores = model(**given).logits.log_softmax(-1)
    target = (lam * batch["labels"] + (1 - lam) * batch["labels"][PARTNER]).double()
    return -(target * scores).sum(-1).mean()


def trained(entry_point: str, arguments: Any, rows: int) -> dict[str, Tensor]:
    model = build(transformers.Wav2Vec2ForAudioFrameClassification)
    batch = frames_for(model)
    data = [{key: value[row] for key, value in batch.items()} for row in range(4)]
    args = arguments(
        per_device_train_batch_size=rows,
        gradient_accumulation_steps=4 // rows,
        optim="sgd",
        learning_rate=0.1,
        train_sampling_strategy="sequential",
    )
    ENTRY_POINTS[entry_point](model, args, MixupConfig("mixup", lam=0.3), train_dataset=data).train()
    return model.state_dict()


def test_all_entry_points_do_the_same(arguments: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hf_mixup.methods.base.pair", lambda n, **_: torch.arange(n) ^ 1)
    first, *others = (trained(entry_point, arguments, 4) for entry_point in ENTRY_POINTS)
    for each in others:
        torch.testing.assert_close(each, first)
    torch.testing.assert_close(trained("trainer", arguments, 2), first, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="use MixupTrainer, which counts over all of them"):
        trained("callback", arguments, 2)


@pytest.mark.parametrize("kind", VOICES)
def test_margins_between_speakers_are_the_models_own(kind: str) -> None:
    """The margin is taken off the score of the label: it is no cross-entropy of scores that stay."""
    model = build(getattr(transformers, VOICES[kind]))
    batch = {**recordings_for(model, uneven=False), "labels": torch.tensor([0, 2, 1, 0])}
    with pytest.raises(ValueError, match=f"{VOICES[kind]} takes a margin off the score of each sample's label.*'own'"):
        Mixup({"method": "mixup", "label_smoothing": 0.1})(model, batch)
    for lam, plain in ((1.0, batch), (0.0, {key: value[PARTNER] for key, value in batch.items()})):
        with Mixup("mixup")(model, batch, partner=PARTNER, lam=lam) as mixed:
            found = mixed.loss(mixed.forward(model))
        torch.testing.assert_close(found, model(**plain).loss, rtol=1e-4, atol=1e-5)
