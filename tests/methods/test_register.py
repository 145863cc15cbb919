"""A method from outside the package: by its name through every entry point, and what may not be registered."""

from __future__ import annotations

import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import textwrap
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from sklearn.linear_model import LogisticRegression

import hf_mixup
from hf_mixup import Mixup, MixupConfig
from hf_mixup.cli import main
from hf_mixup.experiments.compare.variants import parse_variants
from hf_mixup.experiments.mixing import SharedSettings
from hf_mixup.methods import METHODS, Blend, Method
from tests.conftest import TINY_RUN, batch_of, build, examples
from tests.entry_points import ENTRY_POINTS

ROOT = Path(__file__).parents[2]
CONTRIBUTING = ROOT / "CONTRIBUTING.md"
# What a user's file looks like: it registers a method, and is a command line that knows it.
SCRIPT = """
import torch
from hf_mixup import register
from hf_mixup.cli import main
from hf_mixup.methods import Blend


@register
class Halves(Blend):
    name, title, blends, paper = "halves", "Halves", "the left and right halves of images", "none"

    def draw(self, request):
        given = torch.full((request.rows,), 0.5) if request.lam is None else request.lam
        return super().draw(type(request)(**{**vars(request), "lam": given}))

    def apply(self, model, batch, draw, inplace):
        pixels = batch["pixel_values"]
        left = pixels[..., : pixels.shape[-1] // 2]
        right = pixels[draw.partner][..., pixels.shape[-1] // 2 :]
        return {**batch, "pixel_values": torch.cat([left, right], dim=-1)}


if __name__ == "__main__":
    raise SystemExit(main())
"""


@pytest.fixture(autouse=True)
def registry_stays() -> Iterator[None]:
    before = dict(METHODS)
    yield
    METHODS.clear()
    METHODS.update(before)


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "halves.py"
    path.write_text(SCRIPT)
    return path


@pytest.fixture
def halves(script: Path) -> type[Method]:
    return runpy.run_path(str(script))["Halves"]


