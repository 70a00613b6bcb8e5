"""`forage predict` within limits, and what `forage ensemble` measures."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ensemble.blend.blend import Blend
from ensemble.prediction.prefix import Seconds
from forage.blending.limits import after_build, prefix_table
from forage.terminal.messages import show_table
from pasture.errors import InputError


@pytest.mark.heavy
def test_predict_within_limits(
    shell: Callable[..., Any], blend: Blend, paddocks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "submission.csv"
    said = shell("predict", blend.folder, paddocks, "--out", out, "--max-members", 2)
    assert (said.status, out.exists()) == (0, True)
    assert "2 of 3 members" in said.err
    seconds = Seconds(np.array([1.0, 2.0, 3.0]), np.zeros(3))
    monkeypatch.setattr("forage.blending.limits.measure", lambda *_: seconds)
    said = shell("predict", blend.folder, paddocks, "--out", out, "--max-seconds", 2.5)
    assert "2 of 3 members" in said.err
    assert "about 2.0 s instead of 3.0 s" in said.err
    said = shell("predict", blend.folder, paddocks, "--out", out, "--max-seconds", 0.5)
    assert (said.status, said.err.count("\n")) == (2, 1)


def test_seconds_of_every_prefix_are_added_to_the_blend(
    blend: Blend, paddocks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = Blend.read(Path(shutil.copytree(blend.folder, tmp_path / "copy")))
    seconds = Seconds(np.array([1.0, 2.0, 3.0]), np.array([0.1, 0.2, 0.3]))
    monkeypatch.setattr("forage.blending.limits.measure", lambda *_: seconds)
    timed = after_build(copy, [], paddocks, half=False, timed=True)
    written = json.loads((copy.folder / "blend.json").read_text())["scores"]["prefixes"]
    assert written == timed.estimate["prefixes"] == Blend.read(copy.folder).estimate["prefixes"]
    assert [(p["members"], p["seconds_per_photograph"], p["seconds_to_start"]) for p in written] == [
        (1, 0.1, 1.0),
        (2, 0.2, 2.0),
        (3, 0.3, 3.0),
    ]
    show_table(prefix_table(timed))
    printed = capsys.readouterr().out
    assert f"{written[1]['fitted']:.4f}" in printed
    assert "0.200" in printed
    with pytest.raises(InputError, match="give their folder with --data"):
        after_build(copy, [], None, half=True, timed=False)
