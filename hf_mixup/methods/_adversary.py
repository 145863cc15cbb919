"""Networks that propose how to move a sample: convolutional for images and spectrograms, an MLP for tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hf_mixup.models.attack_space import words_in
from hf_mixup.models.noise import IDS

WIDTH = 32
SPREAD = 2.0
"""Standard deviation of the values for an image: tanh of them is mostly near its ends, and never at rest there."""


class ImageAdversary(nn.Module):
    """Map images [B, C, H, W], spectrograms [B, T, F] or the frames of videos [B, T, C, H, W] to values of that shape.

    Works at half the resolution. Each position knows its surroundings, 11 values wide, the mean of the image, and what
    the network is told of the sample.

    Args:
        channels: of an image.
        told: numbers that are told.

    >>> ImageAdversary(3, told=2)(torch.rand(4, 3, 9, 8), torch.eye(2)[[0, 1, 0, 1]]).shape
    torch.Size([4, 3, 9, 8])
    """

    def __init__(self, channels: int, told: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(channels, WIDTH, 3, stride=2, padding=1)
        self.inner = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)
        self.whole = nn.Linear(WIDTH + told, WIDTH)
        self.up = nn.Conv2d(WIDTH, 4 * channels, 3, padding=1)

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        images = x.flatten(0, 1) if x.dim() == 5 else x.unsqueeze(1) if x.dim() == 3 else x
        told = told.repeat_interleave(len(images) // len(told), 0)
        states = F.gelu(self.down(F.layer_norm(images, images.shape[1:])))
        whole = self.whole(torch.cat([states.mean((2, 3)), told], dim=1))
        states = F.gelu(self.inner(states) + whole[..., None, None])
        values = F.pixel_shuffle(self.up(states), 2)[..., : images.shape[-2], : images.shape[-1]]
        return SPREAD * F.layer_norm(values, values.shape[1:]).reshape(x.shape)


class TokenAdversary(nn.Module):
    """Map embeddings of tokens [B, ..., T, H] to values of that shape: an MLP of each token and the mean of its text.

    Args:
        size: of an embedding, H.
        told: numbers that the network is told of a sample.

    >>> TokenAdversary(8, told=2)(torch.rand(4, 5, 8), torch.eye(2)[[0, 1, 0, 1]], None).shape
    torch.Size([4, 5, 8])
    """

    def __init__(self, size: int, told: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(2 * size + told, size)
        self.out = nn.Linear(size, size)

    def forward(self, x: Tensor, told: Tensor, mask: Tensor | None) -> Tensor:
        """Return a value for each that was given.

        Args:
            told: of each sample, [B, N].
            mask: bool [B, ..., T, 1], False for padding; None for none.
        """
        tokens = F.layer_norm(x, x.shape[-1:])
        seen = torch.ones_like(tokens[..., :1]) if mask is None else mask.to(tokens.dtype)
        mean = (tokens * seen).sum(-2, keepdim=True) / seen.sum(-2, keepdim=True).clamp(min=1)
        told = told.reshape(len(x), *(1,) * (x.dim() - 2), -1).expand(*x.shape[:-1], -1)
        return self.out(F.gelu(self.hidden(torch.cat([tokens, mean.expand_as(tokens), told], dim=-1))))


def network_for(
    model: nn.Module, batch: Mapping[str, Any], labels: Tensor, keys: list[str] | None, seed: int
) -> nn.Module:
    """Return a network for the inputs of a batch, where they lie; its weights follow from the seed alone.

    Args:
        labels: of the batch, see `told_of`.
        keys: its float inputs; None for the embeddings of its tokens.

    Raises:
        ValueError: for several inputs, or one that has no two axes to look along.
    """
    told = told_of(model, labels).shape[1]
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        if keys is None:
            return TokenAdversary(words_in(model, batch).shape[-1], told).to(batch[IDS].device)
        x = batch[keys[0]]
        if len(keys) > 1:
            raise ValueError(f"attack='network' moves one input, and the batch has {', '.join(keys)}: name one in keys")
        if x.dim() not in (3, 4, 5):
            raise ValueError(
                f"attack='network' reads images, spectrograms, videos and tokens, and {keys[0]} is {list(x.shape)}: "
                "use attack='fgsm' or 'pgd'"
            )
        return ImageAdversary(1 if x.dim() == 3 else x.shape[-3], told).to(x.device)


def told_of(model: nn.Module, labels: Tensor) -> Tensor:
    """Return what a network is told of samples, floats [B, N]: which class, or which numbers, they have as labels.

    N is 0 where there is a label for each token or pixel. A label that is ignored is told as no class.

    >>> from hf_mixup.testing.batches import tiny
    >>> told_of(tiny("image-classification", "vit")[0], torch.tensor([1, -100]))
    tensor([[0., 1., 0., 0.],
            [0., 0., 0., 0.]])
    """
    if labels.dim() > 2 or (labels.dim() == 2 and not labels.is_floating_point()):
        return torch.zeros(len(labels), 0, device=labels.device)
    if labels.is_floating_point():
        return labels.reshape(len(labels), -1)
    classes = getattr(getattr(model, "config", None), "num_labels", 0)
    return (labels[:, None] == torch.arange(classes, device=labels.device)).float()


def propose(
    network: nn.Module, model: nn.Module, batch: Mapping[str, Any], labels: Tensor, x: Tensor, mask: Tensor | None
) -> Tensor:
    """Return what a network makes of the inputs of a batch, in its own precision, whatever that of the model.

    Args:
        x, mask: of the `AttackSpace`, which holds no embeddings.
    """
    dtype, tokens = next(network.parameters()).dtype, isinstance(network, TokenAdversary)
    seen = words_in(model, batch) if tokens else x
    with torch.autocast(x.device.type, enabled=False):
        return network(seen.to(dtype), told_of(model, labels).to(dtype), *((mask,) if tokens else ()))