def start(script: Path, monkeypatch: pytest.MonkeyPatch, *arguments: Any) -> int:
    """Run the script as `python halves.py ARGUMENTS` does."""
    monkeypatch.setattr(sys, "argv", [str(script), *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(script), run_name="__main__")
    return int(end.value.code or 0)


def test_the_engine_mixes_by_it(halves: type[Method]) -> None:
    model, batch = build("resnet").eval(), batch_of("resnet", rows=3)
    partner = torch.tensor([1, 2, 0])
    with Mixup("halves")(model, batch, partner=partner) as mixed:
        loss = mixed.loss(model(**mixed.inputs))
    expected = batch["pixel_values"].clone()
    for row in range(3):
        expected[row, :, :, 8:] = batch["pixel_values"][partner[row], :, :, 8:]
    assert torch.equal(mixed.inputs["pixel_values"], expected)
    log_probabilities = model(pixel_values=expected).logits.log_softmax(-1)
    by_hand = -sum(
        0.5 * log_probabilities[row, batch["labels"][each]] for row in range(3) for each in (row, partner[row])
    )
    torch.testing.assert_close(loss, by_hand / 3)


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_every_entry_point_takes_its_name(entry_point: str, halves: type[Method], arguments: Any) -> None:
    model = build("resnet")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    trainer = ENTRY_POINTS[entry_point](
        model, arguments(max_steps=2), MixupConfig("halves"), train_dataset=examples("resnet", 8)
    )
    trainer.train()
    assert any(not torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_a_configuration_is_saved_and_loaded(halves: type[Method], tmp_path: Path) -> None:
    config = MixupConfig("halves", alpha=0.5)
    config.save_pretrained(tmp_path)
    assert MixupConfig.from_pretrained(tmp_path) == config
    assert MixupConfig("switch", methods=["halves", "cutmix"]).methods == [halves(), METHODS["cutmix"]()]
    assert parse_variants(["none,halves:prob=0.5"], SharedSettings())[1].mixup.method == "halves"
    METHODS.pop("halves")  # as in a process that has not imported its module
    with pytest.raises(ValueError, match=r"method='halves' is not known: .*calls hf_mixup.register on it"):
        MixupConfig.from_pretrained(tmp_path)


def test_the_same_class_may_come_again(script: Path) -> None:
    first, second = (runpy.run_path(str(script))["Halves"] for _ in range(2))
    assert first is not second
    assert METHODS["halves"] is second


def test_its_file_is_a_command_line(
    script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("run.yaml").write_text(yaml.safe_dump(TINY_RUN))
    assert main(["compare", "run.yaml", "--methods", "none,halves", "--output_dir", "out"]) == 2
    assert "'halves' is no method" in (said := capsys.readouterr().err)
    assert "hf_mixup.register" in said
    assert start(script, monkeypatch, "methods", "--markdown") == 0
    assert "| `halves` | Halves |" in capsys.readouterr().out
    assert start(script, monkeypatch, "preview", "run.yaml", "--method", "halves", "--output", "seen.png") == 0
    assert Path("seen.png").is_file()
    arguments = ["compare", "run.yaml", "--methods", "none,halves", "--output_dir", "out"]
    assert start(script, monkeypatch, *arguments) == 0
    found = json.loads(Path("out/results.json").read_text())
    assert {"none", "halves"} <= {row["method"] for row in (found if isinstance(found, list) else found["runs"])}
    assert "python halves.py compare run.yaml" in Path("out/report.html").read_text()


@pytest.fixture
def knife(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """The file that CONTRIBUTING.md begins a new method with."""
    (example,) = re.findall(r"^   ```python\n(.*?)^   ```", CONTRIBUTING.read_text(encoding="utf-8"), re.M | re.S)
    module = types.ModuleType("knife")
    monkeypatch.setitem(sys.modules, "knife", module)
    exec(textwrap.dedent(example), vars(module))
    return module


def test_the_example_of_the_guide_mixes(knife: types.ModuleType) -> None:
    """By a straight cut, and the true share of the pixels."""
    model, batch, partner = build("resnet"), batch_of("resnet", rows=3), torch.tensor([1, 2, 0])
    with Mixup("knife")(model, batch, partner=partner, lam=0.4) as mixed:
        mask = mixed.draw.mask
    assert mixed.lam.tolist() == pytest.approx([float(mask[0].float().mean())] * 3)
    for row in range(3):
        for y in range(16):
            for x in range(16):
                source = batch["pixel_values"][row if mask[row, y, x] else partner[row]]
                assert torch.equal(mixed.inputs["pixel_values"][row, :, y, x], source[:, y, x])
    assert straight(mask[0])
    with pytest.raises(ValueError, match="method 'knife' found no floating-point input of 4 dimensions"):
        Mixup("knife")(build("bert"), batch_of("bert"))


def test_the_example_of_the_guide_owns_two_settings(knife: types.ModuleType) -> None:
    def mask(config: MixupConfig) -> torch.Tensor:
        with Mixup(config)(build("resnet"), batch_of("resnet", rows=3), lam=0.5) as mixed:
            return mixed.draw.mask[0]

    assert torch.equal(mask(MixupConfig("knife", angle=90)), torch.arange(16)[:, None].expand(16, 16) > 7)
    assert not straight(mask(MixupConfig(knife.KnifeMix(angle=90, waves=0.5))))
    with pytest.raises(ValueError, match=r"angle=360.0: expected a number in \[0, 360\)"):
        knife.KnifeMix(angle=360)
    assert "    waves (default 0.0): Height of the waves" in knife.KnifeMix.__doc__


def straight(mask: torch.Tensor) -> bool:
    """Whether a line parts the pixels of a mask."""
    positions = np.argwhere(np.ones(mask.shape))
    return LogisticRegression(C=1e6).fit(positions, mask.flatten()).score(positions, mask.flatten()) == 1


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"name": "cutmix"}, ValueError, "'cutmix', which is taken by hf_mixup.methods.cutmix.CutMix"),
        ({"name": "smoothing"}, ValueError, "taken by a control of hf-mixup compare"),
        ({"name": "my mix"}, ValueError, "expected a name of small letters"),
        ({"name": None}, ValueError, "name is None: expected a name"),
        ({"paper": None, "title": 3}, TypeError, "Own lacks title, paper"),
        ({"modalities": ("images",)}, ValueError, "modalities holds 'images': expected a tuple of image, text, audio"),
        ({"apply": Method.apply}, TypeError, r"Own lacks apply\(model, batch, draw, inplace\)"),
        ({"draw": Method.draw}, TypeError, r"Own lacks draw\(request\): derive it from Blend"),
    ],
)
def test_what_may_not_be_registered(changed: dict[str, Any], error: type[Exception], message: str) -> None:
    described = {"name": "own", "title": "Own", "blends": "nothing", "paper": "none", "apply": lambda *each: {}}
    with pytest.raises(error, match=message):
        hf_mixup.register(type("Own", (Blend,), described | changed))
    assert "own" not in METHODS


