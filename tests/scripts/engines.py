"""Train a tiny model by an engine that spreads it: DDP, FSDP2, or DeepSpeed ZeRO-2 and ZeRO-3."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
import torch.distributed as dist
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType
from safetensors.torch import load_file
from transformers import TrainingArguments
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

from hf_mixup import MixupTrainer
from hf_mixup.engine import exchange
from hf_mixup.experiments.mixing import SharedSettings
from tests.conftest import build, examples

LAYERS = {"vit": ["ViTLayer"], "bert": ["BertLayer"], "trocr": ["ViTLayer", "TrOCRDecoderLayer"]}
MARKS = ("ACCELERATE_USE_DEEPSPEED", "ACCELERATE_USE_FSDP", "FSDP_VERSION")  # by which engines are known to Accelerate


def arguments(engine: str, model: str) -> dict[str, Any]:
    """Return the arguments of training that choose an engine."""
    if engine == "ddp":
        return {}
    if engine == "fsdp2":
        return {"fsdp": True, "fsdp_config": {"version": 2, "transformer_layer_cls_to_wrap": LAYERS[model]}}
    import deepspeed

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False  # it would be compiled, which takes minutes
    config = {
        "train_micro_batch_size_per_gpu": "auto",
        "gradient_accumulation_steps": "auto",
        "zero_optimization": {"stage": int(engine[-1]), "stage3_gather_16bit_weights_on_model_save": True},
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
    }
    return {"deepspeed": config}


@contextmanager
def begun(engine: str) -> Iterator[None]:
    """Let an engine begin in this process, and end without a trace.

    Accelerate takes FSDP for devices alone, and says nothing where it trains by DDP instead: the CPUs pass as such.
    """
    with pytest.MonkeyPatch.context() as patch:
        for each in MARKS:
            patch.delenv(each, raising=False)
        if engine.startswith("fsdp") and "RANK" in os.environ:
            patch.setenv("ACCELERATE_TORCH_DEVICE", "cpu")
            found = "gloo", DistributedType.MULTI_GPU
            patch.setattr(PartialState, "_prepare_backend", lambda *args: found)
        AcceleratorState._reset_state(reset_partial_state=True)
        try:
            yield
        finally:
            AcceleratorState._reset_state(reset_partial_state=True)
            unset_hf_deepspeed_config()


def trainer_by(folder: str, engine: str, model: str, method: str, extra: dict[str, Any], **given: Any) -> MixupTrainer:
    """Build the Trainer that trains a tiny model by an engine."""
    # What is made after its arguments, ZeRO-3 takes to pieces.
    built, rows = build(model, given.pop("seed", 0)), given.pop("train_dataset", None) or examples(model, 24)
    settings = {
        "gradient_accumulation_steps": 2,
        "max_steps": 3,
        "learning_rate": 1e-2,
        "optim": "sgd",
        "use_cpu": not engine.startswith("fsdp"),
        "report_to": [],
        "save_strategy": "no",
        "logging_steps": 1,
        "disable_tqdm": True,
        **arguments(engine, model),
    }
    settings.get("fsdp_config", {}).update(given.pop("fsdp_config", {}))
    args = TrainingArguments(folder, **{**settings, **given})
    config = SharedSettings({"lam": 0.3, "layers": [1]}).for_method(method, **extra)
    return MixupTrainer(built, args, mixup=config, train_dataset=rows)


def whole(trainer: MixupTrainer) -> dict[str, Any]:
    """Return the weights as a whole; in some engines in the first process alone."""
    found = trainer.accelerator.get_state_dict(trainer.model_wrapped) or {}
    return {key: value.clone() for key, value in found.items()}


def spread(folder: str, engine: str, model: str, method: str, rows: int, **extra: Any) -> dict[str, Any]:
    """Return the whole weights, and the logs, of three steps."""
    with begun(engine):
        trainer = trainer_by(folder, engine, model, method, extra, per_device_train_batch_size=rows)
        trainer.train()
        logs = [entry for entry in trainer.state.log_history if "loss" in entry]
        learnt = trainer._mixing[0].learning.state()
        kind = trainer.accelerator.distributed_type.value
        return {"weights": whole(trainer), "logs": logs, "kind": kind, "learnt": learnt}


def resumed(folder: str, engine: str, rows: int, parts: bool = False) -> dict[str, Any]:
    """Train four steps; train the last two again, from the checkpoint between, in a model that began elsewhere.

    Args:
        parts: whether each process saves its own part of the weights.
    """
    folder = f"{folder}/{engine}-{parts}"
    given: dict[str, Any] = {"per_device_train_batch_size": rows, "max_steps": 4, "save_strategy": "steps"}
    given |= {"save_steps": 2, "optim": "adamw_torch"}
    if parts:
        given["fsdp_config"] = {"state_dict_type": "SHARDED_STATE_DICT"}
    ends, steps = [], []
    for seed, checkpoint in ((0, None), (1, f"{folder}/checkpoint-2")):
        with begun(engine):
            trainer = trainer_by(folder, engine, "bert", "manifold", {"prob": 0.7}, seed=seed, **given)
            trainer.train(resume_from_checkpoint=checkpoint)
            steps.append([entry["step"] for entry in trainer.state.log_history if "loss" in entry])
            ends.append(whole(trainer))
            trainer.save_model(f"{folder}/model")
    dist.barrier()
    files = sorted(os.listdir(f"{folder}/model"))
    own = sorted(os.listdir(f"{folder}/checkpoint-2"))
    saved = load_file(f"{folder}/model/model.safetensors")
    return {"ends": ends, "steps": steps, "saved": saved, "files": files, "checkpoint": own}


def tried(folder: str, engine: str) -> dict[str, Any]:
    """Return the step of each pass of an exchange test, in each process: the second sees something new in the second.

    Of each four samples the last two are its own.
    """
    rows = examples("bert", 12)
    for number, row in enumerate(rows):
        row["token_type_ids"] = torch.full((10,), int(number == 7))
    steps: list[int] = []
    run = exchange.Trial._run

    def counted(*given: Any) -> Any:
        steps.append(trainer.state.global_step)
        return run(*given)

    with begun(engine), pytest.MonkeyPatch.context() as patch:
        patch.setattr(exchange.Trial, "_run", counted)
        given = {"train_dataset": rows, "per_device_train_batch_size": 2, "gradient_accumulation_steps": 1}
        trainer = trainer_by(folder, engine, "bert", "embedding", {}, train_sampling_strategy="sequential", **given)
        trainer.train()
    every: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(every, steps)
    return {"steps": every}
