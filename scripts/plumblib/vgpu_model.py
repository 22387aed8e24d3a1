# SPDX-License-Identifier: MIT
"""A device model (tests/models, tests/mdev) beside a QEMU: one process a device, started before it, ended after it.

    with model("p40-2a-mdev", ["no-rearm"], tmp / "vgpu0.sock") as vgpu:
        argv += [*ram_options("512M"), "-device", vgpu.device(addr="0x10")]     # and -machine …,memory-backend=ram
"""
from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from . import ROOT, UsageError, build_dir, shown

NEEDS_QEMU = "10.1"                  # the first with vfio-user-pci
RAM = "ram"                          # id of the memory backend
START = 10.0                         # seconds to its first line; ASan makes it slow on a busy machine
END = 5.0
SAMPLES = ("doorbell", "doorbell-16", "edu", "mtty", "mtty-2", "mdpy", "mbochs")   # the kinds of tests/mdev/model.py
PATH_MAX = 107                       # of a UNIX socket
_PR_SET_PDEATHSIG = 1
_SIGNALS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}


@dataclass
class Model:
    """A running model."""
    kind: str
    socket: Path
    proc: subprocess.Popen

    def device(self, **properties: str) -> str:
        """QEMU's -device for it; properties: id, bus, addr, …"""
        return device_option(self.socket, **properties)


def binary(kind: str = "") -> Path:
    usual = ROOT / "tests" / "mdev" / "model.py" if kind in SAMPLES else build_dir() / "models" / "vgpu"
    path = Path(os.environ.get("PLUMB_VGPU") or usual)
    if not os.access(path, os.X_OK):
        raise UsageError(f"no {shown(path)}, the vGPU model: build it with `make models`")
    return path


def device_option(socket: Path, **properties: str | int) -> str:
    typed = {k: int(v) if k.startswith("x-") and str(v).isdecimal() else v for k, v in properties.items()}
    return json.dumps({"driver": "vfio-user-pci", "socket": {"type": "unix", "path": str(socket)}, **typed})


def ram_options(size: str) -> list[str]:
    """Memory that the model can reach; the machine needs memory-backend=ram too."""
    return ["-object", f"memory-backend-memfd,id={RAM},size={size},share=on"]


@contextmanager
def model(kind: str, breaks=(), socket: Path | str = "vgpu.sock", options=(), stderr=None):
    """Starts one, waits until it listens, ends it. breaks: names, or "name=number". stderr: a file."""
    path = Path(socket)
    if len(os.fsencode(path)) > PATH_MAX:
        raise UsageError(f"{path}: a socket's path has at most {PATH_MAX} bytes; use a shorter BUILD=")
    argv = [str(binary(kind)), "--kind", kind, "--socket", str(path), *options]
    for name in breaks:
        argv += ["--break", name]
    # From the process's start on, somebody knows its id: no signal comes in between.
    old = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    proc, ours = None, False
    try:
        proc = _start(argv, old, stderr)
        signal.pthread_sigmask(signal.SIG_SETMASK, old)
        _await(proc, path)
        ours = True
        yield Model(kind, path, proc)
    finally:
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            if proc:
                _end(proc)
            if ours:
                path.unlink(missing_ok=True)  # it was killed, and could not
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, old)


def _start(argv: list[str], mask, stderr) -> subprocess.Popen:
    libc = ctypes.CDLL(None)
    parent = os.getpid()

    def child():
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)  # until it asks for SIGTERM itself
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if os.getppid() != parent:
            os._exit(127)

    try:
        return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr,
                                start_new_session=True, preexec_fn=child)
    except OSError as e:
        raise UsageError(f"{argv[0]} does not start: {e}") from None


def _await(proc: subprocess.Popen, path: Path) -> None:
    """Its first line says that it listens."""
    end = time.monotonic() + START
    said = b""
    while not said.endswith(b"\n"):
        left = end - time.monotonic()
        if left <= 0 or not select.select([proc.stdout], [], [], left)[0]:
            raise UsageError(f"the vGPU model does not listen at {path} after {START:.0f} s")
        data = os.read(proc.stdout.fileno(), 4096)
        if not data:
            raise UsageError(f"the vGPU model does not start: status {proc.wait(END)}, {' '.join(proc.args[1:])}")
        said += data


def _end(proc: subprocess.Popen) -> None:
    if proc.poll() is None:
        proc.send_signal(signal.SIGTERM)
        try:
            proc.wait(END)
        except subprocess.TimeoutExpired:
            proc.kill()
            proc.wait(END)
    proc.stdout.close()
