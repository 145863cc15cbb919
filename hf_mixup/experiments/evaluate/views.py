"""Views of test-time augmentation by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hf_mixup.augment.tta import View, dropout_passes, five_crops, flip, head, identity, scale, tail
from hf_mixup.experiments.tasks.arguments import AUDIO, IMAGE, TEXT, TOKENS
from hf_mixup.utils.suggest import did_you_mean

_IMAGES: dict[str, Callable[[str | None], list[View]]] = {
    "flip": lambda value: [_without(value, flip)],
    "crops": lambda value: five_crops(0.875 if value is None else float(value)),
    "scale": lambda value: [scale(1.25 if value is None else float(value))],
}
_TEXTS: dict[str, Callable[[str | None], list[View]]] = {
    "head": lambda value: [head(16 if value is None else int(value))],
    "tail": lambda value: [tail(16 if value is None else int(value))],
}
_DROPOUT: dict[str, Callable[[str | None], list[View]]] = {
    "dropout": lambda value: dropout_passes(8 if value is None else int(value))
}
_OF_TASK = {IMAGE: _IMAGES | _DROPOUT, TEXT: _TEXTS | _DROPOUT, TOKENS: _DROPOUT, AUDIO: _DROPOUT}


def _without(value: str | None, make: Callable[[], View]) -> View:
    if value is not None:
        raise ValueError(f"takes no {value!r}")
    return make()


def parse_views(specs: Sequence[str], task: str) -> list[View]:
    """Return the row as it is and the views that are named, some with a number behind a colon.

    Images: `flip`, `crops` (five, of 0.875 of the sides: `crops:0.9`), `scale` (by 1.25). Texts: `head` and `tail`
    (16 tokens). All: `dropout` (8 passes).

    Raises:
        ValueError: for a view that the task does not know (with the nearest one), or a wrong number.

    >>> [view.name for view in parse_views(["flip", "scale:0.5"], "image-classification")]
    ['identity', 'flip', 'scale 0.5']
    """
    known, views = _OF_TASK[task], [identity()]
    for spec in specs:
        name, colon, value = spec.partition(":")
        if name not in known:
            raise ValueError(f"tta has {name!r}, which {task} does not know: {did_you_mean(name, known)}")
        try:
            views += known[name](value if colon else None)
        except ValueError as error:
            raise ValueError(f"tta has {spec!r}: {error}") from None
    return views
