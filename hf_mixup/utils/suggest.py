"""The wording that error messages share."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(wrong: str, valid: Iterable[str]) -> str:
    """Name the valid spelling nearest to a wrong one, then all of them.

    >>> did_you_mean("cutmx", ["mixup", "cutmix"])
    "did you mean 'cutmix'? Valid: cutmix, mixup"
    """
    names = sorted(valid)
    near = difflib.get_close_matches(wrong, names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{hint}Valid: {', '.join(names)}"
