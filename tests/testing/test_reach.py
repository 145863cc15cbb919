"""The reach: the judge finds what is planted, and a class of each mapping does as the tables say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import nn

import hf_mixup
from hf_mixup.testing.batches import make_batch, tiny, tiny_pairs
from hf_mixup.testing.build import CannotBuild, build, builds, shrink
from hf_mixup.testing.families import FAMILIES, SCORED, architectures, classes
from hf_mixup.testing.layouts.fitting import NoBatch, NoLoss, computes_loss, fitting_batches
from hf_mixup.testing.layouts.images import images
from hf_mixup.testing.layouts.recipe import Recipe
from hf_mixup.testing.reach.__main__ import main
from hf_mixup.testing.reach.reference import EXACT, Reference, pick
from hf_mixup.testing.reach.survey import Row, cases, examine, reference_of
from hf_mixup.testing.reach.table import (
    JSON,
    MARKDOWN,
    examine_all,
    examine_within,
    from_json,
    held_in,
    release_of,
    render,
    save,
    to_json,
)

COMMITTED = from_json(JSON.read_text(encoding="utf-8"))
SAME_RELEASE = release_of(JSON.read_text(encoding="utf-8")) == transformers.__version__


TRIED = [row for row in COMMITTED if row.state == "tried" and row.family not in SCORED]  # those have a test of scores
ONE_OF_EACH = {row.family: row for row in TRIED}.values()


def lost(found: Row, row: Row) -> dict[str, str]:
    """What is worse than the table says: no longer exact, or newly wrong. What became better waits for a new table."""
    new = {method: cell for method, cell in found.failures().items() if method not in row.failures()}
    gone = [method for method, cell in row.cells.items() if cell == EXACT and found.cells.get(method) != EXACT]
    return new | {method: found.cells.get(method, found.reason) for method in gone}


@pytest.mark.skipif(not SAME_RELEASE, reason="the tables are of another release of transformers")
@pytest.mark.parametrize("row", ONE_OF_EACH, ids=lambda row: f"{row.family}-{row.model_type}")
def test_a_class_of_each_mapping_is_no_worse_than_the_table_says(row: Row) -> None:
    found = examine(row.family, row.model_type)
    assert (found.state, found.name, found.inputs) == (row.state, row.name, row.inputs)
    assert not lost(found, row)


@pytest.mark.slow
def test_everything_trains_exactly_or_is_refused() -> None:
    rows = list(examine_all(list(cases())))
    tried = [row for row in rows if row.state == "tried"]
    assert not {row.name: row.failures() for row in tried if row.failures()}
    assert sum(row.trains("any method or own loss") for row in tried) >= 0.95 * len(tried)
    assert sum(row.trains("default") for row in tried) >= 0.80 * len(tried)
    if SAME_RELEASE:
        found = {row.name: row for row in rows}
        assert not {row.name: worse for row in COMMITTED if (worse := lost(found[row.name], row))}


def test_committed_tables_agree() -> None:
    assert release_of(JSON.read_text(encoding="utf-8")) in MARKDOWN.read_text(encoding="utf-8")
    if SAME_RELEASE:
        assert MARKDOWN.read_text(encoding="utf-8") == render(COMMITTED)
        assert {(row.family, row.model_type) for row in COMMITTED} <= set(cases())


# The judge


class Leaks(nn.Module):
    """A head that also reads each sample's own ids, which no method exchanges."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model, self.config = model, model.config

    def forward(self, input_ids: torch.Tensor, **kwargs: Any) -> Any:
        outputs = self.model(input_ids=input_ids, **kwargs)
        if outputs.loss is not None:
            outputs["loss"] = outputs.loss + input_ids.float().var(1).mean()
        return outputs


def test_judge_calls_exact_what_is_exact() -> None:
    model, batch = tiny("sequence-classification", "bert")
    reference = Reference(model, batch, 4)
    assert reference.tells
    assert reference.blind == []
    assert reference.judge({"method": "embedding"}) == "exact"


def test_judge_finds_a_loss_that_is_not_mixed() -> None:
    model, batch = tiny("sequence-classification", "bert")
    found = Reference(Leaks(model), batch, 4).judge({"method": "embedding", "self_check": False})
    assert found.startswith("wrong: lam = 1 gives")


