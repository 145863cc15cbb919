"""Retrieval metrics of dual encoders against loops, scikit-learn, torchmetrics, hand-worked cases and properties."""

from __future__ import annotations

import math
import tracemalloc
from functools import partial

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar

from hf_mixup import metrics
from hf_mixup.metrics import functional, pairs, similarities

KEYS = [
    *("i2t_r1", "i2t_r5", "i2t_r10", "t2i_r1", "t2i_r5", "t2i_r10", "mean_recall", "nll", "ece"),
    *("temperature", "nll_temperature", "ece_temperature"),
    *("alignment", "uniformity_image", "uniformity_text", "modality_gap"),
]


class Evaluation:
    """What a Trainer hands to compute_metrics, without importing transformers."""

    def __init__(self, predictions, label_ids):
        self.predictions, self.label_ids = predictions, label_ids


def random_pairs(count: int = 60, dim: int = 8, noise: float = 1.0, seed: int = 0):
    rng = np.random.default_rng(seed)
    images = rng.normal(size=(count, dim))
    return images, images + noise * rng.normal(size=images.shape)


def coarse(rows: int, seed: int, dim: int = 3):
    """Unit vectors along few directions, so that many similarities tie exactly."""
    rng = np.random.default_rng(seed)
    vectors = rng.integers(-1, 2, size=(rows, dim)).astype(float)
    vectors[~vectors.any(axis=1), 0] = 1.0
    return vectors


# A reference in loops over Python floats. ---------------------------------------------------------------------------


def unit(vector) -> list[float]:
    norm = math.sqrt(math.fsum(float(x) ** 2 for x in vector))
    return [float(x) / norm for x in vector]


def dot(a, b) -> float:
    return math.fsum(x * y for x, y in zip(a, b, strict=True))


def squared_distance(a, b) -> float:
    return math.fsum((x - y) ** 2 for x, y in zip(a, b, strict=True))


def items(embeds, ids):
    """(id, unit vector), each pair of them once."""
    found = []
    for vector, name in zip(embeds, ids, strict=True):
        entry = (name, unit(vector))
        if not any(name == other and squared_distance(entry[1], seen) < 1e-20 for other, seen in found):
            found.append(entry)
    return found


def loop_direction(queries, gallery, temperature_of, scale):
    """Per query: rank, NLL and confidence; the temperature is looked up by the id of the query."""
    rows = []
    for name, query in queries:
        if not any(name == other for other, _ in gallery):
            continue
        cosines = [dot(query, item) for _, item in gallery]
        relevant = [c for c, (other, _) in zip(cosines, gallery, strict=True) if other == name]
        irrelevant = [c for c, (other, _) in zip(cosines, gallery, strict=True) if other != name]
        factor = scale / temperature_of(name)
        weights = [math.exp(factor * (c - max(cosines))) for c in cosines]
        mass = {}
        for weight, (other, _) in zip(weights, gallery, strict=True):
            mass[other] = mass.get(other, 0.0) + weight / math.fsum(weights)
        tops = {o for c, (o, _) in zip(cosines, gallery, strict=True) if c >= max(cosines) - 1e-12}
        rank = 1 + sum(c >= max(relevant) - 1e-12 for c in irrelevant)
        rows.append((rank, -math.log(mass[name]), max(mass[o] for o in tops)))
    return rows


def loop_ece(rows, n_bins=15) -> float:
    total = 0.0
    for index in range(n_bins):
        inside = [
            (rank == 1, confidence)
            for rank, _, confidence in rows
            if index / n_bins <= confidence and (confidence < (index + 1) / n_bins or index == n_bins - 1)
        ]
        total += abs(math.fsum(hit - confidence for hit, confidence in inside)) / len(rows)
    return total


