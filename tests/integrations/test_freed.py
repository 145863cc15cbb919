"""A model that was trained goes when nobody holds it: nothing in this package keeps it in memory."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from transformers import Trainer, default_data_collator

from hf_mixup import Mixup, MixupCallback, MixupCollator, MixupConfig, MixupTrainer
from hf_mixup.models.hooks import hooks_of
from tests.conftest import build, examples
from tests.detectors import boxed, build_detector


def build_yolos() -> Any:
    pytest.importorskip("PIL", reason="detectors of transformers need Pillow")
    return build_detector("yolos").train()


def boxed_rows() -> list[dict[str, Any]]:
    batch = boxed(8)
    return [{key: batch[key][row] for key in ("pixel_values", "labels")} for row in range(8)]


def boxes_together(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {"pixel_values": torch.stack([row["pixel_values"] for row in rows]), "labels": [r["labels"] for r in rows]}


# What builds a model, what makes its samples, what collates them, and how they are mixed.
Case = tuple[Callable[[], Any], Callable[[], list[dict[str, Any]]], Callable[..., Any], dict[str, Any]]
CASES: dict[str, Case] = {
    f"{model}, {settings['method']}": (
        lambda model=model, own=own: build(model, **own),
        lambda model=model: examples(model, 8),
        default_data_collator,
        settings,
    )
    for model, own, settings in (
        ("vit", {}, {"method": "cutmix"}),
        ("vit", {"attn_implementation": "eager"}, {"method": "transmix"}),
        ("vit", {}, {"method": "puzzlemix"}),
        ("bert", {}, {"method": "manifold", "layers": [0, 1]}),
        ("bert", {}, {"method": "adversarial"}),
        ("clip", {}, {"method": "cross_modal", "text_mix": "two_eot"}),
        ("clip", {}, {"method": "geodesic"}),
    )
} | {"yolos, mixup": (build_yolos, boxed_rows, boxes_together, {"method": "mixup"})}


def train_by_trainer(model: Any, collate: Any, config: MixupConfig, args: Any, rows: Any) -> None:
    MixupTrainer(model, args, data_collator=collate, train_dataset=rows, mixup=config).train()


def train_by_collator(model: Any, collate: Any, config: MixupConfig, args: Any, rows: Any) -> None:
    mixing = MixupCollator(collate, mixup=config, model=model)
    Trainer(model, args, data_collator=mixing, train_dataset=rows).train()


def train_by_callback(model: Any, collate: Any, config: MixupConfig, args: Any, rows: Any) -> None:
    callbacks: list[Any] = [MixupCallback(config)]
    Trainer(model, args, data_collator=collate, train_dataset=rows, callbacks=callbacks).train()


def train_by_hand(model: Any, collate: Any, config: MixupConfig, args: Any, rows: Any) -> None:
    mixup = Mixup(config)
    mixup.prepare(model)
    for start in (0, 4):
        with mixup(model, collate(rows[start : start + 4])) as mixed:
            mixed.loss(model(**mixed.inputs)).backward()


WAYS = (train_by_trainer, train_by_collator, train_by_callback, train_by_hand)


def goes(make: Callable[[], nn.Module]) -> bool:
    """Whether a model that this returns leaves the memory, once it is let go of."""
    reference = weakref.ref(make())
    gc.collect()  # what was there before is frozen: whoever of it holds the model, keeps it
    return reference() is None


def started(model: Any, way: Callable[..., None], case: Case, arguments: Any) -> nn.Module:
    _, rows, collate, settings = case
    way(model, collate, MixupConfig.from_dict(settings), arguments(max_steps=2, remove_unused_columns=False), rows())
    return model


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("way", WAYS)
def test_a_trained_model_is_freed(way: Callable[..., None], name: str, arguments: Any) -> None:
    assert goes(lambda: started(CASES[name][0](), way, CASES[name], arguments))


@pytest.mark.parametrize("name", ["bert, manifold", "clip, geodesic", "yolos, mixup"])
@pytest.mark.parametrize("way", WAYS)
def test_a_model_whose_training_broke_off_is_freed(way: Callable[..., None], name: str, arguments: Any) -> None:
    """Whatever was to be put back at the end of the step knows the model, and the end of the step never came."""
    case = CASES[name]

    def stop(module: nn.Module, args: Any, output: Any) -> None:
        if module.training and torch.is_grad_enabled():
            raise KeyboardInterrupt

    def interrupted() -> nn.Module:
        model = case[0]().train()
        last = [each for each in model.modules() if isinstance(each, nn.Linear)][-1]
        last.register_forward_hook(stop)
        with pytest.raises(KeyboardInterrupt):
            started(model, way, case, arguments)
        return model

    assert goes(interrupted)


def test_copies_and_stored_models_have_sites_of_their_own() -> None:
    model = build("bert")
    hooks_of(model).checked.add("loss")
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert hooks_of(other) is not hooks_of(model)
        assert not hooks_of(other).checked
    assert hooks_of(model).checked == {"loss"}
