"""Data and models for the command line and the recipes: small functions, one step each.

    parse_settings    YAML or JSON file and flags -> dataclasses
    load_splits       any data set -> train, validation and test rows with encoded labels   (tasks.data)
    tasks.image       image processor, model, rows of pixels
    tasks.text        tokenizer, model, rows of tokens
    tasks.audio       feature extractor, model, rows of audio clips
    tasks.video       moving emoji, model, rows of frames
    tasks.tables      data of scikit-learn, columns, model, rows of numbers and categories
    tasks.pairs       processor, dual encoder, rows of pixels and captions; zero-shot classification
    tasks.shared      settings that several tasks have, in groups
    tasks.bases       what tasks with texts, and tasks with tables, do alike
    prepare           all of it for one `TaskArguments`                                      (tasks.prepare)

Each task has a file of its own, which is imported below: its settings, and which of these functions it calls.
This module imports neither torch nor transformers; the functions do.
"""

from __future__ import annotations

from hf_mixup.experiments.tasks import (  # noqa: F401 - each registers itself
    audio_classification,
    causal_lm,
    image_classification,
    image_text,
    seq2seq,
    tabular_classification,
    tabular_regression,
    text_classification,
    text_regression,
    token_classification,
    video_classification,
)
from hf_mixup.experiments.tasks.arguments import TASKS as TASKS
from hf_mixup.experiments.tasks.arguments import TaskArguments as TaskArguments
from hf_mixup.experiments.tasks.arguments import register as register
from hf_mixup.experiments.tasks.settings import parse_settings as parse_settings
