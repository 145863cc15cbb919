"""Pages in a real browser."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

CHROMIUM, DRIVER = (shutil.which(name) for name in ("chromium", "chromedriver"))
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
PHONE, DESK = 360, 1200


def start() -> Iterator[Any]:
    """Start Chromium for a fixture, and end it; the test is skipped where there is none."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="pip install selenium")
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("no Chromium here: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    for flag in FLAGS:
        options.add_argument(flag)
    options.binary_location = CHROMIUM
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(DRIVER)
    with webdriver.Chrome(options=options, service=service) as driver:
        yield driver


def check_page(browser: Any, path: Path, width: int, title: str) -> None:
    """Open a page of a file: no error, nothing loaded from elsewhere, nothing beyond the edge, images described."""
    metrics = {"width": width, "height": 740, "deviceScaleFactor": 1, "mobile": width == PHONE}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.get(path.as_uri())
    assert not browser.get_log("browser")
    assert browser.title.startswith(title)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    loaded = "return [...document.images].every(image => image.complete && image.naturalWidth > 0 && image.alt)"
    assert browser.execute_script(loaded)
    foreign = "return performance.getEntriesByType('resource').filter(e => !e.name.startsWith('data:')).length"
    assert browser.execute_script(foreign) == 0
    # Nothing but what scrolls by itself reaches over the edge of the screen.
    wide = """return [...document.querySelectorAll('body *')].filter(element => !element.closest('.scroll, pre, nav')
              && element.getBoundingClientRect().right > document.documentElement.clientWidth + 1).length"""
    assert browser.execute_script(wide) == 0
    colours = browser.execute_script(
        "const style = getComputedStyle(document.body); return [style.color, style.backgroundColor]"
    )
    dark, light = (sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in colours)
    assert light - dark > 500
