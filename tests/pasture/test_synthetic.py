"""The synthetic paddocks: the competition's layout, the same bytes every time, pixels that determine the weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from numpy.random import SeedSequence
from numpy.typing import NDArray
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pasture.errors import InputError
from pasture.metric import baseline_r2, weighted_r2
from pasture.synthetic import folder as folder_module
from pasture.synthetic import make_data
from pasture.synthetic.picture import draw_picture
from pasture.synthetic.real_truth import draw_real_truth
from pasture.synthetic.truth import Plot
from pasture.targets import CLOVER, DEAD, GREEN, TARGETS, TOTAL, balance_gap

SMALL = {"width": 128, "height": 64}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("paddocks") / "data"
    make_data(out, images=60, seed=3, width=400, height=200)
    return out


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _wide(folder: Path, table: str) -> pd.DataFrame:
    """One row an image, the five targets in the order of `TARGETS`."""
    long = pd.read_csv(folder / table)
    long[["image_id", "name"]] = long["sample_id"].str.split("__", expand=True)
    return long.pivot(index="image_id", columns="name", values="target")[list(TARGETS)]


def _colour_features(path: Path) -> NDArray[np.float64]:
    """What the eye tells first: mean colour, and how much of the picture is green, very green, straw or dark."""
    picture = cv2.imread(str(path))
    assert picture is not None
    blue, green, red = np.moveaxis(picture.astype(np.float64), -1, 0)
    light = blue + green + red + 1
    excess = (2 * green - red - blue) / light
    fractions = [(excess > limit).mean() for limit in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)]
    straw = [((excess < 0.15) & (light > limit)).mean() for limit in (300, 400, 500)]
    return np.array([blue.mean(), green.mean(), red.mean(), (green / light).mean(), *fractions, *straw, excess.std()])


def _ridge_score(features: NDArray[np.float64], truth: NDArray[np.float64]) -> float:
    model = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-2, 3, 11)))
    folds = KFold(5, shuffle=True, random_state=0)
    return weighted_r2(truth, cross_val_predict(model, features, truth, cv=folds))


def test_same_seed_same_bytes_whatever_the_number_of_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for cores in (4, 1):
        monkeypatch.setattr(folder_module.os, "cpu_count", lambda cores=cores: cores)
        make_data(tmp_path / str(cores), images=6, seed=1, **SMALL)
    assert _contents(tmp_path / "4") == _contents(tmp_path / "1")


def test_another_seed_gives_other_ids_and_other_pictures(tmp_path: Path) -> None:
    for seed in (1, 2):
        make_data(tmp_path / str(seed), images=2, seed=seed, **SMALL)
    one, two = (_contents(tmp_path / str(seed)) for seed in (1, 2))
    assert not {name for name in one if name.endswith(".jpg")} & set(two)
    assert not {data for name, data in one.items() if name.endswith(".jpg")} & set(two.values())
    assert one["hidden_truth.csv"] != two["hidden_truth.csv"]


def test_tables_have_the_layout_of_the_competition(folder: Path) -> None:
    train, test = pd.read_csv(folder / "train.csv"), pd.read_csv(folder / "test.csv")
    submission = pd.read_csv(folder / "sample_submission.csv")
    assert ",".join(train.columns) == (
        "sample_id,image_path,Sampling_Date,State,Species,Pre_GSHH_NDVI,Height_Ave_cm,target_name,target"
    )
    assert list(test.columns) == ["sample_id", "image_path", "target_name"]
    assert list(submission.columns) == ["sample_id", "target"]
    assert (len(train), len(test)) == (5 * 60, 5 * 15)
    assert submission["sample_id"].tolist() == test["sample_id"].tolist()
    assert (submission["target"] == 0).all()
    for table, split in ((train, "train"), (test, "test")):
        assert table["sample_id"].is_unique
        assert table["sample_id"].tolist() == sorted(table["sample_id"])
        assert table["sample_id"].str.fullmatch(r"ID\d{10}__\w+").all()
        image_id = table["sample_id"].str.split("__").str[0]
        assert (table["sample_id"] == image_id + "__" + table["target_name"]).all()
        assert (table["image_path"] == f"{split}/" + image_id + ".jpg").all()
        assert (table.groupby("image_path")["target_name"].agg(set) == set(TARGETS)).all()


def test_every_picture_of_the_tables_is_there_in_the_asked_size(folder: Path) -> None:
    for split, count in (("train", 60), ("test", 15)):
        listed = set(pd.read_csv(folder / f"{split}.csv")["image_path"])
        present = {f"{split}/{path.name}" for path in (folder / split).iterdir()}
        assert listed == present
        assert len(present) == count
        assert {cv2.imread(str(folder / name)).shape for name in present} == {(200, 400, 3)}


def test_what_is_measured_on_a_plot_is_plausible(folder: Path) -> None:
    plots = pd.read_csv(folder / "train.csv").drop_duplicates("image_path")
    assert plots["Sampling_Date"].str.fullmatch(r"2015/[1-9]\d?/[1-9]\d?").all()
    assert plots["Sampling_Date"].nunique() == 15
    assert (plots.groupby("Sampling_Date").size() >= 4).all()
    assert (plots.groupby("Sampling_Date")["State"].nunique() == 1).all()
    assert plots["Pre_GSHH_NDVI"].between(0.1, 0.95).all()
    weights = _wide(folder, "train.csv").to_numpy()
    assert np.corrcoef(plots["Pre_GSHH_NDVI"], weights[:, TARGETS.index("GDM_g")])[0, 1] > 0.5
    assert np.corrcoef(plots["Height_Ave_cm"], weights[:, TARGETS.index("Dry_Total_g")])[0, 1] > 0.3


@pytest.mark.parametrize("table", ["train.csv", "hidden_truth.csv"])
def test_weights_balance_and_are_skewed_with_zeros(folder: Path, table: str) -> None:
    weights = _wide(folder, table)
    assert not weights.isna().any(axis=None)
    assert (weights >= 0).all(axis=None)
    assert balance_gap(weights.to_numpy()).max() < 1e-9
    assert (weights == weights.round(4)).all(axis=None)
    assert weights["Dry_Total_g"].between(1, 130.001).all()
    assert weights["Dry_Green_g"].mean() > weights["Dry_Green_g"].median()
    assert (weights["Dry_Clover_g"] == 0).mean() > 0.2


def test_the_hidden_truth_stands_only_in_its_own_file(folder: Path) -> None:
    truth = pd.read_csv(folder / "hidden_truth.csv")
    assert truth["sample_id"].tolist() == pd.read_csv(folder / "test.csv")["sample_id"].tolist()
    assert not set(truth["sample_id"]) & set(pd.read_csv(folder / "train.csv")["sample_id"])


def test_pixels_determine_the_weights(folder: Path) -> None:
    train = _wide(folder, "train.csv")
    truth = train.to_numpy()
    features = np.array([_colour_features(folder / "train" / f"{image_id}.jpg") for image_id in train.index])
    baseline = baseline_r2(truth)
    shuffled = truth[np.random.default_rng(0).permutation(len(truth))]
    score = _ridge_score(features, truth)
    assert score > baseline + 0.3
    assert _ridge_score(features, shuffled) < baseline + 0.05


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"images": 1}, "images is 1: at least 2 expected"),
        ({"test_images": 0}, "test_images is 0: at least 1 expected"),
        ({"seed": -1}, "seed is -1: at least 0 expected"),
        ({"width": 10}, "width is 10: at least 64 expected"),
    ],
)
def test_numbers_too_small_are_refused(tmp_path: Path, arguments: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_data(tmp_path / "data", **arguments)
    assert not any(tmp_path.iterdir())


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.csv").write_text("mine")
    with pytest.raises(InputError, match="new or empty folder expected"):
        make_data(tmp_path / "data", images=2, **SMALL)
    assert _contents(tmp_path) == {"data/train.csv": b"mine"}


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    make_data(tmp_path, images=2, **SMALL)
    assert len(pd.read_csv(tmp_path / "train.csv")) == 10


def test_a_place_that_cannot_be_written_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written") as refusal:
        make_data(tmp_path / "file" / "data", images=2, **SMALL)
    assert "\n" not in str(refusal.value)


def test_a_run_that_fails_half_way_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(folder_module, "_write_pictures", fail)
    with pytest.raises(KeyboardInterrupt):
        make_data(tmp_path / "data", images=2, **SMALL)
    assert not any(tmp_path.iterdir())


# --- the kind `real`: statistics of the competition's 357 training photographs ---


@pytest.fixture(scope="module")
def real_plots() -> list[list[Plot]]:
    """Training plots of eight seeds."""
    return [draw_real_truth(357, 89, SeedSequence(seed))[0] for seed in range(8)]


def _grams(plots: list[Plot]) -> NDArray[np.float64]:
    return np.array([plot.targets() for plot in plots])


def test_real_weights_have_levels_zeros_and_tails_of_the_competition(real_plots: list[list[Plot]]) -> None:
    grams = [_grams(plots) for plots in real_plots]
    assert all(balance_gap(values).max() < 1e-9 for values in grams)
    total = np.mean([values[:, TOTAL].mean() for values in grams])
    assert 40 < total < 52  # 46 g in the competition's sample
    assert 0.2 < np.mean([baseline_r2(values) for values in grams]) < 0.3  # .25
    every = np.concatenate(grams)
    assert every[:, TOTAL].max() <= 185.01
    assert (every[:, [GREEN, DEAD, CLOVER]] == 0).mean(axis=0) == pytest.approx([0.06, 0.13, 0.45], abs=0.06)
    for target, least in ((CLOVER, 1.8), (DEAD, 1.2), (GREEN, 1.0)):
        values = every[:, target]
        assert ((values - values.mean()) ** 3).mean() / values.std() ** 3 > least


def test_real_dates_differ_in_size_level_season_and_light(real_plots: list[list[Plot]]) -> None:
    between = []
    for plots in real_plots:
        names, dates, sizes = np.unique([p.visit.date for p in plots], return_inverse=True, return_counts=True)
        assert len(names) == 28
        assert sizes.max() > 4 * sizes.min()
        total = _grams(plots)[:, TOTAL]
        means = np.bincount(dates, total) / sizes
        between.append(means[dates].var() / total.var())
        visits = {p.visit.date: p.visit for p in plots}.values()
        assert np.std([v.light.gain for v in visits]) > 0.1
        assert np.std(np.log([v.look.visible for v in visits])) > 0.2
        months = {v.state: set() for v in visits}
        for visit in visits:
            months[visit.state].add(int(visit.date.split("/")[1]))
        assert max(months["NSW"]) <= min(months["Tas"])
    assert 0.6 < np.mean(between) < 0.85  # .78 in the sample


def test_real_states_have_species_of_their_own(real_plots: list[list[Plot]]) -> None:
    plots = [plot for seed in real_plots for plot in seed]
    grams = _grams(plots)
    states = np.array([plot.visit.state for plot in plots])
    assert (grams[states == "WA", DEAD] == 0).all()
    assert (grams[states == "NSW", CLOVER] == 0).all()
    assert grams[states == "WA", CLOVER].mean() > 5 * grams[states == "WA", GREEN].mean()
    level = {state: grams[states == state, TOTAL].mean() for state in ("Tas", "Vic", "NSW", "WA")}
    assert level["NSW"] > level["Vic"] > level["Tas"] > level["WA"]
    species = {s: {p.species.name for p in plots if p.visit.state == s} for s in level}
    assert not species["NSW"] & (species["Tas"] | species["Vic"] | species["WA"])


def test_real_test_dates_are_not_training_dates() -> None:
    train, test = draw_real_truth(60, 20, SeedSequence(0))
    assert (len(train), len(test)) == (60, 20)
    assert not {p.visit.date for p in train} & {p.visit.date for p in test}
    assert len({p.image_id for p in train + test}) == 80


def test_real_data_are_the_same_bytes_for_the_same_seed(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        make_data(tmp_path / name, images=4, seed=seed, like="real", **SMALL)
    a, b, c = (_contents(tmp_path / name) for name in "abc")
    assert a == b
    assert not set(a.values()) & {data for name, data in c.items() if name.endswith(".jpg")}


def test_real_pictures_show_more_plants_for_more_grams_and_hide_some() -> None:
    plot = draw_real_truth(8, 4, SeedSequence(3))[0][0]
    visit = replace(plot.visit, look=replace(plot.visit.look, crowding=0.5, visible=1.0), soil=(90.0, 90.0, 90.0))

    def green(grams: float, **changes: float) -> float:
        picture = draw_picture(replace(plot, visit=visit, green=grams, clover=0, dead=0, **changes), 256, 128)
        blue, green, red = np.moveaxis(picture.astype(np.float64), -1, 0)
        return float((2 * green > 1.1 * (blue + red)).mean())

    assert green(1) < green(4) < green(16)
    assert green(4) < green(4, visible=2.0)
    assert green(16, visible=0.5) == green(4, visible=1.0)  # half as many plants for a gram, four times the grams


def test_the_number_of_pictures_depends_on_the_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_module, "_write_pictures", lambda *_: None)
    assert make_data(tmp_path / "demo") == 64
    assert make_data(tmp_path / "real", like="real") == 357
    assert pd.read_csv(tmp_path / "real" / "train.csv")["Sampling_Date"].nunique() == 28
