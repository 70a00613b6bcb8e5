"""Boosting on features: settings that hold for very few rows, and state that is bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pasture.targets import Array
from trainables.fitted.boosting import Boosting

KINDS = ("lightgbm", "catboost")
NAMES = ["Dry_Total_g", "GDM_g"]


def _problem(rows: int, width: int = 12) -> tuple[Array, Array]:
    generator = np.random.default_rng(rows)
    features = generator.normal(size=(rows, width))
    return features, np.stack([2 * features[:, 0], np.sign(features[:, 1])], axis=1) + 5


def _fit(kind: str, rows: int, width: int = 12, seed: int = 0) -> Boosting:
    model = Boosting(kind, width, NAMES)
    model.fit(_problem(rows, width)[0], None, _problem(rows, width)[1], np.ones(rows), seed)
    return model


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rows", [10, 50, 300])
def test_few_rows_are_enough_to_learn_from(kind: str, rows: int) -> None:
    features, encoded = _problem(rows)
    predicted = _fit(kind, rows)(torch.from_numpy(features)).numpy()
    assert ((predicted - encoded) ** 2).mean() < 0.7 * encoded.var(axis=0).mean()


@pytest.mark.heavy
@pytest.mark.parametrize("kind", KINDS)
def test_thousands_of_features(kind: str) -> None:
    model = _fit(kind, rows=40, width=3000)
    assert torch.isfinite(model(torch.zeros(2, 3000).double())).all()


@pytest.mark.parametrize("kind", KINDS)
def test_each_target_has_its_own_bytes(kind: str) -> None:
    state = _fit(kind, rows=50).state_dict()
    assert {name: state[name].dtype for name in NAMES} == dict.fromkeys(NAMES, torch.uint8)
    assert not torch.equal(state[NAMES[0]][:5000], state[NAMES[1]][:5000])
    start = state[NAMES[0]].numpy().tobytes()[:4]
    assert start == {"lightgbm": b"tree", "catboost": b"CBM1"}[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_fitting_again_forgets_the_former_model(kind: str) -> None:
    features, encoded = _problem(50)
    model = _fit(kind, rows=50)
    before = model(torch.from_numpy(features))
    model.fit(features, None, encoded * 2, np.ones(50), 0)
    torch.testing.assert_close(model(torch.from_numpy(features)), before * 2, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("kind", KINDS)
def test_the_number_of_threads_changes_no_prediction(kind: str) -> None:
    features, before = torch.from_numpy(_problem(50)[0]), torch.get_num_threads()
    try:
        predicted = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            predicted.append(_fit(kind, rows=50)(features))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*predicted)


@pytest.mark.parametrize("kind", KINDS)
def test_no_files_are_left(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    _fit(kind, rows=20)
    assert list(tmp_path.iterdir()) == []
