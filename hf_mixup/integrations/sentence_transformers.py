"""Mixing pairs of sentences in sentence-transformers: a loss for its plain trainer.

Kept out of the package's imports, since sentence-transformers is not among its dependencies.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from sentence_transformers.util import all_gather_with_grad
from torch import Tensor, nn
from torch.nn import functional as F

from hf_mixup.engine.all_gather import check_equal_rows, first_row, gather_rows, world_size
from hf_mixup.engine.config import MixupConfig
from hf_mixup.engine.mixup import Mixup
from hf_mixup.engine.stats import MixStats
from hf_mixup.functional.contrastive import Mix, contrastive_cross_entropy, pair_targets
from hf_mixup.integrations.log_callback import LogCallback
from hf_mixup.integrations.model_hooks import torch_clock
from hf_mixup.integrations.running import running_trainer
from hf_mixup.methods._pairs import along_the_arc
from hf_mixup.methods.base import Draw
from hf_mixup.models.hooks import blend_states

WAYS = {"mixup": blend_states, "geodesic": along_the_arc}


class MixedNegativesRankingLoss(MultipleNegativesRankingLoss):
    """`MultipleNegativesRankingLoss` that mixes pooled sentence embeddings in training.

    Args:
        model: a `SentenceTransformer`.
        mixup: a `MixupConfig`, a method's name or a mapping of settings. Method "mixup" blends embeddings linearly,
            "geodesic" along great circles. lam, partner, prob and schedule are drawn as everywhere.
        side: mix the anchors, the positives, or both with the same partner and lam. Hard negatives stay as they are.
        settings: as `MultipleNegativesRankingLoss` takes them: `scale`, `similarity_fct`, `gather_across_devices`, and
            `directions` from queries to documents, or both ways with `partition_mode="per_direction"`.

    A mixed anchor belongs to both positives, with shares lam and 1 - lam (targets M, or M M^T with both sides mixed,
    divided by their row sums). In evaluation, without gradients, and where nothing is drawn, the loss is that of
    sentence-transformers. In its trainer the loss follows schedules, logs `mixup_lam` and `mixup_rate`, and saves its
    settings with the model.

    Raises:
        ValueError: for another method, directions that have no mixed target, or a hardness penalty.

    Source: i-Mix, Lee et al. 2021, arXiv 2010.08887, equation 4, for one side; the overlaps of Cross-Modal Mixup for
    both. The loss: van den Oord et al. 2018, arXiv 1807.03748, equation 4.

    >>> model = nn.Identity()  # stands for a SentenceTransformer: embeddings are given here
    >>> loss = MixedNegativesRankingLoss(model, {"lam": 0.75}, side="anchor", scale=1.0)
    >>> embeddings = [torch.eye(2, requires_grad=True), torch.eye(2)]
    >>> loss.compute_loss_from_embeddings(embeddings, None).shape
    torch.Size([])
    """

    def __init__(
        self,
        model: nn.Module,
        mixup: MixupConfig | str | dict[str, Any] = "mixup",
        side: Literal["both", "anchor", "positive"] = "both",
        **settings: Any,
    ) -> None:
        super().__init__(model, **settings)  # type: ignore[arg-type]
        self.mixup, self.stats, self.side = Mixup(mixup), MixStats(), side
        self.mixup.clock = torch_clock(self.mixup)
        self._log = LogCallback(self.mixup, self.stats, every_step=False)  # other losses may take turns
        self._refuse_what_cannot_mix()

    def callback(self) -> LogCallback:
        """Return what follows the trainer's steps and logs in them; the loss adds it itself to a trainer that runs."""
        return self._log

    def get_config_dict(self) -> dict[str, Any]:
        """Return the settings that sentence-transformers writes into the model card."""
        mixed = {"mixup": self.mixup.config.method, "alpha": self.mixup.config.alpha, "side": self.side}
        return {**super().get_config_dict(), **mixed}

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Any) -> Tensor:
        """Return the loss of anchors [B, D], positives [B, D] and any hard negatives [B, D], a 0-d tensor."""
        training = self.model.training and torch.is_grad_enabled()
        if not training or self.mixup.config.off or len(embeddings) < 2:
            return super().compute_loss_from_embeddings(embeddings, labels)
        self._log.join(running_trainer())
        self.mixup.watch.draw(self.model)
        rows = torch.zeros(len(embeddings[0]), dtype=torch.long)
        draw = self.mixup.draw(self.model, {}, rows)
        rate = float((draw.lam < 1).float().mean())
        self.stats.add(float(draw.lam.mean()), rate)
        if rate or self._across:
            loss = self._mixed_loss(embeddings, draw.to(embeddings[0].device))
        else:
            loss = super().compute_loss_from_embeddings(embeddings, labels)
        return self.mixup.watch.follow(loss)

    def _mixed_loss(self, embeddings: list[Tensor], draw: Draw) -> Tensor:
        mix, way = (draw.partner, draw.lam), WAYS[self.mixup.config.method]
        anchors, positives = (
            way(each, *mix) if self.side in ("both", side) else each
            for each, side in zip(embeddings, ("anchor", "positive"))
        )
        others = embeddings[2:]
        on_anchors, on_positives = (mix if self.side in ("both", side) else None for side in ("anchor", "positive"))
        loss = self._direction(anchors, [positives, *others], on_anchors, on_positives)
        if "doc_to_query" in self.directions:
            loss = (loss + self._direction(positives, [anchors], on_positives, on_anchors)) / 2
        return loss

    def _direction(self, rows: Tensor, columns: list[Tensor], mix: Mix | None, column_mix: Mix | None) -> Tensor:
        """Return the mean cross-entropy of rows [B, D] against columns, the first of which they belong to."""
        start, count = 0, len(rows)
        if self._across:
            check_equal_rows(count, rows.device)
            start, columns = first_row(count), [all_gather_with_grad(each) for each in columns]
            column_mix = column_mix and (gather_rows(column_mix[0] + start), gather_rows(column_mix[1]))
        own = F.one_hot(torch.arange(start, start + count, device=rows.device), len(columns[0]))
        targets = pair_targets(own, mix, column_mix)
        negatives = sum(len(each) for each in columns[1:])
        scores = self.similarity_fct(rows, torch.cat(columns)) * self.scale
        return contrastive_cross_entropy(scores, F.pad(targets, (0, negatives)))

    @property
    def _across(self) -> bool:
        """Whether the rows of several processes are compared; each then has to take part, whatever it has drawn."""
        return self.gather_across_devices and world_size() > 1

    def _refuse_what_cannot_mix(self) -> None:
        config = self.mixup.config
        if config.method not in WAYS:
            raise ValueError(f"method {config.method!r} does not mix sentence embeddings: use one of {', '.join(WAYS)}")
        if self.side not in ("both", "anchor", "positive") or getattr(config.mixing, "side", "both") != "both":
            raise ValueError(
                f"side={self.side!r}: give side= of the loss, not of the settings, one of 'both', 'anchor', 'positive'"
            )
        for name in ("pair_class", "label_smoothing", "loss", "class_weights", "distill_weight"):
            if name in config.changed:
                raise ValueError(f"{name} is for labels, and pairs of sentences have none: leave it out")
        both_ways = self.directions == ("query_to_doc", "doc_to_query") and self.partition_mode == "per_direction"
        if self.directions != ("query_to_doc",) and not both_ways:
            raise ValueError(
                f"directions={self.directions} with partition_mode={self.partition_mode!r} have no mixed targets: use "
                "('query_to_doc',), or ('query_to_doc', 'doc_to_query') with partition_mode='per_direction'"
            )
        if self.hardness_mode is not None:
            raise ValueError(
                f"hardness_mode={self.hardness_mode!r} looks for negatives, which a blend is in part: leave it out"
            )
