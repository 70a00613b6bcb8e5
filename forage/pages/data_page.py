"""The page of a data folder: what is in it, and what may mislead a model or a score."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from forage.figures import data_charts
from forage.pages.data_folder import LARGE, thumbnails
from forage.pages.page import Page
from forage.pages.photo_facts import PhotoFacts, near_duplicates, photo_facts
from pasture.dataset import BALANCE_TOLERANCE_G, Dataset, read_test, read_train
from pasture.errors import InputError
from pasture.folds import Folds
from pasture.metric import baseline_r2
from pasture.targets import TARGETS, TOTAL, WEIGHTS, balance_gap
from trainables.recipe.recipe import Recipe

MOST_ROWS: Final = 200
MOST_PAIRS: Final = 6
"""Pairs of nearly equal photographs that are shown as pictures."""
MOST_PHOTOGRAPHS: Final = 1000


def data_page(root: Path, recipe: Recipe, watch: Callable[[str, int, int], None]) -> Page:
    """The page of a data folder.

    Args:
        root: the data folder.
        recipe: its folds are shown.
        watch: callback for the progress of reading photographs.

    Raises:
        InputError: not a data folder, or something in it is wrong.
    """
    train = read_train(root)
    measured = Dataset(train.root, train.images[train.measured])
    page = Page(f"Data {root.absolute().name}")
    _cards(page, measured)
    test = read_test(root) if (root / "test.csv").is_file() else None
    others = test.paths if test else []
    photographs = photo_facts([*measured.paths, *others], watch)
    _targets(page, measured)
    _balance(page, measured)
    _correlations(page, measured, photographs[: len(measured)])
    _photographs(page, measured, photographs[: len(measured)])
    names = [*measured.ids, *(test.ids if test else [])]
    _duplicates(page, measured, names, photographs)
    _folds(page, measured, recipe)
    _violations(page, measured)
    return page


def _cards(page: Page, data: Dataset) -> None:
    page.cards(
        [
            (str(len(data)), "labelled photographs"),
            (str(len(set(data.dates))), "dates"),
            (str(data.images["state"].nunique()), "states"),
            (str(data.images["species"].nunique()), "species"),
            (f"{baseline_r2(data.targets):.4f}", "score of predicting each target's mean"),
        ]
    )


def _targets(page: Page, data: Dataset) -> None:
    page.figure("Targets", "Dry weights in grams.", data_charts.histograms(data.targets), min_width=560)
    rows = [
        [name, f"{weight:g}", f"{(y == 0).mean():.0%}", *(f"{value:.1f}" for value in (y.mean(), y.std(), *quantiles))]
        for name, weight, y in zip(TARGETS, WEIGHTS, data.targets.T, strict=True)
        for quantiles in [np.quantile(y, [0, 0.5, 0.9, 1])]
    ]
    columns = ["target", "weight in the score", "zeros", "mean", "SD", "least", "median", "90 %", "largest"]
    page.table("Targets in numbers", "In grams.", columns, rows)
    pictures = []
    for t, name in enumerate(TARGETS):
        order = np.argsort(data.targets[:, t], kind="stable")
        chosen = [int(order[round(q * (len(order) - 1))]) for q in (0, 0.5, 1)]
        for uri, i in zip(thumbnails([data.paths[i] for i in chosen], LARGE), chosen, strict=True):
            if uri:
                pictures.append((uri, f"{name}: {data.targets[i, t]:.1f} g\n{data.ids[i]}, {data.dates[i]}"))
    page.photographs("Photographs by target", "The least, the median and the largest of each target.", pictures)


def _balance(page: Page, data: Dataset) -> None:
    page.figure("States", "Photographs of each state.", data_charts.counts(list(data.images["state"])))
    page.figure("Species", "Photographs of each species, as written.", data_charts.counts(list(data.images["species"])))
    caption = (
        "R² is measured against the sum of squares around one mean: a date with a larger share of it than of the "
        "images decides more of the score."
    )
    page.figure("Dates that decide the score", caption, data_charts.date_shares(data.targets, list(data.dates)))


def _correlations(page: Page, data: Dataset, photographs: list[PhotoFacts | None]) -> None:
    table = data.images[list(TARGETS)].astype(float)
    table["NDVI"], table["height"] = data.images["ndvi"].astype(float), data.images["height_cm"].astype(float)
    table["day of year"] = data.images["date"].dt.day_of_year.astype(float)
    table["brightness"] = [np.nan if p is None else p.brightness for p in photographs]
    table["sharpness"] = [np.nan if p is None else p.sharpness for p in photographs]
    caption = "Spearman's rank correlation over photographs. NDVI and height are known for labelled photographs only."
    page.figure("Correlations", caption, data_charts.correlations(table), min_width=560)
    months = [date[5:7] for date in data.dates]
    total = data.targets[:, TOTAL]
    page.figure("Total by month", "Months of all years together.", data_charts.boxes(total, months, "Dry_Total (g)"))
    states = list(data.images["state"].astype(str))
    page.figure("Total by state", "", data_charts.boxes(total, states, "Dry_Total (g)"))


def _photographs(page: Page, data: Dataset, photographs: list[PhotoFacts | None]) -> None:
    known = [(i, facts) for i, facts in enumerate(photographs) if facts is not None]
    sizes = pd.Series([f"{facts.width} x {facts.height}" for _, facts in known]).value_counts()
    rows = [[str(size), str(count)] for size, count in sizes.items()]
    page.table("Sizes", "In pixels.", ["size", "photographs"], rows[:MOST_ROWS])
    page.hover_photographs({str(k): facts.thumbnail for k, (_, facts) in enumerate(known[:MOST_PHOTOGRAPHS])})
    figure = data_charts.brightness_and_sharpness(
        [facts.brightness for _, facts in known],
        [facts.sharpness for _, facts in known],
        [str(data.images["state"].iloc[i]) for i, _ in known],
        [f"{data.ids[i]}, {data.dates[i]}" for i, _ in known],
    )
    page.figure("Brightness and sharpness", "One dot for each photograph, by state; hover to see it.", figure)


def _duplicates(page: Page, data: Dataset, names: list[str], photographs: list[PhotoFacts | None]) -> None:
    pairs = near_duplicates(photographs)
    dates = [*data.dates, *["test"] * (len(names) - len(data))]
    across = [(a, b, bits) for a, b, bits in pairs if dates[a] != dates[b]]
    caption = (
        f"{len(pairs)} pair(s) of photographs, test photographs included, differ in at most 12 of 128 bits of a "
        f"difference hash; {len(across)} of them are of different dates, or of train and test. Folds that keep dates "
        "together still separate those: a model may have seen nearly the same photograph."
    )
    rows = [[names[a], str(dates[a]), names[b], str(dates[b]), str(bits)] for a, b, bits in [*across, *pairs]]
    rows = list({tuple(row): row for row in rows}.values())[:MOST_ROWS]
    page.table("Near-duplicates", caption, ["photograph", "date", "photograph", "date", "bits"], rows)
    shown = [
        (facts.thumbnail, f"pair {number}: {names[i]}, {dates[i]}")
        for number, (a, b, _) in enumerate((across or pairs)[:MOST_PAIRS], start=1)
        for i in (a, b)
        if (facts := photographs[i]) is not None
    ]
    if shown:
        page.photographs("The most alike", "Pairs of different dates, where there are any.", shown)


def _folds(page: Page, data: Dataset, recipe: Recipe) -> None:
    validation = recipe.validation
    try:
        folds: Folds = validation.assign(data)
    except InputError as error:
        page.note(f"no folds: {error}")
        return
    rows = []
    for fold in sorted({int(f) for f in folds if f >= 0}):
        own = folds == fold
        means = [f"{value:.1f}" for value in data.targets[own].mean(axis=0)]
        states = ", ".join(f"{state} {n}" for state, n in data.images["state"][own].value_counts().items())
        rows.append([str(fold), str(own.sum()), str(len(set(data.dates[own]))), *means, states])
    spread = np.array([[float(cell) for cell in row[3:8]] for row in rows]).std(axis=0)
    caption = (
        f"validation.splitter {validation.splitter}, {validation.folds} folds, seed {validation.seed}: means of the "
        f"targets in grams. Standard deviation of the means of Dry_Total over folds: {spread[TOTAL]:.1f} g, against "
        f"{data.targets[:, TOTAL].std():.1f} g over photographs."
    )
    columns = ["fold", "images", "dates", *TARGETS, "states"]
    page.table("Folds side by side", caption, columns, rows)


def _violations(page: Page, data: Dataset) -> None:
    gap = balance_gap(data.targets)
    off = [i for i in np.argsort(-gap, kind="stable") if gap[i] > BALANCE_TOLERANCE_G]
    rows = [[data.ids[i], data.dates[i], *(f"{value:.2f}" for value in data.targets[i]), f"{gap[i]:.2f}"] for i in off]
    caption = (
        f"{len(off)} image(s) break GDM = Green + Clover or Total = GDM + Dead by more than {BALANCE_TOLERANCE_G} g."
    )
    page.table("Mass balance", caption, ["image", "date", *TARGETS, "gap (g)"], rows[:MOST_ROWS])
