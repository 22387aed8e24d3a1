# SPDX-License-Identifier: MIT
"""What the times of a report are worth: how long its CPUs were away, and which medians it names as noisy.

A series is noisy where the two order statistics that enclose its median (97.5 %) lie so far apart that the
median may be off by more than NOISY of itself (in the timing suite those of its rounds' medians); a rate without
them, where its bursts lie so far apart; and where most rounds found the machine slow. Nothing is compared with another
boot for that: `stability` does, and says whether the two agree.
"""
from __future__ import annotations

from .report import Report
from .series import Series, by_ident, shown

NOISY = 0.15                         # of the median, to either side
AWAY = 1_000_000                     # ns away that deserve a word on top
UNSURE_SHARE = 0.25                  # of the timed series: more are a word too


def is_noisy(s: Series, step: float = 0.0) -> bool:
    """step: the clock's; nothing finer than that is noise."""
    if not s.middle:
        return False
    if _mostly_slow(s):
        return True
    if not s.is_time and not s.median_interval():
        # A rate has few bursts and no interval: the slowest and the fastest of them say it.
        return s.figures.get("max", 0) - s.figures.get("min", 0) > 2 * NOISY * s.middle
    interval = s.median_interval()
    if not interval:
        return False
    return max(interval[1] - s.middle, s.middle - interval[0]) > max(NOISY * s.middle, 2 * step)


def _mostly_slow(s: Series) -> bool:
    """Of the timing suite's rounds so many found the machine slow that they were not left out."""
    slow, _, rounds = s.context.get("slow", "").partition("/")
    return slow.isdigit() and rounds.isdigit() and int(rounds) and int(slow) * 4 >= int(rounds) * 3


def noisy_series(series: dict[tuple, Series], step: float) -> tuple[list[Series], int]:
    """Those that are noisy, and of how many that have an interval; what measures noise itself is left out."""
    timed = [s for s in series.values() if s.is_time and s.name != "boot.noise" and s.median_interval()]
    return [s for s in timed if is_noisy(s, step)], len(timed)


def sentence(rep: Report) -> str:
    """What a reader must know before he believes a time; empty if nothing."""
    from .compare import clock_step
    series = by_ident(rep)
    away = [s for s in series.values() if s.name == "boot.noise" and s.unit == "ns" and s.keys.get("what") == "longest"]
    worst = max(away, key=lambda s: s.middle or 0, default=None)
    noisy, timed = noisy_series(series, clock_step(series))
    parts = []
    if worst and (worst.middle or 0) >= AWAY:
        parts.append(f"CPU {worst.keys.get('cpu', '?')} was away for {shown(worst.middle, 'ns')} while it only spun")
    # A few samples of each, as the whole suite takes them, are uncertain on a quiet machine too.
    if {"timing", "iterations"} & {w.partition("=")[0] for w in rep.cmdline.split()} and timed >= 8 and \
            len(noisy) > UNSURE_SHARE * timed:
        parts.append(f"{len(noisy)} of {timed} medians are uncertain by more than {NOISY:.0%}")
    return f"Noisy machine: {'; '.join(parts)}. Trust no tails, and of medians those with a narrow band." if parts else ""
