"""The bundled recordings: single notes of twelve instruments, to tell apart by ear.

About 1,100 clips of half a second, 8,000 samples a second, in one file that ships with the package: nothing is
downloaded. Train and test hold different recordings, and the shifted test other players and instruments.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hf_mixup.data.tables import read_table, split_table, with_label

if TYPE_CHECKING:
    import datasets

__all__ = ["INSTRUMENTS", "RATE", "load_instruments"]

INSTRUMENTS = (
    "piano",
    "organ",
    "xylophone",
    "harp",
    "guitar",
    "bass",
    "violin",
    "trumpet",
    "trombone",
    "saxophone",
    "bassoon",
    "flute",
)
"""Position ``i`` is label ``i``."""

RATE = 8_000
"""Samples a second."""

_SPLITS = ("train", "validation", "test", "test_shifted")


def load_instruments() -> datasets.DatasetDict:
    """Load the bundled notes of instruments, each with the instrument's name as its class.

    The notes of ``train``, ``validation`` and ``test`` are played from the recordings of one soundfont, hard and soft.
    Splits are drawn by recording: notes made from one recording (a soundfont has one for every few keys) stay together.
    ``test_shifted`` holds notes that other people recorded of other instruments.

    Returns:
        Splits ``train``, ``validation``, ``test`` and ``test_shifted`` with the columns ``audio`` (FLAC files as
        ``{"bytes": ..., "path": None}``, not decoded, see below), ``label`` (a `ClassLabel` over the instruments),
        ``key`` (MIDI number: 60 is the middle C), ``recording``, and ``source`` (``"fluidr3"`` or ``"tonejs"``). Rows
        are sorted by instrument, so shuffle the training split.

    Source:
        The FluidR3 soundfont (MIT) and the samples of tonejs-instruments (CC BY 3.0). Credits and licences:
        ``LICENSES.md`` beside this module.

    Example:
        >>> from hf_mixup.data import load_instruments
        >>> data = load_instruments()
        >>> data["train"].features["label"].names[:3]
        ['piano', 'organ', 'xylophone']
        >>> data["train"][0]["audio"]["bytes"][:4]  # soundfile reads it; with torchcodec, cast the column to Audio()
        b'fLaC'
    """
    import datasets

    text = datasets.Value("string")
    features = {
        "audio": datasets.Audio(sampling_rate=RATE, decode=False),
        "label": datasets.ClassLabel(names=list(INSTRUMENTS)),
        "key": datasets.Value("int32"),
        "recording": text,
        "source": text,
    }
    table = with_label(read_table("instruments.parquet"), "instrument", INSTRUMENTS)
    return split_table(table, _SPLITS, features, "Notes of instruments bundled with hf-mixup.")
