"""Saliency of tokens and pixels: the gradient of the loss at their embeddings, or at their channels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from hf_mixup.models.blocks import stack_of
from hf_mixup.models.embeddings import words_of
from hf_mixup.models.hooks import change_given, hooks_of
from hf_mixup.models.labels import LABELS, Labels, read_labels
from hf_mixup.models.losses import mixed_loss_sum
from hf_mixup.models.outputs import logits_of
from hf_mixup.models.probe import eval_without_side_effects, full_pair
from hf_mixup.models.trace import map_tensors


def token_saliency(model: nn.Module, batch: Mapping[str, Any], labels: Tensor) -> Tensor:
    """Return the L2 norm of the gradient of each sample's own loss at the embeddings of its tokens.

    The gradient is taken at the input of the first block; if that has other positions than the tokens, or no block is
    found, at the output of the table of words. One forward and backward pass over the batch in evaluation mode, without
    side effects on gradients of parameters, statistics or random state.

    Args:
        batch: the model inputs, with `input_ids` [B, T].
        labels: the labels of the samples.

    Returns:
        float32 [B, T].

    Raises:
        ValueError: if the model has neither.

    Source: Simonyan et al. 2013, "Deep Inside Convolutional Networks", arXiv 1312.6034, section 3, for tokens.

    >>> from transformers import BertConfig, BertForSequenceClassification
    >>> model = BertForSequenceClassification(BertConfig(vocab_size=9, hidden_size=8, num_hidden_layers=1,
    ...     num_attention_heads=1, intermediate_size=8))
    >>> batch = {"input_ids": torch.tensor([[1, 5, 6], [1, 7, 8]])}
    >>> token_saliency(model, batch, torch.tensor([0, 1])).shape
    torch.Size([2, 3])
    """
    read, entrance = read_labels(model, {**batch, LABELS: labels}), entrance_of(model, batch)
    found: list[Tensor] = []

    def leaf(states: Tensor) -> Tensor:
        if found or not states.is_floating_point():  # a scale beside quantised embeddings
            return states
        found.append(states.detach().requires_grad_())
        return found[0].clone()  # some models write into it

    with eval_without_side_effects(model), torch.enable_grad(), entrance.changed(leaf):
        logits = logits_of(model(**batch))
        (gradient,) = torch.autograd.grad(_plain_loss(logits, read), found)  # of the embeddings alone
    norms = gradient.float().norm(dim=-1)
    return (norms if entrance.axis == 0 else norms.mT)[:, : batch["input_ids"].shape[1]]  # the model may pad further


@dataclass(frozen=True)
class Entrance:
    """The place of the token embeddings in a forward pass.

    Args:
        module: its output are the embeddings, or with `before` its input.
        number: which of its calls.
        axis: the axis of the samples.
    """

    module: nn.Module
    number: int
    axis: int
    before: bool

    @contextmanager
    def changed(self, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
        """Replace the embeddings by what `change` returns for them."""
        calls = 0

        def now() -> bool:
            nonlocal calls
            calls += 1
            return calls == self.number + 1

        def given(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            return change_given(args, kwargs, change) if now() else None

        def returned(module: nn.Module, args: Any, output: Any) -> Any:
            return map_tensors(output, change) if now() else None

        if self.before:
            handle = self.module.register_forward_pre_hook(given, with_kwargs=True)
        else:
            handle = self.module.register_forward_hook(returned)
        try:
            yield
        finally:
            handle.remove()


def entrance_of(model: nn.Module, batch: Mapping[str, Any]) -> Entrance:
    """Return the place of the token embeddings (see `token_saliency`); found by running two samples, then cached.

    Raises:
        ValueError: if there is none.
    """
    cache = hooks_of(model).cache
    if "entrance" not in cache:
        entrance = _first_block(model, batch)
        if entrance is None:
            words = words_of(model, batch)
            entrance = None if words is None else Entrance(words.module, words.number, words.axis, before=False)
        cache["entrance"] = entrance
    if cache["entrance"] is None:
        raise ValueError(
            f"{type(model).__name__} has no table that reads input_ids as they are, where the gradient of each token "
            "could be taken: use method='span_cut', which needs none"
        )
    return cache["entrance"]


def _first_block(model: nn.Module, batch: Mapping[str, Any]) -> Entrance | None:
    """Return the input of the first block, None unless each token changes its own position there, and no other."""
    try:
        block = stack_of(model, batch).blocks[0]
    except ValueError:
        return None
    if block.given is None:
        return None
    entrance, seen = Entrance(block.module, block.number, block.given, before=True), []

    def look(states: Tensor) -> Tensor:
        seen.append(states.movedim(block.given or 0, 0))
        return states

    with eval_without_side_effects(model), entrance.changed(look):
        pair = full_pair(batch, model)
        model(**pair)
    other = pair["input_ids"][0] != pair["input_ids"][1]
    states = seen[0][:, : len(other)] if seen else other[:0]
    if block.given > 1 or states.dim() != 3 or states.shape[1] != len(other) or not bool(other.any()):
        return None
    return entrance if torch.equal((states[0] != states[1]).any(-1), other) else None


def input_saliency(model: nn.Module, batch: Mapping[str, Any], key: str, labels: Tensor | None) -> Tensor:
    """Return the root mean square over the channels of the gradient of each sample's own loss at its pixels.

    One forward and backward pass over the batch in evaluation mode, without side effects.

    Args:
        batch: the model inputs, with floats [B, C, H, W] under `key`.
        labels: the labels of the samples; None to take the score of the class that the model predicts.

    Returns:
        float32 [B, H, W], not negative; all 0 for a sample whose label is ignored.

    Source: Simonyan et al. 2013, "Deep Inside Convolutional Networks", arXiv 1312.6034, section 3.

    >>> from transformers import ResNetConfig, ResNetForImageClassification
    >>> model = ResNetForImageClassification(ResNetConfig(hidden_sizes=[8], depths=[1], embedding_size=8))
    >>> input_saliency(model, {"pixel_values": torch.rand(2, 3, 8, 9)}, "pixel_values", torch.tensor([0, 1])).shape
    torch.Size([2, 8, 9])
    """
    pixels = batch[key].detach().requires_grad_()
    with eval_without_side_effects(model), torch.enable_grad():
        logits = logits_of(model(**{**batch, key: pixels}))
        read = None if labels is None else read_labels(model, {**batch, LABELS: labels})
        score = logits.float().amax(-1).sum() if read is None else _plain_loss(logits, read)
        (gradient,) = torch.autograd.grad(score, pixels)
    return gradient.float().square().mean(1).sqrt()


def _plain_loss(logits: Tensor, labels: Labels) -> Tensor:
    """Return the summed loss of unmixed samples."""
    whole = torch.ones(len(labels.values), device=logits.device)
    return mixed_loss_sum(logits, labels.values, labels.values, whole, labels.kind)
