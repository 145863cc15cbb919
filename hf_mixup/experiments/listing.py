"""The methods as rows of a table, for `hf-mixup methods`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hf_mixup.utils.constants import MODALITIES

if TYPE_CHECKING:
    from hf_mixup.methods import Method


def listed(words: Sequence[str] = ()) -> list[dict[str, str]]:
    """Return name, title, what is blended, settings to begin with and paper of each method.

    Args:
        words: modalities, or words of a name or description; methods that lack one of them are left out.

    >>> [row["name"] for row in listed(["audio", "cut"])]
    ['cutmix', 'switch']
    """
    from hf_mixup.methods import METHODS

    return [_row(kind) for kind in METHODS.values() if all(_fits(word, kind) for word in words)]


def _row(kind: type[Method]) -> dict[str, str]:
    return {
        "name": kind.name,
        "method": kind.title,
        "blends": kind.blends,
        "begin with": kind.begin_with,
        "paper": kind.paper,
    }


def _fits(word: str, kind: type[Method]) -> bool:
    """Whether a method mixes a modality, or its row has a word."""
    if word in MODALITIES:
        return word in kind.modalities
    return word.lower() in " ".join(_row(kind).values()).lower()
