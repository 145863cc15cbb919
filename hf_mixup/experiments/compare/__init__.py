"""`hf-mixup compare`: the same training with several methods and seeds, compared.

arguments    what to compare
variants     "mixup:alpha=0.2" -> settings of a run
plan         method x seed x share of the rows x label noise -> runs
store        finished runs on disk, found again by what determines them
runs         train one run
training     train all of them, whatever becomes of one
processes    several at a time, one process a CUDA device
judge        temperature refit, differences to the controls, verdicts
output       results, tables, the best model
page         report.html and its images
run          all of it in order
"""
