"""Refusals of a method by a model or its loss, which end with other ways: those that are methods are tried first."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from hf_mixup.methods.registry import each_part

if TYPE_CHECKING:
    from torch import nn

    from hf_mixup.methods import Method

WAYS_OUT = ("mixup", "manifold", "sentence")  # tried in this order where a method is refused
PLAINLY = "Train it without mixing (prob=0)"


class Refusal(Exception):
    """A method does not go with a model.

    Args:
        reason: what is the matter, without a full stop.
        method: the method.
        more: a further way out.

    >>> NotExactError("it does not mix", "features", ", or other layers")
    NotExactError('it does not mix. Train it without mixing (prob=0), or other layers')
    """

    def __init__(self, reason: str, method: str, more: str = "", way: str = PLAINLY) -> None:
        super().__init__(f"{reason}. {way}{more}")
        self.reason, self.method, self.more = reason, method, more

    def offering(self, works: Callable[[str], bool]) -> Refusal:
        """Return the same refusal with the methods that work instead, if any does.

        >>> NotExactError("it does not mix", "features").offering(lambda name: name == "manifold")
        NotExactError("it does not mix. Use 'manifold'")
        """
        names = [name for name in WAYS_OUT if name != self.method and works(name)]
        if not names:
            return self
        return type(self)(self.reason, self.method, self.more, f"Use {' or '.join(map(repr, names))}")


class NotExactError(Refusal, RuntimeError):
    """The exchange of two samples shows that a method does not mix a model rightly."""


class LabelRuleError(Refusal, ValueError):
    """A method has a rule for labels that a model's own loss cannot follow."""


def refuse_label_rules(method: Method, model: nn.Module) -> None:
    """Refuse methods that mix in their own loss, where the model's is taken.

    Raises:
        LabelRuleError: naming the method.
    """
    for each in () if method.off else each_part(method):
        if each.own_loss:
            raise LabelRuleError(
                f"method {each.name!r} has a rule of its own for labels, and {type(model).__name__} computes the loss "
                "of these labels itself",
                each.name,
            )
