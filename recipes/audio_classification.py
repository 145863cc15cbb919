"""Fine-tune or train a classifier of audio clips with mixing.

python recipes/audio_classification.py recipes/configs/instruments.yaml --method manifold --alpha 0.4
accelerate launch --num_processes 2 recipes/audio_classification.py recipes/configs/instruments.yaml

Copy this file and change what you need: `hf-mixup train` takes the same steps.
"""

from __future__ import annotations

from transformers import TrainingArguments, set_seed

from hf_mixup import MixupConfig, MixupTrainer
from hf_mixup.experiments.tasks import TaskArguments, parse_settings
from hf_mixup.experiments.tasks.card import write_card
from hf_mixup.experiments.tasks.checkpoints import checkpoint_to_resume
from hf_mixup.experiments.tasks.data import load_splits
from hf_mixup.metrics import compute_metrics


def main() -> None:
    task, mixup, args = parse_settings([TaskArguments, MixupConfig, TrainingArguments])
    checkpoint = checkpoint_to_resume(args, task.overwrite_output_dir)  # refuses to overwrite another run

    # Any dataset with a column of audio clips and one of classes will do; here you would load your own.
    splits = load_splits(task)
    extractor = task.load_processor(splits.train)
    set_seed(args.seed)  # before the model is built, as its new weights are random
    model = task.load_model(splits.label_names, extractor)

    # Nothing is mixed here: rows and labels stay as they are until the forward pass.
    train_rows = task.samples(splits.train, extractor, train=True)
    validation_rows = task.samples(splits.validation, extractor)

    trainer = MixupTrainer(  # in place of transformers.Trainer, and `mixup=` is all that is new
        model,
        args,
        mixup=mixup,  # spectrograms and waveforms are blended as they are, or inside the model
        data_collator=task.collator(extractor),
        train_dataset=train_rows,
        eval_dataset=validation_rows,
        processing_class=extractor,
        compute_metrics=compute_metrics,  # accuracy and calibration
    )
    trainer.train(resume_from_checkpoint=checkpoint)
    trainer.save_model()

    # Evaluation never mixes.
    for split, rows in splits.tests.items():
        metrics = trainer.evaluate(task.samples(rows, extractor), metric_key_prefix=split)
        trainer.log_metrics(split, metrics)
        trainer.save_metrics(split, metrics)
    write_card(trainer, task, mixup)


if __name__ == "__main__":
    main()
