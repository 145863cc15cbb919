"""Fine-tune a text model to predict a number, with mixing inside the model.

python recipes/regression.py recipes/configs/emoji_regression.yaml --method manifold --alpha 0.4
accelerate launch --num_processes 2 recipes/regression.py recipes/configs/emoji_regression.yaml

Copy this file and change what you need: `hf-mixup train` takes the same steps.
"""

from __future__ import annotations

from transformers import DataCollatorWithPadding, TrainingArguments, set_seed

from hf_mixup import MixupConfig, MixupTrainer
from hf_mixup.experiments.tasks import TaskArguments, parse_settings
from hf_mixup.experiments.tasks.card import write_card
from hf_mixup.experiments.tasks.checkpoints import checkpoint_to_resume
from hf_mixup.experiments.tasks.data import load_splits
from hf_mixup.metrics import compute_metrics


def main() -> None:
    task, mixup, args = parse_settings([TaskArguments, MixupConfig, TrainingArguments])
    checkpoint = checkpoint_to_resume(args, task.overwrite_output_dir)  # refuses to overwrite another run

    # Any dataset with a column of texts and one of numbers will do; here you would load your own.
    splits = load_splits(task)
    tokenizer = task.load_processor(splits.train)
    set_seed(args.seed)  # before the model is built, as its new head is random
    model = task.load_model(splits.label_names, tokenizer)  # no label names: one output

    trainer = MixupTrainer(  # in place of transformers.Trainer, and `mixup=` is all that is new
        model,
        args,
        mixup=mixup,  # the numbers are blended as the texts are
        data_collator=DataCollatorWithPadding(tokenizer),
        train_dataset=task.samples(splits.train, tokenizer, train=True),
        eval_dataset=task.samples(splits.validation, tokenizer),
        processing_class=tokenizer,
        compute_metrics=compute_metrics,  # one output: errors, R2 and rank correlation
    )
    trainer.train(resume_from_checkpoint=checkpoint)
    trainer.save_model()

    # Evaluation never mixes.
    for split, rows in splits.tests.items():
        metrics = trainer.evaluate(task.samples(rows, tokenizer), metric_key_prefix=split)
        trainer.log_metrics(split, metrics)
        trainer.save_metrics(split, metrics)
    write_card(trainer, task, mixup)


if __name__ == "__main__":
    main()
