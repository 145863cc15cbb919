"""MixGen."""

from __future__ import annotations

from typing import Any, Literal

from torch import nn

from hf_mixup.functional.contrastive import Mix
from hf_mixup.methods._pairs import PairMethod
from hf_mixup.methods.base import Batch, Blend, Draw, FloatInputs
from hf_mixup.methods.capabilities import NeedsTokenizer
from hf_mixup.methods.registry import register
from hf_mixup.models.captions import TokenRules, join_captions, max_tokens
from hf_mixup.models.streams import blend_inputs


@register
class MixGen(Blend, PairMethod, FloatInputs, NeedsTokenizer):
    """Blend the images and join the captions: a new pair that shows and says both; targets stay hard.

    The captions are joined as tokens, within the budget of the text encoder: where both do not fit, each keeps at least
    half. Partners are always the batch's own, unmixed pairs. The paper takes lam = 0.5 for a quarter of the samples:
    `lam: 0.5, prob: 0.25, prob_per: sample`.

    Raises:
        ValueError: where the tokenizer is not known.

    Source: Hao et al. 2023, "MixGen: A New Multi-Modal Data Augmentation", arXiv 2206.08358, section 3.

    >>> from types import SimpleNamespace
    >>> from hf_mixup import Mixup
    >>> from hf_mixup.testing.batches import tiny_pairs
    >>> model, batch = tiny_pairs()
    >>> tokenizer = SimpleNamespace(all_special_ids=[1, 2, 3], pad_token_id=1)  # stands for your processor
    >>> with Mixup("mixgen", tokenizer=tokenizer)(model, batch, lam=0.5) as mixed:
    ...     loss = mixed.loss(model(**mixed.inputs))
    >>> batch["input_ids"].shape, mixed.inputs["input_ids"].shape  # two captions with one beginning and one end
    (torch.Size([4, 8]), torch.Size([4, 14]))
    """

    name = "mixgen"
    title = "MixGen"
    blends = "the images of image-text pairs, while their captions are joined"
    paper = "arXiv:2206.08358"
    begin_with = "lam=0.5:prob=0.25:prob_per=sample"
    citation = (
        "@inproceedings{hao2023mixgen, title={MixGen: A New Multi-Modal Data Augmentation}, author={Hao, Xiaoshuai and "
        "Zhu, Yi and Appalaraju, Srikar and Zhang, Aston and Zhang, Wanqian and Li, Bo and Li, Mu}, booktitle={WACV "
        "Workshops}, year={2023}}"
    )
    enters_model = False
    image_mix = "blend"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.rules: TokenRules | None = None

    def alike(self, model: nn.Module) -> Literal["grids", "tokens"] | None:
        return "grids"

    def set_tokenizer(self, tokenizer: Any) -> None:
        self.rules = TokenRules.of(tokenizer)

    def sides(self, draw: Draw) -> tuple[Mix | None, Mix | None]:
        return None, None

    def apply(self, model: nn.Module, batch: Batch, draw: Draw, inplace: bool) -> dict[str, Any]:
        if self.rules is None:
            raise ValueError(
                "method 'mixgen' joins captions and has to know the tokenizer: use MixupCollator(processor, ...), "
                "MixupTrainer(processing_class=processor), or Mixup(..., tokenizer=processor)"
            )
        budget = max_tokens(model) or batch["input_ids"].shape[1]
        inputs = blend_inputs(dict(batch), draw.partner, draw.lam, self.name, self.keys, inplace)
        return {**inputs, **join_captions(batch, draw.partner, draw.lam < 1, self.rules, budget)}
