"""Speech recognition: the bundled numbers, any recordings with transcripts, and both kinds of models with mixing."""

from __future__ import annotations

import io
import json
import re
from collections import defaultdict
from importlib import resources
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import TrainingArguments

from hf_mixup import cli
from hf_mixup.data import load_spoken_numbers
from hf_mixup.engine.config import MixupConfig
from hf_mixup.experiments.report.score_sums import transcript_sums
from hf_mixup.experiments.tasks import TaskArguments
from hf_mixup.experiments.tasks.data import load_splits
from hf_mixup.experiments.tasks.prepare import make_trainer, prepare
from hf_mixup.experiments.tasks.speech import character_tokenizer
from hf_mixup.experiments.tasks.transcribing import best_tokens
from hf_mixup.metrics import transcription_metrics

soundfile = pytest.importorskip("soundfile")
pytest.importorskip("jiwer")

BERT = {
    **{"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2},
    **{"conv_depthwise_kernel_size": 3, "layerdrop": 0.0, "apply_spec_augment": False},
}
WHISPER = {
    **{"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16},
    **{"encoder_attention_heads": 2, "decoder_attention_heads": 2},
}
WAVE = {
    **{"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2},
    **{"conv_dim": [8, 8], "conv_kernel": [32, 8], "conv_stride": [16, 8], "feat_extract_norm": "layer"},
    **{"num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2},
}
KINDS: dict[str, dict[str, Any]] = {"wav2vec2-bert": BERT, "whisper": WHISPER, "wav2vec2": WAVE}
MIXING = {"wav2vec2-bert": {"method": "mixup"}, "whisper": {"method": "mixup", "decoder": "two"}}


def settings(kind: str = "wav2vec2-bert", **changes: Any) -> dict[str, Any]:
    sizes = {"max_train_samples": 8, "max_eval_samples": 4, "max_seconds": 4, "max_length": 40}
    return {"task": "speech-recognition", "model_type": kind, "config_overrides": KINDS[kind], **sizes, **changes}


def run(tmp_path: Path, command: str, kind: str, *arguments: str, **changes: Any) -> int:
    path = tmp_path / "c.yaml"
    training = {"max_steps": 2, "per_device_train_batch_size": 4, "use_cpu": True, "report_to": "none"}
    path.write_text(json.dumps({**settings(kind, **changes), **training, "output_dir": str(tmp_path / "out")}))
    return cli.main([command, str(path), *arguments])


def tone(seconds: float, rate: int = 8000) -> np.ndarray:
    return (0.5 * np.sin(np.arange(round(seconds * rate)) / 3)).astype(np.float32)


def write_folder(folder: Path, texts: list[str], seconds: float = 1.0) -> Path:
    """Write a folder of recordings, one a text."""
    folder.mkdir()
    lines = ["file_name,text"]
    for number, text in enumerate(texts):
        soundfile.write(folder / f"{number}.wav", tone(seconds), 8000)
        lines.append(f"{number}.wav,{text}")
    (folder / "metadata.csv").write_text("\n".join(lines))
    return folder


# The bundled numbers


def test_no_voice_and_no_number_of_a_test_is_trained_on() -> None:
    data = load_spoken_numbers()
    splits, texts = defaultdict(set), {split: set(rows["text"]) for split, rows in data.items()}
    for split, rows in data.items():
        for speaker in rows["speaker"]:
            splits[speaker.rpartition("+")[2]].add(split)
    assert all(len(found) == 1 for found in splits.values())
    assert len([speaker for speaker, found in splits.items() if found == {"train"}]) == 50
    for split in ("test", "test_shifted", "test_human"):
        assert not texts[split] & texts["train"]
        words = {word for text in texts[split] for word in text.split()}
        assert words - {"zero"} <= {word for text in texts["train"] for word in text.split()}
    sources = {split: set(rows["source"]) for split, rows in data.items()}
    assert sources["train"] == sources["test"] == {"espeak-ng"}
    assert (sources["test_shifted"], sources["test_human"]) == ({"flite"}, {"asterisk"})


def test_every_recording_is_heard_and_long_enough_for_its_text() -> None:
    for rows in load_spoken_numbers().values():
        for row in rows.select(range(0, len(rows), 10)):
            audio, rate = soundfile.read(io.BytesIO(row["audio"]["bytes"]))
            assert rate == 8000
            assert 0.03 < audio.std() < 0.5
            assert 0.02 < len(audio) / rate / len(row["text"]) < 0.3
    assert len(resources.files("hf_mixup.data").joinpath("spoken_numbers.parquet").read_bytes()) < 1_500_000


def test_licences_name_the_sources() -> None:
    text = resources.files("hf_mixup.data").joinpath("LICENSES.md").read_text(encoding="utf-8")
    for source in ("espeak-ng", "flite", "asterisk"):
        assert f"`{source}`" in text
    assert "CC BY-SA 3.0" in text
    assert "Allison Smith" in text


# What is trained


@pytest.mark.parametrize("kind", KINDS)
def test_samples_hold_the_transcript_and_the_model_learns_it(kind: str) -> None:
    """The loss of the task's batch is that of its transcripts, computed from the scores alone."""
    prepared = prepare(TaskArguments(**settings(kind)))
    torch.manual_seed(0)
    model = prepared.build_model().eval()
    tokenizer = prepared.processing_class.tokenizer
    batch = prepared.collator([prepared.train[row] for row in range(4)])
    with torch.no_grad():
        out = model(**batch)
    losses = []
    for row in range(4):
        ids = tokenizer(prepared.splits.train["text"][row])["input_ids"]
        log_probs = out.logits[row].double().log_softmax(-1)
        if kind == "whisper":
            ids = [*ids, tokenizer.eos_token_id]
            losses += [-log_probs[place, token] for place, token in enumerate(ids)]
        else:
            own = prepared.train[row]
            alone = model(**prepared.collator([own])).logits.shape[1]  # without padding: as many frames as it has
            frames = int(own["attention_mask"].sum()) if kind == "wav2vec2-bert" else alone
            log_probs = log_probs[:frames, None]
            sizes = torch.tensor([len(log_probs)]), torch.tensor([len(ids)])
            losses.append(torch.nn.functional.ctc_loss(log_probs, torch.tensor([ids]), *sizes, blank=0))
    assert out.loss.item() == pytest.approx(torch.stack(losses).mean().item(), rel=1e-4)


@pytest.mark.parametrize("kind", MIXING)
def test_predictions_are_those_of_each_recording_alone(kind: str, tmp_path: Path) -> None:
    """Against the frames (or the greedy loop) of each recording by itself, which has no padding."""
    prepared = prepare(TaskArguments(**settings(kind)))
    torch.manual_seed(1)
    model = prepared.build_model()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() > 1 and "embed" not in name:
                weight.mul_(6)  # so that they differ
    args = TrainingArguments(str(tmp_path), use_cpu=True, report_to="none", per_device_eval_batch_size=3)
    rows = prepared.evaluated["validation"]
    predicted = make_trainer(prepared, model, args, MixupConfig(method="mixup")).predict(rows)
    tokenizer, texts = prepared.processing_class.tokenizer, []
    for row in range(len(rows)):
        alone = prepared.collator([rows[row]])
        with torch.no_grad():
            if kind == "whisper":
                ids = greedy(model, alone["input_features"], tokenizer)
            else:
                ids = [token for token, _ in groupby(model(**alone).logits[0].argmax(-1).tolist()) if token]
        texts.append(tokenizer.decode(ids, group_tokens=False, skip_special_tokens=True))
    assert len(set(texts)) > 1
    found = transcription_metrics(texts, rows.texts)
    assert {name: predicted.metrics[f"test_{name}"] for name in found} == pytest.approx(found)
    sums = transcript_sums(predicted.predictions, predicted.label_ids, tokenizer)
    assert {name: float(sums.score(name)) for name in found} == pytest.approx(found)


def greedy(model: Any, features: torch.Tensor, tokenizer: Any) -> list[int]:
    ids = [tokenizer.bos_token_id]
    while ids[-1] != tokenizer.eos_token_id and len(ids) < 42:  # max_length, the end and the start
        logits = model(input_features=features, decoder_input_ids=torch.tensor([ids])).logits
        ids.append(int(logits[0, -1].argmax()))
    return ids


def test_what_a_model_says_of_padding_is_no_part_of_a_transcript() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        logits = torch.from_numpy(rng.normal(size=(3, 9, 4)))
        frames = rng.integers(0, 10, 3).tolist()
        expected = [
            [t for t, _ in groupby(row[:count].argmax(-1).tolist()) if t != 2] for row, count in zip(logits, frames)
        ]
        found = best_tokens(logits, frames, blank=2)
        assert [[t for t in row.tolist() if t >= 0] for row in found] == expected


@pytest.mark.parametrize("kind", MIXING)
def test_train_score_save_and_go_on(tmp_path: Path, kind: str) -> None:
    mixing = [word for name, value in MIXING[kind].items() for word in (f"--{name}", value)]
    assert run(tmp_path, "train", kind, *mixing, "--prob", "0.5", "--prob_per", "sample") == 0
    scores = json.loads((tmp_path / "out" / "all_results.json").read_text())
    assert {"eval_wer", "test_cer", "test_shifted_exact", "test_human_wer", "test_loss"} <= set(scores)
    again = TaskArguments(**settings(kind, model=str(tmp_path / "out"), model_type=None, config_overrides=None))
    prepared = prepare(again)
    batch = prepared.collator([prepared.train[0], prepared.train[1]])
    assert prepared.build_model()(**batch).loss > 0


def test_compare_and_preview(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    methods = ("--methods", "none,smoothing,mixup:decoder=two")
    assert run(tmp_path, "compare", "whisper", *methods, test_splits=["test"]) == 0
    assert "wer" in (tmp_path / "out" / "table.md").read_text()
    assert run(tmp_path, "compare", "wav2vec2-bert", "--methods", "smoothing") == 2
    assert "speech-recognition has no single classes to smooth" in capsys.readouterr().err
    output = tmp_path / "mixed.png"
    assert run(tmp_path, "preview", "wav2vec2-bert", "--method", "mixup", "--output", str(output)) == 0
    assert output.stat().st_size > 10_000


# What does not fit


@pytest.mark.parametrize(
    ("texts", "changes", "message"),
    [
        (
            ["one", "two", ""],
            {},
            "row 2: no text in text column 'text'|row 2: the transcript in text column 'text' is empty",
        ),
        (["one", "two", " "], {}, "row 2: the transcript in text column 'text' is empty"),
        (["one", "two"], {"text_column": "words"}, "no text column 'words'"),
        (["one", "two"], {"max_seconds": 0.5}, "row 0 lasts 1.0 s, more than 0.5 s"),
        (["one", "t" * 60], {}, "row .: CTC needs 119 frames for 't.*', and the model makes 49 "),
        (
            ["one", "t" * 60],
            {"model_type": "whisper", "config_overrides": WHISPER},
            "max_length=40: 't.*' has 61 tokens",
        ),
        (["one", "two"], {"model_type": "vit", "config_overrides": None}, "vit is a vit, which writes no transcripts"),
        (["one", "two"], {"model_type": None, "config_overrides": None}, "name a checkpoint"),
    ],
)
def test_data_and_models_that_do_not_fit_are_named(
    tmp_path: Path, texts: list[str], changes: dict[str, Any], message: str
) -> None:
    folder = write_folder(tmp_path / "data", texts)
    task = TaskArguments(**settings(dataset=str(folder), max_train_samples=None, validation_share=0.3, **changes))
    with pytest.raises(ValueError, match=message):
        prepare(task).build_model()


def test_a_character_that_a_checkpoint_does_not_know_is_named(tmp_path: Path) -> None:
    assert run(tmp_path, "train", "wav2vec2-bert", "--prob", "0") == 0
    folder = write_folder(tmp_path / "data", ["one", "two", "Two"])
    task = settings(model=str(tmp_path / "out"), model_type=None, config_overrides=None, dataset=str(folder))
    with pytest.raises(ValueError, match=r"row .: the tokenizer does not know 'T' of 'Two': .* \(it knows d?e"):
        prepare(TaskArguments(**task))


def test_a_folder_with_splits_and_a_table_are_read_alike(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for split in ("train", "test"):
        write_folder(tmp_path / "data" / split, ["one", "two", "three"])
    table = ["audio,text", *(f"data/train/{number}.wav,{text}" for number, text in enumerate(("one", "two", "three")))]
    (tmp_path / "table.csv").write_text("\n".join(table))
    everything = {"max_train_samples": None, "max_eval_samples": None}
    folder, listed = (
        load_splits(TaskArguments(**settings(dataset=str(tmp_path / name), **everything)))
        for name in ("data", "table.csv")
    )
    assert set(folder.tests) == {"test"}
    assert sorted(folder.train["text"]) == sorted(listed.train["text"])
    (tmp_path / "data" / "test" / "metadata.csv").write_text("name,text\n0.wav,one")
    with pytest.raises(ValueError, match=r"metadata.csv has no column 'file_name'"):
        load_splits(TaskArguments(**settings(dataset=str(tmp_path / "data"))))


def test_spaces_are_tokens_and_come_back() -> None:
    tokenizer = character_tokenizer(["two three"])
    ids = tokenizer("three two")["input_ids"]
    assert tokenizer.pad_token_id == 0
    assert tokenizer.decode(ids, group_tokens=False) == "three two"
    assert re.fullmatch(r"[a-z|]+", "".join(tokenizer.convert_ids_to_tokens(ids)))
