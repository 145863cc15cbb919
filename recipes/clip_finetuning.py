"""Train or fine-tune a dual encoder (CLIP, SigLIP, ...) on images with captions, with mixing.

python recipes/clip_finetuning.py recipes/configs/emoji_pairs.yaml --method geodesic
accelerate launch --num_processes 2 recipes/clip_finetuning.py recipes/configs/clip_lora.yaml

Copy this file and change what you need: `hf-mixup train` takes the same steps.
"""

from __future__ import annotations

from transformers import TrainingArguments, set_seed

from hf_mixup import MixupConfig, MixupTrainer
from hf_mixup.experiments.tasks import TaskArguments, parse_settings
from hf_mixup.experiments.tasks.card import write_card
from hf_mixup.experiments.tasks.checkpoints import checkpoint_to_resume
from hf_mixup.experiments.tasks.data import load_splits
from hf_mixup.metrics import pair_compute_metrics


def main() -> None:
    task, mixup, args = parse_settings([TaskArguments, MixupConfig, TrainingArguments])
    checkpoint = checkpoint_to_resume(args, task.overwrite_output_dir)  # refuses to overwrite another run

    # Any dataset with a column of images and one of captions will do; here you would load your own.
    splits = load_splits(task)
    processor = task.load_processor(splits.train)
    set_seed(args.seed)  # before the model is built, as its new weights are random
    model = task.load_model([], processor)  # with LoRA adapters or a frozen tower, if the settings say so

    # Nothing is mixed here: images, captions and ids stay as they are until the forward pass.
    train_rows = task.samples(splits.train, processor, train=True).corrupted(task.caption_noise, task.image_blank)

    trainer = MixupTrainer(  # in place of transformers.Trainer, and `mixup=` is all that is new
        model,
        args,
        mixup=mixup,
        data_collator=task.collator(processor),
        train_dataset=train_rows,
        eval_dataset=task.samples(splits.validation, processor),
        processing_class=processor,
        compute_metrics=pair_compute_metrics,  # retrieval, calibration, and the geometry of the embeddings
    )
    trainer.train(resume_from_checkpoint=checkpoint)
    trainer.save_model()

    # Evaluation never mixes. It scores each image against all captions of the split, not only those of its batch.
    for split, rows in splits.tests.items():
        metrics = trainer.evaluate(task.samples(rows, processor), metric_key_prefix=split)
        trainer.log_metrics(split, metrics)
        trainer.save_metrics(split, metrics)
    write_card(trainer, task, mixup)


if __name__ == "__main__":
    main()
