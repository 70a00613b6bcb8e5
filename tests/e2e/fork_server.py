"""Commands of forage as forks of one process that has imported everything, so that a start costs no imports.

A fork is a process of its own, with its own session, signals, environment and exit status. Its output goes to files.
"""

from __future__ import annotations

import atexit
import importlib
import multiprocessing
import multiprocessing.forkserver
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from unittest import mock

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    [
        *("forage.cli", "forage.python_api.functions", "forage.pages.report", "optuna.importance", "albumentations"),
        *(f"ray.air.integrations.{tracker}" for tracker in ("comet", "mlflow", "wandb")),  # Tune imports them all
    ]
)


def start_server(env: Mapping[str, str]) -> None:
    """Start the process that is forked, with variables in its environment that libraries read when imported."""
    with mock.patch.dict(os.environ, env):
        multiprocessing.forkserver.ensure_running()


def _run(words: Sequence[str], env: Mapping[str, str], outputs: Sequence[str]) -> None:
    """Become `forage WORDS`, as the console script runs it."""
    os.setsid()
    for descriptor, path in enumerate(outputs, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_APPEND), descriptor)
    os.environ.update(env)
    tempfile.tempdir = None  # chosen anew from TMPDIR
    if "FORAGE_FAULTS" in env:
        sys.path[:0] = env["PYTHONPATH"].split(os.pathsep)
        sys.modules.pop("sitecustomize", None)
        importlib.import_module("sitecustomize")
    sys.argv = ["forage", *words]
    try:
        from forage.cli import main

        main()
    finally:
        atexit._run_exitfuncs()  # the end of a fork leaves them out; Ray's processes end by one of them


class ForkedCommand:
    """A running command, with the part of the interface of `subprocess.Popen` that the tests use.

    Args:
        words: those after `forage`.
        env: more of its environment.
    """

    def __init__(self, words: Sequence[str], env: Mapping[str, str]) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="fork-")
        self._outputs = [Path(self._folder.name, name) for name in ("out", "err")]
        for path in self._outputs:
            path.touch()
        arguments = (list(words), dict(env), [str(path) for path in self._outputs])
        self._process = _CONTEXT.Process(target=_run, args=arguments)
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("forage", timeout or 0)
        return self._process.exitcode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """What it wrote to standard output and standard error, after its end."""
        self.wait(timeout)
        out, err = (path.read_text() for path in self._outputs)
        return out, err

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)
