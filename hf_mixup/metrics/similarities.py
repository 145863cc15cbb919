"""Similarities of the two sides of pairs, 32 MB at a time: ranks, losses, confidences, and the temperature that fits.

scipy is imported inside the functions, to keep the import of the package cheap.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hf_mixup.metrics.functional import TEMPERATURE_RANGE, TEMPERATURE_SPREAD, folds
from hf_mixup.metrics.inputs import FloatArray, IntArray

# Cosines nearer than this are equal: above the rounding of a float64 product, far below that of a float32 model.
TIE = 1e-12
# Distance of two unit vectors that one float32 model gives one input in batches of different size and padding.
SAME = 1e-4
BLOCK = 2**22  # similarities held at a time, 32 MB


class Side(NamedTuple):
    """Unit vectors [N, D] sorted by their ids [N], which are codes shared by both sides."""

    embeds: FloatArray
    ids: IntArray

    def where(self, kept: NDArray[np.bool_]) -> Side:
        return Side(self.embeds[kept], self.ids[kept])


class Scan(NamedTuple):
    """One entry per query: rank of its best relevant item (from 1), -log p(relevant), and top-1 confidence."""

    rank: IntArray
    nll: FloatArray
    confidence: FloatArray


def blocks(rows: int, columns: int) -> Iterator[tuple[int, int]]:
    """Cut rows into ranges, so that a range times the columns is a small matrix."""
    step = max(1, BLOCK // max(columns, 1))
    for start in range(0, rows, step):
        yield start, min(start + step, rows)


def distinct(embeds: FloatArray, ids: IntArray) -> Side:
    """Sort by id, and of rows with one id and one embedding keep the first."""
    order = np.argsort(ids, kind="stable")
    embeds, ids = embeds[order], ids[order]
    keep = np.ones(len(ids), dtype=bool)
    starts = np.flatnonzero(np.diff(ids, prepend=-1))
    ends = np.append(starts[1:], len(ids))
    several = ends - starts > 1
    for first, end in zip(starts[several], ends[several], strict=True):
        for low, high in blocks(end - first, end - first):
            same = embeds[first + low : first + high] @ embeds[first : first + high].T > 1 - SAME**2 / 2
            keep[first + low : first + high] = ~np.tril(same, low - 1).any(axis=1)  # no earlier one is the same
    return Side(embeds, ids).where(keep)


def _relevant(ids: IntArray, gallery_ids: IntArray) -> tuple[IntArray, IntArray, IntArray]:
    """Rows and columns of all relevant items of some queries, row by row, and where each row begins among them."""
    first = np.searchsorted(gallery_ids, ids, side="left")
    counts = np.searchsorted(gallery_ids, ids, side="right") - first
    begins = np.cumsum(counts) - counts
    rows = np.repeat(np.arange(len(ids)), counts)
    return rows, np.arange(counts.sum()) - np.repeat(begins - first, counts), begins


def _cosines(queries: Side, gallery: Side) -> Iterator[tuple[slice, FloatArray, tuple[IntArray, IntArray, IntArray]]]:
    """Some queries at a time: which, their cosines with the gallery [n, M], and what `_relevant` says of them."""
    for start, stop in blocks(len(queries.ids), len(gallery.ids)):
        part = slice(start, stop)
        yield part, queries.embeds[part] @ gallery.embeds.T, _relevant(queries.ids[part], gallery.ids)


def scan_of(queries: Side, gallery: Side, scale: FloatArray) -> Scan:
    """Rank, NLL and confidence of each query at its own scale."""
    count = len(queries.ids)
    scan = Scan(np.empty(count, dtype=np.int64), np.empty(count), np.empty(count))
    starts = np.flatnonzero(np.diff(gallery.ids, prepend=-1))
    grouped = len(starts) < len(gallery.ids)
    for part, cosines, (rows, columns, begins) in _cosines(queries, gallery):
        relevant = cosines[rows, columns]
        best, top = np.maximum.reduceat(relevant, begins), cosines.max(axis=1)
        before = np.count_nonzero(cosines >= (best - TIE)[:, None], axis=1)
        scan.rank[part] = 1 + before - np.add.reduceat((relevant >= (best - TIE)[rows]).astype(np.int64), begins)

        factor = scale[part]
        weights = np.exp(factor[:, None] * (cosines - top[:, None]))
        total = weights.sum(axis=1)
        own = np.add.reduceat(np.exp(factor[rows] * (relevant - best[rows])), begins)
        scan.nll[part] = np.log(total) - np.log(own) + factor * (top - best)
        # Of several ids that share the first place, the more probable one: no matter which of them rounding favours.
        if grouped:
            weights = np.add.reduceat(weights, starts, axis=1)
            cosines = np.maximum.reduceat(cosines, starts, axis=1)
        first = cosines >= top[:, None] - TIE
        scan.confidence[part] = np.where(first, weights, 0).max(axis=1) / total
    return scan


def _slope(queries: Side, gallery: Side, scale: float) -> float:
    """Derivative of the mean NLL by the logarithm of the scale."""
    total = 0.0
    for _, cosines, (rows, columns, begins) in _cosines(queries, gallery):
        # Counted from the nearest item, so that nothing is lost where all but that one have no weight.
        cosines -= cosines.max(axis=1, keepdims=True)
        weights = np.exp(scale * cosines)
        expected = np.einsum("nm,nm->n", weights, cosines) / weights.sum(axis=1)
        relevant = cosines[rows, columns]
        own = np.exp(scale * (relevant - np.maximum.reduceat(relevant, begins)[rows]))
        found = np.add.reduceat(own * relevant, begins) / np.add.reduceat(own, begins)
        total += scale * float(np.sum(expected - found))
    return total / len(queries.ids)


def fitted_temperature(directions: Sequence[tuple[Side, Side]], scale: float) -> float:
    """Temperature that minimises the NLL of both directions, each query weighing as in their mean, and its own cost.

    The slope crosses zero there; its sign at the ends of the range tells where it does not cross. A few slopes are
    enough, which matters because each one reads all similarities.
    """
    from scipy.optimize import brentq

    queries = np.mean([len(side.ids) for side, _ in directions])

    @cache  # the ends are asked twice
    def slope(log_t: float) -> float:
        of_nll = -np.mean([_slope(*direction, scale / np.exp(log_t)) for direction in directions])
        return float(of_nll + log_t / TEMPERATURE_SPREAD**2 / queries)

    low, high = np.log(TEMPERATURE_RANGE)
    if slope(low) >= 0:
        return TEMPERATURE_RANGE[0]
    if slope(high) <= 0:
        return TEMPERATURE_RANGE[1]
    return float(np.exp(brentq(slope, low, high, xtol=1e-6)))


def cross_fitted(directions: Sequence[tuple[Side, Side]], ids: IntArray, scale: float, seed: int) -> list[Scan]:
    """Scan each part of the queries with the temperature of all others.

    Parts are made of ids, so that an image is never judged with a temperature that its own texts have set.
    """
    scales = [np.empty(len(queries.ids)) for queries, _ in directions]
    for part in folds(len(ids), seed):
        judged = [np.isin(queries.ids, ids[part]) for queries, _ in directions]
        others = [(queries.where(~own), gallery) for own, (queries, gallery) in zip(judged, directions, strict=True)]
        temperature = fitted_temperature(others, scale)
        for factors, own in zip(scales, judged, strict=True):
            factors[own] = scale / temperature
    return [scan_of(queries, gallery, factors) for (queries, gallery), factors in zip(directions, scales, strict=True)]
