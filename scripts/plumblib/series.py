# SPDX-License-Identifier: MIT
"""The measurements of a report as numbers: one Series a `# metric` line, with its histogram.

Everything here must take any text: a log from elsewhere is data, not a promise.
"""
from __future__ import annotations

import math
import re
from bisect import bisect_left
from dataclasses import dataclass, field

from .report import Metric, Report

FIGURES = ("min", "p50", "p90", "p99", "p99.9", "max", "mean", "value", "p50.lo", "p50.hi")
LEVELS = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999}  # nearest rank
RATES = ("MiB/s", "1/s")             # more is better
TIMES = ("ns", "cycles")
# A rate of this kind is what the machine is, not how well it does: the TSC's, the timer's.
_CLOCK_RATE = {"what": "rate"}
_NUMBER = re.compile(r"-?\d{1,20}(\.\d{1,9})?\Z")
_RUN = re.compile(r"(\d{1,4}):(\d{1,12}(?:,\d{1,12})*)\Z")
_SUB = re.compile(r"sub=(16|8|4|2|1)(?: |\Z)")


@dataclass
class Histogram:
    """Counts by value: (least value, greatest value, samples), ascending."""
    sub: int
    buckets: list[tuple[int, int, int]]
    upto: list[int] = field(default_factory=list)    # cumulative counts

    def __post_init__(self):
        total = 0
        for _, _, n in self.buckets:
            total += n
            self.upto.append(total)

    @property
    def n(self) -> int:
        return self.upto[-1] if self.upto else 0

    def at_rank(self, rank: int) -> tuple[int, int]:
        """Between what values the rank-th smallest sample lies; ranks begin at 1."""
        low, high, _ = self.buckets[bisect_left(self.upto, rank)]
        return low, high


