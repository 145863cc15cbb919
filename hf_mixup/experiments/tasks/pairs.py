"""Images with captions: processor, dual encoder, rows of pixels and captions, and zero-shot classification."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from datasets import ClassLabel
from datasets import Dataset as Rows
from torch.nn import functional as F
from transformers import AutoConfig, AutoModel, AutoProcessor, AutoTokenizer, PretrainedConfig
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING

from hf_mixup.data.pair_collator import PAIR_IDS, PairCollator, text_id
from hf_mixup.experiments.tasks.image import PixelRows, load_image_processor
from hf_mixup.experiments.tasks.models import new_config, refuse_unknown_settings, with_adapters
from hf_mixup.experiments.tasks.prepared import Splits
from hf_mixup.experiments.tasks.shared import WithCaptions
from hf_mixup.experiments.tasks.text import packaged_minilm, special_tokens
from hf_mixup.utils.constants import IGNORE_INDEX

_CAPTION = "caption"
_NOISE_SEED, _BLANK_SEED = 0, 1  # which rows are corrupted must not depend on the seed of the training
_ENCODERS = {"image": "vision_model", "text": "text_model"}


def load_pair_processor(task: WithCaptions) -> Any:
    """Return the checkpoint's processor; a new model gets a plain one with the tokenizer of the packaged MiniLM.

    Raises:
        ValueError: if the task names no model, or one that does not take images and texts.
        OSError: for a checkpoint that has none.

    >>> from hf_mixup.experiments.tasks import TaskArguments
    >>> processor = load_pair_processor(TaskArguments(task="image-text", model_type="clip", image_size=32))
    >>> type(processor).__name__, processor.image_processor.size["height"]
    ('CLIPProcessor', 32)
    """
    if task.model is not None:
        if task.image_size is not None:
            raise ValueError(f"image_size is for a new model: {task.model} has a size of its own")
        processor = AutoProcessor.from_pretrained(task.model)
        if getattr(processor, "tokenizer", None) is None or getattr(processor, "image_processor", None) is None:
            raise ValueError(f"model={task.model!r} is no dual encoder: its processor takes one modality only")
        return processor
    image_processor = load_image_processor(task)  # refuses a task without a model
    kind: Any = PROCESSOR_MAPPING.get(type(new_config(replace(task, config_overrides=None))), None)
    if kind is None:
        raise ValueError(f"model_type={task.model_type!r} is no dual encoder: clip and siglip are")
    return kind(image_processor, AutoTokenizer.from_pretrained(packaged_minilm()))


def pair_collator(task: WithCaptions, processor: Any) -> PairCollator:
    """Return the collator of a task's `PairRows`; captions are cut to what the text encoder has positions for.

    >>> from hf_mixup.experiments.tasks import TaskArguments
    >>> task = TaskArguments(task="image-text", model_type="clip", image_size=32, max_length=24)
    >>> pair_collator(task, load_pair_processor(task)).tokens(["a cat", "a black cat"])["input_ids"].shape
    torch.Size([2, 5])
    """
    lengths = [task.max_length, processor.tokenizer.model_max_length]
    if task.model is not None:
        lengths.append(AutoConfig.from_pretrained(task.model).text_config.max_position_embeddings)
    return PairCollator(processor, caption=_CAPTION, ids=PAIR_IDS, max_length=min(lengths))


def load_pair_model(task: WithCaptions, processor: Any) -> Any:
    """Return the dual encoder of a task, with its LoRA adapters and frozen encoder if it asks for them.

    Raises:
        ValueError: for a model that is no dual encoder, and as `TaskArguments.load_model`.

    >>> from hf_mixup.experiments.tasks import TaskArguments
    >>> sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    >>> settings = {"config_overrides": {"text_config": sizes, "vision_config": sizes, "projection_dim": 8}}
    >>> task = TaskArguments(task="image-text", model_type="clip", image_size=32, **settings)
    >>> type(load_pair_model(task, load_pair_processor(task))).__name__
    'CLIPModel'
    """
    if task.model is None:
        model = AutoModel.from_config(new_pair_config(task, processor.tokenizer))
    else:
        model = AutoModel.from_pretrained(task.model)
    if not hasattr(model, "get_text_features"):
        raise ValueError(f"{task.model or task.model_type} is no dual encoder, found {type(model).__name__}")
    model = with_adapters(model, task)
    if task.freeze is not None:
        encoder = getattr(model, _ENCODERS[task.freeze], None)
        if encoder is None:
            raise ValueError(f"freeze={task.freeze!r}: {type(model).__name__} has no {_ENCODERS[task.freeze]}")
        encoder.requires_grad_(False)
    return model


def new_pair_config(task: WithCaptions, tokenizer: Any) -> PretrainedConfig:
    """Return the configuration of a new dual encoder: the task's own settings over what tokenizer and images dictate.

    Raises:
        ValueError: for an unknown `model_type` or a setting that it or its encoders do not have.

    >>> from hf_mixup.experiments.tasks import TaskArguments
    >>> from transformers import AutoTokenizer
    >>> task = TaskArguments(task="image-text", model_type="clip", image_size=32, max_length=24)
    >>> config = new_pair_config(task, AutoTokenizer.from_pretrained(packaged_minilm()))
    >>> config.vision_config.image_size, config.text_config.eos_token_id  # [SEP], where CLIP pools
    (32, 102)
    """
    default = new_config(replace(task, config_overrides=None))
    tokens: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "max_position_embeddings": task.max_length,
        **special_tokens(tokenizer),
    }
    encoders = {}
    for name, dictated in {"text_config": tokens, "vision_config": task.model_settings}.items():
        encoder = getattr(default, name, None)
        if encoder is None:
            raise ValueError(f"model_type={task.model_type!r} has no {name}: name a dual encoder, e.g. clip")
        known = {key: value for key, value in dictated.items() if hasattr(encoder, key)}
        own = task.overrides.get(name, {})
        refuse_unknown_settings(name, own, encoder)
        encoders[name] = {**known, **own}
    return new_config(replace(task, config_overrides={**task.overrides, **encoders}))


class PairRows(PixelRows):
    """Samples of `pixel_values` float32 [3, H, W], `caption` and `pair_ids`, for the collator of `pair_collator`.

    All images are processed at once where they fit in memory, so that a broken file is found before training.

    Args:
        rows: images and captions, as `load_splits` returns them.
        train: give all captions of a sample, for the collator to pick from, and flip images if the task says so;
            else the first caption only.

    Attributes:
        classes: the number of each sample's class, for zero-shot classification; empty without classes.

    Raises:
        ValueError: for an image that cannot be read or a row without an id, naming the row.

    >>> from hf_mixup.experiments.tasks import TaskArguments
    >>> from hf_mixup.experiments.tasks.data import load_splits
    >>> task = TaskArguments(task="image-text", model_type="clip", image_size=32, max_train_samples=4)
    >>> rows = PairRows(load_splits(task).train, load_pair_processor(task), task)
    >>> rows[0]["pixel_values"].shape, rows[0]["caption"] in load_splits(task).train["caption"][:]
    (torch.Size([3, 32, 32]), True)
    """

    def __init__(self, rows: Rows, processor: Any, task: WithCaptions, train: bool = False) -> None:
        super().__init__(rows, processor.image_processor, task, flip=train and task.flip)
        captions = rows[task.caption_column][:]
        first = [each if isinstance(each, str) else each[0] for each in captions]
        self.captions: list[Any] = captions if train else first
        self.ids = _ids(rows, task) if task.id_column else [text_id(each) for each in first]
        self.classes: list[int] = []
        self.blank: set[int] = set()
        self._item(0)

    def __getitem__(self, index: int) -> dict[str, Any]:
        pixels = self.pixels(index)
        if index in self.blank:
            pixels = torch.zeros_like(pixels)
        return {"pixel_values": pixels, _CAPTION: self.captions[index], PAIR_IDS: self.ids[index]}

    def corrupted(self, caption_noise: float = 0.0, image_blank: float = 0.0) -> PairRows:
        """Return these samples with wrong captions or blank images for some; the pixels are shared.

        Args:
            caption_noise: share of the samples whose captions change places among each other. The id goes with the
                caption: a sample still says of itself that its image and caption fit.
            image_blank: share of the samples whose image becomes all zeros, the mean colour of normalised pixels.
        """
        other = copy.copy(self)
        moved = _some(len(self), caption_noise, _NOISE_SEED)
        other.captions, other.ids = list(self.captions), list(self.ids)
        for here, there in zip(moved, moved[1:] + moved[:1], strict=True):
            other.captions[here], other.ids[here] = self.captions[there], self.ids[there]
        other.blank = self.blank | set(_some(len(self), image_blank, _BLANK_SEED))
        return other


def _some(count: int, share: float, seed: int) -> list[int]:
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    return order[: round(share * count)].tolist()


def _ids(rows: Rows, task: WithCaptions) -> list[int]:
    values = rows[str(task.id_column)][:]
    for row, value in enumerate(values):
        if not isinstance(value, (int, str)):
            raise ValueError(f"row {row}: id column {task.id_column!r} holds {value!r}: expected a number or a text")
    return [text_id(value) if isinstance(value, str) else value for value in values]


def class_names(splits: Splits, task: WithCaptions) -> list[str] | None:
    """Return the names in the class column over all splits; None if the task has no such column."""
    if task.class_column is None:
        return None
    feature = splits.train.features[task.class_column]
    if isinstance(feature, ClassLabel):
        return list(feature.names)
    values = {value for rows in (splits.train, *splits.evaluated.values()) for value in rows[task.class_column]}
    if len(values - {None}) < 2:
        raise ValueError(f"class column {task.class_column!r} has one class at most: nothing to tell apart")
    return sorted(str(value) for value in values - {None})


def class_numbers(rows: Rows, task: WithCaptions, names: list[str]) -> list[int]:
    """Return the number of each row's class; -100 for none."""
    values = rows[str(task.class_column)][:]
    if isinstance(rows.features[str(task.class_column)], ClassLabel):
        return [IGNORE_INDEX if value is None or value < 0 else value for value in values]
    numbers = {name: number for number, name in enumerate(names)}
    return [IGNORE_INDEX if value is None else numbers[str(value)] for value in values]


