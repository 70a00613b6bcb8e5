"""A long sweep of trials that do nothing: does the driver's memory stay flat, and is everything released at the end?

    python -m benchmarks.soak --trials 2000

Prints the time and the driver's memory after an eighth, a quarter, a half and all of the trials; then the number of
files, threads, actors, placement groups and busy CPUs before and after the sweep, with Ray still up. Exit status 1 if
the driver's memory has grown by more than a tenth from an eighth of the trials to all, or if anything was not released.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import ray
import ray.util

from benchmarks import harness
from tune.records.ledger import Record

GROWTH = 1.1
"""The driver's memory after all trials, divided by that after an eighth of them, may be at most this."""

WARM_UP = 16
"""Trials of a first sweep, after which everything that is loaded and opened once is loaded and open."""

PATIENCE = 10.0
"""Seconds that Ray has to release everything."""


def memory() -> float:
    """Megabytes of this process's own memory. Not mapped files: its share of those grows when other processes end."""
    gc.collect()
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Anonymous:")) / 1024


def left() -> dict[str, float]:
    """What can leak: open `files` and Python's `threads` of the driver (the number of gRPC's threads varies); `actors`,
    placement `groups` and busy `cpus` of Ray."""
    groups = ray.util.placement_group_table().values()
    return {
        "files": len(list(Path("/proc/self/fd").iterdir())),
        "threads": threading.active_count(),
        "actors": sum(1 for _ in actors()),
        "groups": sum(group["state"] != "REMOVED" for group in groups),
        "cpus": ray.cluster_resources()["CPU"] - ray.available_resources().get("CPU", 0.0),
    }


def actors() -> Iterator[int]:
    """Living processes below this one that run trials; Ray gives its workers such titles."""
    parents, titled = {}, []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if b"TrivialTrial" in (folder / "cmdline").read_bytes():
                titled.append(int(folder.name))
        except OSError:
            continue  # gone
    for pid in titled:
        above = pid
        while above in parents and above != os.getpid():
            above = parents[above]
        if above == os.getpid():
            yield pid


class Meter:
    """Calls `show` whenever one of some numbers of trials is complete.

    Args:
        at: the numbers.
        show: receives the number.
    """

    def __init__(self, at: list[int], show: Callable[[int], None]) -> None:
        self.at, self.show, self.complete = at, show, 0

    def watch(self, record: Record) -> None:
        """An event of a trial."""
        self.complete += record.status == "COMPLETE"
        if record.status == "COMPLETE" and self.complete in self.at:
            self.show(self.complete)


def soak(trials: int) -> bool:
    """Run the sweep and print its figures; True if nothing leaks."""
    marks, held = [trials // part for part in (8, 4, 2, 1)], []
    began = time.monotonic()

    def show(ended: int) -> None:
        held.append(memory())
        # Not `print` alone: a sweep keeps standard output for its results.
        line = f"{ended:>6,} trials  {time.monotonic() - began:>6,.0f} s  {held[-1]:,.0f} MB"
        print(line, file=sys.__stdout__, flush=True)

    with harness.session() as scratch:
        harness.forage(scratch, WARM_UP, 1)
        before, began = settled({}), time.monotonic()
        harness.forage(scratch, trials, 1, watch=Meter(marks, show).watch)
        after = settled(before)
    grown = held[-1] / held[0]
    print(f"memory of the driver has grown by {100 * (grown - 1):.1f} % from {marks[0]:,} to {marks[-1]:,} trials")
    for name, value in after.items():
        print(f"{name:>8}: {before[name]:g} before, {value:g} after")
    return grown <= GROWTH and all(value <= before[name] for name, value in after.items())


def settled(before: dict[str, float]) -> dict[str, float]:
    """`left()`, once it is no more than before or PATIENCE is over."""
    deadline = time.monotonic() + PATIENCE
    now = left()
    while time.monotonic() < deadline and any(value > before.get(name, 0) for name, value in now.items()):
        time.sleep(0.5)
        now = left()
    return now


def main() -> None:
    """Exit status 1 if something leaks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=2000)
    sys.exit(not soak(parser.parse_args().trials))


if __name__ == "__main__":
    main()
