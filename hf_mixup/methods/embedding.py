"""Mixup of token embeddings."""

from __future__ import annotations

from typing import Any, Literal

from torch import nn

from hf_mixup.methods.base import ALPHA, Batch, Blend, Draw, Request, setting
from hf_mixup.methods.registry import register
from hf_mixup.models.embeddings import install_tables, lookups_of, refuse_no_table
from hf_mixup.models.padding import mix_embeddings
from hf_mixup.models.streams import blend_floats


@register
class EmbeddingMixup(Blend):
    """Blend token embeddings, at the output of every embedding table, and float inputs beside them.

    Samples may differ in length: the tokens of both stay visible (the union of the masks). Where only one sample has a
    token, that token is not blended with padding. lam = 1 is exactly the sample, lam = 0 exactly the partner. With
    `attention_mask_mode="weighted"` attention weights such a token by the share of its sample, so that the change from
    lam = 1 to lam = 0 is smooth (eager and SDPA attention).

    Source: Guo et al. 2019, "Augmenting Data with Mixup for Sentence Classification" (wordMixup), arXiv 1905.08941.

    >>> from hf_mixup import Mixup
    >>> from hf_mixup.testing.batches import tiny
    >>> model, batch = tiny("sequence-classification", "bert")
    >>> with Mixup("embedding")(model, batch, lam=0.75) as mixed:
    ...     loss = mixed.loss(model(**mixed.inputs))
    >>> mixed.inputs["input_ids"] is batch["input_ids"]  # what they stand for was blended inside the model
    True
    """

    name = "embedding"
    title = "Embedding (word) mixup"
    blends = "token embeddings"
    modalities = ("text",)
    paper = "arXiv:1905.08941"
    begin_with = "alpha=0.4"
    citation = (
        "@article{guo2019augmenting, title={Augmenting Data with Mixup for Sentence Classification: An Empirical "
        "Study}, author={Guo, Hongyu and Mao, Yongyi and Zhang, Richong}, journal={arXiv:1905.08941}, year={2019}}"
    )
    enters_model = True

    alpha: float = setting(1.0, f"{ALPHA} For encoder-decoders begin with 0.1.", at_least=0)
    attention_mask_mode: Literal["union", "weighted"] = setting(
        "union", "Attention sees the tokens of both samples alike, or each as much as its sample counts."
    )

    def prepare(self, model: nn.Module) -> None:
        if not install_tables(model):
            refuse_no_table(model)

    def alike(self, model: nn.Module) -> Literal["grids", "tokens"] | None:
        return "tokens"

    def draw(self, request: Request) -> Draw:
        _refuse_without_tokens(request.batch)
        return super().draw(request)

    def depths(self, model: nn.Module, batch: Batch) -> list[int | None]:
        _refuse_without_tokens(batch)
        return super().depths(model, batch)

    def apply(self, model: nn.Module, batch: Batch, draw: Draw, inplace: bool) -> dict[str, Any]:
        inputs = blend_floats(model, batch, draw.partner, draw.lam)
        mixed = mix_embeddings(model, inputs, draw.partner, draw.lam, self.attention_mask_mode)
        if not lookups_of(model, batch):
            refuse_no_table(model)
        return mixed


def _refuse_without_tokens(batch: Batch) -> None:
    if "input_ids" not in batch:
        held = ", ".join(batch) or "nothing"
        raise ValueError(
            f"method 'embedding' mixes token embeddings, but the batch has no input_ids: it holds {held}. Use "
            "'mixup', which blends whatever a sample has, or 'manifold' for hidden states"
        )
