"""Accuracy, proper scores, calibration error and temperature scaling of a classifier, in float64 numpy.

Every function takes `predictions` [..., C] and `references` [...]: logits by default, probabilities with
`from_logits=False`, and integer class labels, of which -100 is left out as in `transformers`. Leading dimensions are
flattened, so token classification ([N, L, C] and [N, L]) is scored token by token.

scipy and scikit-learn are imported inside the functions, to keep the import of the package cheap.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from hf_mixup.metrics.inputs import FloatArray, IntArray, log_probabilities

Binning: TypeAlias = Literal["width", "mass"]

DEFAULT_BINS = 15
# A confidence that lies below an edge of bins by no more than this is on it: float32 has 0.7 as 0.69999999, and a
# probability that went through logarithms is off by as much.
EDGE_TOLERANCE = 1e-6
TEMPERATURE_RANGE = (0.05, 20.0)  # wide enough for any usable classifier
# The prior of log T is normal with mean 0 and this deviation. On rows that are all classified correctly the NLL alone
# has no minimum: it falls for T -> 0, and the first error elsewhere would cost 20 times its margin. With the prior, 40
# such rows of margin 3 end at 0.5; 200 rows with errors among them move by less than 0.5 %.
TEMPERATURE_SPREAD = 1.0
# Parts of a cross-fit. Few rows need most of them for the fit; of many, halves are enough, and a fit takes long.
FOLDS, FOLDS_OF_MANY, MANY = 10, 2, 2000


class ReliabilityBins(NamedTuple):
    """One entry per confidence bin: rows in it, their mean confidence and accuracy (NaN in an empty bin).

    >>> bins = reliability_bins([[3.0, 0.0], [2.0, 0.0]], [0, 1], n_bins=10)
    >>> bins.counts[-2:].tolist(), bins.accuracy[-2:].tolist()  # confidence 0.8 to 0.9, and 0.9 to 1
    ([1, 1], [0.0, 1.0])
    """

    counts: IntArray
    confidence: FloatArray
    accuracy: FloatArray


def bin_index(confidence: FloatArray, inner_edges: FloatArray, tolerance: float = EDGE_TOLERANCE) -> IntArray:
    """Return the number of the bin [a, b) that each confidence falls into; the last bin has no upper end.

    Args:
        confidence: [N].
        inner_edges: [n_bins - 1], ascending: the edges between the bins.
        tolerance: a confidence that lies below an edge by no more counts as on it.

    >>> bin_index(np.array([0.1, 0.1 * 3, 1 - 0.3, 1.0]), width_edges(10))
    array([1, 3, 7, 9])
    """
    return np.searchsorted(inner_edges, confidence + tolerance, side="right")


def calibration_gap(confidence: FloatArray, correct: FloatArray, n_bins: int = DEFAULT_BINS) -> float:
    """Return the expected calibration error of items with a confidence [N] and a correctness in {0, 1} [N].

    >>> calibration_gap(np.array([0.9, 0.9]), np.array([1.0, 0.0]))
    0.4
    """
    bins = bin_index(confidence, width_edges(n_bins))
    return float(np.abs(np.bincount(bins, weights=confidence - correct)).sum() / len(bins))


def width_edges(n_bins: int) -> FloatArray:
    """Return the edges between bins of equal width in [0, 1], [n_bins - 1], each the float64 nearest to i / n_bins.

    Raises:
        ValueError: `n_bins` is less than 1.

    >>> width_edges(4)
    array([0.25, 0.5 , 0.75])
    """
    if n_bins < 1:
        raise ValueError(f"n_bins must be at least 1, not {n_bins}")
    return np.arange(1, n_bins) / n_bins  # not linspace, whose 6 / 10 is 0.6000000000000001


def accuracy(predictions: ArrayLike, references: ArrayLike, *, from_logits: bool = True) -> float:
    """Share of rows whose largest column is the label, in [0, 1]; of equal columns the first counts.

    Raises:
        ValueError: as `log_probabilities`.

    >>> accuracy([[2.0, 0.0], [0.0, 1.0]], [0, 0])
    0.5
    """
    log_probs, labels = log_probabilities(predictions, references, from_logits=from_logits)
    return float(np.mean(log_probs.argmax(axis=1) == labels))


def negative_log_likelihood(predictions: ArrayLike, references: ArrayLike, *, from_logits: bool = True) -> float:
    """Mean of -log p(label) in nats, in [0, inf): the cross-entropy of the classifier.

    Raises:
        ValueError: as `log_probabilities`.

    >>> round(negative_log_likelihood([[0.25, 0.75]], [1], from_logits=False), 4)  # -log 0.75
    0.2877
    """
    log_probs, labels = log_probabilities(predictions, references, from_logits=from_logits)
    return _nll(log_probs, labels)


def _nll(log_probs: FloatArray, labels: IntArray) -> float:
    return float(-np.take_along_axis(log_probs, labels[:, None], axis=1).mean())


def brier_score(predictions: ArrayLike, references: ArrayLike, *, from_logits: bool = True) -> float:
    """Mean squared distance between probabilities and one-hot label, summed over the classes, in [0, 2].

    This is the form of Brier (1950), "Verification of forecasts expressed in terms of probability". For two classes
    it is twice the one-column form that is also common.

    Raises:
        ValueError: as `log_probabilities`.

    >>> round(brier_score([[0.25, 0.75]], [1], from_logits=False), 4)  # 0.25 ** 2 + (1 - 0.75) ** 2
    0.125
    """
    from sklearn.metrics import brier_score_loss

    log_probs, labels = log_probabilities(predictions, references, from_logits=from_logits)
    classes = np.arange(log_probs.shape[1])
    return float(brier_score_loss(labels, np.exp(log_probs), labels=classes, scale_by_half=False))


def reliability_bins(
    predictions: ArrayLike,
    references: ArrayLike,
    *,
    n_bins: int = DEFAULT_BINS,
    binning: Binning = "width",
    from_logits: bool = True,
) -> ReliabilityBins:
    """Group rows by confidence (largest probability) and measure the accuracy of each group.

    Args:
        n_bins: number of bins, at least 1.
        binning: "width" cuts [0, 1] into equal lengths [a, b), the last one closed; "mass" cuts at quantiles of the
            confidence, so that bins hold equally many rows. Equal confidences always share a bin: the result does
            not depend on the order of the rows, and a tie can leave other bins empty. A confidence within 1e-6 below
            an edge of "width" is on it.

    Raises:
        ValueError: `n_bins` or `binning` is not one of these, or as `log_probabilities`.

    >>> bins = reliability_bins([[0.9, 0.1], [0.8, 0.2], [0.4, 0.6]], [0, 1, 1], n_bins=4, from_logits=False)
    >>> bins.counts, bins.accuracy
    (array([0, 0, 1, 2]), array([nan, nan, 1. , 0.5]))
    """
    log_probs, labels = log_probabilities(predictions, references, from_logits=from_logits)
    confidence = np.exp(log_probs.max(axis=1))
    correct = log_probs.argmax(axis=1) == labels
    # Not torchmetrics: it works in float32 and gives confidences that round to 1.0 a further bin of their own.
    if binning == "width":
        index = bin_index(confidence, width_edges(n_bins))
    elif binning == "mass":  # these edges are confidences themselves, and differ from the rows' by rounding alone
        index = bin_index(confidence, np.quantile(confidence, width_edges(n_bins)), tolerance=1e-12)
    else:
        raise ValueError(f"binning must be 'width' or 'mass', not {binning!r}")
    counts = np.bincount(index, minlength=n_bins)
    with np.errstate(invalid="ignore"):  # 0 / 0 in an empty bin is the NaN we promise
        mean_confidence = np.bincount(index, weights=confidence, minlength=n_bins) / counts
        mean_accuracy = np.bincount(index, weights=correct, minlength=n_bins) / counts
    return ReliabilityBins(counts, mean_confidence, mean_accuracy)


def expected_calibration_error(
    predictions: ArrayLike,
    references: ArrayLike,
    *,
    n_bins: int = DEFAULT_BINS,
    binning: Binning = "width",
    from_logits: bool = True,
) -> float:
    """Mean distance between confidence and accuracy over the bins, weighted by their rows (ECE), in [0, 1].

    Naeini et al. (2015), "Obtaining well calibrated probabilities using Bayesian binning", in the top-label form of
    Guo et al. (2017), "On calibration of modern neural networks". `binning="mass"` is the equal-mass variant.

    Raises:
        ValueError: as `reliability_bins`.

    >>> round(expected_calibration_error([[0.9, 0.1], [0.9, 0.1]], [0, 1], from_logits=False), 4)  # 0.9 - 1 / 2
    0.4
    """
    bins = reliability_bins(predictions, references, n_bins=n_bins, binning=binning, from_logits=from_logits)
    gap = np.nan_to_num(np.abs(bins.accuracy - bins.confidence))  # an empty bin has weight 0
    return float(np.sum(bins.counts * gap) / bins.counts.sum())


def fit_temperature(predictions: ArrayLike, references: ArrayLike, *, from_logits: bool = True) -> float:
    """Temperature T in [0.05, 20] that minimises the NLL of softmax(logits / T).

    Temperature scaling of Guo et al. (2017). T > 1 softens an overconfident classifier, T < 1 sharpens an
    underconfident one, as mixup training often yields. Few rows do not tell T, and rows that are all classified
    correctly ask for T -> 0, which ruins the scores of any others. So half the square of log T is added to the summed
    NLL: where the rows tell nothing T stays 1, and a few hundred rows outweigh it.

    Raises:
        ValueError: as `log_probabilities`.

    >>> logits = np.log([[0.75, 0.25]] * 400)  # right 3 times out of 4: calibrated as it is
    >>> round(fit_temperature(logits * 3, [0, 0, 0, 1] * 100), 1)
    3.0
    >>> round(fit_temperature([[3.0, 0.0]] * 40, [0] * 40), 1)  # never wrong
    0.5
    """
    return _fitted(*log_probabilities(predictions, references, from_logits=from_logits))


def _fitted(log_probs: FloatArray, labels: IntArray) -> float:
    from scipy.optimize import minimize_scalar

    possible = np.isfinite(np.take_along_axis(log_probs, labels[:, None], axis=1)[:, 0])
    log_probs, labels = log_probs[possible], labels[possible]  # no T helps where the label's own class is masked
    if not len(labels):
        return 1.0

    def cost(log_t: float) -> float:
        return _nll(_scaled(log_probs, np.exp(log_t)), labels) + (log_t / TEMPERATURE_SPREAD) ** 2 / 2 / len(labels)

    bounds = np.log(TEMPERATURE_RANGE)
    return float(np.exp(minimize_scalar(cost, bounds=bounds, method="bounded", options={"xatol": 1e-6}).x))


def folds(count: int, seed: int) -> list[IntArray]:
    """Return the parts of a cross-fit of so many items, in random order: ten, or two of 2000 items or more.

    >>> [len(part) for part in folds(25, seed=0)], len(folds(5000, seed=0))
    ([3, 3, 3, 3, 3, 2, 2, 2, 2, 2], 2)
    """
    parts = FOLDS if count < MANY else FOLDS_OF_MANY
    return np.array_split(np.random.default_rng(seed).permutation(count), min(parts, count))


def _scaled(log_probs: FloatArray, temperature: float) -> FloatArray:
    """Log-softmax of logits / T; log-probabilities are logits up to a constant per row, which softmax drops."""
    from scipy.special import log_softmax

    return log_softmax(log_probs / temperature, axis=1)


def _cross_fitted(log_probs: FloatArray, labels: IntArray, seed: int) -> FloatArray | None:
    """Scale each part of the rows with the temperature of all others; None for a single row."""
    if len(labels) < 2:
        return None
    scaled = np.empty_like(log_probs)
    for part in folds(len(labels), seed):
        others = np.ones(len(labels), dtype=bool)
        others[part] = False
        scaled[part] = _scaled(log_probs[part], _fitted(log_probs[others], labels[others]))
    return scaled


def calibration_metrics(
    predictions: ArrayLike,
    references: ArrayLike,
    *,
    from_logits: bool = True,
    n_bins: int = DEFAULT_BINS,
    temperature: float | None = None,
    calibration_logits: ArrayLike | None = None,
    calibration_references: ArrayLike | None = None,
    seed: int = 0,
) -> dict[str, float]:
    """All eight numbers: accuracy, nll, brier, ece, ece_mass, temperature, ece_temperature, nll_temperature.

    A temperature fitted on the rows it is judged on would flatter the last two, so it comes from elsewhere: given as
    `temperature`; fitted on separate validation rows (`calibration_logits`, in the same form as `predictions`, and
    `calibration_references`); or else cross-fitted: the rows are split at random with `seed` into ten parts (of 2000
    rows or more, two), each is scaled with the temperature of all others, and all are judged together. `temperature`
    is then that of all rows. A single row cannot be split: the last two are then NaN.

    Args:
        predictions: [..., C] logits, or probabilities with `from_logits=False`.
        references: [...] class labels; -100 is left out.
        n_bins: bins of all three calibration errors; `ece` and `ece_temperature` have equal width, `ece_mass` equal
            mass.

    Raises:
        ValueError: as `log_probabilities`, or the temperature is not positive, or is given in two ways, or half a
            validation set is given.

    >>> metrics = calibration_metrics([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0]], [0, 1, 1], temperature=2.0)
    >>> {name: round(value, 3) for name, value in metrics.items()}  # doctest: +NORMALIZE_WHITESPACE
    {'accuracy': 0.667, 'nll': 1.163, 'brier': 0.663, 'ece': 0.447, 'ece_mass': 0.447, 'temperature': 2.0,
     'ece_temperature': 0.488, 'nll_temperature': 0.83}
    """
    log_probs, labels = log_probabilities(predictions, references, from_logits=from_logits)
    if (calibration_logits is None) != (calibration_references is None):
        raise ValueError("give calibration_logits and calibration_references together")
    if temperature is not None and calibration_logits is not None:
        raise ValueError("give either temperature or calibration_logits, not both")

    if calibration_logits is not None and calibration_references is not None:
        temperature = fit_temperature(calibration_logits, calibration_references, from_logits=from_logits)
    if temperature is not None:
        if not (temperature > 0 and np.isfinite(temperature)):
            raise ValueError(f"temperature must be positive and finite, not {temperature}")
        scaled: FloatArray | None = _scaled(log_probs, temperature)
    else:
        scaled, temperature = _cross_fitted(log_probs, labels, seed), _fitted(log_probs, labels)

    return {
        "accuracy": accuracy(log_probs, labels),
        "nll": _nll(log_probs, labels),
        "brier": brier_score(log_probs, labels),
        "ece": expected_calibration_error(log_probs, labels, n_bins=n_bins),
        "ece_mass": expected_calibration_error(log_probs, labels, n_bins=n_bins, binning="mass"),
        "temperature": float(temperature),
        "ece_temperature": np.nan if scaled is None else expected_calibration_error(scaled, labels, n_bins=n_bins),
        "nll_temperature": np.nan if scaled is None else _nll(scaled, labels),
    }
