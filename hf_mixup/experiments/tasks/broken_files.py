"""What is wrong with a file of data: its place in the file, in words, where the library that reads it tells neither."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from hf_mixup.experiments.tasks.paths import BUILDERS
from hf_mixup.utils.suggest import shortened

_JSON = (".json", ".jsonl")
_OF_DATASETS = ("dataset_dict.json", "dataset_info.json", "state.json")  # beside what `save_to_disk` wrote
_LOOKED_AT = 100  # rows that say what a column of a CSV file holds
_LONGEST = 40  # characters of a value


def data_files(path: Path) -> list[Path]:
    """Return the files of data that a path names: itself, or those in its folder, with the tables of media files."""
    if path.is_file():
        return [path]
    found = (each for each in path.rglob("*") if each.suffix in BUILDERS and each.name not in _OF_DATASETS)
    return sorted(each for each in found if each.is_file())


def first_fault(files: Iterable[Path]) -> str | None:
    """Return what is wrong with the first broken file of some, its name and the place in it before; None if none is.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "rows.csv")
    >>> _ = path.write_text("text,label\\na cat,0\\na dog,barks,1\\n")
    >>> first_fault([path])
    '...rows.csv, line 3 (row 1): 3 cells where the header names 2 columns (text, label): put texts ...'
    """
    for path in files:
        fault = fault_in(path)
        if fault is not None:
            return f"{path}{fault}"
    return None


def fault_in(path: Path) -> str | None:
    """Return what is wrong with a file, beginning with its place in the file; None if nothing is found.

    Text is in UTF-8, see `check_utf8`.
    """
    if not path.stat().st_size:
        return ": the file is empty"
    if path.suffix == ".parquet":
        return _in_parquet(path)
    return _in_json(path) if path.suffix in _JSON else _in_csv(path)


def check_utf8(path: Path) -> None:
    """Refuse a text file that is not in UTF-8; some readers would take it, and stumble over the text much later.

    Raises:
        ValueError: naming the line, and in a CSV file the column.
    """
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                byte, place = error.object[error.start], _cell_of_byte(path, line)
                raise ValueError(
                    f"{path}, line {number}{place}: not in UTF-8 (byte 0x{byte:02x}): save the file in that encoding"
                ) from error


def _cell_of_byte(path: Path, line: bytes) -> str:
    """Name the column of a CSV file whose cell in this line cannot be decoded."""
    if path.suffix != ".csv":
        return ""
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        header = next(csv.reader(file), [])
    cells = next(csv.reader([line.decode("utf-8", errors="surrogateescape")]), [])
    broken = (place for place, cell in enumerate(cells) if not cell.isascii() and _is_broken(cell))
    place = next(broken, len(header))
    return f", column {header[place]!r}" if place < len(header) and not _is_broken(header[place]) else ""


def _is_broken(text: str) -> bool:
    return any("\udc80" <= letter <= "\udcff" for letter in text)


def _in_parquet(path: Path) -> str | None:
    import pyarrow
    from pyarrow import parquet

    try:
        empty = not parquet.ParquetFile(path).metadata.num_rows
    except (OSError, pyarrow.ArrowException) as error:
        return f": no readable Parquet file: {error}"
    return ": it has no rows" if empty else None


def _in_csv(path: Path) -> str | None:
    with path.open(encoding="utf-8-sig", newline="") as file:
        lines = csv.reader(file, strict=True)
        header, begin = next(lines, []), 1
        table: list[tuple[int, list[str]]] = []
        try:
            for cells in lines:
                place, begin = f", line {begin + 1} (row {len(table)})", lines.line_num
                if cells and len(cells) > len(header):
                    names = ", ".join(header)
                    return (
                        f"{place}: {len(cells)} cells where the header names {len(header)} columns ({names}): put "
                        "texts with commas in double quotes"
                    )
                if cells:
                    table.append((begin, cells))
        except csv.Error as error:
            return f", line {begin + 1} (row {len(table)}): no readable CSV ({error}): is a double quote left open?"
    if not header or not table:
        return ": it has a header and no rows" if header else ": it has no rows"
    return _odd_cell(header, table)


def _odd_cell(header: list[str], table: list[tuple[int, list[str]]]) -> str | None:
    """Find a text in a column whose first rows hold numbers."""
    for column, name in enumerate(header):
        filled = [(row, line, cells[column]) for row, (line, cells) in enumerate(table) if cells[column : column + 1]]
        filled = [each for each in filled if each[2]]
        if filled and all(is_number(cell) for _, _, cell in islice(filled, _LOOKED_AT)):
            for row, line, cell in filled:
                if not is_number(cell):
                    return f", line {line} (row {row}), column {name!r}: {cell!r} where the rows before hold numbers"
    return None


def is_number(cell: str) -> bool:
    """Whether a text is a number."""
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _in_json(path: Path) -> str | None:
    text = path.read_text(encoding="utf-8-sig")
    if not text.strip():
        return ": it has no rows"
    if text.lstrip().startswith("["):
        try:
            rows = json.loads(text)
        except json.JSONDecodeError as error:
            return f", line {error.lineno}, place {error.colno}: not readable as JSON: {error.msg}"
        return _odd_value((f", row {row}", value) for row, value in enumerate(rows)) if rows else ": it has no rows"
    read: list[tuple[str, Any]] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            place = f", line {number} (row {len(read)})"
            try:
                read.append((place, json.loads(line)))
            except json.JSONDecodeError as error:
                return f"{place}, place {error.colno}: not readable as JSON: {error.msg}"
    return _odd_value(iter(read))


def _odd_value(rows: Iterator[tuple[str, Any]]) -> str | None:
    """Find a row that is no mapping, or a value of another kind than the column has in the rows before."""
    first: dict[str, tuple[str, Any]] = {}
    for place, row in rows:
        if not isinstance(row, Mapping):
            return f"{place}: holds {type(row).__name__}, expected a mapping of columns"
        for name, value in row.items():
            if value is None or value == []:
                continue
            before, other = first.setdefault(name, (place, value))
            if kind_of(value) != kind_of(other):
                own, its = (shortened(repr(each), _LONGEST) for each in (value, other))
                return (
                    f"{place}, column {name!r}: {own} is {kind_of(value)}, where {its} in {before.removeprefix(', ')} "
                    f"is {kind_of(other)}"
                )
    return None


def kind_of(value: Any) -> str:
    """Return what a value of JSON is, in words; whole numbers and others are one kind.

    >>> kind_of(1), kind_of("1"), kind_of([1])
    ('a number', 'a text', 'a list of numbers')
    """
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, (int, float)):
        return "a number"
    if isinstance(value, str):
        return "a text"
    if isinstance(value, Mapping):
        return "a mapping"
    kinds = {kind_of(each) for each in value if each is not None}
    if len(kinds) > 1:
        return "a list of several kinds"
    return f"a list of {kinds.pop().removeprefix('a ')}s" if kinds else "a list"


def source_of(dataset: str, split: str) -> str:
    """Return how errors call a split: with its file, where the data is one or one file alone has the split in its name.

    >>> source_of("emoji", "train")
    "split 'train'"
    """
    path = Path(dataset)
    if not path.exists():
        return f"split {split!r}"
    files = [each for each in data_files(path) if path.is_file() or split in each.relative_to(path).as_posix()]
    return f"{files[0] if len(files) == 1 else path}, split {split!r}"
