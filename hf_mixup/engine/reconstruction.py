"""The mixed batch of a model that paints the hidden parts of its images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from hf_mixup.engine.batch import MixedTargetBatch, refuse_loss_settings
from hf_mixup.engine.context import Context, Requested
from hf_mixup.methods._segmentation import refuse_for_targets
from hf_mixup.models.adapters import base_model
from hf_mixup.models.labels import LABEL_KEYS

PIXELS, HIDES = "pixel_values", ("bool_masked_pos", "noise")
LEARNS = "the hidden pixels"
HEADS = ("ForMaskedImageModeling", "ForPreTraining")


class ReconstructionBatch(MixedTargetBatch):
    """A mixed batch of images (or clips) whose hidden parts a model paints; used as `MixedBatch` is.

    The model's own loss on the mixed image is the mixed loss: there is nothing else to mix. What is hidden is hidden
    where the sample with the larger share hides it (lam at least 1/2: the sample itself), so that each mixed image
    hides as much as any; a model that draws it by itself goes on to do so.

    Source: Xie et al. 2022, "SimMIM: a Simple Framework for Masked Image Modeling", arXiv 2111.09886, and He et al.
    2022, "Masked Autoencoders Are Scalable Vision Learners", arXiv 2111.06377, for what the model learns.
    """

    @classmethod
    def matches(cls, model: nn.Module, batch: Mapping[str, Any]) -> bool:
        """Whether the model, by its name, paints images, and the batch says what is hidden or has no labels."""
        unlabelled = all(batch.get(key) is None for key in LABEL_KEYS)
        named = type(base_model(model)).__name__.endswith(HEADS)
        return named and isinstance(batch.get(PIXELS), Tensor) and (unlabelled or batch.get(HIDES[0]) is not None)

    @classmethod
    def build(
        cls, context: Context, model: nn.Module, batch: Mapping[str, Any], requested: Requested
    ) -> ReconstructionBatch:
        """Refuse what does not go with it, and draw; see `MixedBatch.build`.

        Raises:
            ValueError: for a model that learns from more than pixels, or a setting or a method that does not go with
                it.
        """
        refuse_further_inputs(model, batch)
        refuse_loss_settings(context, model, LEARNS)
        refuse_for_targets(context.method, model, context.guide is not None, LEARNS, of_inputs=True)
        inputs = dict(batch)
        rows = torch.zeros(len(batch[PIXELS]))
        draw = context.draw(model, inputs, rows, requested, boxes=True, exchange=False)
        return cls(context, model, inputs, inputs[PIXELS], draw, requested.inplace)

    @property
    def targets(self) -> Tensor:
        """The mixed images."""
        return self.inputs[PIXELS]

    def __enter__(self) -> ReconstructionBatch:
        super().__enter__()
        if self.rate:
            own = self.lam >= 0.5
            for key in HIDES:
                hidden = self.inputs.get(key)
                if isinstance(hidden, Tensor):
                    self.inputs[key] = torch.where(
                        own.reshape(-1, *(1,) * (hidden.dim() - 1)), hidden, hidden[self.partner]
                    )
        return self


def refuse_further_inputs(model: nn.Module, batch: Mapping[str, Any]) -> None:
    """Refuse a batch with more than pixels, and what is hidden of them.

    Raises:
        ValueError: naming the model and what the batch holds.
    """
    name = type(base_model(model)).__name__
    further = [key for key, value in batch.items() if isinstance(value, Tensor) and key not in (PIXELS, *HIDES)]
    if any(key in LABEL_KEYS for key in further):
        raise ValueError(
            f"{name} learns {', '.join(further)} of the hidden parts, an entry of a codebook for each part of all "
            "images in one row, which belong to no sample: these are not mixed. Train it without mixing (prob=0), or "
            "a model that paints pixels (ViT, DeiT, Swin, FocalNet ForMaskedImageModeling, ViTMAE, Hiera, VideoMAE)"
        )
    if further:
        raise ValueError(
            f"{name} learns from more than pixels: {', '.join(further)}. Only models that paint pixels and read "
            "nothing else are mixed. Train it without mixing (prob=0)"
        )
