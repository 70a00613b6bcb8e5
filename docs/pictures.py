"""Makes the pictures of the README from what `make demo` leaves: two pages and what `forage ensemble` prints.

    .venv/bin/python docs/pictures.py demo

Needs Chrome or Chromium on the machine.
"""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from rich.console import Console

from ensemble.blend.blend import Blend
from forage.pages.report import write_blend_report, write_run_report
from forage.terminal.tables import blend_table
from pasture.run_folder import RunFolder

IMAGES = Path(__file__).parent / "images"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
WIDTH, HEIGHT = 1200, 1600
SHOWN = 800
"""Pixels of a picture's width."""


def main(demo: Path) -> None:
    """Write docs/images/run-page.png, docs/images/blend-page.png and docs/images/ensemble.svg."""
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        sys.exit(f"pictures: found no browser ({', '.join(BROWSERS)})")
    run = next(path.parent for path in sorted(demo.rglob("sweep.yaml")))
    blend = Blend.read(next(path.parent for path in sorted(demo.rglob("blend.json"))))
    with tempfile.TemporaryDirectory() as folder:
        pages = Path(folder)
        write_run_report(RunFolder(run), pages / "run.html")
        write_blend_report(blend, pages / "blend.html")
        for name in ("run", "blend"):
            picture = Image.open(io.BytesIO(screenshot(browser, pages / f"{name}.html")))
            small = picture.convert("RGB").resize((SHOWN, SHOWN * picture.height // picture.width))
            small.quantize(64).save(IMAGES / f"{name}-page.png", optimize=True)
    console = Console(record=True, width=110, file=io.StringIO())
    console.print(blend_table(blend))
    drawn = console.export_svg(title="forage ensemble demo/run --out demo/blend")
    # Without rich's fonts, which a browser would fetch.
    (IMAGES / "ensemble.svg").write_text(re.sub(r"@font-face \{.*?\}", "", drawn, flags=re.DOTALL))


def screenshot(browser: str, page: Path) -> bytes:
    """The top of a page as PNG."""
    file = page.with_suffix(".png")
    options = [
        "--headless=new", "--no-sandbox", "--hide-scrollbars", "--enable-unsafe-swiftshader",
        "--virtual-time-budget=20000", f"--window-size={WIDTH},{HEIGHT}", f"--user-data-dir={page.parent / 'profile'}",
    ]  # fmt: skip
    command = [browser, *options, f"--screenshot={file}", page.as_uri()]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    return file.read_bytes()


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo"))
