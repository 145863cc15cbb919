"""Classifiers and evaluations that the tests of the metrics share."""

from __future__ import annotations

import numpy as np


class Evaluation:
    """What a Trainer hands to compute_metrics, without importing transformers."""

    def __init__(self, predictions, label_ids):
        self.predictions, self.label_ids = predictions, label_ids


def random_classifier(rows: int = 400, classes: int = 5, seed: int = 0, scale: float = 2.0):
    """Logits that are right more often than chance, and labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, rows)
    logits = scale * (rng.normal(size=(rows, classes)) + np.eye(classes)[labels])
    return logits, labels


def random_logits(rows: int, classes: int = 4, seed: int = 0, shift: float = 2.0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, rows)
    return rng.normal(size=(rows, classes)) * 2 + shift * np.eye(classes)[labels], labels


def corrupted(seed: int = 0):
    """Rows of two families and three levels in a random order, with clean ones."""
    logits, labels = random_logits(210, seed=seed)
    rng = np.random.default_rng(seed + 10)
    families = rng.choice(["blur", "noise"], 210).tolist()
    return logits, labels, families, rng.integers(0, 4, 210)


KEYS = ["accuracy", "nll", "brier", "ece", "ece_mass", "temperature", "ece_temperature", "nll_temperature"]
