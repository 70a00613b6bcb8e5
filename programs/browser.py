"""A headless Chromium, driven over a pipe by the DevTools protocol (https://chromedevtools.github.io/devtools-protocol).

Used by the tests of the pages and by the benchmark of their load time; needs no library beside the browser itself.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import shutil
import signal
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

NAMES: Final = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_OPTIONS: Final = (
    "--headless=new", "--no-sandbox", "--hide-scrollbars", "--no-first-run", "--disable-extensions",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
    "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--remote-debugging-pipe",
)  # fmt: skip
_FIRST_FREE: Final = 10
"""Lowest number of our ends of the pipes, so that they do not collide with 3 and 4, which Chromium expects."""


def find() -> str | None:
    """Path of a browser on this machine."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


class Browser:
    """A running browser. Leaving the context ends it.

    Args:
        executable: of Chromium or Chrome.
    """

    def __init__(self, executable: str) -> None:
        self._profile = tempfile.TemporaryDirectory(prefix="forage-browser-", ignore_cleanup_errors=True)
        theirs_in, self._to = (fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, _FIRST_FREE) for end in os.pipe())
        self._from, theirs_out = (fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, _FIRST_FREE) for end in os.pipe())
        actions = [
            (os.POSIX_SPAWN_DUP2, theirs_in, 3),
            (os.POSIX_SPAWN_DUP2, theirs_out, 4),
            (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
            (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
        ]
        words = [executable, *_OPTIONS, f"--user-data-dir={self._profile.name}", "about:blank"]
        self._process = os.posix_spawn(executable, words, os.environ, file_actions=actions, setpgroup=0)
        os.close(theirs_in)
        os.close(theirs_out)
        self._rest = b""
        self._last = 0
        self.tabs: dict[str, Tab] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.killpg(self._process, signal.SIGKILL)
        os.waitpid(self._process, 0)
        os.close(self._to)
        os.close(self._from)
        self._profile.cleanup()

    def open(self, page: Path, *, width: int = 1280, height: int = 900, dark: bool = False) -> Tab:
        """Open a file in a tab of its own.

        Args:
            page: an HTML file.
            width: of the screen in CSS pixels; below 600 it is a phone's: touch, no mouse.
            height: of the screen in CSS pixels.
            dark: the theme that the reader prefers.
        """
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        tab = self.tabs[session] = Tab(self, session, target)
        for domain in ("Page", "Runtime", "Network", "Log"):
            tab.call(f"{domain}.enable")
        tab.call("Performance.enable", timeDomain="threadTicks")
        tab.screen(width, height)
        tab.theme(dark)
        tab.call("Page.navigate", url=page.absolute().as_uri())
        return tab

    def call(self, method: str, session: str = "", **words: Any) -> Any:
        """Call a method of the protocol and return its result.

        Raises:
            RuntimeError: the browser reports an error, or has ended.
        """
        number = self.send(method, session, **words)
        while True:
            answer = self._read()
            if answer.get("id") == number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer["result"]
            tab = self.tabs.get(answer.get("sessionId", ""))
            if tab and "method" in answer:
                tab.notice(answer["method"], answer["params"])

    def send(self, method: str, session: str = "", **words: Any) -> int:
        """Call a method of the protocol without waiting for its result, and return the number of the call."""
        self._last += 1
        message = {"id": self._last, "method": method, "params": words} | ({"sessionId": session} if session else {})
        os.write(self._to, json.dumps(message).encode() + b"\0")
        return self._last

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            chunk = os.read(self._from, 1 << 16)
            if not chunk:
                raise RuntimeError("the browser has ended")
            self._rest += chunk
        message, self._rest = self._rest.split(b"\0", 1)
        found: dict[str, Any] = json.loads(message)
        return found


@dataclass
class Tab:
    """An open page.

    Attributes:
        errors: what went wrong in it: exceptions, console errors, dialogs that a script opened.
        requests: addresses that it asked for.
    """

    browser: Browser
    session: str
    target: str
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def call(self, method: str, **words: Any) -> Any:
        """Call a method of the protocol in this tab."""
        return self.browser.call(method, self.session, **words)

    def notice(self, event: str, facts: dict[str, Any]) -> None:
        """Keep an event, if a test may want it."""
        if event == "Runtime.exceptionThrown":
            details = facts["exceptionDetails"]
            self.errors.append(details.get("exception", {}).get("description", details["text"]))
        elif event == "Runtime.consoleAPICalled" and facts["type"] in ("error", "assert"):
            self.errors.append(" ".join(str(a.get("value", a.get("description"))) for a in facts["args"]))
        elif event == "Log.entryAdded" and facts["entry"]["level"] == "error":
            self.errors.append(facts["entry"]["text"])
        elif event == "Page.javascriptDialogOpening":
            self.errors.append(f"a dialog: {facts['message']}")
            self.browser.send("Page.handleJavaScriptDialog", self.session, accept=True)
        elif event == "Network.requestWillBeSent":
            self.requests.append(facts["request"]["url"])

    def screen(self, width: int, height: int = 900) -> None:
        """Set the size of the screen."""
        phone = width < 600
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        self.call("Emulation.setTouchEmulationEnabled", enabled=phone)

    def theme(self, dark: bool) -> None:
        """Set the theme that the reader prefers."""
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", features=features)

    def evaluate(self, script: str) -> Any:
        """Value of a JavaScript expression; a promise is awaited.

        Raises:
            RuntimeError: it threw.
        """
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{script}: {answer['exceptionDetails']['exception'].get('description')}")
        return answer["result"].get("value")

    def wait(self, script: str, seconds: float = 60.0) -> Any:
        """Wait until an expression is true, and return its value.

        Raises:
            TimeoutError: it was not within the time.
        """
        end = time.monotonic() + seconds
        while not (found := self.evaluate(script)):
            if time.monotonic() > end:
                raise TimeoutError(f"not within {seconds:g} s: {script}")
            time.sleep(0.02)
        return found

    def cpu_seconds(self) -> float:
        """CPU time of the page's thread since it was opened."""
        metrics = self.call("Performance.getMetrics")["metrics"]
        return float(next(m["value"] for m in metrics if m["name"] == "TaskDuration"))

    def click(self, script: str) -> None:
        """Press and release the mouse at a point.

        Args:
            script: an expression with `x` and `y` in CSS pixels of the screen.
        """
        point = self.evaluate(f"(() => {{ const p = {script}; return {{x: p.x, y: p.y}}; }})()")
        self.call("Input.dispatchMouseEvent", type="mouseMoved", **point)
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **point)

    def screenshot(self, *, whole: bool = False) -> bytes:
        """The screen, or the whole page, as PNG."""
        return base64.b64decode(self.call("Page.captureScreenshot", captureBeyondViewport=whole)["data"])

    def close(self) -> None:
        """Close the tab."""
        self.browser.call("Target.closeTarget", targetId=self.target)
        del self.browser.tabs[self.session]
