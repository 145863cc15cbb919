"""Broken data ends with one line that names file, row and column, keeps the cause, and comes before any model."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, Image, List, Value
from PIL import Image as PILImage

from hf_mixup import cli
from hf_mixup.experiments.tasks.arguments import TaskArguments
from hf_mixup.experiments.tasks.checks import check_labels
from hf_mixup.experiments.tasks.data import load_raw, load_splits
from hf_mixup.experiments.tasks.image import load_image_processor
from hf_mixup.experiments.tasks.prepare import check_readable, prepare
from hf_mixup.experiments.tasks.video import VideoRows
from tests.conftest import TINY_RUN

TEXT, TOKENS, NUMBER = "text-classification", "token-classification", "text-regression"
ROWS = "text,label\n" + "".join(f"text {row},{'ab'[row % 2]}\n" for row in range(20))
LINES = "".join(json.dumps({"text": f"text {row}", "label": "ab"[row % 2]}) + "\n" for row in range(20))
TAGGED = '{"text": ["a", "b"], "label": ["O", "X"]}\n' * 4

# task, name of the file, its content, what the error says after the folder's path
FILES: list[tuple[str, str, str | bytes, str]] = [
    (TEXT, "rows.csv", ROWS + ",a\n", "rows.csv, split 'train', row 20: no text in text column 'text'"),
    (TEXT, "rows.csv", ROWS + "a,\n", "rows.csv, split 'train', row 20: label column 'label' is empty"),
    (TEXT, "rows.csv", ROWS + "a\n", "rows.csv, split 'train', row 20: label column 'label' is empty"),
    (TEXT, "rows.csv", ROWS.encode() + b"caf\xe9,a\n", "rows.csv, line 22, column 'text': not in UTF-8 (byte 0xe9)"),
    (TEXT, "rows.csv", ROWS.encode("utf-16"), "rows.csv, line 1: not in UTF-8 (byte 0xff)"),
    (TEXT, "rows.csv", ROWS + "x,y,a\n", "rows.csv, line 22 (row 20): 3 cells where the header names 2 columns"),
    (TEXT, "rows.csv", ROWS + '"open,a\nb,b\n', "rows.csv, line 22 (row 20): no readable CSV"),
    (TEXT, "rows.csv", "", "rows.csv: the file is empty"),
    (TEXT, "rows.csv", "text,label\n", "rows.csv: it has a header and no rows"),
    (TEXT, "rows.csv", 'text,label\n"two\nlines",a\nx,y,b\n', "rows.csv, line 4 (row 1): 3 cells"),
    (TEXT, "rows.csv", "text,label\na,1\nb,\nc,2\n", "rows.csv, split 'train', row 1: label column 'label' is empty"),
    (TEXT, "rows.jsonl", LINES + '{"text": "c", "la', "rows.jsonl, line 21 (row 20), place 15: not readable as JSON"),
    (TEXT, "rows.jsonl", "", "rows.jsonl: the file is empty"),
    (TEXT, "rows.jsonl", LINES.encode() + b'{"text": "\xe9", "label": "a"}\n', "rows.jsonl, line 21: not in UTF-8"),
    (TEXT, "rows.jsonl", LINES + '{"text": "c", "label": null}\n', "row 20: label column 'label' is empty"),
    (TEXT, "rows.jsonl", LINES + '{"text": "c", "label": 3}\n', "row 20"),
    (TEXT, "rows.jsonl", LINES + '{"text": 4, "label": "a"}\n', "row 20"),
    (TEXT, "rows.json", '[{"text": "a", "label": "x"}, {"text": "b"', "rows.json, line 1, place"),
    (TEXT, "rows.parquet", "PAR1 and no more", "rows.parquet: no readable Parquet file"),
    (TEXT, "rows.parquet", "", "rows.parquet: the file is empty"),
    (NUMBER, "rows.csv", "text,label\na,1\nb,\nc,2\n", "row 1: label column 'label' has no finite number"),
    (NUMBER, "rows.csv", "text,label\na,1\nb,huge\nc,2\n", "row 1: label column 'label' holds 'huge'"),
    (NUMBER, "rows.csv", "text,label\na,1\nb,inf\nc,2\n", "row 1: label column 'label' has no finite number"),
    (
        TOKENS,
        "r.jsonl",
        TAGGED + '{"text": ["a", null], "label": ["O", "O"]}\n',
        "row 4: no text in text column 'text'",
    ),
    (TOKENS, "r.jsonl", TAGGED + '{"text": [], "label": []}\n', "row 4: no text in text column 'text'"),
    (TOKENS, "r.jsonl", TAGGED + '{"text": ["a"], "label": [null]}\n', "row 4: label column 'label' has no tag"),
    (TOKENS, "r.jsonl", TAGGED + '{"text": ["a"], "label": null}\n', "row 4: label column 'label' is empty"),
    (TOKENS, "r.jsonl", TAGGED + '{"text": ["a"], "label": ["O", "X"]}\n', "row 4: column 'text' has 1 words and"),
    ("seq2seq", "rows.csv", "source,target\na,b\nc,\n", "row 1: no text in target column 'target'"),
    ("image-classification", "rows.csv", "image,label\nno.png,a\n", "row 0: no such file: "),
    ("audio-classification", "rows.csv", "audio,label\nno.wav,a\n", "row 0: no such file: "),
    ("image-text", "rows.csv", "image,caption\nno.png,\n", "rows.csv, split 'train', row 0: column 'caption'"),
]


@pytest.mark.parametrize(("task", "name", "content", "message"), FILES)
def test_files(task: str, name: str, content: str | bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the message is looked at below
        load_splits(TaskArguments(task=task, dataset=str(path)))
    assert str(caught.value).startswith(f"{path}")
    assert message in str(caught.value)
    if "row" not in message and "empty" not in message:
        assert caught.value.__cause__ is not None


def test_a_column_that_changes_its_kind_late(tmp_path: Path) -> None:
    """The reader settles what a column holds from the first ten thousand rows."""
    path = tmp_path / "rows.csv"
    path.write_text("text,label\n" + "a,1\n" * 10_050 + "a,many\n")
    with pytest.raises(
        ValueError, match=r"line 10052 \(row 10050\), column 'label': 'many' where the rows before hold"
    ):
        load_splits(TaskArguments(task=TEXT, dataset=str(path)))


def test_a_parquet_file_that_breaks_off_in_the_middle(tmp_path: Path) -> None:
    """Its list of contents, at the end, is whole."""
    path = tmp_path / "rows.parquet"
    Dataset.from_dict({"text": [f"text {row}" for row in range(5000)], "label": [0, 1] * 2500}).to_parquet(str(path))
    content = path.read_bytes()
    path.write_bytes(content[:100] + bytes(len(content) // 2) + content[100 + len(content) // 2 :])
    with pytest.raises(ValueError, match=r"rows.parquet.* read") as caught:
        load_splits(TaskArguments(task=TEXT, dataset=str(path)))
    assert caught.value.__cause__ is not None


def test_a_split_without_rows_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text(ROWS)
    (tmp_path / "test.csv").write_text("text,label\n")
    with pytest.raises(ValueError, match=r"test.csv.* no rows"):
        load_splits(TaskArguments(task=TEXT, dataset=str(tmp_path)))


def test_the_command_ends_with_2_and_no_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(ROWS + "x,y,a\n")
    flags = ["--output_dir", str(tmp_path / "out"), "--use_cpu", "--report_to", "none"]
    assert cli.main(["train", "--task", TEXT, "--dataset", str(path), *flags]) == 2
    told = capsys.readouterr().err
    assert "Traceback" not in told
    assert f"error: {path}, line 22 (row 20): 3 cells" in told
    assert not (tmp_path / "out").exists()


# Images with a metadata file


def folder_of(tmp_path: Path, last: str = "", split: str = "train") -> Path:
    folder = tmp_path / "images" / split
    folder.mkdir(parents=True)
    lines = []
    for row in range(8):
        noise = np.random.default_rng(row).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        PILImage.fromarray(noise).save(folder / f"{row}.png")
        lines.append(json.dumps({"file_name": f"{row}.png", "label": "xy"[row % 2]}))
    (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n" + last)
    return folder


@pytest.mark.parametrize(
    ("last", "message"),
    [
        ('{"file_name": "gone.png", "label": "x"}\n', "row 8: image column 'image' names .*gone.png, .*no such file"),
        ('{"file_name": "0.png", "label": null}\n', "row 8: label column 'label' is empty"),
        ('{"file_name": "0.pn', r"metadata.jsonl, line 9 \(row 8\), place 15: not readable as JSON"),
    ],
)
def test_tables_of_images(tmp_path: Path, last: str, message: str) -> None:
    folder = folder_of(tmp_path, last)
    with pytest.raises(ValueError, match=message):
        load_splits(TaskArguments(dataset=str(folder.parent)))


def empty(path: Path) -> None:
    path.write_bytes(b"")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:200])


def nonsense(path: Path) -> None:
    path.write_bytes(b"\x89PNG\r\n\x1a\nnonsense")


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("harm", [empty, cut, nonsense])
def test_a_broken_image_is_found_before_the_model_is_built(
    harm: Callable[[Path], None], split: str, tmp_path: Path
) -> None:
    folders = {each: folder_of(tmp_path, split=each) for each in ("train", "test")}
    harm(folders[split] / "5.png")
    own = {name: TINY_RUN[name] for name in ("model_type", "image_size", "config_overrides")}
    task = TaskArguments(dataset=str(tmp_path / "images"), **own)
    with pytest.raises(ValueError, match=r"image column 'image'.*5.png"):
        check_readable(prepare(task))


def test_an_image_that_is_missing_from_a_table(tmp_path: Path) -> None:
    noise = PILImage.fromarray(np.zeros((4, 4, 3), dtype=np.uint8))
    rows = Dataset.from_dict({"image": [noise, None, noise], "label": ["x", "y", "x"]}).cast_column("image", Image())
    rows.to_parquet(str(tmp_path / "rows.parquet"))
    with pytest.raises(ValueError, match="row 1: image column 'image' is empty"):
        load_splits(TaskArguments(dataset=str(tmp_path / "rows.parquet")))


def test_whole_data_is_let_through(tmp_path: Path) -> None:
    """Quoted commas and line breaks, a byte order mark, letters beyond ASCII, and bytes inside a Parquet file."""
    path = tmp_path / "rows.csv"
    path.write_bytes(b"\xef\xbb\xbf" + ('text,label\n"a, b\nc",é\nü,b\n' * 4).replace("\ntext,label", "").encode())
    assert load_splits(TaskArguments(task=TEXT, dataset=str(path))).label_names == ["b", "é"]
    noise = PILImage.fromarray(np.zeros((4, 4, 3), dtype=np.uint8))
    rows: Any = Dataset.from_dict({"image": [noise] * 4, "label": ["x", "y"] * 2}).cast_column("image", Image())
    rows.to_parquet(str(tmp_path / "rows.parquet"))
    assert load_splits(TaskArguments(dataset=str(tmp_path / "rows.parquet"))).label_names == ["x", "y"]


def test_a_text_among_numbers_is_told(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("text,label\n" + "a,10\nb,11\n" * 8 + "c,1O\n" + "a,10\n" * 3)
    with pytest.warns(UserWarning, match=r"rows.csv, split 'train': .* 19 numbers and 1 other texts, '1O' in row 16"):
        load_raw_and_check(TaskArguments(task=TEXT, dataset=str(tmp_path / "rows.csv")))


def load_raw_and_check(task: TaskArguments) -> None:
    check_labels(load_raw(task)["train"], "train", task)


def test_a_text_without_a_token_is_refused() -> None:
    """GPT-2's tokenizer puts nothing around a text: an empty one would be a row of no tokens."""

    class Tokenizer:
        def __call__(self, texts: list[str], **settings: Any) -> dict[str, Any]:
            return {"input_ids": [[1] * len(text) for text in texts]}

    rows = Dataset.from_dict({"text": ["a cat", ""], "label": [0, 1]})
    with pytest.raises(ValueError, match="text column 'text' holds '', which has no token"):
        TaskArguments(task=TEXT).samples(rows, Tokenizer())


