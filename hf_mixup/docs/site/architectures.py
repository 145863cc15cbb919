"""The page of architectures: what can be mixed in each class of transformers, as a table that can be filtered."""

from __future__ import annotations

import json
from html import escape
from typing import Any

from hf_mixup.docs.site.repository import ROOT
from hf_mixup.testing.reach.table import JSON

COLUMNS = ("mixup", "cross_modal", "manifold", "embedding", "own loss")
"""Methods, and `mixup` with `loss="own"`, as the survey names them."""
_HEAD = """---
hide: [toc]
---

# Architectures

Tiny random models of all {count} classes in the auto mappings of transformers {release} were tried, by their loss. A
cell is

- **exact** if the loss of the mixed batch agrees with plain passes of the model: with lam = 1 it is the loss of the
  batch, with lam = 0 that of the partners, and where all samples have the same inputs, that of both labels weighted by
  lam;
- **refused** if hf-mixup stops with an error that says why (click the word to read it);
- empty if the class was not tried: the last column says why.

`own loss` is `mixup` with `loss="own"`, which takes the model's own loss with each label. {tried} classes can be built,
run and have a loss; {exact} of them train exactly under plain `mixup` or `cross_modal`, {own} also with `loss="own"`.
`hf-mixup check CHECKPOINT` tries your own model.

<label>Filter: <input id="table-filter" type="search" placeholder="bert, image-classification, refused ..."></label>
<span id="table-count" role="status"></span>
"""


def architectures_page() -> str:
    """Return the page, from the results of `python -m hf_mixup.testing.reach`.

    >>> "# Architectures" in architectures_page()
    True
    """
    found = json.loads(JSON.read_text(encoding="utf-8"))
    rows = found["rows"]
    tried = [row["cells"] for row in rows if row["state"] == "tried"]
    plain = [cells for cells in tried if "exact" in (cells.get("mixup"), cells.get("cross_modal"))]
    own = [cells for cells in tried if "exact" in cells.values()]
    head = _HEAD.format(
        count=len(rows), release=found["transformers"], tried=len(tried), exact=len(plain), own=len(own)
    )
    titles = "".join(f"<th>{name}</th>" for name in ("class", "architecture and task", *COLUMNS, "not tried because"))
    lines = "\n".join(_line(row) for row in rows)
    survey = (ROOT / "hf_mixup/testing/survey/ARCHITECTURES.md").is_file()
    more = (
        "\nPadding, gradient checkpointing and bf16 have "
        "[a table of their own](../testing/survey/ARCHITECTURES.md); the depths of `manifold` stand there, too.\n"
    )
    table = f'<table id="filtered"><thead><tr>{titles}</tr></thead><tbody>\n{lines}\n</tbody></table>'
    return f"{head}{more if survey else ''}\n<div class='wide'>{table}</div>\n"


def _line(row: dict[str, Any]) -> str:
    cells = [f"<td>{escape(row['name'])}</td><td>{escape(row['model_type'])}<br>{escape(row['family'])}</td>"]
    for column in COLUMNS:
        word, _, reason = row["cells"].get(column, "").partition(": ")
        told = f' title="{escape(reason[:300])}" tabindex="0"' if reason else ""
        cells.append(f'<td class="{word}"{told}>{word}</td>')
    why = "" if row["state"] == "tried" else f"{row['state']}: {row['reason'][:120]}"
    return f"<tr>{''.join(cells)}<td>{escape(why)}</td></tr>"
