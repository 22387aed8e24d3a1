# SPDX-License-Identifier: MIT
"""Headless Chromium by its debugging pipe: no driver, no port, no library. `browser.py PAGE OUT.png` takes a picture."""
import base64
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--disable-extensions", "--hide-scrollbars", "--remote-debugging-pipe"]
PHONE, DESKTOP = (390, 844), (1280, 900)


class Browser:
    """Context manager around one Chromium with one page."""

    def __init__(self, program="chromium", deadline=50):
        self.end = time.monotonic() + deadline
        self.program = program
        self.next_id = 0
        self.events = []
        self.pending = b""

    def __enter__(self):
        self.home = tempfile.mkdtemp(prefix="plumb-chromium-")
        their_in, self.to = os.pipe()
        self.come, their_out = os.pipe()

        def child():  # Chromium reads commands from 3 and writes to 4
            a, b = (fcntl.fcntl(fd, fcntl.F_DUPFD, 10) for fd in (their_in, their_out))
            os.dup2(a, 3)
            os.dup2(b, 4)
        self.proc = subprocess.Popen([self.program, *FLAGS, f"--user-data-dir={self.home}"], stdin=subprocess.DEVNULL,
                                     stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, close_fds=False,
                                     preexec_fn=child, start_new_session=True)
        os.close(their_in)
        os.close(their_out)
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = None
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        return self

    session = None

    def __exit__(self, *exc):
        try:
            os.killpg(self.proc.pid, signal.SIGKILL)  # its own group: renderers too
        except ProcessLookupError:
            pass
        self.proc.wait(10)
        os.close(self.to)
        os.close(self.come)
        shutil.rmtree(self.home, ignore_errors=True)

    # ---- the wire: JSON messages with a zero byte after each ----

    def call(self, method, **params):
        self.next_id += 1
        message = {"id": self.next_id, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.to, json.dumps(message).encode() + b"\0")
        while True:
            got = self._message()
            if got.get("id") == self.next_id:
                if "error" in got:
                    raise RuntimeError(f"{method}: {got['error']}")
                return got["result"]
            self.events.append(got)

    def _message(self):
        while b"\0" not in self.pending:
            left = self.end - time.monotonic()
            if left <= 0 or not select.select([self.come], [], [], left)[0]:
                raise TimeoutError("Chromium does not answer")
            data = os.read(self.come, 1 << 20)
            if not data:
                raise RuntimeError("Chromium ended")
            self.pending += data
        first, _, self.pending = self.pending.partition(b"\0")
        return json.loads(first)

    # ---- a page ----

    def look(self, size=DESKTOP, dark=False, media=""):
        self.call("Emulation.setDeviceMetricsOverride", width=size[0], height=size[1], deviceScaleFactor=1, mobile=size == PHONE)
        self.call("Emulation.setEmulatedMedia", media=media,
                  features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])

    def open(self, path):
        self.events.clear()
        self.call("Page.navigate", url=Path(path).resolve().as_uri())
        while not any(e.get("method") == "Page.loadEventFired" for e in self.events):
            self.events.append(self._message())

    def eval(self, expression):
        got = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in got:
            raise RuntimeError(got["exceptionDetails"]["exception"].get("description", "?"))
        return got["result"].get("value")

    def complaints(self):
        """Console messages, log entries and exceptions since open()."""
        return [e["params"] for e in self.events if e.get("method") in
                ("Runtime.consoleAPICalled", "Log.entryAdded", "Runtime.exceptionThrown")]

    def requests(self):
        """What the page asked for, itself aside."""
        urls = [e["params"]["request"]["url"] for e in self.events if e.get("method") == "Network.requestWillBeSent"]
        return urls[1:]

    def picture(self, path, whole=False):
        got = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        Path(path).write_bytes(base64.b64decode(got["data"]))

    def pdf(self):
        return base64.b64decode(self.call("Page.printToPDF", printBackground=True)["data"])


def main():
    """PAGE OUT.png [phone] [dark] [at=#ID]"""
    page, out, *words = sys.argv[1:]
    with Browser() as browser:
        browser.look(PHONE if "phone" in words else DESKTOP, "dark" in words)
        browser.open(page)
        for word in words:
            if word.startswith("at="):
                browser.eval(f"document.documentElement.style.scrollBehavior='auto';"
                             f"document.querySelector({json.dumps(word[3:])}).scrollIntoView()")
            if word.startswith("open="):
                browser.eval(f"document.querySelectorAll({json.dumps(word[5:])}).forEach(d => d.open = true)")
        browser.picture(out)
        print(browser.complaints() or "no complaints")


if __name__ == "__main__":
    main()
