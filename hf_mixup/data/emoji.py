"""The bundled emoji dataset: real colour images with captions and categories.

About 6,300 images of 1,900 emoji by four artists, 32 pixels a side, in one file that ships with the package: nothing is
downloaded. It is small enough to train on a laptop and hard enough to tell training methods apart, because train and
test hold different emoji.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

from hf_mixup.data.tables import read_table, split_table, with_label
from hf_mixup.utils.suggest import did_you_mean, require

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa

__all__ = ["ARTISTS", "GROUPS", "load_emoji"]

Task = Literal["image", "text", "image-text"]

GROUPS = (
    "Smileys & Emotion",
    "People & Body",
    "Animals & Nature",
    "Food & Drink",
    "Travel & Places",
    "Activities",
    "Objects",
    "Symbols",
    "Flags",
)
"""The Unicode groups in Unicode order: position ``i`` is label ``i``."""

ARTISTS = ("twemoji", "noto", "fluent", "fxemoji")
"""Who drew the images; the last one is held out of train, validation and test."""

_SPLITS = ("train", "validation", "test")
_SHIFTED = "test_shifted"
_COLUMNS = {
    "image": ("image", "label", "emoji", "artist"),
    "text": ("text", "label", "emoji"),
    "image-text": ("image", "caption", "keywords", "emoji", "artist", "group"),
}


def load_emoji(task: Task = "image") -> datasets.DatasetDict:
    """Load the bundled emoji images, captions and categories.

    Splits are drawn by emoji (70/10/20 within each group), never by image: no emoji of ``validation`` or ``test`` is in
    ``train``. Emoji that differ by gender or direction only, or that an artist drew alike, stay together in one split.

    ``test_shifted`` holds every image of one artist (``"fxemoji"``), of whom the other splits have none. It measures a
    change of style, so its emoji were *not* kept out of ``train``: most may have been seen there, drawn by others. For
    emoji as new as the artist, keep the unseen ones::

        seen = set(data["train"]["emoji"])
        unseen = data["test_shifted"].filter(lambda e: e not in seen, input_columns="emoji")

    That artist drew few flags, and flags are easy: compare accuracies on ``test`` and ``test_shifted`` group by group,
    or over the same emoji.

    Args:
        task: which columns to return.

            * ``"image"``: ``image`` (RGB, 32 pixels a side, white behind), ``label`` (a `ClassLabel` over the nine
              groups), ``emoji``, ``artist``.
            * ``"text"``: ``text`` (the caption), ``label``, ``emoji``; one row an emoji. Splits are those of the
              images, without ``test_shifted``: a caption has no artist.
            * ``"image-text"``: ``image``, ``caption``, ``keywords`` (a list of strings), ``emoji``, ``artist``,
              ``group``.

    Returns:
        Splits ``train``, ``validation``, ``test`` and, except for ``"text"``, ``test_shifted``. They live in memory:
        loading writes no cache file. Rows come in a fixed order, sorted by emoji, so shuffle the training split.

    Raises:
        ValueError: If ``task`` is not one of the three.
        ImportError: If Pillow is missing, for a task with images.

    Source:
        Twemoji (CC-BY 4.0), Noto Emoji (Apache-2.0), Fluent Emoji (MIT) and FxEmoji (CC-BY 4.0); captions and
        categories from Emojibase and Unicode CLDR. Credits and licences: ``LICENSES.md`` beside this module.

    Example:
        >>> from hf_mixup.data import load_emoji
        >>> data = load_emoji("image")
        >>> sorted(data)
        ['test', 'test_shifted', 'train', 'validation']
        >>> data["train"].features["label"].names[:2]
        ['Smileys & Emotion', 'People & Body']
        >>> data["train"][0]["image"].size
        (32, 32)
    """
    if task not in get_args(Task):
        raise ValueError(f"task={task!r} is not known: {did_you_mean(str(task), get_args(Task))}")
    if task != "text":
        require("decoding images needs", "PIL", "vision")  # told now, rather than at the first image
    import datasets

    table = with_label(read_table("emoji.parquet"), "group", GROUPS)
    table = table.append_column("text", table["caption"])
    if task == "text":
        table = one_row_an_emoji(table)
    text = datasets.Value("string")
    features = {
        "image": datasets.Image(mode="RGB"),
        "label": datasets.ClassLabel(names=list(GROUPS)),
        "keywords": datasets.List(text),
        **dict.fromkeys(("caption", "text", "emoji", "artist", "group"), text),
    }
    return split_table(
        table,
        _SPLITS if task == "text" else (*_SPLITS, _SHIFTED),
        {name: features[name] for name in _COLUMNS[task]},
        f"Emoji bundled with hf-mixup, for task {task!r}.",
    )


def one_row_an_emoji(table: pa.Table) -> pa.Table:
    """Return the first row of each emoji, with the split its text belongs to."""
    import pyarrow as pa
    import pyarrow.compute as pc

    # The held-out artist's rows say nothing of where an emoji belongs, so they go first;
    # every emoji was drawn by someone else too.
    table = table.filter(pc.not_equal(table["split"], _SHIFTED))
    emoji = table["emoji"].to_pylist()
    # Rows are sorted by emoji, so an emoji is new where it differs from the row before.
    first = [here != before for here, before in zip(emoji, [None, *emoji], strict=False)]
    return table.filter(pa.array(first))
