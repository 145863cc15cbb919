"""Retrieval, calibration and geometry of a dual encoder from the embeddings of its two sides, in float64 numpy.

"Image" and "text" name the two sides; any other pair of modalities, such as audio and caption, is scored alike. The
similarities are computed 32 MB at a time: those of 30,000 images with 30,000 texts would fill 7 GB.

scipy is imported inside the functions, to keep the import of the package cheap.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hf_mixup.metrics.functional import DEFAULT_BINS, calibration_gap
from hf_mixup.metrics.inputs import FloatArray, IntArray, check_labels, finite_float64
from hf_mixup.metrics.similarities import TIE, Scan, Side, blocks, cross_fitted, distinct, fitted_temperature, scan_of
from hf_mixup.utils.constants import IGNORE_INDEX

if TYPE_CHECKING:
    from transformers import EvalPrediction

DEFAULT_KS = (1, 5, 10)


def retrieval_metrics(
    image_embeds: ArrayLike,
    text_embeds: ArrayLike,
    image_ids: ArrayLike | None = None,
    text_ids: ArrayLike | None = None,
    *,
    scale: float = 1.0,
    bias: float = 0.0,
    ks: Sequence[int] = DEFAULT_KS,
    n_bins: int = DEFAULT_BINS,
    seed: int = 0,
) -> dict[str, float]:
    """Score how well images find their texts and texts their images, and how the two sides lie on the sphere.

    Row i of the images belongs to row i of the texts, unless ids say otherwise: then a text is relevant for an image
    where their ids are equal, so that an image may have several captions and a caption several images. Rows of one
    side that share id and embedding (up to the rounding of a float32 model) are one item and count once, as query and
    in the gallery: a dataset with a row per caption may repeat its images, and one with a row per image its
    captions. Different captions of one image all stay. An item whose id the other side lacks is no query, but stays
    in the gallery to be confused with.

    The similarity is scale * cosine + bias, its softmax over the gallery the probability of each item, and that of
    an id the sum over its items. Returned are, "i2t" from image to text and "t2i" from text to image:

    - `i2t_r1`, `i2t_r5`, `i2t_r10`, `t2i_r1`, `t2i_r5`, `t2i_r10`: share of queries with a relevant item among the
      first k, in [0, 1], and `mean_recall`, their mean. An irrelevant item of equal similarity ranks before the
      relevant one, so a model with one embedding for everything scores 0 while k is small; a k that reaches the
      size of the gallery gives 1.
    - `nll`: mean of -log p(id of the query) in nats, and `ece`, expected calibration error in [0, 1] with bins of
      equal width: how far the probability of the id of the nearest item is from the share of queries for which that
      item is relevant (`r1`). Both are the mean of the two directions.
    - `temperature`, `nll_temperature`, `ece_temperature`: the same after dividing the similarity by one temperature
      for both directions, in [0.05, 20] (Guo et al., 2017), fitted as in `fit_temperature`. The scores are
      cross-fitted as in `calibration_metrics`, ids being split into parts, and `temperature` is that of all; NaN where
      fewer than two ids have both an image and a text.
    - `alignment`: mean squared distance of relevant pairs, in [0, 4]; `uniformity_image`, `uniformity_text`: log of
      the mean of exp(-2 * squared distance) over all pairs of items of that side, in [-8, 0], NaN for a single item.
      Wang and Isola (2020), "Understanding contrastive representation learning", sections 4.1.1 and 4.1.2.
    - `modality_gap`: distance between the means of both sides, in [0, 2]. Liang et al. (2022), "Mind the gap",
      section 2.1.

    Args:
        image_embeds: [N, D], normalised here.
        text_embeds: [M, D], normalised here.
        image_ids: [N] integers or strings; give both ids, or none where N = M.
        text_ids: [M].
        scale: positive factor of the cosine, `logit_scale.exp()` of CLIP.
        bias: of SigLIP; a constant for all pairs, which every number here is free of.
        ks: numbers of items looked at, each at least 1.
        n_bins: bins of the calibration errors, at least 1.
        seed: of the split into parts.

    Raises:
        ValueError: shapes disagree, a value is NaN or infinite, an embedding is zero, ids are of another type or
            given for one side, no id is shared, or `scale`, `bias`, `ks` or `n_bins` is not as above.

    >>> images = [[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]
    >>> texts = [[0.9, 0.1], [0.3, 0.7], [0.2, 0.8]]
    >>> scores = retrieval_metrics(images, texts, ks=(1, 2), scale=5.0)
    >>> {name: round(scores[name], 3) for name in ("i2t_r1", "i2t_r2", "t2i_r1", "nll", "modality_gap")}
    {'i2t_r1': 0.667, 'i2t_r2': 1.0, 't2i_r1': 0.667, 'nll': 1.247, 'modality_gap': 0.637}
    """
    ks = tuple(ks)
    _check_options(scale, bias, ks, n_bins)
    image_units, text_units = _units(image_embeds, "image_embeds"), _units(text_embeds, "text_embeds")
    if image_units.shape[1] != text_units.shape[1]:
        raise ValueError(
            "image_embeds [N, D] and text_embeds [M, D] must have one D, "
            f"not {image_units.shape[1]} and {text_units.shape[1]}"
        )
    image_codes, text_codes = _codes(image_ids, text_ids, len(image_units), len(text_units))
    images, texts = distinct(image_units, image_codes), distinct(text_units, text_codes)
    image_queries = images.where(np.isin(images.ids, texts.ids))
    text_queries = texts.where(np.isin(texts.ids, images.ids))
    if not len(image_queries.ids):
        raise ValueError("no image and text share an id: image_ids and text_ids have no value in common")

    directions = ((image_queries, texts), (text_queries, images))
    plain = [scan_of(queries, gallery, np.full(len(queries.ids), scale)) for queries, gallery in directions]
    recalls = {f"{name}_r{k}": float(np.mean(scan.rank <= k)) for name, scan in zip(("i2t", "t2i"), plain) for k in ks}
    shared = np.unique(image_queries.ids)
    if len(shared) > 1:
        scaled, temperature = cross_fitted(directions, shared, scale, seed), fitted_temperature(directions, scale)
        nll_temperature, ece_temperature = _mean_nll(scaled), _mean_ece(scaled, n_bins)
    else:
        temperature = nll_temperature = ece_temperature = float("nan")
    return {
        **recalls,
        "mean_recall": float(np.mean(list(recalls.values()))),
        "nll": _mean_nll(plain),
        "ece": _mean_ece(plain, n_bins),
        "temperature": temperature,
        "nll_temperature": nll_temperature,
        "ece_temperature": ece_temperature,
        "alignment": _alignment(image_queries, text_queries),
        "uniformity_image": _uniformity(images.embeds),
        "uniformity_text": _uniformity(texts.embeds),
        "modality_gap": float(np.linalg.norm(images.embeds.mean(axis=0) - texts.embeds.mean(axis=0))),
    }


def zero_shot_accuracy(image_embeds: ArrayLike, labels: ArrayLike, class_embeds: ArrayLike) -> float:
    """Share of images whose own class has the nearest embedding of all classes, in [0, 1].

    A class that ties with another one is not found, so a model with one embedding for everything scores 0.

    Args:
        image_embeds: [N, D].
        labels: [N] integers in 0..C-1; -100 is left out.
        class_embeds: [C, D], C >= 2: one row per class, such as the mean embedding of its name in several templates.

    Raises:
        ValueError: shapes disagree, a value is NaN or infinite, an embedding is zero, a label is no class, or no row
            is left.

    >>> zero_shot_accuracy([[3.0, 1.0], [0.0, 1.0]], [0, 0], class_embeds=[[1.0, 0.0], [0.0, 1.0]])
    0.5
    """
    images, classes = _units(image_embeds, "image_embeds"), _units(class_embeds, "class_embeds")
    targets = finite_float64(labels, "labels")
    if images.shape[1] != classes.shape[1] or targets.shape != (len(images),):
        raise ValueError(
            "image_embeds [N, D], labels [N] and class_embeds [C, D] do not match: "
            f"{images.shape}, {targets.shape} and {classes.shape}"
        )
    if len(classes) < 2:
        raise ValueError(f"class_embeds need at least 2 classes, not {len(classes)}")
    keep = targets != IGNORE_INDEX
    if not keep.any():
        raise ValueError(f"no row to score: labels are all {IGNORE_INDEX}")
    check_labels(targets[keep], len(classes))

    images, own = images[keep], targets[keep].astype(np.int64)
    hits = 0
    for start, stop in blocks(len(images), len(classes)):
        cosines = images[start:stop] @ classes.T
        best = np.take_along_axis(cosines, own[start:stop, None], axis=1)
        hits += int(np.sum(np.count_nonzero(cosines >= best - TIE, axis=1) == 1))  # the class itself is the one
    return hits / len(images)


def pair_compute_metrics(eval_prediction: EvalPrediction, **options: Any) -> dict[str, float]:
    """`retrieval_metrics` of one evaluation of a dual encoder, for `MixupTrainer(compute_metrics=...)`.

    Args:
        eval_prediction: its `predictions` are (image_embeds [N, D], text_embeds [N, D], head [N, 2]), where each row
            of `head` holds scale and bias of the model; its `label_ids` are ids [N], equal where an image and a text
            belong together, or None where only those of one row do.
        **options: `ks`, `n_bins` and `seed` of `retrieval_metrics`, bound with `functools.partial`.

    Raises:
        ValueError: the predictions are something else, or as `retrieval_metrics`.

    >>> from types import SimpleNamespace
    >>> images, texts, head = [[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.1], [0.1, 1.0]], [[10.0, 0.0], [10.0, 0.0]]
    >>> batch = SimpleNamespace(predictions=(images, texts, head), label_ids=[7, 8])
    >>> pair_compute_metrics(batch)["i2t_r1"]
    1.0
    """
    predictions, ids = eval_prediction.predictions, eval_prediction.label_ids
    if not isinstance(predictions, (tuple, list)) or len(predictions) != 3:
        found = f"{type(predictions).__name__} of {len(predictions)}" if hasattr(predictions, "__len__") else "nothing"
        raise ValueError(
            "pair_compute_metrics needs the predictions (image_embeds, text_embeds, head) that MixupTrainer makes when "
            f"it evaluates a dual encoder, not {found}; evaluate with MixupTrainer"
        )
    images, texts = (finite_float64(side, name) for side, name in zip(predictions, ("image_embeds", "text_embeds")))
    head = finite_float64(predictions[2], "scale and bias")
    if images.ndim != 2 or images.shape != texts.shape or head.shape != (len(images), 2) or not len(head):
        raise ValueError(
            "predictions must be image_embeds [N, D], text_embeds [N, D] and head [N, 2], not "
            f"{images.shape}, {texts.shape} and {head.shape}; evaluate with MixupTrainer"
        )
    if not np.allclose(head, head[0], rtol=1e-4, atol=1e-6):
        raise ValueError("scale and bias differ from row to row; one evaluation has one model")
    if ids is not None and np.shape(ids) != (len(images),):
        raise ValueError(f"label_ids must be one id per row, {(len(images),)}, not {np.shape(ids)}")
    scale, bias = head[0].tolist()
    return retrieval_metrics(images, texts, ids, ids, scale=scale, bias=bias, **options)


def _check_options(scale: float, bias: float, ks: Sequence[int], n_bins: int) -> None:
    if not (scale > 0 and np.isfinite(scale)):
        raise ValueError(f"scale must be positive and finite, not {scale}")
    if not np.isfinite(bias):
        raise ValueError(f"bias must be finite, not {bias}")
    if not ks or any(k != int(k) or k < 1 for k in ks):
        raise ValueError(f"ks must be one or more whole numbers of at least 1, not {ks}")
    if n_bins < 1:
        raise ValueError(f"n_bins must be at least 1, not {n_bins}")


def _units(embeds: ArrayLike, name: str) -> FloatArray:
    vectors = finite_float64(embeds, name)
    if vectors.ndim != 2 or not vectors.size:
        raise ValueError(f"{name} must be [rows, D] with at least one of each, not {vectors.shape}")
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    zero = np.count_nonzero(norms == 0)
    if zero:
        raise ValueError(f"{name} hold {zero} zero vectors, which have no direction; the first is row {norms.argmin()}")
    return vectors / norms


def _codes(
    image_ids: ArrayLike | None, text_ids: ArrayLike | None, n_images: int, n_texts: int
) -> tuple[IntArray, IntArray]:
    """Number the ids of both sides from 0; without ids, a row is its own."""
    if image_ids is None and text_ids is None:
        if n_images != n_texts:
            raise ValueError(
                f"{n_images} images and {n_texts} texts are no pairs row by row; give image_ids and text_ids"
            )
        return np.arange(n_images), np.arange(n_texts)
    if image_ids is None or text_ids is None:
        raise ValueError("give image_ids and text_ids together")
    images, texts = _ids(image_ids, "image_ids", n_images), _ids(text_ids, "text_ids", n_texts)
    if (images.dtype.kind in "US") != (texts.dtype.kind in "US"):
        raise ValueError(f"image_ids and text_ids must be of one type, not {images.dtype} and {texts.dtype}")
    codes = np.unique(np.concatenate((images, texts)), return_inverse=True)[1]
    return codes[:n_images], codes[n_images:]


def _ids(ids: ArrayLike | Any, name: str, count: int) -> NDArray[Any]:
    if hasattr(ids, "detach"):
        ids = ids.detach().cpu()
    array = np.asarray(ids)
    if array.shape != (count,):
        raise ValueError(f"{name} must be one id per row, {(count,)}, not {array.shape}")
    if array.dtype.kind not in "iubUS":
        raise ValueError(f"{name} must be integers or strings, not {array.dtype}")
    return array


def _mean_nll(scans: Sequence[Scan]) -> float:
    return float(np.mean([scan.nll.mean() for scan in scans]))


def _mean_ece(scans: Sequence[Scan], n_bins: int) -> float:
    return float(np.mean([calibration_gap(scan.confidence, scan.rank == 1, n_bins) for scan in scans]))


def _alignment(images: Side, texts: Side) -> float:
    """Mean of 2 - 2 * cosine over the relevant pairs, whose cosines add up to products of sums over each id."""
    sums = []
    for side in (images, texts):
        starts = np.flatnonzero(np.diff(side.ids, prepend=-1))
        sums.append((np.add.reduceat(side.embeds, starts), np.diff(np.append(starts, len(side.ids)))))
    (image_sums, image_counts), (text_sums, text_counts) = sums
    return float(2 - 2 * np.sum(image_sums * text_sums) / np.sum(image_counts * text_counts))


def _uniformity(embeds: FloatArray) -> float:
    count, total = len(embeds), 0.0
    if count < 2:
        return float("nan")
    for start, stop in blocks(count, count):
        kernel = np.exp(4 * (embeds[start:stop] @ embeds[start:].T) - 4)  # exp(-2 * (2 - 2 * cosine))
        kernel[:, : stop - start] = np.triu(kernel[:, : stop - start], 1)  # each pair once, none with itself
        total += float(kernel.sum())
    return float(np.log(total / (count * (count - 1) / 2)))
