"""`hf-mixup compare`: the same training with several methods and seeds, compared.

arguments    what to compare
variants     "mixup:alpha=0.2" -> settings of a run
startup      refusals before anything is trained or loaded, for all experiments
store        finished runs on disk, named by what determines them
looks        when `seeds: auto` looks at the differences, and how sure each look has to be
plan         method x seed x share of the rows x label noise -> runs
one_run      train and store one run
cluster      a connection to a Ray cluster
processes    several at a time, one process for each CUDA device, or on a cluster
progress     one bar over all runs
run_table    all runs on a cluster in one table
training     train all of them; a failed run does not stop the rest
judge        temperature refit, differences to the controls, verdicts
settled      whether more seeds may settle the differences, and why it went on no further
results      results.json, differences.json, tables, the best model
report       report.html and its figures
run          all of it in order
"""