def test_judge_finds_an_input_that_stays_behind() -> None:
    """Method mixup is made to leave a stream: images are blended, and what is asked of them is not."""
    model, batch = tiny("image-classification", "vit")
    shift = torch.arange(4.0)[:, None]
    inner = model.forward

    def forward(pixel_values: torch.Tensor, labels: torch.Tensor | None = None, asked: Any = shift) -> Any:
        outputs = inner(pixel_values=pixel_values)
        outputs["logits"] = outputs.logits + asked * torch.arange(4.0)
        if labels is not None:
            outputs["loss"] = nn.functional.cross_entropy(outputs.logits, labels)
        return outputs

    model.forward = forward  # type: ignore[method-assign]
    reference = Reference(model, batch, 4)
    assert reference.own != reference.partners
    found = Reference(model, {**batch, "asked": shift}, 4).judge({"method": "manifold", "self_check": False})
    assert found.startswith("wrong: lam = 0 gives")


def test_judge_finds_labels_that_are_weighed_wrongly(monkeypatch: pytest.MonkeyPatch) -> None:
    class Careless(hf_mixup.Mixup):
        def __call__(self, *args: Any, lam: float, **kwargs: Any) -> Any:
            return super().__call__(*args, lam=lam if lam in (0, 1) else 0.9, **kwargs)

    monkeypatch.setattr(hf_mixup, "Mixup", Careless)
    model, batch = tiny("sequence-classification", "bert")
    assert Reference(model, batch, 4).judge({"method": "embedding"}).startswith("wrong: lam = 0.3 weighs labels to")


def test_judge_tells_a_refusal_from_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = tiny("sequence-classification", "bert")
    assert Reference(model, batch, 4).judge({"method": "cutmix"}).startswith("refused: ")
    plain = Reference(model, batch, 4)
    assert plain.tells
    monkeypatch.setattr(model.classifier, "forward", lambda hidden: torch.ones(2) @ torch.ones(3))
    assert plain.judge({"method": "embedding", "self_check": False}).startswith("crash: RuntimeError")


def test_pairs_are_judged_by_their_order() -> None:
    model, batch = tiny_pairs()
    reference = Reference(model, {**batch, "return_loss": True}, 4, pairs=True)
    assert reference.tells
    assert reference.partners == pytest.approx(reference.own, rel=1e-5)  # the same pairs in another order
    assert reference.judge({"method": "cross_modal"}) == "exact"


def test_blind_names_an_input_that_changes_nothing() -> None:
    model, batch = tiny("sequence-classification", "bert")
    inner = model.forward
    model.forward = lambda extra=None, **kwargs: inner(**kwargs)  # type: ignore[method-assign]
    assert Reference(model, {**batch, "extra": torch.arange(4)}, 4).blind == ["extra"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (torch.arange(3), [2, 0, 1]),
        (torch.arange(6), [4, 5, 0, 1, 2, 3]),  # two rows a sample
        (torch.arange(6.0).view(1, 1, 1, 6), [[[[4, 5, 0, 1, 2, 3]]]]),  # beside each other
        (torch.arange(4), [0, 1, 2, 3]),  # belongs to no sample
        (["a", "b", "c"], ["c", "a", "b"]),
        (True, True),
    ],
    ids=str,
)
def test_pick_takes_the_content_of_samples(value: Any, expected: Any) -> None:
    found = pick(value, torch.tensor([2, 0, 1]), samples=3)
    assert (found.tolist() if isinstance(found, torch.Tensor) else found) == expected


# Models and batches


def test_every_mapping_is_a_family_and_every_class_is_once() -> None:
    from transformers.models.auto import modeling_auto

    assert all(architectures(family) for family in FAMILIES)
    found = list(cases())
    names = [classes(family)[kind] for family, kind in found]
    assert len(names) == len(set(names))
    assert {family for family, _ in found} >= set(SCORED)
    tasks = {name for name in dir(modeling_auto) if name.endswith("_MAPPING_NAMES") and "_FOR_" in name}
    held = {kind: name for family in FAMILIES for kind, name in classes(family).items()}
    encoders = ("BACKBONE", "IMAGE_MAPPING", "TEXT_ENCODING", "AUDIO_TOKENIZATION", "TIME_SERIES")
    for task in tasks:
        if not any(each in task for each in encoders):
            assert set(getattr(modeling_auto, task)) <= set(held), task


