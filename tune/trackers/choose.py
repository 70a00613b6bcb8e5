"""Names of the trackers, whether each can be used here, and where it writes."""

from __future__ import annotations

import importlib.util
import os
import threading
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from pasture.errors import InputError
from pasture.run_folder import RunFolder
from tune.records.plan import TrackerName
from tune.trackers.tracker import Tracker

_MODULES: Final[dict[TrackerName, str]] = {"tensorboard": "tensorboardX", "wandb": "wandb", "mlflow": "mlflow"}
"""The module that each tracker needs."""

_IDENTITY: Final = threading.Lock()
_MLFLOW_DEFAULTS: Final = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # a server that is down is given up after seconds, not minutes
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}


def check_packages(names: Sequence[TrackerName], option: str = "--track") -> None:
    """Check that the packages of some trackers are installed.

    Raises:
        InputError: one is not; the message says how to install it.
    """
    for name in names:
        module = _MODULES.get(name)
        if module and importlib.util.find_spec(module) is None:
            raise InputError(f"{option} {name}: needs the package {module}; pip install 'pasture-forage[trackers]'")


def check_trackers(names: Sequence[TrackerName], run: RunFolder) -> None:
    """Check, before a sweep begins, that some trackers can be used for a run.

    Raises:
        InputError: a missing package, a missing login, or a tracker that cannot write to an object store.
    """
    check_packages(names)
    if not run.folder.is_local:
        if "tensorboard" in names:
            raise InputError(
                f"--track tensorboard: writes to local run directories only, not to {run}; use "
                f"`forage export {run} --to tensorboard --out DIR`, also while the sweep runs"
            )
        if "mlflow" in names and not os.environ.get("MLFLOW_TRACKING_URI"):
            raise InputError(f"--track mlflow: {run} is not local; set MLFLOW_TRACKING_URI to the store to write to")
    if "wandb" in names:
        from tune.trackers.wandb_runs import check_login

        check_login()


def open_tracker(name: TrackerName, run: RunFolder, folder: Path | None = None) -> Tracker:
    """A tracker that writes what is known of a run's trials, beside what it has of them already.

    Args:
        name: which one.
        run: the run directory.
        folder: where `tensorboard` and `mlflow` write; None for `trackers` in the run directory, and for `mlflow` for
            MLFLOW_TRACKING_URI if that is set.
    """
    local = Path(run.trackers.path) if run.folder.is_local else Path()
    if name == "csv":
        from tune.trackers.csv_files import CsvTracker

        return CsvTracker(run.trackers / "csv")
    if name == "tensorboard":
        from tune.trackers.tensorboard import TensorBoardTracker

        return TensorBoardTracker(folder or local / "tensorboard")
    if name == "wandb":
        from tune.trackers.wandb_runs import WandbTracker

        return WandbTracker(local, run.name, identity(run))
    for variable, value in _MLFLOW_DEFAULTS.items():
        os.environ.setdefault(variable, value)
    from tune.trackers.mlflow_store import MlflowTracker

    return MlflowTracker(mlflow_uri(run, folder), run.name, identity(run))


def mlflow_uri(run: RunFolder, folder: Path | None = None) -> str:
    """Of the MLflow store: in the folder, if given, else MLFLOW_TRACKING_URI, else in the run directory."""
    if folder is None and (uri := os.environ.get("MLFLOW_TRACKING_URI")):
        return uri
    folder = folder or Path(run.trackers.path)
    folder.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{folder.absolute()}/mlflow.db"


def identity(run: RunFolder) -> str:
    """A random name that stays with the run directory when that is moved or renamed."""
    with _IDENTITY:  # two trackers begin in two threads
        if not run.trackers.exists("id"):
            run.trackers.write("id", uuid.uuid4().hex[:12].encode())
        return run.trackers.read("id").decode().strip()
