"""Accuracy, calibration and retrieval metrics: plain functions, `evaluate` modules and a Trainer's `compute_metrics`.

    compute_metrics        pass it to `transformers.Trainer(compute_metrics=...)`
    calibration_metrics    the same numbers from two arrays
    load("calibration")    the same numbers as an `evaluate` module, found without a network

    robustness_metrics, load("robustness")    scores over the levels of corruptions, attacks or noise
    ood_metrics, load("ood")                  telling out-of-distribution from test samples
    pair_compute_metrics, retrieval_metrics, load("retrieval")    the same three for dual encoders
    tag_metrics            of words, and of the names that their tags spell
    language_metrics       of language models, with token_scores or next_token_scores to keep little of their logits
    answer_metrics         of models that answer questions about images, of which several answers may be right
    zero_shot_accuracy     of images against class embeddings
    transcription_metrics, load("transcription"), speech_metrics    word and character error rates
    linearity              how straight a model's probabilities are between two samples

Importing this package loads numpy only; scipy, scikit-learn and `evaluate` are imported on first use, and so is jiwer.
"""

from __future__ import annotations

from hf_mixup.metrics.answers import answer_metrics as answer_metrics
from hf_mixup.metrics.detection import detection_scores as detection_scores
from hf_mixup.metrics.detection import ood_metrics as ood_metrics
from hf_mixup.metrics.functional import ReliabilityBins as ReliabilityBins
from hf_mixup.metrics.functional import accuracy as accuracy
from hf_mixup.metrics.functional import brier_score as brier_score
from hf_mixup.metrics.functional import calibration_metrics as calibration_metrics
from hf_mixup.metrics.functional import expected_calibration_error as expected_calibration_error
from hf_mixup.metrics.functional import fit_temperature as fit_temperature
from hf_mixup.metrics.functional import negative_log_likelihood as negative_log_likelihood
from hf_mixup.metrics.functional import reliability_bins as reliability_bins
from hf_mixup.metrics.inputs import log_probabilities as log_probabilities
from hf_mixup.metrics.language import language_metrics as language_metrics
from hf_mixup.metrics.language import next_token_scores as next_token_scores
from hf_mixup.metrics.language import token_scores as token_scores
from hf_mixup.metrics.levels import area_under_curve as area_under_curve
from hf_mixup.metrics.levels import cell_scores as cell_scores
from hf_mixup.metrics.levels import robustness_metrics as robustness_metrics
from hf_mixup.metrics.levels import summarise_levels as summarise_levels
from hf_mixup.metrics.linearity import Linearity as Linearity
from hf_mixup.metrics.linearity import linearity as linearity
from hf_mixup.metrics.loading import load as load
from hf_mixup.metrics.loading import path as path
from hf_mixup.metrics.pairs import pair_compute_metrics as pair_compute_metrics
from hf_mixup.metrics.pairs import retrieval_metrics as retrieval_metrics
from hf_mixup.metrics.pairs import zero_shot_accuracy as zero_shot_accuracy
from hf_mixup.metrics.speech import best_path as best_path
from hf_mixup.metrics.speech import speech_metrics as speech_metrics
from hf_mixup.metrics.speech import transcription_metrics as transcription_metrics
from hf_mixup.metrics.tags import entities as entities
from hf_mixup.metrics.tags import tag_metrics as tag_metrics
from hf_mixup.metrics.tasks import multilabel_metrics as multilabel_metrics
from hf_mixup.metrics.tasks import regression_metrics as regression_metrics
from hf_mixup.metrics.trainer import compute_metrics as compute_metrics
