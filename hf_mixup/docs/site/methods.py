"""A page for each method, made from its class, its settings and what was measured of it."""

from __future__ import annotations

import inspect
import json
import re
from types import ModuleType
from typing import Any

from hf_mixup.docs.site.repository import evidence_tool
from hf_mixup.docs.site.settings import settings_table
from hf_mixup.methods import METHODS, capabilities
from hf_mixup.methods.base import Method
from hf_mixup.methods.registry import first_try

TRAITS: dict[str, str] = {
    "for_pairs": "Mixes pairs of images and texts, for dual encoders such as CLIP.",
    "fuses": "Also for models that read image and text together, with labels.",
    "enters_model": "Blends inside the model, through forward hooks; the batch is not changed.",
    "own_loss": "Has a part of the loss of its own, so that the forward pass sees more samples or is run again.",
    "alone": "Changes each sample by itself, without a partner.",
}
"""What the class attributes of a method mean to its users."""
CAPABILITIES: dict[type, str] = {
    capabilities.MixesPixelLabels: "Mixes the segmentation masks and depth maps of images.",
    capabilities.MixesBoxes: "Mixes the boxes of object detection.",
    capabilities.MixesForecasts: "Mixes the past and the future of time series alike.",
    capabilities.MixesTranscripts: "Mixes speech with its transcripts.",
    capabilities.NeedsTokenizer: "Needs the tokenizer, to know special tokens: pass `processing_class=tokenizer`.",
    capabilities.NeedsAttention: 'Reads attention weights: load the model with `attn_implementation="eager"`.',
    capabilities.NeedsSamplingRate: "Has to know the sampling rate of the waveforms.",
    capabilities.AsksGuide: "Asks a model where to look; `guide=` names another one than the model in training.",
    capabilities.Learns: "May train a network of its own beside the model.",
    capabilities.SettlesLater: "Finishes its draw when the model has run.",
}
_PAPERS = {"arXiv:": "https://arxiv.org/abs/", "doi:": "https://doi.org/"}


def method_page(name: str, image: str | None = None, scene: str = "") -> str:
    """Return the page of a method, in Markdown.

    Args:
        image: file of its image beside the page, if there is one.
        scene: what the image shows: "images", "texts", ...

    >>> method_page("gridmix").splitlines()[0]
    '# GridMix'
    """
    kind = METHODS[name]
    about, example, source = _documented(kind)
    summary, _, details = about.partition("\n\n")
    parts = [f"# {kind.title}", summary, _usage(kind)]
    if image:
        parts.append(f"![Mixed {scene}: {kind.title}]({image})\n\n*Drawn by `{name}` with its default settings.*")
    if kind.begin_with:
        parts.append(f"## Begin with\n\n{_advice(kind)}")
    if details:
        parts.append(f"## What it does\n\n{details}")
    if traits := _traits(kind):
        parts.append("## Good to know\n\n" + "\n".join(f"- {each}" for each in traits))
    parts += [f"## Settings\n\n{settings_table(kind)}", f"## Measured here\n\n{_measured(name)}"]
    if example:
        parts.append(f"## Example\n\nThis example is run by the tests.\n\n```pycon\n{example}\n```")
    parts.append(f"## Source\n\n{source}")
    if kind.citation:
        parts.append(f"```bibtex\n{_bibtex(kind.citation)}\n```")
    return "\n\n".join(parts) + "\n"


def methods_page() -> str:
    """Return the page that lists all methods."""
    lines = ["| name | method | what it blends | begin with | paper |", "| --- | --- | --- | --- | --- |"]
    for name, kind in METHODS.items():
        lines.append(
            f"| [`{name}`]({name}.md) | {kind.title} | {kind.blends} | `{kind.begin_with}` | {_linked(kind.paper)} |"
        )
    return (
        f"# All methods\n\n{len(METHODS)} methods; each has a page with an image, its settings and what was measured. "
        f"`hf-mixup methods` prints this list. [Choosing a method](../choosing.md) says which one when.\n\n"
        + "\n".join(lines)
        + "\n"
    )


