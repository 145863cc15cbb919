"""Audio clips: the bundled notes, any files of a user's own, and classification with mixing."""

from __future__ import annotations

import hashlib
import io
import json
from collections import Counter, defaultdict
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset, Features, Value

from hf_mixup import cli
from hf_mixup.data import load_instruments
from hf_mixup.data.instruments import INSTRUMENTS, RATE
from hf_mixup.engine.config import MixupConfig
from hf_mixup.experiments.tasks import TaskArguments
from hf_mixup.experiments.tasks.audio import AudioCollator, AudioRows, decoded, load_feature_extractor, resampled
from hf_mixup.experiments.tasks.data import load_splits
from hf_mixup.experiments.tasks.prepare import check_mixing, prepare

soundfile = pytest.importorskip("soundfile")

AST = {
    **{"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2},
    **{"num_mel_bins": 32, "max_length": 24, "frequency_stride": 16, "time_stride": 8},
}
WAVE = {
    **{"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2},
    **{"conv_dim": [8, 8], "conv_kernel": [32, 8], "conv_stride": [16, 8], "feat_extract_norm": "layer"},
    **{"num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2, "classifier_proj_size": 8},
}
SMALL = {
    **{"task": "audio-classification", "audio_rate": 8000, "max_train_samples": 24, "max_eval_samples": 12},
    **{"model_type": "audio-spectrogram-transformer", "config_overrides": AST},
}


def small(**settings: Any) -> TaskArguments:
    return TaskArguments(**{**SMALL, **settings})


def run(tmp_path: Path, *arguments: str, command: str = "train", **settings: Any) -> int:
    path = tmp_path / "c.yaml"
    training = {"max_steps": 2, "per_device_train_batch_size": 8, "use_cpu": True, "report_to": "none"}
    path.write_text(json.dumps({**SMALL, **training, "output_dir": str(tmp_path / "out"), **settings}))
    return cli.main([command, str(path), *arguments])


def tone(seconds: float, rate: int = RATE, pitch: float = 440.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * pitch * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


@pytest.fixture(scope="module")
def notes() -> Any:
    return load_instruments()


# The bundled notes


def test_notes_of_one_recording_stay_in_one_split(notes: Any) -> None:
    splits, files = defaultdict(set), Counter()
    for split, rows in notes.items():
        for row in rows:
            splits[row["source"], row["label"], row["recording"]].add(split)
            files[hashlib.sha256(row["audio"]["bytes"]).hexdigest()] += 1
    assert all(len(found) == 1 for found in splits.values())
    assert {source for (source, _, _), found in splits.items() if found == {"test_shifted"}} == {"tonejs"}
    assert max(files.values()) == 1


def test_every_split_has_every_instrument(notes: Any) -> None:
    for split, least in (("train", 20), ("validation", 5), ("test", 10), ("test_shifted", 8)):
        counts = Counter(notes[split]["label"])
        assert set(counts) == set(range(len(INSTRUMENTS)))
        assert min(counts.values()) >= least
    assert sum(map(len, notes.values())) > 1000
    assert len(resources.files("hf_mixup.data").joinpath("instruments.parquet").read_bytes()) < 4_000_000
    assert all(rows.cache_files == [] for rows in notes.values())


def test_notes_are_heard_at_their_pitch(notes: Any) -> None:
    """Of flutes and violins, the period of the key is that of the audio."""
    wrong = []
    for split in ("test", "test_shifted"):
        for row in notes[split]:
            if INSTRUMENTS[row["label"]] in ("flute", "violin"):
                audio, rate = soundfile.read(io.BytesIO(row["audio"]["bytes"]))
                assert (len(audio), rate) == (4000, RATE)
                period = RATE / (440 * 2 ** ((row["key"] - 69) / 12))
                delays = [round(period * turns) for turns in (1, 1.5)]
                same, between = (np.corrcoef(audio[1500:3500], audio[1500 + d : 3500 + d])[0, 1] for d in delays)
                wrong.append(same < between)
    assert np.mean(wrong) < 0.1  # a source may name an octave otherwise, or a player be late


def test_licences_name_the_sources(notes: Any) -> None:
    text = resources.files("hf_mixup.data").joinpath("LICENSES.md").read_text(encoding="utf-8")
    for source in {source for rows in notes.values() for source in rows["source"]}:
        assert f"`{source}`" in text
    assert "CC BY 3.0" in text
    assert "Frank Wen" in text


def test_membership_has_not_moved(notes: Any) -> None:
    # Results on this data are comparable only while this holds.
    names = " ".join(
        f"{row['recording']} {row['key']}" for split in notes for row in notes[split].remove_columns("audio")
    )
    assert hashlib.sha256(names.encode()).hexdigest()[:16] == "653010d8ed6aaf8a"


# Files of a user's own


def test_resampling_keeps_pitch_and_level() -> None:
    for rate in (8000, 11025, 44100):
        heard = resampled(tone(0.5, rate), rate, 16000)
        assert len(heard) == pytest.approx(8000, abs=2)
        spectrum = np.abs(np.fft.rfft(heard[1000:5000]))
        assert np.argmax(spectrum) * 16000 / 4000 == pytest.approx(440, abs=4)
        assert heard[1000:5000].std() == pytest.approx(0.5 / np.sqrt(2), rel=0.02)


def test_stereo_files_of_several_kinds_are_read(tmp_path: Path) -> None:
    both = np.stack([tone(0.3), 0 * tone(0.3)], axis=1)
    for name in ("a.wav", "a.flac", "a.ogg"):
        soundfile.write(tmp_path / name, both, RATE)
        heard = decoded({"path": str(tmp_path / name), "bytes": None}, RATE, "row 0")
        assert np.abs(heard[200:2000] - tone(0.3)[200:2000] / 2).max() < 0.05


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        (None, "row 3: no audio, found NoneType"),
        ({"bytes": b"no audio", "path": None}, "row 3: the audio  cannot be read"),
        ({"bytes": None, "path": "nowhere.wav"}, "row 3: the audio nowhere.wav cannot be read"),
    ],
)
def test_broken_audios_are_named(audio: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decoded(audio, RATE, "row 3")


def test_a_table_of_files_and_a_folder_of_classes(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for name in ("high", "low"):
            (tmp_path / "data" / split / name).mkdir(parents=True)
            for number in range(4):
                pitch = (800 if name == "high" else 200) + 10 * number
                soundfile.write(tmp_path / "data" / split / name / f"{number}.wav", tone(0.3, pitch=pitch), RATE)
    table = [
        "file,class",
        *(f"data/train/{name}/{number}.wav,{name}" for name in ("high", "low") for number in range(4)),
    ]
    (tmp_path / "table.csv").write_text("\n".join(table))
    everything = {"max_train_samples": None, "max_eval_samples": None}
    folder = load_splits(small(dataset=str(tmp_path / "data"), **everything))
    listed = load_splits(
        small(dataset=str(tmp_path / "table.csv"), audio_column="file", label_column="class", **everything)
    )
    assert folder.label_names == listed.label_names == ["high", "low"]
    for splits, task in ((folder, small()), (listed, small(audio_column="file", label_column="class"))):
        rows = AudioRows(splits.train, load_feature_extractor(task), task)
        assert rows.waveform(0).shape == (2400,)
        assert rows[0]["input_values"].shape == (24, 32)
    (tmp_path / "table.csv").write_text("\n".join([*table, "data/train/high/9.wav,high"]))
    with pytest.raises(ValueError, match=r"row 8: no such file: .*9.wav: mend audio column 'file' or drop the row"):
        load_splits(small(dataset=str(tmp_path / "table.csv"), audio_column="file", label_column="class"))
    numbers = Dataset.from_dict(
        {"audio": [1.0, 2.0], "label": [0, 1]}, Features(audio=Value("float32"), label=Value("int64"))
    )
    numbers.save_to_disk(str(tmp_path / "numbers"))
    with pytest.raises(ValueError, match="audio column 'audio' holds Value"):
        load_splits(small(dataset=str(tmp_path / "numbers")))


def test_long_audios_are_cut_and_short_ones_padded_with_their_mask(tmp_path: Path) -> None:
    clips = []
    for number, seconds in enumerate((0.2, 0.5, 3.0)):
        soundfile.write(tmp_path / f"{number}.wav", tone(seconds), RATE)
        clips.append({"audio": {"path": str(tmp_path / f"{number}.wav"), "bytes": None}, "label": number})
    task = small(model_type="hubert", config_overrides=WAVE, max_seconds=1.0)
    extractor = load_feature_extractor(task)
    batch = AudioCollator(extractor)(list(AudioRows(_as_rows(clips), extractor, task)))
    assert batch["input_values"].shape == (3, 8000)
    assert batch["attention_mask"].sum(-1).tolist() == [1600, 4000, 8000]
    assert batch["labels"].tolist() == [0, 1, 2]
    assert not batch["input_values"][0, 1600:].any()


def _as_rows(clips: list[dict[str, Any]]) -> Dataset:
    return Dataset.from_list(clips)  # a feature Audio would want torchcodec to encode them


def test_features_are_kept_and_the_same_when_they_are_not() -> None:
    rows = load_splits(small(max_train_samples=5)).train
    kept, anew = (AudioRows(rows, load_feature_extractor(small()), small(cache_images=keep)) for keep in (True, False))
    assert torch.equal(kept[3]["input_values"], anew[3]["input_values"])
    assert kept[3]["input_values"] is kept[3]["input_values"]
    assert anew._cached is None


# Settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model_type": "resnet", "config_overrides": None}, "model_type='resnet' takes no audio: "),
        ({"model_type": None, "config_overrides": None}, "name a checkpoint"),
        ({"config_overrides": {"mel_bins": 3}}, "has no setting 'mel_bins'"),
    ],
)
def test_models_that_hear_nothing_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        prepare(small(**settings))


def test_arguments_are_checked() -> None:
    with pytest.raises(ValueError, match=r"audio_rate=8000 is not for image-classification, but for audio"):
        TaskArguments(audio_rate=8000)
    with pytest.raises(ValueError, match="max_seconds=0"):
        small(max_seconds=0)
    assert TaskArguments(task="audio-classification").dataset == "instruments"


def test_between_class_is_told_the_rate_of_the_audios() -> None:
    prepared = prepare(small(model_type="hubert", config_overrides=WAVE))
    model = prepared.build_model()
    with pytest.raises(ValueError, match=r"sampling_rate=16000: .* 8000 samples a second: set sampling_rate to 8000"):
        check_mixing(prepared, model, MixupConfig("between_class"))
    check_mixing(prepared, model, MixupConfig("between_class", sampling_rate=8000))


# Runs


def test_train_leaves_a_model_that_a_pipeline_loads(tmp_path: Path) -> None:
    from transformers import pipeline

    assert run(tmp_path, max_train_samples=None, few_shot=2, label_noise=0.2, method="manifold") == 0
    scores = json.loads((tmp_path / "out" / "all_results.json").read_text())
    assert {"eval_accuracy", "test_nll", "test_shifted_ece"} <= set(scores)
    classify = pipeline("audio-classification", model=str(tmp_path / "out"))
    answers = classify(tone(0.5), top_k=None)
    assert {answer["label"] for answer in answers} == set(INSTRUMENTS)


def test_compare_on_audios(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, "--methods", "none,smoothing,mixup", "--max_steps", "1", command="compare") == 0
    table = (tmp_path / "out" / "table.md").read_text()
    assert "test_shifted accuracy" in table
    assert (tmp_path / "out" / "figures" / "reliability.png").is_file()


@pytest.mark.parametrize("method", ["mixup", "manifold"])
def test_preview_of_audios(method: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    output = tmp_path / "mixed.png"
    assert run(tmp_path, "--method", method, "--output", str(output), command="preview") == 0
    assert output.stat().st_size > 10_000
