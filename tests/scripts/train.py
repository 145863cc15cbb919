"""Train a tiny model through an entry point."""

from __future__ import annotations

from typing import Any

from transformers import TrainingArguments

from hf_mixup.experiments.mixing import SharedSettings
from tests import ragged_models
from tests.conftest import build, examples
from tests.entry_points import ENTRY_POINTS


def train(folder: str, entry_point: str, name: str, method: str, rows: int, **extra: Any) -> dict[str, Any] | None:
    """Return the weights, the loss with them, the logs and what a method has learnt, in the first process."""
    data: dict[str, Any] = {"train_dataset": examples(name, 24)}
    ragged = name in ragged_models.BUILD
    if ragged:
        data["data_collator"] = ragged_models.collate
    args = TrainingArguments(
        output_dir=folder,
        per_device_train_batch_size=rows,
        per_device_eval_batch_size=4,
        gradient_accumulation_steps=2,
        num_train_epochs=2,
        learning_rate=1e-2,
        optim="sgd",
        use_cpu=True,
        report_to=[],
        logging_steps=1,
        disable_tqdm=True,
        train_sampling_strategy="sequential" if ragged else "random",  # neighbours have images of one size
    )
    config = SharedSettings({"lam": 0.3, "layers": [1]}).for_method(method, **extra)
    trainer = ENTRY_POINTS[entry_point](build(name), args, config, **data)
    trainer.train()
    # Only `MixupTrainer` evaluates by itself; elsewhere it is the plain Trainer's loss.
    evaluated = trainer.evaluate(data["train_dataset"])["eval_loss"] if entry_point == "trainer" else None
    if not trainer.is_world_process_zero():
        return None
    logs = [entry for entry in trainer.state.log_history if "loss" in entry]
    return {
        "weights": trainer.accelerator.unwrap_model(trainer.model).state_dict(),
        "logs": logs,
        "evaluated": evaluated,
        "learnt": trainer._mixing[0].learning.state(),
    }