def test_placeholders_are_as_many_as_features() -> None:
    model = build("image-text-to-text", "llava")
    batch = next(fitting_batches("image-text-to-text", model, samples=2))
    patches = (model.config.vision_config.image_size // model.config.vision_config.patch_size) ** 2
    assert ((batch["input_ids"] == model.config.image_token_id).sum(1) == patches).all()
    assert (batch["labels"] == -100).sum() == 2 * patches
    assert Reference(model, batch, 2).blind == []


def test_patches_of_all_samples_lie_in_one_tensor_with_their_grids() -> None:
    model = build("image-text-to-text", "qwen3_vl")
    batch = next(iter(images(Recipe(model, 3, torch.Generator().manual_seed(0)))))
    assert batch["image_grid_thw"].tolist() == [[1, 4, 4]] * 3
    assert len(batch["pixel_values"]) == 3 * 16


def test_what_has_no_loss_or_no_batch_says_so() -> None:
    assert not computes_loss(transformers.BertModel)
    with pytest.raises(NoLoss, match="Training is not implemented"):
        reference_of("depth-estimation", "dpt")
    with pytest.raises(NoLoss, match="its forward computes none"):
        reference_of("mask-generation", "sam")
    model = build("depth-estimation", "glpn")
    model.forward = lambda pixel_values, labels=None: 1 / 0  # type: ignore[method-assign]
    with pytest.raises(NoBatch, match="ZeroDivisionError"):
        next(fitting_batches("depth-estimation", model, 2))


def test_what_a_model_says_against_training_is_no_loss() -> None:
    with pytest.raises(NoLoss, match="Training with 5D video inputs is not supported"):
        reference_of("universal-segmentation", "videomt")


def test_parts_that_would_show_nothing_are_opened() -> None:
    gates = [value for name, value in build("image-text-to-text", "mllama").named_parameters() if "_gate" in name]
    assert gates
    assert all(bool(gate.all()) for gate in gates)
    sam = shrink(transformers.SamVisionConfig())
    assert transformers.SamVisionConfig().initializer_range < 1e-6 < sam.initializer_range


def test_settings_of_another_name_are_shrunk() -> None:
    config = shrink(transformers.InklingVisionConfig())
    assert transformers.InklingVisionConfig().num_hidden_layers > 2
    assert config.num_hidden_layers == 2


def test_features_that_a_whole_reads_are_within_the_blocks_of_its_part() -> None:
    config = shrink(transformers.VipLlavaConfig())
    assert len(config.vision_feature_layer) == len(transformers.VipLlavaConfig().vision_feature_layer)
    assert max(config.vision_feature_layer) <= config.vision_config.num_hidden_layers


def test_attempts_leave_more_and_more_as_it_is() -> None:
    found = [each for each in builds("depth-estimation", "glpn") if not isinstance(each, CannotBuild)]
    sizes = [sum(weight.numel() for weight in each.parameters()) for each in found]
    assert len(sizes) >= 3
    assert sizes[0] == min(sizes)
    assert sizes[-1] == max(sizes)


# The tables


def rows() -> list[Row]:
    return [
        Row("ctc", "a", "AForCTC", "tried", cells={"mixup": "exact", "manifold": "refused: ValueError: so. Else"}),
        Row(
            "ctc",
            "b",
            "BForCTC",
            "tried",
            blind=["x"],
            cells={"mixup": "wrong: lam = 0 gives 2.5", "manifold": "exact"},
        ),
        Row("ctc", "c", "CForCTC", "no loss", "its forward computes none"),
        Row(
            "rnnt",
            "d",
            "D",
            "tried",
            cells={"mixup": "crash: RuntimeError: size", "manifold": "crash: RuntimeError: size"},
        ),
    ]


def test_tables_hold_cells_reasons_and_reach() -> None:
    text = render(rows())
    assert "| ctc | 3 of 14 | 0 | 1 | 0 | 0 | 2 | 1 (50%) | 2 (100%) | 2 (100%) | 1 | 0 | 1 | 0 | 0 | 1 | 0 |" in text
    assert "| all | 4 of 949 | 0 | 1 | 0 | 0 | 3 | 1 (33%) | 2 (67%) | 2 (67%) | 1 | 0 | 1 | 0 | 0 | 1 | 2 |" in text
    assert "| a | AForCTC | exact | refused | manifold: so |" in text
    assert "| b | BForCTC | wrong | exact | mixup: lam = 0 gives ; blind: x |" in text
    assert "| c | CForCTC |  |  | no loss: its forward computes none |" in text
    assert "| d | D | crash | crash | mixup, manifold: size |" in text
    assert from_json(to_json(rows())) == rows()
    assert release_of(to_json(rows())) == transformers.__version__


def test_rows_know_whether_they_train_and_what_fails() -> None:
    a, b, c, d = rows()
    assert [row.trains("any method") for row in (a, b, c, d)] == [True, True, False, False]
    assert [row.trains("default") for row in (a, b, c, d)] == [True, False, False, False]
    assert set(b.failures()) == {"mixup"}
    assert set(d.failures()) == {"mixup", "manifold"}


def test_a_row_is_worse_where_exact_cells_are_gone_or_failures_are_new() -> None:
    a, b, c, _ = rows()
    assert not lost(a, a)
    assert not lost(b, b)
    assert set(lost(a, b)) == {"manifold"}
    assert set(lost(b, a)) == {"mixup"}
    assert set(lost(c, b)) == {"manifold"}


def test_command_fills_both_tables_row_by_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, family = tmp_path / "found", ["--family", "keypoint-detection", "table-recognition", "--processes", "1"]
    examined: list[str] = []

    def one_then_a_cut(chosen: Any, *_: Any) -> Any:
        """Examine without processes, and be stopped behind the first class."""
        for case in chosen:
            examined.append(case[1])
            yield examine(*case)
            if len(examined) == 1:
                raise KeyboardInterrupt

    monkeypatch.setattr("hf_mixup.testing.reach.__main__.examine_all", one_then_a_cut)
    with pytest.raises(KeyboardInterrupt):
        main([*family, "--out", str(out)])
    assert [row.model_type for row in held_in(out)] == ["superpoint"]
    assert "| keypoint-detection | 1 |" in out.with_suffix(".md").read_text(encoding="utf-8")
    main([*family, "--models", "slanet", "--out", str(out)])
    assert "| table-recognition | 1 of 2 |" in out.with_suffix(".md").read_text(encoding="utf-8")
    main([*family, "--missing", "--out", str(out)])
    assert examined == ["superpoint", "slanet", "slanext"]
    assert [row.model_type for row in held_in(out)] == ["superpoint", "slanet", "slanext"]


def test_a_new_row_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    old, new = (Row("ctc", "hubert", "HubertForCTC", "no batch", reason) for reason in ("old", "new"))
    other = Row("depth-estimation", "dpt", "DPTForDepthEstimation", "no loss", "so")
    save([other, old], tmp_path / "found")
    save([new], tmp_path / "found")
    assert held_in(tmp_path / "found") == [new, other]


def test_a_class_that_takes_too_long_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    def endless(*_: Any) -> Any:
        while True:
            try:
                sum(range(100_000))
            except Exception:  # noqa: BLE001 - as the search for a batch does
                continue

    monkeypatch.setattr("hf_mixup.testing.reach.table.examine", endless)
    row = examine_within(1, "ctc", "hubert")
    assert (row.state, row.name, row.reason) == ("cut", "HubertForCTC", "took more than 1 seconds")


@pytest.mark.parametrize(
    ("family", "model_type"),
    [
        ("image-text-to-text", "kosmos-2"),  # a mask tells where images are
        ("image-text-to-text", "inkling_mm_model"),  # patches with their time, channels last
        ("multimodal-lm", "kyutai_speech_to_text"),  # codes of audio beside each word
        ("speech-seq2seq", "dia"),  # rows of labels for each codebook
        ("rnnt", "parakeet_rnnt"),  # a loss of torchaudio
        ("ctc", "granite_speech5_ctc"),  # several frames in one
        ("table-question-answering", "tapas"),  # the cells of one column
        ("zero-shot-object-detection", "grounding-dino"),  # phrases between marks
        ("pretraining", "splinter"),  # several questions
        ("image-classification", "efficientnet"),  # images of little noise look alike to it
    ],
)
def test_a_batch_is_found_whose_samples_score_apart(family: Any, model_type: str) -> None:
    assert reference_of(family, model_type).tells


@pytest.mark.parametrize(
    ("family", "model_type", "settings"),
    [
        ("visual-question-answering", "blip", {"method": "mixup", "loss": "own"}),
        ("rnnt", "parakeet_rnnt", {"method": "manifold"}),
    ],
)
def test_a_model_that_needs_labels_is_looked_into(family: Any, model_type: str, settings: dict[str, Any]) -> None:
    """Its decoder looks up the labels themselves: these go with each pass, and are not blended."""
    assert reference_of(family, model_type).judge(settings) == "exact"


def test_a_library_that_is_missing_is_the_reason() -> None:
    model = build("depth-estimation", "glpn")

    def lacks(pixel_values: torch.Tensor, labels: Any = None) -> Any:
        raise ImportError("needs torchaudio")

    model.forward = lacks  # type: ignore[method-assign]
    with pytest.raises(NoBatch, match="needs torchaudio"):
        next(fitting_batches("depth-estimation", model, 2))


def test_batches_of_scored_families_are_those_of_their_own_maker() -> None:
    reference = reference_of("sequence-classification", "bert")
    expected = make_batch("sequence-classification", build("sequence-classification", "bert"))
    assert all(torch.equal(reference.batch[key], value) for key, value in expected.items())
