"""Finished parts of an evaluation on disk: each whole or not at all, named by what determines it."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hf_mixup.experiments.compare.store import key_of
from hf_mixup.utils.files import atomic_path, read_json, slug, write_json

Arrays = dict[str, np.ndarray]
Scores = dict[str, Any]


class PartStore:
    """The finished parts of one evaluation, each computed once.

    The determinants are what all parts depend on; each part adds its own name and settings.
    """

    def __init__(self, folder: Path, determinants: Mapping[str, Any]) -> None:
        self.folder, self.determinants = folder, determinants

    def arrays(self, name: str, make: Callable[[], Arrays], **settings: Any) -> Arrays:
        """Return the arrays of a part, read back or made."""
        path = self._path(name, settings).with_suffix(".npz")
        try:
            with np.load(path, allow_pickle=False) as file:
                return {key: file[key] for key in file.files}
        except (OSError, ValueError, EOFError, zipfile.BadZipFile):
            made = make()
        with atomic_path(path) as partial, partial.open("wb") as file:
            np.savez(file, **made)  # type: ignore[arg-type]
        return made

    def scores(self, name: str, make: Callable[[], Scores], **settings: Any) -> Scores:
        """Return the scores of a part, read back or made."""
        path = self._path(name, settings).with_suffix(".json")
        try:
            return dict(read_json(path))
        except (OSError, ValueError, TypeError):
            made = make()
        write_json(path, made)
        return made

    def _path(self, name: str, settings: Mapping[str, Any]) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        key = key_of({**self.determinants, "name": name, "settings": settings})
        return self.folder / f"{slug(name)}-{key}.part"
