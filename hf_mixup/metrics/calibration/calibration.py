"""`evaluate` module "calibration": a thin shell around `hf_mixup.metrics.calibration_metrics`.

`evaluate.load` copies this file into its cache, hence the absolute imports.
"""

from __future__ import annotations

from typing import Any

import datasets
import evaluate

from hf_mixup.metrics.functional import calibration_metrics

_DESCRIPTION = """\
Accuracy, negative log-likelihood, Brier score (summed over the classes), expected calibration error with bins of
equal width and of equal mass, and ECE and NLL after temperature scaling.
"""

_INPUTS_DESCRIPTION = """
Args:
    predictions: one row of C logits per example, or of C probabilities with `from_logits=False`.
    references: one class label per example; -100 is left out.
    from_logits, n_bins, temperature, calibration_logits, calibration_references, seed:
        see `hf_mixup.metrics.calibration_metrics`.
Returns:
    dict with accuracy, nll, brier, ece, ece_mass, temperature, ece_temperature, nll_temperature.
"""

_CITATION = """\
@inproceedings{guo2017calibration,
  title={On Calibration of Modern Neural Networks},
  author={Guo, Chuan and Pleiss, Geoff and Sun, Yu and Weinberger, Kilian Q.},
  booktitle={International Conference on Machine Learning},
  year={2017}
}
@inproceedings{naeini2015obtaining,
  title={Obtaining Well Calibrated Probabilities Using {Bayesian} Binning},
  author={Naeini, Mahdi Pakdaman and Cooper, Gregory F. and Hauskrecht, Milos},
  booktitle={AAAI Conference on Artificial Intelligence},
  year={2015}
}
@article{brier1950verification,
  title={Verification of Forecasts Expressed in Terms of Probability},
  author={Brier, Glenn W.},
  journal={Monthly Weather Review},
  volume={78},
  year={1950}
}
"""


class Calibration(evaluate.Metric):
    """Accuracy and calibration of a classifier from logits (or probabilities) and integer references.

    >>> metric = Calibration()
    >>> metric.add_batch(predictions=[[0.9, 0.1]], references=[0])
    >>> metric.add_batch(predictions=[[0.9, 0.1]], references=[1])
    >>> round(metric.compute(from_logits=False, temperature=1.0)["ece"], 4)
    0.4
    """

    def _info(self) -> evaluate.MetricInfo:
        features = {"predictions": datasets.Sequence(datasets.Value("float64")), "references": datasets.Value("int64")}
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS_DESCRIPTION,
            features=datasets.Features(features),
        )

    def _compute(self, predictions: Any, references: Any, **options: Any) -> dict[str, float]:
        return calibration_metrics(predictions, references, **options)
