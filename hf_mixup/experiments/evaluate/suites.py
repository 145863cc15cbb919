"""Which suites a task has, and their perturbations."""

from __future__ import annotations

from dataclasses import replace

from hf_mixup.experiments.evaluate.adversarial import ADVERSARIAL, attacks
from hf_mixup.experiments.evaluate.arguments import ALL, CALIBRATION, EvaluateArguments
from hf_mixup.experiments.evaluate.corruption import CORRUPTION, check_corruption, corruptions
from hf_mixup.experiments.evaluate.noise import NOISE, input_noise
from hf_mixup.experiments.evaluate.ood import OOD
from hf_mixup.experiments.evaluate.perturbation import Perturbation, Source
from hf_mixup.experiments.tasks.arguments import AUDIO, IMAGE, TEXT, TOKENS, TaskArguments

OF_TASK = {
    IMAGE: (CALIBRATION, CORRUPTION, NOISE, ADVERSARIAL, OOD),
    TEXT: (CALIBRATION, CORRUPTION, NOISE, OOD),
    TOKENS: (CALIBRATION,),
    AUDIO: (CALIBRATION,),
}


def checked_suites(evaluation: EvaluateArguments, task: TaskArguments) -> EvaluateArguments:
    """Return the arguments with the suites in their order, `all` being all that the task has.

    Raises:
        ValueError: for a task without classes, a suite that the task does not have, or an unknown corruption.
        ImportError: for a package that is missing.
    """
    known = OF_TASK.get(task.task)
    if known is None:
        raise ValueError(
            f"evaluate scores {', '.join(OF_TASK)}, not {task.task}: `hf-mixup train` and `compare` leave its scores"
        )
    for suite in evaluation.suite:
        if suite not in (*known, ALL):
            raise ValueError(f"suite {suite!r} is not for {task.task}, which has {', '.join(known)}")
    suites = [name for name in known if {name, ALL} & set(evaluation.suite)]
    if CORRUPTION in suites:
        check_corruption(evaluation, task)
    return replace(evaluation, suite=suites)


def perturbations(evaluation: EvaluateArguments, source: Source) -> list[Perturbation]:
    """Return all cells of the suites, in the order of these."""
    found: list[Perturbation] = []
    if CORRUPTION in evaluation.suite:
        found += corruptions(evaluation, source)
    if NOISE in evaluation.suite:
        found += input_noise(evaluation, source)
    if ADVERSARIAL in evaluation.suite:
        found += attacks(evaluation, source)
    return found
