"""The evaluation of one model: its parts one after the other, each computed or read back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from hf_mixup.augment.tta import TestTimeAugmentation, View
from hf_mixup.experiments.compare.one_run import finite_or_none
from hf_mixup.experiments.evaluate.adversarial import ADVERSARIAL, attacks
from hf_mixup.experiments.evaluate.arguments import CALIBRATION, EvaluateArguments
from hf_mixup.experiments.evaluate.corruption import CORRUPTION, corruptions
from hf_mixup.experiments.evaluate.noise import LABEL_NOISE, NOISE, input_noise, label_noise_shares
from hf_mixup.experiments.evaluate.ood import OOD, ood_samples
from hf_mixup.experiments.evaluate.perturbation import Perturbation, Source
from hf_mixup.experiments.evaluate.scorer import Scorer
from hf_mixup.experiments.evaluate.store import Arrays, PartStore, Scores
from hf_mixup.experiments.report.evaluation import BY_LEVEL, level_summaries
from hf_mixup.experiments.tasks.trained import files_of, load_model
from hf_mixup.metrics import calibration_metrics, cell_scores, fit_temperature, ood_metrics
from hf_mixup.metrics.results import Measured

_BAR = "{l_bar}{bar}| {n:.1f}/{total} UNIT [{elapsed}<{remaining}]{postfix}"


def progress_bar(total: int, unit: str) -> Any:
    """Return a bar over so many parts of one model, or over so many models."""
    return tqdm(total=total, bar_format=_BAR.replace("UNIT", unit))


@dataclass
class Subject:
    """The model, labelled by its method and seed, and its test rows."""

    checkpoint: str
    source: Source
    scorer: Scorer
    store: PartStore
    label: tuple[str, int]

    @property
    def rows(self) -> Mapping[str, Any]:
        """The processed rows of each split."""
        return self.source.prepared.evaluated

    @property
    def tests(self) -> list[str]:
        return list(self.source.prepared.splits.tests)

    def data(self, split: str) -> str:
        """Return what tells the rows of a split from others."""
        return self.source.prepared.splits.evaluated[split]._fingerprint


class ModelEvaluation:
    """The evaluation of one model; a `bar` over several models moves on by one, the default is over its parts."""

    def __init__(
        self,
        subject: Subject,
        evaluation: EvaluateArguments,
        views: list[View],
        baseline: list[Measured] | None,
        bar: Any = None,
    ) -> None:
        self.subject, self.evaluation, self.views, self.baseline = subject, evaluation, views, baseline
        self.cells = [
            *(corruptions(evaluation, subject.source) if CORRUPTION in evaluation.suite else ()),
            *(input_noise(evaluation, subject.source) if NOISE in evaluation.suite else ()),
            *(attacks(evaluation, subject.source) if ADVERSARIAL in evaluation.suite else ()),
        ]
        self.outside = ood_samples(evaluation, subject.source) if OOD in evaluation.suite else {}
        runs = (evaluation.label_noise_runs or ()) if NOISE in evaluation.suite else ()
        self.label_noise = label_noise_shares(runs, subject.checkpoint)
        _check_baseline(baseline, self.cells, subject.tests)
        by_split = 1 + len(self.cells) + (len(views) > 1) + len(self.label_noise)
        self.total = 1 + len(subject.tests) * by_split + len(self.outside)
        self.done = 0
        self.bar = progress_bar(self.total, "parts") if bar is None else bar
        self.start, self.share = self.bar.n, 1 if bar is None else 1 / self.total
        subject.scorer.show = self._show

    def run(self) -> tuple[list[Measured], dict[str, Any]]:
        """Return the results, and the logits that images are drawn from."""
        subject = self.subject
        validation = self._logits("validation", subject.rows["validation"])
        temperature = fit_temperature(validation["logits"], validation["labels"])
        clean = {split: self._logits(split, subject.rows[split]) for split in subject.tests}
        results = [self._clean(split, clean[split], temperature) for split in subject.tests]
        for split in subject.tests:
            if len(self.views) > 1:
                results.append(self._averaged(split))
            results += [self._cell(split, cell, temperature) for cell in self.cells]
            results += self._label_noise(split)
        outside = {name: self._ood(name, rows) for name, rows in self.outside.items()}
        for name, logits in outside.items():
            first = subject.tests[0]
            metrics = ood_metrics(clean[first]["logits"], logits)
            results.append(self._result(f"{first} against {name}", metrics, suite=OOD, of=first, family=name))
        _summarise(results, self.baseline)
        arrays = {"temperature": temperature, "clean": clean, "outside": outside}
        for result in results:
            result["metrics"] = {name: finite_or_none(value) for name, value in result["metrics"].items()}
        return results, arrays

    def _show(self, share: float) -> None:
        self._move(self.done + min(share, 0.99))

    def _part(self, name: str, get: Callable[[], Any]) -> Any:
        self.bar.set_postfix_str(name, refresh=False)
        found = get()
        self.done += 1
        self._move(self.done)
        return found

    def _move(self, done: float) -> None:
        ahead = self.start + self.share * done - self.bar.n
        self.bar.update(max(ahead, 0))  # some parts run over their rows twice

    def _logits(self, name: str, rows: Any) -> Arrays:
        store, scorer = self.subject.store, self.subject.scorer
        found = self._part(name, lambda: store.arrays(name, lambda: scorer(rows), data=self.subject.data(name)))
        if not np.isfinite(found["logits"]).all():
            raise ValueError(f"the model's scores of {name!r} are not finite: it has diverged, or takes other inputs")
        return found

    def _result(self, split: str, metrics: Mapping[str, float], **about: Any) -> Measured:
        method, seed = self.subject.label
        return {"method": method, "seed": seed, "split": split, "metrics": dict(metrics), **about}  # type: ignore[typeddict-item]

    def _clean(self, split: str, found: Arrays, temperature: float) -> Measured:
        metrics = calibration_metrics(found["logits"], found["labels"], temperature=temperature)
        return self._result(split, metrics, suite=CALIBRATION, of=split)

    def _cell(self, split: str, cell: Perturbation, temperature: float) -> Measured:
        def make() -> Scores:
            found = self.subject.scorer(cell.rows(split), cell.change)
            return cell_scores(found["logits"], found["labels"], temperature)

        name = f"{split}, {cell.family} {cell.level:g}"
        settings: dict[str, Any] = {"at": [cell.suite, cell.level, temperature, cell.settings]}
        settings["data"] = self.subject.data(split)
        if cell.change is not None:
            settings["batch"] = [self.subject.scorer.batch_size]  # pgd draws its starts by batch
        metrics = self._part(name, lambda: self.subject.store.scores(name, make, **settings))
        about = {"suite": cell.suite, "of": split, "family": cell.family, "level": cell.level}
        return self._result(name, metrics, **about)

    def _averaged(self, split: str) -> Measured:
        subject, average = self.subject, self.evaluation.tta_average
        rows = subject.rows[split]

        def make() -> Scores:
            predictor = TestTimeAugmentation(subject.scorer.model, self.views, average)
            found = subject.scorer(rows, model=predictor)
            ratio = subject.scorer.seconds(rows, predictor) / subject.scorer.seconds(rows)
            return {**cell_scores(found["logits"], found["labels"]), "tta_cost": ratio}

        name = f"{split}, tta"
        settings = {"views": self.evaluation.tta, "average": average, "data": subject.data(split)}
        metrics = self._part(name, lambda: subject.store.scores(name, make, **settings))
        return self._result(name, metrics, suite="tta", of=split, family=" ".join(self.evaluation.tta or ()))

    def _label_noise(self, split: str) -> list[Measured]:
        """Score the models that were trained with label noise; those of one share are averaged."""
        subject, by_share = self.subject, dict[float, list[Scores]]()
        for run, share in self.label_noise.items():

            def make(run: str = run) -> Scores:
                model = load_model(run, subject.source.task.task).to(subject.scorer.device)
                found = subject.scorer(subject.rows[split], model=model)
                return cell_scores(found["logits"], found["labels"])

            name, of = f"{split}, {LABEL_NOISE} {share:g}", [files_of(run) or run, subject.data(split)]
            found = self._part(name, lambda: subject.store.scores(name, make, of=of))  # noqa: B023 - used at once
            by_share.setdefault(share, []).append(found)
        return [
            self._result(
                f"{split}, {LABEL_NOISE} {share:g}",
                {name: float(np.mean([each[name] for each in found])) for name in found[0]},
                **{"suite": LABEL_NOISE, "of": split, "family": LABEL_NOISE, "level": share},
            )
            for share, found in sorted(by_share.items())
        ]

    def _ood(self, name: str, rows: Any) -> np.ndarray:
        store, scorer = self.subject.store, self.subject.scorer
        # The rows of another dataset, or the test rows that the samples are made from.
        data = getattr(getattr(rows, "rows", rows), "_fingerprint", self.subject.data(self.subject.tests[0]))
        found = self._part(name, lambda: store.arrays(f"ood {name}", lambda: scorer(rows), data=data))
        return found["logits"]


def _check_baseline(baseline: list[Measured] | None, cells: list[Perturbation], tests: list[str]) -> None:
    """Refuse a baseline that lacks a perturbation, before hours are spent on the evaluation."""
    if baseline is None:
        return
    known = {(each["suite"], each["of"], each.get("family"), each.get("level")) for each in baseline}
    suites = {suite for suite, *_ in known}
    if not suites & {cell.suite for cell in cells}:
        raise ValueError(f"the baseline does not fit: of the suites it has {', '.join(sorted(suites))} alone")
    for split in tests:
        for cell in cells:
            if cell.suite in suites and (cell.suite, split, cell.family, cell.level) not in known:
                raise ValueError(f"the baseline does not fit: it lacks {cell.family!r} at {cell.level:g} of {split!r}")


def _summarise(results: list[Measured], baseline: list[Measured] | None) -> None:
    """Add the means over levels to the scores of each split."""
    for suite in BY_LEVEL:
        for split, summary in level_summaries(results, suite, baseline).items():
            scores = next(each for each in results if each["split"] == split)
            found = dict(scores["metrics"])
            for name, value in summary.items():
                if isinstance(value, float):
                    alone = suite == CORRUPTION and name.endswith("mce")
                    found[name if alone else f"{suite}_{name}"] = value
            scores["metrics"] = found
