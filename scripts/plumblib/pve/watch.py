# SPDX-License-Identifier: MIT
"""One boot of a VM seen through its serial line: progress, deadlines, end. The verdict is judge's."""
from __future__ import annotations

import time

from ..guest import Boot, Limits
from ..report import HEADER, MAX_BYTES
from .tools import ToolError

PANIC = 5.0
BAD_STATES = ("internal-error", "io-error", "guest-panicked", "paused", "shutdown")


class Watch:
    def __init__(self, vm, console, limits: Limits, view, raw):
        self.vm, self.console, self.limits, self.view, self.raw = vm, console, limits, view, raw
        self.boot = Boot()
        self.chunks: list = []
        self.size = self.headers = 0
        self.partial = b""
        self.verdict_at = self.panic_at = None

    def run(self, start: float) -> Boot:
        """start: when the VM was started, by time.monotonic()."""
        boot, self.start = self.boot, start
        self.last = start
        while not boot.killed:
            data = self.console.read()
            if data:
                self._take(data)
            if self.console.at_end:
                break
            boot.killed = boot.killed or self._overdue()
            self.view.tick()
        if boot.killed in ("boot", "silence", "total"):
            self._look()
        if self.partial and boot.to_report is not None:
            self.view.line(self.partial.decode("utf-8", "replace"))
        boot.seconds = time.monotonic() - start
        boot.log = b"".join(self.chunks)
        return boot

    def _take(self, data: bytes) -> None:
        self.last = time.monotonic()
        self.size += len(data)
        if self.size > MAX_BYTES:
            self.boot.killed = "flood"
            return
        self.chunks.append(data)
        self.raw(data)
        *lines, self.partial = (self.partial + data).split(b"\n")
        for line in lines:
            self._line(line.rstrip(b"\r"))

    def _line(self, raw: bytes) -> None:
        if raw.endswith(HEADER):
            self.headers += 1
            if self.headers > 1:     # the machine was reset; it would go on for ever
                self.boot.killed = "reset"
            raw = HEADER
        if not self.headers:
            return
        if self.boot.to_report is None:
            self.boot.to_report = time.monotonic() - self.start
        if raw.startswith(b"# verdict ") and self.verdict_at is None:
            self.verdict_at = time.monotonic()
        elif raw.startswith(b"# panic ") and self.panic_at is None:
            self.panic_at = time.monotonic()
        self.view.line(raw.decode("utf-8", "replace"))

    def _overdue(self) -> str:
        now = time.monotonic()
        if self.verdict_at is not None:
            return "verdict" if now - self.verdict_at > self.console.settle else ""
        if self.panic_at is not None and now - self.panic_at > PANIC:
            return "panic"
        if self.boot.to_report is None and now - self.start > self.limits.boot:
            return "boot"
        if now - self.start > self.limits.total:
            return "total"
        return "silence" if self.headers and now - self.last > self.limits.silence else ""

    def _look(self) -> None:
        """What a machine that hangs looks like, while it is still there."""
        boot = self.boot
        try:
            state = self.vm.status()
            if state in BAD_STATES:
                boot.paused, boot.killed = state, "paused"
            for line in ("info status", "info registers -a", "info lapic 0", "info pic", "info pci"):
                boot.evidence += f"==== {line}\n" + self.vm.monitor(line).replace("\r\n", "\n") + "\n"
        except ToolError as e:
            boot.evidence += f"{e}\n"