@pytest.mark.parametrize("thing", ["cutmix", int, METHODS["cutmix"]()])
def test_only_classes_of_methods_are_registered(thing: Any) -> None:
    with pytest.raises(TypeError, match=r"takes a subclass of hf_mixup\.methods\.Method, found"):
        hf_mixup.register(thing)


# A method with two settings of its own, as one file: nothing else of the package has to know them.
RIPPLE = '''
import torch
from hf_mixup.methods.base import Blend, setting
from hf_mixup.methods.registry import register
from hf_mixup.models.inputs import float_keys


@register
class Ripple(Blend):
    """Blend images with a lam that rises and falls along their width."""

    name, title, blends, paper = "ripple", "Ripple", "images along their width", "none"
    modalities = ("image",)
    begin_with = "alpha=1.0:wavelength=8.0"

    wavelength: float = setting(4.0, "Pixels from crest to crest.", above=0)
    heights: list[float] | None = setting(None, "Heights of the waves.", at_least=0)

    def apply(self, model, batch, draw, inplace):
        (key,) = float_keys(batch, len(draw.lam), self.name, dims=4)
        pixels, lam = batch[key], draw.lam[:, None, None, None]
        wave = torch.sin(torch.arange(pixels.shape[-1]) * 2 * torch.pi / self.wavelength) * sum(self.heights or [1.0])
        share = (lam + lam * (1 - lam) * wave).to(pixels.dtype)
        return {**batch, key: share * pixels + (1 - share) * pixels[draw.partner]}
'''
# Its row of tests/settings.py.
ROW = """    "ripple": Row(
        ("vit",),
        mixes=("pixels",),
        exceptions=("lam is another share",),
        values={"wavelength": (3.0, {}), "heights": ([0.5, 1.0], {})},
    ),
"""
# What a user can do with it, in a process that has imported its module.
USE = """
import json, sys, tempfile
from pathlib import Path
import torch
from hf_mixup import Mixup, MixupConfig
from hf_mixup.experiments.compare.variants import parse_variants
from hf_mixup.experiments.mixing import SharedSettings, flags_of
from hf_mixup.integrations.model_card import mixing_section
from hf_mixup.methods import METHODS, settings_of
from hf_mixup.testing.batches import tiny

folder, wanted = Path(tempfile.mkdtemp()), {"wavelength": 3.0, "heights": [0.5, 1.0]}
Ripple = METHODS["ripple"]
first = MixupConfig(Ripple(**wanted))
(folder / "c.yaml").write_text("method: ripple\\nwavelength: 3\\nheights: [0.5, 1]\\n")
for other in (
    MixupConfig("ripple", **wanted),
    MixupConfig({"method": "ripple", **wanted}),
    MixupConfig.from_yaml(folder / "c.yaml"),
    MixupConfig(flags_of()(method="ripple", **wanted).given),
    parse_variants(["none,ripple:wavelength=3:heights=[0.5, 1.0]"], SharedSettings())[1].mixup,
    parse_variants(["none,ripple"], SharedSettings(wanted))[1].mixup,
):
    assert other == first and other.changed == wanted, other
first.save_pretrained(folder)
assert MixupConfig.from_pretrained(folder) == first
assert MixupConfig("switch", methods=[{"method": "ripple", **wanted}]).mixing.choices()[0] == Ripple(**wanted)
assert "| wavelength | 3.0 |" in mixing_section(first) and "| heights | [0.5, 1.0] |" in mixing_section(first)
assert settings_of("ripple")["wavelength"].metadata["help"] == "Pixels from crest to crest."
assert settings_of("ripple")["heights"].metadata["help"] == "Heights of the waves."
model, batch = tiny("image-classification", "vit")
with Mixup(first)(model, batch, lam=0.5) as mixed:
    assert torch.isfinite(mixed.loss(model(**mixed.inputs)))
share, pixels = 0.5 + 0.25 * torch.sin(torch.arange(64) * 2 * torch.pi / 3) * 1.5, batch["pixel_values"]
expected = share * pixels + (1 - share) * pixels[mixed.partner]
torch.testing.assert_close(mixed.inputs["pixel_values"], expected)
for wrong, says in (
    (lambda: Ripple(wavelength=0), "wavelength=0.0: expected a number above 0"),
    (lambda: Ripple(heights=["high"]), "heights='high': expected a number"),
    (lambda: MixupConfig("mixup", wavelength=3), "wavelength=3: method 'mixup' does not read it; ripple does"),
    (lambda: MixupConfig("ripple", wavelenth=3), "did you mean 'wavelength'?"),
):
    try:
        wrong()
    except ValueError as error:
        assert says in str(error), error
    else:
        raise AssertionError(says)
print("used")
"""


