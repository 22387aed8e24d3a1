# SPDX-License-Identifier: MIT
"""What the IOMMU costs: each mode's series beside the same transfers without translation, in one boot.

Both were measured in turns by the same test on the same device, so that their ratio is of medians of
interleaved samples; its interval and "no difference seen" are those of `compare`.
"""
from __future__ import annotations

from dataclasses import dataclass

from .compare import Row, clock_step, row_of
from .report import Report
from .series import Series, by_ident, bytes_shown, number, shown

# The mode to compare with, in order of liking, by key.
BASES = {"mode": ("off", "none", "bypass"), "what": ("hit",), "via": ("direct",)}
NO_DIFFERENCE = "no difference seen"
# Less than nothing: what an IOMMU cannot do to a transfer.
ODD = ("quicker than without, beyond the interval: not the IOMMU's doing, but the machine's (boot.noise) or the device's own"
       " rhythm (its distribution shows several peaks)")


@dataclass
class Cost:
    """One series beside its base."""
    test: str
    group: dict[str, str]            # the keys that both share
    key: str                         # mode, what or via
    base: Series
    series: Series
    row: Row

    @property
    def mode(self) -> str:
        return self.series.keys[self.key]

    @property
    def says(self) -> str:
        """+1.2 µs ×1.06 [1.02, 1.09]; or that nothing is to be seen."""
        r = self.row
        if r.says == "same":
            return NO_DIFFERENCE
        if r.ratio is None:
            return "–"
        change = r.new.middle - r.old.middle
        parts = [("+" if change >= 0 else "−") + shown(abs(change), self.series.unit)] if self.series.is_time else []
        parts.append(f"×{r.ratio:.2f}")
        parts.append(f"[{r.low:.2f}, {r.high:.2f}]" if r.low is not None else "(no interval)")
        return " ".join(parts)

    @property
    def odd(self) -> bool:
        """Translating, and seen to be quicker than not."""
        return self.key == "mode" and self.series.is_time and self.row.says in ("faster", "faster within")


@dataclass
class Group:
    """One line of a table: the same transfer in every mode."""
    test: str
    keys: dict[str, str]             # what names it, the mode aside
    base: Series
    costs: list[Cost]


def groups(rep: Report) -> list[Group]:
    series = by_ident(rep)
    step = clock_step(series)
    out: dict[tuple, Group] = {}
    for s in series.values():
        key = next((k for k in BASES if k in s.keys and _base(series, s, k)), None)
        if key is None or s.middle is None:
            continue
        base = _base(series, s, key)
        if base is s:
            continue
        shared = {k: v for k, v in s.keys.items() if k != key}
        row = row_of([(base, step)], [(s, step if s.unit == "ns" else 1.0)])
        if s.keys.get("depth", "1") != "1":
            row.low = row.high = None    # transfers in flight together wait together: no independent samples
            row.says = "unsure"
        cost = Cost(s.name, shared, key, base, s, row)
        group = out.setdefault((s.name, s.unit, key, tuple(shared.items())), Group(s.name, shared, base, []))
        group.costs.append(cost)
    return list(out.values())


def _base(series: dict[tuple, Series], s: Series, key: str) -> Series | None:
    """The series that differs in this key alone and has a base's name there."""
    for name in BASES[key]:
        keys = {k: (name if k == key else v) for k, v in s.keys.items()}
        # A timer of one mode may have a target more than the base: only the very same keys compare.
        found = series.get((s.name, tuple(keys.items()), s.unit))
        if found and found.middle:
            return found
    return None


def label(keys: dict[str, str], unit: str, common=()) -> str:
    parts = []
    for k, v in keys.items():
        if k in common:
            continue
        size = number(v) if k == "size" else None
        parts.append(bytes_shown(int(size)) if size else f"{k} {v}" if k in ("depth", "pages") else v)
    return " ".join(parts) + (f" ({unit})" if unit in ("1/s", "MiB/s") else "")


def table(found: list[Group]) -> tuple[list[str], list[list[str]]]:
    """Heads and rows of one test: first column names, second the base's median, then a mode a column."""
    names = list(dict.fromkeys(c.mode for g in found for c in g.costs))
    base = found[0].base.keys[found[0].costs[0].key] if found else ""
    common = [k for k in found[0].keys if len(found) > 1 and len({g.keys.get(k) for g in found}) == 1]
    rows = []
    for g in found:
        by_mode = {c.mode: c for c in g.costs}
        rows.append([label(g.keys, g.base.unit, common), shown(g.base.middle, g.base.unit)] +
                    [by_mode[n].says + (" ¹" if by_mode[n].odd else "") if n in by_mode else "" for n in names])
    return ["", base, *names], rows


def tables(rep: Report) -> list[tuple[str, list[str], list[list[str]], str]]:
    """(test, heads, rows, a note where something cannot be) for each test that has modes."""
    every = groups(rep)
    out = []
    for test in dict.fromkeys(g.test for g in every):
        for key in BASES:
            mine = [g for g in every if g.test == test and g.costs[0].key == key]
            if mine:
                odd = any(c.odd for g in mine for c in g.costs)
                out.append((test, *table(mine), f"¹ {ODD}" if odd else ""))
    return out


def as_text(rep: Report) -> str:
    lines = []
    for test, heads, rows, note in tables(rep):
        cells = [heads, *rows]
        widths = [max(len(r[i]) for r in cells) for i in range(len(heads))]
        lines += ["", test] + ["  ".join(c.ljust(w) for c, w in zip(r, widths)).rstrip() for r in cells] + ([note] if note else [])
    return "\n".join(lines[1:])
