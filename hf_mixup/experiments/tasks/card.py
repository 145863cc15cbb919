"""The model card of a run."""

from __future__ import annotations

from pathlib import Path

from transformers import Trainer

from hf_mixup.experiments.tasks.arguments import TaskArguments

_NO_PARENT = "This model is a fine-tuned version of [](https://huggingface.co/) on"


def write_card(trainer: Trainer, task: TaskArguments, model_name: str | None = None) -> None:
    """Write the Trainer's model card, with the mixing section where it mixed, into its output folder.

    Args:
        model_name: title of the card (default: the name of the output folder).

    >>> import tempfile
    >>> from transformers import TrainingArguments
    >>> from hf_mixup import MixupTrainer
    >>> from hf_mixup.testing.build import build
    >>> args = TrainingArguments(tempfile.mkdtemp(), use_cpu=True, report_to="none")
    >>> trainer = MixupTrainer(build("image-classification", "vit"), args, mixup="cutmix")
    >>> write_card(trainer, TaskArguments(), model_name="emoji-cutmix")
    >>> "# emoji-cutmix" in Path(args.output_dir, "README.md").read_text()
    True
    """
    trainer.create_model_card(model_name=model_name, dataset=task.dataset_name, tasks=task.task)
    card = Path(str(trainer.args.output_dir), "README.md")
    if trainer.is_world_process_zero():
        text = card.read_text(encoding="utf-8")
        # transformers takes a new model for a fine-tuned one without a name.
        card.write_text(text.replace(_NO_PARENT, "This model was trained from scratch on"), encoding="utf-8")
