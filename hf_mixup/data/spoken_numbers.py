"""The bundled speech: numbers below a thousand, said by synthetic voices and by one person.

About 1,400 utterances of one or two seconds, 8,000 samples a second, in one file that ships with the package: nothing
is downloaded. No speaker of a test is heard in training, and no number of a test.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hf_mixup.data.tables import read_table, split_table

if TYPE_CHECKING:
    import datasets

__all__ = ["load_spoken_numbers"]

RATE = 8_000
"""Samples a second."""

_SPLITS = ("train", "validation", "test", "test_shifted", "test_human")


def load_spoken_numbers() -> datasets.DatasetDict:
    """Load the bundled spoken numbers, each with what is said as its text.

    The voices of ``train``, ``validation`` and ``test`` are those of one synthesizer, eSpeak NG; each is in one split.
    Those of ``test_shifted`` are of another one, Flite, and were made from recordings of four people. In
    ``test_human`` a fifth person says the words one by one, as telephone systems put numbers together.

    Returns:
        Splits ``train``, ``validation``, ``test``, ``test_shifted`` and ``test_human`` with the columns ``audio`` (Ogg
        Opus files as ``{"bytes": ..., "path": None}``, not decoded, see below), ``text`` (in lower case, without
        punctuation), ``speaker`` and ``source`` (``"espeak-ng"``, ``"flite"`` or ``"asterisk"``). Rows are sorted by
        speaker, so shuffle the training split.

    Source:
        The synthesizers eSpeak NG and Flite, and the prompts of Asterisk (CC BY-SA 3.0). Credits and licences:
        ``LICENSES.md`` beside this module.

    Example:
        >>> from hf_mixup.data import load_spoken_numbers
        >>> data = load_spoken_numbers()
        >>> data["test_human"][0]["text"]
        'two hundred twelve'
        >>> data["train"][0]["audio"]["bytes"][:4]  # soundfile reads it; with torchcodec, cast the column to Audio()
        b'OggS'
    """
    import datasets

    text = datasets.Value("string")
    features = {
        "audio": datasets.Audio(sampling_rate=RATE, decode=False),
        "text": text,
        "speaker": text,
        "source": text,
    }
    table = read_table("spoken_numbers.parquet")
    return split_table(table, _SPLITS, features, "Spoken numbers bundled with hf-mixup.")
