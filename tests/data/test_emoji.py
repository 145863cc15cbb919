"""The bundled emoji: what the file promises, and what `load_emoji` makes of it."""

from __future__ import annotations

import doctest
import hashlib
import io
import subprocess
import sys
from collections import Counter
from importlib import resources

import pytest

pytest.importorskip("datasets")
Image = pytest.importorskip("PIL.Image")

import pyarrow.parquet as pq  # noqa: E402  # comes with datasets

from hf_mixup.data import emoji as emoji_module  # noqa: E402
from hf_mixup.data import load_emoji  # noqa: E402
from hf_mixup.data.emoji import ARTISTS, GROUPS  # noqa: E402

FOLDER = resources.files("hf_mixup.data")
LEARNING_SPLITS = ("train", "validation", "test")
SKIN_TONES = {chr(point) for point in range(0x1F3FB, 0x1F400)}


@pytest.fixture(scope="module")
def rows():
    data = FOLDER.joinpath("emoji.parquet").read_bytes()
    return pq.read_table(io.BytesIO(data)).to_pylist()


@pytest.fixture(scope="module")
def image_data():
    return load_emoji("image")


@pytest.fixture(scope="module")
def text_data():
    return load_emoji("text")


@pytest.fixture(scope="module")
def image_text_data():
    return load_emoji("image-text")


# The file


def test_file_is_small():
    assert len(FOLDER.joinpath("emoji.parquet").read_bytes()) <= 6_000_000


def test_columns(rows):
    expected = "image caption keywords group subgroup artist emoji split"
    assert list(rows[0]) == expected.split()


def test_splits_share_no_emoji(rows):
    splits_of = {}
    for row in rows:
        if row["split"] in LEARNING_SPLITS:
            splits_of.setdefault(row["emoji"], set()).add(row["split"])
    assert all(len(splits) == 1 for splits in splits_of.values())


def test_splits_share_no_caption_and_no_gender_variant(rows):
    split_of = {r["emoji"]: r["split"] for r in rows if r["split"] in LEARNING_SPLITS}
    for plain, variant in [("🏃", "🏃‍♀️"), ("🧑‍🚀", "👩‍🚀"), ("👨", "👩"), ("🚶", "🚶‍➡️")]:
        assert split_of[plain] == split_of[variant]


def test_splits_share_no_image(rows):
    seen = {}
    for row in rows:
        if row["split"] == "test_shifted":
            continue
        image = Image.open(io.BytesIO(row["image"]["bytes"]))
        mirrored = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        key = min(image.tobytes(), mirrored.tobytes())
        assert seen.setdefault(key, row["split"]) == row["split"], row["caption"]


def test_one_artist_is_held_out(rows):
    held_out = {row["artist"] for row in rows if row["split"] == "test_shifted"}
    others = {row["artist"] for row in rows if row["split"] != "test_shifted"}
    assert held_out == {ARTISTS[-1]}
    assert others == set(ARTISTS[:-1])


def test_every_shifted_emoji_was_drawn_by_another_artist(rows):
    placed = {row["emoji"] for row in rows if row["split"] != "test_shifted"}
    assert {row["emoji"] for row in rows} == placed


def test_split_shares_hold_in_every_group(rows):
    counts = Counter((r["group"], r["split"]) for r in rows if r["artist"] == "twemoji")
    for group in GROUPS:
        total = sum(counts[group, split] for split in LEARNING_SPLITS)
        assert counts[group, "test"] / total == pytest.approx(0.20, abs=0.03)
        assert counts[group, "validation"] / total == pytest.approx(0.10, abs=0.03)


def test_no_skin_tones_and_no_components(rows):
    assert not any(SKIN_TONES & set(row["emoji"]) for row in rows)
    assert {row["group"] for row in rows} == set(GROUPS)


def test_no_artist_draws_an_emoji_twice(rows):
    pairs = [(row["emoji"], row["artist"]) for row in rows]
    assert len(set(pairs)) == len(pairs)


def test_every_row_is_described(rows):
    assert all(row["caption"].strip() and row["subgroup"] for row in rows)
    assert all(isinstance(row["keywords"], list) for row in rows)
    # An emoji has one caption, whoever draws it.
    assert len({(r["emoji"], r["caption"]) for r in rows}) == len({r["emoji"] for r in rows})


def test_images_are_small_rgb_on_white(rows):
    white_corners = 0
    for row in rows:
        image = Image.open(io.BytesIO(row["image"]["bytes"]))
        assert (image.size, image.mode) == ((32, 32), "RGB")
        corners = [image.getpixel((x, y)) for x in (0, 31) for y in (0, 31)]
        white_corners += any(min(corner) >= 250 for corner in corners)
        assert len(image.getcolors(1024)) > 1, f"{row['caption']} is blank"
    # Some signs and flags reach into the corners, so this cannot hold for all.
    assert white_corners / len(rows) > 0.9


