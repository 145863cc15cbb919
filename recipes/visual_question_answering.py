"""Train a model that answers questions about images, with mixing of image, question and answers.

python recipes/visual_question_answering.py recipes/configs/emoji_vqa.yaml --method cross_modal --image_mix cut
accelerate launch --num_processes 2 recipes/visual_question_answering.py recipes/configs/emoji_vqa.yaml

Copy this file and change what you need: `hf-mixup train` takes the same steps.
"""

from __future__ import annotations

from transformers import TrainingArguments, set_seed

from hf_mixup import MixupConfig, MixupTrainer
from hf_mixup.experiments.tasks import TaskArguments, parse_settings
from hf_mixup.experiments.tasks.card import write_card
from hf_mixup.experiments.tasks.checkpoints import checkpoint_to_resume
from hf_mixup.experiments.tasks.data import load_splits
from hf_mixup.metrics import answer_metrics


def main() -> None:
    task, mixup, args = parse_settings([TaskArguments, MixupConfig, TrainingArguments])
    checkpoint = checkpoint_to_resume(args, task.overwrite_output_dir)  # refuses to overwrite another run

    # Any dataset with columns of images, questions and lists of answers will do; here you would load your own.
    splits = load_splits(task)
    processor = task.load_processor(splits.train)
    set_seed(args.seed)  # before the model is built, as its new weights are random
    model = task.load_model(splits.label_names, processor)

    trainer = MixupTrainer(  # in place of transformers.Trainer, and `mixup=` is all that is new
        model,
        args,
        mixup=mixup,  # the scores of the answers are blended as image and question are, for the model's own loss
        data_collator=task.collator(processor),
        train_dataset=task.samples(splits.train, processor, train=True),
        eval_dataset=task.samples(splits.validation, processor),
        processing_class=processor,
        compute_metrics=answer_metrics,  # the score of the answers that are given, and calibration
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
