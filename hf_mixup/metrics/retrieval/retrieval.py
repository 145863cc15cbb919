"""The `evaluate` module "retrieval"; `evaluate.load` copies this file into its cache, hence the absolute imports."""

from __future__ import annotations

import datasets

from hf_mixup.metrics import evaluate_module
from hf_mixup.metrics.pairs import retrieval_metrics


class Retrieval(evaluate_module.FunctionMetric):
    """Retrieval, calibration and geometry of a dual encoder from image and text embeddings.

    `compute` takes the options of `hf_mixup.metrics.retrieval_metrics`, ids of all samples in the order they were
    added. `evaluate` wants as many predictions as references: repeat the image (and its id) beside each of its
    captions; equal embeddings of one id count once.

    >>> metric = Retrieval()
    >>> metric.add_batch(predictions=[[1.0, 0.0]], references=[[0.9, 0.1]])
    >>> metric.add_batch(predictions=[[0.0, 1.0]], references=[[0.8, 0.2]])
    >>> scores = metric.compute(scale=10.0, ks=(1,))
    >>> scores["i2t_r1"], scores["t2i_r1"]
    (1.0, 0.5)
    """

    function = retrieval_metrics
    reference = datasets.Sequence(datasets.Value("float64"))
