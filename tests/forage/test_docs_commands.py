"""The commands of the documentation run, on a small run, blend and data folder; sweeps with --dry-run."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest

from ensemble.blend.blend import Blend
from pasture.run_folder import RunFolder

pytestmark = pytest.mark.heavy

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
QUICK = {"check", "status", "trials", "compare", "gc", "config", "recipes", "predict", "sweep", "batch"}
ELSEWHERE = re.compile(
    r"/shared|/kaggle|\.parquet|--given|--maps|\.yaml|runs/theirs|t0007|csiro-|paddocks|fit |--max-seconds"
)
"""What the folder of this test lacks: a cluster, files of the reader, imports, density heads, other data, time."""
DRY = ["--dry-run", "--trials", "2", "--gpus-per-trial", "0", "--set", "validation.splitter=group"]


def commands() -> list[str]:
    """Every command of the pages once that is quick and needs nothing else, in the order of the pages."""
    found: dict[str, None] = {}
    for page in PAGES:
        for block in re.findall(r"(?ms)^ *```bash\n(.*?)^ *```", page.read_text()):
            lines = re.sub(r"\\\n *", "", block).splitlines()
            found |= {line.split("#")[0].strip().removeprefix("forage "): None for line in lines if "forage " in line}
    return [words for words in found if words.split()[0] in QUICK and not ELSEWHERE.search(words)]


@pytest.fixture
def desk(swept: RunFolder, paddocks: Path, blend: Blend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with data/csiro, two runs of five trials and blend."""
    folder = tmp_path / "desk"
    (folder / "data").mkdir(parents=True)
    (folder / "data/csiro").symlink_to(paddocks)
    for name in ("first", "second"):
        shutil.copytree(swept.folder.path, folder / "runs" / name)
    shutil.copytree(blend.folder, folder / "blend")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.chdir(folder)
    return folder


def test_commands_run(desk: Path, shell: Any) -> None:
    for command in commands():
        words = shlex.split(command)
        if words[0] == "sweep":
            words += [*DRY, "--set", "validation.folds=3", "--name", "other"]
        said = shell(*words)
        assert said.status == 0, (command, said.err)
    assert len(commands()) > 15
