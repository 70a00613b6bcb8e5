"""Noticing that the head of a cluster has died: Ray has the driver wait a minute, and ends it without a word then."""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import ray

from pasture.errors import JobError
from pasture.run_folder import RunFolder

KNOCK_SECONDS = 2.0
"""How often the head is asked whether it is there."""

PATIENCE = 10
"""Knocks without an answer, one after another, after which it is not."""


@contextmanager
def watched_head(run: RunFolder) -> Iterator[None]:
    """End this process with one line and JobError's status once nobody answers at the head's address any more.

    It ends from a thread, without unwinding: the main thread waits inside Ray for an answer that will not come. Nothing
    is lost by that, every event has been written down when it was heard of. Knocks are counted, not seconds: a
    driver that was suspended gives a head that lives the time to answer.

    Args:
        run: named in the line.
    """
    host, _, port = ray.get_runtime_context().gcs_address.rpartition(":")
    over = threading.Event()

    def watch() -> None:
        missed = 0
        while not over.wait(KNOCK_SECONDS):
            missed = 0 if _answers(host, int(port)) else missed + 1
            if missed == PATIENCE:
                reason = f"the head of the Ray cluster ({host}:{port}) answers no more"
                print(f"forage: {reason}; on another cluster, go on with: forage resume {run}", file=sys.stderr)
                sys.stderr.flush()
                os._exit(JobError.exit_status)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _answers(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=KNOCK_SECONDS).close()
    except OSError:
        return False
    return True
