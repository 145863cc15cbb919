"""`hf-mixup evaluate`: a trained model under distribution shift, noise, attacks and on out-of-distribution samples.

arguments      which suites a task has, their settings in one flat list; parsing reads words and numbers
corruption, noise, adversarial, ood, views
               one suite each (or test-time augmentation): its settings, and what it does
perturbation   one cell of a suite, and the rows it is made from; image_changes, text_changes
scorer         a dataset -> logits, clean or under attack
one_model      the parts of an evaluation, one after the other
store          finished parts on disk
run            checks, parts, results, images and the model card of one model
stored_runs    the runs that a comparison left
every_run      all of these: results, tables and images over methods and seeds
"""
