"""The model card of a run."""

from __future__ import annotations

from pathlib import Path

from transformers import Trainer

from hf_mixup.tasks.arguments import TaskArguments

_NO_PARENT = "This model is a fine-tuned version of [](https://huggingface.co/) on"


def write_card(trainer: Trainer, task: TaskArguments, model_name: str | None = None) -> None:
    """Write the Trainer's model card, with the mixing section where it mixed, into its output folder."""
    dataset = Path(task.dataset).name if Path(task.dataset).exists() else task.dataset
    trainer.create_model_card(model_name=model_name, dataset=dataset, tasks=task.task)
    card = Path(str(trainer.args.output_dir), "README.md")
    if trainer.is_world_process_zero():
        text = card.read_text(encoding="utf-8")
        # transformers takes a new model for a fine-tuned one without a name.
        card.write_text(text.replace(_NO_PARENT, "This model was trained from scratch on"), encoding="utf-8")
