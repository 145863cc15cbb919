"""One row a method: all that the tests over the registry need to know about it.

A method without a row fails `test_every_method_has_a_row`, so registering is testing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Values = dict[str, Any]
Apart = Literal["no lam", "adds samples in front", "adds samples behind", "blends at the loss", "special tokens stay",
                     "four labels", "lam is another share"]  # fmt: skip


@dataclass(frozen=True)
class Row:
    """What the tests need to know about one method.

    Args:
        models: tiny models of tests/conftest.py for the engine's tests; none where a method needs another kind of
            model or batch: then its own module tries it.
        settings: to be tried on these models, one after another.
        mixes: modalities (tests/methods/test_modalities.py) that it mixes; it must refuse all others.
        exceptions: what is otherwise claimed of every method and does not hold for this one.
        scene: model and batch on which each of its settings changes something (tests/methods/test_settings_table.py).
        scenes: the scene for a setting that changes nothing there.
        values: for each setting that this method brings, or that needs others beside it, a value other than the
            default and these others.
    """

    models: tuple[str, ...]
    settings: tuple[Values, ...] = ({},)
    mixes: tuple[str, ...] = ()
    exceptions: tuple[Apart, ...] = ()
    scene: str = "vit"
    scenes: dict[str, str] = field(default_factory=dict)
    values: dict[str, tuple[Any, Values]] = field(default_factory=dict)


IMAGE, TEXT, PAIRS = ("resnet", "vit"), ("bert", "distilbert"), ("clip",)
FLOATS = ("pixels", "waveform", "spectrogram", "transposed", "video", "series")
MODALITIES = (*FLOATS, "table", "tokens")
PER_SAMPLE: Values = {"lam_per": "sample"}
SOME: Values = {"prob": 0.5, "prob_per": "sample"}
EXACT: Values = {"correct_lam": False}
CUT: Values = {"image_mix": "cut", "lam_per": "sample"}
CUTS: dict[str, tuple[Any, Values]] = {
    "box_sides": ([0.2, 0.4], CUT),
    "box_style": ("torchvision", CUT),
    "cut_along": ("time", CUT),
    "time_axis": (9, CUT),
    "correct_lam": (False, {**CUT, "lam": 0.37}),
}

ROWS: dict[str, Row] = {
    "mixup": Row(
        IMAGE,
        ({}, PER_SAMPLE, {"lam_per": "pair"}, SOME),
        (*FLOATS, "tokens"),
        scenes={"decoder": "transcribed"},
        values={"decoder": ("two", {})},
    ),
    "cutmix": Row(
        IMAGE,
        ({}, PER_SAMPLE, {"box_sides": [0.2, 0.8]}, EXACT),
        FLOATS,
        scenes={"cut_along": "spectrogram", "time_axis": "spectrogram"},
    ),
    "resizemix": Row(
        IMAGE,
        ({}, PER_SAMPLE, {"box_sides": [0.2, 0.4]}, EXACT),
        ("pixels",),
        values={"box_sides": ([0.2, 0.4], PER_SAMPLE)},
    ),
    "fmix": Row(IMAGE, ({}, PER_SAMPLE, SOME, EXACT), ("pixels",)),
    "gridmix": Row(IMAGE, ({}, PER_SAMPLE, {"grid": 2}, EXACT), ("pixels",), values={"grid": (3, {})}),
    "mosaic": Row((), mixes=("pixels",), exceptions=("four labels",)),
    "patchmix": Row(("vit",), ({}, PER_SAMPLE, SOME, EXACT), ("pixels",)),
    "embedding": Row(TEXT, ({}, PER_SAMPLE), ("tokens",), scene="bert"),
    "manifold": Row(IMAGE + TEXT, ({}, {"layers": [0]}, {"layers": [1, -1]}, PER_SAMPLE), MODALITIES, scene="bert"),
    "features": Row(IMAGE + TEXT, ({}, {"layers": [0.5]}), MODALITIES, scene="bert"),
    "saliencymix": Row(IMAGE, ({}, PER_SAMPLE, EXACT, SOME), ("pixels",), values={"saliency": ("gradient", {})}),
    "attentive": Row(IMAGE, ({}, PER_SAMPLE, SOME), ("pixels",), values={"attention": ("rollout", {})}),
    "puzzlemix": Row(IMAGE, ({}, PER_SAMPLE, EXACT, SOME), ("pixels",)),
    "transmix": Row((), mixes=("pixels",), exceptions=("lam is another share",), scene="attending"),
    "regmixup": Row((), mixes=FLOATS, exceptions=("adds samples in front",)),
    "gaussian": Row((), mixes=(*FLOATS, "tokens"), exceptions=("no lam",), values={"sigma": (0.5, {})}),
    "adversarial": Row((), mixes=(*FLOATS, "tokens"), exceptions=("no lam",)),
    "interpolated_adversarial": Row(
        (), mixes=FLOATS, exceptions=("adds samples behind",), values={"by": ("cutmix", {})}
    ),
    "between_class": Row(
        (),
        mixes=("waveform",),
        exceptions=("lam is another share",),
        scene="audio",
        values={"sampling_rate": (8000, {})},
    ),
    "specmix": Row(
        (),
        mixes=("spectrogram", "transposed"),
        scene="spectrogram",
        values={"num_bands": (1, {}), "band_share": (0.1, {})},
    ),
    "tabular": Row((), mixes=(*FLOATS, "table"), scene="table", scenes={"correct_lam": "categories"}),
    "sentence": Row(IMAGE + TEXT, ({}, PER_SAMPLE), MODALITIES, exceptions=("blends at the loss",), scene="bert"),
    "intra": Row((), scene="tagged"),
    "sftmix": Row((), scene="causal"),
    "span_cut": Row(TEXT, ({}, PER_SAMPLE, SOME), ("tokens",), exceptions=("special tokens stay",), scene="bert"),
    "ssmix": Row(TEXT, ({"lam": 0.9}, PER_SAMPLE), ("tokens",), exceptions=("special tokens stay",), scene="bert"),
    "cmixup": Row(
        (),
        mixes=(*FLOATS, "table", "tokens"),
        scene="numbers",
        scenes={"correct_lam": "numbers of categories", "attention_mask_mode": "scored"},
        values={"label_bandwidth": (0.01, {})},
    ),
    "switch": Row(
        IMAGE,
        ({}, {"methods": ["cutmix", {"method": "manifold", "alpha": 2.0}]}),
        FLOATS,
        values={"methods": (["fmix", "gridmix"], {}), "probs": ([0.0, 1.0], {})},
    ),
    "cross_modal": Row(
        PAIRS,
        (
            {},
            {"image_mix": "cut"},
            {"image_mix": "latent"},
            {"text_mix": "two_eot"},
            {"text_mix": "aligned"},
            PER_SAMPLE,
            SOME,
        ),
        scene="clip",
        values=CUTS,
    ),
    "one_sided": Row(
        PAIRS,
        ({}, {"side": "text"}, {"side": "text", "text_mix": "aligned"}, {"image_mix": "cut"}),
        scene="clip",
        values={**CUTS, "text_mix": ("two_eot", {"side": "text"}), "keys": (["wrong"], {"side": "image"})},
    ),
    "geodesic": Row(
        PAIRS,
        ({}, {"side": "image"}, {"side": "text"}, {"paper_compat": True}, {"loss_weight": 0.1}),
        scene="clip",
        values={"paper_compat": (True, {})},
    ),
    "m2": Row(PAIRS, ({}, PER_SAMPLE), scene="clip", values={"loss_temperature": (0.5, {})}),
    "mixgen": Row(PAIRS, ({}, {"lam": 0.5, **SOME}), scene="clip"),
}
# The same for settings that several methods have.
VALUES: dict[str, tuple[Any, Values]] = {
    "alpha": (30.0, {}),
    "beta": (4.0, {}),
    "lam": (0.3, {}),
    "lam_per": ("sample", {}),
    "lam_at_least_half": (True, PER_SAMPLE),
    "prob": (0.3, {}),
    "prob_per": ("sample", {"prob": 0.5}),
    "pairing": ("flip", {}),
    "pair_class": ("different", {"lam": 0.5}),
    "keys": (["wrong"], {}),
    "layers": ([0], {}),
    "modules": (["wrong"], {}),
    "attention_mask_mode": ("weighted", {}),
    "box_sides": ([0.2, 0.4], {}),
    "box_style": ("torchvision", PER_SAMPLE),
    "cut_along": ("time", {}),
    "time_axis": (9, {}),
    "correct_lam": (False, {"lam": 0.37}),
    "swap_keys": (["wrong"], {}),
    "loss_weight": (0.9, {}),
    "attack": ("pgd_l2", {}),
    "epsilon": (0.02, {}),
    "attack_steps": (1, {"attack": "pgd"}),
    "attack_step_size": (0.01, {"attack": "pgd"}),
    "attack_range": ([0.0, 0.1], {}),
    "attack_learning_rate": (0.1, {"attack": "network"}),
    "clean_weight": (0.1, {}),
    "side": ("text", {}),
    "image_mix": ("latent", {}),
    "text_mix": ("two_eot", {}),
    "duplicates": (False, {}),
    "temperature": (0.2, {}),
    "learn_temperature": (False, {}),
}

CASES = [(method, model) for method, row in ROWS.items() if row.models != PAIRS for model in row.models]
ALL = [(method, model, extra) for method, model in CASES for extra in ROWS[method].settings]
PAIR_METHODS = [method for method, row in ROWS.items() if row.models == PAIRS]
PAIR_CASES = [(method, extra) for method in PAIR_METHODS for extra in ROWS[method].settings]


def methods_with(exception: Apart) -> list[str]:
    """Return the methods for which something does not hold."""
    return [method for method, row in ROWS.items() if exception in row.exceptions]
