"""What to evaluate: the choice of suites, and the settings of each suite in one flat list."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hf_mixup.experiments.evaluate.adversarial import ADVERSARIAL, AdversarialSettings
from hf_mixup.experiments.evaluate.corruption import CORRUPTION, CorruptionSettings, check_corruption
from hf_mixup.experiments.evaluate.noise import NOISE, NoiseSettings
from hf_mixup.experiments.evaluate.ood import OOD, OodSettings
from hf_mixup.experiments.evaluate.parsing import Checked, chosen
from hf_mixup.experiments.evaluate.views import ViewSettings
from hf_mixup.experiments.tasks.arguments import AUDIO, IMAGE, TEXT, TOKENS, TaskArguments
from hf_mixup.utils.values import setting

CALIBRATION, ALL = "calibration", "all"
SUITES = (CALIBRATION, CORRUPTION, NOISE, ADVERSARIAL, OOD)
_OF_TASK = {
    IMAGE: SUITES,
    TEXT: (CALIBRATION, CORRUPTION, NOISE, OOD),
    TOKENS: (CALIBRATION,),
    AUDIO: (CALIBRATION,),
}


@dataclass
class SuiteSettings(Checked):
    """Which suites to run."""

    suite: list[str] = setting(lambda: [CALIBRATION], f"What to measure: {', '.join(SUITES)}, or all.")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.suite = chosen("suite", self.suite, (*SUITES, ALL))


@dataclass
class EvaluateArguments(
    OodSettings, AdversarialSettings, NoiseSettings, CorruptionSettings, ViewSettings, SuiteSettings
):
    """Suites and their strengths; in a configuration file, the mapping `evaluate:`.

    The settings of each suite are declared in its file; here they stand in one list, whose order is that of the bases
    from the last to the first.

    Args:
        suite: `calibration` scores each test split, before and after a temperature that is fitted on validation rows
            alone; `corruption` adds common corruptions (for texts: typos and lost words) at five severities; `noise`
            adds noise to the inputs, and compares models that were trained on wrong labels (`label_noise_runs`);
            `adversarial` attacks the images; `ood` tells out-of-distribution samples from the test samples; `all`
            runs all of these that the task has.
        tta: views of test-time augmentation, see `evaluate.views.parse_views`.
        adversarial_eps: largest change of a pixel in images from 0 to 1; fractions such as 8/255 are read.
        baseline: an earlier evaluation (its folder or results.json) of the model that errors are compared with.
        label_noise_runs: folders of models like this one, trained with other shares of wrong labels (`label_noise`).

    Raises:
        ValueError: for an unknown suite or attack (with the nearest one), or a strength out of range.

    >>> EvaluateArguments(suite=["calibration,ood"]).suite
    ['calibration', 'ood']
    >>> EvaluateArguments(suite=["corrupton"])
    Traceback (most recent call last):
    ...
    ValueError: suite has 'corrupton', which is not known: did you mean 'corruption'? Valid: ...
    """

    baseline: str | None = setting(None, "Evaluation of another model, for the mean corruption error relative to it.")
    write_card: bool = setting(True, "Add the results to the model card of a checkpoint on disk.")

    def for_task(self, task: TaskArguments) -> EvaluateArguments:
        """Return these arguments with the suites in their order, `all` being all that the task has.

        Raises:
            ValueError: for a task without classes, a suite that the task does not have, or an unknown corruption.
            ImportError: for a package that is missing.
        """
        known = _OF_TASK.get(task.task)
        if known is None:
            raise ValueError(f"evaluate scores {', '.join(_OF_TASK)}, not {task.task}: train and compare do")
        for suite in self.suite:
            if suite not in (*known, ALL):
                raise ValueError(f"suite {suite!r} is not for {task.task}, which has {', '.join(known)}")
        suites = [name for name in known if {name, ALL} & set(self.suite)]
        if CORRUPTION in suites:
            check_corruption(self, task)
        return replace(self, suite=suites)
