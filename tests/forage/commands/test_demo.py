"""The demo: the whole job, and a folder that is not its own left alone."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

import forage.commands.demo
from pasture.errors import InputError


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="holds no demo"):
        forage.commands.demo.run(tmp_path, print)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_an_earlier_demo_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object, **__: object) -> None:
        raise InputError("far enough")

    monkeypatch.setattr(forage.commands.demo, "make_data", stop)
    for _ in range(2):
        with pytest.raises(InputError, match="far enough"):
            forage.commands.demo.run(tmp_path / "demo", print)
        assert [path.name for path in (tmp_path / "demo").iterdir()] == [".forage-demo"]
        (tmp_path / "demo" / "old.txt").write_text("old")


@pytest.mark.slow
def test_the_whole_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small demo; whether the blend beats the baseline is for the full one, which is large enough to tell."""
    monkeypatch.setenv("FORAGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(forage.commands.demo, "IMAGES", 16)
    monkeypatch.setattr(forage.commands.demo, "TRIALS", 2)
    said: list[str] = []
    forage.commands.demo.run(tmp_path / "demo", said.append)
    text = "\n".join(said)
    for name in ("submission.csv", "blend", "run", "run/report.html", "blend/report.html"):
        assert str(tmp_path / "demo" / name) in text
        assert (tmp_path / "demo" / name).exists()
    assert "the blend scores" in text
    assert "the training means score" in text
    asked = pd.read_csv(tmp_path / "demo" / "data" / "sample_submission.csv")
    submission = pd.read_csv(tmp_path / "demo" / "submission.csv")
    assert list(submission["sample_id"]) == list(asked["sample_id"])
    assert submission["target"].ge(0).all()
