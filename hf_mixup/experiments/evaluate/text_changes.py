"""Changes of texts: typos, lost words, and random tokens as out-of-distribution samples."""

from __future__ import annotations

import string
from collections.abc import Callable
from typing import Any

import numpy as np
from torch.utils.data import Dataset

TextChange = Callable[[str, np.random.Generator], str]
SHARES = (0.05, 0.1, 0.2, 0.35, 0.5)
"""Shares of letters or words that are changed, by severity."""


def swapped_letters(share: float) -> TextChange:
    """Return the change that swaps letters with the one behind them in their word, each with a chance of `share`.

    >>> swapped_letters(1.0)("a cat", np.random.default_rng(0))
    'a atc'
    """

    def changed(text: str, draws: np.random.Generator) -> str:
        letters = list(text)
        for position in range(len(letters) - 1):
            pair = letters[position : position + 2]
            if all(map(str.isalnum, pair)) and draws.random() < share:
                letters[position : position + 2] = pair[::-1]
        return "".join(letters)

    return changed


def dropped_letters(share: float) -> TextChange:
    """Return the change that leaves out letters, each with a chance of `share`; each word keeps its first."""

    def changed(text: str, draws: np.random.Generator) -> str:
        inner = [position > 0 and each.isalnum() and text[position - 1].isalnum() for position, each in enumerate(text)]
        gone = draws.random(len(text)) < share
        return "".join(each for position, each in enumerate(text) if not (inner[position] and gone[position]))

    return changed


def dropped_words(share: float) -> TextChange:
    """Return the change that leaves out words, each with a chance of `share`; one at least stays."""

    def changed(text: str, draws: np.random.Generator) -> str:
        words = text.split()
        if not words:
            return text
        stay = draws.random(len(words)) >= share
        stay[draws.integers(len(words))] |= not stay.any()
        return " ".join(word for word, stays in zip(words, stay, strict=True) if stays)

    return changed


def replaced_letters(share: float) -> TextChange:
    """Return the change that puts a random letter from a to z in place of letters, with a chance of `share`."""
    alphabet = np.array(list(string.ascii_lowercase))

    def changed(text: str, draws: np.random.Generator) -> str:
        gone, others = draws.random(len(text)) < share, draws.choice(alphabet, len(text))
        return "".join(
            str(others[position]) if gone[position] and each.isalnum() else each for position, each in enumerate(text)
        )

    return changed


CORRUPTIONS: dict[str, Callable[[float], TextChange]] = {
    "swapped_letters": swapped_letters,
    "dropped_letters": dropped_letters,
    "dropped_words": dropped_words,
}


def changed_texts(rows: Any, column: str, change: TextChange, entropy: tuple[int, ...]) -> Any:
    """Return rows with changed texts; the draws of a row depend on the entropy and its index alone."""
    texts = [
        change(text, np.random.default_rng(np.random.SeedSequence((*entropy, row))))
        for row, text in enumerate(rows[column])
    ]
    feature = rows.features[column]
    return rows.remove_columns(column).add_column(column, texts, feature=feature)


class RandomTokens(Dataset):
    """Rows whose tokens are drawn anew from the whole vocabulary; special tokens and lengths stay."""

    def __init__(self, rows: Any, tokenizer: Any, entropy: tuple[int, ...]) -> None:
        self.rows, self.entropy = rows, entropy
        self.special = np.array(sorted(tokenizer.all_special_ids))
        self.drawn = np.setdiff1d(np.arange(len(tokenizer)), self.special)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        row = dict(self.rows[index])
        ids = np.array(row["input_ids"])
        draws = np.random.default_rng(np.random.SeedSequence((*self.entropy, index)))
        row["input_ids"] = np.where(np.isin(ids, self.special), ids, draws.choice(self.drawn, len(ids))).tolist()
        return row
