"""The mixed batch of a dual encoder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from hf_mixup.batch import MixedBatch
from hf_mixup.contrastive.cached import CachedPass
from hf_mixup.contrastive.gather import check_equal_rows, world_size
from hf_mixup.contrastive.head import Head, checked_head, head_is_checked, uses_sigmoid
from hf_mixup.contrastive.objective import PairObjective
from hf_mixup.methods.base import Params
from hf_mixup.methods.m2 import M2
from hf_mixup.methods.pairs import PairMethod
from hf_mixup.sites.check import check_pairs_once, look_at_towers
from hf_mixup.sites.towers import embeds_of

if TYPE_CHECKING:
    from hf_mixup.engine import Mixup


class PairBatch(MixedBatch):
    """A mixed batch of image-text (or audio-text, video-text) pairs; used as `MixedBatch` is.

    Attributes:
        labels: a number for each caption that agrees where the captions do, long [B].
        ids: the batch's own `pair_ids`, or None.
    """

    def __init__(
        self,
        mixup: Mixup,
        model: nn.Module,
        inputs: dict[str, Any],
        keys: Tensor,
        ids: Tensor | None,
        params: Params,
        inplace: bool,
    ) -> None:
        super().__init__(mixup, model, inputs, keys, params, inplace)
        self.ids = ids
        self._objective: PairObjective | None = None
        self._cached: CachedPass | None = None
        self._found: Tensor | float = 0.0

    @property
    def objective(self) -> PairObjective:
        """Targets and loss, over the rows of all processes."""
        if self._objective is None:
            check_equal_rows(len(self.labels), self.labels.device)
            method = self._method
            mixed = method if isinstance(method, PairMethod) else None
            self._objective = PairObjective(self._mixup.config, mixed, self.params, self.labels, self.ids)
        return self._objective

    @property
    def targets(self) -> Tensor:
        """Q, float32 [B, N]: how much each picture belongs to each caption of all processes; rows sum to 1."""
        return self.objective.targets(self.objective.rows)

    def forward(self, model: nn.Module) -> Any:
        """Run the model on the mixed inputs, in chunks where `chunk_size` says so."""
        if self._chunk is None:
            return super().forward(model)
        head = checked_head(self._model)
        self._cached = CachedPass(self._model, model, self.inputs, self.params, self._chunk, head)
        return self._cached.outputs

    @property
    def _chunk(self) -> int | None:
        """Rows a chunk, None for the whole batch at once."""
        size = self._mixup.config.chunk_size
        return size if size is not None and size < len(self.labels) else None

    def loss(self, outputs: Any, num_items_in_batch: Tensor | int | None = None) -> Tensor:
        """Return the mean contrastive loss of the mixed batch against the rows of all processes, a 0-d tensor.

        Args:
            outputs: what the model (or `forward`) returned.
            num_items_in_batch: without meaning here: pairs of different micro-batches are not compared. Use
                `chunk_size` for large batches.

        Raises:
            RuntimeError: if the model never passed the site where it should have mixed.
            ValueError: if several processes are to be compared and the model's similarities cannot be recomputed.
        """
        self._refuse_unmixed()
        if isinstance(self._method, M2) and embeds_of(outputs)[1].dim() != 2:
            raise ValueError(
                f"{type(self._model).__name__}: its text embeddings depend on the other side, so that method 'm2' "
                "cannot blend the two"
            )
        rows, head, self._found = self.objective.rows, self._head(outputs), 0.0
        if self._cached is None:
            return self._part(outputs, rows, head)
        return self._cached.deferred(rows, lambda some: self._part(outputs, some, head))

    def _part(self, outputs: Any, rows: Tensor, head: Head | None) -> Tensor:
        """Return the mean loss of some of the rows scored here, and note what was found for their pictures."""
        sigmoid = uses_sigmoid(self._model, self._mixup.config)
        loss, found = self.objective.score(outputs, head, rows, sigmoid)
        self._found += found.sum() / len(self.objective.rows)
        return loss

    def accuracy(self) -> Tensor | None:
        """Return the share of the targets' mass on the caption found for each picture, 0-d; None before the loss."""
        return self._found if isinstance(self._found, Tensor) else None

    def _head(self, outputs: Any) -> Head | None:
        if self._cached is not None:
            return checked_head(self._model)
        return checked_head(self._model, outputs) if world_size() > 1 else None

    def __enter__(self) -> PairBatch:
        self._look_first()
        super().__enter__()
        return self

    def _look_first(self) -> None:
        """Try the method and the head on the model before they are trusted."""
        method = self._method
        if self._chunk is not None and not head_is_checked(self._model):
            _, outputs = look_at_towers(self._model, self.inputs)
            checked_head(self._model, outputs)
        if self.rate and isinstance(method, PairMethod) and method.enters_model:
            check_pairs_once(self._model, method, self.inputs)
