"""Batches of one modality or another, drawn for and mixed without a model, and loops that cut them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig

from hf_mixup import MixupConfig
from hf_mixup.methods.base import Request

LENGTHS = torch.tensor([40, 25, 3, 12, 40])
RAGGED = (torch.arange(40) < LENGTHS[:, None]).long()
Size = tuple[int, ...]


class Named(nn.Module):
    """A model that is only asked for its configuration."""

    def __init__(self, **config: Any) -> None:
        super().__init__()
        self.config = PreTrainedConfig(**config)


def drawn(method: str, batch: dict[str, Tensor], model: nn.Module | None = None, **settings: Any) -> tuple[Any, Any]:
    """Draw and apply; return the parameters and the mixed inputs. `partner` and `dictated` go to the request."""
    partner, lam = settings.pop("partner", None), settings.pop("dictated", None)
    mixing = MixupConfig(method, **settings).mixing
    model, rng = model or Named(num_mel_bins=6), torch.Generator().manual_seed(settings.get("draw_seed") or 0)
    rows = len(next(iter(batch.values())))
    draw = mixing.draw(Request(model, batch, torch.arange(rows), mixing.prob, rng, partner, lam))
    return draw, mixing.apply(model, batch, draw, False)


def loop_cut(x: Tensor, draw: Any, axes: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Cut and paste a sample at a time; return the samples and the share of positions that each kept."""
    out, shares = x.clone(), []
    boxes = draw.boxes.expand(len(x), 2 * len(axes)).tolist()
    for row, box in enumerate(boxes):
        window = [slice(None)] * (x.dim() - 1)
        for place, axis in enumerate(axes):
            window[axis - 1] = slice(box[place], box[place + len(axes)])
        out[row][tuple(window)] = x[draw.partner[row]][tuple(window)]
        taken = torch.zeros(x.shape[1:])
        taken[tuple(window)] = 1
        shares.append(1 - taken.mean())
    return out, torch.stack(shares)


def ragged(kind: str) -> dict[str, Tensor]:
    """Make samples of one value each, at least 1, with 0 in the place of padding."""
    values = torch.arange(5) + 1.0
    if kind == "series":
        observed = torch.rand(5, 40, 3, generator=torch.Generator().manual_seed(0)) < 0.6
        return {"past_values": values[:, None, None] * observed, "past_observed_mask": observed}
    size = {"waveform": (5, 40), "spectrogram": (5, 40, 6), "transposed": (5, 6, 40)}[kind]
    places = RAGGED if kind == "waveform" else RAGGED[:, :, None] if kind == "spectrogram" else RAGGED[:, None]
    return {
        "input_values": (values.reshape(-1, *(1,) * (len(size) - 1)) * places).expand(size),
        "attention_mask": RAGGED,
    }


def table(rows: int = 6) -> dict[str, Tensor]:
    values = torch.arange(rows)
    return {
        "numerical_values": (values + 1.0)[:, None].expand(rows, 4).clone(),
        "categorical_values": values[:, None].expand(rows, 5).clone(),
        "flags_categorical": (values % 2 == 0)[:, None].expand(rows, 2).clone(),
    }
