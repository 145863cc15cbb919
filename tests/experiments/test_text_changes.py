"""Typos, lost words and random tokens."""

from __future__ import annotations

import numpy as np
import pytest

from hf_mixup.experiments.evaluate import text_changes


def test_typos_by_share() -> None:
    text = "a quick brown fox, jumping over 3 lazy dogs " * 50
    for change in (*text_changes.CORRUPTIONS.values(), text_changes.replaced_letters):
        nothing = change(text, np.random.default_rng(0), share=0.0)
        assert nothing.split() == text.split(), change
        once, again = (change(text, np.random.default_rng(5), share=0.3) for _ in range(2))
        assert once == again
        assert once != text
    draws = np.random.default_rng(0)
    assert text_changes.dropped_words("one two", draws, share=1.0) in ("one", "two")
    assert text_changes.dropped_words("", draws, share=1.0) == ""
    kept = len(text_changes.dropped_words(text, draws, share=0.3).split()) / len(text.split())
    assert kept == pytest.approx(0.7, abs=0.06)
    assert text_changes.dropped_letters("a cat, 2 dogs", draws, share=1.0) == "a c, 2 d"
    assert sorted(text_changes.swapped_letters(text, draws, share=0.5)) == sorted(text)
    replaced = text_changes.replaced_letters("ab-c", draws, share=1.0)
    assert replaced[2] == "-"
    assert len(replaced) == 4


def test_random_tokens_keep_lengths_and_special_tokens() -> None:
    class Tokenizer:
        all_special_ids = (0, 1, 2)

        def __len__(self) -> int:
            return 50

    rows = [{"input_ids": [1, 7, 8, 9, 2], "attention_mask": [1] * 5, "labels": 3}] * 2
    noise = text_changes.RandomTokens(rows, Tokenizer(), (0, 1))
    first, second = noise[0]["input_ids"], noise[1]["input_ids"]
    assert (first[0], first[-1], len(first)) == (1, 2, 5)
    assert min(first[1:-1]) > 2
    assert first != second
    assert rows[0]["input_ids"] == [1, 7, 8, 9, 2]
