"""Variants of a comparison, read from their labels."""

from __future__ import annotations

from hf_mixup.experiments.compare.variants import parse_variants
from hf_mixup.experiments.mixing import SharedSettings


def test_settings_of_a_label_override_the_shared_ones() -> None:
    base = SharedSettings({"alpha": 0.3, "prob": 0.5})
    variants = parse_variants(["none,smoothing:label_smoothing=0.2", "manifold:layers=[0,1]:prob=1", "cutmix"], base)
    none, smoothing, manifold, cutmix = variants
    assert none.mixup.plain
    assert none.smoothing is None
    assert smoothing.mixup.plain
    assert smoothing.smoothing == 0.2
    assert (manifold.mixup.layers, manifold.mixup.prob, manifold.mixup.alpha) == ([0, 1], 1, 0.3)
    assert (cutmix.mixup.method, cutmix.mixup.prob) == ("cutmix", 0.5)


def test_controls_of_pairs_keep_the_loss_without_mixing() -> None:
    shared = {"method": "cross_modal", "alpha": 0.3, "temperature": 0.1, "learn_temperature": False}
    none, smoothing = (
        variant.mixup for variant in parse_variants(["none", "smoothing"], SharedSettings(shared), paired=True)
    )
    assert none.off
    assert smoothing.off
    assert (none.temperature, none.learn_temperature, none.alpha) == (0.1, False, 1.0)
    assert (none.label_smoothing, smoothing.label_smoothing) == (0.0, 0.1)