def test_minus_1_is_a_class_unless_names_say_otherwise(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("text,label\n" + "a,-1\nb,0\nc,1\n" * 8)
    assert load_splits(TaskArguments(task=TEXT, dataset=str(tmp_path / "rows.csv"))).label_names == ["-1", "0", "1"]
    features = Features({"text": Value("string"), "label": ClassLabel(names=["x", "y"])})
    Dataset.from_dict({"text": ["a", "b", "c"], "label": [0, 1, -1]}, features).save_to_disk(str(tmp_path / "rows"))
    with pytest.raises(ValueError, match=r"rows, split 'train', row 2: label column 'label' is -1, .*no label"):
        load_splits(TaskArguments(task=TEXT, dataset=str(tmp_path / "rows")))


def test_a_broken_frame_of_a_clip_is_named() -> None:
    frame, broken = io.BytesIO(), {"bytes": b"nonsense", "path": None}
    PILImage.fromarray(np.zeros((4, 4, 3), dtype=np.uint8)).save(frame, "PNG")
    clip = [{"bytes": frame.getvalue(), "path": None}] * 4
    features = Features({"video": List(Image()), "label": Value("int64")})
    rows = Dataset.from_dict({"video": [clip, [*clip[:2], broken]], "label": [0, 1]}, features)
    task = TaskArguments(task="video-classification", model_type="videomae", image_size=4, frames=2)
    with pytest.raises(ValueError, match="row 1: frame 2 in column 'video': the image cannot be read"):
        VideoRows(rows, load_image_processor(task), task)[0]
