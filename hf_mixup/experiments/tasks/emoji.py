"""The bundled emoji, made into datasets for the text tasks: every split has other emoji than the others.

emoji_tokens       captions of several emoji in a row of words, each tagged with the group of its emoji
emoji_regression   caption -> how warm the colours of its images are
emoji_causal       a question about a caption -> its group
emoji_seq2seq      caption -> keywords
emoji_keywords     image and keywords -> group
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter
from typing import Any

import numpy as np
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value

from hf_mixup.data import load_emoji
from hf_mixup.data.emoji import GROUPS, one_row_an_emoji
from hf_mixup.data.tables import read_table, rows_of

TAGS = ("O", *(f"{place}-{group}" for group in GROUPS for place in "BI"))
_SPLITS = ("train", "validation", "test")  # as for the texts: a caption has no artist, so there is no shifted split
_CAPTIONS_A_ROW, _TRAIN_ROUNDS, _BACKGROUND = 3, 3, 0.97
_TEXT = Value("string")
_NAMES = {word.rstrip("s") for group in GROUPS for word in group.lower().split()}  # "animal", "flag", ...


def emoji_tokens() -> DatasetDict:
    """Rows of words `text` and tags `label` (IOB2): three captions, joined by "and", each a name of its group.

    Captions are put together at random, the same at every call; those of the training split three times over. Some
    have an "and" of their own, so that a name does not end at the first.

    >>> row = emoji_tokens()["train"][0]
    >>> len(row["text"]) == len(row["label"]), TAGS[row["label"][0]].startswith("B-")
    (True, True)
    """
    data = load_emoji("text")
    features = Features({"text": List(_TEXT), "label": List(ClassLabel(names=list(TAGS)))})
    made = {}
    for number, split in enumerate(_SPLITS):
        rows, generator = data[split], np.random.default_rng(number)
        rounds = _TRAIN_ROUNDS if split == "train" else 1
        order = np.concatenate([generator.permutation(len(rows)) for _ in range(rounds)])
        captions, groups = rows["text"][:], rows["label"][:]
        parts = [order[start : start + _CAPTIONS_A_ROW] for start in range(0, len(order), _CAPTIONS_A_ROW)]
        tagged = [_tagged([(captions[index], groups[index]) for index in part]) for part in parts]
        made[split] = Dataset.from_list(tagged, features=features)
    return DatasetDict(made)


def _tagged(captions: list[tuple[str, int]]) -> dict[str, list[Any]]:
    words, tags = [], []
    for position, (caption, group) in enumerate(captions):
        own = caption.split()
        words += ["and"] * (position > 0) + own
        tags += [0] * (position > 0) + [1 + 2 * group] + [2 + 2 * group] * (len(own) - 1)
    return {"text": words, "label": tags}


def emoji_regression() -> DatasetDict:
    """Rows of a caption `text` and `label`: mean red minus mean blue of what is drawn, in [-1, 1], over the artists.

    Fire is warm and water cold; of most things a caption tells the colour only in part. Needs Pillow.

    >>> rows = emoji_regression()["train"]
    >>> dict(zip(rows["text"], (round(value, 2) for value in rows["label"])))["snowflake"]
    -0.39
    """
    data = load_emoji("image-text")
    features = Features({"text": _TEXT, "label": Value("float32")})

    def rows(split: Dataset) -> Iterator[dict[str, Any]]:
        # The images of an emoji, all with one caption, stand together.
        for (_, caption), same in groupby(split, key=itemgetter("emoji", "caption")):
            yield {"text": caption, "label": float(np.mean([_warmth(np.asarray(row["image"])) for row in same]))}

    return DatasetDict({split: Dataset.from_list(list(rows(data[split])), features=features) for split in _SPLITS})


def _warmth(image: np.ndarray) -> float:
    pixels = image.astype(np.float64) / 255
    drawn = pixels.min(-1) < _BACKGROUND  # the rest is white
    return float((pixels[..., 0] - pixels[..., 2])[drawn].mean()) if drawn.any() else 0.0


def emoji_causal() -> DatasetDict:
    """Rows of a question `source` about a caption and its answer `target`, the name of the group.

    >>> emoji_causal()["train"][0]
    {'source': 'Which group of emoji is “grinning face” in?', 'target': 'Smileys & Emotion'}
    """
    return _texts("Which group of emoji is “{caption}” in?", "{group}")


def emoji_seq2seq() -> DatasetDict:
    """Rows of a caption `source` and `target`, the group and the subgroup under which Unicode files its emoji.

    >>> emoji_seq2seq()["train"][0]
    {'source': 'grinning face', 'target': 'Smileys & Emotion, face-smiling'}
    """
    return _texts("{caption}", "{group}, {subgroup}")


def emoji_keywords() -> DatasetDict:
    """Rows of an `image`, its keywords as `text`, and the group of the emoji as `label`.

    Words that name a group are left out of the keywords: the text does not hold the label. Where no other is left, the
    text is the caption.

    >>> row = emoji_keywords()["train"][0]
    >>> row["text"], GROUPS[row["label"]], row["image"].size
    ('cheerful cheery face grin grinning happy laugh nice smile smiling teeth', 'Smileys & Emotion', (32, 32))
    """
    data = load_emoji("image-text")

    def with_text(rows: Dataset) -> Dataset:
        pairs = zip(rows["keywords"], rows["caption"], strict=True)
        texts = [" ".join(_unnamed(keywords) or _unnamed(caption.split())) for keywords, caption in pairs]
        labels = [GROUPS.index(group) for group in rows["group"]]
        rows = rows.select_columns(["image", "emoji"]).add_column("text", texts)
        return rows.add_column("label", labels, feature=ClassLabel(names=list(GROUPS)))

    return DatasetDict({split: with_text(rows) for split, rows in data.items()})


def _unnamed(words: list[str]) -> list[str]:
    return [word for word in words if word.lower().rstrip("s:") not in _NAMES]


def _texts(source: str, target: str) -> DatasetDict:
    """Fill two templates with the columns of the bundled table."""
    table = one_row_an_emoji(read_table("emoji.parquet")).drop_columns(["image"])
    features = Features({"source": _TEXT, "target": _TEXT})

    def rows(split: str) -> list[dict[str, str]]:
        columns = rows_of(table, split).to_pylist()
        return [{"source": source.format(**row), "target": target.format(**row)} for row in columns]

    return DatasetDict({split: Dataset.from_list(rows(split), features=features) for split in _SPLITS})
