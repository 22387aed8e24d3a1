# SPDX-License-Identifier: MIT
"""The guest's serial line, two ways: qemu-server's UNIX socket here, a ring read by the monitor elsewhere.

Nothing is lost where the CPUs start after somebody listens. `freeze: 1` is a VM's option for that (QEMU's
-S): start, attach, resume. A VM without it is attached to while it starts: QEMU makes the socket before its
CPUs run, and takes the connection as soon as its main loop does; the firmware's first words may be missing,
the report comes later. Should it be damaged, its line count and CRC say so.
"""
from __future__ import annotations

import os
import re
import socket
import time

from .tools import ToolError

RUN_DIR = "/var/run/qemu-server"
CHUNK = 256 << 10
SETTLE = float(os.environ.get("PLUMB_PVE_SETTLE", "20"))  # seconds from the verdict to the VM's end by itself
_ESCAPE = re.compile(r"\\(u[0-9A-Fa-f]{4}|\\)")


def serial_path(vmid: str) -> str:
    return f"{os.environ.get('PLUMB_PVE_RUN', RUN_DIR)}/{vmid}.serial0"


class SocketConsole:
    """Bytes as they come; at_end: QEMU is gone."""
    wait = 0.2                       # seconds one read() may take
    settle = SETTLE

    def __init__(self, path: str):
        self.path, self.sock, self.at_end = path, None, False

    def attach(self, seconds: float, proc=None) -> None:
        """Connects, as soon as the socket is there. proc: a `qm start` under way; if it fails, so do we."""
        end = time.monotonic() + seconds
        while True:
            failed = proc is not None and proc.poll() not in (None, 0)
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                sock.connect(self.path)
                sock.settimeout(self.wait)
                self.sock = sock
                return
            except OSError as e:
                sock.close()
                if failed or time.monotonic() > end:
                    raise ToolError(f"no serial line at {self.path}: {e.strerror}") from None
            time.sleep(0.002)

    def read(self) -> bytes:
        try:
            data = self.sock.recv(65536)
        except socket.timeout:
            return b""
        except OSError:
            data = b""
        self.at_end = not data
        return data

    def close(self) -> None:
        if self.sock:
            self.sock.close()


class RingConsole:
    """What QEMU keeps in a ring that is larger than a report, a piece at a time. The guest halts at the end."""
    settle = 0.0

    def __init__(self, vm, pause: float = 1.0):
        self.vm, self.pause, self.at_end, self.errors = vm, pause, False, 0

    def read(self) -> bytes:
        try:
            data = decode(self.vm.monitor(f"ringbuf_read plumb {CHUNK}"))
            self.errors = 0
        except ToolError:
            self.errors += 1
            self.at_end = self.errors > 2 or self._stopped()
            data = b""
        if not data and not self.at_end:
            time.sleep(self.pause)
        return data

    def _stopped(self) -> bool:
        try:
            return self.vm.status() == "stopped"
        except ToolError:
            return False

    def close(self) -> None:
        pass


def decode(said: str) -> bytes:
    r"""The monitor's text as the bytes it stands for: \u000D, \\, and a line end of its own at the end."""
    text = said.replace("\r\n", "\n")
    if text.endswith("\n"):
        text = text[:-1]
    text = _ESCAPE.sub(lambda m: "\\" if m[1] == "\\" else chr(int(m[1][1:], 16)), text)
    return text.encode("utf-8", "replace")
