"""`hf-mixup sweep`: method, alpha, prob and layers by Optuna, beside the noise of plain training.

arguments    what to try
storage      a journal or a database that keeps the trials
shared       the trials of a study as work that several workers share
store        the study of a sweep, continued after an interrupt
pruning      evaluation during a run, to give up a bad one
report       image, report, and the winner as a file for `hf-mixup train`
run          all of it in order

Not `Trainer.hyperparameter_search`: it sets fields of `TrainingArguments` only, and mixing has none there; it drops
trials that are interrupted, and keeps neither models nor predictions. Here a trial is a run of a comparison.
"""
