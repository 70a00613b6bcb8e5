"""Noticing that Ray has died under the driver, which would wait for a minute, or on and on, and not say what to do."""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import ray
import ray.exceptions

from pasture.errors import JobError
from pasture.run_folder import RunFolder

KNOCK_SECONDS = 2.0
"""How often Ray is asked whether it is there."""

PATIENCE = 10
"""Bad answers, one after another, after which it is not."""


@contextmanager
def watch_ray(run: RunFolder) -> Iterator[None]:
    """End this process with one line and JobError's status once the head answers no more, or the driver's node is dead.

    It ends from a thread, without unwinding: the main thread waits inside Ray for an answer that will not come. Nothing
    is lost by that, every event has been written down when it was heard of. Knocks are counted, not seconds: a
    driver that was suspended gives a head that lives the time to answer.

    Args:
        run: named in the line.
    """
    context = ray.get_runtime_context()
    address, node = context.gcs_address, context.get_node_id()
    over = threading.Event()

    def watch() -> None:
        missed = 0
        while not over.wait(KNOCK_SECONDS):
            trouble = _trouble(address, node)
            missed = missed + 1 if trouble else 0
            if missed == PATIENCE:
                print(f"forage: {trouble}; go on with: forage resume {run}", file=sys.stderr, flush=True)
                os._exit(JobError.exit_status)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _trouble(address: str, node: str) -> str:
    """What has died; empty where all is well."""
    host, _, port = address.rpartition(":")
    try:
        # First by a plain connection: Ray's own question hangs for a minute where nobody is left to answer it.
        socket.create_connection((host, int(port)), timeout=KNOCK_SECONDS).close()
        alive = {known["NodeID"] for known in ray.nodes() if known["Alive"]}
    except (OSError, RuntimeError, ray.exceptions.RayError):
        return f"the head of Ray ({address}) answers no more"
    return "" if node in alive else "Ray's process on this machine (raylet) has died"
