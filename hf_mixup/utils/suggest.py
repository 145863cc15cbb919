"""The wording that error messages and reports share."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from importlib.util import find_spec


def did_you_mean(wrong: str, valid: Iterable[str]) -> str:
    """Name the valid spelling nearest to a wrong one, then all of them.

    >>> did_you_mean("cutmx", ["mixup", "cutmix"])
    "did you mean 'cutmix'? Valid: cutmix, mixup"
    """
    names = sorted(valid)
    hint = nearest(wrong, names, cutoff=0.5)
    return f"{hint}{' ' if hint else ''}Valid: {', '.join(names)}"


def refuse_unknown(setting: str, values: Iterable[str], valid: Iterable[str]) -> None:
    """Refuse a value of a list that is not known, naming the nearest one.

    >>> refuse_unknown("suite", ["noise", "corrupton"], ["corruption", "noise"])
    Traceback (most recent call last):
    ...
    ValueError: suite has 'corrupton', which is not known: did you mean 'corruption'? Valid: corruption, noise
    """
    names = list(valid)
    for value in values:
        if value not in names:
            raise ValueError(f"{setting} has {value!r}, which is not known: {did_you_mean(value, names)}")


def nearest(wrong: str, valid: Iterable[str], cutoff: float = 0.75) -> str:
    """Name the valid spelling nearest to a wrong one, for names that are too many to list; "" if none is near.

    >>> nearest("alhpa", ["alpha", "beta"]), nearest("batch_size", ["chunk_size"])
    ("did you mean 'alpha'?", '')
    """
    near = difflib.get_close_matches(wrong, sorted(valid), n=1, cutoff=cutoff)
    return f"did you mean {near[0]!r}?" if near else ""


def require(purpose: str, package: str, extra: str) -> None:
    """Refuse to go on without an optional package.

    >>> require("a report needs", "nowhere", "reports")
    Traceback (most recent call last):
    ...
    ImportError: a report needs nowhere, which is not installed: pip install "hf-mixup[reports]"
    """
    if find_spec(package) is None:
        raise ImportError(f'{purpose} {package}, which is not installed: pip install "hf-mixup[{extra}]"')


def shortened(text: str, length: int) -> str:
    """Return a text of at most this many characters, the last of which tells that some are missing.

    >>> shortened("a black cat", 8), shortened("a cat", 8)
    ('a black…', 'a cat')
    """
    return text if len(text) <= length else f"{text[: length - 1]}…"
