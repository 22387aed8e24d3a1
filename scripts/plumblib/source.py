# SPDX-License-Identifier: MIT
"""Where a log comes from: a file, standard input, a serial device, unix:PATH or tcp:HOST:PORT.

A file is read to its end. What may never end is read until the report is over: its verdict and a moment
of silence after it, end of stream, or the deadline. Standard library only.
"""
from __future__ import annotations

import os
import select
import socket
import stat
import sys
import time

from . import UsageError
from .report import HEADER, MAX_BYTES

DEADLINE = 600.0
AFTER_VERDICT = 1.0                  # a second boot would begin to speak


def is_stream(name: str) -> bool:
    return name == "-" or name.startswith(("unix:", "tcp:")) or _special(name)


def _special(name: str) -> bool:
    try:
        return not stat.S_ISREG(os.stat(name).st_mode) and not os.path.isdir(name)
    except OSError:
        return False


def read(name: str, deadline: float = DEADLINE) -> bytes:
    if not is_stream(name):
        try:
            with open(name, "rb") as f:
                return f.read(MAX_BYTES + 1)
        except OSError as e:
            raise UsageError(f"cannot read {name}: {e.strerror}") from None
    end = time.monotonic() + deadline
    try:
        if name == "-":
            return _until_over(sys.stdin.fileno(), end)
        if name.startswith(("unix:", "tcp:")):
            with _connect(name, end) as sock:
                return _until_over(sock.fileno(), end)
        fd = os.open(name, os.O_RDONLY | os.O_NOCTTY)
        try:
            return _until_over(fd, end)
        finally:
            os.close(fd)
    except OSError as e:
        raise UsageError(f"cannot read {name}: {e.strerror or e}") from None


def _connect(name: str, end: float) -> socket.socket:
    """Tries again until the deadline: the machine may start after us."""
    kind, _, where = name.partition(":")
    host, _, port = where.rpartition(":")
    if kind == "tcp" and not (host and port.isdigit() and int(port) < 65536):
        raise UsageError(f"{name}: tcp:HOST:PORT")
    while True:
        try:
            if kind == "tcp":
                return socket.create_connection((host.strip("[]"), int(port)), timeout=5)
            sock = socket.socket(socket.AF_UNIX)
            try:
                sock.connect(where)
            except OSError:
                sock.close()
                raise
            return sock
        except OSError as e:
            if time.monotonic() + 0.2 > end:
                raise UsageError(f"{name}: {e.strerror or e}") from None
        time.sleep(0.2)


def _until_over(fd: int, end: float) -> bytes:
    chunks: list[bytes] = []
    size, line, begun, over_at = 0, b"", False, None
    while size <= MAX_BYTES:
        now = time.monotonic()
        wait = min(end, over_at if over_at is not None else end) - now
        if wait <= 0 or not select.select([fd], [], [], wait)[0]:
            break
        data = os.read(fd, 65536)
        if not data:
            break
        chunks.append(data)
        size += len(data)
        *lines, line = (line + data).split(b"\n")
        for raw in lines:
            begun = begun or raw.rstrip(b"\r").endswith(HEADER)
            if begun and raw.startswith(b"# verdict ") and over_at is None:
                over_at = time.monotonic() + AFTER_VERDICT
        line = line[-4096:]
    return b"".join(chunks)
