"""The `Mixup` context: draw, apply, forward, loss. All entry points walk this line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from hf_mixup.engine.active import active_hooks
from hf_mixup.engine.all_gather import in_any, refuse_shared_samples, run_together
from hf_mixup.engine.batch import MixedBatch
from hf_mixup.engine.batch_norm import Refreshed, clean_inputs, estimate
from hf_mixup.engine.conflicts import refuse_pairs
from hf_mixup.engine.context import Context, Requested
from hf_mixup.engine.contrastive import PairBatch
from hf_mixup.engine.detection import BoxBatch
from hf_mixup.engine.forecasting import ForecastBatch
from hf_mixup.engine.instances import InstanceBatch
from hf_mixup.engine.labelled import LabelBatch
from hf_mixup.engine.maps import MapBatch
from hf_mixup.engine.own_head import has_own_head
from hf_mixup.engine.own_loss import OwnBatch
from hf_mixup.engine.reconstruction import ReconstructionBatch
from hf_mixup.engine.refusals import Refusal
from hf_mixup.engine.rehearsal import rehearse
from hf_mixup.engine.soft_labels import SoftLabelBatch
from hf_mixup.engine.transcripts import TranscriptBatch
from hf_mixup.engine.unwrap import unwrap
from hf_mixup.models.adapters import refuse_adapter
from hf_mixup.models.batch_norm import layers_in_training
from hf_mixup.models.batches import expand_shared

BATCH_TYPES: tuple[type[MixedBatch], ...] = (
    PairBatch,
    BoxBatch,
    InstanceBatch,
    MapBatch,
    ReconstructionBatch,
    ForecastBatch,
    TranscriptBatch,
    LabelBatch,
)
"""The first that matches a batch is taken; `LabelBatch` matches all."""
OWN_TYPES: tuple[type[MixedBatch], ...] = (PairBatch, ForecastBatch, OwnBatch)
"""Those with `loss="own"`; pairs and forecasts refuse it."""


def batch_type_of(model: nn.Module, batch: Mapping[str, Any]) -> type[MixedBatch]:
    """Return the type of mixed batch that a batch for this model becomes."""
    return next(each for each in BATCH_TYPES if each.matches(model, batch))


def refuse_no_mapping(batch: Any) -> None:
    """Refuse a batch whose entries have no names.

    Raises:
        TypeError: naming what it is.

    >>> refuse_no_mapping([1, 2])
    Traceback (most recent call last):
    ...
    TypeError: the batch is a list: make it a mapping in the collator, with the names that the model's forward ...
    """
    if not isinstance(batch, Mapping):
        raise TypeError(
            f"the batch is a {type(batch).__name__}: make it a mapping in the collator, with the names that the "
            "model's forward gives to its inputs, and 'labels'"
        )


class Mixup(Context):
    """Mix batches in a hand-written loop; the engine behind the other entry points.

    Args:
        config: a `MixupConfig`, a method's name, or a mapping of settings.
        total_steps: optimizer steps of the whole run; needed only for a schedule, with `set_step`.
        tokenizer: tokenizer (or the processor that has it), for methods that read captions.
        teacher: a model whose scores are distilled into the one that is trained, see `distill_weight`.
        guide: a pretrained transformers model that methods which look at images (attentive, puzzlemix, saliencymix by
            gradient) ask where to look, instead of the model in training. It takes the same images and stays as it
            is: never trained, never saved; it is moved to their device.

    Calling it gives a context that holds one mixed batch. It mixes whatever `model.training` says, so call it in
    training only. Each call draws anew, from the key (seed, process, step, number of the call);
    `accelerator.register_for_checkpointing(mixup)` makes a resumed run draw what it would have drawn.

    Source: Zhang et al. 2018, arXiv 1710.09412, and the papers that `hf-mixup methods` lists.

    >>> import torch
    >>> from transformers import ResNetConfig, ResNetForImageClassification
    >>> model = ResNetForImageClassification(ResNetConfig(num_labels=3, hidden_sizes=[8, 8], depths=[1, 1],
    ...     embedding_size=8, layer_type="basic"))
    >>> mixup = Mixup("cutmix")
    >>> batch = {"pixel_values": torch.rand(4, 3, 32, 32), "labels": torch.tensor([0, 1, 2, 0])}
    >>> with mixup(model, batch) as mixed:
    ...     outputs = model(**mixed.inputs)
    ...     loss = mixed.loss(outputs)
    >>> loss.backward()
    >>> mixed.lam.shape, mixed.partner.shape, mixed.targets.shape
    (torch.Size([4]), torch.Size([4]), torch.Size([4, 3]))
    """

    _has_labels = False  # whether settings of pairs were looked for, in front of a model with labels

    def __call__(
        self,
        model: nn.Module,
        batch: Mapping[str, Any],
        partner: Tensor | None = None,
        lam: Tensor | float | None = None,
        inplace: bool = False,
    ) -> MixedBatch:
        """Return the mixed batch as a context: the model blends inside it, its backward pass may come later.

        Args:
            model: a transformers model, wrapped (DDP, compiled) or not.
            batch: model inputs and `labels`; for a dual encoder (CLIP, SigLIP, CLAP, ...) the inputs of both sides, and
                `pair_ids` [B] if samples with equal ids belong together; for a model that forecasts, `future_values`.
            partner: long [B], sample i is blended with sample partner[i]; drawn if None.
            lam: scalar or [B] in [0, 1], weight of the sample itself; drawn if None.
            inplace: write into the batch's own tensors. Only for batches that nobody else holds.

        Raises:
            ValueError: for a batch without labels, with labels outside the classes, or with nothing to mix; for a model
                that a collator or callback mixes already.
            TypeError: for integer tensors where the method blends floats, or a batch that is no mapping.
        """
        inner = unwrap(model)
        refuse_no_mapping(batch)
        self._refuse_active(inner)
        self.check_teacher(inner)
        refuse_adapter(inner)
        refuse_shared_samples({"layers (tensor parallelism)": getattr(inner, "_tp_size", None)})
        batch = expand_shared(batch)
        self.rehearse(inner, batch)
        # A refusal that comes now is that of one process alone, which cannot run the model to look for other ways.
        build = self._built if run_together(inner) else self._built_or_other_ways
        return build(inner, batch, Requested(partner, lam, inplace))

    def rehearse(self, model: nn.Module, batch: Mapping[str, Any]) -> None:
        """Try what is new in a batch of any process in all of them, if they run the model together, see `rehearsal`."""
        if run_together(model):
            rehearse(self, model, expand_shared(batch), _built)

    def _built_or_other_ways(self, model: nn.Module, batch: Mapping[str, Any], requested: Requested) -> MixedBatch:
        """Return the mixed batch; a refusal names other methods that would mix it."""
        try:
            return self._built(model, batch, requested)
        except Refusal as refusal:
            raise refusal.offering(lambda name: self._would_mix(name, model, batch)) from None

    def _built(self, model: nn.Module, batch: Mapping[str, Any], requested: Requested) -> MixedBatch:
        batch_type = next(each for each in self._types(model, batch) if each.matches(model, batch))
        if self.method.for_pairs and batch_type is not PairBatch:
            self._refuse_pairs(model)
        return batch_type.build(self, model, batch, requested)

    def _would_mix(self, method: str, model: nn.Module, batch: Mapping[str, Any]) -> bool:
        """Whether another method, at its defaults, is not refused: by the batch, the model or its loss."""
        try:
            other = Mixup(self.config.replace(method=method))
            other.rehearses = self.rehearses
            other._built(model, batch, Requested())
        except (RuntimeError, ValueError, TypeError):
            return False
        return True

    def refresh_batch_norm(self, model: nn.Module, loader: Any) -> Refreshed | None:
        """Estimate the running statistics of batch normalisation from about 2,000 clean training samples.

        Call it before each evaluation of a loop of your own, and before the model is saved; the Trainer's entry points
        do it themselves. In a `with` statement the statistics of training come back at its end, so that training goes
        on as if nobody had evaluated:

            with mixup.refresh_batch_norm(model, loader) or nullcontext():
                evaluate(model)

        Gradients, random states, the loader's position and frozen layers stay as they are, see `estimate` in
        `hf_mixup.engine.batch_norm`. In a distributed run each process calls it, with its own loader.

        Args:
            model: wrapped or not; in training mode, as training has left it, which tells what is frozen.
            loader: the DataLoader of training, of which a copy is read, or any iterable of batches for the model (an
                iterator is read on).

        Returns:
            how many samples in how many seconds; None, at no cost, where nothing has been mixed, no layer wants it, or
            `refresh_batch_norm=False`.

        Raises:
            ValueError: for a model in evaluation mode.

        Source: see `estimate`.

        >>> from torch.utils.data import DataLoader
        >>> from hf_mixup.testing.batches import tiny
        >>> model, batch = tiny("image-classification", "resnet")
        >>> mixup = Mixup()
        >>> with mixup(model.train(), batch) as mixed:
        ...     loss = mixed.loss(model(**mixed.inputs))
        >>> mixup.refresh_batch_norm(model, [batch, batch]).samples
        8
        """
        from accelerate.utils import send_to_device

        inner = unwrap(model)
        if not self.config.refresh_batch_norm or self.off:
            return None
        if not inner.training and any(isinstance(each, _BatchNorm) for each in inner.modules()):
            raise ValueError(
                f"{type(inner).__name__} is in evaluation mode, which does not tell what was frozen in training: "
                "refresh before model.eval()"
            )
        layers = layers_in_training(inner)
        device = next(inner.parameters()).device
        if not layers or not in_any(self.has_mixed, device):  # each process tosses its own coin
            return None

        def run(batch: Mapping[str, Any]) -> None:
            model(**clean_inputs(inner, send_to_device(batch, device)))

        found = estimate(inner, layers, loader, self.clock.seed, run)
        return None if found is None else Refreshed(found)

    def _refuse_pairs(self, model: nn.Module) -> None:
        """Refuse what is only for dual encoders: methods, and settings of others."""
        if not self.method.fuses:
            raise ValueError(
                f"method {self.config.method!r} mixes pairs, and {type(model).__name__} is no dual encoder with a "
                "temperature of its own (get_text_features, get_image_features or its like, and logit_scale)"
            )
        if not self._has_labels:
            refuse_pairs(self.config.losses, self.config.pairs, type(model).__name__)
            self._has_labels = True

    def _types(self, model: nn.Module, batch: Mapping[str, Any]) -> tuple[type[MixedBatch], ...]:
        if not self.scored_by_model(model, batch):
            return BATCH_TYPES
        own = self.config.losses.loss == "own" or has_own_head(model, batch)
        return OWN_TYPES if own else (PairBatch, SoftLabelBatch)

    def _refuse_active(self, model: nn.Module) -> None:
        """Refuse a model that something else mixes already."""
        hooks = active_hooks(model)
        if hooks is not None and hooks.mixup is not self:
            raise ValueError(
                f"{type(model).__name__} is mixed already, by a MixupCollator or MixupCallback with method "
                f"{hooks.mixup.config.method!r}, and would be mixed twice: take that off (`collator.remove()`), or "
                "leave this out"
            )


def _built(mixup: Mixup, model: nn.Module, batch: Mapping[str, Any]) -> MixedBatch:
    return mixup._built_or_other_ways(model, batch, Requested())
