"""Running a model's head once more on what its encoder said, which is not run again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from hf_mixup.models.adapters import base_model
from hf_mixup.models.trace import map_tensors
from hf_mixup.utils.random_state import RandomState


class Replay:
    """What the encoder of a model said in one forward pass, to be said again in the next ones.

    A head that is trained by a loss of its own needs a pass for each label. Where the labels do not enter the encoder,
    which is the model below the head (`base_model_prefix` of transformers), it has to run once. Where they do, where
    it runs several times, or in a compiled model, every pass runs it.

    Attributes:
        used: whether the last pass under `again` took what was said before.

    >>> from transformers import BertConfig, BertForPreTraining
    >>> model = BertForPreTraining(BertConfig(hidden_size=4, num_hidden_layers=1, num_attention_heads=1, vocab_size=9))
    >>> replay, ids = Replay(model), torch.tensor([[1, 2, 3]])
    >>> with replay.recording():
    ...     first = model(ids)
    >>> with replay.again():
    ...     second = model(ids)
    >>> replay.used, bool((first.prediction_logits == second.prediction_logits).all())
    (True, True)
    """

    def __init__(self, model: nn.Module) -> None:
        self.model, self.used = model, False
        self._encoder = encoder_of(model)
        self._forward: Any = None  # the encoder's own
        self._calls: list[tuple[Any, Any, RandomState]] = []

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Keep what the encoder says."""
        self._calls = []
        if self._encoder is None:
            yield
            return
        handle = self._encoder.register_forward_hook(self._record, with_kwargs=True)
        try:
            yield
        finally:
            handle.remove()

    def _record(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        if not torch.compiler.is_compiling():
            # A copy: the head may change in place what it is given, as dropout of that kind does.
            self._calls.append(((args, kwargs), map_tensors(output, Tensor.clone), RandomState(self.model)))

    @contextmanager
    def again(self) -> Iterator[None]:
        """Let the encoder say what it has said, if it is given the same; the head then drops by the same numbers."""
        self.used = False
        if self._encoder is None or len(self._calls) != 1:
            yield
            return
        self._forward = self._encoder.forward
        vars(self._encoder)["forward"] = self._say
        try:
            yield
        finally:
            del vars(self._encoder)["forward"]

    def _say(self, *args: Any, **kwargs: Any) -> Any:
        given, output, random = self._calls[0]
        if not _same(given, (args, kwargs)):
            return self._forward(*args, **kwargs)
        random.restore()
        self.used = True
        return map_tensors(output, Tensor.clone)


def encoder_of(model: nn.Module) -> nn.Module | None:
    """Return the part of a model below its head, None where it has none or is one itself."""
    whole = base_model(model)
    name = getattr(whole, "base_model_prefix", "")
    part = getattr(whole, name, None) if name else None
    if part is None:  # a transducer, whose other part reads the labels
        part = getattr(whole, "encoder", None)
    return part if isinstance(part, nn.Module) and part is not whole and "forward" not in vars(part) else None


def _same(one: Any, other: Any) -> bool:
    """Whether two things that a module is given are the same."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one is other or (one.shape == other.shape and one.dtype == other.dtype and torch.equal(one, other))
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_same(each, other[key]) for key, each in one.items())
    if isinstance(one, (tuple, list)) and isinstance(other, (tuple, list)):
        return len(one) == len(other) and all(map(_same, one, other))
    return one is other or bool(type(one) is type(other) and one == other)
