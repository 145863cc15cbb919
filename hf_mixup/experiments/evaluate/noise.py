"""The suite `noise`: noise on the inputs, and a curve over models that were trained with label noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_mixup.experiments.evaluate.parsing import Checked, check_numbers
from hf_mixup.experiments.tasks.arguments import IMAGE
from hf_mixup.utils.values import setting

if TYPE_CHECKING:
    from hf_mixup.experiments.evaluate.perturbation import Perturbation, Source

NOISE, LABEL_NOISE = "noise", "label_noise"
_OF_PIXELS, _OF_LETTERS = (0.05, 0.1, 0.2, 0.3), (0.05, 0.1, 0.2, 0.4)


@dataclass
class NoiseSettings(Checked):
    """How strong the noise on the inputs is, and which models were trained with label noise."""

    noise_levels: list[float] | None = setting(
        None,
        "Standard deviations of the noise on pixels in [0, 1] (0.05 0.1 0.2 0.3), or shares of "
        "replaced letters (0.05 0.1 0.2 0.4).",
    )
    label_noise_runs: list[str] | None = setting(None, "Models trained with other shares of wrong labels, for a curve.")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_numbers("noise_levels", self.noise_levels or [0.1], 0, 1)


def input_noise(settings: NoiseSettings, source: Source) -> list[Perturbation]:
    """Return the noise on the inputs at each level."""
    from hf_mixup.experiments.evaluate.image_changes import gaussian_noise
    from hf_mixup.experiments.evaluate.text_changes import replaced_letters

    changes: list[tuple[float, Any]]
    if source.task.task == IMAGE:
        family, changes = "gaussian_pixel_noise", [(s, gaussian_noise(s)) for s in settings.noise_levels or _OF_PIXELS]
    else:
        levels = settings.noise_levels or _OF_LETTERS
        family, changes = "replaced_letters", [(each, partial(replaced_letters, share=each)) for each in levels]
    return [source.perturbation(NOISE, family, level, change) for level, change in sorted(changes, key=itemgetter(0))]


def label_noise_shares(runs: Sequence[str], checkpoint: str) -> dict[str, float]:
    """Return the share of wrong labels that each of the runs was trained on; refuse runs with other classes."""
    from transformers import AutoConfig

    from hf_mixup.experiments.tasks.saved import saved_task

    expected, shares = AutoConfig.from_pretrained(checkpoint).id2label, {}
    for run in runs:
        task, seed = saved_task(Path(run))
        if seed is None:
            raise ValueError(f"label_noise_runs: {run} does not tell its share of wrong labels: name runs of train")
        if AutoConfig.from_pretrained(run).id2label != expected:
            raise ValueError(f"label_noise_runs: {run} has other classes than {checkpoint}")
        shares[run] = float(task.get("label_noise", 0.0))
    return shares
