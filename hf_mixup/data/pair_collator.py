"""Rows of image (or audio) and caption -> batches for dual encoders such as CLIP, SigLIP and CLAP."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from numbers import Integral
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from transformers.tokenization_utils_base import LARGE_INTEGER

PAIR_IDS, RETURN_LOSS = "pair_ids", "return_loss"  # of a batch of pairs, beside the inputs of the encoders
Padding = Literal["longest", "max_length"]


class PairCollator:
    """Collate rows of image and caption into a batch that a dual encoder trains on.

    Args:
        processor: a processor with an image processor (or a feature extractor for audio) and a tokenizer.
        image: column with the images: PIL images, arrays [C, H, W] or [H, W, C], or paths. Images that are
            processed already stand in the columns the image processor would fill (`pixel_values`). For audio the
            column ("audio" by default) holds waveforms [T], or mappings of `array` and `sampling_rate`.
        caption: column with the captions. Of a list of captions one is picked anew each time, from torch's global
            generator, as torchvision's transforms draw.
        ids: column that tells which rows belong together: whole numbers or texts, equal where the caption of one row
            fits the image of the other. They become `pair_ids`; texts are hashed to 63 bits.
        max_length: longer captions are cut to this many tokens (default: what the tokenizer says, if it does).
        padding: "longest" pads to the longest caption of a batch, "max_length" all batches alike. The default is
            "max_length" where the text encoder reads the padding, that is, for SigLIP, which pools the last
            position and was trained so, and for tokenizers that give no attention mask; else "longest".

    Returns:
        (when called) `pixel_values` [B, 3, H, W], `input_ids` and `attention_mask` int64 [B, T], `return_loss` True
        and, with `ids`, `pair_ids` int64 [B]. The mask is there if the tokenizer gives one.

    Raises:
        TypeError: for a processor of one modality.
        ValueError: for a row without a caption or a readable image, naming the row; for a column no row has.

    A Trainer drops the columns that a model does not take before it collates: set `remove_unused_columns=False`.

    >>> import numpy as np
    >>> from tokenizers import Tokenizer, models, pre_tokenizers
    >>> from transformers import CLIPProcessor, PreTrainedTokenizerFast, ViTImageProcessor
    >>> words = Tokenizer(models.WordLevel({"[PAD]": 0, "?": 1, "a": 2, "cat": 3}, unk_token="?"))
    >>> words.pre_tokenizer = pre_tokenizers.Whitespace()
    >>> tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="[PAD]")
    >>> collator = PairCollator(CLIPProcessor(ViTImageProcessor(size={"height": 8, "width": 8}), tokenizer))
    >>> image = np.zeros((3, 16, 16), dtype="uint8")
    >>> batch = collator([{"image": image, "caption": "a cat"}, {"image": image, "caption": "cat"}])
    >>> batch["pixel_values"].shape, batch["input_ids"].tolist()
    (torch.Size([2, 3, 8, 8]), [[2, 3], [3, 0]])
    """

    def __init__(
        self,
        processor: Any,
        image: str | None = None,
        caption: str = "caption",
        ids: str | None = None,
        max_length: int | None = None,
        padding: Padding | None = None,
    ) -> None:
        self.processor, self.caption, self.ids = processor, caption, ids
        self.tokenizer = _part(processor, "tokenizer")
        images = getattr(processor, "image_processor", None)
        self.features: Any = images or _part(processor, "feature_extractor")
        self.is_audio = images is None
        self.image = image or ("audio" if self.is_audio else "image")
        self.max_length = max_length or _sane(self.tokenizer.model_max_length)
        self.padding: str = padding or _padding(processor)
        if self.tokenizer.pad_token_id is None:
            raise ValueError(f"{type(self.tokenizer).__name__} has no padding token: set tokenizer.pad_token")
        if self.padding == "max_length" and self.max_length is None:
            raise ValueError(
                f"{type(processor).__name__} takes captions padded to a fixed length and its tokenizer names none: "
                "pass max_length, e.g. 64"
            )

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        self._refuse_missing_columns(rows)
        captions = [self._caption(row, self._name(row, index)) for index, row in enumerate(rows)]
        batch = {**self._inputs(rows), **self.tokens(captions), RETURN_LOSS: True}
        if self.ids is not None:
            batch[PAIR_IDS] = torch.tensor([self._id(row, index) for index, row in enumerate(rows)])
        return batch

    def tokens(self, captions: list[str]) -> dict[str, Tensor]:
        """Return the captions as `input_ids` and, if the tokenizer gives one, `attention_mask`, int64 [B, T]."""
        cut = self.max_length is not None
        tokens = self.tokenizer(
            captions, padding=self.padding, truncation=cut, max_length=self.max_length, return_tensors="pt"
        )
        # Token types are all 0 for one text, and CLIP takes none.
        return {name: tokens[name] for name in ("input_ids", "attention_mask") if name in tokens}

    def _inputs(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        if self._processed in rows[0]:
            names = [name for name in self.features.model_input_names if name in rows[0]]
            return {name: torch.stack([torch.as_tensor(row[name]) for row in rows]) for name in names}
        if self.is_audio:
            return self._audios(rows)
        images = [as_image(row.get(self.image), self._name(row, index)) for index, row in enumerate(rows)]
        return dict(self.features(images, return_tensors="pt"))

    def _audios(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        wanted = self.features.sampling_rate
        waves = []
        for index, row in enumerate(rows):
            audio, rate, name = row.get(self.image), wanted, self._name(row, index)
            if isinstance(audio, Mapping):
                rate, audio = audio.get("sampling_rate", wanted), audio.get("array")
            if audio is None or np.ndim(audio) != 1 or not np.size(audio):
                raise ValueError(f"{name}: column {self.image!r} holds no waveform [T]: leave the row out or mend it")
            if rate != wanted:
                raise ValueError(
                    f"{name}: a sampling rate of {rate}, and the model takes {wanted}: "
                    f"rows.cast_column({self.image!r}, datasets.Audio({wanted}))"
                )
            waves.append(np.asarray(audio))
        return dict(self.features(waves, sampling_rate=wanted, return_tensors="pt"))

    def _caption(self, row: Mapping[str, Any], name: str) -> str:
        value = row.get(self.caption)
        check_caption(value, name, self.caption)
        if isinstance(value, str):
            return value
        return value[int(torch.randint(len(value), ())) if len(value) > 1 else 0]  # type: ignore[index, arg-type]

    def _id(self, row: Mapping[str, Any], index: int) -> int:
        value = row.get(str(self.ids))
        if isinstance(value, bool) or not isinstance(value, (str, Integral, Tensor)):
            raise ValueError(
                f"{self._name(row, index)}: id column {self.ids!r} holds {value!r}: expected a whole number or a text"
            )
        return text_id(value) if isinstance(value, str) else int(value)

    @property
    def _processed(self) -> str:
        return self.features.model_input_names[0]

    def _name(self, row: Mapping[str, Any], index: int) -> str:
        """Name a row so that its owner finds it."""
        value = row.get(self.image)
        file = value if isinstance(value, (str, Path)) else getattr(value, "filename", None)
        own_id = row.get(str(self.ids))
        details = [] if own_id is None else [f"id {own_id!r}"]
        details += [f"file {str(file)!r}"] if file else []
        return f"row {index} of the batch" + (f" ({', '.join(details)})" if details else "")

    def _refuse_missing_columns(self, rows: Sequence[Mapping[str, Any]]) -> None:
        for setting, names in {"image": (self.image, self._processed), "caption": (self.caption,)}.items():
            if not any(name in row for row in rows for name in names):
                raise ValueError(
                    f"no row has a column {' or '.join(map(repr, names))}, found {sorted(rows[0])}: name it with "
                    f"PairCollator({setting}=...), and set remove_unused_columns=False in a Trainer, which drops "
                    "the columns a model does not take"
                )


def encoder_inputs(batch: Mapping[str, Any]) -> dict[str, Any]:
    """Return the inputs of a dual encoder from a batch.

    >>> encoder_inputs({"input_ids": [[1]], "pair_ids": [7], "return_loss": True})
    {'input_ids': [[1]]}
    """
    return {key: value for key, value in batch.items() if key not in (PAIR_IDS, RETURN_LOSS)}


def as_image(value: Any, name: str) -> Any:
    """Return an image that an image processor takes: RGB if a PIL image, a path or undecoded bytes; arrays as is.

    None and an image that cannot be read are refused; `name` is how the error calls the row.

    >>> from PIL import Image
    >>> as_image(Image.new("L", (2, 2)), "row 0").mode
    'RGB'
    """
    from PIL import Image

    if isinstance(value, (np.ndarray, Tensor)):
        return value
    try:
        if isinstance(value, Mapping) and (value.get("bytes") or value.get("path")):  # datasets.Image(decode=False)
            value = io.BytesIO(value["bytes"]) if value.get("bytes") else value["path"]
        if isinstance(value, (str, Path, io.BytesIO)):
            value = Image.open(value)
        if isinstance(value, Image.Image):
            return value.convert("RGB")  # reads the whole file
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:  # Pillow calls a broken PNG a SyntaxError
        raise ValueError(f"{name}: the image cannot be read ({error}): mend the file or leave the row out") from error
    found = "None" if value is None else type(value).__name__
    raise ValueError(f"{name}: expected a PIL image, an array or a path, found {found}: leave the row out or mend it")


def check_caption(value: Any, name: str, column: str) -> None:
    """Refuse what is neither a text nor a list of texts with something in each; `name` is how the error calls the row.

    >>> check_caption("a cat", "row 0", "caption")
    """
    captions = [value] if isinstance(value, str) else value
    usable = isinstance(captions, (list, tuple)) and captions
    if not usable or not all(isinstance(each, str) and each.strip() for each in captions):
        raise ValueError(f"{name}: column {column!r} holds {value!r}: give the row a caption or leave it out")


def text_id(text: str) -> int:
    """Return a text's id in [0, 2^63), the same in every process.

    >>> text_id("cat") == text_id("cat") != text_id("dog")
    True
    """
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def _part(processor: Any, name: str) -> Any:
    part = getattr(processor, name, None)
    if part is None:
        raise TypeError(
            f"{type(processor).__name__} has no {name}: pass a processor of images (or audio) and text, as "
            "AutoProcessor.from_pretrained gives for CLIP"
        )
    return part


def _sane(length: int) -> int | None:
    """Tokenizers without a limit name one of 10^20 and more."""
    return length if length < LARGE_INTEGER else None


def _padding(processor: Any) -> Padding:
    reads_padding = "attention_mask" not in processor.tokenizer.model_input_names
    return "max_length" if reads_padding or type(processor).__name__.startswith("Siglip") else "longest"
