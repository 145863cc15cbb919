"""report.html of an evaluation: its tables, each with its images, and how it was made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hf_mixup.experiments.report import html_page as html
from hf_mixup.experiments.report.evaluation import BY_LEVEL
from hf_mixup.utils.files import slug


def write_evaluation_page(
    path: Path, subject: str, tables: str, images: Sequence[Path], command: str, settings: Mapping[str, Any]
) -> Path:
    """Write the tables of an evaluation and its images into one HTML file.

    Args:
        subject: what was evaluated, for the title.
        tables: Markdown as `evaluation_tables` writes it: headings of the third level, tables, and lines.
        command: starts the evaluation again.
        settings: all that are not the defaults.
    """
    sections: list[html.Section] = []
    left = list(images)  # an image of several splits stands with the first of them
    for title, lines in _parts(tables):
        own = [image for image in left if _belongs(image, title)]
        left = [image for image in left if image not in own]
        sections.append(html.Section(title, [*_blocks(lines), *(_shown(image, title) for image in own)]))
    sections.append(html.made_by(command, settings))
    lead = [
        "Every score is that of the model as it was saved; the temperature is fitted to the validation samples alone."
    ]
    return html.write_page(path, f"How robust is it? {subject}", lead, sections)


def _belongs(image: Path, title: str) -> bool:
    """Whether an image, named `suite` or `suite-split`, shows the numbers of the table with a title."""
    suite, _, split = image.stem.partition("-")
    heads = {"ood": "Out-of-distribution", "scores": "Clean samples", "reliability": "Test splits"}
    head, _, of = title.partition(", ")
    return head.startswith(BY_LEVEL[suite][0] if suite in BY_LEVEL else heads[suite]) and split in ("", slug(of))


def _shown(image: Path, title: str) -> html.Image:
    name = image.stem.replace("_", " ")
    return html.Image(image, f"{name}: the numbers of {title} as a chart", f"{name.capitalize()}.")


def _parts(markdown: str) -> Iterator[tuple[str, list[str]]]:
    """Yield each heading with the lines below it.

    >>> list(_parts("### A\\n\\n| a |\\n\\nnote\\n### B\\n"))
    [('A', ['', '| a |', '', 'note']), ('B', [])]
    """
    title, lines = "", list[str]()
    for line in markdown.splitlines():
        if line.startswith("### "):
            if title:
                yield title, lines
            title, lines = line.removeprefix("### "), []
        else:
            lines.append(line)
    if title:
        yield title, lines


def _blocks(lines: Sequence[str]) -> Iterator[Any]:
    """Yield tables and paragraphs of Markdown lines; the second line of a table only draws its rule."""
    table: list[list[str]] = []
    points: list[html.Point] = []
    for line in [*lines, ""]:
        if line.startswith("|"):
            table.append([cell.strip() for cell in line.strip("|").split(" | ")])
            continue
        if table:
            head, _, *rows = table
            yield html.Table(head, [[html.Cell(cell) for cell in row] for row in rows])
            table = []
        if line.startswith("- "):
            points.append(html.Point("", line.removeprefix("- ")))
            continue
        if points:
            yield html.Points(points)
            points = []
        if line.strip():
            yield html.Text(line.strip())