def loop_scores(images, texts, image_ids=None, text_ids=None, scale=1.0, ks=(1, 5, 10), temperature_of=lambda _: 1.0):
    image_ids = range(len(images)) if image_ids is None else image_ids
    text_ids = range(len(texts)) if text_ids is None else text_ids
    left, right = items(images, image_ids), items(texts, text_ids)
    i2t = loop_direction(left, right, temperature_of, scale)
    t2i = loop_direction(right, left, temperature_of, scale)
    scores = {
        f"{name}_r{k}": sum(rank <= k for rank, _, _ in rows) / len(rows)
        for name, rows in (("i2t", i2t), ("t2i", t2i))
        for k in ks
    }
    scores["mean_recall"] = math.fsum(scores.values()) / len(scores)
    scores["nll"] = sum(math.fsum(nll for _, nll, _ in rows) / len(rows) for rows in (i2t, t2i)) / 2
    scores["ece"] = (loop_ece(i2t) + loop_ece(t2i)) / 2
    positive = [squared_distance(a, b) for name, a in left for other, b in right if name == other]
    scores["alignment"] = math.fsum(positive) / len(positive)
    for side, name in ((left, "image"), (right, "text")):
        kernel = [math.exp(-2 * squared_distance(a, b)) for i, (_, a) in enumerate(side) for _, b in side[:i]]
        scores[f"uniformity_{name}"] = math.log(math.fsum(kernel) / len(kernel)) if kernel else math.nan
    means = [[math.fsum(column) / len(side) for column in zip(*(v for _, v in side))] for side in (left, right)]
    scores["modality_gap"] = math.sqrt(squared_distance(*means))
    return scores


def assert_matches(images, texts, *ids, **options):
    expected = loop_scores(images, texts, *ids, **options)
    got = metrics.retrieval_metrics(images, texts, *ids, **options)
    assert {name: got[name] for name in expected} == pytest.approx(expected, abs=1e-9, nan_ok=True)
    return got


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_pairs_row_by_row_match_a_loop(seed, scale):
    got = assert_matches(*random_pairs(seed=seed), scale=scale)
    assert list(got) == KEYS
    assert all(type(value) is float for value in got.values())


@pytest.mark.parametrize("seed", range(4))
def test_ids_ties_duplicates_and_distractors_match_a_loop(seed):
    rng = np.random.default_rng(seed)
    images, texts = coarse(25, seed), coarse(40, seed + 100)
    image_ids, text_ids = rng.integers(0, 12, 25), rng.integers(3, 15, 40)  # some ids are on one side only
    assert_matches(images, texts, image_ids, text_ids, scale=3.0)


@pytest.mark.parametrize("seed", range(3))
def test_several_captions_a_image_match_a_loop(seed):
    images, _ = random_pairs(count=20, seed=seed)
    texts = np.repeat(images, 5, axis=0) + np.random.default_rng(seed).normal(size=(100, 8))
    assert_matches(images, texts, np.arange(20), np.repeat(np.arange(20), 5), scale=8.0)


def test_blocks_do_not_change_the_scores(monkeypatch):
    images, texts = random_pairs(count=50)
    ids = np.random.default_rng(0).integers(0, 20, 50)
    whole = metrics.retrieval_metrics(images, texts, ids, ids, scale=10.0)
    monkeypatch.setattr(similarities, "BLOCK", 130)
    assert metrics.retrieval_metrics(images, texts, ids, ids, scale=10.0) == pytest.approx(whole, abs=1e-9)


def test_recall_matches_sklearn_and_torchmetrics():
    from sklearn.metrics import top_k_accuracy_score

    peer = pytest.importorskip("torchmetrics.retrieval")

    images, texts = random_pairs(count=40, noise=2.0)
    got = metrics.retrieval_metrics(images, texts)
    left, right = (side / np.linalg.norm(side, axis=1, keepdims=True) for side in (images, texts))
    cosines = left @ right.T
    for k in (1, 5, 10):
        assert got[f"i2t_r{k}"] == pytest.approx(top_k_accuracy_score(np.arange(40), cosines, k=k))
        assert got[f"t2i_r{k}"] == pytest.approx(top_k_accuracy_score(np.arange(40), cosines.T, k=k))

    ids = np.arange(40) // 4
    got = metrics.retrieval_metrics(images, texts, ids, ids)
    queries = torch.arange(40).repeat_interleave(40)
    for k in (1, 5, 10):
        hits = peer.RetrievalHitRate(top_k=k)
        relevant = torch.tensor(ids[:, None] == ids[None, :])
        assert got[f"i2t_r{k}"] == pytest.approx(float(hits(torch.tensor(cosines).ravel(), relevant.ravel(), queries)))


