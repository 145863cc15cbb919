"""The mixed batch of a dual encoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from hf_mixup.data.pair_collator import PAIR_IDS, encoder_inputs
from hf_mixup.engine.all_gather import check_equal_rows, world_size
from hf_mixup.engine.batch import MixedBatch
from hf_mixup.engine.caption_ids import caption_keys
from hf_mixup.engine.conflicts import refuse_labels
from hf_mixup.engine.context import Context, Requested
from hf_mixup.engine.contrastive_loss import PairObjective
from hf_mixup.engine.gradient_cache import CachedPass
from hf_mixup.engine.pair_loss import check_pair_loss_once
from hf_mixup.engine.self_check import check_pairs_once, probe_dual_encoder
from hf_mixup.engine.similarity_head import Head, checked_head, head_is_checked, uses_sigmoid
from hf_mixup.methods import METHODS
from hf_mixup.methods._pairs import PairMethod
from hf_mixup.methods.base import Draw
from hf_mixup.methods.geodesic import GeodesicMixup
from hf_mixup.methods.m2 import M2Mix
from hf_mixup.models.captions import max_tokens
from hf_mixup.models.dual_encoder import OTHER_SIDES, embeds_of, is_dual_encoder
from hf_mixup.models.inputs import is_named_as_input, refuse_integers
from hf_mixup.models.labels import LABELS


class PairBatch(MixedBatch):
    """A mixed batch of image-text (or audio-text, video-text) pairs; used as `MixedBatch` is.

    Attributes:
        labels: a number for each caption that agrees where the captions do, long [B].
        ids: the batch's own `pair_ids`, or None.
    """

    def __init__(
        self,
        context: Context,
        model: nn.Module,
        inputs: dict[str, Any],
        keys: Tensor,
        ids: Tensor | None,
        draw: Draw,
        inplace: bool,
    ) -> None:
        super().__init__(context, model, inputs, keys, draw, inplace)
        self.ids = ids
        self._objective: PairObjective | None = None
        self._cached: CachedPass | None = None
        self._found: Tensor | float = 0.0

    @classmethod
    def matches(cls, model: nn.Module, batch: Mapping[str, Any]) -> bool:
        """Whether the model is a dual encoder."""
        return is_dual_encoder(model)

    @classmethod
    def build(cls, context: Context, model: nn.Module, batch: Mapping[str, Any], requested: Requested) -> PairBatch:
        """Read the inputs of both sides, and draw; see `MixedBatch.build`.

        Raises:
            ValueError: for a method that mixes no pairs, or as `pair_inputs`.
        """
        config = context.config
        if not config.off and not context.method.for_pairs:
            names = ", ".join(name for name, method in METHODS.items() if method.for_pairs is True)
            raise ValueError(
                f"{type(model).__name__} is a dual encoder, and method {config.method!r} does not mix pairs: use one "
                f"of {names}"
            )
        refuse_labels(config.losses)
        inputs, ids = pair_inputs(batch, model)
        keys = caption_keys(inputs["input_ids"], inputs.get("attention_mask"))
        draw = context.draw(model, inputs, keys, requested)
        context.hold_temperature(model)
        return cls(context, model, inputs, keys, ids, draw, requested.inplace)

    @property
    def objective(self) -> PairObjective:
        """Targets and loss, over the rows of all processes."""
        if self._objective is None:
            check_equal_rows(len(self.labels), self.labels.device)
            method = self._method
            mixed = method if isinstance(method, PairMethod) and self.rate else None
            self._objective = PairObjective(self._context.config, mixed, self.draw, self.labels, self.ids)
        return self._objective

    @property
    def targets(self) -> Tensor:
        """Q, float32 [B, N]: how much each image belongs to each caption of all processes; rows sum to 1."""
        return self.objective.targets(self.objective.rows)

    def forward(self, model: nn.Module) -> Any:
        """Run the model on the mixed inputs, in chunks where `chunk_size` says so."""
        if self._chunk is None:
            return super().forward(model)
        head = checked_head(self._model)
        self._cached = CachedPass(self._model, model, self.inputs, self.draw, self._chunk, head)
        return self._cached.outputs

    @property
    def _chunk(self) -> int | None:
        """Rows a chunk, None for the whole batch at once."""
        size = self._context.config.chunk_size
        return size if size is not None and size < len(self.labels) else None

    def loss(self, outputs: Any, num_items_in_batch: Tensor | int | None = None) -> Tensor:
        """Return the mean contrastive loss of the mixed batch against the rows of all processes, a 0-d tensor.

        Args:
            outputs: what the model (or `forward`) returned.
            num_items_in_batch: without meaning here: pairs of different micro-batches are not compared. Use
                `chunk_size` for large batches.

        Raises:
            RuntimeError: if the model never passed the mix point where it should have mixed.
            ValueError: if several processes are to be compared and the model's similarities cannot be recomputed.
        """
        self._refuse_unmixed()
        if isinstance(self._method, M2Mix) and embeds_of(outputs)[1].dim() != 2:
            raise ValueError(
                f"{type(self._model).__name__}: its text embeddings depend on the other side, so that method 'm2' "
                "cannot blend the two"
            )
        rows, head, self._found = self.objective.rows, self._head(outputs), 0.0
        if self._cached is None:
            return self._context.watch.follow(self._part(outputs, rows, head))
        return self._context.watch.follow(self._cached.deferred(rows, lambda some: self._part(outputs, some, head)))

    def _part(self, outputs: Any, rows: Tensor, head: Head | None) -> Tensor:
        """Return the mean loss of some of the rows scored here, and note what was found for their images."""
        sigmoid = uses_sigmoid(self._model, self._context.config)
        loss, found = self.objective.score(outputs, head, rows, sigmoid)
        self._found += found.sum() / len(self.objective.rows)
        return loss

    def accuracy(self) -> Tensor | None:
        """Return the share of the targets' mass on the caption found for each image, 0-d; None before the loss."""
        return self._found if isinstance(self._found, Tensor) else None

    def _head(self, outputs: Any) -> Head | None:
        if self._cached is not None:
            return checked_head(self._model)
        beside = isinstance(self._method, GeodesicMixup) and self._method.beside
        return checked_head(self._model, outputs) if world_size() > 1 or beside else None

    def __enter__(self) -> PairBatch:
        self._look_first()
        super().__enter__()
        return self

    def _look_first(self) -> None:
        """Try the loss, the method and the head on the model before they are trusted."""
        method = self._method
        if self._context.compares_loss:
            check_pair_loss_once(self._model, self.inputs, self._context.config)
        if self._chunk is not None and not head_is_checked(self._model):
            _, outputs = probe_dual_encoder(self._model, self.inputs)
            checked_head(self._model, outputs)
        if self.rate and isinstance(method, PairMethod) and any(method.sides(self.draw)):
            check_pairs_once(self._model, method, self.inputs)


