"""What the methods for image-text pairs share: which sides they mix, and what becomes of the targets."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from hf_mixup.functional import slerp
from hf_mixup.functional.contrastive import Mix
from hf_mixup.methods.base import Batch, Blend, BoxDraw, Draw, FixedLam, FloatInputs, Request, setting
from hf_mixup.methods.cutmix import CutMix
from hf_mixup.methods.registry import settings_of
from hf_mixup.models.caption_tokens import activate_captions
from hf_mixup.models.dual_encoder import dual_encoder_of
from hf_mixup.models.hooks import Mixing, blend_states, hooks_of
from hf_mixup.models.streams import blend_inputs


@dataclass(kw_only=True)
class PairMethod(FixedLam):
    """A method for dual encoders.

    A subclass says with `mixes_image` and `mixes_text` which sides of the targets are mixed, and with `late` how the
    embeddings are, if it mixes them.
    """

    modalities = ("pairs",)
    for_pairs = True
    mixes_image: ClassVar[bool] = True
    mixes_text: ClassVar[bool] = True
    image_mix: ClassVar[str] = "latent"
    text_mix: ClassVar[str] = "late"
    late: ClassVar[Mixing] = staticmethod(blend_states)  # how embeddings are mixed, before they are normalised

    @property
    def enters_model(self) -> bool:  # type: ignore[override]
        """Whether anything is mixed inside the forward pass."""
        return self.mixes_image or self.mixes_text

    def sides(self, draw: Draw) -> tuple[Mix | None, Mix | None]:
        """Return how images and captions are mixed, as the targets count it."""
        mix = (draw.partner, draw.lam)
        return (mix if self.mixes_image else None), (mix if self.mixes_text else None)

    def draw_end(self, model: nn.Module, batch: Batch, lam: float) -> Draw:
        """Return the draw that exchanges two samples (lam = 0), or leaves them as they are (1)."""
        return Draw(self.name, torch.tensor([1, 0]), torch.full((2,), lam))

    def apply(self, model: nn.Module, batch: Batch, draw: Draw, inplace: bool) -> dict[str, Any]:
        if self.mixes_image:
            self._activate_late(model, dual_encoder_of(model).image, draw)
        if self.mixes_text:
            self._activate_late(model, dual_encoder_of(model).text, draw)
        return dict(batch)

    def _activate_late(self, model: nn.Module, module: nn.Module, draw: Draw) -> None:
        hooks = hooks_of(model)
        hooks.track(hooks.after(module).activate(draw.partner, draw.lam, type(self).late))


@dataclass(kw_only=True)
class ImageTextMix(Blend, PairMethod, FloatInputs):
    """A method that mixes images and captions, each in one of several ways."""

    image_mix: Literal["blend", "cut", "latent"] = setting(  # type: ignore[misc]
        "blend", "Mix images by blending pixels, by cut and paste, or as embeddings."
    )
    text_mix: Literal["late", "two_eot", "aligned"] = setting(  # type: ignore[misc]
        "late", "Mix captions as embeddings (late), or their tokens with two pooled ends or aligned."
    )
    box_sides: list[float] | None = setting(
        None, "image_mix='cut': lowest and highest side of the box as shares of the image's, instead of alpha."
    )
    box_style: Literal["timm", "torchvision"] = setting("timm", "image_mix='cut': whose rounding of the box to follow.")
    cut_along: Literal["time", "space", "both"] | None = setting(
        None, "image_mix='cut': cut along time, along space (or frequency), or both; by default as befits the input."
    )
    time_axis: int | None = setting(None, "image_mix='cut': the axis of the input that is time.", at_least=1)
    correct_lam: bool = setting(True, "image_mix='cut': set lam to the true share of the sample's own pixels.")

    def __post_init__(self) -> None:
        super().__post_init__()
        own = settings_of(CutMix)
        self._cutmix = CutMix(**{name: getattr(self, name) for name in own})

    def unread(self) -> dict[str, str]:
        found = (
            {} if self.box_sides is None else dict.fromkeys(("alpha", "beta", "lam_at_least_half"), "without box_sides")
        )
        if self.lam is not None:
            found["box_sides"] = "without lam"
        if not self.mixes_image or self.image_mix != "cut":
            needs = "where images are mixed with image_mix='cut'"
            found |= dict.fromkeys(("box_sides", "box_style", "cut_along", "time_axis", "correct_lam"), needs)
        if not self.mixes_image or self.image_mix == "latent":
            found["keys"] = "where images are mixed with image_mix='blend' or 'cut'"
        if not self.mixes_image:
            found["image_mix"] = "where the image is mixed (side)"
        if not self.mixes_text:
            found["text_mix"] = "where the text is mixed (side)"
        return {**found, **super().unread()}

    @property
    def enters_model(self) -> bool:  # type: ignore[override]
        """Whether anything is mixed inside the forward pass."""
        return self.mixes_text or (self.mixes_image and self.image_mix == "latent")

    def alike(self, model: nn.Module) -> Literal["grids", "tokens"] | None:
        return "grids" if self.mixes_image and self.image_mix != "latent" else None

    def draw(self, request: Request) -> Draw:
        if not self.mixes_image or self.image_mix != "cut":
            return super().draw(request)
        return replace(self._cutmix.draw(replace(request, partner=self._partners(request))), method=self.name)

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

    def draw_end(self, model: nn.Module, batch: Batch, lam: float) -> Draw:
        end = super().draw_end(model, batch, lam)
        if not self.mixes_image or self.image_mix != "cut":
            return end
        axes = self._cutmix.count_axes(model, batch)
        return end.more(BoxDraw, boxes=torch.tensor([0] * axes + [2**30 * (lam == 0)] * axes))

    def _mix_images(self, model: nn.Module, inputs: dict[str, Any], draw: Any, inplace: bool) -> dict[str, Any]:
        if self.image_mix == "latent":
            self._activate_late(model, dual_encoder_of(model).image, draw)
            return inputs
        if self.image_mix == "cut":
            return self._cutmix.apply(model, inputs, draw, inplace)
        return blend_inputs(inputs, draw.partner, draw.lam, self.name, self.keys, inplace)


def along_the_arc(states: Tensor, partner: Tensor | None, weight: Tensor | None) -> Tensor:
    """Mix embeddings [B, D] (or [B, D, 1, 1]) along great circles; their length is lost."""
    if partner is None or weight is None or len(states) != len(partner):
        raise RuntimeError(f"{len(states)} embeddings, but partners for {0 if partner is None else len(partner)} rows")
    flat = states.flatten(1)
    return slerp(flat, flat.index_select(0, partner), weight).to(states.dtype).reshape(states.shape)
