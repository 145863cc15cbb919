"""What all types of mixed batch share."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any

from torch import Tensor, nn

from hf_mixup.engine.context import Context, Requested
from hf_mixup.methods import Draw, Method
from hf_mixup.models.adapters import base_model
from hf_mixup.models.hooks import hooks_of
from hf_mixup.models.losses import mean_of
from hf_mixup.models.outputs import loss_of
from hf_mixup.utils.constants import IGNORE_INDEX


class MixedBatch:
    """One mixed batch: enter it, run the model on `inputs`, take the `loss`.

    Attributes:
        inputs: what the model is given; no labels, so that it computes no loss of its own.
        lam: float32 [B], weight of each sample's own label.
        partner: long [B].
        mean_lam: mean of lam over the samples; 0-d on the device where only that knows.
        rate: share of the samples that are blended with another; 0 where the coin of `prob` or the schedule left the
            batch alone, or a sample is the only one.
        draw: everything that was drawn.
        labels: the batch's own labels, untouched.
        items: what the summed loss of this batch alone is divided by, 0-d; None before the loss, or where the loss is
            the model's own.

    >>> from hf_mixup import Mixup
    >>> from hf_mixup.testing.batches import tiny
    >>> model, batch = tiny("sequence-classification", "bert")
    >>> with Mixup("embedding")(model, batch, lam=0.75) as mixed:
    ...     loss = mixed.loss(model(**mixed.inputs))
    >>> mixed.lam, mixed.mean_lam, mixed.rate, mixed.targets.shape
    (tensor([0.7500, 0.7500, 0.7500, 0.7500]), 0.75, 1.0, torch.Size([4, 4]))
    """

    items: Tensor | None = None
    _is_entered = False

    def __init__(
        self,
        context: Context,
        model: nn.Module,
        inputs: dict[str, Any],
        labels: Tensor,
        draw: Draw,
        inplace: bool,
    ) -> None:
        self._context, self._model, self._inplace = context, model, inplace
        self._method: Method = context.method.chosen(draw)
        self.inputs, self.labels = inputs, labels
        self._clean = inputs
        self.mean_lam: float | Tensor
        if draw.lam.device.type == "cpu":  # as a rule: nobody has to wait for it
            drawn = draw.lam.tolist()
            changed = self._method.rows_changed(draw)
            self.mean_lam, self.rate = sum(drawn) / len(drawn), changed / len(drawn)
        else:  # what a method found on the device is looked at when it is logged
            changed = len(draw.lam) if draw.rows is None else len(draw.rows)
            self.mean_lam, self.rate = draw.lam.mean(), changed / len(draw.lam)
        self.draw = draw.to(labels.device)
        self.lam, self.partner = self.draw.lam, self.draw.partner
        self._partners = [self.partner]  # they tell which hooks were activated for this batch
        self._logits: Tensor | None = None

    @classmethod
    def matches(cls, model: nn.Module, batch: Mapping[str, Any]) -> bool:
        """Whether a batch for this model is of this type."""
        raise NotImplementedError

    @classmethod
    def build(cls, context: Context, model: nn.Module, batch: Mapping[str, Any], requested: Requested) -> MixedBatch:
        """Check a batch, draw how it is mixed, and return it; see `Mixup.__call__`.

        Args:
            model: without wrappers.
        """
        raise NotImplementedError

    def __enter__(self) -> MixedBatch:
        self._context.watch.draw(self._model)
        self._is_entered = True
        hooks = hooks_of(self._model)
        hooks.forget()
        if self.rate:
            self._context.has_mixed = True
            try:
                self.inputs = self._method.apply(self._model, self.inputs, self.draw, self._inplace)
            except BaseException:  # Ctrl-C, too: what was activated so far must not mix another batch
                hooks.forget()
                raise
        self._partners += [hook.partner for hook in hooks.active if hook.partner is not None]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        hooks_of(self._model).deactivate()

    @property
    def changed_places(self) -> Tensor | None:
        """Where `inputs` hold the samples `draw.rows`, if the method puts them behind the clean ones; else None."""
        return self._method.changed_places(self.draw) if self.rate else None

    def forward(self, model: nn.Module) -> Any:
        """Run the model (wrapped or not) on the mixed inputs."""
        return model(**self.inputs)

    def _refuse_unmixed(self) -> None:
        if not self._is_entered:
            raise RuntimeError(
                "the batch is not mixed before it is entered, and its labels would be: write "
                "`with mixup(model, batch) as mixed:` around the model's forward pass on `mixed.inputs`"
            )
        for hook in hooks_of(self._model).active:
            if hook.missed and any(hook.partner is each for each in self._partners):
                raise RuntimeError(
                    f"{type(self._model).__name__} did not pass the place where method {self.draw.method!r} mixes. "
                    "Run it on `mixed.inputs` inside the context before taking the loss; if it was compiled, call "
                    "`Mixup.prepare(model)`, or mix a first batch, before it is run unmixed"
                )

    @property
    def targets(self) -> Tensor:
        """Dense float32 targets of the mixed samples."""
        raise NotImplementedError

    def loss(self, outputs: Any, num_items_in_batch: Tensor | int | None = None) -> Tensor:
        """Return the loss of the mixed batch, a 0-d tensor."""
        raise NotImplementedError

    def accuracy(self) -> Tensor | None:
        """Return how much of the targets' mass the model found, 0-d; None before the loss."""
        raise NotImplementedError

    def statistics(self) -> dict[str, Any]:
        """Return what `MixStats.add` counts of a batch whose loss has been taken."""
        return {"mean_lam": self.mean_lam, "rate": self.rate, "accuracy": self.accuracy(), "items": self.items}


