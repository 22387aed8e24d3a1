# SPDX-License-Identifier: MIT
"""The machine's PCI tree out of the `# env pci` lines: bridges, units in front, interrupts, what failed."""
from __future__ import annotations

import re
from dataclasses import dataclass, field

from .outputs import BAD
from .report import Report

_ADDRESS = r"(?:[0-9a-f]{4}:)?[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]"
_LINE = re.compile(rf"({_ADDRESS}) ([0-9a-f]{{4}}):([0-9a-f]{{4}}) ([0-9a-f]{{6}})((?: \S+)*)\Z")
_PORT = re.compile(r"(root-port|switch-up|switch-down|pcie-to-pci|pci-to-pcie|pci)=([0-9a-f]{2})-([0-9a-f]{2})\Z")
_BAR = re.compile(r"(bar[0-5]|rom)=([0-9a-f]+|unset)\+([0-9a-f]+)((?:/\w+)*)\Z")
_PROVEN = re.compile(rf"note ({_ADDRESS}) \S+ (MSI|MSI-X|INTx) (direct|remapped): (.*)")
_NAMED = re.compile(rf"(?<![0-9a-f:.])({_ADDRESS})(?![0-9a-f])")
PORTS = {"root-port": "root port", "switch-up": "switch, upstream port", "switch-down": "switch, downstream port",
         "pcie-to-pci": "PCIe-to-PCI bridge", "pci-to-pcie": "PCI-to-PCIe bridge", "pci": "PCI bridge"}
# PCI Code and ID Assignment: the classes that virtual machines have.
CLASSES = {
    "0000": "unclassified", "0100": "SCSI", "0101": "IDE", "0106": "SATA", "0107": "SAS", "0108": "NVMe",
    "0180": "storage", "0200": "Ethernet", "0280": "network", "0300": "VGA", "0302": "3D controller",
    "0380": "display", "0401": "audio", "0403": "audio", "0500": "memory", "0580": "memory", "0600": "host bridge",
    "0601": "ISA bridge", "0604": "PCI bridge", "0680": "bridge", "0700": "serial", "0780": "communication",
    "0806": "IOMMU", "0880": "system", "0900": "input", "0c03": "USB", "0c05": "SMBus", "0d00": "wireless",
    "00ff": "unclassified", "1000": "encryption", "1200": "accelerator", "ff00": "unassigned",
}
MAX_DEPTH = 32


@dataclass
class Function:
    address: str
    vendor: str
    device: str
    kind: str                        # what its class says
    facts: list[str] = field(default_factory=list)
    bars: list[str] = field(default_factory=list)
    port: str = ""
    secondary: int | None = None
    subordinate: int | None = None
    driver: str = ""                 # the exerciser that has it
    broken: str = ""                 # why it is not used
    iommu: str = ""                  # number of the unit in front
    seen_as: str = ""                # the ID under which that sees it, where it is another
    messages: list[str] = field(default_factory=list)   # "MSI 1", "MSI-X 65", "INTx A"
    proven: list[tuple[str, str]] = field(default_factory=list)  # ("MSI-X remapped", "4 CPUs")
    failed: list[str] = field(default_factory=list)     # tests that failed and name it
    children: list[Function] = field(default_factory=list)
    depth: int = 0

    @property
    def bus(self) -> tuple[str, int]:
        segment, bus = _split(self.address)
        return segment, bus


def _split(address: str) -> tuple[str, int]:
    parts = address.split(":")
    return (parts[0] if len(parts) == 3 else ""), int(parts[-2], 16)


def parse(line: str) -> Function | None:
    m = _LINE.match(line)
    if not m:
        return None
    f = Function(m[1], m[2], m[3], CLASSES.get(m[4][:4], f"class {m[4][:4]}"))
    for word in m[5].split():
        key, _, value = word.partition("=")
        if p := _PORT.match(word):
            f.port, f.secondary, f.subordinate = PORTS[p[1]], int(p[2], 16), int(p[3], 16)
        elif b := _BAR.match(word):
            f.bars.append(f"{b[1]} {'unset' if b[2] == 'unset' else '0x' + b[2]}, {_size(int(b[3][:16], 16))}"
                          f"{', '.join(['', *b[4].split('/')[1:]])}")
        elif key == "iommu":
            f.iommu = value
        elif key == "as":
            f.seen_as = value
        elif key == "irq":
            f.messages.append(f"INTx {value}")
        elif word.startswith(("msi@", "msix@")):
            name, _, count = word.partition("/")
            f.messages.append(f"{'MSI-X' if name.startswith('msix') else 'MSI'} {count}".strip())
        elif key not in ("hdr",):
            f.facts.append(word)
    return f


def _size(n: int) -> str:
    for scale, name in ((1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if n >= scale and n % scale == 0:
            return f"{n // scale} {name}"
    return f"{n} B"


def build(rep: Report) -> list[Function]:
    """The functions on root buses, with all below them. A loop of bridges gives no endless tree."""
    functions = [f for f in map(parse, rep.env_of("pci")) if f]
    by_address = {f.address: f for f in functions}
    for line in rep.env_of("exerciser"):
        name, _, rest = line.partition(" ")
        address, _, why = rest.partition(" ")
        if address in by_address:
            by_address[address].driver = name
            by_address[address].broken = why.partition("not used: ")[2]
    _tell(rep, by_address)
    below: dict[tuple[str, int], list[Function]] = {}
    for f in functions:
        below.setdefault(f.bus, []).append(f)
    owned = {(f.bus[0], f.secondary) for f in functions if f.secondary}
    roots = [f for f in functions if f.bus not in owned]
    seen: set[str] = set()
    todo = [(f, 0) for f in reversed(roots)]
    while todo:
        f, depth = todo.pop()
        seen.add(f.address)
        f.depth = depth
        if not f.secondary or depth >= MAX_DEPTH:
            continue
        f.children = [c for c in below.get((f.bus[0], f.secondary), []) if c.address not in seen]
        seen.update(c.address for c in f.children)
        todo += [(c, depth + 1) for c in reversed(f.children)]
    return roots + [f for f in functions if f.address not in seen]


def flat(roots: list[Function]) -> list[Function]:
    out, todo = [], list(reversed(roots))
    while todo:
        f = todo.pop()
        out.append(f)
        todo += reversed(f.children)
    return out


def _tell(rep: Report, functions: dict[str, Function]) -> None:
    """What the tests showed of each function."""
    for test in rep.tests:
        bad = test.outcome in BAD or test.outcome in ("running", "lost")
        for detail in test.details:
            m = _PROVEN.match(detail)
            if m and m[1] in functions and test.outcome in ("pass", "fixed"):
                proven = (f"{m[2]} {m[3]}", m[4][:60])
                if proven[0] not in [p[0] for p in functions[m[1]].proven]:
                    functions[m[1]].proven.append(proven)
            if bad and detail.startswith(("expect ", "error: ", "timeout: ")):
                _blame(functions, detail, test.name)
    for finding in rep.findings:
        _blame(functions, f"{finding.text} {finding.evidence}" if finding.ident != "PLB002" else "", finding.ident)


def _blame(functions: dict[str, Function], text: str, who: str) -> None:
    for address in _NAMED.findall(text):
        f = functions.get(address)
        if f and who not in f.failed:
            f.failed.append(who)
