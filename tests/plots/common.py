"""Results, texts and measures that the tests of the plots share."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("matplotlib")
from matplotlib import image as png
from PIL import Image

from hf_mixup import plots

LONG = "embedding mixup with a rather long name, alpha=0.4 and $x_1$ □ 中"


def results(methods=("erm", "mixup"), seeds=(0, 1, 2), splits=("test", "test_shifted"), seed=0):
    rng = np.random.default_rng(seed)
    names = ("accuracy", "ece", "nll")
    return [
        {"method": m, "seed": s, "split": p, "metrics": dict(zip(names, rng.random(3).tolist()))}
        for m in methods
        for s in seeds
        for p in splits
    ]


def set_metric(rows, value, method, seed, name="nll"):
    for row in rows:
        if row["method"] == method and row["seed"] == seed:
            row["metrics"][name] = value
    return rows


def size(path) -> tuple[int, int]:
    """Width and height of an image that decodes to its last byte."""
    with Image.open(path) as image:
        assert image.format == "PNG"
        image.load()
        return image.size


def inked(path) -> float:
    """Share of pixels that are not white."""
    return float((png.imread(path)[..., :3] < 0.99).any(axis=-1).mean())


def curve(rows=200, classes=4, seed=0):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(rows, classes)) * 2
    return logits, (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)


def pair(tokens, partner, lam=0.6):
    return plots.TextPair(tokens, partner, lam, "positive", "negative")


def fixed(method, split="test", seed=0, **metrics):
    return {"method": method, "seed": seed, "split": split, "metrics": metrics}
