from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from pasture.errors import InputError
from pasture.metric import weighted_r2
from pasture.oof import OofTable
from pasture.parquet import write_parquet
from pasture.run_folder import RunFolder
from pasture.targets import TARGETS, WEIGHTS, Array
from search_spaces.space import Space
from tune.search.blend_gain import GROUPS, SIZE, BlendGain, check_comparable, falls_in_loss

IMAGES = 40
DATES = np.repeat(np.arange(10), 4)
IDS = [f"i{i:02d}" for i in range(IMAGES)]


@pytest.fixture
def truth(run: RunFolder) -> Array:
    """Truth of 40 images on 10 dates, in the run directory."""
    truth = np.random.default_rng(0).gamma(2, 20, size=(IMAGES, 5))
    table = pd.DataFrame({"image_id": IDS, "date": [f"2015-09-{day + 10}" for day in DATES]})
    table[list(TARGETS)] = truth
    write_parquet(run.folder, "truth.parquet", pa.Table.from_pandas(table, preserve_index=False))
    return truth


def write(run: RunFolder, name: str, predictions: Array, ids: list[str] = IDS, retired: bool = False) -> None:
    elements = np.stack([predictions - 1, predictions + 1], axis=1)
    table = OofTable(ids, np.zeros(len(ids), dtype=np.int8), elements, {"trial": name})
    table.write(run.retired if retired else run.oof, f"{name}.parquet")


def reference_gain(truth: Array, predictions: Array, i: int) -> float:
    """By the definition, one image set after the other."""
    group = DATES % GROUPS
    others = [j for j in range(len(predictions)) if j != i]
    without, joined = np.empty_like(truth), np.empty_like(truth)
    for g in range(GROUPS):
        rest, held = group != g, group == g
        loss = {j: (WEIGHTS * (predictions[j][rest] - truth[rest]) ** 2).sum() for j in others}
        best = sorted(others, key=lambda j: (loss[j], j))[:SIZE]
        without[held] = predictions[best][:, held].mean(axis=0)
        joined[held] = predictions[[*best, i]][:, held].mean(axis=0)
    return weighted_r2(truth, joined) - weighted_r2(truth, without)


@pytest.mark.parametrize("count", [2, 3, SIZE, SIZE + 1, SIZE + 2, 20])
def test_gains_follow_the_definition(run: RunFolder, truth: Array, count: int) -> None:
    rng = np.random.default_rng(count)
    predictions = truth + rng.normal(0, 10, size=truth.shape) + rng.normal(0, 15, size=(count, *truth.shape))
    names = [f"t{i:04d}" for i in range(count)]
    for name, prediction in zip(names, predictions, strict=True):
        write(run, name, prediction)
    gains = BlendGain(run)(names)
    assert list(gains) == names
    for i, name in enumerate(names):
        assert gains[name] == pytest.approx(reference_gain(truth, predictions, i), abs=1e-6)


def test_another_kind_of_error_is_worth_more_than_a_better_score(run: RunFolder, truth: Array) -> None:
    rng = np.random.default_rng(1)
    shared = rng.normal(0, 10, size=truth.shape)
    for i in range(6):
        write(run, f"alike{i}", truth + shared + rng.normal(0, 1, size=truth.shape))
    other = truth + rng.normal(0, 12, size=truth.shape)
    write(run, "other", other)
    gains = BlendGain(run)([*(f"alike{i}" for i in range(6)), "other"])
    assert weighted_r2(truth, other) < weighted_r2(truth, truth + shared)
    assert gains["other"] > 5 * max(gain for name, gain in gains.items() if name != "other")


def test_gains_are_the_same_whenever_they_are_computed(run: RunFolder, truth: Array) -> None:
    rng = np.random.default_rng(2)
    names = [f"t{i:04d}" for i in range(12)]
    step_by_step = BlendGain(run)
    for i, name in enumerate(names):
        write(run, name, truth + rng.normal(0, 10, size=truth.shape), retired=i % 3 == 0)
        gains = step_by_step(names[: i + 1])
    assert gains == BlendGain(run)(names)


def test_a_trial_alone_gains_nothing_and_one_without_oof_is_left_out(run: RunFolder, truth: Array) -> None:
    write(run, "t0000", truth + 1)
    assert BlendGain(run)([]) == {}
    assert BlendGain(run)(["t0000", "t0001"]) == {"t0000": 0.0}


def test_one_group_of_dates_only() -> None:
    residuals = np.array([1.0, 2.0, -1.0])[:, None, None] * np.ones((3, 4, 5))
    # Joining the mean of the two others: from .5^2, 0^2 and 1.5^2 to (2/3)^2 on 20 residuals.
    assert falls_in_loss(residuals, np.zeros(4, dtype=np.intp)) == pytest.approx(
        [20 * (0.25 - 4 / 9), 20 * (0 - 4 / 9), 20 * (2.25 - 4 / 9)]
    )


def test_oof_of_other_images_is_refused(run: RunFolder, truth: Array) -> None:
    write(run, "t0000", truth)
    write(run, "t0001", truth[:10], IDS[:10])
    with pytest.raises(InputError, match="OOF of t0001 is of other images"):
        BlendGain(run)(["t0000", "t0001"])


@pytest.mark.parametrize(
    ("search", "comparable"),
    [
        ({"validation.seed": {"choice": [1, 2]}}, True),
        ({"validation.splitter": {"choice": ["group", "image"]}}, True),
        ({"validation.splitter": {"choice": ["group", "holdout"]}}, False),
        ({"validation.splitter": {"constant": "holdout"}, "validation.seed": {"choice": [1, 2]}}, False),
    ],
)
def test_trials_must_be_scored_on_the_same_images(search: dict[str, object], comparable: bool) -> None:
    space = Space.parse({"base": {}, "search": search})
    if comparable:
        check_comparable(space)
    else:
        with pytest.raises(InputError, match="--objective blend: trials of this space are scored on different images"):
            check_comparable(space)
