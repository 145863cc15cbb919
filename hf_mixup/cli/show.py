"""Tables of the terminal."""

from __future__ import annotations

from collections.abc import Sequence


def show(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text  # unlike a string, it shows "[B, C]" as it is

    table = Table(*head)
    table.columns[0].no_wrap = True  # names are there to be copied
    for row in rows:
        table.add_row(*(Text(cell.replace("`", "")) for cell in row))
    Console().print(table)
