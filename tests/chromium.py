"""Chromium without a window and without a network, driven over its debugging pipe: what the tests of pages share."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SECONDS = 120  # after which a browser that hangs is killed, and its tests fail


# Chromium reads descriptor 3 and writes descriptor 4. A process of its own puts them there: what Popen would run between fork
# and exec is refused by libraries that have threads. By way of 200 and 201, because 3 or 4 may be one of the two.
PLACE = """import os, sys
os.dup2(int(sys.argv[1]), 200)
os.dup2(int(sys.argv[2]), 201)
os.dup2(200, 3)
os.dup2(201, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


class Browser:
    """One tab, driven by the DevTools protocol: messages are JSON with a zero byte behind each."""

    def __init__(self, profile: str):
        here_out, there_in = os.pipe()  # what is written to there_in is read by us, and so on
        there_out, here_in = os.pipe()

        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-pipe"]
        flags += ["--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={profile}", "about:blank"]
        assert CHROMIUM is not None
        self.process = subprocess.Popen(
            [sys.executable, "-c", PLACE, str(there_out), str(there_in), CHROMIUM, *flags],
            pass_fds=(there_out, there_in),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.alarm = threading.Timer(SECONDS, self.process.kill)
        self.alarm.start()
        os.close(there_in)
        os.close(there_out)
        self.read, self.write = os.fdopen(here_out, "rb", 0), os.fdopen(here_in, "wb", 0)
        self.rest, self.number, self.events = b"", 0, list[dict[str, Any]]()
        self.session: str | None = None

    def start(self) -> None:
        """Open the tab."""
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.ask(f"{domain}.enable")

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self.rest:
            part = self.read.read(1 << 16)
            assert part, "the browser has gone"
            self.rest += part
        message, _, self.rest = self.rest.partition(b"\0")
        return json.loads(message)  # type: ignore[no-any-return]

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        self.number += 1
        call = {"id": self.number, "method": method, "params": params}
        if self.session is not None:
            call["sessionId"] = self.session
        self.write.write(json.dumps(call).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self.number:
                assert "error" not in answer, answer
                return answer["result"]  # type: ignore[no-any-return]
            self.events.append(answer)

    def open(self, page: Path, width: int, scheme: str) -> None:
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=844, deviceScaleFactor=1, mobile=width < 600)
        self.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.events.clear()
        self.ask("Page.navigate", url=page.as_uri())
        while not any(e.get("method") == "Page.loadEventFired" for e in self.events):
            self.events.append(self._next())

    def value(self, expression: str) -> Any:
        """What an expression of JavaScript is on the page."""
        found = self.ask("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def complaints(self) -> list[str]:
        """Failed requests, errors of scripts, and what was written to the console."""
        bad = ("Network.loadingFailed", "Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")
        return [json.dumps(e) for e in self.events if e.get("method") in bad]

    def requests(self) -> list[str]:
        return [
            e["params"]["request"]["url"] for e in self.events if e.get("method") == "Network.requestWillBeSent"
        ]  # fmt: skip

    def close(self) -> None:
        self.alarm.cancel()
        self.process.kill()
        self.process.wait()
        self.read.close()
        self.write.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        found = Browser(profile)
        try:
            found.start()
            yield found
        finally:
            found.close()


def contrasts(selector: str) -> str:
    """JavaScript: how many elements with text a selector finds, and the least contrast of their text (WCAG 2.1)."""
    return """(() => {
  const light = c => { const [r, g, b] = c.match(/[\\d.]+/g).map(Number).map(v => { v /= 255;
    return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4 }); return 0.2126 * r + 0.7152 * g + 0.0722 * b };
  const behind = e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor;
    if (!/, 0\\)|transparent/.test(c)) return c } return 'rgb(255, 255, 255)' };
  const found = [...document.querySelectorAll(SELECTOR)]
    .filter(e => e.textContent.trim() && e.getClientRects().length)
    .map(e => { const a = light(getComputedStyle(e).color), b = light(behind(e));
      return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05) });
  return [found.length, Math.min(...found)] })()""".replace("SELECTOR", json.dumps(selector))
