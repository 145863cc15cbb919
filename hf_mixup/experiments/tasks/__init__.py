"""Data and models for the command line and the recipes.

    parse_settings    YAML or JSON file and flags -> dataclasses
    load_splits       any dataset -> train, validation and test rows with encoded labels   (tasks.data)
    prepare           data, processor, model and scores of one `TaskArguments`              (tasks.prepare)

Each task has a file of its own, which is imported below: its settings, and how its data and model are loaded. What
several tasks share stands in `tasks.shared` (settings) and `tasks.bases` (methods).
This module imports neither torch nor transformers; the methods of the tasks do.
"""

from __future__ import annotations

from hf_mixup.experiments.tasks import (  # noqa: F401 - each registers itself
    audio_classification,
    causal_lm,
    image_classification,
    image_text,
    image_text_classification,
    image_to_text,
    seq2seq,
    speech_recognition,
    tabular_classification,
    tabular_regression,
    text_classification,
    text_regression,
    token_classification,
    video_classification,
    visual_question_answering,
)
from hf_mixup.experiments.tasks.arguments import TASKS as TASKS
from hf_mixup.experiments.tasks.arguments import TaskArguments as TaskArguments
from hf_mixup.experiments.tasks.arguments import register as register
from hf_mixup.experiments.tasks.settings import parse_settings as parse_settings
