# SPDX-License-Identifier: MIT
"""What plumb says of a machine, held against what Linux says of the very same one: IDs, BARs, IOMMU groups."""
from __future__ import annotations

import re
from dataclasses import dataclass, field

from ..report import Report

IORESOURCE_IO, IORESOURCE_PREFETCH, IORESOURCE_MEM_64 = 0x100, 0x2000, 0x100000
BARS = 6
# In the scenario's folder, by the agent's functions.
ASK = ["groups > groups.txt", "resources > resources.txt"]


@dataclass
class Function:
    ids: str                         # "1234:11e8"
    class_code: str
    bars: dict = field(default_factory=dict)      # number -> (base, size, kind)


@dataclass
class Said:
    functions: dict = field(default_factory=dict)  # "00:04.0" -> Function
    groups: set = field(default_factory=set)       # of frozensets of such


def _kind(io: bool, is64: bool, pref: bool) -> str:
    return "io" if io else ("64" if is64 else "32") + ("/pref" if pref else "")


def linux(groups: str, resources: str) -> Said:
    out = Said()
    for line in resources.splitlines():
        name, vendor, device, class_code, *rest = line.split()
        one = Function(f"{vendor[2:]}:{device[2:]}", class_code[2:])
        for number, text in enumerate(rest[:BARS]):
            start, end, flags = (int(n, 16) for n in text.split("-"))
            if end > start:
                kind = _kind(flags & IORESOURCE_IO, flags & IORESOURCE_MEM_64, flags & IORESOURCE_PREFETCH)
                one.bars[number] = (start, end - start + 1, kind)
        out.functions[name.removeprefix("0000:")] = one
    members: dict[str, set] = {}
    for line in groups.splitlines():
        number, name = line.split()
        members.setdefault(number, set()).add(name.removeprefix("0000:"))
    out.groups = {frozenset(m) for m in members.values()}
    return out


def plumb(rep: Report) -> Said:
    out = Said()
    for line in rep.env_of("pci"):
        name, ids, class_code, *rest = line.split()
        one = Function(ids, class_code)
        one.bars = _words(rest)
        out.functions[name] = one
    # Virtual functions are on no list: they come and go in pci.sriov, which says what they are, but not where.
    for text in _notes(rep, "pci.sriov", "vf "):
        name, ids, class_code, *rest = text.split()
        out.functions[name] = Function(ids, class_code, _words(rest))
    out.groups = {frozenset(text.split()) for text in _notes(rep, "pci.acs_groups", "group ")}
    out.groups |= {frozenset(text.split()) for text in _notes(rep, "pci.sriov", "group ")}
    return out


def _words(words: list[str]) -> dict:
    """"bar0=fe200000+100000/64", or "bar0=+100000/64" where it has no place yet."""
    out = {}
    for word in words:
        m = re.fullmatch(r"bar(\d)=([0-9a-f]*)\+([0-9a-f]+)((?:/\w+)*)", word)
        if m:
            flags = m[4].split("/")
            out[int(m[1])] = (int(m[2], 16) if m[2] else None, int(m[3], 16), _kind("io" in flags, "64" in flags, "pref" in flags))
    return out


def _notes(rep: Report, name: str, word: str) -> list[str]:
    lines = [d for t in rep.tests if t.name == name for d in t.details]
    return [d.split(word, 1)[1] for d in lines if d.startswith(f"note {word}")]


def differences(ours: Said, theirs: Said) -> list[str]:
    """Theirs is the truth."""
    out = []
    for name in sorted({*ours.functions, *theirs.functions}):
        mine, true = ours.functions.get(name), theirs.functions.get(name)
        if not mine or not true:
            out.append(f"{name}: {'Linux' if mine else 'plumb'} does not see it")
            continue
        if (mine.ids, mine.class_code) != (true.ids, true.class_code):
            out.append(f"{name}: plumb reads {mine.ids} {mine.class_code}, Linux {true.ids} {true.class_code}")
        out += _bars(name, mine.bars, true.bars)
    for group in sorted(theirs.groups - ours.groups, key=sorted):
        out.append(f"IOMMU group of Linux that plumb does not predict: {' '.join(sorted(group))}")
    for group in sorted(ours.groups - theirs.groups, key=sorted):
        out.append(f"IOMMU group that plumb predicts and Linux does not have: {' '.join(sorted(group))}")
    return out


def _bars(name: str, mine: dict, true: dict) -> list[str]:
    out = []
    for number in sorted({*mine, *true}):
        a, b = mine.get(number), true.get(number)
        if not a or not b:
            out.append(f"{name} BAR {number}: {'Linux' if a else 'plumb'} does not have it")
        elif a[1:] != b[1:] or a[0] not in (None, b[0]):
            out.append(f"{name} BAR {number}: plumb {a[0] or 0:x}+{a[1]:x} {a[2]}, Linux {b[0]:x}+{b[1]:x} {b[2]}")
    return out


def summary(ours: Said) -> str:
    bars = sum(len(f.bars) for f in ours.functions.values())
    large = [g for g in ours.groups if len(g) > 1]
    return (f"the same to plumb and Linux: {len(ours.functions)} functions, {bars} BARs, {len(ours.groups)} IOMMU groups"
            + "".join(f", {{{' '.join(sorted(g))}}}" for g in sorted(large, key=sorted)))
