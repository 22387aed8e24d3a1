# SPDX-License-Identifier: MIT
"""`compare`: the same tests of two machines side by side, and what got slower.

Method. Of each series both sides give the median and an interval that encloses it: two order statistics
of the samples (`p50.lo`, `p50.hi`, 97.5 % each, so that both hold with 95 %), from the guest or, in logs
that lack them, bounded by histogram and percentiles. No distribution is assumed. A side of several boots
takes the hull of its boots' intervals and the median of their medians. The ratio new/old lies between
new.lo/old.hi and new.hi/old.lo. Ends are first moved apart by the clock's step, as the log's own empty
measurement shows it. "Slower" is said only where the whole interval is beyond the tolerance; a series with
one figure, or too few samples, has no interval: its ratio is told, not judged.
"""
from __future__ import annotations

import json
import statistics
from dataclasses import dataclass, field

from . import EXIT_FAIL, EXIT_PASS, EXIT_UNTRUSTED
from .cmdline import matches
from .judge import Outcome
from .outputs import BAD, word
from .series import Series, by_ident, shown
from .view import Paint, clean

FORMAT = "plumb-compare/1"
CONFIDENCE = 0.975
TOLERANCE = 0.25
METHOD = ("Medians; intervals by order statistics (97.5 % a side, both with 95 %), widened by the clock's step; of"
          " several boots the hull. Boots differ by more than samples of one boot show: give several of each side.")
# From bad to good. "beyond" and "within": of the tolerance.
RANK = ("slower", "faster", "slower within", "faster within", "other", "unsure", "same")
SAYS = {"slower": "slower", "faster": "faster", "slower within": "slower, within tolerance",
        "faster within": "faster, within tolerance", "other": "other, neither is better", "unsure": "no interval",
        "same": "no difference seen"}
# Outcomes in which the subject was tested and held.
GOOD = ("pass", "fixed")


@dataclass
class Side:
    """One series in all boots of a side."""
    middle: float
    low: float | None
    high: float | None
    n: int


@dataclass
class Row:
    series: Series                   # of the new side: its names and unit
    old: Side
    new: Side
    ratio: float | None              # new / old as measured; None: old is 0
    low: float | None
    high: float | None
    says: str                        # of RANK

    @property
    def slowdown(self) -> float:
        """Above 1: worse. Where neither is better, the size of the change."""
        if self.ratio is None or self.ratio <= 0:
            return float("inf")
        if self.series.better == "low":
            return self.ratio
        return 1 / self.ratio if self.series.better == "high" else max(self.ratio, 1 / self.ratio)


@dataclass
class Change:
    test: str
    old: str
    new: str
    says: str                        # worse, better, other


@dataclass
class Comparison:
    old_names: list[str]
    new_names: list[str]
    tolerance: float
    rows: list[Row] = field(default_factory=list)       # by RANK, the largest change first
    changes: list[Change] = field(default_factory=list)
    alone: dict[str, int] = field(default_factory=dict)  # series on one side only: "old", "new"
    machine: list[tuple[str, str, str]] = field(default_factory=list)  # what differs: key, old, new
    untrusted: list[str] = field(default_factory=list)

    def count(self, says: str) -> int:
        return sum(r.says == says for r in self.rows)

    @property
    def exit_code(self) -> int:
        if self.untrusted:
            return EXIT_UNTRUSTED
        return EXIT_FAIL if self.count("slower") or any(c.says == "worse" for c in self.changes) else EXIT_PASS


def compare(old: list[tuple[str, Outcome]], new: list[tuple[str, Outcome]], tolerance: float = TOLERANCE,
            only: list[str] | None = None) -> Comparison:
    """Each side: (name, judged log) of every boot."""
    out = Comparison([n for n, _ in old], [n for n, _ in new], tolerance)
    out.untrusted = [f"{name}: {f.word}: {f.why}" for name, f in old + new if f.word not in ("PASS", "FAIL")]
    wanted = only or ["*"]
    sides = [_gather(old, wanted), _gather(new, wanted)]
    for ident, theirs in sides[1].items():
        if ident in sides[0]:
            out.rows.append(row_of(sides[0][ident], theirs, tolerance))
    for name, mine, other in (("old", sides[0], sides[1]), ("new", sides[1], sides[0])):
        out.alone[name] = sum(i not in other for i in mine)
    out.rows.sort(key=lambda r: (RANK.index(r.says), -r.slowdown))
    out.changes = _changes(old, new, wanted)
    out.machine = _machine(old, new)
    return out


