"""One row a method: what the tests over the registry need to know about it.

A method without a row fails `test_every_method_has_a_row`, so registering is testing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Row:
    """What a method is tried on.

    Attributes:
        models: tiny models that it is tried on, of `tests.conftest.CONFIGS`.
        settings: settings to try; each setting that no other method has needs another value than its default in one.
        mixes: modalities that it mixes, of `tests/methods/test_modalities.py`; it must refuse the others.
    """

    models: tuple[str, ...]
    settings: tuple[dict[str, Any], ...] = ({},)
    mixes: tuple[str, ...] = ()


IMAGE = ("resnet", "vit")
TEXT = ("bert", "distilbert")
FLOATS = ("pixels", "waveform", "spectrogram", "transposed", "video", "series")
MODALITIES = (*FLOATS, "table", "tokens")

ROWS: dict[str, Row] = {
    "mixup": Row(
        IMAGE, ({}, {"lam_per": "sample"}, {"lam_per": "pair"}, {"prob": 0.5, "prob_per": "sample"}), mixes=FLOATS
    ),
    "cutmix": Row(IMAGE, ({}, {"lam_per": "sample"}, {"box_sides": [0.2, 0.8]}, {"correct_lam": False}), mixes=FLOATS),
    "resizemix": Row(
        IMAGE, ({}, {"lam_per": "sample"}, {"box_sides": [0.2, 0.4]}, {"correct_lam": False}), mixes=("pixels",)
    ),
    "fmix": Row(
        IMAGE,
        ({}, {"lam_per": "sample"}, {"prob": 0.5, "prob_per": "sample"}, {"correct_lam": False}),
        mixes=("pixels",),
    ),
    "gridmix": Row(IMAGE, ({}, {"lam_per": "sample"}, {"grid": 2}, {"correct_lam": False}), mixes=("pixels",)),
    "mosaic": Row(
        (), mixes=("pixels",)
    ),  # mixes four rows: tests/methods/test_mosaic.py, test_detection.py, test_segmentation.py
    "patchmix": Row(
        ("vit",),
        ({}, {"lam_per": "sample"}, {"prob": 0.5, "prob_per": "sample"}, {"correct_lam": False}),
        mixes=("pixels",),
    ),
    "embedding": Row(TEXT, ({}, {"lam_per": "sample"}), mixes=("tokens",)),
    "manifold": Row(IMAGE + TEXT, ({}, {"layers": [0]}, {"layers": [1, -1]}, {"lam_per": "sample"}), mixes=MODALITIES),
    "features": Row(IMAGE + TEXT, ({}, {"layers": [0.5]}), mixes=MODALITIES),
    "saliencymix": Row(
        IMAGE,
        ({}, {"lam_per": "sample"}, {"correct_lam": False}, {"prob": 0.5, "prob_per": "sample"}),
        mixes=("pixels",),
    ),
    "attentive": Row(IMAGE, ({}, {"lam_per": "sample"}, {"prob": 0.5, "prob_per": "sample"}), mixes=("pixels",)),
    "puzzlemix": Row(
        IMAGE,
        ({}, {"lam_per": "sample"}, {"correct_lam": False}, {"prob": 0.5, "prob_per": "sample"}),
        mixes=("pixels",),
    ),
    "transmix": Row(
        (), mixes=("pixels",)
    ),  # needs attention that the model returns: tests/methods/test_guided_methods.py
    "regmixup": Row((), mixes=FLOATS),  # gives the model more rows: tests/methods/test_gaussian_regmixup.py
    "gaussian": Row((), mixes=(*FLOATS, "tokens")),  # mixes no rows: tests/methods/test_gaussian_regmixup.py
    "adversarial": Row((), mixes=(*FLOATS, "tokens")),  # mixes no rows: tests/methods/test_adversarial.py
    "interpolated_adversarial": Row((), mixes=FLOATS),  # gives the model more rows: tests/methods/test_adversarial.py
    "between_class": Row((), mixes=("waveform",)),  # for audio clips: tests/methods/test_audio.py
    "specmix": Row((), mixes=("spectrogram", "transposed")),  # for spectrograms: tests/methods/test_modalities.py
    "tabular": Row((), mixes=(*FLOATS, "table")),  # for tables: tests/methods/test_modalities.py
    "sentence": Row(IMAGE + TEXT, ({}, {"lam_per": "sample"}), mixes=MODALITIES),
    "intra": Row(()),  # for labels of tokens: tests/test_token_methods.py
    "sftmix": Row(()),  # for language models: tests/test_token_methods.py
    "span_cut": Row(TEXT, ({}, {"lam_per": "sample"}, {"prob": 0.5, "prob_per": "sample"}), mixes=("tokens",)),
    "ssmix": Row(TEXT, ({"lam": 0.9}, {"lam_per": "sample"}), mixes=("tokens",)),
    "cmixup": Row((), mixes=(*FLOATS, "table", "tokens")),  # for regression: tests/methods/test_cmixup.py
    "switch": Row(IMAGE, ({}, {"methods": ["cutmix", {"method": "manifold", "alpha": 2.0}]}), mixes=FLOATS),
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
