"""An image of each method: mixed samples of the bundled data, drawn by the engine that trains."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from hf_mixup.docs.site.repository import ROOT
from hf_mixup.methods import METHODS

_SMALL: dict[str, Any] = {"max_train_samples": 256, "max_eval_samples": 8}
_LAYERS = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
_EMOJI: dict[str, Any] = {"dataset": "emoji", "image_size": 64, **_SMALL}
_NOTES: dict[str, Any] = {"task": "audio-classification", "dataset": "instruments", **_SMALL}
SCENES: dict[str, dict[str, Any]] = {
    "images": {**_EMOJI, "model_type": "vit", "config_overrides": {**_LAYERS, "patch_size": 8}},
    "texts": {"task": "text-classification", "dataset": "emoji", "max_length": 32, **_SMALL},
    "spectrograms": {
        **_NOTES,
        "model_type": "audio-spectrogram-transformer",
        "config_overrides": {**_LAYERS, "num_mel_bins": 64, "max_length": 48},
    },
    "waveforms": {**_NOTES, "model_type": "wav2vec2", "config_overrides": {**_LAYERS, "conv_dim": [16] * 7}},
    "texts with numbers": {"task": "text-regression", "dataset": "emoji", "max_length": 32, **_SMALL},
    "pairs": {
        **_EMOJI,
        "task": "image-text",
        "id_column": "emoji",
        "model_type": "clip",
        "config_overrides": {"vision_config": {**_LAYERS, "patch_size": 8}, "text_config": _LAYERS},
    },
    "rows of a table": {
        "task": "tabular-regression",
        "dataset": str(ROOT / "recipes" / "data" / "cars"),
        "label_column": "mpg",
        "model_type": "tabular-mlp",
    },
    "words with tags": {"task": "token-classification", "dataset": "emoji", "max_length": 32, **_SMALL},
    "prompts and answers": {
        "task": "causal-lm",
        "dataset": "emoji",
        "max_length": 48,
        "model_type": "llama",
        "config_overrides": _LAYERS,
        **_SMALL,
    },
}
"""What can be drawn, in the order in which it is tried: settings of a task."""
_MADE_FOR = {"tabular": "rows of a table", "sftmix": "prompts and answers"}
"""Methods that would mix an earlier scene, too, and are made for another one."""


def draw_method(name: str, path: Path) -> str:
    """Draw mixed samples of a method into a PNG file and return on what.

    Raises:
        ValueError: for a method that mixes none of the scenes.
    """
    refused = []
    scenes = [_MADE_FOR[name]] if name in _MADE_FOR else ["pairs"] if METHODS[name]().for_pairs else list(SCENES)
    for scene in scenes:
        try:
            _draw(name, scene, path)
        except ValueError as error:
            refused.append(f"{scene}: {error}")
            continue
        return scene
    raise ValueError(f"no image of {name!r} can be drawn: {'; '.join(refused)}")


# Method, height of what is cut out of its image, column and width in the image of all.
_PANELS = (
    ("cutmix", 415, 0, 1245),
    ("specmix", 290, 0, 1245),
    ("cross_modal", 445, 1, 945),
    ("embedding", 400, 1, 945),
)


def draw_modalities(folder: Path, path: Path) -> None:
    """Put the first mixed images, audio clips, captioned images and texts into one PNG file, as the README shows it.

    Args:
        folder: where the images of the methods lie that `draw_method` has drawn.
    """
    from PIL import Image

    columns: dict[int, list[Image.Image]] = {0: [], 1: []}
    for name, height, column, width in _PANELS:
        panel = Image.open(folder / f"{name}.png").convert("RGB")
        panel = panel.crop((0, 0, panel.width, height))
        columns[column].append(panel.resize((width, height * width // panel.width)))
    left, right = columns[0][0].width, columns[1][0].width
    whole = Image.new(
        "RGB", (left + right + 60, max(sum(each.height + 20 for each in one) for one in columns.values())), "white"
    )
    for column, panels in columns.items():
        top = 0
        for panel in panels:
            whole.paste(panel, (column * (left + 60), top))
            top += panel.height + 20
    whole = whole.resize((whole.width * 2 // 3, whole.height * 2 // 3))
    whole.quantize(128).save(path, optimize=True)


def _draw(name: str, scene: str, path: Path) -> None:
    from hf_mixup import MixupConfig
    from hf_mixup.experiments.tasks.preview import draw_preview

    task, prepared, args = _prepared(scene)
    draw_preview(prepared, task, MixupConfig(name), args, path)


@cache
def _prepared(scene: str) -> tuple[Any, Any, Any]:
    """Return a task, its data and the Trainer's arguments; read once for all methods."""
    from transformers import TrainingArguments

    from hf_mixup.experiments.tasks import TaskArguments
    from hf_mixup.experiments.tasks.prepare import prepare

    task = TaskArguments(**SCENES[scene])
    args = TrainingArguments(use_cpu=True, report_to="none", seed=1, per_device_train_batch_size=6)
    return task, prepare(task), args
