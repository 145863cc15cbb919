"""Images and the captions to write: processor, model and rows, for encoder-decoders and for the layout of LLaVA."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
import transformers
from datasets import Dataset as Rows
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoConfig, AutoProcessor, AutoTokenizer, LlavaProcessor, PretrainedConfig, TrOCRProcessor

from hf_mixup.experiments.tasks.image import PixelRows, load_image_processor
from hf_mixup.experiments.tasks.models import refuse_unknown_settings, with_adapters
from hf_mixup.experiments.tasks.shared import Captioned
from hf_mixup.experiments.tasks.text import packaged_minilm, special_tokens
from hf_mixup.utils.constants import IGNORE_INDEX

ENCODER_DECODER, LLAVA = "vision-encoder-decoder", "llava"
_CLASSES = {ENCODER_DECODER: "VisionEncoderDecoderModel", LLAVA: "LlavaForConditionalGeneration"}
# The two halves of a new model: the setting of its configuration, and the architecture unless that names another.
_HALVES = {
    ENCODER_DECODER: {"encoder": "vit", "decoder": "trocr"},
    LLAVA: {"vision_config": "clip_vision_model", "text_config": "llama"},
}
_NOT_SCORED = ("past_key_values", "image_hidden_states", "image_outputs", "encoder_last_hidden_state")
_IMAGE = "<image>"


def model_type_of(task: Captioned) -> str:
    """Return the architecture of a task's model.

    Raises:
        ValueError: for one that is neither an encoder-decoder nor of LLaVA's layout.
    """
    found = str(task.model_type) if task.model is None else AutoConfig.from_pretrained(task.model).model_type
    if found not in _CLASSES:
        raise ValueError(f"{task.model or task.model_type} is a {found}: captions are written by {', '.join(_CLASSES)}")
    return found


def load_caption_processor(task: Captioned, captions: Sequence[str] = ()) -> Any:
    """Return the checkpoint's processor; a new model gets a plain one with the tokenizer of the packaged MiniLM.

    Args:
        captions: those of the training, from which a vocabulary is learnt where the task asks for one.

    >>> from hf_mixup.experiments.tasks import TaskArguments
    >>> processor = load_caption_processor(TaskArguments(task="image-to-text", model_type="llava", image_size=32))
    >>> processor.tokenizer.convert_ids_to_tokens(processor.image_token_id)
    '<image>'
    """
    if task.model is not None:
        processor = AutoProcessor.from_pretrained(task.model)
        if processor.tokenizer.pad_token is None:
            processor.tokenizer.pad_token = processor.tokenizer.eos_token
        return processor
    images, tokenizer = load_image_processor(task), AutoTokenizer.from_pretrained(packaged_minilm())
    if task.vocabulary_size:
        tokenizer = tokenizer.train_new_from_iterator(captions, task.vocabulary_size, show_progress=False)
    if model_type_of(task) == ENCODER_DECODER:
        return TrOCRProcessor(images, tokenizer)
    tokenizer.add_special_tokens({"additional_special_tokens": [_IMAGE]})
    seen: Any = _half(task, "vision_config")
    images.size = {"height": seen.image_size, "width": seen.image_size}
    patches = {"patch_size": seen.patch_size, "num_additional_image_tokens": 1}  # CLIP's [CLS], which is left out again
    return LlavaProcessor(images, tokenizer, **patches, vision_feature_select_strategy="default")


def load_caption_model(task: Captioned, processor: Any) -> Any:
    """Return the model of a task, with LoRA adapters if it asks for them.

    >>> from hf_mixup.experiments.tasks import TaskArguments
    >>> seen = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    >>> written = {"d_model": 16, "decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 16}
    >>> settings = {"encoder": seen, "decoder": written}
    >>> kind = "vision-encoder-decoder"
    >>> task = TaskArguments(task="image-to-text", model_type=kind, config_overrides=settings, image_size=32)
    >>> type(load_caption_model(task, load_caption_processor(task))).__name__
    'VisionEncoderDecoderModel'
    """
    kind = getattr(transformers, _CLASSES[model_type_of(task)])
    if task.model is None:
        model = kind(config=new_caption_config(task, processor.tokenizer))
    else:
        model = kind.from_pretrained(task.model)
    model.config.keys_to_ignore_at_inference = list(_NOT_SCORED)  # the Trainer would gather them from all batches
    return with_adapters(model, task)


def new_caption_config(task: Captioned, tokenizer: Any) -> PretrainedConfig:
    """Return the configuration of a new model: the task's own settings over what tokenizer and images dictate."""
    kind, tokens = model_type_of(task), special_tokens(tokenizer)
    first, second = _HALVES[kind]
    seen = _half(task, first)
    dictated = {"vocab_size": len(tokenizer), **tokens, "use_cache": False}
    if kind == ENCODER_DECODER:
        dictated |= {"is_decoder": True, "add_cross_attention": True, "cross_attention_hidden_size": seen.hidden_size}
        dictated |= {"decoder_start_token_id": tokens["bos_token_id"]}
    halves = {first: seen.to_dict(), second: _half(task, second, **dictated).to_dict()}
    own = {name: value for name, value in task.overrides.items() if name not in halves}
    if kind == LLAVA:
        patches = (seen.image_size // seen.patch_size) ** 2
        own = {"image_token_id": tokenizer.convert_tokens_to_ids(_IMAGE), "image_seq_length": patches, **own}
    else:
        own = {**tokens, "decoder_start_token_id": tokens["bos_token_id"], **own}
    config = AutoConfig.for_model(kind, **halves)
    refuse_unknown_settings(f"a {kind}", task.overrides, config)
    return AutoConfig.for_model(kind, **halves, **own)


def _half(task: Captioned, name: str, **dictated: Any) -> PretrainedConfig:
    """Return the configuration of one half of a new model."""
    own: Mapping[str, Any] = task.overrides.get(name, {})
    kind = own.get("model_type", _HALVES[model_type_of(task)][name])
    default = AutoConfig.for_model(kind)
    refuse_unknown_settings(name, own, default)
    known = {key: value for key, value in {**task.model_settings, **dictated}.items() if hasattr(default, key)}
    rest = {key: value for key, value in own.items() if key != "model_type"}
    return AutoConfig.for_model(kind, **{**known, **rest})


class CaptionRows(PixelRows):
    """Samples of `pixel_values` float32 [3, H, W] and `labels`, for LLaVA also `input_ids`; not yet padded.

    The labels are the tokens of the caption and one that ends it. `input_ids` are the places of the image, the prompt
    and the caption; the labels of the first two are -100: the caption alone is learnt.

    >>> from hf_mixup.experiments.tasks import TaskArguments
    >>> from hf_mixup.experiments.tasks.data import load_splits
    >>> task = TaskArguments(task="image-to-text", image_size=32, max_train_samples=4)
    >>> processor = load_caption_processor(task)
    >>> sample = CaptionRows(load_splits(task).train, processor, task)[0]
    >>> sorted(sample), processor.tokenizer.decode(sample["labels"])
    (['labels', 'pixel_values'], 'cooked rice [SEP]')
    """

    def __init__(self, rows: Rows, processor: Any, task: Captioned, train: bool = False) -> None:
        super().__init__(rows, processor.image_processor, task, flip=train and task.flip)
        tokenizer = processor.tokenizer
        last = special_tokens(tokenizer)["eos_token_id"]
        captions = tokenizer(rows[task.caption_column][:], add_special_tokens=False)["input_ids"]
        self.captions = [[*ids[: task.max_length - 1], last] for ids in captions]
        self.prompt = (
            prompt_ids(processor, task, rows[0][task.image_column]) if hasattr(processor, "image_token") else []
        )
        self._item(0)

    def __getitem__(self, index: int) -> dict[str, Any]:
        pixels, caption = self.pixels(index), self.captions[index]
        if not self.prompt:
            return {"pixel_values": pixels, "labels": caption}
        labels = [IGNORE_INDEX] * len(self.prompt) + caption
        return {"pixel_values": pixels, "input_ids": self.prompt + caption, "labels": labels}


def prompt_ids(processor: Any, task: Captioned, image: Any) -> list[int]:
    """Return what stands before a caption: the image's places and the prompt, in the chat template if there is one.

    They are the same for all images, as these have one size.
    """
    text = f"{processor.image_token}{task.prompt}"
    if processor.chat_template is not None:
        content = [{"type": "image"}, *([{"type": "text", "text": task.prompt}] if task.prompt else [])]
        text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    ids = processor(images=image, text=text)["input_ids"][0]
    ids = ids.tolist() if isinstance(ids, Tensor) else list(ids)
    return ids[:-1] if ids[-1] == special_tokens(processor.tokenizer)["eos_token_id"] else ids


def caption_collator(tokenizer: Any) -> Callable[[list[dict[str, Any]]], dict[str, Tensor]]:
    """Return what stacks the images of `CaptionRows` and pads their tokens on the right.

    >>> collate = caption_collator(tokenizer=None)
    >>> collate([{"pixel_values": torch.zeros(3, 8, 8), "labels": labels} for labels in ([4, 5, 6], [7])])["labels"]
    tensor([[   4,    5,    6],
            [   7, -100, -100]])
    """
    return partial(_collate, tokenizer)  # no inner function, which a worker that is not forked could not get


def _collate(tokenizer: Any, samples: list[dict[str, Any]]) -> dict[str, Tensor]:
    batch = {
        "pixel_values": torch.stack([each["pixel_values"] for each in samples]),
        "labels": _padded([each["labels"] for each in samples], IGNORE_INDEX),
    }
    if "input_ids" in samples[0]:
        ids = [each["input_ids"] for each in samples]
        batch["input_ids"] = _padded(ids, tokenizer.pad_token_id)
        batch["attention_mask"] = _padded([[1] * len(each) for each in ids], 0)
    return batch


def _padded(values: list[list[int]], filling: int) -> Tensor:
    return pad_sequence([torch.tensor(each) for each in values], batch_first=True, padding_value=filling)
