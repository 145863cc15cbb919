"""One row a method: what the tests over the registry need to know about it.

A method without a row fails `test_every_method_has_a_row`, so registering is testing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Row:
    """Which tiny models a method is tried on, and the settings to try beside the defaults."""

    models: tuple[str, ...]
    settings: tuple[dict[str, Any], ...] = field(default=({},))


IMAGE = ("resnet", "vit")
TEXT = ("bert", "distilbert")

ROWS: dict[str, Row] = {
    "mixup": Row(IMAGE, ({}, {"lam_per": "sample"}, {"lam_per": "pair"}, {"prob": 0.5, "prob_per": "sample"})),
    "cutmix": Row(IMAGE, ({}, {"lam_per": "sample"}, {"box_sides": [0.2, 0.8]}, {"correct_lam": False})),
    "resizemix": Row(IMAGE, ({}, {"lam_per": "sample"}, {"box_sides": [0.2, 0.4]}, {"correct_lam": False})),
    "fmix": Row(IMAGE, ({}, {"lam_per": "sample"}, {"prob": 0.5, "prob_per": "sample"}, {"correct_lam": False})),
    "gridmix": Row(IMAGE, ({}, {"lam_per": "sample"}, {"grid": 2}, {"correct_lam": False})),
    "mosaic": Row(()),  # mixes four rows: tests/methods/test_mosaic.py, test_detection.py, test_segmentation.py
    "patchmix": Row(("vit",), ({}, {"lam_per": "sample"}, {"prob": 0.5, "prob_per": "sample"}, {"correct_lam": False})),
    "embedding": Row(TEXT, ({}, {"lam_per": "sample"})),
    "manifold": Row(IMAGE + TEXT, ({}, {"layers": [0]}, {"layers": [1, -1]}, {"lam_per": "sample"})),
    "features": Row(IMAGE + TEXT, ({}, {"layers": [0.5]})),
    "saliencymix": Row(IMAGE, ({}, {"lam_per": "sample"}, {"correct_lam": False}, {"prob": 0.5, "prob_per": "sample"})),
    "attentive": Row(IMAGE, ({}, {"lam_per": "sample"}, {"prob": 0.5, "prob_per": "sample"})),
    "puzzlemix": Row(IMAGE, ({}, {"lam_per": "sample"}, {"correct_lam": False}, {"prob": 0.5, "prob_per": "sample"})),
    "transmix": Row(()),  # needs attention that the model returns: tests/methods/test_guided_methods.py
    "regmixup": Row(()),  # gives the model more rows: tests/methods/test_gaussian_regmixup.py
    "gaussian": Row(()),  # mixes no rows: tests/methods/test_gaussian_regmixup.py
    "adversarial": Row(()),  # mixes no rows: tests/methods/test_adversarial.py
    "interpolated_adversarial": Row(()),  # gives the model more rows: tests/methods/test_adversarial.py
    "between_class": Row(()),  # for audio clips: tests/methods/test_audio.py
    "specmix": Row(()),  # for spectrograms: tests/methods/test_modalities.py
    "tabular": Row(()),  # for tables: tests/methods/test_modalities.py
    "sentence": Row(IMAGE + TEXT, ({}, {"lam_per": "sample"})),
    "intra": Row(()),  # for labels of tokens: tests/test_token_methods.py
    "sftmix": Row(()),  # for language models: tests/test_token_methods.py
    "span_cut": Row(TEXT, ({}, {"lam_per": "sample"}, {"prob": 0.5, "prob_per": "sample"})),
    "ssmix": Row(TEXT, ({"lam": 0.9}, {"lam_per": "sample"})),
    "cmixup": Row(()),  # for regression: tests/methods/test_cmixup.py
    "switch": Row(IMAGE, ({}, {"methods": ["cutmix", {"method": "manifold", "alpha": 2.0}]})),
}

# Methods for pairs are tried on a dual encoder, in test_cross_modal.py and test_dual_encoders.py.
PAIR_ROWS: dict[str, tuple[dict[str, Any], ...]] = {
    "cross_modal": (
        {},
        {"image_mix": "cut"},
        {"image_mix": "latent"},
        {"text_mix": "two_eot"},
        {"text_mix": "aligned"},
        {"lam_per": "sample"},
        {"prob": 0.5, "prob_per": "sample"},
    ),
    "one_sided": ({}, {"side": "text"}, {"side": "text", "text_mix": "aligned"}, {"image_mix": "cut"}),
    "geodesic": ({}, {"side": "image"}, {"side": "text"}, {"paper_compat": True}, {"loss_weight": 0.1}),
    "m2": ({}, {"lam_per": "sample"}),
    "mixgen": ({}, {"lam": 0.5, "prob": 0.5, "prob_per": "sample"}),
}
PAIR_CASES = [(method, extra) for method, row in PAIR_ROWS.items() for extra in row]

CASES = [(method, model) for method, row in ROWS.items() for model in row.models]
ALL = [(method, model, extra) for method, row in ROWS.items() for model in row.models for extra in row.settings]
