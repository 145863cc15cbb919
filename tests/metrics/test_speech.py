"""Error rates of words and characters, against an edit distance by recursion."""

from __future__ import annotations

import json
import random
import sys
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import Trainer, Wav2Vec2CTCTokenizer

from hf_mixup import metrics
from tests.recordings import recogniser, recordings

pytest.importorskip("jiwer")


def distance(one: tuple[str, ...], other: tuple[str, ...]) -> int:
    @cache
    def between(i: int, j: int) -> int:
        if not i or not j:
            return i + j
        same = between(i - 1, j - 1) + (one[i - 1] != other[j - 1])
        return min(same, between(i - 1, j) + 1, between(i, j - 1) + 1)

    return between(len(one), len(other))


def texts(seed: int) -> list[str]:
    rng = random.Random(seed)
    return [" ".join(rng.choices(["a", "be", "sea", "deer"], k=rng.randint(0, 6))) for _ in range(20)]


@pytest.mark.parametrize("seed", range(3))
def test_they_are_edits_over_all_texts(seed: int) -> None:
    found, own = texts(seed), texts(seed + 100)
    scores = metrics.transcription_metrics(found, own)
    words = sum(distance(tuple(a.split()), tuple(b.split())) for a, b in zip(found, own))
    letters = sum(distance(tuple(a), tuple(b)) for a, b in zip(found, own))
    assert scores["wer"] == pytest.approx(words / sum(len(each.split()) for each in own))
    assert scores["cer"] == pytest.approx(letters / sum(map(len, own)))
    assert scores["exact"] == np.mean([a == b for a, b in zip(found, own)])
    assert metrics.transcription_metrics(own, own) == {"wer": 0, "cer": 0, "exact": 1}


def test_bad_input(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="1 predictions for 2 references"):
        metrics.transcription_metrics(["a"], ["a", "b"])
    with pytest.raises(ValueError, match="none of the 2 references has a word"):
        metrics.transcription_metrics(["a", "b"], ["", " "])
    monkeypatch.setitem(sys.modules, "jiwer", None)
    with pytest.raises(ImportError, match=r'pip install "hf-mixup\[speech\]"'):
        metrics.transcription_metrics(["a"], ["a"])


def test_the_module_of_evaluate(tmp_path: Path) -> None:
    module = metrics.load("transcription", cache_dir=str(tmp_path))
    found, own = texts(1), texts(2)
    for start in (0, 10):
        module.add_batch(predictions=found[start : start + 10], references=own[start : start + 10])
    assert module.compute() == metrics.transcription_metrics(found, own)


@pytest.fixture
def tokenizer(tmp_path: Path) -> Wav2Vec2CTCTokenizer:
    """Make a tokenizer of letters whose blank is not token 0."""
    letters = ["|", "a", "b", "c", "<pad>", "<s>", "</s>", "<unk>", *"defghijklmno"]
    (tmp_path / "vocab.json").write_text(json.dumps({each: number for number, each in enumerate(letters)}))
    return Wav2Vec2CTCTokenizer(str(tmp_path / "vocab.json"))


def test_logits_are_read_by_the_best_path(tokenizer: Wav2Vec2CTCTokenizer) -> None:
    """Doubled letters of the labels stay, those of frames are one; padded frames say nothing."""
    blank = tokenizer.pad_token_id
    frames = np.eye(8)[[[1, 1, blank, 1, 2, 0, 3, 3], [3, blank, 3, 2, 2, blank, blank, blank]]]
    frames[1, 5:] = -100
    labels = np.array([[1, 1, 2, 0, 3], [3, 3, 2, -100, -100]])  # "aab c", "ccb"
    rows: Any = SimpleNamespace(predictions=(frames, None), label_ids=labels)
    assert metrics.speech_metrics(rows, tokenizer) == {"wer": 0, "cer": 0, "exact": 1}
    rows.label_ids = np.array([[1, 2, 0, 3, -100], [3, 3, 2, -100, -100]])  # "ab c", of which "aab c" was heard
    assert metrics.speech_metrics(rows, tokenizer)["wer"] == pytest.approx(1 / 3)
    assert metrics.speech_metrics(rows, SimpleNamespace(tokenizer=tokenizer))["cer"] == pytest.approx(1 / 7)


def test_generated_tokens(tokenizer: Wav2Vec2CTCTokenizer) -> None:
    rows: Any = SimpleNamespace(
        predictions=np.array([[5, 1, 1, 6, 4], [5, 2, 6, 4, 4]]), label_ids=np.array([[1, 1, 6], [3, 6, -100]])
    )
    assert metrics.speech_metrics(rows, tokenizer) == {"wer": 0.5, "cer": pytest.approx(1 / 3), "exact": 0.5}


def test_a_trainer_scores_while_it_evaluates(tokenizer: Wav2Vec2CTCTokenizer, arguments: Any) -> None:
    model, data = recogniser(pad_token_id=tokenizer.pad_token_id), recordings(5)
    for each in data:
        each["labels"] = each["labels"].where(each["labels"] < 0, each["labels"] % 3 + 1)
    score = partial(metrics.speech_metrics, tokenizer=tokenizer)
    found = Trainer(model, arguments(), eval_dataset=data, compute_metrics=score).evaluate()
    with torch.no_grad():
        heard = [metrics.best_path(model.eval()(each["input_values"][None]).logits.numpy(), 4)[0] for each in data]
    said = [[int(token) for token in each["labels"] if token >= 0] for each in data]
    decode = partial(tokenizer.batch_decode, group_tokens=False, skip_special_tokens=True)
    expected = metrics.transcription_metrics(decode(heard), decode(said))
    assert found["eval_wer"] == pytest.approx(expected["wer"])
    assert found["eval_cer"] == pytest.approx(expected["cer"])
