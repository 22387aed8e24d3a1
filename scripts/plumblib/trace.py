# SPDX-License-Identifier: MIT
"""QEMU's own trace events, recorded beside a run and joined to it test by test.

QEMU writes them to a pipe (`-D /dev/fd/N`), so that nothing grows on disk; we keep of each test the first
and the last, and count all. To know during which test an event came we let QEMU trace the guest's serial
port too: the report's bytes stand in the same stream, in order. Where the guest has no UART, the time at
which we read the line `# run N NAME` must do.
"""
from __future__ import annotations

import fcntl
import os
import re
import subprocess
import threading
from collections import Counter, deque
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from . import UsageError

FORMAT = "plumb-trace/1"
HEAD, TAIL = 80, 320                 # lines kept of a test: its first, its last
BEFORE, PLACES = 60, 4               # and those before the first failed checks
CLOSE = 8                            # one that is among the last so many is counted there: a polling loop
LINE = 300                           # bytes kept of one
MAX_TESTS = 1000
MAX_FILE = 32 << 20                  # read back
MARK = "serial_write"                # of QEMU's 16550, and only that port's THR is the report

# Names that a person would guess. A device's own events may be its region's accesses: (pattern, only
# those whose text has this).
GROUPS: dict[str, tuple] = {
    "vtd": ("vtd_*",),
    "amdvi": ("amdvi_*",),
    "virtio-iommu": ("virtio_iommu_*",),
    "iommu": ("vtd_*", "amdvi_*", "virtio_iommu_*"),
    "ir": ("vtd_ir_*", "vtd_inv_desc_iec", "vtd_frr_new", "vtd_dmar_fault", "amdvi_ir_*", "amdvi_intr_inval",
           "amdvi_mem_ir_*"),
    "fault": ("vtd_dmar_fault", "vtd_frr_new", "vtd_*_not_present", "vtd_fsts_*", "vtd_fault_disabled",
              "vtd_irq_generate", "amdvi_page_fault", "amdvi_*_fail", "amdvi_invalid_dte", "amdvi_err", "amdvi_ir_err",
              "amdvi_ir_target_abort", "virtio_iommu_report_fault"),
    "apic": ("apic_*",),
    "ioapic": ("ioapic_*",),
    "pic": ("pic_*",),
    "hpet": ("hpet_*",),
    "irq": ("apic_*", "ioapic_*", "pic_*"),
    "msi": ("apic_deliver_irq", "vtd_ir_remap_msi*", "amdvi_ir_remap_msi*", "amdvi_mem_ir_*", "msix_*",
            "pci_nvme_irq_*", "kvm_irqchip_*msi*"),
    "pci": ("pci_cfg_*", "pci_update_mappings_*", "pci_route_irq", "sriov_*", "pcie_*"),
    "nvme": ("pci_nvme_*",),
    "virtio": ("virtio_*", "virtqueue_*", "vring_*"),
    "igb": ("igb_*", "e1000*"),
    "vfio": ("vfio_*", "vfu_*"),
    "kvm": ("kvm_*",),
    "edu": (("memory_region_ops_*", "'edu-mmio'"),),
    "ivshmem": (("memory_region_ops_*", "'ivshmem-mmio'"),),
    "testdev": ("iommu_testdev_*",),
    "mmio": ("memory_region_ops_*",),
}
ALSO = {"intel-iommu": "vtd", "vt-d": "vtd", "dmar": "vtd", "amd-iommu": "amdvi", "amd-vi": "amdvi", "lapic": "apic",
        "x2apic": "apic", "msix": "msi", "faults": "fault", "virtio-blk": "virtio", "virtio-rng": "virtio",
        "iommu-testdev": "testdev", "interrupts": "irq", "remapping": "ir", "intremap": "ir"}
# "1234@1700000000.123456:name rest" (10.0), "2026-01-02T03:04:05.123456Z name rest" (since 10.1)
_EVENT = re.compile(rb"(?:\d+@(\d+)\.(\d{6}):|\d{4}-\d\d-\d\dT(\d\d):(\d\d):(\d\d)\.(\d{6})Z )(\w+) ?(.*)", re.S)
_THR = re.compile(rb"(?:write )?addr 0x0+ val 0x([0-9a-f]{2})")
_NAMES = re.compile(r"\w{1,80}\Z")
_NUMBER = re.compile(r"[0-9]{1,12}\Z")
# Of the guest's own lines, those that say what it was at.
_QUIET = re.compile(r"# (metric|hist|env|list|pciconf|acpitable|took) ")


@dataclass
class Choice:
    """What to trace: QEMU's patterns, and the filters of those that want one."""
    groups: str
    patterns: list[str]
    filters: list[tuple[str, str]]   # (pattern, text): an event of the pattern must contain one of its texts


