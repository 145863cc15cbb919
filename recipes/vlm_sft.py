"""Train a language model that sees (the layout of LLaVA) to caption images, or LoRA adapters on one, with mixing.

python recipes/vlm_sft.py recipes/configs/emoji_vlm.yaml --method manifold --alpha 1.0
accelerate launch --num_processes 2 recipes/vlm_sft.py recipes/configs/emoji_vlm.yaml

Copy this file and change what you need: `hf-mixup train` takes the same steps.
"""

from __future__ import annotations

from transformers import TrainingArguments, set_seed

from hf_mixup import MixupConfig, MixupTrainer
from hf_mixup.experiments.tasks import TaskArguments, parse_settings
from hf_mixup.experiments.tasks.captioning import CaptionRows, caption_collator
from hf_mixup.experiments.tasks.card import write_card
from hf_mixup.experiments.tasks.checkpoints import checkpoint_to_resume
from hf_mixup.experiments.tasks.data import load_splits
from hf_mixup.metrics import language_metrics, next_token_scores


def main() -> None:
    task, mixup, args = parse_settings([TaskArguments, MixupConfig, TrainingArguments])
    checkpoint = checkpoint_to_resume(args, task.overwrite_output_dir)  # refuses to overwrite another run

    # Any dataset with a column of images and one of captions will do; here you would load your own.
    splits = load_splits(task)
    processor = task.load_processor(splits.train)
    set_seed(args.seed)  # before the model is built, as its new weights are random
    model = task.load_model(splits.label_names, processor)

    trainer = MixupTrainer(  # in place of transformers.Trainer, and `mixup=` is all that is new
        model,
        args,
        mixup=mixup,  # the image, the caption that is read and the caption that is written are blended alike
        data_collator=caption_collator(processor.tokenizer),
        train_dataset=CaptionRows(splits.train, processor, task, train=True),
        eval_dataset=CaptionRows(splits.validation, processor, task),
        processing_class=processor,
        preprocess_logits_for_metrics=next_token_scores,  # three numbers a token in place of a whole vocabulary
        compute_metrics=language_metrics,  # NLL and calibration of the captions' tokens, exact captions
    )
    trainer.train(resume_from_checkpoint=checkpoint)
    trainer.save_model()

    # Evaluation never mixes.
    for split, rows in splits.tests.items():
        metrics = trainer.evaluate(CaptionRows(rows, processor, task), metric_key_prefix=split)
        trainer.log_metrics(split, metrics)
        trainer.save_metrics(split, metrics)
    write_card(trainer, task, mixup)


if __name__ == "__main__":
    main()
