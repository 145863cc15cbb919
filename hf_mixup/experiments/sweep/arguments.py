"""What to try."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hf_mixup.experiments.compare.arguments import ClusterArguments, SelectBy
from hf_mixup.utils.files import parse_text
from hf_mixup.utils.suggest import require
from hf_mixup.utils.values import convert, convert_fields, setting


@dataclass
class SweepArguments(ClusterArguments):
    """Methods and ranges to try, and how many trials; in a configuration file, the mapping `sweep:`.

    Raises:
        ValueError: for a range or a number that is none, or layers that are not readable.

    >>> SweepArguments(alphas=[2.0, 0.1])
    Traceback (most recent call last):
    ...
    ValueError: alphas=[2.0, 0.1]: expected a low and a high value, 0 < low < high
    """

    methods: list[str] | None = setting(None, "Mixing methods to try (default: the method of the configuration).")
    alphas: list[float] = setting(lambda: [0.1, 4.0], "Lowest and highest alpha, drawn by their logarithm.")
    probs: list[float] | None = setting(None, "Lowest and highest prob (default: prob is not varied).")
    layer_sets: list[str] | None = setting(None, "Sets of layers to try, such as '[0, 1]' '[2]' (default: `layers`).")
    trials: int = setting(20, "Runs, those that were given up early among them", at_least=1)
    control_seeds: int = setting(3, "Runs of plain training, whose spread is the noise band", at_least=2)
    prune: bool = setting(True, "Give up a run that is worse than the median so far")
    select_by: SelectBy | None = setting(None, "Validation metric that decides (default: nll, or mse for regression).")

    storage: str | None = setting(
        None, "A study that machines share: sqlite:///FILE, postgresql://..., or a journal file"
    )
    study: str = setting("sweep", "Name of the study, as one storage may keep several")

    def __post_init__(self) -> None:
        convert_fields(self)
        self.check_cluster()
        _check_range("alphas", self.alphas, "0 < low < high", math.inf)
        if self.probs is not None:
            _check_range("probs", self.probs, "0 < low < high <= 1", 1)
        self.depths  # noqa: B018 - read once, so that a wrong one is refused before anything else

    @property
    def depths(self) -> list[list[float]]:
        """The sets of layers, as `MixupConfig.layers` takes them."""
        return [_layers(text) for text in self.layer_sets or ()]


def require_packages() -> None:
    """Refuse to begin without what a sweep needs.

    Raises:
        ImportError: naming the package, and how to install it.
    """
    require("a sweep needs", "matplotlib", "plots")
    require("a sweep needs", "optuna", "sweep")


def _check_range(name: str, values: list[float], expected: str, highest: float) -> None:
    if len(values) != 2 or not 0 < values[0] < values[1] <= highest:
        raise ValueError(f"{name}={values}: expected a low and a high value, {expected}")


def _layers(text: str) -> list[float]:
    try:
        layers = parse_text(text)
        convert("layers", layers, list[float])
    except ValueError:
        layers = None
    if not isinstance(layers, list) or not layers:
        raise ValueError(f"layer_sets has {text!r}: expected lists of layers such as '[0, 1]'")
    return layers
