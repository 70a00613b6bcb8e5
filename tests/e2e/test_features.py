"""Embeddings made elsewhere, from import to submission, without a single picture."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from pasture.dataset import read_test, read_train
from pasture.metric import baseline_r2, weighted_r2
from pasture.targets import TARGETS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

Forage = Callable[..., subprocess.CompletedProcess[str]]

SPACE = {
    "base": {
        "view": {"kind": "whole"},
        "backbone": {"name": "bank:elsewhere"},
        "head": {"kind": "ridge"},
        "validation": {"folds": 3},
    },
    "search": {"target.transform": {"choice": ["none", "log1p"]}},
}


def test_embeddings_instead_of_pictures(forage: Forage, data: Path, tmp_path: Path) -> None:
    labelled, test = read_train(data), read_test(data)
    hidden = pd.read_csv(data / "hidden_truth.csv")
    hidden[["image_id", "target_name"]] = hidden["sample_id"].str.rsplit("__", n=1, expand=True)
    truth = hidden.pivot(index="image_id", columns="target_name", values="target").loc[test.ids, list(TARGETS)]
    # Embeddings that know the weights but for some noise, in an order of their own.
    grams = np.concatenate([labelled.targets, truth.to_numpy()])
    generator = np.random.default_rng(0)
    mixed = (grams @ generator.normal(size=(5, 20))) * (1 + 0.02 * generator.normal(size=(len(grams), 20)))
    order = generator.permutation(len(grams))
    np.save(tmp_path / "e.npy", (mixed / mixed.std())[order])
    (tmp_path / "ids.txt").write_text("\n".join(np.array([*labelled.ids, *test.ids])[order]))
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("train.csv", "test.csv", "sample_submission.csv"):
        (bare / name).write_text((data / name).read_text())
    (tmp_path / "space.yaml").write_text(yaml.safe_dump(SPACE))

    words = ("--trials", 2, "--search", "random", "--cpus-per-trial", os.cpu_count())
    sweep = ("sweep", bare, "--space", tmp_path / "space.yaml", *words)
    said = forage(*sweep, "--runs", tmp_path, "--name", "early")
    assert said.returncode == 2
    assert "bank:elsewhere: no such bank (none was imported); run `forage features import` first" in said.stderr
    said = forage("features", "import", tmp_path / "e.npy", "--ids", tmp_path / "ids.txt", "--name", "elsewhere")
    assert said.returncode == 0, said.stderr
    for words in (
        (*sweep, "--runs", tmp_path, "--name", "run"),
        ("ensemble", tmp_path / "run", "--out", tmp_path / "blend"),
        ("predict", tmp_path / "blend", bare, "--out", tmp_path / "submission.csv"),
    ):
        said = forage(*words)
        assert said.returncode == 0, said.stderr
    assert (tmp_path / "run/banks/elsewhere.safetensors").exists()
    rows = pd.read_csv(tmp_path / "submission.csv").merge(hidden, on="sample_id")
    predicted = rows.pivot(index="image_id", columns="target_name", values="target_x").loc[test.ids, list(TARGETS)]
    score = weighted_r2(truth.to_numpy(), predicted.to_numpy())
    assert score > 0.8 > baseline_r2(truth.to_numpy())

    # Other embeddings of the same name and shape are not what the members were trained on.
    np.save(tmp_path / "e.npy", (2 * mixed / mixed.std())[order])
    forage("features", "import", tmp_path / "e.npy", "--ids", tmp_path / "ids.txt", "--name", "elsewhere")
    said = forage("predict", tmp_path / "blend", bare, "--out", tmp_path / "other.csv")
    assert said.returncode == 2
    assert "bank:elsewhere has other embeddings than" in said.stderr
