"""Stopping a sweep so that it can go on later: on Ctrl-C and on SIGTERM alike."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

import ray.tune

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stop(ray.tune.Stopper):  # type: ignore[misc]
    """Tells Ray Tune to end once a signal has come; a second signal ends the process at once."""

    def __init__(self) -> None:
        self.requested = False
        self.before: dict[signal.Signals, Any] = {}

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """No single trial is stopped."""
        return False

    def stop_all(self) -> bool:
        """Whether the sweep is to end."""
        return self.requested

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self.before = {s: signal.signal(s, self._handle) for s in _SIGNALS}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        self.requested = True
        for number, handler in self.before.items():
            signal.signal(number, handler)
