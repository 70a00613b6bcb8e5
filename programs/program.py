"""A program that can be killed with all it has started."""

from __future__ import annotations

import os
import signal
import subprocess
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_MARK = "FORAGE_PROGRAM"


class Program:
    """A running program in a session of its own; its descendants bear its mark, wherever they were adopted.

    Args:
        command: words of it.
        env: more of its environment.
        streams: where its output goes, as `subprocess.Popen` takes it.
    """

    def __init__(self, command: Sequence[str], env: Mapping[str, str], **streams: Any) -> None:
        name = uuid.uuid4().hex
        self.mark = f"{_MARK}={name}".encode()
        self.popen = self.start(command, {**env, _MARK: name}, **streams)

    def start(self, command: Sequence[str], env: Mapping[str, str], **streams: Any) -> Any:
        """Start it in a session of its own; a `subprocess.Popen` or the like."""
        environment = {**os.environ, **env}
        return subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, start_new_session=True, **streams)

    def kill(self) -> None:
        """kill -9 for it and everything it started."""
        while family := [self.popen.pid] * (self.popen.poll() is None) + self.descendants():
            for pid in family:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            time.sleep(0.05)

    def descendants(self) -> list[int]:
        """Living processes that bear its mark."""
        found = []
        for folder in Path("/proc").iterdir():
            try:
                if folder.name.isdigit() and self.mark in (folder / "environ").read_bytes().split(b"\0"):
                    found.append(int(folder.name))
            except OSError:
                continue  # gone, a zombie, or somebody else's
        return found
