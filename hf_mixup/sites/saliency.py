"""How much each token, or each pixel, moves the loss: the gradient at its word embedding, or at its channels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from hf_mixup.losses import mixed_loss_sum
from hf_mixup.sites.embeddings import Lookup, words_of
from hf_mixup.sites.outputs import logits_of
from hf_mixup.sites.rows import undisturbed
from hf_mixup.sites.watch import map_tensors
from hf_mixup.targets import LABELS, Labels, read_labels


def token_saliency(model: nn.Module, batch: Mapping[str, Any], labels: Tensor) -> Tensor:
    """Return the L2 norm of the gradient of each row's own loss at the word embeddings of its tokens.

    One forward and backward pass over the batch in evaluation mode. Nothing of it is left: no gradient on a parameter,
    no statistics, no random numbers used.

    Args:
        batch: the model inputs, with `input_ids` [B, T].
        labels: those of the rows.

    Returns:
        float32 [B, T].

    Raises:
        ValueError: if the model has no table that reads `input_ids` as they are.

    Source: Simonyan et al. 2013, "Deep Inside Convolutional Networks", arXiv 1312.6034, section 3, for tokens.

    >>> from transformers import BertConfig, BertForSequenceClassification
    >>> model = BertForSequenceClassification(BertConfig(vocab_size=9, hidden_size=8, num_hidden_layers=1,
    ...     num_attention_heads=1, intermediate_size=8))
    >>> batch = {"input_ids": torch.tensor([[1, 5, 6], [1, 7, 8]])}
    >>> token_saliency(model, batch, torch.tensor([0, 1])).shape
    torch.Size([2, 3])
    """
    read, lookup = read_labels(model, {**batch, LABELS: labels}), _words(model, batch)
    found: list[Tensor] = []
    calls = 0

    def cut_off(module: nn.Module, args: Any, output: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls != lookup.number + 1:
            return None

        def leaf(states: Tensor) -> Tensor:
            if found or not states.is_floating_point():  # a scale beside quantised embeddings
                return states
            found.append(states.detach().requires_grad_())
            return found[0].clone()  # some models write into it

        return map_tensors(output, leaf)

    handle = lookup.module.register_forward_hook(cut_off)
    try:
        with undisturbed(model), torch.enable_grad():
            logits = logits_of(model(**batch))
            (gradient,) = torch.autograd.grad(_plain_loss(logits, read), found)  # of the embeddings alone
    finally:
        handle.remove()
    norms = gradient.float().norm(dim=-1)
    return (norms if lookup.axis == 0 else norms.mT)[:, : batch["input_ids"].shape[1]]  # the model may pad further


def input_saliency(model: nn.Module, batch: Mapping[str, Any], key: str, labels: Tensor | None) -> Tensor:
    """Return the root mean square over the channels of the gradient of each row's own loss at its pixels.

    One forward and backward pass over the batch in evaluation mode. Nothing of it is left: no gradient on a parameter,
    no statistics, no random numbers used.

    Args:
        batch: the model inputs, with floats [B, C, H, W] under `key`.
        labels: those of the rows; None to take the score of the class that the model itself finds.

    Returns:
        float32 [B, H, W], not negative; all 0 for a row whose label is ignored.

    Source: Simonyan et al. 2013, "Deep Inside Convolutional Networks", arXiv 1312.6034, section 3.

    >>> from transformers import ResNetConfig, ResNetForImageClassification
    >>> model = ResNetForImageClassification(ResNetConfig(hidden_sizes=[8], depths=[1], embedding_size=8))
    >>> input_saliency(model, {"pixel_values": torch.rand(2, 3, 8, 9)}, "pixel_values", torch.tensor([0, 1])).shape
    torch.Size([2, 8, 9])
    """
    pixels = batch[key].detach().requires_grad_()
    with undisturbed(model), torch.enable_grad():
        logits = logits_of(model(**{**batch, key: pixels}))
        read = None if labels is None else read_labels(model, {**batch, LABELS: labels})
        score = logits.float().amax(-1).sum() if read is None else _plain_loss(logits, read)
        (gradient,) = torch.autograd.grad(score, pixels)
    return gradient.float().square().mean(1).sqrt()


def _plain_loss(logits: Tensor, labels: Labels) -> Tensor:
    """Return the summed loss of rows that are not mixed."""
    whole = torch.ones(len(labels.values), device=logits.device)
    return mixed_loss_sum(logits, labels.values, labels.values, whole, labels.kind)


def _words(model: nn.Module, batch: Mapping[str, Any]) -> Lookup:
    """Return the reading of the table of words."""
    lookup = words_of(model, batch)
    if lookup is not None:
        return lookup
    raise ValueError(
        f"{type(model).__name__} has no table that reads input_ids as they are, where the gradient of each token could "
        "be taken: use method='span_cut', which needs none"
    )
