"""`compute_metrics` reads the task off the shapes, also inside a Trainer."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch

from hf_mixup import metrics
from tests.metrics.common import KEYS, Evaluation, random_classifier


def test_compute_metrics_classifies_from_a_tuple():
    logits, labels = random_classifier()
    hidden_states = np.zeros((len(labels), 7))
    expected = metrics.calibration_metrics(logits, labels)
    assert metrics.compute_metrics(Evaluation((logits, hidden_states), labels)) == expected
    fixed = partial(metrics.compute_metrics, temperature=2.0)
    assert fixed(Evaluation(logits, labels))["temperature"] == 2.0


@pytest.mark.parametrize("labels", [None, (np.zeros(3), np.zeros(3))])
def test_compute_metrics_wants_one_array_of_labels(labels):
    with pytest.raises(ValueError, match="one array of labels"):
        metrics.compute_metrics(Evaluation(np.zeros((3, 2)), labels))


def test_compute_metrics_runs_inside_a_trainer(tmp_path):
    from transformers import Trainer, TrainingArguments

    class Tiny(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = torch.nn.Linear(3, 2)

        def forward(self, x, labels=None):
            logits = self.linear(x)
            return {"loss": torch.nn.functional.cross_entropy(logits, labels), "logits": logits}

    rows = [{"x": torch.randn(3), "labels": i % 2} for i in range(10)]
    arguments = TrainingArguments(str(tmp_path), per_device_eval_batch_size=4, report_to=[], use_cpu=True)
    trainer = Trainer(Tiny(), arguments, eval_dataset=rows, compute_metrics=metrics.compute_metrics)
    result = trainer.evaluate()
    assert result["eval_nll"] == pytest.approx(result["eval_loss"], abs=1e-5)
    assert {f"eval_{name}" for name in KEYS} <= set(result)
