"""Every page in a real browser: desktop and phone, light and dark, with hostile texts in the data."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from ensemble.blend.build import build
from forage.pages.data_page import data_page
from forage.pages.output import write_page
from forage.pages.report import write_blend_report
from forage.pages.run_page import run_page
from pasture.files import Folder
from pasture.run_folder import RunFolder
from programs.browser import Browser, Tab, find
from trainables.recipe.recipe import Recipe
from tune.records.ledger import Ledger

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.skipif(find() is None, reason="no Chromium or Chrome on this machine"),
]

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(1)>"
EVIL_FILE = "<img src=x onerror=alert(1)>"
DESKTOP, PHONE = 1280, 390
ALL_DRAWN = "plots.every((p) => p.dataset.drawn)"
NOT_DRAWN = """plots.filter((p) => !p.matches(".js-plotly-plot") ||
    ![...p.querySelectorAll("svg.main-svg, canvas")].some((e) => e.getBoundingClientRect().width > 100)
    ).map((p) => p.dataset.name)"""
TOO_WIDE = "Math.max(document.documentElement.scrollWidth, document.body.scrollWidth) - innerWidth"
BACKGROUNDS = """[...new Set([getComputedStyle(document.body).backgroundColor,
    ...plots.map((p) => getComputedStyle(p.querySelector(".main-svg")).backgroundColor)])]"""
LIGHT, DARK = "rgb(255, 255, 255)", "rgb(23, 25, 28)"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser for all tests."""
    executable = find()
    assert executable
    with Browser(executable) as started:
        yield started


@pytest.fixture
def data(paddocks: Path, tmp_path: Path) -> Path:
    """A data folder with hostile species, and one more photograph with a hostile name."""
    folder = Path(shutil.copytree(paddocks, tmp_path / "data"))
    table = pd.read_csv(folder / "train.csv")
    table.loc[table["image_path"] == table["image_path"][0], "Species"] = EVIL
    more = table[table["image_path"] == table["image_path"][5]].copy()
    shutil.copy(folder / more["image_path"].iloc[0], folder / "train" / f"{EVIL_FILE}.jpg")
    more["image_path"] = f"train/{EVIL_FILE}.jpg"
    more["sample_id"] = [f"{EVIL_FILE}__{target}" for target in more["target_name"]]
    pd.concat([table, more]).to_csv(folder / "train.csv", index=False)
    return folder


def test_the_browser_notices_what_is_wrong(browser: Browser, tmp_path: Path) -> None:
    page = tmp_path / "wrong.html"
    page.write_text(
        "<script>console.error('said'); fetch('http://127.0.0.1:9/x').catch(() => {}); "
        "setTimeout(() => { alert('asked'); throw Error('thrown'); })</script>"
    )
    tab = browser.open(page)
    tab.wait("document.readyState === 'complete'")
    tab.evaluate("new Promise((done) => setTimeout(done, 50))")
    assert {"said", "a dialog: asked"} <= set(tab.errors)
    assert any("Error: thrown" in error for error in tab.errors)
    assert "http://127.0.0.1:9/x" in tab.requests
    tab.close()


def seen_everywhere(browser: Browser, page: Path, *, plots: int) -> Tab:
    """Load a page on a phone, widen it to a desktop, look at both in both themes, and return the tab."""
    tab = browser.open(page, width=PHONE, dark=True)
    tab.wait(f"document.readyState === 'complete' && typeof plots === 'object' && {ALL_DRAWN}")
    assert tab.evaluate("plots.length") == plots
    for width, dark in ((PHONE, True), (PHONE, False), (DESKTOP, False), (DESKTOP, True)):
        tab.screen(width)
        tab.theme(dark)
        tab.wait(f"({BACKGROUNDS}).join() === {(DARK if dark else LIGHT)!r}")
        assert tab.evaluate(NOT_DRAWN) == []
        tab.wait(f"{TOO_WIDE} <= 0")
    assert tab.evaluate("document.querySelectorAll('img[src=x]').length") == 0
    assert tab.errors == []
    assert {url.partition(":")[0] for url in tab.requests} <= {"file", "data", "blob"}
    return tab


def test_the_page_of_a_run(browser: Browser, swept: RunFolder, data: Path, tmp_path: Path) -> None:
    ledger = Ledger(swept)
    for record in ledger.records.values():
        record.error = EVIL if record.error else ""
        record.params |= {EVIL: f"{EVIL}{record.number}"}
        ledger.write(record)
    run = RunFolder(shutil.copytree(swept.folder.path, tmp_path / "<script>alert(1)"))
    page = Path(write_page(run_page(run, str(data)), run.folder))
    tab = seen_everywhere(browser, page, plots=7)

    point = """(() => { const plot = document.querySelector('[data-name="score-of-every-trial"]');
        const mark = plot.querySelectorAll('.scatterlayer .points path')[%d]; mark.scrollIntoView({block: "center"});
        const box = mark.getBoundingClientRect(); return {x: box.x + box.width / 2, y: box.y + box.height / 2}; })()"""
    chosen = "document.getElementById('facts').textContent"
    assert tab.evaluate(chosen).startswith("t0001: complete"), "the best trial at first"
    tab.click(point % 1)  # the first complete trial, after the pruned one
    tab.wait(f"{chosen}.startsWith('t0000: complete')")
    assert "head:" in tab.evaluate("document.getElementById('yaml').textContent")
    tab.evaluate("document.querySelector('button[data-trial=t0002]').click()")
    assert tab.evaluate(chosen).startswith("t0002: complete")
    tab.evaluate("other.value = 't0000'; other.dispatchEvent(new Event('change'))")
    assert "backbone.name" in tab.evaluate("document.getElementById('differences').textContent")

    table = """document.querySelector('[aria-label="Trials"]')"""
    first = f"{table}.querySelector('tbody').rows[0].cells[2].textContent"
    assert tab.evaluate(first) == "0.5000"
    for _ in range(2):
        tab.evaluate(f"[...{table}.querySelectorAll('th button')].find((b) => b.textContent === 'R²').click()")
    assert tab.evaluate(first) == "-20.0000", "sorted upwards"
    tab.evaluate("document.querySelector('[data-copy=yaml]').click()")
    tab.wait("document.querySelector('[data-copy=yaml]').textContent === 'copied'")
    assert tab.errors == []


def test_the_page_of_a_blend(browser: Browser, finished_run: RunFolder, data: Path, tmp_path: Path) -> None:
    blend = build([finished_run], tmp_path / "<script>alert(1)", "none", "uniform")
    page = Path(write_blend_report(blend, data=str(data)))
    tab = seen_everywhere(browser, page, plots=10)
    tab.evaluate("document.getElementById('predicted-against-true').scrollIntoView()")
    point = """(() => { const box = document.querySelector('[data-name="predicted-against-true"] .points path')
        .getBoundingClientRect(); return {x: box.x + box.width / 2, y: box.y + box.height / 2}; })()"""
    assert tab.evaluate("photo.hidden")
    tab.click(point)
    tab.wait("!photo.hidden && photo.firstElementChild.naturalWidth > 50")
    assert tab.errors == []


def test_the_page_of_a_data_folder(browser: Browser, data: Path, tmp_path: Path) -> None:
    recipe = Recipe().with_overrides({"validation.folds": 3})
    page = write_page(data_page(data, recipe, lambda *_: None), Folder.at(tmp_path), tmp_path / "eda.html")
    tab = seen_everywhere(browser, Path(page), plots=8)
    assert EVIL_FILE in tab.evaluate("document.body.innerText")
    assert "alert(1)" in tab.evaluate("""document.querySelector('[data-name="species"]').textContent""")
