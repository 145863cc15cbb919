"""Views of test-time augmentation, by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from hf_mixup.experiments.evaluate.parsing import Checked, words
from hf_mixup.experiments.tasks.arguments import IMAGE, TEXT
from hf_mixup.utils.suggest import did_you_mean
from hf_mixup.utils.values import setting

if TYPE_CHECKING:
    from hf_mixup.augment.tta import View


@dataclass
class ViewSettings(Checked):
    """Which views, and how their scores are averaged."""

    tta: list[str] | None = setting(None, "Test-time augmentation by flip, crops:0.9, scale:1.25; dropout:8; head:64.")
    tta_average: Literal["probabilities", "logits", "log_probabilities"] = setting(
        "probabilities", "What test-time augmentation averages."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.tta = words(self.tta or ()) or None


def parse_views(specs: Sequence[str], task: str) -> list[View]:
    """Return the unchanged row and the named views, some with a number behind a colon.

    Images: `flip`, `crops` (five, of 0.875 of the sides: `crops:0.9`), `scale` (by 1.25). Texts: `head` and `tail`
    (16 tokens). All: `dropout` (8 passes).

    Raises:
        ValueError: for a view that the task does not have (with the nearest one), or a wrong number.

    >>> [view.name for view in parse_views(["flip", "scale:0.5"], "image-classification")]
    ['identity', 'flip', 'scale 0.5']
    """
    from hf_mixup.augment.tta import dropout_passes, five_crops, flip, head, identity, scale, tail

    # name -> its number where none is given, and what makes the views
    known: dict[str, tuple[Any, Callable[[Any], list[View]]]] = {"dropout": (8, dropout_passes)}
    if task == IMAGE:
        known |= {
            "flip": (None, lambda _: [flip()]),
            "crops": (0.875, five_crops),
            "scale": (1.25, lambda factor: [scale(factor)]),
        }
    if task == TEXT:
        known |= {"head": (16, lambda length: [head(length)]), "tail": (16, lambda length: [tail(length)])}
    views = [identity()]
    for spec in specs:
        name, colon, value = spec.partition(":")
        if name not in known:
            raise ValueError(f"tta has {name!r}, which {task} does not know: {did_you_mean(name, known)}")
        default, make = known[name]
        if colon and default is None:
            raise ValueError(f"tta has {spec!r}: takes no {value!r}")
        try:
            views += make(type(default)(value) if colon else default)
        except ValueError as error:
            raise ValueError(f"tta has {spec!r}: {error}") from None
    return views
