"""The data side: a collator that carries the mixing to whoever trains."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from copy import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import get_worker_info

from hf_mixup.engine.active import active_hooks
from hf_mixup.engine.config import MixupConfig
from hf_mixup.engine.mixup import Mixup
from hf_mixup.engine.stats import Watch
from hf_mixup.engine.unwrap import unwrap
from hf_mixup.integrations.log_callback import LogCallback
from hf_mixup.integrations.model_hooks import ModelHooks, torch_clock
from hf_mixup.integrations.running import mixes_itself, owner_of, refuse_trainer, running_trainer
from hf_mixup.integrations.trl import batch_type_for, take_smoothing_of_labels_left
from hf_mixup.models.labels import (
    LABELS,
    check_labels,
    classes_of,
    pixel_labels,
    problem_type,
    read_labels,
    segments,
)


class MixupCollator:
    """Collate rows as before and bring mixing to the model that trains on them.

    Args:
        base: the collator to wrap, a tokenizer or feature extractor to pad with, or a processor of images (or audio
            clips) and captions, which collates as `PairCollator` does; by default the collator that transformers would
            pick.
        mixup: a `MixupConfig`, a method's name, or a mapping of settings.
        model: the model of a *plain* Trainer: its training forward passes mix from now on. `MixupTrainer` needs no
            `model`; it adopts the collator.
        teacher: a model whose scores are distilled, see `distill_weight` in `MixupConfig`.
        guide: a pretrained model that is asked where to look in the images, see `Mixup`.
        settings: further `MixupConfig` settings, e.g. `alpha=0.2`.

    Integer labels stay in the batch as they are. The batch itself is mixed on the device, right before the forward
    pass and only in training, so the same collator serves evaluation. A model is mixed once: a further collator takes
    the place of whatever mixed its `model` before.

    A plain Trainer logs `mixup_lam`, `mixup_rate` and `mixup_accuracy`, saves `mixup_config.json` with the model,
    names the method in its model card, and evaluates and saves with statistics of batch normalisation of clean samples
    (read from its own loader), as with `MixupCallback`; a loop of another kind does none of these.

    Raises:
        RuntimeError: at the first batch, if neither `model` was given nor a MixupTrainer adopted the collator, and if
            the Trainer trains another model.
        ValueError: for labels outside the model's classes, or a tokenizer that cannot pad.

    >>> from transformers import ResNetConfig, ResNetForImageClassification
    >>> model = ResNetForImageClassification(ResNetConfig(num_labels=3, hidden_sizes=[8], depths=[1], embedding_size=8))
    >>> collator = MixupCollator(mixup="mixup", alpha=0.2, model=model)
    >>> batch = collator([{"pixel_values": [[[0.0]]], "labels": 1}, {"pixel_values": [[[1.0]]], "labels": 2}])
    >>> batch["labels"]
    tensor([1, 2])
    """

    def __init__(
        self,
        base: Any = None,
        mixup: MixupConfig | str | dict[str, Any] = "mixup",
        model: nn.Module | None = None,
        teacher: nn.Module | None = None,
        guide: nn.Module | None = None,
        **settings: Any,
    ) -> None:
        config = MixupConfig.from_any(mixup)
        if settings:
            config = MixupConfig.from_dict({**config.to_dict(), **settings})
        self.base = pick_base(base)
        self.mixup = Mixup(config, tokenizer=getattr(self.base, "tokenizer", None), teacher=teacher, guide=guide)
        self.adopted = False
        self._config: Any = None
        self._token_classes: int | None = None
        self._pixels = False
        self._hooks: ModelHooks | None = None
        self._log: LogCallback | None = None
        self._accepted: Any = None  # the state of the run whose Trainer can be mixed
        if not config.plain:
            refuse_without_padding(self.base)
        if model is not None:
            self._owned_by(model)
            self.mixup.clock = torch_clock(self.mixup)
            self._log = LogCallback(self.mixup)
            self._hooks = ModelHooks(self.mixup, model, self._log.stats, meet=self._meet)

    @classmethod
    def wrap(cls, collator: Any, mixup: Mixup) -> MixupCollator:
        """Return a collator around any other that shares an engine; one that is a MixupCollator already stays."""
        if isinstance(collator, cls):
            return collator
        wrapped = cls(collator, mixup=mixup.config)
        wrapped.mixup = mixup
        return wrapped

    def adopt(self, model: nn.Module) -> None:
        """Hand the mixing over to a MixupTrainer, which calls this."""
        self.remove()
        self._owned_by(model)

    def remove(self) -> None:
        """Take the hooks off the model of a plain Trainer, which trains plainly from then on."""
        if self._hooks is not None:
            self._hooks.remove()
        if self._log is not None:
            self._log.leave()
        self._hooks, self._log, self.adopted = None, None, False

    def _owned_by(self, model: nn.Module) -> None:
        self.adopted, self._config = True, getattr(model, "config", None)
        self._pixels = segments(model) and not self.mixup.config.plain
        if not self.mixup.config.plain and self.mixup.config.loss != "own":
            self._token_classes = read_labels(model, {LABELS: torch.zeros(1, 2, dtype=torch.long)}).classes

    def __call__(self, features: list[Any], *args: Any, **kwargs: Any) -> Any:
        if not self.adopted:
            raise RuntimeError(
                "nobody would mix this batch: pass MixupCollator(..., model=model) to a plain Trainer, or the "
                "collator to MixupTrainer"
            )
        self._join()
        batch = self.base(features, *args, **kwargs)
        self._check(batch)
        return batch

    def _refuse(self, trainer: Any) -> None:
        if self._accepted is trainer.state:
            return  # looked at in this run
        refuse_trainer(trainer, "MixupCollator")
        if batch_type_for(trainer.args) is not None:
            name = owner_of(trainer).__name__
            raise ValueError(
                f"{type(trainer).__name__} computes its loss itself, which a MixupCollator cannot mix: use "
                f"MixupCallback, or class Mixup{name}(MixupTrainerMixin, {name})"
            )
        take_smoothing_of_labels_left(self.mixup.config, unwrap(trainer.model), trainer.args.label_smoothing_factor)
        self._accepted = trainer.state

    def _meet(self, trainer: Any) -> None:
        """Join the Trainer that is about to run the model on a batch."""
        self._refuse(trainer)
        joins = self._log is not None and self._log.join(trainer)
        if joins and trainer.data_collator is not self:
            warnings.warn(
                f"{type(trainer.model).__name__} is mixed by a MixupCollator that is not the data collator of this "
                f"{type(trainer).__name__}: call its `remove` to train plainly",
                UserWarning,
                stacklevel=2,
            )

    def _join(self) -> None:
        """Join the Trainer that is running, if there is one; refuse one that trains another model."""
        trainer: Any = running_trainer()
        if trainer is None or self.mixup.config.plain or mixes_itself(trainer):
            return
        self._refuse(trainer)
        model = unwrap(trainer.model)
        name, way = type(model).__name__, "use MixupCallback or MixupTrainer, which mix whatever model is trained"
        if self._hooks is None:
            raise RuntimeError(
                f"nobody would mix this batch: a MixupTrainer had adopted this MixupCollator, or it is a copy. Make "
                f"another one with model=model for {name}, or {way}"
            )
        if self._hooks.model is not model:
            raise RuntimeError(
                f"nothing would be mixed: the MixupCollator was made for another model than the {name} that "
                f"{type(trainer).__name__} trains (a second one, a copy, one that model_init made or that PEFT wraps). "
                f"Make the collator with model=trainer.model, or {way}"
            )
        if active_hooks(model) is not self._hooks:
            raise RuntimeError(
                f"nothing would be mixed by this MixupCollator: another one, or a MixupCallback, mixes the {name} "
                "now. Make the collator and the Trainer anew"
            )
        if self._log is not None and get_worker_info() is None:  # else in a copy in another process
            self._log.join(trainer)

    def _check(self, batch: Any) -> None:
        # The last place where labels are surely on the CPU: on a device the test would stall every step.
        labels = batch.get(LABELS) if isinstance(batch, Mapping) else None
        if not isinstance(labels, Tensor) or labels.is_floating_point() or self.mixup.config.losses.loss == "own":
            return  # by loss="own" the model alone knows what its labels are
        if labels.dim() == 1:
            ids = batch.get("input_ids")
            choices = ids.shape[1] if isinstance(ids, Tensor) and ids.dim() == 3 else None  # of multiple choice
            kind = problem_type(self._config, labels)
            check_labels(labels, choices or classes_of(self._config), kind)
        elif labels.dim() == 3 and self._pixels:
            labels = pixel_labels(labels, self._config)
            check_labels(labels, self._config.num_labels, "single_label_classification")
        elif labels.dim() == 2 and not self.mixup.config.plain:
            check_labels(labels, self._token_classes, "single_label_classification")

    def __getattr__(self, name: str) -> Any:
        if name == "base":  # not set yet: while unpickling
            raise AttributeError(name)
        return getattr(self.base, name)

    def __getstate__(self) -> dict[str, Any]:
        # A dataloader worker that is not forked gets a copy without the models; it cannot ask who trains.
        self._join()
        engine = copy(self.mixup)
        engine.teacher = engine.guide = None
        engine.forget_labels()  # of the last batch, which refer to the model, too
        engine.watch = Watch()  # which refers to the model in training
        return {**self.__dict__, "_hooks": None, "_log": None, "_accepted": None, "mixup": engine}


def pick_base(base: Any) -> Any:
    """Return the collator to wrap: the given one, one that pads with a given tokenizer, or the plain one.

    Raises:
        TypeError: for something that can neither collate nor pad.
    """
    from transformers import DataCollatorWithPadding, default_data_collator

    if base is None:
        return default_data_collator
    if hasattr(base, "tokenizer") and (hasattr(base, "image_processor") or hasattr(base, "feature_extractor")):
        from hf_mixup.data.pair_collator import PairCollator

        return PairCollator(base)
    if hasattr(base, "pad") and hasattr(base, "save_pretrained"):
        return DataCollatorWithPadding(base)
    if not callable(base):
        raise TypeError(f"base={base!r}: expected a collator, a tokenizer or a feature extractor")
    return base


def refuse_without_padding(base: Any) -> None:
    """Refuse a collator that pads with a tokenizer which has no padding token, before training starts.

    Raises:
        ValueError: naming the tokenizer.
    """
    tokenizer = getattr(base, "tokenizer", None)
    if getattr(base, "padding", False) and getattr(tokenizer, "pad_token", "") is None:
        raise ValueError(
            f"{type(tokenizer).__name__} has no padding token, so that rows of different length make no batch: set "
            "tokenizer.pad_token (tokenizer.eos_token will do) and model.config.pad_token_id"
        )
