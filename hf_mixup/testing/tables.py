"""What the tables of architectures share: rows found by several processes, and Markdown."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any, TypeVar

R = TypeVar("R")


def over_processes(
    find: Callable[..., R], cases: Sequence[tuple[Any, ...]], what: str, count: int | None
) -> Iterator[R]:
    """Yield what a function finds for each case, over all cores or so many processes, with a progress bar on stderr.

    Args:
        what: the cases as the bar calls them.
    """
    from rich.console import Console
    from rich.progress import track

    with ProcessPoolExecutor(count or os.cpu_count(), get_context("spawn"), initializer=_quietly) as pool:
        found = pool.map(find, *zip(*cases))
        yield from track(found, what, total=len(cases), console=Console(stderr=True))


def _quietly() -> None:
    import logging

    import torch

    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)


def family_table(rows: Sequence[Any], columns: Sequence[str], remarks: Callable[[Any], str]) -> str:
    """Return a line for each architecture: the first words of its cells in the columns that some row has, and remarks.

    Args:
        rows: each with `model_type`, `name` and `cells`.
    """
    shown = [column for column in columns if any(column in row.cells for row in rows)]
    lines: list[tuple[str, ...]] = [("architecture", "class", *shown, "remarks")]
    for row in rows:
        words = [row.cells.get(column, "").partition(":")[0] for column in shown]
        lines.append((row.model_type, row.name, *words, remarks(row)))
    return markdown(lines)


def reasons(cells: Mapping[str, str], good: str, plain: Callable[[str], str]) -> list[str]:
    """Return why cells are not good, each reason once behind the columns that it holds for.

    >>> reasons({"a": "yes", "b": "refused: so", "c": "refused: so"}, "yes", str.upper)
    ['b, c: SO']
    """
    found: dict[str, list[str]] = {}
    for column, cell in cells.items():
        if cell != good:
            found.setdefault(plain(cell.partition(": ")[2]), []).append(column)
    return [f"{', '.join(columns)}: {reason}" for reason, columns in found.items()]


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """Return lines of cells as a table in Markdown, the first as its head.

    >>> print(markdown([("a", "b"), ("1", "2")]))
    | a | b |
    |---|---|
    | 1 | 2 |
    """
    head, *rest = (f"| {' | '.join(line)} |" for line in lines)
    return "\n".join([head, f"|{'---|' * len(lines[0])}", *rest])
