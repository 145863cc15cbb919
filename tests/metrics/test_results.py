"""Means and deviations over seeds match numpy; bad results are named."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("matplotlib")
from hf_mixup import plots
from tests.plots.common import results, set_metric


def test_aggregate_matches_numpy_and_survives_json():
    rows = results()
    summaries = plots.aggregate(json.loads(json.dumps(rows)))
    assert list(summaries)[:2] == [("erm", "test"), ("erm", "test_shifted")], "order of first appearance"
    for (method, split), metrics in summaries.items():
        for name, summary in metrics.items():
            values = [r["metrics"][name] for r in rows if (r["method"], r["split"]) == (method, split)]
            assert summary.mean == pytest.approx(np.mean(values))
            assert summary.std == pytest.approx(np.std(values, ddof=1))
            assert (summary.seeds, summary.failed) == (3, 0)


def test_aggregate_of_one_seed_has_no_deviation():
    summary = plots.aggregate(results(seeds=[7]))["erm", "test"]["nll"]
    assert np.isnan(summary.std)
    assert "±" not in str(summary)


@pytest.mark.parametrize(("value", "text"), [(float("nan"), "nan"), (None, "nan"), (float("inf"), "inf")])
@pytest.mark.filterwarnings("error")
def test_aggregate_does_not_hide_a_diverged_seed(value, text):
    summary = plots.aggregate(set_metric(results(), value, "erm", 1))["erm", "test"]["nll"]
    assert summary.failed == 1
    assert str(summary) == f"{text} (1 of 3)"
    alone = plots.aggregate(set_metric(results(seeds=[1]), value, "erm", 1))["erm", "test"]["nll"]
    assert str(alone) == text


def test_aggregate_takes_metrics_that_only_some_runs_have():
    rows = results()
    rows[0]["metrics"]["temperature"] = 1.5
    assert plots.aggregate(rows)["erm", "test"]["temperature"].seeds == 1


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "no results"),
        ([{"method": "erm", "seed": 0, "metrics": {}}], "lacks split"),
        (results(seeds=[0, 0]), "two results have method 'erm', seed 0 and split 'test'"),
    ],
)
def test_aggregate_names_bad_results(rows, message):
    with pytest.raises(ValueError, match=message):
        plots.aggregate(rows)
