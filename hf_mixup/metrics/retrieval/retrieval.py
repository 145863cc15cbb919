"""`evaluate` module "retrieval": a thin shell around `hf_mixup.metrics.retrieval_metrics`.

`evaluate.load` copies this file into its cache, hence the absolute imports.
"""

from __future__ import annotations

from typing import Any

import datasets
import evaluate

from hf_mixup.metrics.pairs import retrieval_metrics

_DESCRIPTION = """\
Retrieval between the two sides of a dual encoder (recall at 1, 5 and 10 in both directions), negative log-likelihood
and expected calibration error before and after temperature scaling, and alignment, uniformity and modality gap of the
embeddings.
"""

_INPUTS_DESCRIPTION = """
Args:
    predictions: one image embedding per row.
    references: one text embedding per row.
    image_ids, text_ids: ids of all rows in the order they were added, equal where an image and a text belong
        together; without them only those of one row do. `evaluate` wants as many predictions as references: repeat
        the image beside each of its captions (and its id), equal rows of one id count once.
    scale, bias, ks, n_bins, seed: see `hf_mixup.metrics.retrieval_metrics`.
Returns:
    dict with i2t_r1, i2t_r5, i2t_r10, t2i_r1, t2i_r5, t2i_r10, mean_recall, nll, ece, temperature, nll_temperature,
    ece_temperature, alignment, uniformity_image, uniformity_text, modality_gap.
"""

_CITATION = """\
@inproceedings{wang2020understanding,
  title={Understanding Contrastive Representation Learning through Alignment and Uniformity on the Hypersphere},
  author={Wang, Tongzhou and Isola, Phillip},
  booktitle={International Conference on Machine Learning},
  year={2020}
}
@inproceedings{liang2022mind,
  title={Mind the Gap: Understanding the Modality Gap in Multi-modal Contrastive Representation Learning},
  author={Liang, Weixin and Zhang, Yuhui and Kwon, Yongchan and Yeung, Serena and Zou, James},
  booktitle={Advances in Neural Information Processing Systems},
  year={2022}
}
@inproceedings{guo2017calibration,
  title={On Calibration of Modern Neural Networks},
  author={Guo, Chuan and Pleiss, Geoff and Sun, Yu and Weinberger, Kilian Q.},
  booktitle={International Conference on Machine Learning},
  year={2017}
}
"""


class Retrieval(evaluate.Metric):
    """Retrieval, calibration and geometry of a dual encoder from image and text embeddings.

    >>> metric = Retrieval()
    >>> metric.add_batch(predictions=[[1.0, 0.0]], references=[[0.9, 0.1]])
    >>> metric.add_batch(predictions=[[0.0, 1.0]], references=[[0.8, 0.2]])
    >>> scores = metric.compute(scale=10.0, ks=(1,))
    >>> scores["i2t_r1"], scores["t2i_r1"]
    (1.0, 0.5)
    """

    def _info(self) -> evaluate.MetricInfo:
        embedding = datasets.Sequence(datasets.Value("float64"))
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS_DESCRIPTION,
            features=datasets.Features({"predictions": embedding, "references": embedding}),
        )

    def _compute(self, predictions: Any, references: Any, **options: Any) -> dict[str, float]:
        return retrieval_metrics(predictions, references, **options)
