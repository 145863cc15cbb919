"""What to evaluate."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal

from hf_mixup.utils.suggest import did_you_mean
from hf_mixup.utils.values import check_whole, convert_fields, setting

CALIBRATION, CORRUPTION, NOISE, ADVERSARIAL, OOD = SUITES = ("calibration", "corruption", "noise", "adversarial", "ood")
ALL = "all"
ATTACKS = ("fgsm", "pgd")


@dataclass
class EvaluateArguments:
    """Suites and their strengths; in a configuration file, the mapping `evaluate:`.

    Args:
        suite: `calibration` scores each test split, before and after a temperature that is fitted on validation rows
            alone; `corruption` adds common corruptions (of texts: typos and lost words) at five severities; `noise`
            adds noise to the inputs, and compares models that were trained on wrong labels (`noise_runs`);
            `adversarial` attacks the images; `ood` tells rows of another kind from the test rows; `all` is what the
            task knows of these.
        tta: views of test-time augmentation, see `evaluation.views.parse_views`.
        adversarial_eps: largest change of a pixel in images from 0 to 1; fractions such as 8/255 are read.
        baseline: an earlier evaluation (its folder or results.json) of the model that errors are compared with.
        noise_runs: folders of models like this one, trained with other shares of wrong labels (`label_noise`).

    Raises:
        ValueError: for an unknown suite or attack (with the nearest one), or a strength out of range.

    >>> EvaluateArguments(suite=["calibration,ood"]).suite
    ['calibration', 'ood']
    >>> EvaluateArguments(suite=["corrupton"])
    Traceback (most recent call last):
    ...
    ValueError: suite has 'corrupton', which is not known: did you mean 'corruption'? Valid: ...
    """

    suite: list[str] = field(
        default_factory=lambda: [CALIBRATION],
        metadata={"help": f"What to measure: {', '.join(SUITES)}, or all. [{CALIBRATION}]"},
    )
    tta: list[str] | None = field(
        default=None,
        metadata={"help": "Also score with test-time augmentation: flip, crops:0.9, scale:1.25; dropout:8; head:64."},
    )
    tta_average: Literal["probabilities", "logits", "log_probabilities"] = setting(
        "probabilities", "What test-time augmentation averages."
    )
    corruptions: list[str] | None = field(
        default=None, metadata={"help": "Corruptions to try (default: the 15 of ImageNet-C; for texts, 3 of words)."}
    )
    severities: list[int] = field(
        default_factory=lambda: [1, 2, 3, 4, 5], metadata={"help": "Severities of the corruptions. [1 2 3 4 5]"}
    )
    noise_levels: list[float] | None = field(
        default=None,
        metadata={
            "help": "Standard deviations of the noise on pixels in [0, 1] (0.05 0.1 0.2 0.3), or shares of replaced "
            "letters (0.05 0.1 0.2 0.4)."
        },
    )
    noise_runs: list[str] | None = field(
        default=None, metadata={"help": "Models trained with other shares of wrong labels, for a curve over the share."}
    )
    adversarial_attacks: list[str] = field(
        default_factory=lambda: list(ATTACKS), metadata={"help": "Attacks on images. [fgsm pgd]"}
    )
    adversarial_eps: list[str] = field(
        default_factory=lambda: ["1/255", "2/255", "4/255", "8/255"],
        metadata={"help": "Largest change of a pixel by an attack, in [0, 1]. [1/255 2/255 4/255 8/255]"},
    )
    adversarial_steps: int = setting(10, "Steps of pgd.")
    ood_dataset: str | None = setting(None, "Data set of another kind (default: strange rows made of the test rows).")
    ood_split: str | None = setting(None, "Split of ood_dataset (default: test, or else its first).")
    baseline: str | None = setting(None, "Evaluation of another model, for the mean corruption error relative to it.")
    write_card: bool = setting(True, "Add the results to the model card of a checkpoint on disk.")

    def __post_init__(self) -> None:
        convert_fields(self)
        self.suite = _chosen("suite", self.suite, (*SUITES, ALL))
        self.adversarial_attacks = _chosen("adversarial_attacks", self.adversarial_attacks, ATTACKS)
        self.tta = words(self.tta or ()) or None
        self.corruptions = words(self.corruptions or ()) or None
        self.adversarial_eps = words(self.adversarial_eps)
        _in_range("severities", self.severities, 1, 5)
        _in_range("noise_levels", self.noise_levels or [0.1], 0, 1)
        _in_range("adversarial_eps", self.epsilons, 0, 1)
        check_whole("adversarial_steps", self.adversarial_steps)

    @property
    def epsilons(self) -> list[float]:
        """Largest changes of a pixel, as numbers."""
        return [_number("adversarial_eps", text) for text in self.adversarial_eps]


def words(values: Iterable[str]) -> list[str]:
    """Split what commas join.

    >>> words(["flip,crops:0.9", "dropout"])
    ['flip', 'crops:0.9', 'dropout']
    """
    return [word.strip() for value in values for word in str(value).split(",") if word.strip()]


def _chosen(name: str, values: Sequence[str], known: Sequence[str]) -> list[str]:
    found = words(values)
    if not found:
        raise ValueError(f"{name} names none: choose of {', '.join(known)}")
    for value in found:
        if value not in known:
            raise ValueError(f"{name} has {value!r}, which is not known: {did_you_mean(value, known)}")
    return list(dict.fromkeys(found))


def _number(name: str, text: str) -> float:
    try:
        return float(Fraction(str(text)))
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"{name} has {text!r}: expected a number or a fraction such as 8/255") from None


def _in_range(name: str, values: Sequence[float], low: float, high: float) -> None:
    if not values:
        raise ValueError(f"{name} names none")
    for value in values:
        if not (low <= value <= high and value > 0):
            raise ValueError(f"{name} has {value:g}: expected numbers {'above' if not low else 'from'} {low} to {high}")
    if len(set(values)) < len(values):
        raise ValueError(f"{name} has a number twice: {list(values)}")
