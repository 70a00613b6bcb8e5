"""Connecting to Ray, and whether it has what a trial asks for."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import ray

from pasture.errors import InputError, JobError

# Ray's own progress, loggers, signal handler, metric checks and snapshots are not wanted: the ledger is what a run is
# watched by and resumed from.
_SETTINGS = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_GLOBAL_CHECKPOINT_S": str(10**9),
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}


@contextmanager
def connect(address: str) -> Iterator[None]:
    """A session with Ray, on this machine (`local`), the running cluster (`auto`) or one by address.

    Raises:
        InputError: there is no cluster at that address.
        JobError: Ray does not start here.
    """
    os.environ.update({name: value for name, value in _SETTINGS.items() if name not in os.environ})
    logging.getLogger("ray").setLevel(logging.ERROR)
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # a trial's end is told by its record, in one line
    _check_answers(address)
    try:
        # address="local" starts a Ray of our own even where the address file of a dead one still lies about.
        dashboard = False if address == "local" else None
        ray.init(address=address, include_dashboard=dashboard, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        if address == "local":
            raise JobError(f"Ray does not start on this machine: {reason}") from None
        raise InputError(f"--address {address}: no Ray cluster answers there ({reason})") from None
    try:
        yield
    finally:
        ray.shutdown()


def _check_answers(address: str) -> None:
    """Knock at HOST:PORT: Ray itself would try for a quarter of an hour before it says that nobody is there."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise InputError(f"--address {address}: no Ray cluster answers there ({error})") from None


def trial_resources(cpus: float, gpus: float | None) -> dict[str, float]:
    """The bundle that each trial asks Ray for; without `gpus`, one GPU where the cluster has any.

    Raises:
        InputError: no node can ever hold a trial, naming the resource and what there is.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if gpus is None:
        gpus = float(any(node.get("GPU", 0) >= 1 for node in nodes))
    asked = {"CPU": float(cpus), "GPU": float(gpus)}
    if not any(asked.values()):
        raise InputError("a trial of 0 CPU and 0 GPU has nothing to run on; raise --cpus-per-trial")
    if not any(all(node.get(name, 0) >= amount for name, amount in asked.items()) for node in nodes):
        has = "; ".join(f"{node.get('CPU', 0):g} CPU, {node.get('GPU', 0):g} GPU" for node in nodes)
        raise InputError(
            f"no node can hold a trial of {cpus:g} CPU and {gpus:g} GPU: the cluster's nodes have {has}; "
            "lower --cpus-per-trial or --gpus-per-trial"
        )
    return {name: amount for name, amount in asked.items() if amount}
