"""Changes of texts: typos, lost words, and random tokens as out-of-distribution samples."""

from __future__ import annotations

import string
from collections.abc import Callable
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from hf_mixup.experiments.tasks.labels import with_column

TextChange = Callable[[str, np.random.Generator], str]
SHARES = (0.05, 0.1, 0.2, 0.35, 0.5)
"""Shares of letters or words that are changed, by severity."""


def swapped_letters(text: str, draws: np.random.Generator, share: float) -> str:
    """Swap letters with the next one in their word, each with a chance of `share`.

    >>> swapped_letters("a cat", np.random.default_rng(0), share=1.0)
    'a atc'
    """
    letters = list(text)
    for start in range(len(letters) - 1):
        pair = letters[start : start + 2]
        if all(map(str.isalnum, pair)) and draws.random() < share:
            letters[start : start + 2] = pair[::-1]
    return "".join(letters)


def dropped_letters(text: str, draws: np.random.Generator, share: float) -> str:
    """Leave out letters, each with a chance of `share`; each word keeps its first."""
    inner = [before.isalnum() and each.isalnum() for before, each in zip(" " + text, text)]
    gone = draws.random(len(text)) < share
    return "".join(each for each, within, lost in zip(text, inner, gone, strict=True) if not (within and lost))


def dropped_words(text: str, draws: np.random.Generator, share: float) -> str:
    """Leave out words, each with a chance of `share`; at least one stays."""
    words = text.split()
    if not words:
        return text
    stay = draws.random(len(words)) >= share
    stay[draws.integers(len(words))] |= not stay.any()
    return " ".join(word for word, stays in zip(words, stay, strict=True) if stays)


def replaced_letters(text: str, draws: np.random.Generator, share: float) -> str:
    """Replace letters by random ones from a to z, each with a chance of `share`."""
    gone, others = draws.random(len(text)) < share, draws.choice(list(string.ascii_lowercase), len(text))
    return "".join(
        str(other) if lost and each.isalnum() else each for each, other, lost in zip(text, others, gone, strict=True)
    )


CORRUPTIONS = {each.__name__: each for each in (swapped_letters, dropped_letters, dropped_words)}


def changed_texts(rows: Any, column: str, change: TextChange, entropy: tuple[int, ...]) -> Any:
    """Return rows with changed texts; the draws of a row depend on the entropy and its index alone."""
    texts = [
        change(text, np.random.default_rng(np.random.SeedSequence((*entropy, row))))
        for row, text in enumerate(rows[column])
    ]
    return with_column(rows, column, texts, rows.features[column])


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
