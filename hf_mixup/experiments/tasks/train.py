"""`hf-mixup train`: one run, Trainer underneath."""

from __future__ import annotations

from pathlib import Path

from transformers import TrainingArguments, set_seed

from hf_mixup.engine.config import MixupConfig
from hf_mixup.experiments.tasks.arguments import TaskArguments
from hf_mixup.experiments.tasks.card import check_card, write_card
from hf_mixup.experiments.tasks.checkpoints import checkpoint_to_resume, checkpoints_in
from hf_mixup.experiments.tasks.prepare import check_mixing, check_readable, make_trainer, prepare, rows_of, score_all
from hf_mixup.experiments.tasks.saved import save_task
from hf_mixup.experiments.tasks.stream import told_speed
from hf_mixup.experiments.tasks.streaming import check_stream
from hf_mixup.plots import Result, comparison_table
from hf_mixup.utils.files import NoSpaceError, is_full


def train(task: TaskArguments, mixup: MixupConfig, args: TrainingArguments) -> None:
    """Train, evaluate on every split, and leave model, metrics and model card in `args.output_dir`.

    Raises:
        ValueError: for settings, data or an output folder that do not fit.
        FileNotFoundError, ImportError: for data or an optional package that is missing.
        NoSpaceError, KeyboardInterrupt: if the disk is full, or after Ctrl-C, saying how to go on.
    """
    check_stream(task, args, mixup)
    checkpoint, output = checkpoint_to_resume(args, task.overwrite_output_dir), Path(str(args.output_dir))
    try:
        _train(task, mixup, args, checkpoint)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(_way_on(output)) from None
    except NoSpaceError:  # elsewhere, where the data is prepared
        raise
    except Exception as error:
        if is_full(error, output):
            told = f"no space to store the run in {output}: {error}; make room, and {_way_on(output)}"
            raise NoSpaceError(told) from error
        raise


def _way_on(output: Path) -> str:
    if not checkpoints_in(output):
        return "start again: no checkpoint is written yet (--save_steps says how often one is)"
    return "go on from the last whole checkpoint with --resume_from_checkpoint true"


def _train(task: TaskArguments, mixup: MixupConfig, args: TrainingArguments, checkpoint: str | None) -> None:
    check_card(task)
    prepared = prepare(task)
    check_readable(prepared)
    set_seed(args.seed)  # the new weights are part of what the seed decides
    model = prepared.build_model()
    check_mixing(prepared, model, mixup)
    if args.process_index == 0:
        print(rows_of(prepared, task))
    trainer = make_trainer(prepared, model, args, mixup)
    done = trainer.train(resume_from_checkpoint=checkpoint)
    if (speed := told_speed(done.metrics)) and args.process_index == 0:
        print(speed)
    trainer.save_model()
    trainer.save_metrics("train", done.metrics)
    results: list[Result] = []
    name = mixup.method if not mixup.off else "smoothing" if mixup.label_smoothing else "none"
    for split, (prefix, metrics, _) in score_all(trainer, prepared):
        trainer.save_metrics(prefix, metrics)
        short = {name.removeprefix(f"{prefix}_"): value for name, value in metrics.items()}
        results.append({"method": name, "seed": args.seed, "split": split, "metrics": short})
    write_card(trainer, task, mixup, prepared.shown({each["split"]: each["metrics"] for each in results}))
    if trainer.is_world_process_zero():
        save_task(Path(str(args.output_dir)), task, args.seed)
        print(comparison_table(results, metrics=prepared.metrics))
        print(f"\nmodel and metrics: {args.output_dir}")
