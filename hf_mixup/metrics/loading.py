"""The metrics as modules of `evaluate`, found in this package without a network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_mixup.utils.suggest import did_you_mean

if TYPE_CHECKING:
    from evaluate import EvaluationModule


def path(name: str) -> str:
    """Folder of the `evaluate` module `name`, to give to `evaluate.load`.

    Raises:
        ValueError: there is no such module; the message lists the names there are.

    >>> Path(path("calibration")).name
    'calibration'
    """
    root = Path(__file__).parent
    names = sorted(script.parent.name for script in root.glob("*/*.py") if script.stem == script.parent.name)
    if name not in names:
        raise ValueError(f"no metric is called {name!r}; {did_you_mean(name, names)}")
    return str(root / name)


def load(name: str, **kwargs: Any) -> EvaluationModule:
    """Load the `evaluate` module `name` from this package; `kwargs` go to `evaluate.load`.

    Raises:
        ValueError: there is no such module.

    >>> metric = load("calibration")
    >>> metric.compute(predictions=[[2.0, 0.0], [0.0, 1.0]], references=[0, 0])["accuracy"]
    0.5
    """
    import evaluate

    return evaluate.load(path(name), **kwargs)