def test_licences_name_every_artist():
    text = FOLDER.joinpath("LICENSES.md").read_text(encoding="utf-8")
    for artist in ARTISTS:
        assert f"`{artist}`" in text
    for words in ("CC BY 4.0", "Apache-2.0", "MIT License", "Unicode License", "Resized"):
        assert words in text
    assert "Apache License" in FOLDER.joinpath("LICENSE-APACHE-2.0.md").read_text()


# The loader


def test_image_task(image_data):
    assert set(image_data) == {*LEARNING_SPLITS, "test_shifted"}
    for split in image_data.values():
        assert split.column_names == ["image", "label", "emoji", "artist"]
        assert split.features["label"].names == list(GROUPS)
    example = image_data["train"][0]
    assert (example["image"].size, example["image"].mode) == ((32, 32), "RGB")


def test_labels_are_the_groups(rows, image_data):
    group_of = {row["emoji"]: row["group"] for row in rows}
    for split in image_data.values():
        names = split.features["label"].int2str(split["label"][:])
        assert names == [group_of[emoji] for emoji in split["emoji"]]


def test_all_rows_are_loaded(rows, image_data, image_text_data):
    expected = Counter(row["split"] for row in rows)
    assert {name: len(split) for name, split in image_data.items()} == expected
    assert {name: len(split) for name, split in image_text_data.items()} == expected


def test_text_task(rows, text_data):
    assert set(text_data) == set(LEARNING_SPLITS)
    emoji = [e for split in text_data.values() for e in split["emoji"]]
    assert len(emoji) == len(set(emoji)) == len({row["emoji"] for row in rows})
    for split in text_data.values():
        assert split.column_names == ["text", "label", "emoji"]
        assert split.features["label"].names == list(GROUPS)
    assert text_data["train"][0] == {"text": "grinning face", "label": 0, "emoji": "😀"}


def test_text_and_image_splits_agree(text_data, image_data):
    for name, split in text_data.items():
        assert set(split["emoji"]) == set(image_data[name]["emoji"])


def test_image_text_task(image_text_data):
    train = image_text_data["train"]
    assert train.column_names == ["image", "caption", "keywords", "emoji", "artist", "group"]
    example = train[0]
    assert example["caption"] == "grinning face"
    assert "grin" in example["keywords"]
    assert example["group"] == "Smileys & Emotion"


def test_unseen_filter_of_the_docs(image_data):
    seen = set(image_data["train"]["emoji"])
    shifted = image_data["test_shifted"]
    unseen = shifted.filter(lambda emoji: emoji not in seen, input_columns="emoji")
    assert 0 < len(unseen) < len(shifted)
    assert not seen & set(unseen["emoji"])


def test_order_is_fixed(image_data):
    again = load_emoji("image")
    for name, split in image_data.items():
        assert split["emoji"][:] == again[name]["emoji"][:]
        assert split["artist"][:] == again[name]["artist"][:]


def test_split_membership_has_not_moved(image_data):
    # Results on this data are comparable only while this holds.
    names = " ".join(e for split in LEARNING_SPLITS for e in image_data[split]["emoji"])
    assert hashlib.sha256(names.encode()).hexdigest()[:16] == "22e54bae377b3c71"


def test_loading_writes_no_cache(image_data):
    assert all(split.cache_files == [] for split in image_data.values())


@pytest.mark.parametrize("task", ["images", "video", "", None, ["image"]])
def test_wrong_task_is_named_with_the_valid_ones(task):
    with pytest.raises(ValueError, match="is not known") as caught:
        load_emoji(task)
    for words in (repr(task), "Valid: image, image-text, text"):
        assert words in str(caught.value)


def test_wrong_task_suggests_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'image-text'"):
        load_emoji("image_text")


def test_missing_pillow_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(ImportError, match=r'pip install "hf-mixup\[vision\]"'):
        load_emoji("image")
    assert len(load_emoji("text")["train"]) > 0


def test_importing_the_loader_is_light():
    code = (
        "import sys, hf_mixup; before = set(sys.modules); import hf_mixup.data.emoji as m; "
        "assert callable(m.load_emoji); "
        "print({'datasets', 'pyarrow', 'PIL'} & (set(sys.modules) - before))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "set()"


def test_docstring_example_runs():
    results = doctest.testmod(emoji_module)
    assert results.attempted
    assert not results.failed
