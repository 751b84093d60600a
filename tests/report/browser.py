"""A headless Chromium driven over its DevTools protocol, through a pipe: no port, no further library."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import time

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)


LAUNCH = """
import fcntl, os, sys
there, back = (fcntl.fcntl(int(number), fcntl.F_DUPFD, 10) for number in sys.argv[1:3])
os.dup2(there, 3)  # DevTools reads file 3 and writes file 4
os.dup2(back, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


class Browser:
    """One browser; `page` opens a file in a fresh tab."""

    def __init__(self, folder):
        there, self._out = os.pipe()
        self._in, back = os.pipe()
        flags = [
            *("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-dev-shm-usage"),
            *("--no-first-run", "--disable-background-networking", "--disable-component-update", "--mute-audio"),
            *(f"--user-data-dir={folder}", "--remote-debugging-pipe", "about:blank"),
        ]
        self._process = subprocess.Popen(
            [sys.executable, "-c", LAUNCH, str(there), str(back), CHROMIUM, *flags],
            pass_fds=(there, back),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(there)
        os.close(back)
        self._read, self._count, self.events = b"", 0, []

    def call(self, method, session=None, **parameters):
        """Send a command and return its answer; what happens meanwhile goes to `events`."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            got = self._receive()
            if got.get("id") == self._count:
                assert "error" not in got, f"{method}: {got['error']}"
                return got["result"]
            self.events.append(got)

    def _receive(self, patience=60):
        end = time.monotonic() + patience
        while b"\0" not in self._read:
            ready, _, _ = select.select([self._in], [], [], max(0, end - time.monotonic()))
            assert ready, "Chromium does not answer"
            part = os.read(self._in, 1 << 20)
            assert part, "Chromium is gone"
            self._read += part
        message, self._read = self._read.split(b"\0", 1)
        return json.loads(message)

    def page(self, path, **look):
        return Page(self, path, **look)

    def close(self):
        try:
            self.call("Browser.close")
            self._process.wait(20)
        finally:
            self._process.kill()
            self._process.wait()
            os.close(self._out)
            os.close(self._in)


class Page:
    """One tab, as wide and dark as asked for."""

    def __init__(self, browser, path, *, width=1280, height=900, dark=False, scripts=True):
        self._browser = browser
        browser.events.clear()
        self._target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        attached = browser.call("Target.attachToTarget", targetId=self._target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        self.call("Emulation.setScriptExecutionDisabled", value=not scripts)
        start = time.monotonic()
        self.call("Page.navigate", url=path.resolve().as_uri())
        self.wait("window.thinice !== undefined" if scripts else "document.readyState === 'complete'")
        self.seconds = time.monotonic() - start

    def call(self, method, **parameters):
        return self._browser.call(method, session=self._session, **parameters)

    def run(self, script):
        """Return the value of a JavaScript expression."""
        got = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in got, got["exceptionDetails"]
        return got["result"].get("value")

    def wait(self, condition, patience=60):
        end = time.monotonic() + patience
        while not self.run(condition):
            assert time.monotonic() < end, f"never true: {condition}"
            time.sleep(0.02)

    def to_plot(self, row):
        """Return where in the window a sample stands."""
        self.run("document.getElementById('plot').scrollIntoView({block: 'center'})")
        return self.run(
            f"(() => {{ const box = document.getElementById('plot').getBoundingClientRect();"
            f"const [x, y] = thinice.place({row}); return [box.left + x, box.top + y]; }})()"
        )

    def mouse(self, kind, x, y):
        button = {} if kind == "mouseMoved" else {"button": "left", "clickCount": 1}
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **button)

    def click(self, x, y):
        self.mouse("mouseMoved", x, y)
        self.mouse("mousePressed", x, y)
        self.mouse("mouseReleased", x, y)

    def key(self, name):
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=name, code=name)

    def press(self, selector):
        """Click an element where it is."""
        self.run(f"document.querySelector({json.dumps(selector)}).scrollIntoView({{block: 'center'}})")
        box = f"document.querySelector({json.dumps(selector)}).getBoundingClientRect()"
        self.click(*self.run(f"(() => {{ const b = {box}; return [b.left + b.width / 2, b.top + b.height / 2]; }})()"))

    def select(self, selector, value):
        self.run(
            f"(() => {{ const s = document.querySelector({json.dumps(selector)}); s.value = {json.dumps(str(value))};"
            "s.dispatchEvent(new Event('change', {bubbles: true})); })()"
        )

    def text(self, selector):
        return self.run(f"document.querySelector({json.dumps(selector)}).innerText")

    def pixels(self, selector):
        """Return width, height and RGBA values of a canvas."""
        return self.run(
            f"(() => {{ const c = document.querySelector({json.dumps(selector)});"
            "const copy = Object.assign(document.createElement('canvas'), {width: c.width, height: c.height});"
            "const pen = copy.getContext('2d', {willReadFrequently: true}); pen.drawImage(c, 0, 0);"
            "return [c.width, c.height, [...pen.getImageData(0, 0, c.width, c.height).data]]; })()"
        )

    def screenshot(self, path, *, whole=False):
        got = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(got["data"]))

    def complaints(self):
        """Return errors and warnings of the console, uncaught exceptions included."""
        self.run("0")
        return [
            event
            for event in self._browser.events
            if event.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded")
            or (event.get("method") == "Runtime.consoleAPICalled" and event["params"]["type"] in ("error", "warning"))
        ]

    def requests(self):
        """Return the addresses that were asked for, but those inside the file."""
        self.run("0")
        asked = (
            event["params"]["request"]["url"]
            for event in self._browser.events
            if event.get("method") == "Network.requestWillBeSent"
        )
        return [url for url in asked if not url.startswith("data:")]

    def close(self):
        self._browser.call("Target.closeTarget", targetId=self._target)
