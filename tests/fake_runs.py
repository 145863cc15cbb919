"""Runs of a comparison that train nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hf_mixup.experiments.compare.plan import Run
from hf_mixup.experiments.compare.store import save_run
from hf_mixup.experiments.tasks.prepared import refitted, temperature_of
from hf_mixup.metrics import calibration_metrics


def leave(run: Run, folder: Path) -> None:
    """Write the files of a run: mixup's logits are calibrated, the others' far too large."""
    rng, own = np.random.default_rng(0), np.random.default_rng(run.seed)
    predictions, metrics = {}, {}
    for split, rows in run.setting.prepared.evaluated.items():
        labels = np.array(rows.labels)
        logits = rng.normal(size=(len(labels), 9)) + np.eye(9)[labels] * 2 + own.normal(size=(len(labels), 9)) / 5
        predictions[split] = (logits * (2.0 if run.variant.label == "mixup" else 9.0), labels)
        metrics[split] = calibration_metrics(*predictions[split])
        if split != "validation":
            metrics[split] |= refitted(predictions[split], temperature_of(predictions["validation"]))
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "README.md").write_text("---\ntags: []\n---\n# model\n", encoding="utf-8")
    history = [{"step": step, "loss": 2.0 / step} for step in (5, 10, 20)]
    save_run(folder, metrics, predictions, run.determinants, [*history, {"step": 20, "train_runtime": 1.5}])
