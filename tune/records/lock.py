"""One driver at a time in a run directory: two would propose the same trials and overwrite each other's files."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from pasture.errors import ForageError, InputError, StorageError
from pasture.run_folder import RunFolder

BEAT_SECONDS = 5.0
"""Time between two writes of a lease by its holder."""

STALE_SECONDS = 20.0
"""The holder of a lease that has not changed for this long has died."""

_LOCK = ".driver.lock"
_LEASE = "driver.json"

_PROBE_SECONDS = 0.5
"""How long a driver waits for the lock, which `driver_at_work` of another process may hold for an instant."""


@dataclass
class Hold:
    """A held run directory.

    Attributes:
        lost: another driver has taken it over, as can happen to a process that was suspended for longer than a lease
            lasts. The process must not write any more.
    """

    lost: bool = False


@contextmanager
def exclusive_lock(run: RunFolder) -> Iterator[Hold]:
    """Hold the run directory.

    On a file system, network mounts included, the kernel holds the lock and releases it when this process dies for
    whatever reason. An object store has no locks: there the lock is a lease, a small file that its holder rewrites
    every few seconds.

    Raises:
        InputError: another driver holds it.
        StorageError: the folder cannot be written to.
    """
    with _locked(run) if run.folder.is_local else _leased(run) as hold:
        yield hold


def driver_at_work(run: RunFolder) -> bool | None:
    """Whether a driver holds the run directory; None where this user may not open the lock.

    For display only: on an object store it follows from the age of the lease, where a wrong clock misleads.

    Raises:
        StorageError: the store cannot be reached.
    """
    if not run.folder.is_local:
        age = run.folder.age(_LEASE)
        return age is not None and age < STALE_SECONDS
    if not run.folder.exists(_LOCK):
        return False
    try:
        with FileLock(run.folder.file(_LOCK), timeout=0):
            return False
    except Timeout:
        return True
    except OSError:
        return None


@contextmanager
def _locked(run: RunFolder) -> Iterator[Hold]:
    lock = FileLock(run.folder.file(_LOCK))
    try:
        Path(run.folder.path).mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=_PROBE_SECONDS)
    except Timeout:
        raise InputError(f"{run}: another forage is at work in this run directory; wait for it or stop it") from None
    except OSError as error:
        raise StorageError(
            f"cannot write {run}: {error.strerror or error}; make space or choose another folder"
        ) from None
    try:
        yield Hold()
    finally:
        lock.release()


@contextmanager
def _leased(run: RunFolder) -> Iterator[Hold]:
    """Wait until the lease of another driver is gone or stale, then write our own and check that it stays.

    Clocks of two machines are not compared: a lease is stale once this process has seen it unchanged for
    STALE_SECONDS. If several drivers write at once, the last write stays and the other drivers see that.
    """
    lease = _Lease(run)
    over, hold = threading.Event(), Hold()
    before = lease.read()
    stale = time.monotonic() + STALE_SECONDS
    while before and time.monotonic() < stale:
        over.wait(BEAT_SECONDS / 5)
        now = lease.read()
        if now and now != before:
            raise lease.refusal(now)
        before = now
    lease.write()
    over.wait(BEAT_SECONDS / 2)
    if (now := lease.read()).get("driver") != lease.driver:
        raise lease.refusal(now)

    def beat() -> None:
        while not over.wait(BEAT_SECONDS):
            try:
                if lease.read().get("driver") != lease.driver:
                    hold.lost = True
                    return
                lease.write()
            except ForageError:
                continue  # the store cannot be reached for now; try again at the next beat

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield hold
    finally:
        over.set()
        thread.join()
        if lease.read().get("driver") == lease.driver:
            run.folder.delete(_LEASE)


class _Lease:
    def __init__(self, run: RunFolder) -> None:
        self.run, self.driver, self.beats = run, uuid.uuid4().hex, 0

    def read(self) -> dict[str, str]:
        """Content of the lease; empty if there is none or it is damaged."""
        if not self.run.folder.exists(_LEASE):
            return {}
        try:
            return dict(json.loads(self.run.folder.read(_LEASE)))
        except (ValueError, TypeError):
            return {}

    def write(self) -> None:
        """Write the lease with a new beat."""
        self.beats += 1
        where = {"host": socket.gethostname(), "pid": str(os.getpid())}
        content = {"driver": self.driver, "beat": str(self.beats), **where}
        self.run.folder.write(_LEASE, json.dumps(content).encode())

    def refusal(self, now: dict[str, str]) -> InputError:
        """The error for a run directory that another driver holds."""
        holder = f"process {now.get('pid')} on {now.get('host')}"
        return InputError(f"{self.run}: another forage is at work there ({holder}); wait for it or stop it")
