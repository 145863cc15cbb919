"""Train a speech recogniser with MixSpeech: by CTC, or an encoder-decoder whose decoder reads both transcripts.

python recipes/speech_recognition.py recipes/configs/numbers_ctc.yaml
accelerate launch --num_processes 2 recipes/speech_recognition.py recipes/configs/numbers_whisper.yaml

Copy this file and change what you need: `hf-mixup train` takes the same steps.
"""

from __future__ import annotations

from functools import partial

from transformers import TrainingArguments, set_seed

from hf_mixup import MixupConfig
from hf_mixup.experiments.tasks import TaskArguments, parse_settings
from hf_mixup.experiments.tasks.card import write_card
from hf_mixup.experiments.tasks.checkpoints import checkpoint_to_resume
from hf_mixup.experiments.tasks.data import load_splits
from hf_mixup.experiments.tasks.speech import SpeechCollator, SpeechRows, check_frames
from hf_mixup.experiments.tasks.transcribing import SpeechTrainer
from hf_mixup.metrics import speech_metrics


def main() -> None:
    task, mixup, args = parse_settings([TaskArguments, MixupConfig, TrainingArguments])
    checkpoint = checkpoint_to_resume(args, task.overwrite_output_dir)  # refuses to overwrite another run

    # Any dataset with a column of audio and one of transcripts will do; here you would load your own.
    splits = load_splits(task)
    processor = task.load_processor(splits.rows)  # a new model's tokenizer is that of their characters
    set_seed(args.seed)  # before the model is built, as its new weights are random
    model = task.load_model(splits.label_names, processor)

    train_rows, collator = SpeechRows(splits.train, processor, task), SpeechCollator(processor.feature_extractor, model)
    check_frames(model, train_rows, collator)  # CTC needs a frame a character

    trainer = SpeechTrainer(  # a MixupTrainer, which writes what it hears when it evaluates
        model,
        args,
        mixup=mixup,  # audio is blended, and both transcripts are learnt, weighing lam and 1 - lam
        data_collator=collator,
        train_dataset=train_rows,
        eval_dataset=SpeechRows(splits.validation, processor, task),
        processing_class=processor,
        compute_metrics=partial(speech_metrics, tokenizer=processor.tokenizer),  # word and character error rates
    )
    trainer.train(resume_from_checkpoint=checkpoint)
    trainer.save_model()

    # Evaluation never mixes.
    for split, rows in splits.tests.items():
        metrics = trainer.evaluate(SpeechRows(rows, processor, task), metric_key_prefix=split)
        trainer.log_metrics(split, metrics)
        trainer.save_metrics(split, metrics)
    write_card(trainer, task, mixup)


if __name__ == "__main__":
    main()
