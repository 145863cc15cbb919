"""The `evaluate` modules give what the functions give, in batches, offline and with options."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hf_mixup import metrics
from tests.metrics.common import corrupted, random_classifier, random_logits


@pytest.fixture
def load(tmp_path: Path) -> Callable[[str], Any]:
    return lambda name: metrics.load(name, cache_dir=str(tmp_path))


def in_batches(module: Any, predictions: Any, references: Any, **options: Any) -> dict[str, Any]:
    for start in range(0, len(references), 16):
        part = slice(start, start + 16)
        module.add_batch(predictions=predictions[part], references=references[part])
    return module.compute(**options)


def test_calibration(load: Callable[[str], Any]) -> None:
    logits, labels = random_classifier(rows=50)
    module = load("calibration")
    assert module.compute(predictions=logits, references=labels) == metrics.calibration_metrics(logits, labels)
    options = {"n_bins": 10, "calibration_logits": logits * 2, "calibration_references": labels}
    module.add(prediction=[0.0] * 5, reference=-100)
    assert in_batches(module, logits, labels, **options) == metrics.calibration_metrics(logits, labels, **options)
    got = module.compute(predictions=[[0.75, 0.25]] * 2, references=[0, 1], from_logits=False, temperature=1.0)
    assert got["ece"] == pytest.approx(0.25)


def test_ood(load: Callable[[str], Any]) -> None:
    inside, outside = random_logits(20)[0], random_logits(9, seed=1)[0]
    module = load("ood")
    got = in_batches(module, np.concatenate([inside, outside]), [1] * 20 + [0] * 9)
    assert got == metrics.ood_metrics(inside, outside)
    with pytest.raises(ValueError, match="all alike"):
        module.compute(predictions=inside, references=[1] * 20)
    with pytest.raises(ValueError, match="neither 1"):
        module.compute(predictions=inside, references=[2] * 20)


def test_retrieval(load: Callable[[str], Any]) -> None:
    images, texts = np.random.default_rng(0).normal(size=(2, 50, 8))
    module = load("retrieval")
    assert module.compute(predictions=images, references=texts) == metrics.retrieval_metrics(images, texts)
    ids = [f"image {i // 3}" for i in range(50)]
    options = {"image_ids": ids, "text_ids": ids, "scale": 5.0, "bias": -3.0, "ks": (1, 3), "n_bins": 10, "seed": 2}
    assert in_batches(module, images, texts, **options) == metrics.retrieval_metrics(images, texts, **options)


def test_robustness_takes_a_baseline_from_json(load: Callable[[str], Any]) -> None:
    logits, labels, families, levels = corrupted()
    expected = metrics.robustness_metrics(logits, labels, families, levels)
    options = {"families": families, "levels": levels.tolist(), "baseline": json.loads(json.dumps(expected))}
    got = in_batches(load("robustness"), logits, labels, **options)
    assert got["mce"] == pytest.approx(1)
    assert got["accuracy"] == expected["accuracy"]


def test_modules_load_offline_in_an_empty_cache(tmp_path: Path) -> None:
    """As a user of `evaluate` loads them, in a process of its own."""
    script = (
        "import evaluate, hf_mixup.metrics as m\n"
        "for name in ('calibration', 'ood', 'retrieval', 'robustness'):\n"
        "    metric = evaluate.load(m.path(name))\n"
        "    assert f'{name}_metrics' == type(metric).function.__name__, metric\n"
        "    assert 'Source' in metric.description or 'Raises' in metric.description\n"
        "metric = evaluate.load(m.path('calibration'))\n"
        "print(metric.compute(predictions=[[2.0, 0.0], [0.0, 1.0]], references=[0, 0])['accuracy'])"
    )
    offline = {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1", "HF_EVALUATE_OFFLINE": "1"}
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), **offline}
    command = [sys.executable, "-c", script]
    run = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300)
    assert run.stdout.strip() == "0.5", run.stderr


def test_an_unknown_module_is_named() -> None:
    with pytest.raises(ValueError, match="'calibratoin'; did you mean 'calibration'"):
        metrics.path("calibratoin")
