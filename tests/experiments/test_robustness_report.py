"""Tables, differences and images of an evaluated comparison."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

pytest.importorskip("matplotlib")

from hf_mixup.experiments.evaluate.stored_runs import StoredRun, share_of
from hf_mixup.experiments.report.robustness import conditions, differences_of, draw_runs, runs_tables


def measured(gain: float = 0.1) -> list[Any]:
    """Three seeds of two methods: clean, a corruption at two severities, two attacks, out-of-distribution samples."""
    draws, rows = np.random.default_rng(0), []
    for seed in range(3):
        for method, more in (("none", 0.0), ("mixup:alpha=0.2", gain)):
            cells: list[tuple[str, str, float]] = [
                ("calibration", "", 0),
                ("ood", "noise", 0),
                ("corruption", "fog", 1),
            ]
            cells += [("corruption", "fog", 2), ("adversarial", "fgsm", 0.01), ("adversarial", "pgd", 0.01)]
            for suite, family, level in cells:
                score = float(0.5 + more + draws.normal() / 50)
                metrics = (
                    {"auroc_energy": score} if suite == "ood" else {"accuracy": score, "ece": 0.1, "nll": 1 - score}
                )
                split = {"calibration": "test", "ood": f"test against {family}"}.get(suite, f"test, {family} {level}")
                about = {"suite": suite, "of": "test"} | ({"family": family, "level": level} if level else {})
                rows.append({"method": method, "seed": seed, "split": split, "metrics": metrics, **about})
    return rows


def test_means_over_levels_and_attacks_by_name() -> None:
    results = measured()
    found = {(row["method"], row["seed"], row["split"]): row["metrics"] for many in conditions(results).values()
             for row in many}  # fmt: skip
    names = {"test", "test, corruption", "test, adversarial fgsm", "test, adversarial pgd", "test against noise"}
    assert {name for _, _, name in found} == names
    cells = [row["metrics"]["accuracy"] for row in results
             if row["suite"] == "corruption" and (row["method"], row["seed"]) == ("none", 1)]  # fmt: skip
    assert found["none", 1, "test, corruption"]["accuracy"] == pytest.approx(np.mean(cells))


def test_seeds_that_were_chosen_by_looking_make_differences_less_sure() -> None:
    """As sure at half of the 5 % as 97.5 % intervals are, of Student's t with three seeds."""
    results = measured()
    for wide, narrow in zip(differences_of(results, 0.5), differences_of(results), strict=True):
        if narrow["metric"] == "ece":
            continue
        reach = stats.t.ppf(0.9875, 2) / stats.t.ppf(0.975, 2)
        assert wide["high"] - wide["estimate"] == pytest.approx(reach * (narrow["high"] - narrow["estimate"]))
        assert wide["p"] == pytest.approx(min(1.0, 2 * narrow["p"]))
    assert "seeds: auto" in runs_tables(results, 0.5)
    assert "seeds: auto" not in runs_tables(results)


@pytest.mark.parametrize(
    ("settings", "seeds", "share"),
    [
        ({"seeds": 3}, 3, 1.0),
        ({"seeds": "auto"}, 5, 0.5),
        ({"seeds": "auto", "max_seeds": 40}, 20, 0.125),
        ({}, 3, 1.0),
    ],
    ids=str,
)
def test_the_last_look_of_a_comparison_is_found(
    settings: dict[str, Any], seeds: int, share: float, tmp_path: Path
) -> None:
    if settings:
        (tmp_path / "compare.json").write_text(json.dumps(settings))
    runs = [StoredRun(method, seed, None) for seed in range(seeds) for method in ("none", "mixup")]
    assert share_of(tmp_path, runs) == share


def test_differences_are_paired_and_adjusted_within_a_suite() -> None:
    results = measured()
    found = [row for row in differences_of(results) if row["split"].startswith("test, adversarial")]
    assert len(found) == 2 * 3
    p_values = {}
    for row in found:
        if row["metric"] != "ece":
            family = row["split"].split()[-1]
            own, its = ([each["metrics"][row["metric"]] for each in results if each["method"] == method
                         and each.get("family") == family] for method in ("mixup:alpha=0.2", "none"))  # fmt: skip
            assert row["estimate"] == pytest.approx(np.mean(own) - np.mean(its))
            p_values[row["split"], row["metric"]] = stats.ttest_rel(own, its).pvalue
    smallest = min(p_values, key=lambda each: p_values[each])
    (its,) = [row for row in found if (row["split"], row["metric"]) == smallest]
    assert its["p"] == pytest.approx(6 * p_values[smallest])
    assert {row["control"] for row in found} == {"none"}


def test_images_are_drawn_and_old_ones_removed(tmp_path: Path) -> None:
    for name in ("noise-test.png", "mine.png"):
        (tmp_path / name).write_bytes(b"old")
    failed = [
        {**row, "metrics": dict.fromkeys(row["metrics"]), "error": "burnt"} for row in measured() if row["seed"] == 2
    ]
    results = [row for row in measured() if row["seed"] < 2] + failed
    made = draw_runs(results, tmp_path)
    assert {path.name for path in made} == {"scores.png", "corruption-test.png", "adversarial-test.png"}
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in made)
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in made} | {"mine.png"}
    assert "- mixup:alpha=0.2, seed 2 failed: burnt" in runs_tables(results)
