"""The repository around the package: where its files and its pages lie, and the tool that makes its tables."""

from __future__ import annotations

import importlib.util
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "hf_mixup" / "docs"
URL = "https://github.com/hf-mixup/hf-mixup"


@cache
def evidence_tool() -> ModuleType:
    """Return `recipes/evidence.py` as a module; it is a script, in no package."""
    spec = importlib.util.spec_from_file_location("evidence", ROOT / "recipes" / "evidence.py")
    if spec is None or spec.loader is None:
        raise ImportError(f"{ROOT / 'recipes' / 'evidence.py'} cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    sys.modules["evidence"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def to_repository(target: str, home: Path) -> str | None:
    """Return where a relative link of a page leads: on the web if it leaves the pages, None if it stays as it is.

    Args:
        target: as it is written, maybe with an anchor.
        home: the folder of the page; one from elsewhere in the repository is shown at the root of the site.

    >>> to_repository("../../recipes/README.md#top", DOCS)
    'https://github.com/hf-mixup/hf-mixup/blob/main/recipes/README.md#top'
    >>> to_repository("evidence.md", DOCS) is None
    True
    >>> to_repository("../hf_mixup/docs/evidence.md#pairs", ROOT / "recipes")
    'evidence.md#pairs'
    """
    path, _, anchor = target.partition("#")
    if "://" in path or not path or path.startswith("mailto:"):
        return None
    found = (home / path).resolve()
    inside = found.is_relative_to(DOCS)
    if (inside and home.is_relative_to(DOCS)) or not found.is_relative_to(ROOT) or not found.exists():
        return None
    kind = "tree" if found.is_dir() else "blob"
    shown = str(found.relative_to(DOCS)) if inside else f"{URL}/{kind}/main/{found.relative_to(ROOT)}"
    return shown + (f"#{anchor}" if anchor else "")