def run_in(folder: Path, *arguments: str) -> str:
    """Run Python on the package in the folder, or else on this one; return what it prints."""
    paths = [str(folder), str(Path(hf_mixup.__file__).parents[1])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_two_settings_of_its_own_need_one_file(tmp_path: Path) -> None:
    """From outside: a module that registers it."""
    (tmp_path / "my_ripple.py").write_text(RIPPLE)
    (tmp_path / "use.py").write_text(f"import my_ripple\n{USE}")
    assert run_in(tmp_path, "use.py") == "used\n"


def test_inside_it_is_a_file_an_import_and_a_row(tmp_path: Path) -> None:
    """In a copy of the package and of its tests, which then try it."""
    for part in ("hf_mixup", "tests"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "hf_mixup/methods/ripple.py").write_text(RIPPLE)
    with (tmp_path / "hf_mixup/methods/__init__.py").open("a") as file:
        file.write("from hf_mixup.methods.ripple import Ripple as Ripple\n")
    table = tmp_path / "tests/settings.py"
    table.write_text(re.sub(r"^ROWS: .*\n", lambda line: line.group() + ROW, table.read_text(), flags=re.M))
    (tmp_path / "use.py").write_text(USE)
    assert run_in(tmp_path, "use.py") == "used\n"
    files = [
        "tests/engine/test_engine.py",
        *(f"tests/methods/test_{name}.py" for name in ("modalities", "settings_table")),
    ]
    chosen = "ripple or every_method_has_a_row or every_setting_has_another_value"
    printed = run_in(tmp_path, "-m", "pytest", "-n0", "-q", *files, "-k", chosen)
    assert re.search(r"^[12]\d passed", printed, flags=re.M), printed
