"""One clear error for each wrong thing, naming it, the value found, and the way out."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import pytest
import torch
from transformers import AlbertConfig, AutoModelForSequenceClassification, RobertaConfig, T5Config, Trainer

import hf_mixup
from hf_mixup import Mixup, MixupCollator, MixupConfig, MixupTrainer
from tests.conftest import batch_of, build, examples
from tests.doors import DOORS


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "cutmx"}, "did you mean 'cutmix'"),
        ({"alpha": -0.1}, r"alpha=-0.1: expected a number in \[0, inf\)"),
        ({"alpha": math.nan}, "alpha=nan"),
        ({"alpha": "big"}, "alpha='big'"),
        ({"prob": 1.5}, "prob=1.5"),
        ({"lam": -1}, "lam=-1"),
        ({"beta": -1.0}, "beta=-1.0"),
        ({"label_smoothing": 1.0}, "label_smoothing=1.0"),
        ({"lam_per": "rows"}, "did you mean 'row'"),
        ({"pairing": "rol"}, "did you mean 'roll'"),
        ({"lam_per": "pair", "pairing": "roll"}, "disjoint pairs"),
        ({"minmax": [0.8, 0.2]}, "0 <= low <= high"),
        ({"layers": []}, "no depth"),
        ({"layers": [0.5, 2]}, "whole numbers"),
        ({"method": "switch", "switch_methods": ["mixup", "cutmx"]}, "did you mean 'cutmix'"),
        ({"method": "switch", "switch_methods": ["switch"]}, "cannot switch to"),
        ({"method": "switch", "switch_probs": [1.0]}, "1 values for 2 methods"),
        ({"method": "switch", "switch_probs": [0, 0]}, "sum to 0"),
        ({"class_weights": [1.0, -1.0]}, "class_weights=-1.0"),
        ({"aplha": 1.0}, "did you mean 'alpha'"),
    ],
)
def test_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MixupConfig.from_dict(settings)


def test_config_files(tmp_path: Any) -> None:
    path = tmp_path / "mixup.yaml"
    path.write_text("method: cutmix\nalpha: 0.5\n")
    assert MixupConfig.from_yaml(path) == MixupConfig("cutmix", alpha=0.5)
    for text, message in [("a: [1", "not readable as YAML"), ("- 1", "list"), ("alhpa: 1", "did you mean 'alpha'")]:
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            MixupConfig.from_yaml(path)
    with pytest.raises(FileNotFoundError):
        MixupConfig.from_pretrained(tmp_path)
    with pytest.raises(TypeError, match="expected a MixupConfig"):
        Mixup(3)  # type: ignore[arg-type]


def test_labels_outside_the_classes(arguments: Any) -> None:
    batch = batch_of("resnet")
    batch["labels"][2] = 7
    with pytest.raises(ValueError, match="label 7 is outside the model's 4 classes"):
        Mixup("mixup")(build("resnet"), batch)
    rows = examples("resnet", 4)
    rows[1]["labels"] = -3
    for door in ("trainer", "collator"):
        with pytest.raises(ValueError, match="label -3"):
            DOORS[door](build("resnet"), arguments(), MixupConfig("mixup"), train_dataset=rows).train()


def enter(mixed: Any) -> None:
    with mixed:
        pass


def test_batches() -> None:
    model, batch = build("resnet"), batch_of("resnet")
    with pytest.raises(ValueError, match=r"no tensor 'labels'.*pixel_values"):
        Mixup("mixup")(model, {"pixel_values": batch["pixel_values"]})
    with pytest.raises(ValueError, match="no rows"):
        Mixup("mixup")(model, {k: v[:0] for k, v in batch.items()})
    integers = {**batch, "pixel_values": (batch["pixel_values"] * 50).to(torch.uint8)}
    for method in ("mixup", "cutmix"):
        with pytest.raises(TypeError, match=r"pixel_values holds torch.uint8: convert"):
            enter(Mixup(method)(model, integers))
    text = build("bert"), batch_of("bert")
    with pytest.raises(ValueError, match=r"no floating-point.*input_ids int64 \[6, 10\].*use method='embedding'"):
        enter(Mixup("mixup")(*text))
    with pytest.raises(ValueError, match="4 dimensions"):
        enter(Mixup("cutmix")(model, {**batch, "pixel_values": torch.rand(6, 9)}))
    with pytest.raises(ValueError, match="did you mean 'pixel_values'"):
        enter(Mixup({"keys": ["pixel_value"]})(model, batch))
    with pytest.raises(ValueError, match="no input_ids"):
        enter(Mixup("embedding")(text[0], {"labels": batch["labels"]}))


def test_dictated_draws() -> None:
    model, batch = build("resnet"), batch_of("resnet")
    for wrong, message in [
        ({"partner": torch.arange(5)}, "6 row numbers"),
        ({"partner": torch.tensor([0, 1, 2, 3, 4, 6])}, "from 0 to 5"),
        ({"lam": 1.2}, r"one number in \[0, 1\]"),
        ({"lam": torch.tensor([0.1, 0.2])}, "or 6 of them"),
    ]:
        with pytest.raises(ValueError, match=message):
            Mixup("mixup")(model, batch, **wrong)


def test_soft_labels_by_mistake() -> None:
    batch = batch_of("resnet")
    with pytest.raises(ValueError, match="convert class ids to integers"):
        Mixup("mixup")(build("resnet"), {**batch, "labels": batch["labels"].float()})
    with pytest.raises(ValueError, match="one target a row"):
        Mixup("mixup")(build("resnet"), {**batch, "labels": torch.zeros(6, 4, dtype=torch.long)})


def test_losses_that_do_not_fit_the_labels() -> None:
    batch = {**batch_of("resnet"), "labels": torch.rand(6, 4)}
    for settings in ({"class_weights": [1.0] * 4}, {"loss": "bce"}):
        model = build("resnet")
        with Mixup({"method": "mixup", **settings})(model, batch) as mixed:
            outputs = model(**mixed.inputs)
        with pytest.raises(ValueError, match="single-label"):
            mixed.loss(outputs)


def test_architectures_that_cannot_be_entered() -> None:
    with pytest.raises(ValueError, match="no table of token embeddings"):
        Mixup("embedding").prepare(build("resnet"))
    with pytest.raises(ValueError, match="3 blocks"):
        Mixup({"method": "manifold", "layers": [7]})(build("bert"), batch_of("bert"))
    with pytest.raises(ValueError, match="use 'manifold' for several"):
        Mixup({"method": "features", "layers": [1, 2]})(build("bert"), batch_of("bert"))
    with pytest.raises(ValueError, match="no stack of repeated blocks"):
        Mixup("manifold").prepare(torch.nn.Linear(2, 2))


SMALL = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
T5_SMALL = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_decoder_layers": 2, "num_heads": 2}
WRONGLY_MIXED = [
    # Its positions are counted from the row's own ids, so that a longer partner would sit at padding positions.
    (RobertaConfig(**SMALL, max_position_embeddings=40), "embedding", "reads the row's own ids"),
    # One block is run over and over: blending after it would blend several times.
    (AlbertConfig(**SMALL, embedding_size=8), "manifold", "several times in one forward"),
    # An encoder and a decoder.
    (T5Config(**T5_SMALL), "manifold", "several stacks"),
]


@pytest.mark.parametrize(("config", "method", "message"), WRONGLY_MIXED)
def test_architectures_that_would_mix_wrongly_are_refused(config: Any, method: str, message: str) -> None:
    config.num_labels, config.vocab_size = 4, 60
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(8 if parameter.dim() > 1 else 1)
    with pytest.raises((RuntimeError, ValueError), match=message), Mixup(method)(model, batch_of("bert")) as mixed:
        model(**mixed.inputs)


def test_data_parallel() -> None:
    model = build("resnet")
    wrapped = torch.nn.DataParallel.__new__(torch.nn.DataParallel)
    torch.nn.Module.__init__(wrapped)
    wrapped.module = model
    with pytest.raises(RuntimeError, match="accelerate launch"):
        Mixup("mixup")(wrapped, batch_of("resnet"))


def test_trainers(arguments: Any) -> None:
    with pytest.raises(ValueError, match="compute_loss_func"):
        MixupTrainer(build("resnet"), arguments(), mixup="mixup", compute_loss_func=lambda *a, **k: 0)
    model = build("resnet")
    trainer = Trainer(
        model,
        arguments(label_smoothing_factor=0.1),
        data_collator=MixupCollator(mixup="mixup", model=model),
        train_dataset=examples("resnet", 4),
    )
    with pytest.raises(ValueError, match="label_smoothing in MixupConfig"):
        trainer.train()
    with pytest.raises(TypeError, match="expected a collator"):
        MixupCollator(3, model=model)


def test_public_names() -> None:
    with pytest.raises(AttributeError, match="MixupTrainer"):
        _ = hf_mixup.MixupTrayner
    for name in hf_mixup.__all__:
        assert getattr(hf_mixup, name) is not None
    assert set(hf_mixup.__all__) <= set(dir(hf_mixup))


def test_import_is_light() -> None:
    code = (
        "import sys, hf_mixup; "
        "heavy = {'torch', 'transformers', 'datasets', 'evaluate', 'torchvision', 'PIL', 'matplotlib', 'sklearn'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
