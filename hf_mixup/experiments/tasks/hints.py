"""What people write for a setting, and what it is called here."""

from __future__ import annotations

from collections.abc import Iterable

from hf_mixup.experiments.tasks.arguments import tasks_with
from hf_mixup.utils.suggest import nearest

_SPELLINGS = {
    "num_train_epochs": "epochs num_epochs n_epochs max_epochs train_epochs",
    "max_steps": "steps num_steps train_steps iterations",
    "per_device_train_batch_size": "batch_size bs batch train_batch_size batchsize",
    "per_device_eval_batch_size": "eval_batch_size test_batch_size val_batch_size",
    "learning_rate": "lr base_lr",
    "weight_decay": "wd",
    "lr_scheduler_type": "scheduler lr_scheduler schedule sched",
    "warmup_steps": "warmup warmup_ratio",
    "optim": "optimizer opt",
    "gradient_accumulation_steps": "accumulate accumulation grad_accum accumulation_steps",
    "dataloader_num_workers": "num_workers workers",
    "use_cpu": "cpu no_cuda",
    "bf16": "precision mixed_precision amp half",
    "output_dir": "output out outdir out_dir output_folder save_dir logdir logging_dir run_dir",
    "resume_from_checkpoint": "resume checkpoint continue",
    "overwrite_output_dir": "overwrite force",
    "seed": "random_seed random_state",
    "method": "mixup mix mixing mixing_method augmentation_method cutmix",
    "alpha": "mixup_alpha cutmix_alpha mix_alpha beta_alpha",
    "lam": "lambda lamda lmbda",
    "prob": "p probability mixup_prob mix_prob cutmix_prob",
    "label_smoothing": "smoothing",
    "disable_last_epochs": "mixup_off_epoch",
    "box_sides": "cutmix_minmax",
    "refresh_batch_norm": "precise_bn update_bn recalibrate_bn",
    "dataset": "data dataset_name data_dir data_path train_file data_set dataset_path train_data",
    "dataset_config": "dataset_config_name subset",
    "train_split": "train_split_name",
    "validation_split": "val_split valid_split eval_split dev_split",
    "test_splits": "test_split",
    "max_train_samples": "limit max_samples num_samples train_samples",
    "max_eval_samples": "eval_samples max_test_samples max_val_samples",
    "model": "model_name model_name_or_path checkpoint_path pretrained pretrained_model backbone model_id",
    "model_type": "arch architecture",
    "config_overrides": "model_config model_kwargs",
    "label_column": "label label_col label_name labels target_name label_column_name",
    "image_column": "image_key image_col image_column_name",
    "text_column": "text_key text_col text_field text_column_name",
    "audio_column": "audio_key audio_column_name",
    "image_size": "img_size resolution size",
    "max_length": "max_len max_seq_length seq_length",
    "augment": "augmentation augmentations aug aa auto_augment",
    "lora_rank": "lora lora_r peft rank",
    "few_shot": "shots n_shot num_shots",
    "label_noise": "noise noise_rate",
}
_MEANT = {spelling: name for name, spellings in _SPELLINGS.items() for spelling in spellings.split()}
_ADVICE = {
    **dict.fromkeys(("config", "config_file", "yaml", "cfg"), "name the configuration file without a flag"),
    **dict.fromkeys(("seeds", "fractions", "noises"), "`hf-mixup compare` has it"),
    **dict.fromkeys(("device", "gpu", "cuda"), "a GPU is used where there is one; --use_cpu does without"),
    **dict.fromkeys(("trials", "n_trials"), "`hf-mixup sweep` has it"),
    **dict.fromkeys(("suite", "suites", "tta", "corruptions"), "`hf-mixup evaluate` has it"),
    **dict.fromkeys(("num_labels", "num_classes", "classes"), "classes are counted in the data"),
}


def hint(wrong: str, names: Iterable[str]) -> str:
    """Say what was meant by a setting that is not among the names of settings.

    >>> hint("batch_size", ["chunk_size", "per_device_train_batch_size"])
    "did you mean 'per_device_train_batch_size'?"
    >>> hint("frames", ["alpha"])
    'video-classification has it'
    """
    names = list(names)
    name = wrong.replace("-", "_").lower()
    for meant in (name, _MEANT.get(name)):
        if meant in names:
            return f"did you mean {meant!r}?"
    if name in _ADVICE:
        return _ADVICE[name]
    for meant in (name, _MEANT.get(name, name)):
        if tasks := tasks_with(meant):
            has = "it" if meant == name else f"{meant!r}"
            return f"{', '.join(tasks)} {'has' if len(tasks) == 1 else 'have'} {has}"
    return nearest(name, names, cutoff=0.65) or "`--help` lists the usual settings, `--help all` all of them"


def meant_by(name: str) -> str | None:
    """Return the setting that people mean by a name that is none; None for any other name.

    >>> meant_by("lr"), meant_by("learning_rate")
    ('learning_rate', None)
    """
    return _MEANT.get(name)