def pair_inputs(batch: Mapping[str, Any], model: nn.Module) -> tuple[dict[str, Any], Tensor | None]:
    """Return what a dual encoder's towers are given, and the `pair_ids`.

    Raises:
        ValueError: if a side is missing, the sides differ in their rows, a caption is longer than the text tower takes,
            or the batch is empty or has labels.

    >>> pair_inputs({"pixel_values": Tensor(2, 3, 4, 4)}, nn.Identity())
    Traceback (most recent call last):
    ...
    ValueError: the batch for Identity has no captions ('input_ids'); it holds: pixel_values
    """
    name, held = type(model).__name__, ", ".join(batch) or "nothing"
    inputs = encoder_inputs(batch)
    ids = inputs.get("input_ids")
    if not isinstance(ids, Tensor):
        raise ValueError(f"the batch for {name} has no captions ('input_ids'); it holds: {held}")
    if LABELS in inputs:
        raise ValueError(
            f"the batch for {name} has 'labels', which a dual encoder does not take: call them 'pair_ids' if equal "
            "ones belong together, else leave them out"
        )
    floats = {k: v for k, v in inputs.items() if isinstance(v, Tensor) and v.is_floating_point() and v.dim() > 1}
    if not floats:
        refuse_integers(inputs, [k for k, v in inputs.items() if isinstance(v, Tensor) and is_named_as_input(k)])
        raise ValueError(f"the batch for {name} has captions, but no {' or '.join(OTHER_SIDES)}; it holds: {held}")
    pair_ids = batch.get(PAIR_IDS)
    if pair_ids is not None and not (isinstance(pair_ids, Tensor) and pair_ids.dim() == 1):
        found = list(pair_ids.shape) if isinstance(pair_ids, Tensor) else f"a {type(pair_ids).__name__}"
        raise ValueError(
            f"{PAIR_IDS} of the batch for {name} are {found}: expected a tensor [B], equal where pairs match"
        )
    for key, each in {**floats, PAIR_IDS: pair_ids}.items():
        if each is not None and len(each) != len(ids):
            raise ValueError(
                f"the batch for {name} has {len(ids)} captions, but {key} {list(each.shape)}: a pair needs one of each"
            )
    if len(ids) == 0:
        raise ValueError(f"the batch for {name} has no rows")
    limit = max_tokens(model)
    if limit is not None and ids.shape[1] > limit:
        mask = inputs.get("attention_mask")
        longest = 0 if mask is None else int(mask.sum(-1).argmax())
        raise ValueError(
            f"row {longest} of the batch has a caption of {ids.shape[1]} tokens, and the text encoder of {name} takes "
            f"{limit}: tokenize with truncation=True, max_length={limit}, or PairCollator(..., max_length={limit})"
        )
    return inputs, pair_ids
