"""The suite `corruption`: common corruptions of images (ImageNet-C), typos and lost words of texts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from hf_mixup.experiments.evaluate.parsing import Checked, check_numbers, words
from hf_mixup.experiments.tasks.arguments import IMAGE, TaskArguments
from hf_mixup.utils.suggest import refuse_unknown, require
from hf_mixup.utils.values import setting

if TYPE_CHECKING:
    from hf_mixup.experiments.evaluate.perturbation import Perturbation, Source

CORRUPTION = "corruption"


@dataclass
class CorruptionSettings(Checked):
    """Which corruptions, and how severe."""

    corruptions: list[str] | None = setting(None, "Corruptions (default: the 15 of ImageNet-C; for texts, 3 of words).")
    severities: list[int] = setting(lambda: [1, 2, 3, 4, 5], "Severities of the corruptions, of 1 to 5.")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.corruptions = words(self.corruptions or ()) or None
        check_numbers("severities", self.severities, 1, 5)


def check_corruption(settings: CorruptionSettings, task: TaskArguments) -> None:
    """Refuse an unknown corruption or a missing package before anything is loaded."""
    from hf_mixup.experiments.evaluate import image_changes, text_changes

    images = (*image_changes.CORRUPTIONS, *image_changes.MORE_CORRUPTIONS)
    known = images if task.task == IMAGE else tuple(text_changes.CORRUPTIONS)
    refuse_unknown("corruptions", settings.corruptions or (), known)
    if task.task == IMAGE:
        require("corruptions need", "imagecorruptions", "robustness")


def corruptions(settings: CorruptionSettings, source: Source) -> list[Perturbation]:
    """Return each corruption at each severity."""
    from hf_mixup.experiments.evaluate import image_changes, text_changes

    def change(name: str, severity: int) -> Any:
        if source.task.task == IMAGE:
            return image_changes.corruption(name, severity)
        return partial(text_changes.CORRUPTIONS[name], share=text_changes.SHARES[severity - 1])

    known = image_changes.CORRUPTIONS if source.task.task == IMAGE else text_changes.CORRUPTIONS
    return [
        source.perturbation(CORRUPTION, name, severity, change(name, severity))
        for name in settings.corruptions or known
        for severity in sorted(settings.severities)
    ]
