"""The part of a model card that says how a model was mixed."""

from __future__ import annotations

import os
from pathlib import Path

from huggingface_hub import ModelCard

from hf_mixup.engine.config import MixupConfig
from hf_mixup.methods import METHODS

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
    card.data["tags"] = [*tags, *(tag for tag in ("hf-mixup", config.method) if tag not in tags)]
    card.save(path)


def mixing_section(config: MixupConfig) -> str:
    """Return the Markdown section for a configuration: method, what it read other than the defaults, citation.

    >>> print(mixing_section(MixupConfig(method="cutmix", alpha=0.5)).splitlines()[2])
    Trained with **CutMix** (arXiv:1905.04899) by hf-mixup.
    """
    method = METHODS[config.method]
    shown = {"method", *(config.read & {"alpha", "prob", *config.changed})}
    rows = "\n".join(f"| {name} | {value} |" for name, value in config.to_dict().items() if name in shown)
    off = " Mixing was switched off in this run." if config.off else ""
    text = f"{HEADING}\n\nTrained with **{method.title}** ({method.paper}) by hf-mixup.{off}\n\n"
    text += f"| setting | value |\n| --- | --- |\n{rows}\n"
    return text + (f"\n```bibtex\n{method.citation}\n```\n" if method.citation else "")
