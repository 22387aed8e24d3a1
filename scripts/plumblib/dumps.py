# SPDX-License-Identifier: MIT
"""What the guest saw, as files that other tools read: `# pciconf` for `lspci -F`, `# acpitable` for `iasl -d`."""
from __future__ import annotations

import re
from dataclasses import dataclass

from . import UsageError
from .report import Report

_PCI = re.compile(r"((?:[0-9a-f]{4}:)?[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]) ([0-9a-f]{3}) ((?:[0-9a-f]{2}){1,256})\Z")
_ACPI = re.compile(r"([A-Za-z0-9_]{4}) ([0-9a-f]{1,16}) ([0-9a-f]{1,6}) ((?:[0-9a-f]{2}){1,256})\Z")
CONFIG, EXTENDED = 256, 4096
HEADER = 36                          # of an ACPI table


@dataclass
class Table:
    signature: str
    address: int
    bytes: bytes
    name: str = ""                   # of its file
    problem: str = ""


def config_space(rep: Report) -> dict[str, bytes]:
    """Every function's bytes by address; chunks that the guest left out are zero (tests/harness/dump.c)."""
    out: dict[str, bytearray] = {}
    for kind, text in rep.dumps:
        m = _PCI.match(text) if kind == "pciconf" else None
        if not m:
            continue
        at, data = int(m[2], 16), bytes.fromhex(m[3])
        if at + len(data) > EXTENDED:
            continue
        space = out.setdefault(m[1], bytearray(CONFIG))
        if at >= CONFIG and len(space) < EXTENDED:
            space.extend(bytes(EXTENDED - len(space)))
        space[at:at + len(data)] = data
    return {k: bytes(v) for k, v in out.items()}


def lspci_text(rep: Report) -> str:
    """The form that `lspci -F FILE` reads: what `lspci -xxxx` prints."""
    space = config_space(rep)
    if not space:
        raise UsageError("no `# pciconf` lines in this log: boot with `dump` on the guest command line")
    out = []
    for address, data in sorted(space.items(), key=lambda kv: (len(kv[0]), kv[0])):
        out.append(f"{address} {_kind(data)}")
        for at in range(0, len(data), 16):
            out.append(f"{at:02x}: " + " ".join(f"{b:02x}" for b in data[at:at + 16]))
        out.append("")
    return "\n".join(out) + "\n"


def _kind(data: bytes) -> str:
    """lspci looks at the address and the bytes alone; a person may look at this."""
    return (f"Class {data[0x0b]:02x}{data[0x0a]:02x}: {data[1]:02x}{data[0]:02x}:{data[3]:02x}{data[2]:02x}"
            f" (rev {data[8]:02x})")


def acpi_tables(rep: Report) -> list[Table]:
    """Every table, in the guest's order. One that is not whole is here too, with its problem in words."""
    parts: dict[tuple[str, int], dict[int, bytes]] = {}
    for kind, text in rep.dumps:
        m = _ACPI.match(text) if kind == "acpitable" else None
        if m:
            parts.setdefault((m[1], int(m[2], 16)), {})[int(m[3], 16)] = bytes.fromhex(m[4])
    out: list[Table] = []
    for (signature, address), chunks in parts.items():
        data, problem = b"", ""
        for at in sorted(chunks):
            if at != len(data):
                problem = f"bytes {len(data)} to {at} are missing"
                break
            data += chunks[at]
        length = int.from_bytes(data[4:8], "little") if len(data) >= HEADER else 0
        if not problem and length != len(data):
            problem = f"its length field says {length}, {len(data)} bytes are here"
        if not problem and sum(data) % 256:
            problem = "its checksum is wrong"
        again = sum(t.signature == signature for t in out)
        out.append(Table(signature, address, data, f"{signature.lower()}{again + 1 if again else ''}.dat", problem))
    if not out:
        raise UsageError("no `# acpitable` lines in this log: boot with `dump` on the guest command line")
    return out
