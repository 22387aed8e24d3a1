# SPDX-License-Identifier: MIT
"""One boot: a QEMU process, its serial line, its deadlines. Whatever happens, it does not outlive us."""
from __future__ import annotations

import ctypes
import os
import selectors
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from . import UsageError, ivshmem
from .qmp import Qmp, evidence
from .report import HEADER, MAX_BYTES

AFTER_VERDICT = 2.0   # a guest that cannot switch its machine off repeats its verdict for ever
AFTER_PANIC = 5.0
PR_SET_PDEATHSIG = 1
_SIGNALS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}


@dataclass
class Limits:
    boot: float = 60      # to the report's first line
    silence: float = 30   # without a byte, after it
    total: float = 300


@dataclass
class Boot:
    """How one boot went, before anybody judges it."""
    log: bytes = b""
    status: int | None = None        # QEMU's, where it ended by itself; negative: its signal
    killed: str = ""                 # why we ended it: boot silence total verdict panic paused flood
    paused: str = ""                 # QEMU's run state when it stopped the guest
    resets: list = field(default_factory=list)  # reasons of RESET and SHUTDOWN events
    stderr: str = ""
    evidence: str = ""
    seconds: float = 0               # start to the end of QEMU
    to_report: float | None = None   # start to the report's first line


@contextmanager
def scratch(build: Path):
    """A folder for this run alone, gone afterwards; those of runs that were killed go too."""
    build.mkdir(parents=True, exist_ok=True)
    for old in build.glob("run-*"):
        pid = old.name.split("-")[1]
        if pid.isdigit() and not os.path.exists(f"/proc/{pid}"):
            shutil.rmtree(old, ignore_errors=True)
    tmp = Path(tempfile.mkdtemp(prefix=f"run-{os.getpid()}-", dir=build))
    try:
        yield tmp
    finally:
        shutil.rmtree(tmp, ignore_errors=True)


