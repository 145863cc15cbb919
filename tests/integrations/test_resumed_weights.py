"""A resumed run, and the best model, have the weights that were saved, also where they are saved under other names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    ASTConfig,
    ASTForAudioClassification,
    BertForSequenceClassification,
    Dinov2Config,
    Dinov2ForImageClassification,
    MixtralConfig,
    MixtralForCausalLM,
    PreTrainedModel,
    SwinConfig,
    SwinForImageClassification,
    Trainer,
    ViTForImageClassification,
)

from hf_mixup import MixupCallback, MixupConfig, MixupTrainer
from hf_mixup.integrations.weights import is_renamed
from tests.conftest import build, examples
from tests.integrations.parts import same, weights

SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
PIXELS = {"image_size": 16, "patch_size": 4, "num_labels": 4}
MODELS: dict[str, Any] = {
    "vit": lambda: build("vit"),
    "dinov2": lambda: Dinov2ForImageClassification(Dinov2Config(**SMALL, **PIXELS)),
    "swin": lambda: SwinForImageClassification(
        SwinConfig(embed_dim=8, depths=[1, 1], num_heads=[1, 2], window_size=2, **PIXELS)
    ),
    "ast": lambda: ASTForAudioClassification(
        ASTConfig(**SMALL, num_labels=4, max_length=24, num_mel_bins=16, patch_size=8)
    ),
    "mixtral": lambda: MixtralForCausalLM(
        MixtralConfig(**SMALL, vocab_size=60, num_key_value_heads=2, num_local_experts=4, max_position_embeddings=32)
    ),
    "bert": lambda: build("bert"),
}


def made(name: str) -> PreTrainedModel:
    torch.manual_seed(0)
    return MODELS[name]()


def rows_for(name: str, rows: int = 16) -> list[dict[str, Any]]:
    g = torch.Generator().manual_seed(1)
    if name == "mixtral":
        ids = torch.randint(3, 60, (rows, 8), generator=g)
        return [{"input_ids": row, "labels": row} for row in ids]
    if name == "ast":
        clips = torch.randn(rows, 24, 16, generator=g)
        return [{"input_values": audio, "labels": row % 4} for row, audio in enumerate(clips)]
    return examples("bert" if name == "bert" else "vit", rows)


def trained(folder: Path, name: str, resume: str | None = None, **settings: Any) -> MixupTrainer:
    from transformers import TrainingArguments

    quiet = {"report_to": [], "disable_tqdm": True, "use_cpu": True, "per_device_train_batch_size": 4, "max_steps": 4}
    args = TrainingArguments(str(folder), **{**quiet, "learning_rate": 1e-2, "save_steps": 2, **settings})
    rows = rows_for(name)
    scores = iter([1.0, 0.0, 0.0, 0.0, 0.0])  # the first evaluation is the best
    trainer = MixupTrainer(
        made(name),
        args,
        mixup="manifold",
        train_dataset=rows,
        eval_dataset=rows[:4],
        compute_metrics=lambda _: {"first": next(scores)},
    )
    trainer.train(resume_from_checkpoint=resume)
    return trainer


@pytest.mark.parametrize("name", MODELS)
def test_a_resumed_run_ends_with_the_same_bits(name: str, tmp_path: Path) -> None:
    assert is_renamed(made(name)) == (name != "bert")
    whole = trained(tmp_path, name)
    again = trained(tmp_path, name, resume=str(tmp_path / "checkpoint-2"))
    assert same(weights(whole), weights(again))


@pytest.mark.parametrize("name", ["vit", "mixtral", "bert"])
def test_the_best_model_is_the_one_that_was_saved(name: str, tmp_path: Path) -> None:
    settings = {"eval_strategy": "steps", "eval_steps": 1, "save_steps": 1, "lr_scheduler_type": "constant"}
    short = trained(tmp_path / "short", name, **settings, max_steps=1)
    best = trained(tmp_path / "best", name, **settings, load_best_model_at_end=True, metric_for_best_model="first")
    assert best.state.best_model_checkpoint == str(tmp_path / "best" / "checkpoint-1")
    assert same(weights(short), weights(best))


def test_shards_are_read_as_well(tmp_path: Path) -> None:
    trainer = trained(tmp_path, "vit")
    trainer.model.save_pretrained(tmp_path / "sharded", max_shard_size="4KB")
    assert (tmp_path / "sharded" / "model.safetensors.index.json").is_file()
    other = MixupTrainer(build("vit", seed=3), trainer.args, mixup="manifold")
    other._load_from_checkpoint(str(tmp_path / "sharded"))
    assert same(weights(trainer), weights(other))


@pytest.mark.parametrize("name", ["vit", "bert"])
def test_a_checkpoint_without_some_weights_is_refused(name: str, tmp_path: Path) -> None:
    trainer = trained(tmp_path, name, max_steps=2)
    file = tmp_path / "checkpoint-2" / "model.safetensors"
    held = load_file(file)
    lost = next(key for key in held if "encoder" in key)
    del held[lost]
    save_file(held, file, metadata={"format": "pt"})
    before = weights(trainer)
    with pytest.raises(ValueError, match=r"does not hold the weights of this .*it lacks "):
        trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert same(before, weights(trainer))


def test_a_plain_trainer_with_the_callback_says_what_it_cannot_load(tmp_path: Path, arguments: Any) -> None:
    def plain(name: str, mixup: MixupConfig, resume: str | None = None, **settings: Any) -> Any:
        args = arguments(output_dir=str(tmp_path / name), save_strategy="steps", save_steps=1, **settings)
        rows = rows_for(name)
        trainer = Trainer(made(name), args, train_dataset=rows, eval_dataset=rows[:4], callbacks=[MixupCallback(mixup)])
        return trainer.train(resume_from_checkpoint=resume)

    mixing = MixupConfig("manifold")
    for name in ("vit", "bert"):
        plain(name, mixing, max_steps=1)
    resume = str(tmp_path / "vit" / "checkpoint-1")
    with pytest.raises(ValueError, match=r"resume_from_checkpoint: ViTForImageClassification is saved under other"):
        plain("vit", mixing, resume, max_steps=2)
    best = {"load_best_model_at_end": True, "eval_strategy": "steps", "eval_steps": 1, "max_steps": 1}
    with pytest.raises(ValueError, match=r"load_best_model_at_end: ViT.*or load_best_model_at_end=False"):
        plain("vit", mixing, **best)
    plain("bert", mixing, str(tmp_path / "bert" / "checkpoint-1"), max_steps=2)
    plain("bert", mixing, **best)
    assert isinstance(made("bert"), BertForSequenceClassification)
    assert isinstance(made("vit"), ViTForImageClassification)
