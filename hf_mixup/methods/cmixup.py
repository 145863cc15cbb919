"""Mixup for regression: partners that are near in their labels."""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor, nn

from hf_mixup.functional import pair_by_label_distance
from hf_mixup.methods.base import Batch, Draw, DrawnLam, Request, setting
from hf_mixup.methods.capabilities import MixesForecasts
from hf_mixup.methods.registry import register
from hf_mixup.methods.tabular import SwapColumns
from hf_mixup.models.embeddings import install_tables
from hf_mixup.models.padding import mix_embeddings
from hf_mixup.models.streams import blend_floats


@register
class CMixup(DrawnLam, SwapColumns, MixesForecasts):
    """Blend samples whose labels are near: token embeddings where the batch has tokens, else every float input.

    Categories of tables are swapped, as `tabular` does.

    The partner's chance falls as a Gaussian of the distance between the labels, whose standard deviation is
    `label_bandwidth`, in the units of the labels (as the paper has it, which tunes it for each dataset). Partners are
    drawn from the batch, and samples may share one.

    Raises:
        ValueError: for classes; `pairing`, `pair_class` or `lam_per="pair"`, which do not go with it.

    Source: Yao et al. 2022, "C-Mixup: Improving Generalization in Regression", arXiv 2210.05775.

    >>> import torch
    >>> from hf_mixup import Mixup
    >>> from hf_mixup.tabular import TabularConfig, TabularMLP
    >>> model = TabularMLP(TabularConfig(numerical_size=3, num_labels=1, problem_type="regression"))
    >>> batch = {"numerical_values": torch.rand(4, 3), "labels": torch.tensor([0.0, 0.1, 5.0, 5.1])}
    >>> with Mixup({"method": "cmixup", "label_bandwidth": 0.1})(model, batch) as mixed:
    ...     loss = mixed.loss(model(**mixed.inputs))
    >>> mixed.partner
    tensor([1, 0, 3, 2])
    """

    name = "cmixup"
    title = "C-Mixup"
    blends = "what `embedding` or `mixup` blends, with partners near in label (regression)"
    modalities = ("image", "text", "audio", "video", "table")
    paper = "arXiv:2210.05775"
    begin_with = "alpha=2.0:label_bandwidth=0.5"
    citation = (
        "@inproceedings{yao2022cmixup, title={C-Mixup: Improving Generalization in Regression}, author={Yao, Huaxiu "
        "and Wang, Yiping and Zhang, Linjun and Zou, James and Finn, Chelsea}, booktitle={NeurIPS}, year={2022}}"
    )

    attention_mask_mode: Literal["union", "weighted"] = setting(
        "union", "Of tokens: attention sees those of both samples alike, or each as much as its sample counts."
    )
    label_bandwidth: float = setting(
        1.0, "Standard deviation of the Gaussian over distances of labels, in their units.", above=0
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.lam_per == "pair":
            raise ValueError("lam_per='pair': with method 'cmixup' rows may share a partner; use 'batch' or 'row'")

    def draw(self, request: Request) -> Draw:
        draw = super().draw(request)
        return draw if _has_tokens(request.batch) else self.draw_swaps(draw, request)

    def prepare(self, model: nn.Module) -> None:
        install_tables(model)

    def enters(self, model: nn.Module, batch: Batch) -> bool:
        return _has_tokens(batch)  # float inputs are blended before the model

    def apply(self, model: nn.Module, batch: Batch, draw: Draw, inplace: bool) -> dict[str, Any]:
        if _has_tokens(batch):
            return mix_embeddings(
                model,
                blend_floats(model, batch, draw.partner, draw.lam),
                draw.partner,
                draw.lam,
                self.attention_mask_mode,
            )
        return self.swap_and_blend(batch, draw, inplace)

    def _draw_partner(self, request: Request) -> Tensor:
        labels = request.labels
        if not labels.is_floating_point():
            raise ValueError(
                f"method 'cmixup' needs labels with a distance, found {labels.dtype}: for regression give them as "
                "floats; for classes use 'mixup', 'embedding' or 'manifold'"
            )
        return pair_by_label_distance(labels, self.label_bandwidth, request.rng)


def _has_tokens(batch: Batch) -> bool:
    return "input_ids" in batch
