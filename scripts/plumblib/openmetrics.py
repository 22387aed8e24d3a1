# SPDX-License-Identifier: MIT
"""A judged report as OpenMetrics text, for those who keep history (Prometheus, its textfile collector, …)."""
from __future__ import annotations

import re
from dataclasses import dataclass, field

from .judge import Outcome
from .outputs import counts
from .series import LEVELS, Series, by_ident

# unit -> suffix and unit of the family, factor
UNITS = {"ns": ("seconds", 1e-9), "cycles": ("cycles", 1), "MiB/s": ("bytes_per_second", 1 << 20),
         "1/s": ("per_second", 1), "count": ("count", 1)}
QUANTILES = {"min": "0", **{k: f"{p:g}" for k, p in LEVELS.items()}, "max": "1"}
_BAD_NAME = re.compile(r"[^a-zA-Z0-9_]")
# Names that mean something else in a sample.
_RESERVED = ("quantile", "le", "test")


@dataclass
class Family:
    kind: str
    help: str
    unit: str = ""
    samples: list[str] = field(default_factory=list)


def as_openmetrics(found: Outcome, labels: dict[str, str] | None = None) -> str:
    rep, own = found.report, labels or {}
    families: dict[str, Family] = {}

    def add(name, kind, text, value, extra=None, unit="", suffix=""):
        family = families.setdefault(name, Family(kind, text, unit))
        family.samples.append(f"{name}{suffix}{_labels({**own, **(extra or {})})} {value}")

    add("plumb_run", "info", "Which plumb ran, and on what.", 1, suffix="_info", extra={
        "version": rep.version, "git": rep.git, "boot": rep.boot, "verdict": found.word,
        **{k: "; ".join(rep.env_of(k)) for k in ("accel", "apic", "iommu")}})
    add("plumb_exit_status", "gauge", "0 pass, 1 failure, 2 no trustworthy verdict.", found.exit_code)
    for outcome, n in counts(rep).items():
        if outcome != "tests":
            add("plumb_tests", "gauge", "Tests by outcome.", n, {"outcome": outcome})
    for f in rep.findings:
        add("plumb_finding", "gauge", "Faults named in the report.", 1, {"id": f.ident, "text": f.text})
    for t in rep.tests:
        if t.outcome not in ("skip", "todo"):
            add("plumb_test_passed", "gauge", "1 pass, 0 not; skipped tests and known bugs are absent.",
                int(t.outcome in ("pass", "fixed")), {"test": t.name})
        if t.us is not None:
            add("plumb_test_duration_seconds", "gauge", "How long a test took.", f"{t.us / 1e6:.6f}",
                {"test": t.name}, unit="seconds")
    for s in by_ident(rep).values():
        _series(add, s)
    out = []
    for name, family in families.items():
        out.append(f"# TYPE {name} {family.kind}")
        out += [f"# UNIT {name} {family.unit}"] if family.unit else []
        out += [f"# HELP {name} {family.help}", *dict.fromkeys(family.samples)]
    return "\n".join([*out, "# EOF"]) + "\n"


def _series(add, s: Series) -> None:
    unit, factor = UNITS.get(s.unit, (_BAD_NAME.sub("_", s.unit), 1))
    name = "plumb_" + _BAD_NAME.sub("_", s.name)
    text = f"Measured by {s.name}."
    if "value" in s.figures:         # one figure: not of the family that has quantiles
        add(f"{name}_value_{unit}", "gauge", text, _number(s.figures["value"] * factor), s.keys, unit)
    quantiles = [(q, s.figures[k]) for k, q in QUANTILES.items() if k in s.figures]
    if s.is_time:
        for q, value in quantiles:
            add(f"{name}_{unit}", "summary", text, _number(value * factor), {**s.keys, "quantile": q}, unit)
        if quantiles:
            add(f"{name}_{unit}", "summary", text, s.n, s.keys, unit, "_count")
        if "mean" in s.figures:
            add(f"{name}_{unit}", "summary", text, _number(s.figures["mean"] * s.n * factor), s.keys, unit, "_sum")
    elif "p50" in s.figures:
        add(f"{name}_{unit}", "gauge", text, _number(s.figures["p50"] * factor), s.keys, unit)


def _number(x: float) -> str:
    return f"{x:.9g}"


def _labels(pairs: dict[str, str]) -> str:
    out = {}
    for key, value in pairs.items():
        key = _BAD_NAME.sub("_", key)
        if key[:1].isdigit() or (key in _RESERVED and key not in pairs):
            key = "_" + key
        out[key] = value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
    return "{" + ",".join(f'{k}="{v}"' for k, v in out.items()) + "}" if out else ""
