"""`forage features` and the cache's limit."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from trainables.features import embeddings
from trainables.images.array_cache import entries

TINY = ("--set", "backbone.name=test_resnet", "--set", "backbone.weights=none", "--set", "view.size=32")


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORAGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("FORAGE_CACHE_LIMIT", raising=False)


def test_build_then_list(shell: Any, paddocks: Path, tmp_path: Path) -> None:
    assert "0 GB of at most 50 GB" in shell("features", "list").out
    said = shell("features", "build", paddocks, "--recipe", "feature_ridge", *TINY)
    assert (said.status, said.out) == (0, "")
    assert f"features of 24 photographs are in {tmp_path / 'cache'}" in said.err
    kept = json.loads(shell("features", "list", "--json").out)["kept"]
    assert {row["kind"] for row in kept} == {"features", "views"}
    features = next(row for row in kept if row["kind"] == "features")
    assert (features["of"], features["shape"][:2]) == ("test_resnet", [24, 8])
    assert "test_resnet" in shell("features", "list").out
    # A trained backbone has no features to keep: its pictures are decoded.
    said = shell("features", "build", paddocks, "--recipe", "feature_ridge", *TINY[:4], "--set", "view.size=40",
                 "--set", "head.kind=mlp", "--set", "backbone.tuning=full")  # fmt: skip
    assert "decoded pictures (the backbone is trained) of 24 photographs" in said.err
    assert [e.kind for e in entries()].count("views") == 2


@pytest.mark.parametrize("kind", ["npy", "parquet"])
def test_import(shell: Any, tmp_path: Path, kind: str) -> None:
    values = np.arange(12.0).reshape(3, 4)
    file = tmp_path / f"embeddings.{kind}"
    words: tuple[object, ...] = ()
    if kind == "npy":
        np.save(file, values)
        (tmp_path / "ids.txt").write_text("a\nb\nc\n")
        words = ("--ids", tmp_path / "ids.txt")
    else:
        pd.DataFrame({"image_id": list("abc"), **{f"f{i}": values[:, i] for i in range(4)}}).to_parquet(file)
    said = shell("features", "import", file, *words, "--name", "mine")
    assert (said.status, said.out) == (0, "")
    assert "bank:mine: 3 photographs, 1 element(s) of D4, 1 view(s), 4 features" in said.err
    assert embeddings.read("mine").features[:, 0, 0].tolist() == values.tolist()
    assert json.loads(shell("features", "list", "--json").out)["imported"] == {"mine": [3, 1, 1, 4]}
    assert "bank:mine" in shell("features", "list").out


def test_bad_files_are_one_line(shell: Any, tmp_path: Path) -> None:
    array, ids = tmp_path / "a.npy", tmp_path / "ids.txt"
    np.save(array, np.zeros((2, 3)))
    ids.write_text("a b c")
    (tmp_path / "bad.npy").write_bytes(b"no array")
    (tmp_path / "bad.parquet").write_bytes(b"no table")
    (tmp_path / "a.csv").write_text("x")
    pd.DataFrame({"f": [1.0]}).to_parquet(tmp_path / "nameless.parquet")
    pd.DataFrame({"image_id": ["a"], "f": ["word"]}).to_parquet(tmp_path / "words.parquet")
    np.save(tmp_path / "pickled.npy", np.array([{}], dtype=object), allow_pickle=True)
    for words, message in (
        ((tmp_path / "none.npy", "--ids", ids), "no such file"),
        ((array,), "give --ids FILE"),
        ((array, "--ids", tmp_path / "none.txt"), "give --ids FILE"),
        ((array, "--ids", ids), "3 ids for 2 rows"),
        ((tmp_path / "bad.npy", "--ids", ids), "not a readable .npy file"),
        ((tmp_path / "pickled.npy", "--ids", ids), "not a readable .npy file"),
        ((tmp_path / "bad.parquet",), "not a readable Parquet file"),
        ((tmp_path / "a.csv",), "expected a .npy or a .parquet file"),
        ((tmp_path / "nameless.parquet",), "no column image_id"),
        ((tmp_path / "words.parquet",), "column f is not numeric"),
    ):
        said = shell("features", "import", *words, "--name", "mine")
        assert said.status == 2, message
        assert message in said.err
        assert said.err.count("\n") == 1


@pytest.mark.heavy
def test_the_limit_is_handed_on(shell: Any, paddocks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORAGE_CACHE_LIMIT", "7")  # so that what the command sets is undone after the test
    words = ("features", "build", paddocks, "--recipe", "feature_ridge", *TINY, "--cache-limit")
    said = shell(*words, "0.000001")
    assert (said.status, said.err.count("\n")) == (1, 1)
    assert "raise --cache-limit" in said.err
    assert shell(*words, "2").status == 0
    assert os.environ["FORAGE_CACHE_LIMIT"] == "2.0"
    said = shell(*words, "-1")
    assert (said.status, "--cache-limit -1: expected a positive number of GB" in said.err) == (2, True)
