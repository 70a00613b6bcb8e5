"""Connecting to Ray and checking its nodes."""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Protocol

import ray
import ray.exceptions
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pasture.errors import ForageError, InputError, JobError
from trainables.recipe.versions import check_machine, forage_version
from tune.cluster.code_shipping import shipped

# Turn off Ray's own progress output, loggers, signal handler, metric checks and snapshots: forage shows and resumes a
# run from the ledger. Start no worker processes before they are needed. How many trials wait for one is limited by
# `CapacityLimiter`.
_SETTINGS = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_prestart_worker_first_driver": "0",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_GLOBAL_CHECKPOINT_S": str(10**9),
    "TUNE_MAX_PENDING_TRIALS_PG": str(10**6),
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}

_ANSWER_SECONDS = 120


class Connection(Protocol):
    """How a sweep reaches Ray."""

    @property
    def local(self) -> bool:
        """Whether all of Ray runs on this machine, so that no node needs the data from the driver."""

    @property
    def on_loss(self) -> Callable[[JobError], None] | None:
        """Called from another thread when Ray has died; None to raise the error in the thread that runs the sweep."""

    def open(self) -> AbstractContextManager[None]:
        """A session with Ray."""


@dataclass(frozen=True)
class RayConnection:
    """Connects to Ray and disconnects at the end.

    Attributes:
        address: `local` starts a Ray on this machine, `auto` finds the running cluster, else HOST:PORT.
        ship_code: send forage's own code to the nodes of a cluster.
        on_loss: see `Connection.on_loss`.
    """

    address: str = "local"
    ship_code: bool = False
    on_loss: Callable[[JobError], None] | None = None

    @property
    def local(self) -> bool:
        """Whether all of Ray runs on this machine."""
        return self.address == "local"

    @contextmanager
    def open(self) -> Iterator[None]:
        """Connect, check the nodes, and disconnect at the end.

        Raises:
            InputError: there is no cluster at that address, it is Ray Client's, or a node lacks forage or has another
                version.
            JobError: Ray does not start here.
        """
        _set_up()
        self._check_address()
        self._connect()
        try:
            if not self.local:
                _check_nodes()
            yield
        finally:
            ray.shutdown()

    def _check_address(self) -> None:
        if self.ship_code and self.local:
            raise InputError("--ship-code is for the nodes of a cluster: give its --address, too")
        if self.address.startswith("ray://"):
            # It would run Tune, and with it the ledger, on the head; and this machine, which has the data, the lock and
            # the signals, would be no node of the cluster.
            raise InputError(
                f"--address {self.address}: forage does not run through Ray Client; run it on a node of the cluster "
                "with --address HOST:PORT, or as a job with `ray job submit` (deploy/submit.sh)"
            )
        _check_answers(self.address)

    def _connect(self) -> None:
        try:
            with shipped() if self.ship_code else nullcontext() as environment:
                # address="local" starts a new Ray even if a dead one has left its address file.
                context = ray.init(
                    address=self.address,
                    include_dashboard=False if self.local else None,
                    runtime_env=environment,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                )
            if context.dashboard_url:
                print(f"Ray's dashboard: http://{context.dashboard_url}", file=sys.stderr)
        except ForageError:
            raise
        except Exception as error:  # Ray raises a plain Exception where its processes take too long to start
            reason = " ".join(str(error).split())[:200]
            if self.local:
                raise JobError(f"Ray does not start on this machine: {reason}") from None
            raise InputError(
                f"--address {self.address}: no Ray cluster answers there ({reason}); expected auto or HOST:PORT; if "
                "the cluster is up, it may ask for a token: set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN"
            ) from None


@dataclass(frozen=True)
class ExistingRay:
    """Uses the Ray that this process is connected to and leaves it connected: for several sweeps in one session.

    Attributes:
        local: whether all of it runs on this machine.
        on_loss: see `Connection.on_loss`.
    """

    local: bool = True
    on_loss: Callable[[JobError], None] | None = None

    @contextmanager
    def open(self) -> Iterator[None]:
        """Check that there is a session.

        Raises:
            JobError: this process is not connected to Ray.
        """
        if not ray.is_initialized():
            raise JobError("this process is not connected to Ray: call ray.init() first")
        _set_up()
        yield


def _set_up() -> None:
    os.environ.update({name: value for name, value in _SETTINGS.items() if name not in os.environ})
    logging.getLogger("ray").setLevel(logging.ERROR)
    # The end of a trial is shown in one line from its record.
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)


def _check_answers(address: str) -> None:
    """Try to connect to HOST:PORT: Ray itself would try for 15 minutes before it says that nothing listens there."""
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
        InputError: a node has no forage, another version than this machine, or lacks a library; each is named.
    """
    task = ray.remote(num_cpus=0, max_retries=0)(check_machine)
    answers = {}
    for node in ray.nodes():
        if node["Alive"]:
            there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            answer = task.options(scheduling_strategy=there).remote(forage_version())
            answers[node["NodeID"]] = answer
    refusals = {node: reason for node, answer in answers.items() if (reason := _refusal(answer))}
    # List the nodes again: Ray notices a dead node only after a while, and a dead node's missing answer is no refusal.
    nodes = {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]}
    if refused := [f"node {nodes[node]} {reason}" for node, reason in refusals.items() if node in nodes]:
        raise InputError("; ".join(refused))


def _refusal(answer: ray.ObjectRef) -> str:
    """Why a node cannot run trials; empty if it can."""
    try:
        ray.get(answer, timeout=_ANSWER_SECONDS)
    except ray.exceptions.RayError as error:
        cause = error.cause if isinstance(error, ray.exceptions.RayTaskError) else error
        if "No module named 'trainables'" in str(cause):
            return f"has no forage: install {forage_version()} there, or send it along with --ship-code"
        return f"cannot work for this sweep: {str(cause).strip().splitlines()[-1]}"
    return ""
