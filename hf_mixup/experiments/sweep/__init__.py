"""`hf-mixup sweep`: method, alpha, prob and layers by Optuna, beside the noise of plain training.

arguments    what to try
study        the trials on disk, continued after an interrupt
watch        evaluation during a run, which gives up a bad one
output       image, report, and the winner as a file for `hf-mixup train`
run          all of it in order

Not `Trainer.hyperparameter_search`: it sets fields of `TrainingArguments` only, and mixing has none there; it drops
trials that are interrupted, and keeps neither models nor predictions. Here a trial is a run of a comparison.
"""
