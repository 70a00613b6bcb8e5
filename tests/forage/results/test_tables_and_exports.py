"""`forage trials`, `forage export` and `forage watch`."""

from __future__ import annotations

import json
import threading
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import optuna
import pandas as pd
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from forage.results.watch import Watched
from forage.terminal.messages import show_table
from pasture.run_folder import RunFolder
from tune.records.ledger import Ledger
from tune.records.lock import exclusive_lock
from tune.records.preparation import PreparationWriter


def names(said: Any) -> list[str]:
    return [row["trial"] for row in json.loads(said.out)]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], ["t0001", "t0002", "t0000", "t0003", "t0004"]),
        (["--sort", "-score"], ["t0003", "t0000", "t0002", "t0001", "t0004"]),
        (["--where", "score > 0.35"], ["t0001", "t0002"]),
        (["--where", "status == COMPLETE and score <= .4"], ["t0002", "t0000"]),
        (["--where", "backbone.name == test_efficientnet"], ["t0002"]),
        (["--where", "head.hidden == [] and status == COMPLETE"], ["t0001"]),
        (["--where", "status != COMPLETE"], ["t0003", "t0004"]),
    ],
)
def test_rows_and_their_order(shell: Any, swept: RunFolder, options: list[str], expected: list[str]) -> None:
    assert names(shell("trials", swept, *options, "--json")) == expected


def test_columns(shell: Any, swept: RunFolder) -> None:
    (row,) = (line for line in shell("trials", swept, "--columns", "trial,epochs").out.splitlines() if "t0001" in line)
    assert row.split() == ["│", "t0001", "│", "2", "│"]
    rows = json.loads(shell("trials", swept, "--columns", "trial,epochs", "--json").out)
    assert all(set(row) == {"trial", "epochs"} for row in rows)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--where", "scores > 1"], "--where scores: no such column"),
        (["--where", "score"], "expected COLUMN OPERATOR VALUE"),
        (["--where", "score > high"], "compares numbers"),
        (["--sort", "backbone.nam"], "for example backbone.name"),
        (["--columns", "trial,x"], "--columns x: no such column"),
    ],
)
def test_wrong_questions(shell: Any, swept: RunFolder, options: list[str], words: str) -> None:
    said = shell("trials", swept, *options)
    assert said.status == 2
    assert words in said.err


@pytest.mark.heavy
def test_the_optuna_storage_has_states_and_intermediate_values(shell: Any, swept: RunFolder, tmp_path: Path) -> None:
    file = tmp_path / "study.db"
    said = shell("export", swept, "--to", "optuna", "--out", file)
    assert said.status == 0, said.err
    study = optuna.load_study(study_name=None, storage=f"sqlite:///{file}")
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "COMPLETE", "COMPLETE", "PRUNED", "FAIL"]
    assert study.best_trial.user_attrs["trial"] == "t0001"
    assert study.best_value == 0.5
    assert study.trials[3].intermediate_values == {1: -20.0}
    assert study.trials[1].intermediate_values == {1: 0.4, 2: 0.5}
    assert "no layers" in study.trials[4].user_attrs["error"]
    assert study.trials[1].params["optimizer.head_lr"] == 0.005
    again = shell("export", swept, "--to", "optuna", "--out", file)
    assert (again.status, "exists already" in again.err) == (2, True)


@pytest.fixture
def dashboard() -> Iterator[Callable[[str], Callable[[str], Any]]]:
    """`dashboard(storage)(path)`: JSON from optuna-dashboard, started on loopback."""
    import optuna_dashboard  # here: every process of a test run imports this module

    servers: list[WSGIServer] = []

    def start(storage: str) -> Callable[[str], Any]:
        server = make_server("127.0.0.1", 0, optuna_dashboard.wsgi(storage), handler_class=SilentHandler)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)

        def get(path: str) -> Any:
            with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}{path}", timeout=30) as answer:
                return json.loads(answer.read())

        return get

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


class SilentHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """No line for each request."""


@pytest.mark.heavy
def test_optuna_dashboard_opens_the_storage(
    shell: Any, swept: RunFolder, tmp_path: Path, dashboard: Callable[[str], Callable[[str], Any]]
) -> None:
    assert shell("export", swept, "--to", "optuna", "--out", tmp_path / "study.db").status == 0
    get = dashboard(f"sqlite:///{tmp_path}/study.db")
    (study,) = get("/api/studies")["study_summaries"]
    assert study["study_name"] == "run"
    trials = get(f"/api/studies/{study['study_id']}?after=0")["trials"]
    assert Counter(trial["state"] for trial in trials) == {"Complete": 3, "Pruned": 1, "Fail": 1}
    pruned = next(trial for trial in trials if trial["state"] == "Pruned")
    assert [(value["step"], value["value"]) for value in pruned["intermediate_values"]] == [(1, -20.0)]


