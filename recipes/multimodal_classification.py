"""Train a classifier of images with texts, which reads both as one sequence, with mixing of both.

python recipes/multimodal_classification.py recipes/configs/emoji_multimodal.yaml --method cross_modal --image_mix cut
accelerate launch --num_processes 2 recipes/multimodal_classification.py recipes/configs/emoji_multimodal.yaml

Copy this file and change what you need: `hf-mixup train` takes the same steps.
"""

from __future__ import annotations

from transformers import TrainingArguments, set_seed

from hf_mixup import MixupConfig, MixupTrainer
from hf_mixup.experiments.tasks import TaskArguments, parse_settings
from hf_mixup.experiments.tasks.card import write_card
from hf_mixup.experiments.tasks.checkpoints import checkpoint_to_resume
from hf_mixup.experiments.tasks.data import load_splits
from hf_mixup.experiments.tasks.fusion import FusionRows, fusion_collator
from hf_mixup.metrics import compute_metrics


def main() -> None:
    task, mixup, args = parse_settings([TaskArguments, MixupConfig, TrainingArguments])
    checkpoint = checkpoint_to_resume(args, task.overwrite_output_dir)  # refuses to overwrite another run

    # Any dataset with columns of images, texts and classes will do; here you would load your own.
    splits = load_splits(task)
    processor = task.load_processor(splits.train)
    set_seed(args.seed)  # before the model is built, as its new weights are random
    model = task.load_model(splits.label_names, processor)

    trainer = MixupTrainer(  # in place of transformers.Trainer, and `mixup=` is all that is new
        model,
        args,
        mixup=mixup,  # image, text and label get the same partner and lam: the text where its tokens are looked up
        data_collator=fusion_collator(processor.tokenizer),
        train_dataset=FusionRows(splits.train, processor, task, train=True),
        eval_dataset=FusionRows(splits.validation, processor, task),
        processing_class=processor,
        compute_metrics=compute_metrics,  # accuracy and calibration
    )
    trainer.train(resume_from_checkpoint=checkpoint)
    trainer.save_model()

    # Evaluation never mixes. What is lost where a modality is missing or noisy?
    for split, rows in splits.tests.items():
        whole = FusionRows(rows, processor, task)
        for change in (None, *(task.test_changes or ())):
            name = split if change is None else f"{split}_{change}"
            metrics = trainer.evaluate(whole if change is None else whole.changed(change), metric_key_prefix=name)
            trainer.log_metrics(name, metrics)
            trainer.save_metrics(name, metrics)
    write_card(trainer, task, mixup)


if __name__ == "__main__":
    main()
