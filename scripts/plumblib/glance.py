# SPDX-License-Identifier: MIT
"""The few figures that a stranger asks a measured machine for, out of some hundred series."""
from __future__ import annotations

from . import modes
from .compare import clock_step
from .noise import is_noisy
from .report import Report
from .series import Series, by_ident, shown

# What is asked, and which series answers: the first that the log has.
QUESTIONS = (
    ("leaving the guest", (("perf.exits", {"op": "mmio_read"}),)),
    ("IPI to a sleeping CPU and back", (("perf.ipi", {"what": "round_trip", "target": "idle", "pairs": None}),)),
    ("MSI to its handler", (("msi.latency", {"via": "direct", "target": "idle"}), ("msi.latency", {"target": "idle"}))),
    ("4 KiB DMA", (("dma.latency", {"size": "4096"}),)),
    ("map + unmap + sync", (("dma.map_cost", {"op": "map+unmap+sync"}),)),
)
SHOWN_MODES = ("passthrough", "translate", "strict", "deferred", "remapped")


def glance(rep: Report) -> list[tuple[str, str, str]]:
    """(question, answer, where that comes from)."""
    series = by_ident(rep)
    step = clock_step(series)
    costs = {g.base.ident: g for g in modes.groups(rep)}
    out = []
    for question, wanted in QUESTIONS:
        found = next((s for name, keys in wanted for s in series.values() if _answers(s, name, keys)), None)
        if not found:
            continue
        answer = shown(found.middle, found.unit) + (" (noisy)" if is_noisy(found, step) else "")
        group = costs.get(found.ident)
        told = [c for c in group.costs if c.mode in SHOWN_MODES] if group else []
        if told:
            answer = f"{found.keys[told[0].key]} {answer}; " + "; ".join(f"{c.mode} {c.says}" for c in told)
        out.append((question, answer, f"{found.name} {found.label}"))
    return out


def _answers(s: Series, name: str, keys: dict) -> bool:
    return s.name == name and s.unit == "ns" and s.middle is not None and all(
        k in s.keys and v in (None, s.keys[k]) for k, v in keys.items())
