"""A run directory as a sweep leaves it, and a way to call the command line as a shell would."""

from __future__ import annotations

import shutil
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer

import forage.cli
from pasture.run_folder import RunFolder
from search_spaces.catalogue import load_space
from trainables.recipe.recipe import Recipe
from tune.records.ledger import Ledger
from tune.records.plan import Plan


class Said(NamedTuple):
    """What a command left behind."""

    status: int
    out: str
    err: str


Shell = Callable[..., Said]


@pytest.fixture(scope="session")
def built_app() -> Any:
    """The command line, which Typer would build anew for each call."""
    return typer.main.get_command(forage.cli.app)


@pytest.fixture
def shell(built_app: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    """`shell("check", data)`: forage in this process; exit status, standard output and standard error."""

    def call(*words: object) -> Said:
        with monkeypatch.context() as patch:
            patch.setattr(forage.cli, "app", built_app)
            patch.setattr(warnings, "showwarning", warnings.showwarning)
            patch.setattr(sys, "argv", ["forage", *map(str, words)])
            with pytest.raises(SystemExit) as caught:
                forage.cli.main()
        captured = capsys.readouterr()
        return Said(int(caught.value.code or 0), captured.out, captured.err)

    return call


def report(epoch: int, score: float, best_epoch: int) -> dict[str, Any]:
    """What a trial reports after an epoch."""
    targets = {f"r2_{t}": score - 0.1 for t in ("Dry_Green_g", "Dry_Dead_g", "Dry_Clover_g", "GDM_g", "Dry_Total_g")}
    return {"epoch": epoch, "score": score, "epoch_score": score, "best_epoch": best_epoch, "seconds": 1.5, **targets}


@pytest.fixture
def swept(finished_run: RunFolder, paddocks: Path, tmp_path: Path) -> RunFolder:
    """A run of five trials: three complete (t0001 is best), t0003 pruned, t0004 failed. May be changed."""
    run = RunFolder(shutil.copytree(finished_run.folder.path, tmp_path / "runs" / "run"))
    fingerprint = run.read_oof("t0000").metadata["fingerprint"]
    space = load_space("demo").to_dict()
    facts = {"data": str(paddocks), "fingerprint": fingerprint, "versions": {"forage": "0"}}
    Plan(trials=5, space=space, search="optuna", seed=0, **facts).write(run)
    ledger = Ledger(run)
    for trial, score in (("t0000", 0.3), ("t0001", 0.5), ("t0002", 0.4)):
        params = {"optimizer.head_lr": score / 100, "loss.consistency": 0.05 if score < 0.4 else 0.1}
        record = ledger.propose(params, Recipe.parse(run.read_oof(trial).metadata["recipe"]))
        record.status = "COMPLETE"
        for epoch in (1, 2):
            record.report(report(epoch, score - 0.1 * (2 - epoch), epoch))
        ledger.write(record)
    pruned = ledger.propose({"optimizer.head_lr": 1.0, "loss.consistency": 0.05}, Recipe())
    pruned.status = "PRUNED"
    pruned.report(report(1, -20.0, 1))
    ledger.write(pruned)
    ledger.propose({"loss.consistency": 0.1}, None, "head.hidden: no <script>alert(1)</script> & no layers")
    ledger.write_table()
    return run
