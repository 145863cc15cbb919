"""Settings of training data that is streamed, and what cannot go with it."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

from hf_mixup.utils.values import setting

if TYPE_CHECKING:
    from transformers import TrainingArguments

    from hf_mixup.engine.config import MixupConfig

_PATTERN = re.compile(r"[*?\[{]|://")
_USER = re.compile(r"(?<=://)[^/@\s]*:[^/@\s]*@|(?<=\bhttp://)[^/@\s]+@|(?<=\bhttps://)[^/@\s]+@")
_QUERY = re.compile(r"(\bhttps?://[^\s?'\"]*\?)[^\s'\"]*")
# Settings that are about all training rows, which nobody has at a time, and what to do instead.
_OF_ALL_ROWS = {
    "validation_share": "validation_samples holds out the first ones",
    "max_train_samples": "max_steps says how long to train",
    "few_shot": "draw the samples when the shards are written",
    "label_noise": "write the wrong labels into the shards",
    "caption_noise": "exchange the captions in the shards",
    "image_blank": "blank the images in the shards",
}


@dataclass(kw_only=True)
class Streaming:
    """Where the samples of a stream come from, in which order, and what is done with a shard that is damaged.

    Args:
        sources: patterns, addresses or names like `dataset`, with the same columns. A pass ends when all of them were
            read; the samples of small ones come back until then.
        validation_samples: they are the first of the stream, and no step trains on them. They, the last shard that is
            held out by default, and the rows of other splits (of each at most `max_eval_samples`) are kept in memory.
        on_bad_shard: "skip" trains on what was read of it, and goes on with the next one.
    """

    streaming: bool = setting(False, "Read the training samples from shards while training; needs max_steps.")
    sources: list[str] | None = setting(None, "More data to stream from, beside dataset.")
    source_weights: list[float] | None = setting(
        None, "Chances of dataset and of each of the sources (default: they take turns).", above=0
    )
    shuffle_buffer: int = setting(1000, "Samples of a stream to draw the next from; 1 keeps their order.", at_least=1)
    fit_samples: int = setting(
        256, "First samples of a stream, to fit scales and vocabularies to and to check.", at_least=1
    )
    validation_samples: int | None = setting(
        None, "Of a stream without a validation split, validate on so many (default: on the last shard).", at_least=1
    )
    class_names: list[str] | None = setting(
        None, "Names of a stream's classes, in the order of their numbers (default: those in the files)."
    )
    on_bad_shard: Literal["stop", "skip"] = setting("stop", "What to do at a shard that cannot be read.")

    def check_streaming(self) -> None:
        """Refuse settings that are for streams only, or for none.

        Raises:
            ValueError: naming the setting, its value and the way out.
        """
        if not self.streaming:
            for name, value in _changed(self).items():
                raise ValueError(f"{name}={value!r} is for a stream: set streaming to true, or leave it out")
            return
        defaults = {each.name: each.default for each in fields(self)}
        for name, way in _OF_ALL_ROWS.items():
            value = getattr(self, name, None)
            if name in defaults and value != defaults[name]:
                raise ValueError(f"{name}={value!r} needs all rows, and a stream has no end: {way}")
        weights, count = self.source_weights, 1 + len(self.sources or ())
        if weights is not None and len(weights) != count:
            raise ValueError(f"source_weights={weights!r}: expected {count} numbers, of dataset and of each source")


def is_pattern(name: str) -> bool:
    """Whether a dataset is named by a pattern of files or by an address, which only a stream takes.

    >>> [is_pattern(name) for name in ("owner/name", "shards/*.parquet", "https://host/rows.jsonl")]
    [False, True, True]
    """
    return _PATTERN.search(name) is not None


def shown(text: str) -> str:
    """Return a text, in whose addresses no secrets are left: no users with passwords, no signatures and tokens.

    >>> shown("s3://key:secret@bucket/a.csv"), shown("https://host/a.csv?token=1 is not there")
    ('s3://bucket/a.csv', 'https://host/a.csv?... is not there')
    """
    return _QUERY.sub(r"\1...", _USER.sub("", text))


def _changed(settings: Streaming) -> dict[str, Any]:
    values = {each.name: getattr(settings, each.name) for each in fields(Streaming)}
    return {each.name: values[each.name] for each in fields(Streaming) if values[each.name] != each.default}


def influential(task: Streaming, settings: dict[str, Any]) -> dict[str, Any]:
    """Return a task's settings without those of streams where it does not stream."""
    own = {each.name for each in fields(Streaming)}
    return settings if task.streaming else {name: value for name, value in settings.items() if name not in own}


def check_stream(task: Streaming, args: TrainingArguments, *mixing: MixupConfig) -> None:
    """Refuse, before anything is loaded, settings of a training that counts on an end of the data.

    Raises:
        ValueError: naming the setting and the way out.

    >>> from transformers import TrainingArguments
    >>> from hf_mixup.experiments.tasks import TaskArguments
    >>> check_stream(TaskArguments(streaming=True), TrainingArguments("out"))
    Traceback (most recent call last):
    ...
    ValueError: max_steps is not set: a stream has no end that would tell how long to train; add --max_steps NUMBER
    """
    if not task.streaming:
        return
    if args.max_steps <= 0:
        raise ValueError(
            "max_steps is not set: a stream has no end that would tell how long to train; add --max_steps NUMBER"
        )
    for name in ("eval_strategy", "save_strategy", "logging_strategy"):
        if getattr(args, name) == "epoch":
            steps = f"{name.removesuffix('_strategy')}_steps"
            raise ValueError(f"{name}='epoch': a stream has no epochs; use {name}='steps' with {steps}")
    for mixup in mixing:
        if mixup.schedule.disable_last_epochs:
            raise ValueError(
                f"disable_last_epochs={mixup.schedule.disable_last_epochs}: a stream has no epochs; use "
                "disable_last_ratio, a share of max_steps"
            )
