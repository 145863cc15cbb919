"""Detecting out-of-distribution samples by a classifier's logits."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from hf_mixup.metrics.inputs import FloatArray, finite_float64

SCORES = ("max_probability", "energy")
TRUE_POSITIVE_RATE = 0.95


def detection_scores(logits: ArrayLike) -> dict[str, FloatArray]:
    """Return the confidence scores of each sample by name; in-distribution samples should score higher.

    Args:
        logits: [N, C], C >= 2.

    `max_probability` [N] is the largest softmax probability, `energy` [N] the log of the sum of the exponentials (the
    negative free energy at temperature 1), which sees the scale of the logits that a softmax drops.

    Raises:
        ValueError: the shape is another, there is no row, or a value is NaN or infinite.

    Source: Hendrycks and Gimpel 2017, arXiv 1610.02136; Liu et al. 2020, "Energy-based Out-of-distribution Detection",
    arXiv 2010.03759, equation 4.

    >>> scores = detection_scores([[0.0, 0.0], [np.log(3), 0.0]])
    >>> scores["max_probability"].round(2).tolist(), scores["energy"].round(3).tolist()
    ([0.5, 0.75], [0.693, 1.386])
    """
    from scipy.special import logsumexp

    values = finite_float64(logits, "logits")
    if values.ndim != 2 or not len(values) or values.shape[1] < 2:
        raise ValueError(f"logits must be [N, C] with at least one row and two classes, not {values.shape}")
    energy = logsumexp(values, axis=1)
    return {"max_probability": np.exp(values.max(axis=1) - energy), "energy": energy}


def ood_metrics(inside: ArrayLike, outside: ArrayLike) -> dict[str, float]:
    """Return how well each score of `detection_scores` separates in-distribution from out-of-distribution samples.

    `auroc_*` is the chance that an in-distribution sample scores higher than an out-of-distribution one (1/2:
    guessing); `aupr_in_*` and `aupr_out_*` the average precision with either as the positives; `fpr95_*` the share of
    out-of-distribution samples above the threshold that 95 % of the in-distribution samples pass.

    Args:
        inside, outside: logits [N, C] in and [M, C] out of distribution, of the same model.

    Raises:
        ValueError: as `detection_scores`, or the numbers of classes differ.

    Source: as `detection_scores`; the four measures as in Liu et al. 2020.

    >>> metrics = ood_metrics([[4.0, 0.0], [0.0, 3.0]], [[1.0, 0.5], [0.0, 0.2]])
    >>> metrics["auroc_energy"], metrics["fpr95_max_probability"]
    (1.0, 0.0)
    """
    from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

    near, far = detection_scores(inside), detection_scores(outside)
    widths = np.shape(inside)[1], np.shape(outside)[1]
    if widths[0] != widths[1]:
        raise ValueError(f"logits of one model have as many classes inside as outside, not {widths[0]} and {widths[1]}")
    is_inside = np.repeat((1, 0), (len(near["energy"]), len(far["energy"])))
    metrics = {}
    for name in SCORES:
        score = np.concatenate([near[name], far[name]])
        false, true, _ = roc_curve(is_inside, score, drop_intermediate=False)
        metrics[f"auroc_{name}"] = float(roc_auc_score(is_inside, score))
        metrics[f"aupr_in_{name}"] = float(average_precision_score(is_inside, score))
        metrics[f"aupr_out_{name}"] = float(average_precision_score(1 - is_inside, -score))
        metrics[f"fpr95_{name}"] = float(false[np.argmax(true >= TRUE_POSITIVE_RATE)])
    return metrics
