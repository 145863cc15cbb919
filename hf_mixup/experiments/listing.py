"""The methods as rows of a table, for `hf-mixup methods`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

MODALITIES: dict[str, tuple[str, ...]] = {
    "image": ("image", "pixels", "float", "chosen"),
    "text": ("token", "text", "hidden states", "vectors"),
    "audio": ("audio", "waveform", "spectrogram", "float", "hidden states"),
    "video": ("video", "float", "hidden states"),
    "table": ("table", "float", "hidden states"),
    "pairs": ("pair",),
}
"""What is said of methods for a modality, one of these words at least."""


def listed(words: Sequence[str] = ()) -> list[dict[str, str]]:
    """Return name, title, what is blended, settings to begin with and paper of each method.

    Args:
        words: modalities, or words of a name or description; methods that lack one of them are left out.

    >>> [row["name"] for row in listed(["audio", "cut"])]
    ['cutmix']
    """
    from hf_mixup.methods import METHODS  # the modalities alone are to be known in a moment

    rows = [
        {"name": name, "method": kind.title, "blends": kind.blends, "begin with": kind.begin_with, "paper": kind.paper}
        for name, kind in METHODS.items()
    ]
    return [row for row in rows if all(_fits(word, row) for word in words)]


def _fits(word: str, row: Mapping[str, str]) -> bool:
    told = " ".join(row.values()).lower()
    return any(each in told for each in MODALITIES.get(word, (word.lower(),)))
