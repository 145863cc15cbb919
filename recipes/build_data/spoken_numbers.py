"""Rebuild ``hf_mixup/data/spoken_numbers.parquet`` from its pinned sources.

Usage: ``python spoken_numbers.py [--output FILE] [--work DIRECTORY]``; see README.md beside this file. The
recordings go to a temporary directory, never into the checkout.
"""

from __future__ import annotations

import hashlib
import io
import random
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import datasets
import numpy as np
import pyarrow as pa
import soundfile
from scipy.signal import resample_poly
from writing import write

SEED = "hf-mixup numbers 1"  # change it to draw other splits
RATE = 8_000
PROMPTS = "asterisk-core-sounds-en-wav=1.6.1-1"
PAUSE, MARGIN = 0.06, 0.03  # seconds between two recorded words, and around an utterance
HELD_OUT = 0.3  # share of the numbers that are not trained on

ACCENTS = "en en-us en-gb-scotland en-gb-x-gbclan en-gb-x-rp en-gb-x-gbcwmd en-029 en-us-nyc".split()
VARIANTS = """
    m1 m2 m3 m4 m5 m6 m7 m8 f1 f2 f3 f4 f5 klatt klatt2 klatt3 klatt4 adam Alex Alicia Andrea Andy Annie antonio aunty
    belinda benjamin boris caleb david Denis Diogo ed edward Gene grandma grandpa gustave Henrique Hugo iven
    Jacky john Lee linda marcelo Marco max Michael michel miguel mike norbert pablo paul pedro quincy rob robert sandro
    shelby steph travis victor Zac anika
""".split()
FLITE = ("awb", "kal16", "rms", "slt")

# Split -> who speaks in it, and how many utterances there are of each speaker.
A_SPEAKER = {"train": 5, "validation": 10, "test": 12, "test_shifted": 28, "test_human": 100}
ACCENTS_A_VARIANT = {"train": 4, "validation": 1, "test": 1}
HELD_OUT_VARIANTS = {"validation": 6, "test": 10}

ONES = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen".split()
ONES += "seventeen eighteen nineteen".split()
TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()


class Utterance(NamedTuple):
    """Who says which number where."""

    split: str
    source: str
    speaker: str
    number: int


def lot(*parts: object) -> str:
    """Return a hash to sort and draw by, the same on every machine."""
    return hashlib.sha256(" ".join(map(str, (SEED, *parts))).encode()).hexdigest()