def choose(wanted: str, events: list[str]) -> Choice:
    """`wanted`: groups and event patterns with commas between. Each must name an event that QEMU has."""
    patterns: list[str] = []
    filters: list[tuple[str, str]] = []
    free: set[str] = set()
    for word in filter(None, (w.strip().lower() for w in wanted.split(","))):
        entries = GROUPS.get(ALSO.get(word, word)) or ((word,) if "*" in word or "_" in word else None)
        if not entries:
            raise UsageError(f"--trace {word}: no such group; there are {' '.join(GROUPS)}, and QEMU's own event"
                             " names and patterns")
        found = False
        for entry in entries:
            pattern, text = entry if isinstance(entry, tuple) else (entry, "")
            if not any(fnmatchcase(e, pattern) for e in events):
                continue
            found = True
            patterns.append(pattern)
            if text:
                filters.append((pattern, text))
            else:
                free.add(pattern)
        if not found:
            raise UsageError(f"--trace {word}: this QEMU has no such event")
    if not patterns:
        raise UsageError("--trace wants groups, as vtd,apic")
    return Choice(wanted, list(dict.fromkeys(patterns)), [f for f in filters if f[0] not in free])


def events_of(qemu) -> list[str]:
    """The names of this QEMU's trace events."""
    try:
        said = subprocess.run([*qemu.argv, "-trace", "help"], env={**os.environ, **qemu.env}, timeout=20,
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
    except (OSError, subprocess.TimeoutExpired) as e:
        raise UsageError(f"--trace: {e}") from None
    names = [line.strip() for line in said.stdout.splitlines() if _NAMES.match(line.strip())]
    if not names:
        raise UsageError("--trace: this QEMU names no trace events (-trace help)")
    return names


@dataclass
class TestTrace:
    """What QEMU did during one test."""
    events: int = 0
    counts: Counter = field(default_factory=Counter)
    # (seconds since its `# run`, kind, text). Kinds: "e" an event, "s" said by the guest, "x" so many lines left out.
    lines: list[tuple[float, str, str]] = field(default_factory=list)

    @property
    def left_out(self) -> int:
        return sum(int(text) for _, kind, text in self.lines if kind == "x")


@dataclass
class Trace:
    groups: str = ""
    qemu: str = ""
    boot: str = ""                   # the nonce of the report that it belongs to
    tests: dict[str, TestTrace] = field(default_factory=dict)   # "": before the first test

    @property
    def events(self) -> int:
        return sum(t.events for t in self.tests.values())


@dataclass
class _Row:
    number: int
    when: float
    kind: str
    text: str
    times: int = 1


class _Keep:
    """The events of one test while it runs; what polls is folded into the line that it repeats."""

    def __init__(self):
        self.start: float | None = None
        self.counts: Counter = Counter()
        self.rows = 0
        self.close: deque = deque(maxlen=CLOSE)
        self.kept: dict[int, _Row] = {}      # the first, and those before a failed check
        self.tail: deque = deque(maxlen=TAIL)
        self.places = 0

    def add(self, when: float, kind: str, text: str) -> None:
        if self.start is None:
            self.start = when
        for row in self.close:
            if row.text == text and row.kind == kind == "e":
                row.times += 1
                return
        row = _Row(self.rows, when, kind, text)
        self.rows += 1
        self.close.append(row)
        self.tail.append(row)
        if len(self.kept) < HEAD:
            self.kept[row.number] = row
        if kind == "s" and text.startswith(("# expect ", "# error: ", "# timeout: ")) and self.places < PLACES:
            self.places += 1
            self.kept |= {r.number: r for r in list(self.tail)[-BEFORE:]}

    def done(self) -> TestTrace:
        rows = self.kept | {r.number: r for r in self.tail}
        lines, due = [], 0
        for number in sorted(rows):
            r = rows[number]
            when = round(r.when - (self.start or 0.0), 6)
            if number != due:
                lines.append((when, "x", str(number - due)))
            lines.append((when, r.kind, r.text + (f"  ×{r.times}" if r.times > 1 else "")))
            due = number + 1
        return TestTrace(sum(self.counts.values()), self.counts, lines)


class Recorder:
    """Reads QEMU's trace of each boot of a run. Use: attach() before QEMU starts, detach() after its end."""

    def __init__(self, choice: Choice, qemu_version: str):
        self.choice, self.version = choice, qemu_version
        self.tests: dict[str, _Keep] = {"": _Keep()}
        self.boot = ""
        self.current = self.tests[""]
        self.marked = False              # the serial port speaks in the stream
        self.thread: threading.Thread | None = None
        self.write_end = -1

    def options(self) -> list[str]:
        argv = ["-msg", "timestamp=on", "-D", f"/dev/fd/{self.write_end}", "-trace", MARK]
        for pattern in self.choice.patterns:
            argv += ["-trace", pattern]
        return argv

    def attach(self) -> int:
        """A pipe's end for QEMU; the other end is read from now on."""
        read_end, self.write_end = os.pipe()
        try:
            fcntl.fcntl(read_end, fcntl.F_SETPIPE_SZ, 1 << 20)  # the guest waits when it is full
        except OSError:
            pass
        self.current, self.marked = self.tests[""], False
        self.thread = threading.Thread(target=self._read, args=(read_end,), daemon=True)
        self.thread.start()
        return self.write_end

    def started(self) -> None:
        """QEMU has its copy of the pipe's end: drop ours, so that its end is the stream's."""
        if self.write_end >= 0:
            os.close(self.write_end)
            self.write_end = -1

    def detach(self) -> None:
        self.started()
        if self.thread:
            self.thread.join(10)
            self.thread = None

    def serial_line(self, text: str) -> None:
        """A line of the report, as the runner reads it: what joins where the port is not in the stream."""
        if not self.marked:
            self._guest(None, text)

    # ---- the reading thread ----

    def _read(self, fd: int) -> None:
        said = bytearray()
        with os.fdopen(fd, "rb", buffering=1 << 18) as stream:
            for raw in stream:
                m = _EVENT.match(raw[:LINE + 80].rstrip(b"\r\n"))
                if not m:
                    continue
                name = m[7].decode()
                when = (int(m[1]) + int(m[2]) / 1e6) if m[1] else (
                    int(m[3]) * 3600 + int(m[4]) * 60 + int(m[5]) + int(m[6]) / 1e6)
                if name != MARK:
                    self._event(when, name, m[8][:LINE].decode("utf-8", "replace"))
                    continue
                thr = _THR.match(m[8])
                if not thr:
                    continue
                byte = int(thr[1], 16)
                if byte == 10:
                    line = said.decode("utf-8", "replace").rstrip("\r")
                    said.clear()
                    if line.endswith("TAP version 14"):
                        self.marked = True
                    if self.marked:
                        self._guest(when, line)
                elif len(said) < 4096:
                    said.append(byte)

    def _guest(self, when: float | None, text: str) -> None:
        if text.startswith("# plumb ") and " boot=" in text:
            self.boot = self.boot or text.rpartition("boot=")[2][:16]
        elif text.startswith("# run "):
            name = text.split()[-1]
            if name in self.tests or len(self.tests) < MAX_TESTS:
                self.current = self.tests.setdefault(name, _Keep())
                self.current.start = when if self.current.start is None else self.current.start
            return
        elif re.match(r"(not )?ok \d", text):
            pass
        elif not text.startswith("# ") or _QUIET.match(text):
            return
        if when is not None and self.current is not self.tests[""]:
            self.current.add(when, "s", text[:LINE])

    def _event(self, when: float, name: str, rest: str) -> None:
        wanted = [text for pattern, text in self.choice.filters if fnmatchcase(name, pattern)] \
            if self.choice.filters else None
        if wanted and not any(text in rest for text in wanted):
            return
        self.current.counts[name] += 1
        self.current.add(when, "e", f"{name} {rest}".rstrip())

    # ---- the end ----

    def result(self) -> Trace:
        return Trace(self.choice.groups, self.version, self.boot,
                     {name: keep.done() for name, keep in self.tests.items()})


# ---- the file beside the log ----

def path_of(log: Path) -> Path:
    return log.with_name(log.name + ".trace")


def save(trace: Trace, path: Path) -> None:
    with open(path, "w", encoding="utf-8", errors="replace") as f:
        f.write(f"{FORMAT} boot={trace.boot or '-'} qemu={trace.qemu} groups={trace.groups.replace(' ', '')}\n")
        for name, t in trace.tests.items():
            f.write(f"== {name or '(before the first test)'} events={t.events}\n")
            for event, n in t.counts.most_common():
                f.write(f"c {n} {event}\n")
            for when, kind, text in t.lines:
                f.write(f"{kind} {when:+.6f} {text}\n")


def load(path: Path, boot: str) -> Trace | None:
    """The trace beside a log, if it is of the same boot. Whatever the file holds, no exception."""
    try:
        with open(path, "rb") as f:
            lines = f.read(MAX_FILE).decode("utf-8", "replace").split("\n")
    except OSError:
        return None
    m = re.match(rf"{FORMAT} boot=(\S+) qemu=(\S*) groups=(\S*)\Z", lines[0])
    if not m or not boot or m[1] != boot:
        return None
    out = Trace(m[3], m[2], m[1])
    test = None
    for line in lines[1:]:
        kind, _, rest = line.partition(" ")
        first, _, text = rest.partition(" ")
        if kind == "==":
            head = re.match(r"(.*) events=(\d{1,12})\Z", rest)
            if head and len(out.tests) < MAX_TESTS:
                name = "" if head[1].startswith("(") else head[1]
                test = out.tests[name] = TestTrace(int(head[2]))
        elif not test:
            continue
        elif kind == "c" and _NUMBER.match(first):
            test.counts[text[:80]] += int(first)
        elif kind in ("e", "s", "x") and (kind != "x" or _NUMBER.match(text)) and re.match(r"[+-]\d{1,9}\.\d{6}\Z", first):
            test.lines.append((float(first), kind, text[:LINE + 40]))
    return out


def in_short(t: TestTrace, most: int = 6) -> str:
    """"vtd_dmar_fault 3, vtd_inv_desc_wait_sw 12, …"."""
    if not t.events:
        return "no event"
    said = ", ".join(f"{name} {n}" for name, n in t.counts.most_common(most))
    return said + (f", {len(t.counts) - most} kinds more" if len(t.counts) > most else "")
