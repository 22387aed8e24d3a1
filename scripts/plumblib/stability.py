# SPDX-License-Identifier: MIT
"""`stability`: several boots of one machine, and which of their medians a reader may build on.

A series is steady where every boot's median lies within 15 % of the median over the boots. One that is
not must be named as noisy by the boots themselves (noise.py), or it is called unsteady: then something
differs from boot to boot that no boot can see by itself.
"""
from __future__ import annotations

import statistics
from dataclasses import dataclass

from . import EXIT_FAIL, EXIT_PASS, EXIT_UNTRUSTED
from .compare import clock_step
from .judge import Outcome
from .noise import is_noisy
from .series import Series, by_ident, shown
from .view import Paint, clean

WITHIN, SHARE = 0.15, 0.90
LEFT_OUT = ("boot.noise",)           # it measures what is not steady


@dataclass
class Line:
    series: Series
    medians: list[float]
    spread: float                    # the farthest boot's distance, of the median
    noisy: int                       # boots that call it noisy

    @property
    def steady(self) -> bool:
        return self.spread <= WITHIN


@dataclass
class Stability:
    names: list[str]
    lines: list[Line]
    untrusted: list[str]

    @property
    def share(self) -> float:
        return sum(x.steady for x in self.lines) / len(self.lines) if self.lines else 0.0

    @property
    def exit_code(self) -> int:
        if self.untrusted or not self.lines:
            return EXIT_UNTRUSTED
        return EXIT_PASS if self.share >= SHARE else EXIT_FAIL


def stability(logs: list[tuple[str, Outcome]]) -> Stability:
    every = [by_ident(found.report) for _, found in logs]
    steps = [clock_step(series) for series in every]
    lines = []
    for ident in every[0] if every else ():
        boots = [series.get(ident) for series in every]
        if ident[0] in LEFT_OUT or not all(s and (s.is_time or s.better) and s.middle for s in boots):
            continue
        medians = [s.middle for s in boots]
        middle, step = statistics.median(medians), max(steps) if boots[0].unit == "ns" else 0.0
        # Two readings of a clock differ by its step without anything having changed.
        far = max(max(0.0, abs(m - middle) - step) for m in medians) / middle
        lines.append(Line(boots[0], medians, far, sum(is_noisy(s, n) for s, n in zip(boots, steps))))
    return Stability([n for n, _ in logs], sorted(lines, key=lambda x: -x.spread),
                     [f"{n}: {f.word}: {f.why}" for n, f in logs if f.word not in ("PASS", "FAIL")])


def text(found: Stability, paint: Paint, every: bool = False, most: int = 30) -> str:
    out = [paint("red", f"not to be trusted: {clean(u)}") for u in found.untrusted]
    shown_lines = [x for x in found.lines if every or not x.steady]
    width = max((len(f"{x.series.name} {x.series.label}") for x in shown_lines[:most]), default=0)
    for x in shown_lines if every else shown_lines[:most]:
        why = f"noisy in {x.noisy} of {len(x.medians)} boots" if x.noisy else ("" if x.steady else "unsteady")
        values = " ".join(shown(m, x.series.unit) for m in x.medians)
        out.append(f"{clean(f'{x.series.name} {x.series.label}'):<{width}}  ±{x.spread:4.0%}  {values}  {why}".rstrip())
    if len(shown_lines) > most and not every:
        out.append(f"… {len(shown_lines) - most} more: --all")
    apart = [x for x in found.lines if not x.steady]
    named = sum(x.noisy > 0 for x in apart)
    word = paint("bold", paint("green", "STEADY") if not found.exit_code else paint("red", "UNSTEADY"))
    out.append(f"{word}  {len(found.lines) - len(apart)} of {len(found.lines)} series ({found.share:.0%}) keep every boot's"
               f" median within {WITHIN:.0%} of {len(found.names)} boots'; of the other {len(apart)}, {named} are named noisy by"
               f" a boot itself")
    return "\n".join(out)
