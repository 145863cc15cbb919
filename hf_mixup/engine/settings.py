"""The settings of a mixing run beside its method's own: loss, schedule, pairs, batch normalisation, self-check."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cache
from typing import Any, Literal

from hf_mixup.methods.registry import with_settings
from hf_mixup.utils.values import check_settings, setting

PAIR_LOSSES = ("infonce", "sigmoid")


@dataclass(kw_only=True)
class LossSettings:
    """How mixed samples are scored.

    Raises:
        ValueError: for a value of another type or outside its range, or class weights that are all 0.

    >>> LossSettings(label_smoothing=0.1).label_smoothing
    0.1
    """

    loss: Literal["auto", "bce", "own", "infonce", "sigmoid"] = setting(
        "auto",
        "auto follows problem type or model; bce scores each class by itself; own: the model's own loss with each "
        "label, by a second pass of at least the head; infonce, sigmoid: for pairs.",
    )
    label_smoothing: float = setting(
        0.0, "Label smoothing of class labels, applied before mixing. Begin with 0.1.", at_least=0, below=1
    )
    class_weights: list[float] | None = setting(None, "One weight a class for the cross-entropy.", at_least=0)
    distill_weight: float | None = setting(
        None,
        "With a teacher: share in [0, 1] of its scores in the loss, the labels have the rest (default: 0.5).",
        at_least=0,
        at_most=1,
    )
    distill_temperature: float = setting(2.0, "With a teacher: temperature that softens both models' scores.", above=0)

    def __post_init__(self) -> None:
        check_settings(self)
        if self.class_weights is not None and not any(self.class_weights):
            raise ValueError(f"class_weights={self.class_weights!r} are all 0, so that nothing would be learnt")


@dataclass(kw_only=True)
class Schedule:
    """When batches are mixed, and from which seed.

    It needs to know how long training is: a Trainer tells it, a loop of one's own passes `total_steps` to `Mixup`.

    >>> Schedule(disable_last_epochs=5).disable_last_epochs
    5.0
    """

    prob_warmup_ratio: float = setting(
        0.0, "prob rises linearly from 0 over this share of the training steps.", at_least=0, at_most=1
    )
    disable_last_ratio: float = setting(
        0.0, "No mixing in this last share of the training steps.", at_least=0, at_most=1
    )
    disable_last_epochs: float = setting(0.0, "No mixing in this many last epochs.", at_least=0)
    draw_seed: int | None = setting(None, "Seed of the draws (default: the Trainer's seed, or 0).")

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(kw_only=True)
class PairSettings:
    """How dual encoders are trained on pairs.

    Raises:
        ValueError: for a value of another type or outside its range, or a bound of a scale that is not learnt.

    >>> PairSettings(chunk_size=64).chunk_size
    64
    """

    temperature: float | None = setting(
        None, "Pairs: contrastive temperature to start from (default: the model's).", above=0
    )
    learn_temperature: bool = setting(True, "Pairs: train the temperature; false keeps it.")
    max_logit_scale: float = setting(
        100.0,
        "Pairs: a learnt scale (1 / temperature) rises to this at most, or to where it starts if that is more.",
        above=0,
    )
    chunk_size: int | None = setting(
        None, "Pairs: cache gradients, so that a batch takes the memory of this many samples.", at_least=1
    )
    local_loss: bool = setting(
        True, "Pairs: each process scores its own samples against all; false: all samples against all."
    )
    duplicates: bool = setting(True, "Pairs: samples with the same caption or the same pair_ids are positives.")

    def __post_init__(self) -> None:
        check_settings(self)
        if not self.learn_temperature and self.max_logit_scale != 100.0:
            raise ValueError(
                f"max_logit_scale={self.max_logit_scale!r} is read only with learn_temperature=true: leave it out, or "
                "change that"
            )


@dataclass(kw_only=True)
class BatchNormSettings:
    """How batch normalisation, which sees mixed samples in training, is made ready for clean ones.

    >>> BatchNormSettings(refresh_batch_norm=False).refresh_batch_norm
    False
    """

    refresh_batch_norm: bool = setting(
        True,
        "Before each evaluation and each save, estimate the running statistics of batch normalisation from about 2,000 "
        "clean training samples, if any were mixed.",
    )

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(kw_only=True)
class SelfCheck:
    """Whether mixing is tried before it is trusted."""

    self_check: bool = setting(True, "Try the method and the loss on two samples before the first step.")

    def __post_init__(self) -> None:
        check_settings(self)


PARTS: dict[str, type] = {
    "losses": LossSettings,
    "schedule": Schedule,
    "pairs": PairSettings,
    "batch_norm": BatchNormSettings,
}
for part in PARTS.values():
    part.__doc__ = with_settings(part.__doc__ or "", part)


@cache
def names_of(kind: type) -> list[str]:
    """Return the names of the settings that a class declares or inherits.

    >>> names_of(SelfCheck)
    ['self_check']
    """
    return [field.name for field in fields(kind)]


def changed_settings(part: Any) -> dict[str, Any]:
    """Return the settings of a part that differ from their defaults.

    >>> changed_settings(LossSettings(loss="auto", label_smoothing=0.1))
    {'label_smoothing': 0.1}
    """
    return {field.name: value for field in fields(part) if (value := getattr(part, field.name)) != field.default}
