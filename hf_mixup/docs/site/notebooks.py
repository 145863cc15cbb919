"""Notebooks as pages, with what they print and draw: run when the site is built, and never stored with outputs."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hf_mixup.docs.site.repository import ROOT

FOLDER = ROOT / "notebooks"
_NOT_RUN = "\n!!! note\n    This build left the outputs out (`make docs NOTEBOOKS=no`).\n"
_WEB_IMAGE = re.compile(r"!\[([^\]]*)\]\(https?://[^)]*\)")  # a badge: its text stays, as the site fetches nothing
_ANSI = re.compile(r"\x1b\[[\d;]*[A-Za-z]")


def run(path: Path, kept: Path) -> Any:
    """Return a notebook with its outputs: run again only where its code has changed since.

    Args:
        kept: folder for notebooks that were run.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell raised an error.
    """
    import nbformat
    from nbclient import NotebookClient

    done = kept / path.name
    notebook = nbformat.read(path, as_version=4)
    if done.is_file() and with_outputs(notebook, nbformat.read(done, as_version=4)):
        return notebook
    workplace = kept / path.stem
    workplace.mkdir(parents=True, exist_ok=True)
    NotebookClient(notebook, timeout=1800, resources={"metadata": {"path": str(workplace)}}).execute()
    nbformat.write(notebook, done)
    return notebook


def with_outputs(notebook: Any, done: Any) -> bool:
    """Give the cells of a notebook the outputs that one with the same code had; return whether the code is the same.

    >>> cell = {"cell_type": "code", "source": "1 + 1"}
    >>> notebook = {"cells": [cell]}
    >>> with_outputs(notebook, {"cells": [{**cell, "outputs": ["2"]}]}), cell["outputs"]
    (True, ['2'])
    >>> with_outputs(notebook, {"cells": [{**cell, "source": "2 + 2", "outputs": ["4"]}]}), cell["outputs"]
    (False, ['2'])
    """
    cells, ran = ([cell for cell in each["cells"] if cell["cell_type"] == "code"] for each in (notebook, done))
    if [cell["source"] for cell in cells] != [cell["source"] for cell in ran]:
        return False
    for cell, before in zip(cells, ran):
        cell["outputs"] = before["outputs"]
    return True


def notebook_page(notebook: Any, name: str) -> tuple[str, dict[str, bytes]]:
    """Return a notebook as Markdown, and its images by the name of the file.

    Args:
        notebook: as nbformat reads it, with outputs or without.
        name: of the page, without an ending.

    >>> page, images = notebook_page({"cells": [{"cell_type": "markdown", "source": "# Hello"}]}, "hello")
    >>> page.splitlines()[0], images
    ('# Hello', {})
    """
    parts: list[str] = []
    images: dict[str, bytes] = {}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            parts.append(_WEB_IMAGE.sub(r"\1", cell["source"]))
            continue
        parts.append(f"```python\n{cell['source']}\n```")
        for output in _joined(cell.get("outputs", ())):
            parts += _shown(output, name, images)
    if not any(cell.get("outputs") for cell in notebook["cells"]):
        parts.insert(1, _NOT_RUN)
    return "\n\n".join(parts) + "\n", images


def _joined(outputs: Sequence[Any]) -> Iterator[Any]:
    """Yield the outputs of a cell: lines printed one after the other as one, without warnings and progress bars."""
    text = ""
    for output in outputs:
        if output.get("output_type") != "stream":
            if text:
                yield {"text": text}
            text = ""
            yield output
        elif output.get("name") != "stderr":
            text += output["text"]
    if text:
        yield {"text": text}


def _shown(output: Any, name: str, images: dict[str, bytes]) -> Iterator[str]:
    """Yield an output of a cell as Markdown: the richest of its forms."""
    data = output.get("data", {})
    if "image/png" in data:
        file = f"{name}-{len(images) + 1}.png"
        images[file] = base64.b64decode(data["image/png"])
        yield f"![Output of the cell above]({file})"
    elif "text/html" in data:
        yield f'<div class="output">{data["text/html"]}</div>'
    elif "text/markdown" in data:
        yield data["text/markdown"]
    elif text := _ANSI.sub("", output.get("text", "") or data.get("text/plain", "")):
        last = [line.rpartition("\r")[2] for line in text.splitlines()]  # what a progress bar ends with
        yield "```{ .text .output }\n" + "\n".join(last) + "\n```"
