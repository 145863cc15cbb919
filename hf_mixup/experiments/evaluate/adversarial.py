"""The suite `adversarial`: attacks that move the pixels of images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hf_mixup.experiments.evaluate.parsing import Checked, check_numbers, chosen, number, words
from hf_mixup.utils.values import setting

if TYPE_CHECKING:
    from torch import Tensor

    from hf_mixup.experiments.evaluate.perturbation import Perturbation, Source
    from hf_mixup.experiments.evaluate.scorer import Batch, BatchChange

ADVERSARIAL = "adversarial"
ATTACKS = ("fgsm", "pgd")


@dataclass
class AdversarialSettings(Checked):
    """Which attacks, and how strong."""

    adversarial_attacks: list[str] = setting(lambda: list(ATTACKS), "Attacks on images.")
    adversarial_eps: list[str] = setting(
        lambda: ["1/255", "2/255", "4/255", "8/255"],
        "Largest change of a pixel by an attack, where black is 0 and white 1.",
    )
    adversarial_steps: int = setting(10, "Steps of pgd.", at_least=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.adversarial_attacks = chosen("adversarial_attacks", self.adversarial_attacks, ATTACKS)
        self.adversarial_eps = words(self.adversarial_eps)
        check_numbers("adversarial_eps", self.epsilons, 0, 1)

    @property
    def epsilons(self) -> list[float]:
        """Largest changes of a pixel, as numbers."""
        return [number("adversarial_eps", text) for text in self.adversarial_eps]


def attacks(settings: AdversarialSettings, source: Source) -> list[Perturbation]:
    """Return each attack with each epsilon."""
    processor, steps = source.prepared.processing_class, settings.adversarial_steps
    return [
        source.attack(ADVERSARIAL, name, eps, attack(name, eps, steps, processor, source.seed), steps=steps)
        for name in settings.adversarial_attacks
        for eps in sorted(settings.epsilons)
    ]


def attack(name: str, eps: float, steps: int, processor: Any, seed: int) -> BatchChange:
    """Return the change that moves the pixels of a batch to where the loss of its labels is larger.

    `fgsm` takes one step of the gradient's sign, `pgd` several from a random start, one start a batch. Pixels stay
    within `eps` of their values, and within the range of images, both as the processor scales them.

    Source: see `hf_mixup.functional.attacks`.
    """
    import torch
    from torch.nn import functional as F

    from hf_mixup.experiments.tasks.augmentation import pixel_scale
    from hf_mixup.functional.attacks import fgsm, pgd
    from hf_mixup.models.outputs import logits_of

    mean, std = pixel_scale(processor)

    def changed(model: Any, batch: Batch, number: int) -> Batch:
        pixels, labels = batch["pixel_values"], batch["labels"]
        others = {key: value for key, value in batch.items() if key not in ("pixel_values", "labels")}

        def loss_of(x: Tensor) -> Tensor:
            return F.cross_entropy(logits_of(model(pixel_values=x, **others)).float(), labels, reduction="sum")

        ends: dict[str, Any] = {"low": -mean / std, "high": (1 - mean) / std}
        if name == "fgsm":
            return {**batch, "pixel_values": fgsm(pixels, loss_of, eps / std, **ends)}
        generator = torch.Generator().manual_seed(seed + number)
        return {**batch, "pixel_values": pgd(pixels, loss_of, eps / std, steps, generator=generator, **ends)}

    return changed