def lower_edge(bucket: int, sub: int) -> int:
    """As hist_lower() in tests/harness/hist.c."""
    return bucket if bucket < sub else (sub + bucket % sub) << (bucket // sub - 1)


def parse_hist(text: str) -> Histogram | None:
    m = _SUB.match(text)
    if not m:
        return None
    sub, buckets, last = int(m[1]), [], -1
    for word in text[m.end():].split():
        run = _RUN.match(word)
        if not run or int(run[1]) <= last:
            return None
        for at, count in enumerate(run[2].split(","), int(run[1])):
            if at >= 65 * sub:
                return None
            buckets.append((lower_edge(at, sub), lower_edge(at + 1, sub) - 1, int(count)))
            last = at
    return Histogram(sub, buckets) if buckets and all(n for _, _, n in buckets) else None


@dataclass
class Series:
    name: str                        # of the test
    keys: dict[str, str]             # what names it within the test, in the line's order
    unit: str
    n: int
    figures: dict[str, float]        # of FIGURES, those that it has
    context: dict[str, str]          # accel, clock, apic, iommu, …
    hist: Histogram | None = None

    @property
    def ident(self) -> tuple:
        return self.name, tuple(self.keys.items()), self.unit

    @property
    def label(self) -> str:
        return " ".join(f"{k}={v}" for k, v in self.keys.items())

    @property
    def middle(self) -> float | None:
        """The figure that stands for it: the median, or the only one."""
        return self.figures.get("p50", self.figures.get("value"))

    @property
    def is_time(self) -> bool:
        return self.unit in TIMES

    @property
    def better(self) -> str:
        """"low", "high", or "" where neither is."""
        if self.unit in TIMES:
            return "low"
        clock = all(self.keys.get(k) == v for k, v in _CLOCK_RATE.items())
        return "high" if self.unit in RATES and not clock else ""

    def rank_bounds(self, rank: int) -> tuple[float, float] | None:
        """Between what values the rank-th smallest sample lies, by the histogram and the figures."""
        known = [(1, self.figures.get("min")), (self.n, self.figures.get("max"))]
        known += [(math.ceil(self.n * p - 1e-9), self.figures.get(k)) for k, p in LEVELS.items()]
        below = [v for r, v in known if v is not None and r <= rank]
        above = [v for r, v in known if v is not None and r >= rank]
        if not below or not above:
            return None
        low, high = max(below), min(above)
        if self.hist and self.hist.n == self.n:
            bucket = self.hist.at_rank(rank)
            low, high = max(low, bucket[0]), min(high, bucket[1])
        return (low, high) if low <= high else None

    def median_interval(self, confidence: float = 0.95) -> tuple[float, float] | None:
        """Where the median lies, by order statistics: no assumption about the distribution.

        The l-th and the (n+1-l)-th smallest sample enclose it with at least this confidence. From a
        histogram or percentiles each is known to lie between two values; the outer ones are taken.
        """
        if "p50" not in self.figures or not self.n:
            return None
        if confidence <= 0.975 and "p50.lo" in self.figures and "p50.hi" in self.figures:
            return self.figures["p50.lo"], self.figures["p50.hi"]  # the guest had the samples
        rank = interval_rank(self.n, confidence)
        if not rank:
            return None
        low, high = self.rank_bounds(rank), self.rank_bounds(self.n + 1 - rank)
        return (low[0], high[1]) if low and high else None

    def points(self) -> list[tuple[float, float]]:
        """(value, share of samples not above it), ascending: what a CDF is drawn from."""
        if self.hist and self.hist.n == self.n:
            out = [(self.figures.get("min", self.hist.buckets[0][0]), 1 / self.n)]
            for (_, high, _), upto in zip(self.hist.buckets, self.hist.upto):
                out.append((min(high, self.figures.get("max", high)), upto / self.n))
            return out
        known = [(self.figures["min"], 1 / self.n)] if "min" in self.figures and self.n else []
        known += [(self.figures[k], p) for k, p in LEVELS.items() if k in self.figures and self.n * p >= 1]
        if "max" in self.figures and self.n:
            known.append((self.figures["max"], 1.0))
        return known


def interval_rank(n: int, confidence: float) -> int:
    """The largest l for which samples l and n+1-l enclose the median that often; 0: n is too small."""
    tail = (1 - confidence) / 2
    if n > 1000:  # the normal approximation, rounded outwards
        z = _normal_quantile(1 - tail)
        return max(0, math.floor((n - z * math.sqrt(n)) / 2))
    whole, total, rank = 2 ** n, 0, 0
    for k in range(n):
        total += math.comb(n, k)     # P(at most k of n samples lie below the median) * 2^n
        if total > tail * whole:
            break
        rank = k + 1
    return rank


def _normal_quantile(p: float) -> float:
    low, high = 0.0, 10.0
    for _ in range(60):
        mid = (low + high) / 2
        low, high = (mid, high) if 0.5 * (1 + math.erf(mid / math.sqrt(2))) < p else (low, mid)
    return high


def number(text: str) -> float | None:
    if not _NUMBER.match(text):
        return None
    return float(text) if "." in text else int(text)


def read(metric: Metric) -> Series | None:
    """None: the line names no unit or no figure."""
    keys: dict[str, str] = {}
    figures: dict[str, float] = {}
    context: dict[str, str] = {}
    unit, n = "", 0
    for key, text in metric.values.items():
        if key == "unit":
            unit = text
        elif not unit:
            keys[key] = text
        elif key == "n":
            n = int(number(text) or 0)
        elif key in FIGURES:
            value = number(text)
            if value is not None:
                figures[key] = value
        else:
            context[key] = text
    if not unit or not figures:
        return None
    hist = parse_hist(metric.hist) if metric.hist else None
    return Series(metric.name, keys, unit, n, figures, context, hist if hist and hist.n == n else None)


def all_series(rep: Report) -> list[Series]:
    """Of every test that gave a result; a test that failed may have measured something broken."""
    return [s for t in rep.tests for s in map(read, t.metrics) if s]


def by_ident(rep: Report) -> dict[tuple, Series]:
    """A second one of the same name is told apart by a number."""
    out: dict[tuple, Series] = {}
    for s in all_series(rep):
        count = 1
        while s.ident in out:
            count += 1
            s.keys["again"] = str(count)
        out[s.ident] = s
    return out


# ---- figures for people ----

_STEPS = {"ns": ((1e9, "s"), (1e6, "ms"), (1e3, "µs"), (1, "ns")),
          "cycles": ((1e9, "G cycles"), (1e6, "M cycles"), (1e3, "k cycles"), (1, "cycles")),
          "1/s": ((1e9, "G/s"), (1e6, "M/s"), (1e3, "k/s"), (1, "/s")),
          "MiB/s": ((1024, "GiB/s"), (1, "MiB/s"))}


def shown(value: float | None, unit: str) -> str:
    """Three figures and a unit that fits: 22.1 µs."""
    if value is None:
        return "–"
    for scale, name in _STEPS.get(unit, ((1, unit),)):
        if abs(value) >= scale or scale == 1:
            return f"{_three(value / scale)} {name}".strip()
    return f"{_three(value)} {unit}"


def _three(x: float) -> str:
    if x == 0 or abs(x) >= 999.5:
        return f"{x:.0f}"
    digits = max(0, 2 - math.floor(math.log10(abs(x)) + 1e-9))
    text = f"{x:.{min(digits, 3)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def bytes_shown(n: int) -> str:
    for scale, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if n >= scale:
            return f"{_three(n / scale)} {name}"
    return f"{n} B"