def _gather(side, wanted) -> dict[tuple, list[tuple[Series, float]]]:
    """Series by identity: of each boot one, with its clock's step."""
    out: dict[tuple, list[tuple[Series, float]]] = {}
    for _, found in side:
        series = by_ident(found.report)
        step = clock_step(series)
        for ident, s in series.items():
            if matches(s.name, wanted) and s.middle is not None:
                out.setdefault(ident, []).append((s, step if s.unit == "ns" else 1.0))
    return out


def clock_step(series: dict[tuple, Series]) -> float:
    """How far two readings of the clock may be apart with nothing between them, in ns; at least 1."""
    empty = series.get(("perf.exits", (("op", "empty"),), "ns"))
    if not empty or "p90" not in empty.figures or "min" not in empty.figures:
        return 1.0
    return max(1.0, empty.figures["p90"] - empty.figures["min"])


def side_of(boots: list[tuple[Series, float]]) -> Side:
    # A rate has an interval where the guest had enough rounds of it; percentiles it has none.
    ends = [(s.median_interval(CONFIDENCE), step) for s, step in boots if s.is_time or "p50.lo" in s.figures]
    whole = bool(ends) and all(e for e, _ in ends)
    return Side(statistics.median_low([s.middle for s, _ in boots]),
                min(max(0.0, e[0] - step) for e, step in ends) if whole else None,
                max(e[1] + step for e, step in ends) if whole else None, sum(s.n for s, _ in boots))


def row_of(old: list, new: list, tolerance: float = TOLERANCE) -> Row:
    a, b, series = side_of(old), side_of(new), new[-1][0]
    ratio = b.middle / a.middle if a.middle > 0 else None
    if None in (a.low, a.high, b.low, b.high):
        return Row(series, a, b, ratio, None, None, "unsure")
    low = b.low / a.high if a.high > 0 else 1.0
    high = b.high / a.low if a.low > 0 else float("inf")
    if low <= 1 <= high:
        says = "same"
    elif not series.better:
        says = "other"
    else:
        says = "slower" if (low > 1) == (series.better == "low") else "faster"
        if (low < 1 + tolerance) if low > 1 else (high > 1 / (1 + tolerance)):
            says += " within"
    return Row(series, a, b, ratio, low, high, says)


def _outcomes(side, wanted) -> dict[str, str]:
    """The worst that a test came to in any boot."""
    out: dict[str, str] = {}
    for _, found in side:
        for t in found.report.tests:
            if not matches(t.name, wanted):
                continue
            was = out.get(t.name)
            if was is None or (was in GOOD and t.outcome not in GOOD) or t.outcome in BAD:
                out[t.name] = word(t)
    return out


def _changes(old, new, wanted) -> list[Change]:
    a, b = _outcomes(old, wanted), _outcomes(new, wanted)
    out = []
    for name in dict.fromkeys([*b, *a]):
        was, now = a.get(name, "absent"), b.get(name, "absent")
        if was == now:
            continue
        bad_now, bad_before = _is_bad(now), _is_bad(was)
        says = "worse" if bad_now and not bad_before else "better" if bad_before and not bad_now else "other"
        out.append(Change(name, was, now, says))
    return sorted(out, key=lambda c: ("worse", "other", "better").index(c.says))


def _is_bad(outcome: str) -> bool:
    return outcome not in (*GOOD, "skip", "todo", "absent")


def _machine(old, new) -> list[tuple[str, str, str]]:
    """Facts that name the machine and differ: a ratio may be theirs."""
    keys = ("accel", "hypervisor", "cpu", "apic", "iommu", "boot", "firmware", "cpus", "memory")
    out = []
    for key in keys:
        was, now = (" / ".join(dict.fromkeys(stable(key, v) for _, f in side for v in f.report.env_of(key)))
                    for side in (old, new))
        if was != now:
            out.append((key, was or "–", now or "–"))
    return out


def stable(key: str, text: str) -> str:
    """Without what differs from boot to boot."""
    drop = ("start_us=", "free=") if key in ("cpus", "memory") else ()
    return " ".join(w for w in text.split() if not w.startswith(drop)) if drop else text


# ---- for people and programs ----

def ratio_text(row: Row) -> str:
    ratio = "–" if row.ratio is None else f"×{row.ratio:.2f}"
    if row.low is None:
        return ratio
    high = "∞" if row.high == float("inf") else f"{row.high:.2f}"
    return f"{ratio} [{row.low:.2f}, {high}]"


def summary(c: Comparison) -> str:
    parts = [f"{c.count(s)} {SAYS[s]}" for s in RANK if c.count(s)]
    worse = sum(x.says == "worse" for x in c.changes)
    if worse:
        parts.insert(0, f"{worse} test{'s' * (worse != 1)} got worse")
    return ", ".join(parts) or "nothing in common to compare"


