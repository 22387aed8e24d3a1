# SPDX-License-Identifier: MIT
"""A host that holds still while a guest measures: what a person would do by hand with chrt.

QEMU answers most of what a guest times in its main loop, a thread that sleeps until it is needed. How long
it takes to wake, and at whose cost, is the host's affair, and the greatest difference between two boots of
one image. So all of QEMU gets real-time priority, the main loop a higher one than the vCPUs (two that spin
for each other would keep it from answering), and the host's CPUs are asked to sleep lightly. What may not
be done is left, and said.
"""
from __future__ import annotations

import os
import struct

LATENCY = "/dev/cpu_dma_latency"     # Linux: Documentation/power/pm_qos_interface.rst
VCPU, OTHER = 1, 2                   # real-time priorities: the lowest that there are


class Steady:
    """Once for each QEMU: apply() as soon as its monitor answers; close() after it has ended."""

    def __init__(self):
        self.done: list[str] = []
        self.left: list[str] = []
        self.latency = None
        self.before = None

    def apply(self, pid: int, qmp) -> None:
        vcpus = [c.get("thread-id") for c in qmp.ask("query-cpus-fast") or []]
        if not vcpus or not all(isinstance(t, int) for t in vcpus):
            self.left.append("QEMU did not name its threads")
            return
        others = [t for t in map(int, os.listdir(f"/proc/{pid}/task")) if t not in vcpus]
        self._try("QEMU in real time", lambda: self._priorities(vcpus, others))
        self._try("CPUs that sleep lightly", self._stay_awake)

    def _priorities(self, vcpus: list[int], others: list[int]) -> None:
        for thread in others:
            os.sched_setscheduler(thread, os.SCHED_FIFO, os.sched_param(OTHER))
        for thread in vcpus:
            os.sched_setscheduler(thread, os.SCHED_RR, os.sched_param(VCPU))
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

    def text(self) -> str:
        return ", ".join(dict.fromkeys(self.done + [f"not allowed: {x}" for x in self.left]))
