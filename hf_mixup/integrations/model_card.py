"""The part of a model card that says how a model was mixed."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard

from hf_mixup.engine.config import MixupConfig
from hf_mixup.methods import METHODS
from hf_mixup.methods.registry import brief

HEADING = "## Mixup training"


def add_mixing_section(directory: str | os.PathLike[str], config: MixupConfig) -> None:
    """Add the mixing method, its settings and its citation to the `README.md` of a model directory.

    A section that an earlier call wrote is replaced.

    Raises:
        FileNotFoundError: if the directory holds no card.
    """
    path = Path(directory) / "README.md"
    card = ModelCard.load(path)
    card.text = card.text.split(HEADING)[0].rstrip() + "\n\n" + mixing_section(config)
    tags = card.data.get("tags") or []
    card.data["tags"] = [*tags, *(tag for tag in tags_of(config) if tag not in tags)]
    card.save(path)


def tags_of(config: MixupConfig | None) -> list[str]:
    """Return the tags of a model that was trained with a configuration; those of a model that did not mix are none."""
    return [] if config is None else ["hf-mixup", config.method]


def mixing_section(config: MixupConfig) -> str:
    """Return the Markdown section for a configuration: method, settings other than the defaults, citation.

    >>> print(mixing_section(MixupConfig(method="cutmix", alpha=0.5)).splitlines()[2])
    Trained with **CutMix** ([arXiv:1905.04899](https://arxiv.org/abs/1905.04899)) by hf-mixup.
    """
    method = METHODS[config.method]
    shown = {"method", *(config.read & {"alpha", "prob", "methods", "by", *config.changed})}
    rows = "\n".join(f"| {name} | {_text(getattr(config, name))} |" for name in config.to_dict() if name in shown)
    off = " Mixing was switched off in this run." if config.off else ""
    text = f"{HEADING}\n\nTrained with **{method.title}** ({_linked(method.paper)}) by hf-mixup.{off}\n\n"
    text += f"| setting | value |\n| --- | --- |\n{rows}\n"
    return text + (f"\n```bibtex\n{method.citation}\n```\n" if method.citation else "")


def _linked(papers: str) -> str:
    return re.sub(r"arXiv:(\d{4}\.\d{4,5})", r"[arXiv:\1](https://arxiv.org/abs/\1)", papers)


def _text(value: Any) -> str:
    """Return a setting as a card shows it; methods by name, with what is not at its default.

    >>> config = MixupConfig("switch", methods=[{"method": "mixup", "alpha": 0.2}, "cutmix"])
    >>> _text(config.methods)
    'mixup (alpha=0.2), cutmix'
    """
    value = brief(value)
    if isinstance(value, dict):
        own = ", ".join(f"{name}={_text(each)}" for name, each in value.items() if name != "method")
        return f"{value['method']} ({own})"
    names = isinstance(value, list) and any(isinstance(each, (str, dict)) for each in value)
    return ", ".join(_text(each) for each in value) if names else str(value)
