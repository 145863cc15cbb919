"""The tables of the reach: Markdown for readers, JSON for programs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

from hf_mixup.testing.families import FAMILIES, Family
from hf_mixup.testing.reach.reference import EXACT
from hf_mixup.testing.reach.survey import COUNTED, METHODS, Row, cases, examine
from hf_mixup.testing.tables import family_table, markdown, over_processes, reasons

MARKDOWN, JSON = (Path(__file__).with_name(f"REACH.{kind}") for kind in ("md", "json"))
STATES = ("not built", "no loss", "no batch")
_MEANING = """
Each class of transformers' auto mappings once, as a tiny random model with a batch of four samples. A cell is "exact"
if the loss of the mixed batch agrees with plain passes of the model: with lam = 1 it is the loss of the batch, with
lam = 0 that of the partners, and where all samples have the same inputs, that of both labels weighted by lam.
"refused": an error says why. "own loss" is `mixup` with `loss="own"`.

- trains by default: exact under `mixup` or `cross_modal` without settings; by any method: or under `manifold` or
  `embedding`; or own loss: or under `mixup` with `loss="own"`, which costs a second pass.
- blind: inputs that change nothing in the tiny model, of which the verdict says nothing.
"""


def examine_all(families: Sequence[Family] = FAMILIES, processes: int | None = None) -> list[Row]:
    """Examine the classes of families, over all cores or so many processes, with a progress bar on stderr."""
    return over_processes(examine, list(cases(tuple(families))), "classes", processes)


def to_json(rows: Iterable[Row]) -> str:
    """Return rows as JSON, with the release of transformers.

    >>> text = to_json([Row("ctc", "hubert", "HubertForCTC", "no batch", "ValueError: so")])
    >>> from_json(text)[0].model_type
    'hubert'
    """
    lines = ",\n".join(json.dumps(asdict(row)) for row in rows)
    return f'{{"transformers": "{_release()}", "rows": [\n{lines}\n]}}\n'


def from_json(text: str) -> list[Row]:
    """Return the rows of `to_json`."""
    return [Row(**row) for row in json.loads(text)["rows"]]


def release_of(text: str) -> str:
    """Return the release of transformers that a JSON table was made with."""
    return str(json.loads(text)["transformers"])


def _release() -> str:
    import transformers

    return transformers.__version__


def render(rows: Sequence[Row]) -> str:
    """Return rows as Markdown: the reach, then each class of each family.

    >>> row = Row("ctc", "hubert", "HubertForCTC", "tried", cells={"mixup": "exact", "manifold": "refused: so"})
    >>> print(render([row]).partition("## ctc")[2])
    <BLANKLINE>
    <BLANKLINE>
    | architecture | class | mixup | manifold | remarks |
    |---|---|---|---|---|
    | hubert | HubertForCTC | exact | refused | manifold: so |
    <BLANKLINE>
    """
    families = list(dict.fromkeys(row.family for row in rows))
    total = sum(1 for _ in cases())
    made = f"Transformers {_release()}; made by `python -m hf_mixup.testing.reach`: {len(rows)} of {total} classes."
    parts = [f"# Reach\n\n{made}", _MEANING.strip()]
    parts += [_reach(rows, families), "What was not tried has its reason in the remarks."]
    for family in families:
        own = [row for row in rows if row.family == family]
        parts.append(f"## {family}\n\n{family_table(own, [*METHODS], _remarks)}")
    return "\n\n".join(parts) + "\n"


def _reach(rows: Sequence[Row], families: Sequence[Family]) -> str:
    head = (
        "family",
        "classes",
        *STATES,
        "tried",
        "trains by default",
        "by any method",
        "or own loss",
        *METHODS,
        "wrong",
        "crash",
    )
    lines = [_counts(family, [row for row in rows if row.family == family]) for family in families]
    return markdown([head, *lines, _counts("all", rows)])


def _counts(name: str, rows: Sequence[Row]) -> tuple[str, ...]:
    tried = [row for row in rows if row.state == "tried"]
    states = [sum(row.state == state for row in rows) for state in STATES]
    methods = [sum(row.cells.get(method) == EXACT for row in tried) for method in METHODS]
    failed = [sum(cell.startswith(word) for row in tried for cell in row.cells.values()) for word in ("wrong", "crash")]
    shares = [_share(sum(row.trains(by) for row in tried), len(tried)) for by in COUNTED]
    return (name, *map(str, (len(rows), *states, len(tried))), *shares, *map(str, (*methods, *failed)))


def _share(count: int, of: int) -> str:
    return f"{count} ({count / of:.0%})" if of else ""


def _remarks(row: Row) -> str:
    if row.state != "tried":
        return f"{row.state}: {_plain(row.reason, row.name)}"
    found = reasons(row.cells, EXACT, lambda reason: _plain(reason, row.name))
    return "; ".join(found + [f"blind: {', '.join(row.blind)}"] * bool(row.blind))


def _plain(reason: str, name: str) -> str:
    """Return the first sentence of a reason, without the class and the kind of error."""
    reason = re.sub(rf"\w+(Error|Exception): |{name}:? |-?\d+\.\d+(e[+-]\d+)?%?", "", reason)
    return reason.partition(". ")[0].replace("|", "/")[:160]
