"""`evaluate` module "ood": a thin shell around `hf_mixup.metrics.ood_metrics`.

`evaluate.load` copies this file into its cache, hence the absolute imports.
"""

from __future__ import annotations

from typing import Any

import datasets
import evaluate
import numpy as np

from hf_mixup.metrics.detection import ood_metrics

_DESCRIPTION = """\
How well a classifier's largest probability and its energy tell rows of another distribution from test rows: area
under the ROC curve, average precision with either side as the positives, and the false positive rate where 95 % of the
test rows pass.
"""

_INPUTS_DESCRIPTION = """
Args:
    predictions: one row of C logits per example.
    references: 1 for an example from inside the distribution, 0 for one from outside.
Returns:
    dict with auroc_*, aupr_in_*, aupr_out_* and fpr95_* for * = max_probability and energy.
"""

_CITATION = """\
@inproceedings{hendrycks2017baseline,
  title={A Baseline for Detecting Misclassified and Out-of-Distribution Examples in Neural Networks},
  author={Hendrycks, Dan and Gimpel, Kevin},
  booktitle={International Conference on Learning Representations},
  year={2017}
}
@inproceedings{liu2020energy,
  title={Energy-based Out-of-distribution Detection},
  author={Liu, Weitang and Wang, Xiaoyun and Owens, John D. and Li, Yixuan},
  booktitle={Advances in Neural Information Processing Systems},
  year={2020}
}
"""


class Ood(evaluate.Metric):
    """Detection of out-of-distribution rows from logits.

    >>> metric = Ood()
    >>> metric.add_batch(predictions=[[4.0, 0.0], [0.2, 0.0]], references=[1, 0])
    >>> metric.compute()["auroc_energy"]
    1.0
    """

    def _info(self) -> evaluate.MetricInfo:
        features = {"predictions": datasets.Sequence(datasets.Value("float64")), "references": datasets.Value("int64")}
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS_DESCRIPTION,
            features=datasets.Features(features),
        )

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        logits, inside = np.asarray(predictions), np.asarray(references)
        wrong = inside[~np.isin(inside, (0, 1))]
        if wrong.size:
            raise ValueError(f"{wrong.size} references are neither 1 (inside) nor 0 (outside), the first is {wrong[0]}")
        if len(np.unique(inside)) < 2:
            raise ValueError("references are all alike: give rows from inside (1) and from outside (0)")
        return ood_metrics(logits[inside == 1], logits[inside == 0])
