"""Fine-tune a tagger of words (names, parts of speech, ...) with mixing inside the model.

python recipes/token_classification.py recipes/configs/emoji_tokens.yaml --method manifold --alpha 0.4
accelerate launch --num_processes 2 recipes/token_classification.py recipes/configs/emoji_tokens.yaml

Copy this file and change what you need: `hf-mixup train` takes the same steps.
"""

from __future__ import annotations

from functools import partial

from transformers import DataCollatorForTokenClassification, TrainingArguments, set_seed

from hf_mixup import MixupConfig, MixupTrainer
from hf_mixup.experiments.tasks import TaskArguments, parse_settings
from hf_mixup.experiments.tasks.card import write_card
from hf_mixup.experiments.tasks.checkpoints import checkpoint_to_resume
from hf_mixup.experiments.tasks.data import load_splits
from hf_mixup.metrics import tag_metrics


def main() -> None:
    task, mixup, args = parse_settings([TaskArguments, MixupConfig, TrainingArguments])
    checkpoint = checkpoint_to_resume(args, task.overwrite_output_dir)  # refuses to overwrite another run

    # Any dataset with a column of word lists and one of tag lists will do; here you would load your own.
    splits = load_splits(task)
    tokenizer = task.load_processor(splits.train)
    set_seed(args.seed)  # before the model is built, as its new head is random
    model = task.load_model(splits.label_names, tokenizer)

    trainer = MixupTrainer(  # in place of transformers.Trainer, and `mixup=` is all that is new
        model,
        args,
        # A token is blended with the one at its place in the partner's row, and so are the two tags.
        mixup=mixup,
        data_collator=DataCollatorForTokenClassification(tokenizer),
        train_dataset=task.samples(
            splits.train, tokenizer, train=True
        ),  # a word's first token has its tag, the rest -100
        eval_dataset=task.samples(splits.validation, tokenizer),
        processing_class=tokenizer,
        compute_metrics=partial(tag_metrics, tags=splits.label_names),  # F1 of names, calibration of tokens
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