def test_nll_and_ece_match_the_classifier_metrics():
    images, texts = random_pairs()
    got = metrics.retrieval_metrics(images, texts, scale=12.0)
    left, right = (side / np.linalg.norm(side, axis=1, keepdims=True) for side in (images, texts))
    logits, labels = 12.0 * left @ right.T, np.arange(len(images))
    both = [metrics.calibration_metrics(side, labels, temperature=1.0) for side in (logits, logits.T)]
    for name in ("nll", "ece"):
        assert got[name] == pytest.approx(np.mean([side[name] for side in both]), abs=1e-12)
    assert got["i2t_r1"] == both[0]["accuracy"]


def test_nll_is_the_clip_loss():
    images, texts = (torch.nn.functional.normalize(torch.tensor(side), dim=-1) for side in random_pairs())
    logits, right = 20.0 * texts @ images.T, torch.arange(len(texts))
    loss = sum(float(torch.nn.functional.cross_entropy(each, right)) for each in (logits, logits.T)) / 2
    assert metrics.retrieval_metrics(images, texts, scale=20.0)["nll"] == pytest.approx(loss, abs=1e-12)


def test_geometry_matches_the_published_code():
    images, texts = random_pairs()
    got = metrics.retrieval_metrics(images, texts)
    x, y = (torch.nn.functional.normalize(torch.tensor(side), dim=-1) for side in (images, texts))
    assert got["alignment"] == pytest.approx(float((x - y).norm(dim=1).pow(2).mean()), abs=1e-12)
    for name, side in (("image", x), ("text", y)):
        expected = float(torch.pdist(side, p=2).pow(2).mul(-2).exp().mean().log())
        assert got[f"uniformity_{name}"] == pytest.approx(expected, abs=1e-12)
    assert got["modality_gap"] == pytest.approx(float((x.mean(0) - y.mean(0)).norm()), abs=1e-12)


# Hand-worked cases and properties -----------------------------------------------------------------------------------


def test_a_collapsed_model_scores_nothing():
    same = np.tile(np.random.default_rng(0).normal(size=33), (64, 1))
    got = metrics.retrieval_metrics(same, same * np.linspace(1, 2, 64)[:, None])
    assert got["mean_recall"] == 0
    assert got["nll"] == pytest.approx(math.log(64))
    assert got["ece"] == pytest.approx(1 / 64)
    assert got["alignment"] == pytest.approx(0, abs=1e-12)
    assert got["uniformity_image"] == pytest.approx(0, abs=1e-12)
    assert metrics.zero_shot_accuracy(same, np.zeros(64, int), same[:10]) == 0


def test_perfect_and_opposed_sides():
    eye = np.eye(4)
    perfect = metrics.retrieval_metrics(eye, eye, scale=100.0)
    assert perfect["mean_recall"] == 1
    assert perfect["nll"] == pytest.approx(0, abs=1e-12)
    assert perfect["modality_gap"] == 0
    assert perfect["temperature"] == pytest.approx(1.0), "nothing is gained by more certainty"
    opposed = metrics.retrieval_metrics(eye, -eye)
    assert opposed["alignment"] == pytest.approx(4)
    assert opposed["modality_gap"] == pytest.approx(1)
    assert opposed["temperature"] > 1.2
    assert metrics.retrieval_metrics([[1.0, 0.0]] * 2, [[-2.0, 0.0]] * 2)["modality_gap"] == 2


