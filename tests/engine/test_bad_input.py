"""One clear error for each wrong thing, naming it, the value found, and the way out."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from transformers import Trainer

import hf_mixup
from hf_mixup import Mixup, MixupCollator, MixupConfig, MixupTrainer
from tests.conftest import batch_of, build, examples
from tests.entry_points import ENTRY_POINTS


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "cutmx"}, "did you mean 'cutmix'"),
        ({"alpha": -0.1}, "alpha=-0.1: expected a number from 0 on"),
        ({"alpha": math.nan}, "alpha=nan"),
        ({"alpha": "big"}, "alpha='big'"),
        ({"prob": 1.5}, "prob=1.5"),
        ({"lam": -1}, "lam=-1"),
        ({"beta": -1.0}, "beta=-1.0"),
        ({"beta": 0}, "beta=0.*above 0"),
        ({"method": ""}, "method='' is not known"),
        ({"label_smoothing": 1.0}, "label_smoothing=1.0"),
        ({"lam_per": "rows"}, "Valid: batch, pair, sample"),
        ({"pairing": "rol"}, "did you mean 'roll'"),
        ({"lam_per": "pair", "pairing": "roll"}, "disjoint pairs"),
        ({"method": "cutmix", "box_sides": [0.8, 0.2]}, "0 <= low <= high"),
        ({"method": "gridmix", "grid": 0}, "grid=0: expected a whole number from 1 on"),
        ({"method": "manifold", "layers": []}, r"layers=\[\] names nothing"),
        ({"method": "manifold", "layers": [0.5, 2]}, "whole numbers"),
        ({"method": "switch", "methods": ["mixup", "cutmx"]}, "did you mean 'cutmix'"),
        ({"method": "switch", "methods": ["switch"]}, "cannot switch to"),
        ({"method": "switch", "probs": [1.0]}, "1 values for 2 methods"),
        ({"method": "switch", "probs": [0, 0]}, "sum to 0"),
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
    with pytest.raises(TypeError, match="expected a method, its name, a mapping of settings or a MixupConfig"):
        Mixup(3)  # type: ignore[arg-type]


def test_labels_outside_the_classes(arguments: Any) -> None:
    batch = batch_of("resnet")
    batch["labels"][2] = 7
    with pytest.raises(ValueError, match="label 7 is outside the model's 4 classes"):
        Mixup("mixup")(build("resnet"), batch)
    rows = examples("resnet", 4)
    rows[1]["labels"] = -3
    for entry_point in ("trainer", "collator"):
        with pytest.raises(ValueError, match="label -3"):
            ENTRY_POINTS[entry_point](build("resnet"), arguments(), MixupConfig("mixup"), train_dataset=rows).train()


def enter(mixed: Any) -> None:
    with mixed:
        pass


def test_batches() -> None:
    model, batch = build("resnet"), batch_of("resnet")
    with pytest.raises(ValueError, match=r"no tensor 'labels'.*pixel_values"):
        Mixup("mixup")(model, {"pixel_values": batch["pixel_values"]})
    with pytest.raises(ValueError, match="no samples"):
        Mixup("mixup")(model, {k: v[:0] for k, v in batch.items()})
    integers = {**batch, "pixel_values": (batch["pixel_values"] * 50).to(torch.uint8)}
    for method in ("mixup", "cutmix"):
        with pytest.raises(TypeError, match=r"pixel_values holds torch.uint8: convert"):
            enter(Mixup(method)(model, integers))
    with pytest.raises(ValueError, match=r"no floating-point input to mix. The batch holds: pixel_values \(ndarray\)"):
        Mixup("mixup")(model, {**batch, "pixel_values": batch["pixel_values"].numpy()}).__enter__()
    with pytest.raises(TypeError, match="the batch is a tuple: make it a mapping"):
        Mixup("mixup")(model, tuple(batch.values()))  # type: ignore[arg-type]
    text = build("bert"), batch_of("bert")
    with pytest.raises(ValueError, match=r"no floating-point.*input_ids int64 \[6, 10\].*use method='mixup'"):
        enter(Mixup("between_class")(*text))
    with pytest.raises(ValueError, match="that is an image"):
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
        ({"lam": "0.3"}, "lam='0.3': expected one number"),
        ({"partner": "roll"}, "partner='roll': expected 6 row numbers"),
    ]:
        with pytest.raises(ValueError, match=message):
            Mixup("mixup")(model, batch, **wrong)


@pytest.mark.parametrize(("name", "method"), [("resnet", "mixup"), ("resnet", "cutmix"), ("bert", "embedding")])
def test_a_loop_that_does_not_run_the_mixed_batch(name: str, method: str) -> None:
    """Labels of blends, and scores of clean samples."""
    model, batch = build(name), batch_of(name)
    mixed = Mixup(method)(model, batch)
    with pytest.raises(RuntimeError, match=r"not mixed before it is entered.*`with mixup\(model, batch\) as mixed:`"):
        mixed.loss(model(**mixed.inputs))
    with Mixup(method)(model, batch) as mixed:
        outputs = model(**batch)
    with pytest.raises(RuntimeError, match=r"run on a batch with labels.*run model\(\*\*mixed.inputs\)"):
        mixed.loss(outputs)
    with Mixup(method, total_steps=1)(model, batch, lam=1.0) as mixed:
        assert mixed.loss(model(**mixed.inputs)).isfinite()
    with pytest.raises(ValueError, match=r"total_steps=-1: expected .*max_steps=-1 stands for none"):
        Mixup(method, total_steps=-1)


def test_soft_labels_by_mistake() -> None:
    batch = batch_of("resnet")
    with pytest.raises(ValueError, match="convert class ids to integers"):
        Mixup("mixup")(build("resnet"), {**batch, "labels": batch["labels"].float()})
    model = build("resnet")
    with Mixup("mixup")(model, {**batch, "labels": torch.zeros(6, 4, dtype=torch.long)}) as mixed:
        outputs = model(**mixed.inputs)
    with pytest.raises(ValueError, match=r"labels of shape \[6, 4\] do not fit logits of shape \[6, 4\]"):
        mixed.loss(outputs)


def test_losses_that_do_not_fit_the_labels() -> None:
    batch = {**batch_of("resnet"), "labels": torch.rand(6, 4)}
    for settings, name in ({"class_weights": [1.0] * 4}, "class_weights"), ({"loss": "bce"}, "loss='bce'"):
        model = build("resnet")
        with Mixup({"method": "mixup", **settings})(model, batch) as mixed:
            outputs = model(**mixed.inputs)
        with pytest.raises(ValueError, match=f"{name} does not go with labels for multi_label.*leave it out"):
            mixed.loss(outputs)


def test_architectures_that_cannot_be_entered() -> None:
    with pytest.raises(ValueError, match="no table of token embeddings"):
        Mixup("embedding").prepare(build("resnet"))
    with pytest.raises(ValueError, match="3 blocks"):
        Mixup({"method": "manifold", "layers": [7]})(build("bert"), batch_of("bert"))
    with pytest.raises(ValueError, match="use 'manifold' for several"):
        Mixup({"method": "features", "layers": [1, 2]})(build("bert"), batch_of("bert"))
    with pytest.raises(ValueError, match="no stack of repeated blocks"):
        Mixup("manifold")(Leaky(blocks=0), leaky_batch())
    with pytest.raises(ValueError, match="modules names 'block', which Leaky lacks: did you mean 'blocks"):
        Mixup({"method": "manifold", "modules": ["block"]})(Leaky(), leaky_batch())


class Leaky(torch.nn.Module):
    """A classifier that looks at its ids once more, past every place where rows are mixed."""

    def __init__(self, blocks: int = 2, leak: float = 1.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = torch.nn.Embedding(60, 4)
        self.blocks = torch.nn.ModuleList([torch.nn.Linear(4, 4) for _ in range(blocks)])
        self.leak = leak

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> dict[str, torch.Tensor]:
        states = self.table(input_ids)
        for block in self.blocks:
            states = block(states).tanh()
        leaked = torch.nn.functional.one_hot(input_ids % 4, 4).float()
        return {"logits": (states + self.leak * leaked).mean(1)}


def leaky_batch() -> dict[str, torch.Tensor]:
    return {key: value for key, value in batch_of("bert").items() if key != "token_type_ids"}


@pytest.mark.parametrize("method", ["embedding", "manifold", "features"])
def test_models_that_would_mix_wrongly_are_refused(method: str) -> None:
    with pytest.raises(RuntimeError, match=f"Leaky does not mix rightly with method '{method}'"):
        Mixup(method)(Leaky(), leaky_batch()).__enter__()
    for model, settings in ((Leaky(leak=0.0), {}), (Leaky(), {"self_check": False})):
        with Mixup({"method": method, **settings})(model, leaky_batch()) as mixed:
            mixed.loss(model(**mixed.inputs))


def test_a_loss_that_is_not_the_mean_cross_entropy_is_refused() -> None:
    class Weighted(Leaky):
        def forward(self, labels: torch.Tensor | None = None, **inputs: torch.Tensor) -> dict[str, Any]:
            outputs: dict[str, Any] = super().forward(**inputs)
            if labels is not None:
                weights = torch.tensor([1.0, 5.0, 9.0, 2.0])
                outputs["loss"] = torch.nn.functional.cross_entropy(outputs["logits"], labels, weight=weights) + 1
            return outputs

    model, batch = Weighted(leak=0.0), leaky_batch()
    with pytest.raises(RuntimeError, match="mixing would leave out what it adds or weighs"):
        Mixup("embedding")(model, batch)
    for settings in ({"self_check": False}, {"class_weights": [1.0, 5.0, 9.0, 2.0]}):
        with Mixup({"method": "embedding", **settings})(model, batch) as mixed:
            mixed.loss(model(**mixed.inputs))


def test_a_loss_that_is_near_the_mean_cross_entropy_is_refused_as_well() -> None:
    """Before training all losses are near log C: label smoothing moves that of this model by less than two percent."""

    class Smoothing(Leaky):
        def forward(self, labels: torch.Tensor | None = None, **inputs: torch.Tensor) -> dict[str, Any]:
            outputs: dict[str, Any] = super().forward(**inputs)
            if labels is not None:
                loss = torch.nn.functional.cross_entropy
                outputs["loss"] = loss(outputs["logits"], labels, label_smoothing=smoothing)
            return outputs

    smoothing, model, batch = 0.02, Smoothing(leak=0.0), leaky_batch()
    with pytest.raises(RuntimeError, match=r"mixing would leave out what it adds or weighs\..*label_smoothing"):
        Mixup("embedding")(model, batch)
    smoothing = 0.0
    Mixup("embedding")(model, batch)
    smoothing = 0.02
    Mixup({"method": "embedding", "label_smoothing": smoothing})(model, batch)


@pytest.mark.parametrize(
    "packed",
    [
        {"position_ids": torch.tensor([[0, 1, 2, 3, 4, 0, 1, 2, 3, 4]])},
        {"cu_seq_lens_q": torch.tensor([0, 5, 10])},
        {"seq_idx": torch.zeros(1, 10, dtype=torch.long)},
    ],
)
def test_packed_sequences(packed: dict[str, torch.Tensor]) -> None:
    with pytest.raises(ValueError, match="sequences packed into one row"):
        Mixup("embedding")(build("bert"), {**batch_of("bert", rows=1), **packed})


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
    with pytest.raises(ValueError, match=r"label_smoothing=0\.1 in MixupConfig"):
        trainer.train()
    with pytest.raises(TypeError, match="expected a collator"):
        MixupCollator(3, model=model)


def test_public_names() -> None:
    with pytest.raises(AttributeError, match="MixupTrainer"):
        _ = hf_mixup.MixupTrayner
    for name in hf_mixup.__all__:
        assert getattr(hf_mixup, name) is not None
    assert set(hf_mixup.__all__) <= set(dir(hf_mixup))
