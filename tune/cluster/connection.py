"""Connecting to Ray and checking its nodes."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from importlib.metadata import version

import ray
import ray.exceptions
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pasture.errors import InputError, JobError
from trainables.recipe.versions import check_machine
from tune.cluster.code_shipping import shipped

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

_ANSWER_SECONDS = 120


@contextmanager
def connect(address: str, ship_code: bool = False) -> Iterator[None]:
    """A session with Ray, on this machine (`local`), the running cluster (`auto`) or one by address.

    Args:
        address: of Ray.
        ship_code: send forage's own code to the nodes of a cluster.

    Raises:
        InputError: there is no cluster at that address, it is Ray Client's, or a node has another forage, or none.
        JobError: Ray does not start here.
    """
    os.environ.update({name: value for name, value in _SETTINGS.items() if name not in os.environ})
    logging.getLogger("ray").setLevel(logging.ERROR)
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # a trial's end is told by its record, in one line
    if ship_code and address == "local":
        raise InputError("--ship-code is for the nodes of a cluster: give its --address, too")
    if address.startswith("ray://"):
        # It would run Tune, and with it the ledger, on the head; and this machine, which has the data, the lock and the
        # signals, would be no node of the cluster.
        raise InputError(
            f"--address {address}: forage does not run through Ray Client; run it on a node of the cluster with "
            "--address HOST:PORT, or as a job with `ray job submit` (deploy/submit.sh)"
        )
    _check_answers(address)
    try:
        # address="local" starts a Ray of our own even where the address file of a dead one still lies about.
        dashboard = False if address == "local" else None
        with shipped() if ship_code else nullcontext() as environment:
            ray.init(
                address=address,
                include_dashboard=dashboard,
                runtime_env=environment,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
    except (ConnectionError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        if address == "local":
            raise JobError(f"Ray does not start on this machine: {reason}") from None
        raise InputError(
            f"--address {address}: no Ray cluster answers there ({reason}); if it is up, it may ask for a token: set "
            "RAY_AUTH_MODE=token and RAY_AUTH_TOKEN"
        ) from None
    try:
        if address != "local":
            _check_nodes()
        yield
    finally:
        ray.shutdown()


def _check_answers(address: str) -> None:
    """Knock at HOST:PORT: Ray itself would try for a quarter of an hour before it says that nobody is there."""
    host, _, port = address.rpartition(":")
    if not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise InputError(f"--address {address}: no Ray cluster answers there ({error})") from None


def _check_nodes() -> None:
    """Ask all nodes for their version of forage.

    Raises:
        InputError: a node has none, or another one than this machine, or lacks a library; each is named.
    """
    task = ray.remote(num_cpus=0, max_retries=0)(check_machine)
    answers = {}
    for node in ray.nodes():
        if node["Alive"]:
            there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            answer = task.options(scheduling_strategy=there).remote(version("forage"))
            answers[node["NodeID"]] = answer
    refusals = {node: reason for node, answer in answers.items() if (reason := _refusal(answer))}
    # Asked anew: a node that has died is known to only after a while, and what it did not answer is no matter.
    nodes = {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]}
    if told := [f"node {nodes[node]} {reason}" for node, reason in refusals.items() if node in nodes]:
        raise InputError("; ".join(told))


def _refusal(answer: ray.ObjectRef) -> str:
    """Why a node cannot work for this sweep; empty where it can."""
    try:
        ray.get(answer, timeout=_ANSWER_SECONDS)
    except ray.exceptions.RayError as error:
        cause = error.cause if isinstance(error, ray.exceptions.RayTaskError) else error
        if "No module named 'trainables'" in str(cause):
            return f"has no forage: install {version('forage')} there, or send it along with --ship-code"
        return f"cannot work for this sweep: {str(cause).strip().splitlines()[-1]}"
    return ""
