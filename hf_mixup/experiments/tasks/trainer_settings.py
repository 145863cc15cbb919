"""The names of the Trainer's settings, without its class."""

from __future__ import annotations

import ast
from importlib.util import find_spec
from pathlib import Path


def trainer_settings() -> frozenset[str]:
    """Return the fields of `transformers.TrainingArguments`, read from its source.

    To import the class takes ten seconds of processor time, as it loads every model's base and peft. A typo in one of
    our own settings is told before that.

    >>> {"learning_rate", "output_dir"} <= trainer_settings(), "alpha" in trainer_settings()
    (True, False)
    """
    package = find_spec("transformers")
    if package is None or package.origin is None:
        raise ImportError("transformers is not installed: pip install transformers")
    source = Path(package.origin).with_name("training_args.py").read_text(encoding="utf-8")
    return frozenset(
        line.target.id
        for each in ast.parse(source).body
        if isinstance(each, ast.ClassDef) and each.name == "TrainingArguments"
        for line in each.body
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name)
    )
