"""How straight a classifier's probabilities are between two samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_mixup.metrics.inputs import FloatArray, IntArray
from hf_mixup.metrics.levels import area_under_curve

if TYPE_CHECKING:
    from torch import Tensor, nn

    from hf_mixup.engine.config import MixupConfig


@dataclass(frozen=True)
class Linearity:
    """A classifier's probabilities on the way from each sample's partner (lam = 0) to the sample itself (lam = 1).

    Args:
        lam: [L], rising from 0 to 1.
        probabilities: [L, N, C].
        labels: [N], of the samples.
        others: [N], of their partners.

    >>> step = [[[0, 1]], [[0, 1]], [[1, 0]]]  # one pair of samples, two classes: a jump after the middle
    >>> found = Linearity(np.array([0, 0.5, 1]), np.array(step, float), np.array([0]), np.array([1]))
    >>> found.deviation[:, 0], found.share, found.misses
    (array([0. , 0.5, 0. ]), 0.25, array([0., 0., 0.]))
    """

    lam: FloatArray
    probabilities: FloatArray
    labels: IntArray
    others: IntArray

    @property
    def straight(self) -> FloatArray:
        """The straight line between both ends, [L, N, C]."""
        share = self.lam[:, None, None]
        return share * self.probabilities[-1] + (1 - share) * self.probabilities[0]

    @property
    def deviation(self) -> FloatArray:
        """Total variation distance of the probabilities from the line, [L, N] in [0, 1]."""
        return _distance(self.probabilities, self.straight)

    @property
    def length(self) -> FloatArray:
        """Total variation distance of both ends, [N] in [0, 1]."""
        return _distance(self.probabilities[-1], self.probabilities[0])

    @property
    def share(self) -> float:
        """Mean deviation along the way as a share of the mean length; NaN if all samples get the same probabilities.

        0 is a straight line; one jump, wherever it lies, makes at least 1/4. An unconfident model has small deviations
        and a small length, so that the deviation alone would flatter it.
        """
        length = float(self.length.mean())
        return area_under_curve(self.lam.tolist(), self.deviation.mean(axis=1).tolist()) / length if length else np.nan

    @property
    def misses(self) -> FloatArray:
        """Share of blends whose likeliest class is neither label, [L].

        Source: Zhang et al. 2018, arXiv 1710.09412, figure 2a.
        """
        found = self.probabilities.argmax(axis=-1)
        return ((found != self.labels) & (found != self.others)).mean(axis=1)


def _distance(one: FloatArray, other: FloatArray) -> FloatArray:
    return np.abs(one - other).sum(axis=-1) / 2


def linearity(
    model: nn.Module,
    batch: Mapping[str, Any],
    mixup: MixupConfig | str | dict[str, Any] = "mixup",
    *,
    partner: Tensor | None = None,
    steps: int = 11,
) -> Linearity:
    """Run a classifier on blends of each sample with its partner, from one end to the other.

    Mixup training asks for probabilities that change in proportion to the blend; this measures how near any model comes
    to that, trained with mixup or not.

    Args:
        model: a transformers classifier; it is left as it was.
        batch: model inputs and integer `labels` [N], on the model's device; some hundred samples will do.
        mixup: where to blend, as elsewhere: "mixup" for the inputs, "embedding", or {"method": "manifold", "layers":
            [2]} for one depth. `pair_class` "different" leaves out pairs of one class; lam, alpha, prob and the
            schedule do not matter.
        partner: long [N]; drawn if None, the same for every lam.
        steps: values of lam, equally far apart, both ends included; at least 3.

    Raises:
        ValueError: for labels or outputs that are not one class a sample, a method that blends by another lam than the
            given one, or too few steps; and as `Mixup`.

    Source: Verma et al. 2019, arXiv 1806.05236, and Zhang et al. 2018, arXiv 1710.09412, section 2, ask for this
    linearity; they do not measure it so.

    >>> import torch
    >>> from transformers import ResNetConfig, ResNetForImageClassification
    >>> model = ResNetForImageClassification(ResNetConfig(num_labels=3, hidden_sizes=[8, 8], depths=[1, 1],
    ...     embedding_size=8, layer_type="basic"))
    >>> batch = {"pixel_values": torch.rand(4, 3, 32, 32), "labels": torch.tensor([0, 1, 2, 0])}
    >>> found = linearity(model, batch, {"method": "manifold", "layers": [1]}, steps=5)
    >>> found.probabilities.shape, bool(found.deviation[0].any())  # the ends are on the line
    ((5, 4, 3), False)
    """
    from hf_mixup.engine.config import MixupConfig
    from hf_mixup.engine.unwrap import unwrap
    from hf_mixup.models.probe import eval_without_side_effects

    if steps < 3:
        raise ValueError(f"steps={steps}: expected at least 3, as two ends are always a straight line")
    given = MixupConfig.from_any(mixup)
    seed = given.draw_seed or 0  # one key for all values of lam, hence the same partners and depth
    config = given.replace(
        draw_seed=seed, prob=1.0, prob_warmup_ratio=0.0, disable_last_ratio=0.0, disable_last_epochs=0.0
    )
    lam, found = np.linspace(0, 1, steps), []
    with eval_without_side_effects(unwrap(model)):
        for share in lam.tolist():
            scores, labels, others = _scores_at(model, batch, config, partner, share)
            found.append(scores)
    return Linearity(lam, np.stack(found), labels, others)


def _scores_at(
    model: nn.Module, batch: Mapping[str, Any], config: MixupConfig, partner: Tensor | None, lam: float
) -> tuple[FloatArray, IntArray, IntArray]:
    """Return the probabilities [N, C] of blends at one lam, and the labels of the samples and of their partners."""
    from hf_mixup.engine.mixup import Mixup
    from hf_mixup.models.outputs import logits_of

    with Mixup(config)(model, batch, partner=partner, lam=lam) as mixed:
        logits = logits_of(mixed.forward(model))
    labels = mixed.labels
    if labels.dim() != 1 or labels.is_floating_point() or logits.dim() != 2 or len(logits) != len(labels):
        raise ValueError(
            f"linearity is measured on one class a sample: method {config.method!r} gave logits {list(logits.shape)} "
            f"for labels {list(labels.shape)} of {str(labels.dtype).removeprefix('torch.')}"
        )
    if not bool((mixed.lam - lam).abs().max() < 1e-6):
        raise ValueError(
            f"method {config.method!r} does not blend by the lam it is given ({lam:g}): use 'mixup', 'embedding', "
            "'manifold' or 'features'"
        )
    probabilities = logits.double().softmax(-1).cpu().numpy()
    return probabilities, labels.cpu().numpy(), labels[mixed.partner].cpu().numpy()
