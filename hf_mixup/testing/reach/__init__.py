"""The reach of mixing: which methods train every class of transformers' auto mappings exactly.

reference   what the loss of a mixed batch has to be, from plain passes of the model alone
survey      one class: its tiny model, its batch, the verdict on each method
table       REACH.md and REACH.json

`python -m hf_mixup.testing.reach` makes both tables anew.
"""
