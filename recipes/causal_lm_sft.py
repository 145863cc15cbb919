"""Fine-tune a causal language model on prompts and answers (SFT), whole or through LoRA, with mixing inside the model.

python recipes/causal_lm_sft.py recipes/configs/emoji_sft.yaml --method manifold --alpha 0.4
accelerate launch --num_processes 2 recipes/causal_lm_sft.py recipes/configs/emoji_sft.yaml

Copy this file and change what you need: `hf-mixup train` takes the same steps.
"""

from __future__ import annotations

from transformers import DataCollatorForSeq2Seq, TrainingArguments, set_seed

from hf_mixup import MixupConfig, MixupTrainer
from hf_mixup.experiments.tasks import TaskArguments, parse_settings
from hf_mixup.experiments.tasks.card import write_card
from hf_mixup.experiments.tasks.checkpoints import checkpoint_to_resume
from hf_mixup.experiments.tasks.data import load_splits
from hf_mixup.metrics import language_metrics, next_token_scores


def main() -> None:
    task, mixup, args = parse_settings([TaskArguments, MixupConfig, TrainingArguments])
    checkpoint = checkpoint_to_resume(args, task.overwrite_output_dir)  # refuses to overwrite another run

    # Any dataset with columns of prompts and answers will do, or with one of texts; here you would load your own.
    splits = load_splits(task)
    tokenizer = task.load_processor(splits.train)
    set_seed(args.seed)  # before the model is built, as its new weights are random
    model = task.load_model(splits.label_names, tokenizer)  # with LoRA adapters, if the settings say so

    trainer = MixupTrainer(  # in place of transformers.Trainer, and `mixup=` is all that is new
        model,
        args,
        mixup=mixup,
        data_collator=DataCollatorForSeq2Seq(tokenizer),  # pads input_ids, and labels with -100
        train_dataset=task.samples(splits.train, tokenizer, train=True),  # labels are -100 on the prompt
        eval_dataset=task.samples(splits.validation, tokenizer),
        processing_class=tokenizer,
        preprocess_logits_for_metrics=next_token_scores,  # three numbers a token in place of a whole vocabulary
        compute_metrics=language_metrics,  # perplexity, accuracy and calibration of tokens, exact matches
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