def text(c: Comparison, paint: Paint, every: bool = False, most: int = 25) -> str:
    out = [f"old  {clean(' '.join(c.old_names))}", f"new  {clean(' '.join(c.new_names))}"]
    out += [paint("red", f"not to be trusted: {clean(u)}") for u in c.untrusted]
    out += [f"differs: {key}: {clean(a)} -> {clean(b)}" for key, a, b in c.machine]
    for x in c.changes:
        color = {"worse": "red", "better": "green"}.get(x.says, "dim")
        out.append(paint(color, f"{x.says:<6}") + f" {clean(x.test)}: {x.old} -> {x.new}")
    shown_ranks = RANK if every else ("slower", "faster")
    for says in shown_ranks:
        rows = [r for r in c.rows if r.says == says]
        if not rows:
            continue
        out += ["", paint("bold", f"{SAYS[says]} ({len(rows)})")]
        cut = rows if every else rows[:most]
        names = [clean(f"{r.series.name} {r.series.label}") for r in cut]
        width = min(86, max(map(len, names)))
        for name, r in zip(names, cut):
            unit = r.series.unit
            out.append(f"  {name:<{width}}  {shown(r.old.middle, unit):>10} -> {shown(r.new.middle, unit):<10}"
                       f" {ratio_text(r)}")
        if len(cut) < len(rows):
            out.append(f"  … {len(rows) - len(cut)} more: --all")
    color = {EXIT_PASS: "green"}.get(c.exit_code, "red")
    word_ = {EXIT_PASS: "PASS", EXIT_FAIL: "SLOWER" if c.count("slower") else "WORSE"}.get(c.exit_code, "UNTRUSTED")
    alone = ", ".join(f"{n} only in {side}" for side, n in c.alone.items() if n)
    out += ["", METHOD]
    if len(c.old_names) == len(c.new_names) == 1 and c.count("slower") and c.count("faster") * 2 > c.count("slower"):
        out.append("Nearly as many got faster as slower: this looks like two boots more than like a change.")
    out.append(f"{paint('bold', paint(color, word_))}  {summary(c)}, tolerance {c.tolerance:.0%}"
               + (f", {alone}" if alone else ""))
    return "\n".join(out)


def as_markdown(c: Comparison) -> str:
    from .markdown import cell, table
    out = ["## plumb compare", "", f"**{cell(summary(c))}** (tolerance {c.tolerance:.0%})", ""]
    out += [f"- not to be trusted: {cell(u)}" for u in c.untrusted]
    out += [f"- differs: {key}: {cell(a)} → {cell(b)}" for key, a, b in c.machine]
    if c.changes:
        out += ["", *table(("test", "old", "new", ""), [(x.test, x.old, x.new, x.says) for x in c.changes])]
    for says in ("slower", "faster", "unsure"):
        rows = [(f"{r.series.name} {r.series.label}", shown(r.old.middle, r.series.unit),
                 shown(r.new.middle, r.series.unit), ratio_text(r)) for r in c.rows if r.says == says]
        if rows:
            folded = says == "unsure"
            title = f"{SAYS[says]} ({len(rows)})"
            out += ["", f"<details><summary>{title}</summary>" if folded else f"### {title}", "",
                    *table(("series", "old", "new", "new / old"), rows[:200])]
            out += ["", "</details>"] if folded else []
    return "\n".join(out + ["", METHOD, ""])


def as_dict(c: Comparison) -> dict:
    def finite(x):
        return None if x is None or x == float("inf") else round(x, 6)
    return {
        "format": FORMAT, "exit": c.exit_code, "old": c.old_names, "new": c.new_names, "tolerance": c.tolerance,
        "confidence": 0.95, "method": METHOD, "untrusted": c.untrusted, "alone": c.alone,
        "machine": [{"key": k, "old": a, "new": b} for k, a, b in c.machine],
        "tests": [{"name": x.test, "old": x.old, "new": x.new, "says": x.says} for x in c.changes],
        "counts": {s: c.count(s) for s in RANK},
        "series": [{"test": r.series.name, "series": r.series.keys, "unit": r.series.unit, "better": r.series.better,
                    "old": {"p50": r.old.middle, "low": r.old.low, "high": r.old.high, "n": r.old.n},
                    "new": {"p50": r.new.middle, "low": r.new.low, "high": r.new.high, "n": r.new.n},
                    "ratio": finite(r.ratio), "low": finite(r.low), "high": finite(r.high), "says": r.says}
                   for r in c.rows],
    }


def as_json(c: Comparison) -> str:
    return json.dumps(as_dict(c), indent=1, ensure_ascii=True) + "\n"
