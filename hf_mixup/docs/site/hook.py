"""What mkdocs calls while it builds: pages from code and results are added, and links out of the pages are mended."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hf_mixup.docs.site.repository import DOCS, ROOT, to_repository

IMAGES, KEPT_NOTEBOOKS = ROOT / "runs" / "docs-images", ROOT / "runs" / "docs-notebooks"
_LINK = re.compile(r"(!?\[[^\]]*\]\()([^)\s]+)(\))")
_COPIES = {"recipes.md": "recipes/README.md", "contributing.md": "CONTRIBUTING.md", "changes.md": "CHANGELOG.md"}
"""Pages that lie elsewhere in the repository."""


def on_config(config: Any) -> Any:
    """List the pages of methods and notebooks in the navigation."""
    from hf_mixup.methods import METHODS

    methods = [{kind.title: f"methods/{name}.md"} for name, kind in METHODS.items()]
    notebooks = [f"notebooks/{path.stem}.md" for path in _notebooks()]
    config.nav = [_filled(entry, {"methods": methods, "notebooks": notebooks}) for entry in config.nav]
    return config


def _filled(entry: Any, found: dict[str, list[Any]]) -> Any:
    """Return an entry of the navigation with the pages that a name such as `methods/*` stands for."""
    if not isinstance(entry, dict):
        return entry
    ((title, pages),) = entry.items()
    if not isinstance(pages, list):
        return entry
    shown: list[Any] = []
    for page in pages:
        shown += found[page.removesuffix("/*")] if str(page).endswith("/*") else [_filled(page, found)]
    return {title: shown}


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that are made, and their images."""
    from mkdocs.structure.files import File

    for uri, content in generated():
        files.append(File.generated(config, uri, content=content))
    return files


def generated() -> Iterator[tuple[str, str | bytes]]:
    """Yield the address and the content of each page and image that is made.

    Environment: `DOCS_IMAGES=no` draws no images of methods, `DOCS_NOTEBOOKS=yes` runs the notebooks.
    """
    from hf_mixup.docs.site.architectures import architectures_page
    from hf_mixup.docs.site.methods import methods_page
    from hf_mixup.docs.site.settings import settings_page
    from hf_mixup.methods import METHODS

    yield "methods/index.md", f"---\nhide: [toc]\n---\n{methods_page()}"
    yield "reference/command-line.md", settings_page()
    yield "architectures.md", architectures_page()
    for name in METHODS:
        yield from _method(name)
    for path in _notebooks():
        yield from _notebook(path)
    for uri, source in _COPIES.items():
        yield uri, with_links((ROOT / source).read_text(encoding="utf-8"), (ROOT / source).parent)


def _method(name: str) -> Iterator[tuple[str, str | bytes]]:
    from hf_mixup.docs.site.images import draw_method
    from hf_mixup.docs.site.methods import method_page

    if os.environ.get("DOCS_IMAGES") == "no":
        yield f"methods/{name}.md", method_page(name)
        return
    drawn, told = IMAGES / f"{name}.png", IMAGES / f"{name}.txt"  # drawing takes seconds: once a change
    if not told.is_file() or told.stat().st_mtime < _newest_code():
        IMAGES.mkdir(parents=True, exist_ok=True)
        told.write_text(draw_method(name, drawn), encoding="utf-8")
    scene = told.read_text(encoding="utf-8")
    yield f"methods/{name}.md", method_page(name, f"{name}.png", scene)
    yield f"methods/{name}.png", drawn.read_bytes()


def _newest_code() -> float:
    rooms = ("methods", "plots", "functional", "docs/site")
    return max(path.stat().st_mtime for room in rooms for path in (ROOT / "hf_mixup" / room).rglob("*.py"))


def _notebooks() -> list[Path]:
    return sorted((ROOT / "notebooks").glob("*.ipynb"))


def _notebook(path: Path) -> Iterator[tuple[str, str | bytes]]:
    import nbformat

    from hf_mixup.docs.site.notebooks import notebook_page, run

    asked = os.environ.get("DOCS_NOTEBOOKS") == "yes"
    notebook = run(path, KEPT_NOTEBOOKS) if asked else nbformat.read(path, as_version=4)
    page, images = notebook_page(notebook, path.stem)
    yield f"notebooks/{path.stem}.md", with_links(page, path.parent)
    for name, content in images.items():
        yield f"notebooks/{name}", content


def on_post_page(output: str, **_: Any) -> str:
    """Leave out what lets the theme ask GitHub for its stars: a page fetches nothing."""
    return output.replace(' data-md-component="source"', "")


def on_post_template(output_content: str, **_: Any) -> str:
    """Do the same in what is no page: that of an address that is not there."""
    return on_post_page(output_content)


def on_post_build(config: Any) -> None:
    """Write the index of the search as a script, too: pages that open as files may load nothing else."""
    folder = Path(config.site_dir) / "search"
    index = (folder / "search_index.json").read_text(encoding="utf-8")
    (folder / "search_index.js").write_text(f"var __index = {index}", encoding="utf-8")


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Let links to files of the repository lead to where it lies on the web."""
    return with_links(markdown, (DOCS / page.file.src_uri).parent)


def with_links(markdown: str, home: Path) -> str:
    """Return a page whose links out of the documentation are absolute, and those to pages that were moved into it.

    >>> with_links("[recipes](../../recipes/image_classification.py)", DOCS)
    '[recipes](https://github.com/hf-mixup/hf-mixup/blob/main/recipes/image_classification.py)'
    """

    def mended(found: re.Match[str]) -> str:
        return f"{found[1]}{to_repository(found[2], home) or found[2]}{found[3]}"

    return _LINK.sub(mended, markdown)
