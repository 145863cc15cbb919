"""Data and models for the command line and the recipes: small functions, one step each.

    parse_settings    YAML or JSON file and flags -> dataclasses
    load_splits       any data set -> train, validation and test rows with encoded labels   (tasks.data)
    tasks.image       image processor, model, rows of pixels
    tasks.text        tokenizer, model, rows of tokens
    tasks.audio       feature extractor, model, rows of audio clips
    tasks.video       moving emoji, processor, model, rows of frames
    tasks.tables      data of scikit-learn, columns, model, rows of numbers and categories
    tasks.pairs       processor, dual encoder, rows of pixels and captions; zero-shot classification
    prepare           all of it for one `TaskArguments`                                      (tasks.prepare)

This module imports neither torch nor transformers; the others do.
"""

from __future__ import annotations

from hf_mixup.experiments.tasks.arguments import TaskArguments as TaskArguments
from hf_mixup.experiments.tasks.settings import parse_settings as parse_settings