@pytest.mark.parametrize(("to", "read"), [("csv", pd.read_csv), ("parquet", pd.read_parquet)])
def test_tables(shell: Any, swept: RunFolder, tmp_path: Path, to: str, read: Any) -> None:
    shell("export", swept, "--to", to, "--out", tmp_path / "file")
    table = read(tmp_path / "file")
    assert list(table["trial"]) == [f"t000{i}" for i in range(5)]
    assert list(table["status"]) == ["COMPLETE"] * 3 + ["PRUNED", "FAILED"]


def test_event_files_afterwards(shell: Any, swept: RunFolder, tmp_path: Path) -> None:
    said = shell("export", swept, "--to", "tensorboard", "--out", tmp_path / "events")
    assert (said.status, said.err) == (
        0, f"{tmp_path}/events: 5 trials; open it with: tensorboard --logdir {tmp_path}/events\n"
    )  # fmt: skip
    events = EventAccumulator(f"{tmp_path}/events/t0001")
    events.Reload()
    assert [(point.step, round(point.value, 4)) for point in events.Scalars("val/score")] == [(1, 0.4), (2, 0.5)]
    assert [round(point.value, 4) for point in events.Scalars("val/r2_total")] == [0.3, 0.4]
    before = {path: path.read_bytes() for path in (tmp_path / "events").rglob("*") if path.is_file()}
    assert shell("export", swept, "--to", "tensorboard", "--out", tmp_path / "events").status == 0
    assert {path: path.read_bytes() for path in before} == before, "a second export adds nothing"
    assert shell("export", swept, "--to", "tensorboard").status == 0
    assert len(list(Path(swept.trackers.path).glob("tensorboard/t000*"))) == 5


def test_an_export_that_cannot_be_written(shell: Any, swept: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    said = shell("export", swept, "--to", "tensorboard", "--out", tmp_path / "file")
    assert (said.status, said.err) == (2, f"forage: --out {tmp_path}/file: is a file; expected a folder\n")
    (tmp_path / "events").mkdir()
    (tmp_path / "events" / "t0000").touch()
    said = shell("export", swept, "--to", "tensorboard", "--out", tmp_path / "events")
    assert (said.status, said.err.count("\n")) == (1, 1)
    assert said.err.startswith("forage: --to tensorboard: ")


def test_watching_a_sweep(swept: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    ledger = Ledger(swept)
    record = ledger.records["t0000"]
    record.status, record.waited, record.where = "RUNNING", 7.2, "node-a, GPU 1"
    ledger.write(record)
    watched = Watched(swept, lambda: now[0])
    assert not watched.over
    now[0] = 90.0
    with exclusive_lock(swept):
        watched.read()
    show_table(watched.table())
    shown = capsys.readouterr().out
    assert "4 of 5 trials, ETA about 0:00:02" in shown, "one trial is left, of which the mean was (3 + 3 + 1.5) / 3 s"
    assert "best 0.5000 by t0001" in shown
    (row,) = (line for line in shown.splitlines() if "t0000" in line)
    assert "2/2" in row
    assert "7 s" in row
    assert "node-a, GPU 1" in row
    assert "90 s (quiet)" in row
    record.curve.append(dict(record.curve[-1], epoch=3))
    ledger.write(record)
    watched.read()
    show_table(watched.table())
    assert " 0 s " in capsys.readouterr().out, "a new report"
    record.status = "COMPLETE"
    ledger.write(record)
    watched.read()
    assert watched.over


def test_watch_shows_how_far_features_are(swept: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    ledger = Ledger(swept)
    record = ledger.records["t0000"]
    record.status, record.curve = "RUNNING", []
    ledger.write(record)
    watched = Watched(swept)
    show_table(watched.table())
    assert "first epoch" in capsys.readouterr().out
    PreparationWriter(swept, "t0000", 0)("features", 128, 357)
    with exclusive_lock(swept):
        watched.read()
    show_table(watched.table())
    shown = capsys.readouterr().out
    assert "ETA unknown" in shown, "the seconds of ended trials say nothing about features"
    (row,) = (line for line in shown.splitlines() if "t0000" in line)
    assert "features" in row
    assert "35 %" in row


def test_watch_without_a_terminal_prints_the_table_once(shell: Any, swept: RunFolder) -> None:
    said = shell("watch", swept)
    assert said.status == 0
    assert "5 of 5 trials, over" in said.out
