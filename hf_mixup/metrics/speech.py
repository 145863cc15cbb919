"""Scores of speech recognition: word and character error rates of texts, or of what a model and a tokenizer say."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_mixup.utils.constants import IGNORE_INDEX

if TYPE_CHECKING:
    from transformers import EvalPrediction


def transcription_metrics(predictions: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """Return word and character error rates, and the share of texts without an error.

    `wer` and `cer` are substitutions, deletions and insertions over all texts, divided by the words (characters) of all
    references; they exceed 1 where more is inserted than said. Upper and lower case and punctuation count: normalise
    both sides before, if they should not. Computed by jiwer (`pip install "hf-mixup[speech]"`).

    Args:
        predictions: what was recognised.
        references: what was said; an empty one adds the words recognised there as insertions.

    Raises:
        ValueError: if there are not as many of both, or no reference has a word.
        ImportError: jiwer is not installed.

    >>> transcription_metrics(["a red fox", "two"], ["a red ox", "two"])
    {'wer': 0.25, 'cer': 0.0909..., 'exact': 0.5}
    """
    if len(predictions) != len(references):
        raise ValueError(f"{len(predictions)} predictions for {len(references)} references: one for each is needed")
    if not any(each.strip() for each in references):
        raise ValueError(f"none of the {len(references)} references has a word: there is nothing to recognise")
    jiwer = _jiwer()
    own, found = list(references), list(predictions)
    exact = float(np.mean([one.split() == other.split() for one, other in zip(own, found)]))
    return {"wer": float(jiwer.wer(own, found)), "cer": float(jiwer.cer(own, found)), "exact": exact}


def text_errors(prediction: str, reference: str) -> tuple[int, int, int, int, int, int]:
    """Return wrong words, words, wrong characters, characters, 1 where the text is right, and 1: totals give the rates.

    >>> text_errors("a red fox", "a red ox")
    (1, 3, 1, 8, 0, 1)
    """
    counts = []
    for count in (_jiwer().process_words, _jiwer().process_characters):
        found = count(reference, prediction)
        counts += [found.substitutions + found.deletions + found.insertions, found.substitutions + found.deletions]
        counts[-1] += found.hits
    return (*counts, int(prediction.split() == reference.split()), 1)


def _jiwer() -> Any:
    try:
        import jiwer
    except ModuleNotFoundError as error:
        raise ImportError(
            'error rates of words need jiwer, which is not installed: pip install "hf-mixup[speech]"'
        ) from error
    return jiwer


def speech_metrics(eval_prediction: EvalPrediction, tokenizer: Any) -> dict[str, float]:
    """Return `transcription_metrics` of a model's predictions; for `compute_metrics`, by `functools.partial`.

    Args:
        eval_prediction: `predictions` are the logits of a model that learns by CTC, [N, T, C] (or a tuple that begins
            with them), read by the best token of each frame; or tokens that were generated, [N, U]
            (`predict_with_generate`). `label_ids` are tokens [N, U]. -100 is what the Trainer has padded with.
        tokenizer: one with `batch_decode` and `pad_token_id`, which is the blank of CTC; or a processor that has it.

    Raises:
        ValueError, ImportError: as `transcription_metrics`.

    >>> from types import SimpleNamespace
    >>> def batch_decode(tokens, **settings):
    ...     return [" ".join("-ab"[token] for token in each) for each in tokens]
    >>> tokenizer = SimpleNamespace(pad_token_id=0, batch_decode=batch_decode)
    >>> heard = SimpleNamespace(predictions=np.eye(3)[[[1, 1, 0, 2]]], label_ids=np.array([[1, 2, 1]]))
    >>> speech_metrics(heard, tokenizer)["wer"]  # "a b" for "a b a"
    0.3333333333333333
    """
    found = eval_prediction.predictions
    found = np.asarray(found[0] if isinstance(found, tuple) else found)
    return transcription_metrics(*texts_of(found, np.asarray(eval_prediction.label_ids), tokenizer))


def texts_of(predictions: np.ndarray, labels: np.ndarray, tokenizer: Any) -> tuple[list[str], list[str]]:
    """Return what was recognised and what was said, as texts; arguments as `speech_metrics` describes them."""
    tokenizer = getattr(tokenizer, "tokenizer", tokenizer)
    blank: int = tokenizer.pad_token_id
    tokens = _kept(predictions, blank) if predictions.ndim == 2 else best_path(predictions, blank)
    return _read(tokenizer, tokens), _read(tokenizer, _kept(labels, blank))


def best_path(logits: np.ndarray, blank: int) -> list[list[int]]:
    """Return the tokens that the best of each frame read as: repeated ones once, without blanks.

    Args:
        logits: [N, T, C]; frames that are -100 throughout are padding.

    Source: Graves et al. 2006, "Connectionist Temporal Classification", section 3.2 (best path decoding).

    >>> frames = np.eye(3)[[[1, 1, 0, 1, 2], [2, 0, 0, 0, 0]]]
    >>> best_path(frames, blank=0)
    [[1, 1, 2], [2]]
    """
    padded = (logits == IGNORE_INDEX).all(-1)
    best = np.where(padded, blank, logits.argmax(-1))
    return [[int(token) for token, _ in groupby(row) if token != blank] for row in best]


def _kept(ids: np.ndarray, pad: int) -> list[list[int]]:
    return [[int(token) for token in row if token not in (IGNORE_INDEX, pad)] for row in ids]


def _read(tokenizer: Any, tokens: list[list[int]]) -> list[str]:
    """Return the texts of tokens; a tokenizer for CTC is not to take those that are alike for frames of one."""
    return tokenizer.batch_decode(tokens, skip_special_tokens=True, group_tokens=False)