class MixedTargetBatch(MixedBatch):
    """A mixed batch whose loss is the model's own, which is given mixed targets with its inputs."""

    def loss(self, outputs: Any, num_items_in_batch: Tensor | int | None = None) -> Tensor:
        """Return the loss that the model computed, a 0-d tensor: a mean over this batch.

        Args:
            outputs: what the model returned inside the context.
            num_items_in_batch: how many labels a whole step has, of which this batch has its share. Without meaning
                where labels are no tensor: then no Trainer counts them, and takes the mean of its batches' means.

        Raises:
            ValueError: if it computed none.
        """
        self._refuse_unmixed()
        found = loss_of(outputs)
        if found is None:
            raise ValueError(f"{type(self._model).__name__} returned no loss: run it on `mixed.inputs` as they are")
        loss = found.reshape(())
        if num_items_in_batch is not None and isinstance(self.labels, Tensor):
            loss = mean_of(loss * self.labels.ne(IGNORE_INDEX).sum(), num_items_in_batch)
        return self._context.watch.follow(loss)

    def accuracy(self) -> Tensor | None:
        """Return None: such targets are not right or wrong."""
        return None


def refuse_loss_settings(context: Context, model: nn.Module, learns: str) -> None:
    """Refuse settings that change a loss which the model computes itself.

    Args:
        learns: what it learns from, to be named.

    Raises:
        ValueError: naming the setting.
    """
    config = context.config
    settings = {
        f"loss={config.loss!r}": config.loss != "auto",
        "class_weights": config.class_weights is not None,
        f"label_smoothing={config.label_smoothing}": bool(config.label_smoothing),
        f"distill_weight={config.distill_weight} (a teacher)": bool(config.distill_weight),
    }
    found = next((setting for setting, given in settings.items() if given), None)
    if found is not None:
        raise ValueError(
            f"{found} does not go with {learns}: {type(base_model(model)).__name__} computes the loss itself; leave it "
            "out"
        )


PACKED = ("cu_seq_lens_q", "cu_seqlens", "seq_idx", "packed_seq_lengths", "shift_labels")


def refuse_packed(batch: Mapping[str, Any]) -> None:
    """Refuse sequences that are packed into one row, which have no rows to exchange.

    Raises:
        ValueError: naming what gives the packing away.

    >>> import torch
    >>> refuse_packed({"input_ids": torch.zeros(1, 6), "position_ids": torch.tensor([[0, 1, 2, 0, 1, 2]])})
    Traceback (most recent call last):
    ...
    ValueError: 'position_ids' tells of sequences packed into one row, which cannot be mixed row by row: ...
    """
    found = [key for key in PACKED if batch.get(key) is not None]
    if _positions_restart(batch):
        found.append("position_ids")
    if found:
        raise ValueError(
            f"{found[0]!r} tells of sequences packed into one row, which cannot be mixed row by row: train without "
            "packing (packing=False, padding_free=False)"
        )


def _positions_restart(batch: Mapping[str, Any]) -> bool:
    """Whether positions go back within a row, padding aside: without a mask, models take that for packing."""
    positions, mask = batch.get("position_ids"), batch.get("attention_mask")
    if not isinstance(positions, Tensor) or positions.dim() != 2:
        return False
    if isinstance(mask, Tensor) and len(positions) > 1:
        return False  # each row has its mask: no model looks for packing there
    back = positions.diff() < 0
    if isinstance(mask, Tensor) and mask.shape == positions.shape:
        back = back & (mask[:, 1:] > 0) & (mask[:, :-1] > 0)
    return bool(back.any())
