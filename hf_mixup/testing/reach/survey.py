"""What can be mixed in one class of transformers: a row of the table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal

from torch import Tensor

from hf_mixup.testing.batches import make_batch
from hf_mixup.testing.build import CannotBuild, builds, model_class_of
from hf_mixup.testing.exchange import brief
from hf_mixup.testing.families import COMPARE, FAMILIES, SCORED, Family, architectures, classes
from hf_mixup.testing.layouts.fitting import TRIES, NoBatch, NoLoss, computes_loss, fitting_batches
from hf_mixup.testing.layouts.targets import TARGETS
from hf_mixup.testing.reach.reference import EXACT, Reference
from hf_mixup.testing.transducer import have_rnnt_loss

METHODS: dict[str, dict[str, Any]] = {
    "mixup": {"method": "mixup"},
    "cross_modal": {"method": "cross_modal"},
    "manifold": {"method": "manifold"},
    "embedding": {"method": "embedding"},
    "own loss": {"method": "mixup", "loss": "own"},
}
By = Literal["default", "any method", "any method or own loss"]
COUNTED: dict[By, tuple[str, ...]] = {
    "default": ("mixup", "cross_modal"),
    "any method": ("mixup", "cross_modal", "manifold", "embedding"),
    "any method or own loss": ("mixup", "cross_modal", "manifold", "embedding", "own loss"),
}
"""What counts as a way to train, from narrow to wide: the last one costs a second pass (`mixup` with `loss="own"`)."""
SAMPLES = 4
FEW = 6  # layouts that are tried on a larger model, where the smallest ran on none
LOUDER = 10
LAYOUTS = 3  # batches that run, tried until the model sees all their inputs


@dataclass(frozen=True)
class Row:
    """The findings on one class.

    Args:
        family: the mapping it is in.
        model_type: its name there.
        name: the class.
        state: "tried", "not built" (no tiny model of it), "no loss" (it has none for training) or "no batch" (it has
            run on no batch that was tried).
        reason: why, where it is not "tried".
        inputs: the shapes of its inputs and labels.
        blind: inputs that change nothing in the tiny model.
        cells: method -> "exact", "refused: why", "wrong: how" or "crash: why".
    """

    family: Family
    model_type: str
    name: str
    state: str
    reason: str = ""
    inputs: dict[str, list[int]] = field(default_factory=dict)
    blind: list[str] = field(default_factory=list)
    cells: dict[str, str] = field(default_factory=dict)

    def trains(self, by: By) -> bool:
        """Whether mixing is exact by default (`mixup` or `cross_modal`), by any method, or by any or the own loss.

        The own loss is that of the model, taken once with each label, for heads without a rule of their own.

        >>> row = Row("ctc", "a", "AForCTC", "tried", cells={"mixup": "refused: so", "own loss": "exact"})
        >>> row.trains("any method"), row.trains("any method or own loss")
        (False, True)
        """
        return any(self.cells.get(method) == EXACT for method in COUNTED[by])

    def failures(self) -> dict[str, str]:
        """The methods that are wrong or crash, and how."""
        return {method: cell for method, cell in self.cells.items() if cell.startswith(("wrong", "crash"))}


def cases(families: tuple[Family, ...] = FAMILIES) -> Iterator[tuple[Family, str]]:
    """Yield family and model type of each class once, in the first family that has it."""
    seen: set[str] = set()
    for family in FAMILIES:
        for model_type in architectures(family):
            name = classes(family)[model_type]
            if name not in seen and family in families:
                yield family, model_type
            seen.add(name)


def examine(family: Family, model_type: str) -> Row:
    """Build a tiny model of a class, find its batch, and judge every method on it.

    Raises:
        ValueError: for an unknown family or architecture.

    >>> examine("image-classification", "vit").cells["mixup"]
    'exact'
    """
    name = classes(family).get(model_type, model_type)
    try:
        reference = reference_of(family, model_type)
    except CannotBuild as error:
        return Row(family, model_type, name, "not built", str(error))
    except NoLoss as error:
        return Row(family, model_type, name, "no loss", str(error))
    except NoBatch as error:
        return Row(family, model_type, name, "no batch", str(error))
    shapes = {key: _shape(value) for key, value in reference.batch.items()}
    cells = {method: reference.judge(settings) for method, settings in METHODS.items()}
    return Row(family, model_type, name, "tried", "", shapes, reference.blind, cells)


def _shape(value: Any) -> list[int]:
    return list(value.shape) if isinstance(value, Tensor) else [len(value)] if isinstance(value, list) else []


def reference_of(family: Family, model_type: str) -> Reference:
    """Return the reference on the smallest model that runs, and on the first batch whose samples score apart by it.

    Raises:
        CannotBuild, NoBatch, NoLoss: with the reason, of the smallest model.
    """
    if not computes_loss(model_class_of(classes(family)[model_type])):
        raise NoLoss("its forward computes none")
    if family == "rnnt":
        have_rnnt_loss()
    first: Exception | None = None
    for model in builds(family, model_type):
        if isinstance(model, CannotBuild):
            first = first or model
            continue
        try:
            return _telling(family, model, TRIES if first is None else FEW)
        except NoLoss:
            raise
        except NoBatch as error:
            first = error if first is None or isinstance(first, CannotBuild) else first
    raise first or CannotBuild("nothing to try")


def _telling(family: Family, model: Any, tries: int) -> Reference:
    """Return the reference on the first batch whose inputs the model all sees, else on one that tells samples apart."""
    telling: list[Reference] = []
    said = "nothing to try"
    for batch in _batches(family, model, tries):
        found = Reference(model, batch, SAMPLES, family in COMPARE)
        try:
            if found.tells and not found.blind:
                return found
            telling += [found] * found.tells
            said = f"samples score alike: {found.own:.6g} and {found.partners:.6g}"
        except Exception as error:  # noqa: BLE001 - any error is the reason
            said = brief(error)
    if not telling:
        raise NoBatch(said)
    return min(telling, key=lambda each: len(each.blind))


def _batches(family: Family, model: Any, tries: int) -> Iterator[dict[str, Any]]:
    if family in SCORED:
        made = [make_batch(family, model, SAMPLES, seed=seed) for seed in range(LAYOUTS)]
        return iter([*made, _louder(made[0])])
    return islice(fitting_batches(family, model, SAMPLES, tries=tries), LAYOUTS)


def _louder(batch: dict[str, Any]) -> dict[str, Any]:
    """Return a batch with its floats so large that samples score apart where they did not."""
    floats = {key: value for key, value in batch.items() if key not in TARGETS and value.is_floating_point()}
    return {**batch, **{key: LOUDER * value for key, value in floats.items()}}
