"""The table of all architectures: what can be mixed rightly in each."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from hf_mixup.testing.families import SCORED, Family, architectures
from hf_mixup.testing.survey.survey import COLUMNS, Row, survey
from hf_mixup.testing.survey.trial import YES
from hf_mixup.testing.tables import family_table, markdown, over_processes, reasons

COMMITTED = Path(__file__).with_name("ARCHITECTURES.md")
_MEANING = """
- inputs, embedding, manifold: where samples are mixed (methods `mixup`, `embedding`, `manifold`). "yes": lam = 1 gives
  the batch, lam = 0 the permuted batch, and a sample mixed with itself stays; for manifold at each default depth.
  Depths that are not exact are left out, and named among the remarks.
- right, left: the same for samples of different length, padded on that side (manifold: lam = 1, and a sample with
  itself).
- longer: more padding changes nothing. gradients, checkpointing, bf16: training works, also with gradient checkpointing
  and under autocast.
- "refused": an error says why, and nothing is mixed wrongly. Empty: does not apply to the architecture.
"""


def table(families: Sequence[Family] = SCORED) -> str:
    """Survey families and return the findings as Markdown: the counts of each family, then each architecture.

    Takes about half an hour for all of them on two cores.
    """
    return render(survey_all(families))


def survey_all(families: Sequence[Family] = SCORED) -> list[Row]:
    """Survey all architectures of families, over all cores, with a progress bar on stderr."""
    todo = [(family, kind) for family in families for kind in architectures(family)]
    return list(over_processes(survey, todo, "architectures", None))


def render(rows: Iterable[Row]) -> str:
    """Return rows as Markdown.

    >>> row = Row("causal-lm", "gpt2", "GPT2LMHeadModel", None, {"embedding": "yes", "left": "refused: so"})
    >>> print(render([row]).partition("## causal-lm")[2])
    <BLANKLINE>
    <BLANKLINE>
    | architecture | class | embedding | left | remarks |
    |---|---|---|---|---|
    | gpt2 | GPT2LMHeadModel | yes | refused | left: so |
    """
    by_family: dict[Family, list[Row]] = {}
    for row in rows:
        by_family.setdefault(row.family, []).append(row)
    parts = [f"# Architectures\n\n{_release()}", _MEANING.strip(), _reach(by_family)]
    parts += [f"## {family}\n\n{family_table(its, COLUMNS, _remarks)}" for family, its in by_family.items()]
    return "\n\n".join(parts) + "\n"


def _release() -> str:
    import transformers

    release = transformers.__version__
    return f"Tiny models of the architectures of transformers {release}, tried by `python -m hf_mixup.testing.survey`."


def release_of(text: str) -> str:
    """Return the release of transformers that a table was made with, empty if it does not say.

    >>> release_of("of transformers 5.23.0, made")
    '5.23.0'
    """
    found = re.search(r"transformers (\d[\w.]*\w)", text)
    return found[1] if found else ""


def _reach(families: dict[Family, list[Row]]) -> str:
    lines: list[tuple[str, ...]] = [("family", "in the mapping", "built", *COLUMNS)]
    for family, rows in families.items():
        built = [row for row in rows if row.reason is None]
        lines.append((family, str(len(rows)), str(len(built)), *(_share(built, column) for column in COLUMNS)))
    return markdown(lines)


def _share(rows: list[Row], column: str) -> str:
    cells = [row.cells[column] for row in rows if column in row.cells]
    return f"{sum(cell.startswith(YES) for cell in cells)} of {len(cells)}" if cells else ""


def _remarks(row: Row) -> str:
    return row.reason or "; ".join(reasons(row.cells, YES, lambda reason: _plain(reason, row.name)))


def _plain(reason: str, name: str) -> str:
    """Return a reason without parts that differ between machines or stand in the line already."""
    for pattern in (r"^(lam=\d|itself): ", r"\w+(Error|Exception): ", rf"{name}:? ", r" by [\d.e+-]+%", r"[{}']"):
        reason = re.sub(pattern, "", reason)
    return reason.partition(". ")[0].replace("|", "/")
