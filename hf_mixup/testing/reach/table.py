"""The tables of the reach: Markdown for readers, JSON for programs."""

from __future__ import annotations

import json
import re
import signal
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path

from hf_mixup.testing.families import Family, classes
from hf_mixup.testing.reach.reference import EXACT
from hf_mixup.testing.reach.survey import COUNTED, METHODS, Row, cases, examine
from hf_mixup.testing.tables import family_table, markdown, over_processes, reasons

MARKDOWN, JSON = (Path(__file__).with_name(f"REACH.{kind}") for kind in ("md", "json"))
STATES = ("not built", "no loss", "no batch", "cut")
LIMIT = 300  # seconds of the processor for a class
_MEANING = """
Each class of transformers' auto mappings once, as a tiny random model with a batch of four samples. A cell is "exact"
if the loss of the mixed batch agrees with plain passes of the model: with lam = 1 it is the loss of the batch, with
lam = 0 that of the partners, and where all samples have the same inputs, that of both labels weighted by lam.
"refused": an error says why. "own loss" is `mixup` with `loss="own"`.

- classes: "3 of 12" where the others were not examined. cut: took too long.
- trains by default: exact under `mixup` or `cross_modal` without settings; by any method: or under `manifold` or
  `embedding`; or own loss: or under `mixup` with `loss="own"`, which costs a second pass.
- blind: inputs that change nothing in the tiny model, of which the verdict says nothing.
"""


class OutOfTime(BaseException):
    """A class took too long; no handler of an ordinary error may catch it."""


def examine_all(
    chosen: Sequence[tuple[Family, str]], processes: int | None = None, limit: int = LIMIT
) -> Iterator[Row]:
    """Examine classes over all cores or so many processes, with a progress bar on stderr; yield their rows in order.

    Args:
        chosen: family and model type of each, as from `cases`.
        processes: number of processes; None for one a core.
        limit: seconds of the processor for a class, after which its row is "cut".
    """
    return over_processes(partial(examine_within, limit), list(chosen), "classes", processes)


def examine_within(limit: int, family: Family, model_type: str) -> Row:
    """Examine a class, for so many seconds of the processor at most, in the main thread.

    >>> examine_within(60, "depth-estimation", "dpt").state
    'no loss'
    """
    try:
        with _seconds(limit):
            return examine(family, model_type)
    except OutOfTime:
        return Row(family, model_type, classes(family)[model_type], "cut", f"took more than {limit} seconds")


@contextmanager
def _seconds(limit: int) -> Iterator[None]:
    def stop(*_: object) -> None:
        raise OutOfTime

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, limit)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def save(rows: Iterable[Row], into: Path) -> None:
    """Put rows into a pair of tables, in place of those of the same classes.

    Args:
        into: the path of both, without an ending.
    """
    by_case = {(row.family, row.model_type): row for row in (*held_in(into), *rows)}
    ordered = [by_case[case] for case in cases() if case in by_case]
    into.with_suffix(".json").write_text(to_json(ordered), encoding="utf-8")
    into.with_suffix(".md").write_text(render(ordered), encoding="utf-8")


def held_in(tables: Path) -> list[Row]:
    """Return the rows of a pair of tables (a path without an ending), none where there is none yet."""
    held = tables.with_suffix(".json")
    return from_json(held.read_text(encoding="utf-8")) if held.exists() else []


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
    all_cases = list(cases())
    size = f"{len(rows)} of {len(all_cases)} classes"
    made = f"Transformers {_release()}; made by `python -m hf_mixup.testing.reach`: {size}."
    parts = [f"# Reach\n\n{made}", _MEANING.strip()]
    parts += [
        _reach(rows, Counter(family for family, _ in all_cases)),
        "What was not tried has its reason in the remarks.",
    ]
    for family in families:
        own = [row for row in rows if row.family == family]
        parts.append(f"## {family}\n\n{family_table(own, [*METHODS], _remarks)}")
    return "\n\n".join(parts) + "\n"


def _reach(rows: Sequence[Row], sizes: Mapping[Family, int]) -> str:
    counted = ("trains by default", "by any method", "or own loss")
    head = ("family", "classes", *STATES, "tried", *counted, *METHODS, "wrong", "crash")
    by_family = {family: [row for row in rows if row.family == family] for family in sizes}
    lines = [_counts(family, found, sizes[family]) for family, found in by_family.items() if found]
    return markdown([head, *lines, _counts("all", rows, sum(sizes.values()))])


def _counts(name: str, rows: Sequence[Row], of: int) -> tuple[str, ...]:
    size = str(of) if len(rows) == of else f"{len(rows)} of {of}"
    tried = [row for row in rows if row.state == "tried"]
    states = [sum(row.state == state for row in rows) for state in STATES]
    methods = [sum(row.cells.get(method) == EXACT for row in tried) for method in METHODS]
    failed = [sum(cell.startswith(word) for row in tried for cell in row.cells.values()) for word in ("wrong", "crash")]
    shares = [_share(sum(row.trains(by) for row in tried), len(tried)) for by in COUNTED]
    return (name, size, *map(str, (*states, len(tried))), *shares, *map(str, (*methods, *failed)))


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
