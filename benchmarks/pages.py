"""Size of the pages of 500 trials and of a blend on 357 photographs, and how long a browser takes until they are ready.

A page is ready once it is loaded and every chart on the first screen (1280 x 900 pixels) is drawn. Charts further down
are drawn when they come near the screen, or when the browser is idle: all are drawn after the second time. The browser
is a headless Chromium that draws without a GPU; each page is loaded in new tabs, and the fastest load counts. CPU is
the time of the page's thread: on a busy machine it says more than the clock.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.table import Options, Row, main, photographs
from ensemble.blend.build import build
from ensemble.members.external import import_members
from forage.pages.report import write_blend_report, write_run_report
from pasture.dataset import read_train
from pasture.run_folder import RunFolder
from pasture.targets import TARGETS
from pasture.verification import verify
from programs.browser import Browser, find
from search_spaces.space import Space
from trainables.recipe.recipe import Recipe
from tune.records.ledger import Ledger
from tune.records.plan import Plan

MOST_BYTES, MOST_SECONDS = 15e6, 2.0
EPOCHS, RUNGS = 40, (4, 13)
_LOADED = "document.readyState === 'complete' && typeof plots === 'object' && plots"
_FIRST = f"{_LOADED}.every((p) => p.dataset.drawn || p.getBoundingClientRect().top > innerHeight)"
_ALL = f"{_LOADED}.every((p) => p.dataset.drawn)"
_MARKS = """(() => {
    const at = Object.fromEntries(performance.getEntriesByType("mark").map((m) => [m.name, m.startTime]));
    const first = plots.filter((p) => p.getBoundingClientRect().top < innerHeight).map((p) => at[p.dataset.name]);
    const loaded = performance.getEntriesByType("navigation")[0].loadEventEnd;
    return [Math.max(loaded, ...first) / 1000, Math.max(loaded, ...Object.values(at)) / 1000];
})()"""


def measure(options: Options) -> Iterator[Row]:
    """Two rows a page."""
    browser = find()
    if browser is None:
        sys.exit("benchmarks.pages: no Chromium or Chrome on this machine")
    trials, images, members = (12, 20, 3) if options.quick else (500, 357, 30)
    with photographs(options, images, width=1000, height=500) as data, tempfile.TemporaryDirectory() as scratch:
        run = write_run(RunFolder(Path(scratch, "run")), data, trials)
        pages = {
            f"page of a run of {trials} trials": Path(write_run_report(run)),
            f"page of a blend on {len(read_train(data))} photographs": write_blend(Path(scratch), data, members),
        }
        with Browser(browser) as started:
            for what, page in pages.items():
                size = page.stat().st_size
                yield Row(
                    f"{what}: size", f"{size / 1e6:.1f} MB", f"{MOST_BYTES / 1e6:g} MB", size / MOST_BYTES, "pages",
                    at_most=1,
                )  # fmt: skip
                (ready, cpu), (drawn, cpu_drawn) = min(_load(started, page) for _ in range(1 if options.quick else 5))
                forage = (
                    f"{ready:.2f} s ({cpu:.2f} s of CPU), all charts after {drawn:.2f} s ({cpu_drawn:.2f} s of CPU)"
                )
                yield Row(f"{what}: ready", forage, f"{MOST_SECONDS:g} s", ready / MOST_SECONDS, "pages", at_most=1)


def _load(browser: Browser, page: Path) -> tuple[tuple[float, float], tuple[float, float]]:
    """Seconds until a page is ready, and until all of its charts are drawn: on the clock, and of its thread's CPU."""
    tab = browser.open(page)
    cpu = []
    for state in (_FIRST, _ALL):
        tab.wait(state)
        cpu.append(tab.cpu_seconds())
    ready, drawn = tab.evaluate(_MARKS)
    if tab.errors:
        raise AssertionError(f"{page}: {tab.errors[0]}")
    tab.close()
    return (ready, cpu[0]), (drawn, cpu[1])


def write_run(run: RunFolder, data: Path, trials: int) -> RunFolder:
    """A run with records of that many trials, of which three of five are pruned; nothing is trained."""
    dataset = verify(read_train(data))
    run.write_truth(dataset)
    search = {
        "optimizer.head_lr": {"log_uniform": [1e-4, 1e-1]},
        "head.dropout": {"uniform": [0.0, 0.5]},
        "loss.consistency": {"uniform": [0.0, 1.0]},
        "loss.kind": {"choice": ["smooth_l1", "huber", "mse"]},
        "target.transform": {"choice": ["none", "sqrt", "log1p"]},
    }
    base = Recipe().with_overrides({"schedule.epochs": EPOCHS})
    space = Space.parse({"base": base.to_dict(), "search": search})
    Plan(
        trials=trials, space=space.to_dict(), search="random", seed=0, data=str(data), fingerprint=dataset.content,
        versions={},
    ).write(run)  # fmt: skip
    ledger, draw = Ledger(run), np.random.default_rng(0)
    for number in range(trials):
        params: dict[str, Any] = {
            "optimizer.head_lr": float(10 ** draw.uniform(-4, -1)),
            "head.dropout": float(draw.uniform(0, 0.5)),
            "loss.consistency": float(draw.uniform(0, 1)),
            "loss.kind": ("smooth_l1", "huber", "mse")[draw.integers(3)],
            "target.transform": ("none", "sqrt", "log1p")[draw.integers(3)],
        }
        record = ledger.propose(params, base.with_overrides(params))
        record.status = "COMPLETE" if number % 5 < 2 else "PRUNED"
        best = 0.7 - 0.1 * abs(np.log10(params["optimizer.head_lr"]) + 2.5) - 0.1 * params["head.dropout"]
        for epoch in range(1, (EPOCHS if record.status == "COMPLETE" else RUNGS[number % 2]) + 1):
            score = float(best - 0.5 / epoch + draw.normal(0, 0.01))
            targets = {f"r2_Dry_{name}_g": score - 0.1 for name in ("Green", "Dead", "Clover", "Total")}
            record.report(
                {"epoch": epoch, "score": score, "epoch_score": score, "best_epoch": epoch, "seconds": 1.0,
                 "train_loss": 1 / epoch, "r2_GDM_g": score, **targets}
            )  # fmt: skip
        ledger.write_later(record)
    ledger.flush()
    return run


def write_blend(folder: Path, data: Path, count: int) -> Path:
    """The page of a blend of members that are the truth with errors."""
    dataset = read_train(data)
    draw = np.random.default_rng(0)
    files = []
    for number in range(count):
        error = draw.normal(0, 0.3 * dataset.targets.std(axis=0), dataset.targets.shape)
        files.append(folder / f"member{number}.npy")
        np.save(files[-1], dataset.targets * 0.8 + error)
    ids = folder / "ids.csv"
    ids.write_text("image_id\n" + "\n".join(dataset.ids) + "\n")
    run = RunFolder(folder / "external")
    import_members(files, data, run, ids, list(TARGETS))
    return Path(write_blend_report(build([run], folder / "blend", "none", "uniform"), data=str(data)))


if __name__ == "__main__":
    main(measure, __doc__ or "")