def words(number: int) -> list[str]:
    """Return how a number below a thousand is said."""
    if number >= 100:
        rest = words(number % 100) if number % 100 else []
        return [ONES[number // 100], "hundred", *rest]
    if number < 20:
        return [ONES[number]]
    return [TENS[number // 10 - 2], *([ONES[number % 10]] if number % 10 else [])]


def speakers() -> Iterator[tuple[str, str, str]]:
    """Yield split, source and name of each speaker; a variant of a voice is in one split only, with all its accents."""
    shuffled = sorted(VARIANTS, key=lambda name: lot("variant", name))
    splits = [split for split, count in HELD_OUT_VARIANTS.items() for _ in range(count)]
    for number, variant in enumerate(shuffled):
        split = splits[number] if number < len(splits) else "train"
        for accent in sorted(ACCENTS, key=lambda name: lot("accent", variant, name))[: ACCENTS_A_VARIANT[split]]:
            yield split, "espeak-ng", f"{accent}+{variant}"
    for name in FLITE:
        yield "test_shifted", "flite", name
    yield "test_human", "asterisk", "Allison Smith"


def utterances() -> list[Utterance]:
    """Draw the numbers that each speaker says: two thirds have three digits."""
    held_out = {number for number in range(1000) if int(lot("number", number), 16) % 1000 < 1000 * HELD_OUT}
    pools = {False: sorted(set(range(1000)) - held_out), True: sorted(held_out)}
    made = []
    for split, source, speaker in speakers():
        draws = random.Random(lot("draw", split, speaker))
        pool = pools[split.startswith("test")]
        few = [number for number in pool if number < 100]
        taken: dict[int, None] = {}
        while len(taken) < A_SPEAKER[split]:
            taken.setdefault(draws.choice(few if draws.random() < 1 / 3 and len(taken) < len(few) else pool))
        made += [Utterance(split, source, speaker, number) for number in taken]
    return made


def spoken(said: Utterance, prompts: Path) -> np.ndarray:
    """Return an utterance, at `RATE`."""
    if said.source == "asterisk":
        return recorded(words(said.number), prompts)
    draws = random.Random(lot("voice", said.speaker))  # a speaker has one pitch
    pitch = draws.randint(20, 80)
    tempo = random.Random(lot("tempo", *said)).uniform(0.85, 1.2)
    text = " ".join(words(said.number))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "said.wav")
        if said.source == "espeak-ng":
            flags = ["-v", said.speaker, "-p", str(pitch), "-s", str(round(170 * tempo)), "-w", str(file)]
            subprocess.run(["espeak-ng", *flags, text], check=True)
        else:
            stretch = f"duration_stretch={1 / tempo:.3f}"
            subprocess.run(
                ["flite", "-voice", said.speaker, "--setf", stretch, "-t", text, "-o", str(file)], check=True
            )
        return trimmed(*soundfile.read(file))


def recorded(said: list[str], prompts: Path) -> np.ndarray:
    """Return recorded words one after the other."""
    pause = np.zeros(round(PAUSE * RATE))
    parts = [part for word in said for part in (trimmed(*soundfile.read(prompts / f"{digits(word)}.wav")), pause)]
    return np.concatenate(parts[:-1])


def digits(word: str) -> str:
    """Return what the recording of a word is called."""
    if word in ONES:
        return str(ONES.index(word))
    return str(10 * TENS.index(word) + 20) if word in TENS else word


def trimmed(audio: np.ndarray, rate: int) -> np.ndarray:
    """Return audio at `RATE`, without the silence before and after it."""
    small = resample_poly(audio, RATE, rate)
    heard = np.flatnonzero(np.abs(small) > 0.02 * np.abs(small).max())
    margin = round(MARGIN * RATE)
    return small[max(0, heard[0] - margin) : heard[-1] + margin]


def opus(audio: np.ndarray) -> bytes:
    """Return audio as a small Ogg Opus file, at a common level."""
    buffer = io.BytesIO()
    loud = 0.7 * audio / np.abs(audio).max()
    soundfile.write(buffer, loud, RATE, format="OGG", subtype="OPUS", compression_level=1.0)
    return buffer.getvalue()


def get_prompts(work: Path) -> Path:
    """Download the recordings of digits (a Debian package); return their folder."""
    folder = work / "usr/share/asterisk/sounds/en_US_f_Allison/digits"
    if not folder.exists():
        subprocess.run(["apt-get", "download", PROMPTS], cwd=work, check=True)
        subprocess.run(["dpkg", "-x", str(next(work.glob("asterisk-core-sounds*.deb"))), str(work)], check=True)
    return folder


def build(work: Path) -> pa.Table:
    """Return the finished table, one row an utterance, by split and speaker."""
    prompts = get_prompts(work)
    rows = [
        {
            "audio": {"bytes": opus(spoken(said, prompts)), "path": None},
            "text": " ".join(words(said.number)),
            "speaker": said.speaker,
            "source": said.source,
            "split": said.split,
        }
        for said in utterances()
    ]
    text = datasets.Value("string")
    columns = dict.fromkeys(("text", "speaker", "source", "split"), text)
    features = datasets.Features({"audio": datasets.Audio(sampling_rate=RATE), **columns})
    # This schema also tells `load_dataset("parquet", ...)` that the bytes are audio.
    return pa.Table.from_pylist(rows, schema=features.arrow_schema)


def main() -> None:
    """Build and describe the file."""
    table = write(__doc__, "spoken_numbers.parquet", build)
    grouped = table.group_by(["split", "source"])
    for row in grouped.aggregate([("speaker", "count_distinct"), ("text", "count")]).to_pylist():
        print(f"{row['split']:13} {row['source']:10} {row['speaker_count_distinct']:3} speakers {row['text_count']}")


if __name__ == "__main__":
    main()
