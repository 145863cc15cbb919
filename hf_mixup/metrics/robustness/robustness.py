"""`evaluate` module "robustness": a thin shell around `hf_mixup.metrics.robustness_metrics`.

`evaluate.load` copies this file into its cache, hence the absolute imports.
"""

from __future__ import annotations

from typing import Any

import datasets
import evaluate

from hf_mixup.metrics.levels import robustness_metrics

_DESCRIPTION = """\
Accuracy, negative log-likelihood and calibration error of a classifier as its rows are disturbed more and more: common
corruptions by severity, with the mean corruption error relative to a baseline; attacks by epsilon; noise by its share.
"""

_INPUTS_DESCRIPTION = """
Args:
    predictions: one row of C logits per example.
    references: one class label per example; -100 is left out.
    families, levels: what disturbs each example, such as "gaussian_noise", "pgd" or "label_noise", and how strongly;
        of all examples in the order they were added. Level 0 is an undisturbed example.
    temperature, baseline, n_bins: see `hf_mixup.metrics.robustness_metrics`.
Returns:
    dict with accuracy, nll and ece (means over levels, then families), worst_accuracy, clean, families (the curves and
    the area under accuracy), and with a baseline mce and relative_mce.
"""

_CITATION = """\
@inproceedings{hendrycks2019robustness,
  title={Benchmarking Neural Network Robustness to Common Corruptions and Perturbations},
  author={Hendrycks, Dan and Dietterich, Thomas},
  booktitle={International Conference on Learning Representations},
  year={2019}
}
"""


class Robustness(evaluate.Metric):
    """Scores of a classifier over the levels of disturbances, from logits and integer references.

    >>> metric = Robustness()
    >>> metric.add_batch(predictions=[[2.0, 0.0]], references=[0])
    >>> metric.add_batch(predictions=[[0.0, 1.0]], references=[0])
    >>> metric.compute(families=["pgd", "pgd"], levels=[0, 0.03])["accuracy"]
    0.0
    """

    def _info(self) -> evaluate.MetricInfo:
        features = {"predictions": datasets.Sequence(datasets.Value("float64")), "references": datasets.Value("int64")}
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS_DESCRIPTION,
            features=datasets.Features(features),
        )

    def _compute(self, predictions: Any, references: Any, **options: Any) -> dict[str, Any]:
        return robustness_metrics(predictions, references, **options)
