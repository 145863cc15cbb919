"""Knowledge distillation: a teacher's scores on the mixed batch as targets beside its labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, nn

from hf_mixup.methods import Method
from hf_mixup.models.dual_encoder import is_dual_encoder
from hf_mixup.models.inputs import takes
from hf_mixup.models.labels import vocabulary_of
from hf_mixup.models.outputs import logits_of


class Teacher:
    """A model that is asked what it makes of a mixed batch, and never trained, saved or moved more than once.

    Args:
        model: scores the student's classes (or vocabulary) in their order; of any architecture that takes the student's
            inputs. It is put into evaluation mode, and goes to the student's device at its first batch.

    Source: Hinton et al. 2015, "Distilling the Knowledge in a Neural Network", arXiv 1503.02531; that both models see
    the same mixed image: Beyer et al. 2021, "Knowledge distillation: A good teacher is patient and consistent",
    arXiv 2106.05237.

    Raises:
        TypeError: for what is no model.
    """

    def __init__(self, model: nn.Module) -> None:
        if not isinstance(model, nn.Module):
            raise TypeError(f"teacher={type(model).__name__}: expected a model")
        self.model = model.eval()
        self._fits: WeakSet[nn.Module] = WeakSet()

    def check(self, student: nn.Module, method: Method) -> None:
        """Refuse a teacher that cannot teach this model.

        Raises:
            ValueError: if it is the student itself, scores other classes or another vocabulary, has the same classes in
                another order, or is to teach a dual encoder; for a method whose blend its scores cannot follow.
        """
        if student in self._fits:
            return
        for each in method.choices():
            if each.enters_model and each.own_loss:
                raise ValueError(
                    f"method {each.name!r} blends inside the model by a rule of its own, which a teacher's scores "
                    "cannot follow: use 'manifold' or 'embedding', or leave the teacher out"
                )
        teacher = getattr(self.model, "_orig_mod", self.model)
        names = f"the teacher {type(teacher).__name__} and the model {type(student).__name__}"
        if teacher is student:
            raise ValueError(f"{names} are one object: give a copy, or a trained model")
        if is_dual_encoder(student):
            raise ValueError(f"{type(student).__name__} is a dual encoder, whose pairs take no teacher: leave it out")
        found = [vocabulary_of(each) or getattr(_config(each), "num_labels", None) for each in (teacher, student)]
        if None not in found and found[0] != found[1]:
            raise ValueError(f"{names} score {found[0]} and {found[1]} classes: distillation needs the same ones")
        if vocabulary_of(student) is None:
            _refuse_other_order(names, *(getattr(_config(each), "id2label", None) or {} for each in (teacher, student)))
        self._fits.add(student)

    @torch.no_grad()
    def logits(self, inputs: Mapping[str, Any], device: torch.device) -> Tensor:
        """Return the teacher's logits on a batch, of which it is given what its forward takes."""
        parameter = next(self.model.parameters())
        if parameter.device != device and not hasattr(self.model, "hf_device_map"):
            self.model.to(device)
        self.model.eval()
        base = getattr(self.model, "_orig_mod", self.model)
        given = {key: value for key, value in inputs.items() if takes(base, key) and key != "output_attentions"}
        for key, value in given.items():
            if isinstance(value, Tensor) and value.is_floating_point() and parameter.is_floating_point():
                given[key] = value.to(parameter.dtype)
        return logits_of(self.model(**given)).detach()


def _config(model: nn.Module) -> Any:
    return getattr(model, "config", None)


def _refuse_other_order(names: str, teacher: Mapping[int, str], student: Mapping[int, str]) -> None:
    if teacher != student and set(teacher.values()) == set(student.values()):
        place = next(place for place in teacher if teacher[place] != student.get(place))
        raise ValueError(
            f"{names} have the same classes in another order (class {place} is {teacher[place]!r} and "
            f"{student.get(place)!r}): set id2label of one to that of the other before it is trained"
        )
