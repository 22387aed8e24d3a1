# SPDX-License-Identifier: MIT
"""A host that holds still while a guest measures: what a person would do by hand with chrt.

QEMU answers most of what a guest times in its main loop, a thread that sleeps until it is needed. How long
it takes to wake, and at whose cost, is the host's affair, and the greatest difference between two boots of
one image. So all of QEMU gets real-time priority, the main loop a higher one than the vCPUs (two that spin
for each other would keep it from answering). One thread for all vCPUs shares one CPU of the host with the main
loop; where they have a thread each, the host's CPUs are asked to sleep lightly. What may not be done is left, and said.
"""
from __future__ import annotations

import fcntl
import os
import struct
import tempfile
import time

LATENCY = "/dev/cpu_dma_latency"     # Linux: Documentation/power/pm_qos_interface.rst
VCPU, OTHER = 1, 2                   # real-time priorities: the lowest that there are
LOCK = "plumb-steady.lock"           # in the directory for temporary files
PATIENCE = 60                        # seconds, for another one that measures


class Steady:
    """Once for each QEMU: open() before it, apply() as soon as its monitor answers, close() after it has ended."""

    def __init__(self):
        self.done: list[str] = []
        self.left: list[str] = []
        self.latency = None
        self.before = None
        self.pid = 0
        self.cpu = min(os.sched_getaffinity(0))
        self.lock = None
        self.beside = False

    def open(self) -> None:
        """Two in real time keep each other, and who reads their reports, from running: one after the other."""
        end = time.monotonic() + PATIENCE
        try:
            self.lock = os.open(os.path.join(tempfile.gettempdir(), LOCK), os.O_RDONLY | os.O_CREAT, 0o644)
            while not self._locked():
                if time.monotonic() > end:
                    self.beside = True
                    self.left.append("another one measures for a minute and longer")
                    break
                time.sleep(0.1)
        except OSError as e:
            self.left.append(f"{LOCK}: {e.strerror}")

    def _locked(self) -> bool:
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def apply(self, pid: int, qmp) -> None:
        if self.beside:
            return
        cpus = sorted(qmp.ask("query-cpus-fast") or [], key=lambda c: c.get("cpu-index", 0))
        vcpus = [c.get("thread-id") for c in cpus]
        if not vcpus or not all(isinstance(t, int) for t in vcpus):
            self.left.append("QEMU did not name its threads")
            return
        self.pid = pid
        self._try("QEMU in real time", lambda: self._priorities(set(vcpus)))
        if len(set(vcpus)) == 1:
            self._try("on one CPU", self._one_cpu)
        else:                            # the other CPU's idle loop may be on the same core
            self._try("CPUs that sleep lightly", self._stay_awake)

    def _one_cpu(self) -> None:
        """
        One thread for all vCPUs (thread=single), and one CPU of the host for it and the main loop: what passes between
        them stays in that CPU's caches. On two it takes as long as those are apart, which is a virtual host's
        own host's affair and changes as it likes.
        """
        for thread in map(int, os.listdir(f"/proc/{self.pid}/task")):
            os.sched_setaffinity(thread, {self.cpu})

    def _priorities(self, vcpus: set[int]) -> None:
        for thread in map(int, os.listdir(f"/proc/{self.pid}/task")):
            if thread in vcpus:
                os.sched_setscheduler(thread, os.SCHED_RR, os.sched_param(VCPU))
            else:
                os.sched_setscheduler(thread, os.SCHED_FIFO, os.sched_param(OTHER))
        # Who reads the serial line must not wait for those who write to it.
        self.before = os.sched_getscheduler(0), os.sched_getparam(0)
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(OTHER))

    def _try(self, what: str, fn) -> None:
        try:
            fn()
            self.done.append(what)
        except OSError:
            self.left.append(what)

    def _stay_awake(self) -> None:
        self.latency = os.open(LATENCY, os.O_WRONLY)
        os.write(self.latency, struct.pack("i", 0))

    def close(self) -> None:
        if self.before:
            os.sched_setscheduler(0, *self.before)
            self.before = None
        if self.latency is not None:
            os.close(self.latency)
            self.latency = None
        if self.lock is not None:
            os.close(self.lock)
            self.lock = None

    def text(self) -> str:
        return ", ".join(dict.fromkeys(self.done + [f"not allowed: {x}" for x in self.left]))