def _documented(kind: type[Method]) -> tuple[str, str, str]:
    """Return what a docstring tells, its example, and its source."""
    text = inspect.getdoc(kind) or ""
    about, _, rest = text.partition("\nSettings:\n")
    rest, _, example = f"{rest}\n".partition("\n>>> ")
    source = rest.partition("\nSource: ")[2].strip()
    return about.strip(), f">>> {example}".strip() if example else "", _linked(source.replace("arXiv ", "arXiv:"))


def _linked(text: str) -> str:
    """Return a text whose papers are links.

    >>> _linked("arXiv:1710.09412")
    '[arXiv:1710.09412](https://arxiv.org/abs/1710.09412)'
    """
    return re.sub(r"(arXiv:|doi:)([\w./-]*\w)", lambda found: f"[{found[0]}]({_PAPERS[found[1]]}{found[2]})", text)


def _usage(kind: type[Method]) -> str:
    name = kind.name
    return (
        f"**Blends** {kind.blends}. **Paper**: {_linked(kind.paper)}.\n\n"
        f"```python\nfrom hf_mixup import {kind.__name__}, MixupTrainer\n\n"
        f'mixup = {kind.__name__}()  # or "{name}"\n'
        f"trainer = MixupTrainer(model, args, train_dataset=train, mixup=mixup)\n```\n\n"
        f"```bash\nhf-mixup train CONFIG --method {name}\nhf-mixup train --help {name}\n```"
    )


def _advice(kind: type[Method]) -> str:
    """Return what to begin with, in Python and on the command line."""
    settings = ", ".join(f"{name}={value!r}" for name, value in first_try(kind).items())
    return (
        f"`{kind.__name__}({settings})`; in a comparison `hf-mixup compare CONFIG --methods "
        f"none,smoothing,{kind.name}:{kind.begin_with}`. [Which method when](../choosing.md) says for which data."
    )


def _traits(kind: type[Method]) -> list[str]:
    method = kind()  # of some a trait follows from their settings
    found = [text for trait, text in TRAITS.items() if getattr(method, trait)]
    return found + [text for base, text in CAPABILITIES.items() if issubclass(kind, base)]


def _measured(name: str) -> str:
    """Return what the results of `make evidence` say of a method: scores beside the controls, and its cost."""
    tool = evidence_tool()
    found = [*_scores(tool, name), *_costs(tool, name)]
    if not found:
        return "Nothing yet: `hf-mixup compare` measures it on your data."
    note = "▲ ▼: better or worse than plain training; △ ▽: than label smoothing; no mark: not significant. "
    marks = note if any("|" in each for each in found) else ""
    return "\n\n".join([f"{marks}[Evidence](../evidence.md) says how it was measured.", *found])


def _scores(tool: ModuleType, name: str) -> list[str]:
    tables = []
    for part, kind in tool.PARTS.items():
        found = _result(tool, part)
        if not found or not hasattr(kind, "tables"):
            continue
        own = {row["method"] for row in found["results"] if row["method"].partition(":")[0] == name}
        if not own:
            continue
        shown = own | {"none", "smoothing"}
        kept = {key: [row for row in found[key] if row["method"] in shown] for key in ("results", "differences")}
        for title, columns in kind.tables.items():
            tables.append(tool.table(kept, f"{part.replace('_', ' ')}, {title}", columns))
    return tables


def _result(tool: ModuleType, part: str) -> dict[str, Any]:
    """Return the results of a part; {} if it was not measured yet."""
    path = tool.RESULTS / f"{part}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _costs(tool: ModuleType, name: str) -> list[str]:
    rows = [row for row in _result(tool, "cost").get("results", []) if row["method"].split()[0] == name]
    return [
        f"A training step{_variant(row['method'])} takes {row['ratio']:.2f} times as long as the plain Trainer's "
        f"(quartiles {row['ratio_low']:.2f} to {row['ratio_high']:.2f}) and {row['memory_ratio']:.2f} times its peak "
        f"memory: {row['model']}, two CPU cores."
        for row in rows
    ]


def _variant(method: str) -> str:
    name, _, variant = method.partition(" ")
    return f" of `{name}` with `{variant}`" if variant else ""


def _bibtex(citation: str) -> str:
    """Return an entry with a line for each field.

    >>> print(_bibtex("@book{a, title={One}, year={2000}}"))
    @book{a,
      title={One},
      year={2000}}
    """
    return re.sub(r", (\w+=\{)", r",\n  \1", citation)
