"""Numbers that several rooms share, without torch: metrics and reports are computed where it is not loaded."""

IGNORE_INDEX = -100
"""The label that `torch` and `transformers` leave out of the loss."""
