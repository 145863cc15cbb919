"""`hf-mixup compare`: the same training with several methods and seeds, compared.

arguments    what to compare
variants     "mixup:alpha=0.2" -> settings of a run
store        finished runs on disk, found again by what determines them
runs         train one run
main         all runs, then table, pictures and the best model
"""
