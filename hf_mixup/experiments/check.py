"""`hf-mixup check`: the methods and depths at which a model's rows are mixed correctly."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import AutoConfig, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

from hf_mixup.testing.batches import SOURCES, make_batch
from hf_mixup.testing.build import CannotBuild, build, model_class_of
from hf_mixup.testing.exchange import plain_inputs, try_exchange
from hf_mixup.testing.families import SCORED, Family, classes
from hf_mixup.utils.suggest import did_you_mean

EXACT = "exact"


class Found(NamedTuple):
    """The verdict on a method at a depth ("" where there is none): "exact", or the error."""

    method: str
    depth: str
    verdict: str


def load(name: str, family: str | None = None) -> tuple[Family, PreTrainedModel]:
    """Return the family and a model: a checkpoint (folder or Hub name), or a tiny one of an architecture.

    Args:
        name: folder, Hub name, or model type such as "bert".
        family: what it is trained for; by default what the checkpoint's class is for, or the first family that has the
            model type.

    Raises:
        ValueError: for an unknown family, or an architecture that is in none, or that cannot be built tiny.
    """
    if family is not None and family not in SCORED:
        raise ValueError(f"family={family!r}: {did_you_mean(family, SCORED)}")
    if name in CONFIG_MAPPING_NAMES and not Path(name).is_dir():
        fitting = [each for each in SCORED if name in classes(each) and family in (None, each)]
        if not fitting:
            raise ValueError(f"{name!r} is no architecture of {family or 'any family'}: {_elsewhere(name)}")
        try:
            return fitting[0], build(fitting[0], name)
        except CannotBuild as error:
            raise ValueError(f"no tiny model of {name!r} can be made: {error}") from error
    config = AutoConfig.from_pretrained(name)
    found, class_name = _class_of(config, family)
    model = model_class_of(class_name).from_pretrained(name, dtype=torch.float32)
    return found, model.eval()


def try_model(family: Family, model: PreTrainedModel, method: str | None = None) -> Iterator[Found]:
    """Yield the verdict on a method, by default on those for raw inputs or embeddings and for hidden layers.

    >>> for found in try_model("sequence-classification", build("sequence-classification", "bert")):
    ...     print(*found)
    embedding  exact
    manifold 0 exact
    manifold 1 exact
    manifold 2 exact
    """
    batch = make_batch(family, model, samples=2)
    batch = {key: value.to(model.device) for key, value in batch.items()}
    for each in [method] if method else ["mixup" if family.startswith(SOURCES) else "embedding", "manifold"]:
        if each != "manifold":
            yield Found(each, "", try_exchange(model, batch, {"method": each}))
            continue
        for depth in _depths(model, batch):
            yield Found(each, depth, try_exchange(model, batch, {"method": each, "layers": [float(depth or 0)]}))


def _depths(model: PreTrainedModel, batch: dict[str, Any]) -> list[str]:
    """Return the depths of a model's blocks; an empty one without blocks, which the method refuses with its reason."""
    from hf_mixup.models.blocks import stack_of

    try:
        blocks = stack_of(model, plain_inputs(model, batch)).blocks
    except ValueError:
        return [""]
    return [str(depth) for depth in range(len(blocks) + 1)]


def _class_of(config: Any, family: str | None) -> tuple[Family, str]:
    """Return the family and class that a checkpoint's configuration names, or the class of a given family."""
    if family is not None:
        name = classes(family).get(config.model_type)  # type: ignore[arg-type]
        if name is None:
            raise ValueError(f"a {config.model_type} is no architecture of {family}: {_elsewhere(config.model_type)}")
        return family, name  # type: ignore[return-value]
    named = (config.architectures or [""])[0]
    for each in SCORED:
        if named in classes(each).values():
            return each, named
    raise ValueError(f"{named or 'no class'} is of no family: name one with --family, {_elsewhere(config.model_type)}")


def _elsewhere(model_type: str) -> str:
    has = [family for family in SCORED if model_type in classes(family)]
    return f"{model_type} is in {', '.join(has)}" if has else f"the families are {', '.join(SCORED)}"


def short_reason(verdict: str) -> str:
    """Return a verdict without the step of the test in which it arose.

    >>> short_reason("refused: lam=1: ValueError: no blocks")
    'refused: no blocks'
    """
    return re.sub(r"(lam=\d|itself): \w+: ", "", verdict)
