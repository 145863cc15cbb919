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


class ImageAdversary(nn.Module):
    """Map images [B, C, H, W], spectrograms [B, T, F] or the frames of videos [B, T, C, H, W] to values of that shape.

    Works at half the resolution. Each position knows its surroundings, 11 values wide, and the mean of the image.

    >>> ImageAdversary(3)(torch.rand(2, 3, 9, 8)).shape
    torch.Size([2, 3, 9, 8])
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(channels, WIDTH, 3, stride=2, padding=1)
        self.inner = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)
        self.whole = nn.Linear(WIDTH, WIDTH)
        self.up = nn.Conv2d(WIDTH, 4 * channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        images = x.flatten(0, 1) if x.dim() == 5 else x.unsqueeze(1) if x.dim() == 3 else x
        states = F.gelu(self.down(F.layer_norm(images, images.shape[1:])))
        states = F.gelu(self.inner(states) + self.whole(states.mean((2, 3)))[..., None, None])
        values = F.pixel_shuffle(self.up(states), 2)[..., : images.shape[-2], : images.shape[-1]]
        return values.reshape(x.shape)


class TokenAdversary(nn.Module):
    """Map embeddings of tokens [..., T, H] to values of that shape: an MLP of each token and the mean of its text.

    >>> TokenAdversary(8)(torch.rand(2, 5, 8)).shape
    torch.Size([2, 5, 8])
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(2 * size, size)
        self.out = nn.Linear(size, size)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return a value for each that was given.

        Args:
            mask: bool [..., T, 1], False for padding; None for none.
        """
        tokens = F.layer_norm(x, x.shape[-1:])
        seen = torch.ones_like(tokens[..., :1]) if mask is None else mask.to(tokens.dtype)
        mean = (tokens * seen).sum(-2, keepdim=True) / seen.sum(-2, keepdim=True).clamp(min=1)
        return self.out(F.gelu(self.hidden(torch.cat([tokens, mean.expand_as(tokens)], dim=-1))))


def network_for(model: nn.Module, batch: Mapping[str, Any], keys: list[str] | None, seed: int) -> nn.Module:
    """Return a network for the inputs of a batch, where they lie; its weights follow from the seed alone.

    Args:
        keys: its float inputs; None for the embeddings of its tokens.

    Raises:
        ValueError: for several inputs, or one that has no two axes to look along.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        if keys is None:
            return TokenAdversary(words_in(model, batch).shape[-1]).to(batch[IDS].device)
        x = batch[keys[0]]
        if len(keys) > 1:
            raise ValueError(f"attack='network' moves one input, and the batch has {', '.join(keys)}: name one in keys")
        if x.dim() not in (3, 4, 5):
            raise ValueError(
                f"attack='network' reads images, spectrograms, videos and tokens, and {keys[0]} is {list(x.shape)}: "
                "use attack='fgsm' or 'pgd'"
            )
        return ImageAdversary(1 if x.dim() == 3 else x.shape[-3]).to(x.device)


def propose(network: nn.Module, model: nn.Module, batch: Mapping[str, Any], x: Tensor, mask: Tensor | None) -> Tensor:
    """Return what a network makes of the inputs of a batch, in its own precision, whatever that of the model.

    Args:
        x, mask: of the `AttackSpace`, which holds no embeddings.
    """
    tokens = isinstance(network, TokenAdversary)
    given = (words_in(model, batch), mask) if tokens else (x,)
    with torch.autocast(x.device.type, enabled=False):
        return network(given[0].to(next(network.parameters()).dtype), *given[1:])