def test_several_positives_by_hand():
    # The image has two captions with cosines 1 and 0.6, the other caption has 0.8.
    images, texts = [[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [0.6, -0.8], [0.8, 0.6]]
    got = metrics.retrieval_metrics(images, texts, ["a", "b"], ["a", "a", "b"], ks=(1, 2))
    weights = [math.exp(c) for c in (1.0, 0.6, 0.8, 0.0, -0.8, 0.6)]
    i2t = [-math.log((weights[0] + weights[1]) / sum(weights[:3])), -math.log(weights[5] / sum(weights[3:]))]
    t2i = [math.log(1 + math.exp(-1.0)), math.log(1 + math.exp(-0.8 - 0.6)), math.log(1 + math.exp(0.8 - 0.6))]
    assert got["nll"] == pytest.approx((np.mean(i2t) + np.mean(t2i)) / 2)
    assert (got["i2t_r1"], got["t2i_r1"], got["t2i_r2"]) == (1.0, pytest.approx(2 / 3), 1.0)


def test_repeated_rows_of_an_id_count_once_and_others_stay():
    images, _ = random_pairs(count=15)
    texts = np.repeat(images, 5, axis=0) + np.random.default_rng(0).normal(size=(75, 8))
    ids = np.repeat(np.arange(15), 5)
    expected = metrics.retrieval_metrics(images, texts, np.arange(15), ids, scale=9.0)
    rows = np.repeat(images, 5, axis=0)
    assert metrics.retrieval_metrics(rows, texts, ids, ids, scale=9.0) == pytest.approx(expected, abs=1e-9)
    wobble = rows * (1 + 1e-6 * np.random.default_rng(1).normal(size=rows.shape))  # a float32 model, other batches
    assert metrics.retrieval_metrics(wobble, texts, ids, ids, scale=9.0) == pytest.approx(expected, abs=1e-4)
    # The same caption under another id is another item, and ties.
    tied = metrics.retrieval_metrics(np.eye(3), [[1.0, 0, 0], [1.0, 0, 0], [0, 0, 1.0]], scale=9.0)
    assert (tied["i2t_r1"], tied["i2t_r5"]) == (pytest.approx(1 / 3), 1.0)


def test_row_order_names_of_ids_and_bias_do_not_matter():
    images, texts = random_pairs(count=48)
    ids = np.arange(48) // 3
    rng = np.random.default_rng(5)
    expected = metrics.retrieval_metrics(images, texts, ids, ids, scale=5.0)
    i, t = rng.permutation(48), rng.permutation(48)
    shuffled = metrics.retrieval_metrics(images[i], texts[t], ids[i], ids[t], scale=5.0, bias=-10.0)
    assert shuffled == pytest.approx(expected, abs=1e-9)
    named = np.array([f"image {n:03}" for n in ids])
    assert metrics.retrieval_metrics(images, texts, named, named, scale=5.0) == expected


def test_k_beyond_the_gallery_and_one_pair():
    got = metrics.retrieval_metrics([[1.0, 2.0]], [[2.0, 1.0]])
    assert [got[name] for name in KEYS[:7]] == [1.0] * 7
    assert got["nll"] == got["ece"] == 0
    assert got["alignment"] == pytest.approx(2 - 2 * 4 / 5)
    names = ("temperature", "nll_temperature", "ece_temperature", "uniformity_image", "uniformity_text")
    assert all(math.isnan(got[name]) for name in names)
    images, texts = random_pairs(count=4)
    assert metrics.retrieval_metrics(images, -texts, ks=(4, 1000))["mean_recall"] == 1


def test_all_rows_of_one_id():
    images, texts = random_pairs(count=9)
    got = metrics.retrieval_metrics(images, texts, [3] * 9, [3] * 9)
    assert got["mean_recall"] == 1
    assert got["nll"] == pytest.approx(0, abs=1e-12)
    assert got["ece"] == pytest.approx(0, abs=1e-12)
    assert math.isnan(got["temperature"])


def test_items_without_a_counterpart_only_confuse():
    # The third image has no caption; it is nearer to the first caption than the first image is.
    images, texts = [[1.0, 0.5], [0.0, 1.0], [1.0, 0.0]], [[1.0, 0.1], [0.1, 1.0]]
    got = metrics.retrieval_metrics(images, texts, [0, 1, 2], [0, 1], ks=(1,))
    assert (got["i2t_r1"], got["t2i_r1"]) == (1.0, 0.5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_low_precision_tensors(dtype):
    images, texts = (torch.tensor(side).to(dtype).requires_grad_() for side in random_pairs())
    expected = metrics.retrieval_metrics(images.detach().double().numpy(), texts.detach().double().numpy())
    assert metrics.retrieval_metrics(images, texts) == expected
    ids = torch.arange(60)
    assert metrics.retrieval_metrics(images, texts, ids, ids) == expected


@pytest.mark.filterwarnings("error")
def test_large_scales_do_not_overflow():
    got = metrics.retrieval_metrics([[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [1.0, 0.0]], scale=1e5)
    assert got["nll"] == pytest.approx(1e5)
    assert got["ece"] == pytest.approx(1.0)
    assert got["temperature"] == pytest.approx(20)


def test_memory_stays_below_the_matrix():
    images, texts = random_pairs(count=4000, dim=4)
    tracemalloc.start()
    list(map(len, similarities.scan_of(*two_sides(images, texts), np.ones(4000))))
    used = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert used < 1.4 * 8 * 4000**2, "a few blocks of 32 MB, where the matrix takes 128 MB and its copies more"


def two_sides(images, texts):
    codes = np.arange(len(images))
    return tuple(similarities.distinct(pairs._units(side, "embeds"), codes) for side in (images, texts))


# Temperature --------------------------------------------------------------------------------------------------------


def calibrated_pairs(count: int, classes: int, scale: float, seed: int = 0):
    """Images whose id is drawn from their own softmax over one text per id: calibrated from image to text."""
    rng = np.random.default_rng(seed)
    images, texts = rng.normal(size=(count, 6)), rng.normal(size=(classes, 6))
    left, right = (side / np.linalg.norm(side, axis=1, keepdims=True) for side in (images, texts))
    logits = scale * left @ right.T
    return images, texts, (logits + rng.gumbel(size=logits.shape)).argmax(axis=1), np.arange(classes)


def test_temperature_of_a_known_scale_is_recovered():
    images, texts, image_ids, text_ids = calibrated_pairs(count=6000, classes=12, scale=4.0)
    left, right = (pairs._units(side, "embeds") for side in (images, texts))
    direction = (similarities.distinct(left, image_ids), similarities.distinct(right, text_ids))
    for factor in (0.3, 1.0, 6.0):
        assert similarities.fitted_temperature([direction], 4.0 * factor) == pytest.approx(factor, rel=0.05)


def test_both_directions_share_the_temperature_of_least_nll(monkeypatch):
    monkeypatch.setattr(functional, "FOLDS", 2)  # the loops are slow
    images, texts = random_pairs()
    ids = np.arange(60) // 2
    sides = items(images, ids), items(texts, ids)
    first, second = np.array_split(np.random.default_rng(7).permutation(30), 2)
    got = metrics.retrieval_metrics(images, texts, ids, ids, scale=40.0, seed=7)

    def half_nll(log_temperature, half):
        """With half the square of the logarithm of T, which counts as one query does."""
        means, count = [], len(half) * 2
        for queries, gallery in (sides, sides[::-1]):
            asked = [query for query in queries if query[0] in half]
            rows = loop_direction(asked, gallery, lambda _: math.exp(log_temperature), 40.0)
            means.append(np.mean([nll for _, nll, _ in rows]))
        return np.mean(means) + log_temperature**2 / 2 / count

    fitted = [
        math.exp(minimize_scalar(half_nll, args=(half,), bounds=np.log([0.05, 20]), method="bounded").x)
        for half in (first, second, range(30))
    ]
    assert got["temperature"] == pytest.approx(fitted[2], rel=1e-4)
    judged = dict.fromkeys(first, fitted[1]) | dict.fromkeys(second, fitted[0])
    expected = loop_scores(images, texts, ids, ids, scale=40.0, temperature_of=judged.get)
    assert got["nll_temperature"] == pytest.approx(expected["nll"], abs=1e-5)
    assert got["ece_temperature"] == pytest.approx(expected["ece"], abs=1e-4)
    assert got["nll_temperature"] < got["nll"]


def test_scaling_the_cosine_scales_the_temperature():
    images, texts = random_pairs()
    base, double = (metrics.retrieval_metrics(images, texts, scale=scale) for scale in (10.0, 20.0))
    assert double["temperature"] == pytest.approx(2 * base["temperature"], rel=2e-2)
    assert double["nll_temperature"] == pytest.approx(base["nll_temperature"], abs=1e-3)
    assert metrics.retrieval_metrics(images, texts, scale=10.0) == base
    assert metrics.retrieval_metrics(images, texts, scale=10.0, seed=1)["nll_temperature"] != base["nll_temperature"]


# Zero-shot ----------------------------------------------------------------------------------------------------------


def test_zero_shot_matches_a_loop_and_sklearn(monkeypatch):
    from sklearn.metrics import accuracy_score

    rng = np.random.default_rng(0)
    classes = rng.normal(size=(7, 5))
    labels = rng.integers(0, 7, 90)
    images = classes[labels] + rng.normal(size=(90, 5))
    nearest = [max(range(7), key=lambda c: dot(unit(image), unit(classes[c]))) for image in images]
    assert metrics.zero_shot_accuracy(images, labels, classes) == pytest.approx(accuracy_score(labels, nearest))
    monkeypatch.setattr(similarities, "BLOCK", 20)
    kept = np.arange(90) < 50
    expected = accuracy_score(labels[kept], np.array(nearest)[kept])
    assert metrics.zero_shot_accuracy(images, np.where(kept, labels, -100), classes) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("images", "labels", "classes", "message"),
    [
        ([[1.0, 0.0]], [0, 1], np.eye(2), "do not match"),
        ([[1.0, 0.0]], [0], np.eye(3), "do not match"),
        ([[1.0, 0.0]], [2], np.eye(2), "1 references are no class"),
        ([[1.0, 0.0]], [0.5], np.eye(2), "no class"),
        ([[1.0, 0.0]], [-100], np.eye(2), "no row to score"),
        ([[1.0, 0.0]], [0], [[1.0, 0.0]], "at least 2 classes"),
        ([[1.0, 0.0]], [0], [[1.0, 0.0], [0.0, 0.0]], "class_embeds hold 1 zero vectors"),
        ([[np.nan, 0.0]], [0], np.eye(2), "image_embeds hold 1 NaN"),
    ],
)
def test_zero_shot_names_bad_input(images, labels, classes, message):
    with pytest.raises(ValueError, match=message):
        metrics.zero_shot_accuracy(images, labels, classes)


# Inputs -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("images", "texts", "ids", "message"),
    [
        ([[np.nan, 1.0]], [[0.0, 1.0]], (), "image_embeds hold 1 NaN or infinite values out of 2"),
        ([[0.0, 1.0]], [[np.inf, 1.0]], (), "text_embeds hold 1 NaN or infinite"),
        ([[1.0, 0.0], [0.0, 0.0]], np.eye(2), (), "image_embeds hold 1 zero vectors.* row 1"),
        (np.eye(2), np.eye(3), (), "one D, not 2 and 3"),
        (np.eye(2), np.ones(2), (), r"text_embeds must be \[rows, D\].* not \(2,\)"),
        (np.zeros((0, 3)), np.zeros((0, 3)), (), "at least one of each"),
        ([[0.0, 1.0], [0.0]], np.eye(2), (), "rectangular"),
        (np.eye(2), np.ones((3, 2)), (), "2 images and 3 texts are no pairs"),
        (np.eye(2), np.eye(2), ([0, 1], None), "together"),
        (np.eye(2), np.eye(2), ([0, 1], [0]), r"text_ids must be one id per row, \(2,\), not \(1,\)"),
        (np.eye(2), np.eye(2), ([0, 1], [0.0, 1.0]), "text_ids must be integers or strings, not float64"),
        (np.eye(2), np.eye(2), ([0, 1], ["0", "1"]), "of one type"),
        (np.eye(2), np.eye(2), ([0, 1], [2, 3]), "no image and text share an id"),
    ],
)
def test_bad_input_is_named(images, texts, ids, message):
    with pytest.raises(ValueError, match=message):
        metrics.retrieval_metrics(images, texts, *ids)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale": 0.0}, "scale must be positive"),
        ({"scale": math.nan}, "scale must be positive"),
        ({"bias": math.inf}, "bias must be finite"),
        ({"ks": ()}, "ks must be"),
        ({"ks": (0, 1)}, "ks must be"),
        ({"ks": (1.5,)}, "ks must be"),
        ({"n_bins": 0}, "n_bins"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        metrics.retrieval_metrics(np.eye(2), np.eye(2), **options)


# Trainer ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("with_ids", [True, False])
def test_compute_metrics_reads_scale_bias_and_ids(with_ids):
    images, texts = (side.astype(np.float32) for side in random_pairs())
    ids = np.arange(60) // 2 if with_ids else None
    head = np.tile(np.float32([14.3, -10.0]), (60, 1))
    got = metrics.pair_compute_metrics(Evaluation((images, texts, head), ids))
    assert got == metrics.retrieval_metrics(images, texts, ids, ids, scale=float(np.float32(14.3)))
    few = partial(metrics.pair_compute_metrics, ks=(3,))
    assert "i2t_r3" in few(Evaluation((images, texts, head), ids))


HEAD = np.ones((2, 2))


@pytest.mark.parametrize(
    ("predictions", "ids", "message"),
    [
        (np.eye(2), None, "evaluate with MixupTrainer"),
        ((np.eye(2), np.eye(2)), None, "not tuple of 2; evaluate with MixupTrainer"),
        (None, None, "not nothing; evaluate with MixupTrainer"),
        ((np.eye(2), np.ones((3, 2)), HEAD), None, "evaluate with MixupTrainer"),
        ((np.eye(2), np.eye(2), np.ones(2)), None, r"\(2,\); evaluate with MixupTrainer"),
        ((np.zeros((0, 2)), np.zeros((0, 2)), np.zeros((0, 2))), None, "evaluate with MixupTrainer"),
        ((np.eye(2), np.eye(2), [[1.0, 0.0], [2.0, 0.0]]), None, "differ from row to row"),
        ((np.eye(2), np.eye(2), [[1.0, 0.0], [np.nan, 0.0]]), None, "scale and bias hold 1 NaN"),
        ((np.eye(2), np.eye(2), HEAD), [[0, 1], [1, 0]], r"label_ids must be one id per row, \(2,\), not \(2, 2\)"),
        ((np.eye(2), np.eye(2), HEAD), [0, 1, 2], "label_ids must be one id per row"),
    ],
)
def test_compute_metrics_names_other_predictions(predictions, ids, message):
    with pytest.raises(ValueError, match=message):
        metrics.pair_compute_metrics(Evaluation(predictions, ids))


def test_compute_metrics_runs_inside_a_trainer(tmp_path):
    from transformers import Trainer, TrainingArguments

    class Tiny(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = torch.nn.Linear(3, 4)

        def forward(self, x, y, labels=None):
            head = torch.tensor([7.0, 0.0]).expand(len(x), 2)
            return {"loss": x.sum() * 0, "image": self.linear(x), "text": self.linear(y), "head": head}

    rows = [{"x": torch.randn(3), "y": torch.randn(3), "labels": i % 5} for i in range(10)]
    arguments = TrainingArguments(str(tmp_path), per_device_eval_batch_size=4, report_to=[], use_cpu=True)
    trainer = Trainer(Tiny(), arguments, eval_dataset=rows, compute_metrics=metrics.pair_compute_metrics)
    assert {f"eval_{name}" for name in KEYS} <= set(trainer.evaluate())
