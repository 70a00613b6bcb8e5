"""`forage predict --maps`: pictures beside the submission, refused before anything is computed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import forage.blending.prediction
from ensemble.blend.blend import Blend
from pasture.dataset import read_test


def test_a_blend_without_a_density_head_is_refused_in_one_line(
    shell: Any, blend: Blend, paddocks: Path, tmp_path: Path
) -> None:
    said = shell("predict", blend.folder, paddocks, "--out", tmp_path / "s.csv", "--maps", tmp_path / "maps")
    assert said.status == 2
    assert "no member has a density head" in said.err
    assert said.err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_file_is_no_folder(shell: Any, blend: Blend, paddocks: Path, tmp_path: Path) -> None:
    (tmp_path / "maps").write_text("")
    said = shell("predict", blend.folder, paddocks, "--out", tmp_path / "s.csv", "--maps", tmp_path / "maps")
    assert said.status == 2
    assert "--maps" in said.err
    assert "is a file; expected a folder" in said.err


@pytest.mark.heavy
def test_a_picture_for_every_photograph(
    shell: Any, blend: Blend, paddocks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = read_test(paddocks).ids
    monkeypatch.setattr(forage.blending.prediction, "density_members", lambda _: [])
    monkeypatch.setattr(forage.blending.prediction, "density_maps", lambda *_: ((i, np.ones((2, 4, 5))) for i in ids))
    said = shell("predict", blend.folder, paddocks, "--out", tmp_path / "s.csv", "--maps", tmp_path / "maps")
    assert said.status == 0
    assert sorted(path.name for path in (tmp_path / "maps").iterdir()) == sorted(f"{i}.png" for i in ids)
    assert (tmp_path / "s.csv").is_file()
