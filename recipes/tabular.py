"""Train a small network on a table, for classes or a number, with mixing.

python recipes/tabular.py recipes/configs/digits_tabular.yaml --method manifold --alpha 0.4
python recipes/tabular.py recipes/configs/diabetes_tabular.yaml --method cmixup --bandwidth 0.5

Copy this file and change what you need: `hf-mixup train` takes the same steps.
"""

from __future__ import annotations

from transformers import TrainingArguments, default_data_collator, set_seed

from hf_mixup import MixupConfig, MixupTrainer
from hf_mixup.experiments.tasks import TaskArguments, parse_settings
from hf_mixup.experiments.tasks.card import write_card
from hf_mixup.experiments.tasks.checkpoints import checkpoint_to_resume
from hf_mixup.experiments.tasks.data import load_splits
from hf_mixup.metrics import compute_metrics


def main() -> None:
    task, mixup, args = parse_settings([TaskArguments, MixupConfig, TrainingArguments])
    checkpoint = checkpoint_to_resume(args, task.overwrite_output_dir)  # refuses to overwrite another run

    # Any table with columns of numbers or categories and one of what to predict will do; here you would load your own.
    splits = load_splits(task)
    processor = task.load_processor(splits.train)  # scales and categories, saved with the model
    set_seed(args.seed)  # before the model is built, as its new weights are random
    model = task.load_model(splits.label_names, processor)  # no label names: one output

    # Nothing is mixed here: rows and labels stay as they are until the forward pass.
    train_rows = task.samples(splits.train, processor, train=True)
    validation_rows = task.samples(splits.validation, processor)

    trainer = MixupTrainer(  # in place of transformers.Trainer, and `mixup=` is all that is new
        model,
        args,
        mixup=mixup,
        data_collator=default_data_collator,
        train_dataset=train_rows,
        eval_dataset=validation_rows,
        processing_class=processor,
        compute_metrics=compute_metrics,  # accuracy and calibration, or errors
    )
    trainer.train(resume_from_checkpoint=checkpoint)
    trainer.save_model()

    # Evaluation never mixes.
    for split, rows in splits.tests.items():
        metrics = trainer.evaluate(task.samples(rows, processor), metric_key_prefix=split)
        trainer.log_metrics(split, metrics)
        trainer.save_metrics(split, metrics)
    write_card(trainer, task, mixup)


if __name__ == "__main__":
    main()