@torch.no_grad()
def class_embeds(model: Any, collator: Any, names: list[str], templates: list[str]) -> np.ndarray:
    """Return one embedding [C, D] a class: the mean direction of its name in every template.

    Source: Radford et al. 2021, "Learning Transferable Visual Models From Natural Language Supervision", section 3.1.

    >>> from hf_mixup.experiments.tasks import TaskArguments
    >>> sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    >>> settings = {"config_overrides": {"text_config": sizes, "vision_config": sizes, "projection_dim": 8}}
    >>> task = TaskArguments(task="image-text", model_type="clip", image_size=32, **settings)
    >>> processor = load_pair_processor(task)
    >>> model, collator = load_pair_model(task, processor), pair_collator(task, processor)
    >>> class_embeds(model, collator, ["cat", "dog"], ["a {}", "the face of a {}"]).shape
    (2, 8)
    """
    training = model.training
    model.eval()
    means = []
    for name in names:
        tokens = collator.tokens([template.replace("{}", name) for template in templates])
        features = model.get_text_features(**{key: value.to(model.device) for key, value in tokens.items()})
        means.append(F.normalize(getattr(features, "pooler_output", features).float(), dim=-1).mean(0).cpu())
    model.train(training)
    return torch.stack(means).numpy()


def id_logits(
    image_embeds: np.ndarray, text_embeds: np.ndarray, head: np.ndarray, ids: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return what a reliability diagram needs: logits [N, I] of each image over the I ids, and its own [N].

    An id's probability is the sum over its captions; images ask and captions answer.

    >>> id_logits(np.eye(2), np.eye(2), np.array([[2.0, 0.0]] * 2), np.array([7, 5]))[1].tolist()
    [1, 0]
    """
    images, texts = (F.normalize(torch.from_numpy(side).double(), dim=-1) for side in (image_embeds, text_embeds))
    probabilities = (float(head[0, 0]) * images @ texts.T).softmax(-1).numpy()
    unique, own = np.unique(ids, return_inverse=True)
    sums = probabilities @ np.eye(len(unique))[own]
    return np.log(np.maximum(sums, np.finfo(np.float64).tiny)), own
