"""Detect that Ray has died. The driver would otherwise wait for a minute or forever, without saying how to continue."""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import ray

from pasture.errors import JobError
from pasture.run_folder import RunFolder

CHECK_SECONDS = 2.0
"""Time between two checks."""

CONNECT_SECONDS = 1.0
"""Time that a process gets to accept a connection."""

PATIENCE = 10
"""Failed checks in a row after which Ray is given up."""


@contextmanager
def watch_ray(run: RunFolder, on_loss: Callable[[JobError], None]) -> Iterator[None]:
    """Call `on_loss` from another thread once the head no longer answers or the driver's node is dead.

    The number of failed checks counts, not the time: a driver that was suspended gives a living head the time to
    answer. `on_loss` is called again after every further failed check until the context ends: an error that it raises
    in another thread can get lost.

    Args:
        run: the run directory, named in the error.
        on_loss: receives the error.
    """
    head, raylet = _addresses()
    over = threading.Event()

    def watch() -> None:
        failed = 0
        while not over.wait(CHECK_SECONDS):
            problem = _problem(head, raylet)
            failed = failed + 1 if problem else 0
            if failed >= PATIENCE:
                on_loss(JobError(f"{problem}; go on with: forage resume {run}"))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def end_process(error: JobError) -> None:
    """Print an error and end this process at once, as the command line does when Ray has died.

    The main thread waits inside Ray for an answer that will not come, so the process cannot end normally. Nothing is
    lost: endings and proposals are on disk, and epochs are in the trials' checkpoints.
    """
    print(f"forage: {error}", file=sys.stderr, flush=True)
    os._exit(error.exit_status)


def _addresses() -> tuple[str, str]:
    """HOST:PORT of the head and of the raylet of the driver's node."""
    context = ray.get_runtime_context()
    (node,) = (known for known in ray.nodes() if known["NodeID"] == context.get_node_id())
    return context.gcs_address, f"{node['NodeManagerAddress']}:{node['NodeManagerPort']}"


def _problem(head: str, raylet: str) -> str:
    """Message about the part of Ray that has died; empty if none has."""
    if not _answers(head):
        return f"the head of Ray ({head}) no longer answers"
    return "" if _answers(raylet) else "Ray's process on this machine (raylet) has died"


def _answers(address: str) -> bool:
    """Whether something listens at HOST:PORT. No call of Ray: those hang for a minute once the head is gone, also when
    it dies just before the call, and then Ray ends this process."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
    except OSError:
        return False
    return True
