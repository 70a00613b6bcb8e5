"""An MLflow store in the run directory, written live and read back."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from forage.results.export import export_to_tracker
from pasture.run_folder import RunFolder
from tune.records.ledger import Ledger
from tune.trackers.live import LiveTrackers

Follow = Callable[..., None]


@pytest.mark.heavy
def test_the_store_has_one_run_a_trial(
    golden: RunFolder, follow_two_sessions: Follow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    follow_two_sessions("mlflow")
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{golden}/trackers/mlflow.db")
    (experiment,) = [e for e in client.search_experiments() if e.name == "run"]
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert {name: (run.info.status, run.data.tags["forage.status"]) for name, run in runs.items()} == {
        "t0000": ("FINISHED", "COMPLETE"), "t0001": ("FINISHED", "COMPLETE"),
        "t0002": ("KILLED", "PRUNED"), "t0003": ("FAILED", "FAILED"),
    }  # fmt: skip
    assert "an example of an error" in runs["t0003"].data.tags["forage.error"]
    assert runs["t0001"].data.params["head.kind"] == "mlp"
    history = client.get_metric_history(runs["t0001"].info.run_id, "val/r2_total")
    curve = Ledger(golden).records["t0001"].curve
    assert [(point.step, point.value) for point in history] == [(e["epoch"], e["r2_Dry_Total_g"]) for e in curve]
    # An export into the same store finds everything there.
    assert export_to_tracker(golden, "mlflow", None) == (f"sqlite:///{golden}/trackers/mlflow.db", 4)
    again = client.search_runs([experiment.experiment_id])
    assert {run.info.run_id for run in again} == {run.info.run_id for run in runs.values()}
    assert client.get_metric_history(runs["t0001"].info.run_id, "val/r2_total") == history


@pytest.mark.heavy
def test_a_server_that_is_down_is_said_once(golden: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    said: list[str] = []
    ledger = Ledger(golden)
    with LiveTrackers(["mlflow", "csv"], golden, ledger, said.append) as trackers:
        for record in ledger.records.values():
            trackers.watch(record)
    (line,) = said
    assert line.startswith("warning: --track mlflow has stopped, the sweep goes on (")
    assert line.endswith(f"`forage resume {golden}` writes what is missing")
    assert golden.trackers.exists("csv/t0001.csv"), "another tracker is not affected"
