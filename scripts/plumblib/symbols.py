# SPDX-License-Identifier: MIT
"""Where CPUs stand: instruction pointers of a QEMU register dump as functions of our kernel."""
from __future__ import annotations

import re
import struct
from bisect import bisect_right
from pathlib import Path

_CPU = re.compile(r"^CPU#(\d+)$.*?^[ER]IP=([0-9a-f]+).*?HLT=(\d)", re.M | re.S)
SHT_SYMTAB, STT_FUNC, STT_NOTYPE = 2, 2, 0
FAR = 0x10000  # further from a symbol than this is not in it


def where(dump: str, elf: Path) -> str:
    """'CPU 0 spin_wait+0x12; CPUs 1 2 3 idle+0x1 (halted)', of `info registers -a`; empty if there is none."""
    names = functions(elf)
    places: dict[str, list[str]] = {}
    for cpu, rip, halted in _CPU.findall(dump):
        place = symbol(int(rip, 16), names) + (" (halted)" if halted == "1" else "")
        places.setdefault(place, []).append(cpu)
    return "; ".join(f"CPU{'s' * (len(cpus) > 1)} {_few(cpus)} {place}" for place, cpus in list(places.items())[:6])


def _few(cpus: list[str]) -> str:
    return " ".join(cpus if len(cpus) <= 8 else [*cpus[:6], f"… ({len(cpus)})"])


def symbol(address: int, names: list[tuple[int, str]]) -> str:
    i = bisect_right(names, (address, "\U0010ffff")) - 1
    if i < 0 or address - names[i][0] > FAR:
        return f"0x{address:x}"
    return f"{names[i][1]}+0x{address - names[i][0]:x}"


def functions(elf: Path) -> list[tuple[int, str]]:
    """Sorted (address, name) of an ELF64 file's symbol table; nothing where it has none."""
    try:
        data = elf.read_bytes()
        if data[:5] != b"\x7fELF\x02":
            return []
        offset, size, count = struct.unpack_from("<Q", data, 0x28)[0], *struct.unpack_from("<HH", data, 0x3A)
        heads = [struct.unpack_from("<IIQQQQII", data, offset + i * size) for i in range(count)]
        found = []
        for head in heads:
            if head[1] != SHT_SYMTAB:
                continue
            strings = heads[head[6]][4]
            for at in range(head[4], head[4] + head[5], 24):
                name, info, _, section, value, _ = struct.unpack_from("<IBBHQQ", data, at)
                if info & 15 in (STT_FUNC, STT_NOTYPE) and section and name:
                    start = strings + name
                    found.append((value, data[start:data.index(b"\0", start)].decode("ascii", "replace")))
        return sorted(found)
    except (OSError, struct.error, ValueError, IndexError):
        return []
