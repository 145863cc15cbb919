"""One HTML file that holds a whole report: no network, images inside, readable on a telephone."""

from __future__ import annotations

import base64
import os
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from hf_mixup.plots.canvas import DPI
from hf_mixup.utils.environment import hardware, versions
from hf_mixup.utils.files import write_text

_TEMPLATE = Path(__file__).with_name("page.html.j2")
_SCREEN = 96  # pixels of a browser an inch
_LEGIBLE = 62  # as few of them as its text can be read at; a wider image is scrolled


class Cell(NamedTuple):
    """A cell of a table and its small print; the moods "better" and "worse" are coloured, and the text says them."""

    text: str
    mood: str = ""
    below: str = ""


class Point(NamedTuple):
    """One item of a list, its first words emphasised."""

    head: str
    text: str


class Text(NamedTuple):
    """A paragraph."""

    text: str


class Heading(NamedTuple):
    """A heading within a section."""

    text: str


class Points(NamedTuple):
    """A list."""

    points: Sequence[Point]


class Code(NamedTuple):
    """Text as it is typed; with a title it is folded away."""

    text: str
    title: str = ""


class Table(NamedTuple):
    """A table, whose first column names the rows."""

    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""


class Image:
    """A PNG file, drawn at 150 dots an inch and read into the page; `alt` tells what it shows to who cannot see it."""

    def __init__(self, path: str | os.PathLike[str], alt: str, caption: str) -> None:
        content = Path(path).read_bytes()
        if content[:8] != b"\x89PNG\r\n\x1a\n":
            raise ValueError(f"{path} is no PNG file")
        width, height = struct.unpack(">II", content[16:24])
        self.alt, self.caption, self.source = alt, caption, embedded(content)
        self.width, self.height = round(width * _SCREEN / DPI), round(height * _SCREEN / DPI)
        self.least = min(self.width, round(width * _LEGIBLE / DPI))


class Card(NamedTuple):
    """A few lines with a small image, or none (an empty source)."""

    title: str
    lines: Sequence[str]
    source: str = ""
    alt: str = ""


class Cards(NamedTuple):
    """Cards side by side."""

    cards: Sequence[Card]


class Section(NamedTuple):
    """A heading and what stands below it."""

    title: str
    blocks: Sequence[Any]


def embedded(content: bytes, kind: str = "image/png") -> str:
    """Return a file, a PNG unless another kind is named, as an address that holds it.

    >>> embedded(b"PNG"), embedded(b"hi", "audio/wav")
    ('data:image/png;base64,UE5H', 'data:audio/wav;base64,aGk=')
    """
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def made_by(command: str, settings: Mapping[str, Any], note: str = "") -> Section:
    """Return the section that tells the command, the settings that are not the defaults, versions and hardware."""
    known = ", ".join(f"{name} {number}" for name, number in versions().items())
    whole = yaml.safe_dump(dict(settings), sort_keys=False, allow_unicode=True)
    blocks = [Code(command), Code(whole, "All settings"), Text(f"{note}{known}. {hardware()}.")]
    return Section("How it was made", blocks)


def write_page(path: str | os.PathLike[str], title: str, lead: Sequence[str], sections: Sequence[Section]) -> Path:
    """Write a report into one HTML file, whole or not at all; sections without blocks are left out.

    Args:
        lead: lines below the title.

    >>> import tempfile
    >>> path = write_page(Path(tempfile.mkdtemp(), "r.html"), "A & B", [], [Section("One", [Text("1 < 2")])])
    >>> "1 &lt; 2" in path.read_text()
    True
    """
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, trim_blocks=True, undefined=StrictUndefined)
    environment.filters["type"] = lambda block: type(block).__name__
    template = environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))
    shown = [section for section in sections if section.blocks]
    write_text(Path(path), template.render(title=title, lead=lead, sections=shown))
    return Path(path)
