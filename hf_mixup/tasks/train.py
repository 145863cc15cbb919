"""`hf-mixup train`: one run, Trainer underneath."""

from __future__ import annotations

from pathlib import Path

from transformers import TrainingArguments, set_seed
from transformers.trainer_utils import get_last_checkpoint

from hf_mixup.config import MixupConfig
from hf_mixup.report import Result, comparison_table
from hf_mixup.tasks.arguments import TaskArguments
from hf_mixup.tasks.card import write_card
from hf_mixup.tasks.prepare import check_mixing, make_trainer, prepare, score_all
from hf_mixup.tasks.saved import save_task


def train(task: TaskArguments, mixup: MixupConfig, args: TrainingArguments) -> None:
    """Train, evaluate on every split, and leave model, metrics and model card in `args.output_dir`.

    Raises:
        ValueError: for settings, data or an output folder that do not fit.
        FileNotFoundError, ImportError: for data or an optional package that is missing.
    """
    checkpoint = checkpoint_to_resume(args, task.overwrite_output_dir)
    prepared = prepare(task)
    set_seed(args.seed)  # the new weights are part of what the seed decides
    model = prepared.build_model()
    check_mixing(prepared, model, mixup)
    trainer = make_trainer(prepared, model, args, mixup)
    done = trainer.train(resume_from_checkpoint=checkpoint)
    trainer.save_model()
    trainer.save_metrics("train", done.metrics)
    results: list[Result] = []
    for split, (prefix, metrics, _) in score_all(trainer, prepared):
        trainer.save_metrics(prefix, metrics)
        short = {name.removeprefix(f"{prefix}_"): value for name, value in metrics.items()}
        results.append({"method": mixup.method, "seed": args.seed, "split": split, "metrics": short})
    write_card(trainer, task)
    if trainer.is_world_process_zero():
        save_task(Path(str(args.output_dir)), task, args.seed)
        print(comparison_table(results, metrics=prepared.metrics))
        print(f"\nmodel and metrics: {args.output_dir}")


def checkpoint_to_resume(args: TrainingArguments, overwrite: bool = False) -> str | None:
    """Return the checkpoint that `resume_from_checkpoint` (a path, or true for the last one) asks for.

    Raises:
        ValueError: if there is no such checkpoint, or the output folder holds files and nothing says to go on.

    >>> import tempfile
    >>> folder = tempfile.mkdtemp()
    >>> checkpoint_to_resume(TrainingArguments(folder)) is None  # an empty folder: start anew
    True
    >>> checkpoint_to_resume(TrainingArguments(folder, resume_from_checkpoint="true"))
    Traceback (most recent call last):
    ...
    ValueError: resume_from_checkpoint: ... holds no checkpoint
    """
    wanted, output = args.resume_from_checkpoint, Path(str(args.output_dir))
    if wanted is not None and str(wanted).lower() not in ("true", "false"):
        if not Path(wanted).is_dir():
            raise ValueError(f"resume_from_checkpoint: no such folder: {wanted}")
        return str(wanted)
    if str(wanted).lower() == "true":
        last = get_last_checkpoint(str(output)) if output.is_dir() else None
        if last is None:
            raise ValueError(f"resume_from_checkpoint: {output} holds no checkpoint")
        return last
    if output.exists() and not output.is_dir():
        raise ValueError(f"output_dir: {output} is a file")
    if not overwrite and output.is_dir() and any(output.iterdir()):
        raise ValueError(
            f"output_dir: {output} is not empty: go on with --resume_from_checkpoint true, train into it with "
            "--overwrite_output_dir, or name another"
        )
    return None