class Guest:
    """Context manager around one QEMU."""

    def __init__(self, make_argv, env: dict, helpers: list[str], limits: Limits, on_line=None,
                 on_bytes=None, on_tick=None, recorder=None, steady=None):
        self.make_argv, self.env, self.helpers, self.limits = make_argv, env, helpers, limits
        self.on_line = on_line or (lambda line: None)
        self.on_bytes = on_bytes or (lambda data: None)
        self.on_tick = on_tick or (lambda: None)
        self.recorder = recorder         # trace.Recorder
        self.steady = steady             # steady.Steady
        self.boot = Boot()
        self.proc = None
        self.mine: list[socket.socket] = []
        self.chunks: list[bytes] = []
        self.size = 0
        self.partial = b""
        self.verdict_at = self.panic_at = None

    def __enter__(self) -> Guest:
        if self.steady:
            self.steady.open()
        theirs: dict[str, socket.socket] = {}
        ours: dict[str, socket.socket] = {}
        for name in ("serial", "qmp", *self.helpers):
            ours[name], theirs[name] = socket.socketpair()
        self.mine = list(ours.values())
        self.serial, self.qmp = ours["serial"], Qmp(ours["qmp"])
        self.serial.setblocking(False)
        if "ivshmem" in ours:
            ivshmem.serve(ours["ivshmem"])
        self.stderr = tempfile.TemporaryFile()
        self.start = time.monotonic()
        self.last = self.start
        try:
            argv = self.make_argv({name: s.fileno() for name, s in theirs.items()})
            more = []
            if self.recorder:
                more = [self.recorder.attach()]
                argv += self.recorder.options()
            self._spawn(argv, [s.fileno() for s in theirs.values()] + more)
        except BaseException:
            self._close()
            raise
        finally:
            for s in theirs.values():
                s.close()
            if self.recorder:
                self.recorder.started()
        return self

    def _spawn(self, argv: list[str], fds: list[int]) -> None:
        libc = ctypes.CDLL(None)
        parent = os.getpid()
        # No signal may come between the start of the process and our knowing its id.
        old = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)

        def child():
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            signal.pthread_sigmask(signal.SIG_SETMASK, old)
            if os.getppid() != parent:  # died before we asked to be told
                os._exit(127)

        try:
            self.proc = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=self.stderr, stderr=self.stderr,
                                         pass_fds=fds, start_new_session=True, preexec_fn=child,
                                         env={**os.environ, **self.env})
        except OSError as e:
            raise UsageError(f"{argv[0]} does not start: {e}") from None
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, old)

    def __exit__(self, *exc) -> None:
        old = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            self._kill()
            self._close()
            if self.recorder:
                self.recorder.detach()
            if self.steady:
                self.steady.close()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, old)

    def _kill(self) -> None:
        if self.proc and self.proc.poll() is None:
            try:
                os.killpg(self.proc.pid, signal.SIGKILL)  # its own group: a wrapper's children too
            except ProcessLookupError:
                pass
            self.proc.wait(10)

    def _close(self) -> None:
        for s in self.mine:
            s.close()
        self.stderr.close()

    # ---- the loop ----

    def run(self) -> Boot:
        boot, sel = self.boot, selectors.DefaultSelector()
        sel.register(self.serial, selectors.EVENT_READ, self._serial_ready)
        sel.register(self.qmp.sock, selectors.EVENT_READ, self.qmp.feed)
        pidfd = os.pidfd_open(self.proc.pid)
        sel.register(pidfd, selectors.EVENT_READ, None)
        try:
            if self.steady:
                self.steady.apply(self.proc.pid, self.qmp)
            while self.proc.poll() is None and not boot.killed:
                for key, _ in sel.select(0.1):
                    if key.data:
                        key.data()
                if not self.qmp.open and self.qmp.sock.fileno() in sel.get_map():
                    sel.unregister(self.qmp.sock)
                if self.serial.fileno() in sel.get_map() and self.serial_ended:
                    sel.unregister(self.serial)
                self._events()
                boot.killed = boot.killed or self._overdue()
                self.on_tick()
        finally:
            sel.close()
            os.close(pidfd)
        if boot.killed in ("boot", "silence", "total", "paused"):
            boot.evidence = evidence(self.qmp)
        if boot.killed:
            self._kill()
        else:
            boot.status = self.proc.wait()
        self._drain()
        boot.seconds = time.monotonic() - self.start
        boot.log = b"".join(self.chunks)
        self.stderr.seek(0)
        boot.stderr = self.stderr.read(65536).decode("utf-8", "replace").strip()
        return boot

    serial_ended = False

    def _serial_ready(self) -> bool:
        try:
            data = self.serial.recv(65536)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            data = b""
        if not data:
            self.serial_ended = True
            return False
        self.last = time.monotonic()
        self.size += len(data)
        if self.size > MAX_BYTES:
            self.boot.killed = "flood"
            return False
        self.chunks.append(data)
        self.on_bytes(data)
        *lines, self.partial = (self.partial + data).split(b"\n")
        for raw in lines:
            self._line(raw.rstrip(b"\r"))
        return True

    def _line(self, raw: bytes) -> None:
        if self.boot.to_report is None:
            if not raw.endswith(HEADER):
                return
            raw = HEADER
            self.boot.to_report = time.monotonic() - self.start
        if raw.startswith(b"# verdict ") and self.verdict_at is None:
            self.verdict_at = time.monotonic()
        elif raw.startswith(b"# panic ") and self.panic_at is None:
            self.panic_at = time.monotonic()
        if self.recorder:
            self.recorder.serial_line(raw.decode("utf-8", "replace"))
        text = raw.decode("utf-8", "replace")
        self.on_line(text)

    def _events(self) -> None:
        for name, data in list(self.qmp.events):
            if name in ("RESET", "SHUTDOWN"):
                self.boot.resets.append(str(data.get("reason", name)))
            elif name in ("STOP", "GUEST_PANICKED"):
                # KVM that cannot emulate an instruction stops the guest and stays.
                state = (self.qmp.ask("query-status") or {}).get("status")
                if state in ("internal-error", "guest-panicked", "io-error", "paused"):
                    self.boot.paused, self.boot.killed = state, "paused"
        self.qmp.events.clear()

    def _overdue(self) -> str:
        now = time.monotonic()
        if self.verdict_at is not None:
            return "verdict" if now - self.verdict_at > AFTER_VERDICT else ""
        if self.panic_at is not None and now - self.panic_at > AFTER_PANIC:
            return "panic"
        if self.boot.to_report is None and now - self.start > self.limits.boot:
            return "boot"
        if now - self.start > self.limits.total:
            return "total"
        if self.boot.to_report is None:
            return ""
        return "silence" if now - self.last > self.limits.silence else ""

    def _drain(self) -> None:
        """What QEMU wrote before it ended is in the sockets still."""
        end = time.monotonic() + 5
        while time.monotonic() < end and self._serial_ready():
            pass
        if self.partial and self.boot.to_report is not None:
            self.on_line(self.partial.decode("utf-8", "replace"))
        while self.qmp.open and time.monotonic() < end:
            before = len(self.qmp.pending), len(self.qmp.events)
            self.qmp.feed()
            if (len(self.qmp.pending), len(self.qmp.events)) == before:
                break
        for name, data in self.qmp.events:
            if name in ("RESET", "SHUTDOWN"):
                self.boot.resets.append(str(data.get("reason", name)))
        self.qmp.events.clear()
