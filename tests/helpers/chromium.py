"""A page in headless Chromium, over the pipe of its debugging protocol: what it drew, asked the network for, and shows.

As a program it takes a picture of a page, in few colours so that it is small:
`python tests/helpers/chromium.py PAGE.html PICTURE.png [WIDTH [HEIGHT]]`, with SCHEME=dark in the dark colours.
docs/report.png was made so of a run of `tiny`, in a window of 1280 pixels, down to pixel 2260.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BINARY = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
_FLAGS = (
    "--headless=new",
    "--remote-debugging-pipe",
    "--no-sandbox",  # a container's root has none
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--force-device-scale-factor=1",
    "--host-resolver-rules=MAP * ~NOTFOUND",
)
_SECONDS = 60
_START = """
import os, sys
for wanted, given in ((3, sys.argv[1]), (4, sys.argv[2])):  # the descriptors of the protocol
    os.dup2(int(given), wanted)
os.execv(sys.argv[3], sys.argv[3:])
"""


class Chromium:
    """A browser with one page.

    Attributes:
        requests: the address of everything that the page asked for.
    """

    def __init__(self, reading: int, writing: int) -> None:
        self._reading, self._writing = reading, writing
        self._held, self._number, self._session = b"", 0, ""
        self.requests: list[str] = []
        self.errors: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and wait for its answer."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._writing, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result

    def open(self, page: Path, width: int, height: int = 900, scheme: str = "light") -> None:
        """Load a file in a window of that width, in CSS pixels."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.requests.clear()
        self.call("Page.navigate", url=page.resolve().as_uri())
        end = time.monotonic() + _SECONDS
        while self.value("document.readyState") != "complete" or self.value("location.protocol") != "file:":
            assert time.monotonic() < end, "the page did not load"
            time.sleep(0.02)

    def value(self, expression: str) -> Any:
        """What an expression of JavaScript is, as plain JSON."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def press(self, key: str) -> None:
        """Press and release a key."""
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=9)

    def picture(self, path: Path, height: int | None = None) -> None:
        """Save what the page shows, down to `height` pixels or to its end."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": height or size["height"], "scale": 1}
        found = self.call("Page.captureScreenshot", format="png", clip=clip, captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(found["data"]))

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._held:
            assert select.select([self._reading], [], [], _SECONDS)[0], "the browser says nothing"
            piece = os.read(self._reading, 1 << 20)
            assert piece, "the browser ended"
            self._held += piece
        line, _, self._held = self._held.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        if message.get("method") == "Network.requestWillBeSent":
            self.requests.append(message["params"]["request"]["url"])
        if message.get("method") == "Log.entryAdded" and message["params"]["entry"]["level"] == "error":
            self.errors.append(message["params"]["entry"]["text"])
        return message


@contextlib.contextmanager
def chromium() -> Iterator[Chromium]:
    """A browser that ends with the block; nothing of the user's is read or written."""
    assert BINARY is not None
    to_read, to_write = os.pipe(), os.pipe()
    theirs = (fcntl.fcntl(to_write[0], fcntl.F_DUPFD, 10), fcntl.fcntl(to_read[1], fcntl.F_DUPFD, 10))
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        browser = subprocess.Popen(
            [sys.executable, "-c", _START, *map(str, theirs), BINARY, *_FLAGS, f"--user-data-dir={profile}"],
            pass_fds=theirs,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for descriptor in (to_write[0], to_read[1], *theirs):
            os.close(descriptor)
        try:
            page = Chromium(to_read[0], to_write[1])
            yield page
            page._session = ""
            page.call("Browser.close")
            browser.wait(timeout=_SECONDS)
        finally:
            browser.kill()
            browser.wait(timeout=_SECONDS)
            os.close(to_read[0])
            os.close(to_write[1])


def main() -> None:
    """Take the picture that the command line asks for."""
    from PIL import Image

    page, picture, *sizes = sys.argv[1:]
    with chromium() as browser:
        browser.open(Path(page), int(sizes[0]) if sizes else 1280, scheme=os.environ.get("SCHEME", "light"))
        browser.picture(Path(picture), int(sizes[1]) if len(sizes) > 1 else None)
    with Image.open(picture) as taken:
        few = taken.convert("RGB").quantize(192, dither=Image.Dither.NONE)
    few.save(picture, optimize=True)
    print(f"{picture}: {Path(picture).stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
