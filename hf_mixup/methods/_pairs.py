"""What the methods for image-text pairs share: which sides they mix, and what becomes of the targets."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from hf_mixup.functional import slerp
from hf_mixup.functional.contrastive import Mix
from hf_mixup.methods.base import Batch, Draw, Method, Request
from hf_mixup.methods.cutmix import CutMix
from hf_mixup.methods.mixup import blend_inputs
from hf_mixup.models.caption_tokens import activate_captions
from hf_mixup.models.dual_encoder import dual_encoder_of
from hf_mixup.models.hooks import Mixing, blend_states, hooks_of


class PairMethod(Method):
    """A method for dual encoders.

    A subclass says with `mixes_image` and `mixes_text` which sides of the targets are mixed, and with `late` how the
    embeddings are, if it mixes them.
    """

    for_pairs = True
    default_side: ClassVar[str] = "both"

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self._cutmix = CutMix(config.for_method("cutmix", loss="auto"))  # whose loss is for labels

    @property
    def mixes_image(self) -> bool:
        """Whether the images are mixed."""
        return (self.config.side or self.default_side) in ("both", "image")

    @property
    def mixes_text(self) -> bool:
        """Whether the captions are mixed."""
        return (self.config.side or self.default_side) in ("both", "text")

    @property
    def image_mix(self) -> str:
        """How images are mixed: "blend", "cut" or "latent"."""
        return self.config.image_mix

    @property
    def text_mix(self) -> str:
        """How captions are mixed: "late", "two_eot" or "aligned"."""
        return self.config.text_mix

    late: Mixing = staticmethod(blend_states)  # how embeddings are mixed, before they are normalised

    @property
    def enters_model(self) -> bool:  # type: ignore[override]
        """Whether anything is mixed inside the forward pass."""
        return self.mixes_text or (self.mixes_image and self.image_mix == "latent")

    def sides(self, draw: Draw) -> tuple[Mix | None, Mix | None]:
        """Return how images and captions are mixed, as the targets count it."""
        mix = (draw.partner, draw.lam)
        return (mix if self.mixes_image else None), (mix if self.mixes_text else None)

    def draw(self, request: Request) -> Draw:
        if self.mixes_image and self.image_mix == "cut":
            return replace(self._cutmix.draw(request), method=self.name)
        return super().draw(request)

    def apply(self, model: nn.Module, batch: Batch, draw: Draw, inplace: bool) -> dict[str, Any]:
        inputs = dict(batch)
        if self.mixes_image:
            inputs = self._mix_images(model, inputs, draw, inplace)
        if not self.mixes_text:
            return inputs
        if self.text_mix != "late":
            return activate_captions(model, inputs, draw.partner, draw.lam, self.text_mix)
        self._activate_late(model, dual_encoder_of(model).text, draw)
        return inputs

    def box_at_end(self, model: nn.Module, batch: Batch, everything: bool) -> Tensor:
        """Return the box of images at an end of lam: all of them, or nothing."""
        axes = self._cutmix.count_axes(model, batch) if self.image_mix == "cut" else 2
        return torch.tensor([0] * axes + [2**30 * everything] * axes)

    def _mix_images(self, model: nn.Module, inputs: dict[str, Any], draw: Draw, inplace: bool) -> dict[str, Any]:
        if self.image_mix == "latent":
            self._activate_late(model, dual_encoder_of(model).image, draw)
            return inputs
        if self.image_mix == "cut":
            return self._cutmix.apply(model, inputs, draw, inplace)
        return blend_images(inputs, draw, self.name, self.config.keys, inplace)

    def _activate_late(self, model: nn.Module, module: nn.Module, draw: Draw) -> None:
        hooks = hooks_of(model)
        hooks.track(hooks.after(module).activate(draw.partner, draw.lam, type(self).late))


def blend_images(
    inputs: dict[str, Any], draw: Draw, method: str, keys: list[str] | None, inplace: bool
) -> dict[str, Any]:
    """Return the inputs with every image, audio or video blended with its partner's.

    Raises:
        ValueError: for images of different shape in one batch, flattened into patches.
    """
    shapes = inputs.get("spatial_shapes")
    if shapes is not None and not torch.equal(shapes, shapes[draw.partner]):
        raise ValueError(
            "the images of this batch have different spatial_shapes, and their patches cannot be blended: let the "
            "processor resize them to one size, or set image_mix='latent'"
        )
    return blend_inputs(inputs, draw, method, keys, inplace)


def along_the_arc(states: Tensor, partner: Tensor | None, weight: Tensor | None) -> Tensor:
    """Mix embeddings [B, D] (or [B, D, 1, 1]) along great circles; their length is lost."""
    if partner is None or weight is None or len(states) != len(partner):
        raise RuntimeError(f"{len(states)} embeddings, but partners for {0 if partner is None else len(partner)} rows")
    flat = states.flatten(1)
    return slerp(flat, flat.index_select(0, partner), weight).to(states.dtype).reshape(states.shape)
