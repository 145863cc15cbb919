"""One output and the binary cross-entropy: scored as the classification into no and yes that it is."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import brier_score_loss, log_loss

from hf_mixup.metrics import calibration_metrics, compute_metrics, regression_metrics


def scored(logits: Any, labels: Any, **options: Any) -> dict[str, float]:
    return compute_metrics(SimpleNamespace(predictions=logits, label_ids=labels), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", [np.float32, np.int64, bool])
@pytest.mark.parametrize(("columns", "label_columns"), [((), ()), ((1,), ()), ((1,), (1,))])
def test_scores_are_those_of_scikit_learn(dtype: type, columns: tuple, label_columns: tuple) -> None:
    rng = np.random.default_rng(0)
    logits, labels = 2 * rng.normal(size=50), rng.integers(2, size=50)
    found = scored(logits.reshape(50, *columns), labels.astype(dtype).reshape(50, *label_columns))
    yes = 1 / (1 + np.exp(-logits))
    assert found["accuracy"] == np.mean((logits > 0) == labels)
    assert found["nll"] == pytest.approx(log_loss(labels, yes))
    assert found["brier"] == pytest.approx(2 * brier_score_loss(labels, yes))
    assert found == calibration_metrics(np.stack([0 * logits, logits], axis=1), labels)
    assert scored(logits, labels, temperature=2.0)["temperature"] == 2.0


def test_rows_without_a_label_are_left_out_and_numbers_stay_numbers() -> None:
    assert scored([[1.0], [-2.0], [5.0]], [1, 0, -100])["accuracy"] == 1.0
    assert scored([1.0, 2.0], [0.5, 1.0]) == regression_metrics([1.0, 2.0], [0.5, 1.0])
    numbers = scored([0.2, 0.9], [0.0, 1.0], problem_type="regression")
    assert numbers == regression_metrics([0.2, 0.9], [0.0, 1.0])
    with pytest.raises(ValueError, match="references are no class"):
        scored([0.2, 0.9], [0.0, 0.5], problem_type="multi_label_classification")
    with pytest.raises(ValueError, match="problem_type='binary': expected"):
        scored([0.2], [0.0], problem_type="binary")


@pytest.mark.parametrize("entry_point", ["trainer", "plain"])
def test_a_model_with_one_output(entry_point: str, tmp_path: Path) -> None:
    from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

    from hf_mixup import MixupTrainer

    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    config = BertConfig(vocab_size=20, **sizes, num_labels=1, problem_type="multi_label_classification")
    torch.manual_seed(0)
    rows = [{"input_ids": [i, i + 1], "labels": [float(i % 2)]} for i in range(8)]
    args = TrainingArguments(str(tmp_path), use_cpu=True, report_to="none", max_steps=1, disable_tqdm=True)
    settings: dict[str, Any] = {"args": args, "train_dataset": rows, "eval_dataset": rows}
    kind = partial(MixupTrainer, mixup="manifold") if entry_point == "trainer" else Trainer
    trainer = kind(BertForSequenceClassification(config), **settings, compute_metrics=compute_metrics)
    trainer.train()
    scores = trainer.evaluate()
    assert scores["eval_nll"] == pytest.approx(scores["eval_loss"], rel=1e-5)
    assert {"eval_accuracy", "eval_ece"} <= set(scores)
