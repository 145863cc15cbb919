"""Settings that do not go together, or not with a kind of model: each is refused by its name."""

from __future__ import annotations

from hf_mixup.engine.settings import PAIR_LOSSES, LossSettings, PairSettings, changed_settings
from hf_mixup.methods import METHODS, Method
from hf_mixup.methods.registry import each_part


def refuse_conflicts(method: Method, losses: LossSettings, pairs: PairSettings) -> None:
    """Refuse settings of pairs where there are labels, the other way round, and what does not go with `loss="own"`.

    Raises:
        ValueError: naming the setting.
    """
    if not method.for_pairs:
        for name, value in changed_settings(pairs).items():
            raise ValueError(
                f"{name}={value!r}: method {method.name!r} does not read it; {pair_methods()}: leave it out"
            )
        if losses.loss in PAIR_LOSSES:
            raise ValueError(
                f"loss={losses.loss!r} is for pairs, and method {method.name!r} is for samples with labels: leave it "
                "out, or use 'cross_modal' (with prob=0 to mix nothing)"
            )
    elif not method.fuses:
        refuse_labels(losses)
    refuse_beside_own(method, losses)


def pair_methods() -> str:
    """Say which methods read the settings of pairs."""
    return f"{', '.join(name for name, kind in METHODS.items() if kind.for_pairs is True)} do"


def refuse_labels(losses: LossSettings) -> None:
    """Refuse settings of labels, for a model or method that has none.

    Raises:
        ValueError: naming the setting.

    >>> refuse_labels(LossSettings(loss="own"))
    Traceback (most recent call last):
    ...
    ValueError: loss='own' is for labels, and a dual encoder has pairs: use 'infonce' or 'sigmoid'
    """
    if losses.class_weights is not None:
        raise ValueError(
            f"class_weights={losses.class_weights!r}: a contrastive loss has no classes to weigh: leave it out"
        )
    if losses.loss in ("bce", "own"):
        raise ValueError(
            f"loss={losses.loss!r} is for labels, and a dual encoder has pairs: use 'infonce' or 'sigmoid'"
        )


def refuse_pairs(losses: LossSettings, pairs: PairSettings, model: str) -> None:
    """Refuse settings of pairs, for a model with labels.

    Args:
        model: the name of its class.

    Raises:
        ValueError: naming the setting.

    >>> refuse_pairs(LossSettings(), PairSettings(chunk_size=8), "ViTForImageClassification")
    Traceback (most recent call last):
    ...
    ValueError: chunk_size=8 is for dual encoders, and ViTForImageClassification is none: leave it out
    """
    loss = {"loss": losses.loss} if losses.loss in PAIR_LOSSES else {}
    for name, value in {**loss, **changed_settings(pairs)}.items():
        raise ValueError(f"{name}={value!r} is for dual encoders, and {model} is none: leave it out")


def refuse_beside_own(method: Method, losses: LossSettings) -> None:
    """Refuse what does not go with the model's own loss by `loss="own"`, and with one lam for the whole batch.

    Raises:
        ValueError: naming the setting or the method.
    """
    if losses.loss != "own":
        return
    for name in ("class_weights", "label_smoothing", "distill_weight"):
        if getattr(losses, name):
            raise ValueError(
                f"{name}={getattr(losses, name)!r} does not go with loss='own', for the model computes its loss "
                "itself: leave one of them out"
            )
    for each in () if method.off else each_part(method):
        if each.own_loss:
            raise ValueError(
                f"method {each.name!r} has a rule of its own for labels, which is more than one lam for sample and "
                "partner: leave loss='own' out, or use another method, such as 'mixup', 'embedding' or 'manifold'"
            )
        for name in ("lam_per", "prob_per"):
            if getattr(each, name, "batch") != "batch":
                raise ValueError(
                    f"{name}={getattr(each, name)!r} of method {each.name!r} does not go with loss='own', which "
                    f"weighs the loss of a whole batch by one lam: leave {name} out"
                )
