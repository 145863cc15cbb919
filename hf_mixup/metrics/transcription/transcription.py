"""The `evaluate` module "transcription"; `evaluate.load` copies this file into its cache: absolute imports."""

from __future__ import annotations

import datasets

from hf_mixup.metrics import evaluate_module
from hf_mixup.metrics.speech import transcription_metrics


class Transcription(evaluate_module.FunctionMetric):
    """Word and character error rates of recognised texts, see `hf_mixup.metrics.transcription_metrics`.

    >>> metric = Transcription()
    >>> metric.add_batch(predictions=["a red fox"], references=["a red ox"])
    >>> metric.add_batch(predictions=["two"], references=["two"])
    >>> metric.compute()["wer"]
    0.25
    """

    function = transcription_metrics
    prediction = datasets.Value("string")
    reference = datasets.Value("string")
