"""TransMix: CutMix whose labels follow the attention that the model pays to either part of the mixed image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from hf_mixup.methods._boxes import RandomBox
from hf_mixup.methods.base import Batch, BoxDraw, Request
from hf_mixup.methods.capabilities import NeedsAttention, SettlesLater
from hf_mixup.methods.registry import register
from hf_mixup.models.attention import class_attention, patch_of
from hf_mixup.models.hooks import MixHook, hooks_of


@register
class TransMix(RandomBox, NeedsAttention, SettlesLater):
    """Cut and paste as `cutmix` does, and weigh the labels half by area, half by attention.

    The weight of a sample's own label is the mean of two shares: of the pixels that stayed its own, and of the
    attention that the class token pays to patches that did, in the last layer of this very forward pass, averaged over
    heads. A patch counts for the image that its centre is of (in the authors' code, its top left pixel). No gradient
    flows through the weight, and no second pass is needed. The model has to return attention weights: load it with
    attn_implementation="eager", which takes more memory than fused attention. `lam` of the batch is the share of pixels
    until the loss is taken. The mean of the two is the authors' code (https://github.com/Beckschen/TransMix); the
    paper's equation has the attention alone.

    Raises:
        RuntimeError: if the model returns no attention.

    Source: Chen et al. 2021, "TransMix: Attend to Mix for Vision Transformers", arXiv 2111.09833, section 3.2.

    >>> from hf_mixup import Mixup
    >>> from hf_mixup.testing.batches import tiny
    >>> model, batch = tiny("image-classification", "vit")
    >>> model.set_attn_implementation("eager")
    >>> with Mixup("transmix")(model, batch, lam=0.75) as mixed:
    ...     loss = mixed.loss(model(**mixed.inputs))
    >>> mixed.lam.shape  # the share of pixels; the loss has the attention, too
    torch.Size([4])
    """

    name = "transmix"
    title = "TransMix"
    blends = "image inputs `[B, C, H, W]`, cut and pasted; labels by attention (vision transformers)"
    modalities = ("image",)
    paper = "arXiv:2111.09833"
    begin_with = "alpha=1.0"
    citation = (
        "@inproceedings{chen2022transmix, title={{TransMix}: Attend to Mix for Vision Transformers}, author={Chen, "
        "Jie-Neng and Sun, Shuyang and He, Ju and Torr, Philip and Yuille, Alan and Bai, Song}, booktitle={CVPR}, "
        "year={2022}}"
    )
    own_loss = True  # the weights are known only when the model has run

    def __post_init__(self) -> None:
        super().__post_init__()
        self.attention: Attention | None = None

    def prepare(self, model: nn.Module) -> None:
        hooks_of(model).after(model, Attention)

    def draw(self, request: Request) -> BoxDraw:
        draw = super().draw(request)
        return replace(draw, open=self.rows_changed(draw) > 0)

    def apply(self, model: nn.Module, batch: Batch, draw: BoxDraw, inplace: bool) -> dict[str, Any]:
        mixed = super().apply(model, batch, draw, inplace)
        pixels = mixed[next(iter(self.cut_axes(model, batch, len(draw.partner))))]
        hook = hooks_of(model).after(model, Attention)
        hook.watch(draw, pixels, patch_of(model))
        hooks_of(model).track(hook)
        self.attention = hook
        return {**mixed, "output_attentions": True}

    def settle(self, logits: Tensor, labels: Tensor, draw: BoxDraw) -> BoxDraw:
        """Return the parameters with the weights of the labels, of which the draw knew the area alone."""
        if self.attention is None or self.attention.own is None:
            raise RuntimeError("method 'transmix' has seen no forward pass of the mixed batch before its loss")
        return replace(draw, lam=(draw.lam + self.attention.own) / 2, open=False)


class Attention(MixHook):
    """The end of a model, where the attention of a mixed batch is read; nothing is changed there.

    Attributes:
        own: share of the attention that the sample's own patches were paid in the last pass, float32 [B].
    """

    def __init__(self) -> None:
        super().__init__()
        self.own: Tensor | None = None
        self.boxes: Tensor | None = None
        self.pixels: Tensor | None = None
        self.patch: tuple[int, int] | None = None

    def watch(self, draw: BoxDraw, pixels: Tensor, patch: tuple[int, int] | None) -> None:
        """Make the next forward pass leave its attention here."""
        self.activate(draw.partner, draw.lam)
        shape = torch.empty_like(pixels, device="meta")  # no images are kept
        self.own, self.boxes, self.pixels, self.patch = None, draw.boxes, shape, patch

    def forget(self) -> None:
        super().forget()
        self.boxes = self.pixels = None

    def after(self, module: nn.Module, args: Any, output: Any) -> None:
        if not self.on or self.pixels is None or self.boxes is None:
            return
        self.count(module)
        paid = class_attention(output, self.pixels, self.patch)
        if paid is None:
            held = ", ".join(output) if isinstance(output, Mapping) else type(output).__name__
            raise RuntimeError(
                f"{type(module).__name__} returned no attention between the patches of the whole image (it returned "
                f"{held}): load it with attn_implementation='eager'; for models without such attention use 'cutmix'"
            )
        self.own = own_attention(paid, self.boxes, *self.pixels.shape[-2:])


def own_attention(paid: Tensor, boxes: Tensor, height: int, width: int) -> Tensor:
    """Return the share of the attention that is paid outside a box, float32 [B].

    Args:
        paid: attention to each patch, float32 [B, h, w].
        boxes: (top, left, bottom, right) in pixels, long [4] or [B, 4].
        height, width: of the image; a patch is in the box if its centre is.

    >>> paid = torch.tensor([[[0.1, 0.2], [0.3, 0.2]]])
    >>> own_attention(paid, torch.tensor([0, 0, 4, 2]), 4, 4)
    tensor([0.5000])
    """
    top, left, bottom, right = boxes.reshape(-1, 1, 1, 4).unbind(-1)
    rows, columns = paid.shape[1:]
    y = (torch.arange(rows, device=paid.device)[:, None] + 0.5) * (height / rows)
    x = (torch.arange(columns, device=paid.device) + 0.5) * (width / columns)
    outside = ~((y >= top) & (y < bottom) & (x >= left) & (x < right))
    return (paid * outside).sum((-2, -1)) / paid.sum((-2, -1)).clamp(min=torch.finfo(paid.dtype).tiny)
