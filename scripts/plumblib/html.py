# SPDX-License-Identifier: MIT
"""report.html: one page for one log or several, without script and without network.

A log is text from a machine that may be broken or hostile: Jinja2 escapes all of it, control and
direction characters are made visible first, and the page's policy forbids script altogether.
"""
from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from . import UsageError, glance, html_plots, html_topology, modes, noise
from .compare import Row, clock_step, ratio_text, side_of, stable
from .judge import HINT, Outcome
from .markdown import machine_rows
from .outputs import BAD, word
from .publish import Item
from .report import Report, Test
from .series import Series, by_ident, shown
from .trace import in_short
from .view import clean

TEMPLATES = Path(__file__).with_name("templates")
RAW_MOST = 4 << 20                   # bytes of a raw log on the page
TRACE_LINES = 700                    # of a test that failed: all that is kept
TRACE_LINES_PASSED = 60
CLOSE_LINES = 12                     # shown at once: what QEMU did just before the first check that failed
LINES_MOST, CHECKS_MOST, FINDINGS_MOST, ROWS_MOST = 400, 100, 200, 2000   # what a page can bear of each
ROWS_OPEN = 14                       # measurements of a test before they are folded
CHARTS_OPEN = 6                      # of distributions, where a test has nothing else
GONE = "PLB002"                      # a known bug that is gone: news, no fault
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
SIGNS = {"pass": "✓", "fixed": "✓", "fail": "✗", "error": "✗", "timeout": "✗", "skip": "–", "todo": "○"}
SAYS = {"pass": "passed", "fixed": "passed, though a bug was known", "fail": "failed", "error": "error of the test itself",
        "timeout": "out of time", "skip": "skipped", "todo": "known bug, still there", "crash": "crashed the machine",
        "hang": "hung", "reset": "reset the machine", "garbled": "damaged in the log", "running": "no result",
        "lost": "no result", "absent": "not in this log"}
_EXPECT = re.compile(r"expect (\S+:\d+) (.*)\Z", re.S)
_GOT = re.compile(r"(.*): got (.*), expected (.*)\Z", re.S)


@dataclass
class Check:
    """An `# expect` line in its parts."""
    what: str
    got: str = ""
    expected: str = ""
    where: str = ""


def page(items: list[Item], title: str = "") -> str:
    """The whole page."""
    env = _environment()
    for at, item in enumerate(items):
        item.label = (LETTERS[at] if at < len(LETTERS) else str(at + 1)) if len(items) > 1 else ""
    css = (TEMPLATES / "report.css").read_text(encoding="utf-8")
    tests = _tests(items)
    context = {
        "css": _markup(css), "title": title or _title(items), "items": [_head(i) for i in items],
        "several": len(items) > 1, "findings": _findings(items), "failures": [t for t in tests if t["bad"]],
        "suites": _suites(tests), "machine": _machine(items), "trees": _trees(items), "measures": _measures(items), "glance": _glance(items),
        "raws": [_raw(i, at) for at, i in enumerate(items)],
        "bad_count": sum(t["bad"] for t in tests), "quiet": _quiet(tests, items),
    }
    return env.get_template("report.html.j2").render(context)


def _environment():
    try:
        import jinja2
    except ModuleNotFoundError:
        raise UsageError("report.html needs Jinja2: scripts/plumb setup --for report (Debian's python3-jinja2)") from None

    def visible(value):
        return clean(value) if isinstance(value, str) and not hasattr(value, "__html__") else value
    env = jinja2.Environment(loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, finalize=visible,
                             undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    env.filters["time"] = lambda us: shown(us * 1000, "ns") if us is not None else ""
    return env


def _markup(text: str):
    from markupsafe import Markup
    return Markup(text)


# ---- the head ----

def _title(items: list[Item]) -> str:
    if len(items) == 1:
        return f"{items[0].found.word} · {Path(items[0].name).name or 'plumb'}"
    return "plumb: " + ", ".join(f"{i.label} {i.found.word}" for i in items)


def _segments(rep: Report) -> list[tuple[str, int, str]]:
    todo = rep.count("todo")
    kinds = (("bad", rep.count(*BAD), "failed"), ("todo", todo, f"known bug{'s' * (todo != 1)}"),
             ("skip", rep.count("skip"), "skipped"), ("pass", rep.count("pass", "fixed"), "passed"),
             ("lost", max(0, (rep.plan or 0) - rep.count(*BAD, "todo", "skip", "pass", "fixed")), "without a result"))
    return [k for k in kinds if k[1]]


def _sentence(found: Outcome) -> tuple[str, str]:
    """What a stranger must know, and the line below it. A finding says it best."""
    said = _outcome(found)
    first = next((f for f in found.report.findings if f.ident != GONE), None)
    if first and found.word == "FAIL":
        return first.text, said
    # Without a finding, what the first of several says: those after it stand on what it looks at.
    bad = [t for t in found.report.tests if t.outcome in BAD]
    if found.word == "FAIL" and len(bad) > 1 and bad[0].claim:
        return f"Not so: {bad[0].claim} ({bad[0].name})", said
    return said, ""


def _outcome(found: Outcome) -> str:
    rep = found.report
    bad = [t.name for t in rep.tests if t.outcome in BAD]
    if found.word not in ("PASS", "FAIL"):
        return {"CRASH": "The machine crashed", "HANG": "The machine hung", "RESET": "The machine was reset",
                }.get(found.word, "No trustworthy verdict") + f": {found.why}"
    if found.word == "PASS":
        left_out = rep.count("skip", "todo")
        return f"{rep.count('pass', 'fixed')} tests passed, none failed" + (
            f"; {left_out} skipped or known to fail" if left_out else "")
    if len(bad) == 1:
        claim = next(t.claim for t in rep.tests if t.outcome in BAD)
        return f"1 of {len(rep.tests)} tests failed: {bad[0]}" + (f" (“{claim}”)" if claim else "")
    names = ", ".join(bad[:4]) + (f" and {len(bad) - 4} more" if len(bad) > 4 else "")
    if not bad:
        return (rep.must or rep.errors or ["the run failed"])[0]
    return f"{len(bad)} of {len(rep.tests)} tests failed: {names}"


def _head(item: Item) -> dict:
    rep = item.found.report
    facts = [item.host.get("machine", ""), _first(rep, "apic").split(":")[0], _iommu_short(rep)]
    cpus = re.search(r"online=(\d+)", _first(rep, "cpus"))
    memory = re.search(r"total=(\d+)M", _first(rep, "memory"))
    in_turn = " by one thread" if "in_turn=1" in _first(rep, "cpus") else ""
    facts += [f"{cpus[1]} CPUs{in_turn}" if cpus else "", f"{memory[1]} MiB" if memory else "", _first(rep, "accel").upper(),
              f"QEMU {item.host['qemu']}" if item.host.get("qemu") else "", f"boot {_first(rep, 'boot').split(' ')[0]}"]
    took = rep.verdict.us / 1e6 if rep.verdict else None
    return {"label": item.label, "name": item.name, "word": item.found.word,
            "good": item.found.word == "PASS", "sentence": _sentence(item.found)[0], "below": _sentence(item.found)[1], "facts": [f for f in facts if f and f != "boot "],
            "segments": _segments(rep), "total": max(1, sum(n for _, n, _ in _segments(rep))),
            "seconds": f"{took:.1f} s" if took else "", "problems": [p for p in rep.problems if item.found.why not in p][:12],
            "must": rep.must, "errors": rep.errors, "version": rep.version, "git": rep.git, "boot": rep.boot,
            "cmdline": rep.cmdline, "noise": noise.sentence(rep), "traced": item.trace.groups if item.trace else ""}


def _first(rep: Report, key: str) -> str:
    return next(iter(rep.env_of(key)), "")


def _iommu_short(rep: Report) -> str:
    said = _first(rep, "iommu")
    return "" if not said else "no IOMMU" if said == "none" else said.split(" at ")[0]


# ---- what is wrong ----

def _findings(items: list[Item]) -> list[dict]:
    out: dict[tuple, dict] = {}
    for item in items:
        for f in item.found.report.findings[:FINDINGS_MOST]:
            row = out.setdefault((f.ident, f.text), {"id": f.ident, "text": f.text, "labels": [], "test": f.test, "parts": [
                (k, getattr(f, k)) for k in ("evidence", "likely", "do") if getattr(f, k)], "good": f.ident == GONE})
            row["labels"].append(item.label)
    return sorted(out.values(), key=lambda r: r["good"])


def _checks(test: Test) -> tuple[list[Check], list[str]]:
    """The checks that did not hold, and the other lines."""
    checks, rest = [], []
    for detail in test.details:
        m = _EXPECT.match(detail)
        if not m:
            rest.append(detail)
            continue
        parts = _GOT.match(m[2])
        checks.append(Check(parts[1], parts[2], parts[3], m[1]) if parts else Check(m[2], where=m[1]))
    if len(rest) > LINES_MOST:
        rest = [*rest[:LINES_MOST], f"… {len(rest) - LINES_MOST} lines more in the log"]
    if len(checks) > CHECKS_MOST:
        checks = [*checks[:CHECKS_MOST], Check(f"… {len(checks) - CHECKS_MOST} checks more in the log")]
    return checks, rest


def _result(item: Item, at: int, test: Test | None) -> dict:
    """One test in one log."""
    if test is None:
        return {"label": item.label, "outcome": "absent", "sign": "·", "says": SAYS["absent"], "bad": False, "us": None,
                "reason": "", "claim": "", "checks": [], "lines": [], "trace": None, "line": None, "log": at, "content": False}
    checks, lines = _checks(test)
    bad = test.outcome in BAD or test.outcome in ("running", "lost")
    trace = _trace(item, test, bad)
    outcome = word(test)
    return {"label": item.label, "outcome": outcome, "sign": SIGNS.get(outcome, "✗"), "says": SAYS.get(outcome, outcome),
            "bad": bad, "us": test.us, "reason": test.reason, "claim": test.claim, "checks": checks, "lines": lines, "trace": trace,
            "line": test.line, "log": at, "content": bool(checks or lines or trace)}


def _trace(item: Item, test: Test, bad: bool) -> dict | None:
    mine = item.trace.tests.get(test.name) if item.trace else None
    if mine is None:
        return None
    most = TRACE_LINES if bad else TRACE_LINES_PASSED
    rows = [(kind, _since(when) if kind != "x" else "", f"… {text} lines not kept" if kind == "x" else text)
            for when, kind, text in mine.lines]
    if len(rows) > most:
        cut = len(rows) - most
        rows = [*rows[: most // 3], ("x", "", f"… {cut} lines more in {Path(item.name).name}.trace"), *rows[cut + most // 3:]]
    said = next((n for n, row in enumerate(rows) if row[0] == "s" and row[2].startswith(("# expect", "# error", "# timeout"))), None)
    close = rows[max(0, said - CLOSE_LINES):said + 1] if bad and said is not None else []
    return {"events": mine.events, "short": in_short(mine, 8), "rows": rows, "close": close}


def _since(seconds: float) -> str:
    return f"{seconds * 1e6:+.0f} µs" if abs(seconds) < .01 else f"{seconds * 1e3:+.1f} ms"


def _tests(items: list[Item]) -> list[dict]:
    """Every test of every log, in the order in which they ran."""
    by_name = [{t.name: t for t in i.found.report.tests} for i in items]
    out = []
    for name in dict.fromkeys(n for tests in by_name for n in tests):
        results = [_result(item, at, by_name[at].get(name)) for at, item in enumerate(items)]
        worst = next((r for r in results if r["bad"]), None) or next(
            (r for r in results if r["outcome"] not in ("pass", "absent")), results[0])
        differs = len({r["outcome"] for r in results}) > 1
        out.append({"name": name, "suite": name.partition(".")[0], "results": results, "bad": any(r["bad"] for r in results),
                    "kind": "bad" if worst["bad"] else worst["outcome"], "reason": worst["reason"], "differs": differs,
                    "content": any(r["content"] for r in results)})
    return out


def _suites(tests: list[dict]) -> list[dict]:
    out: dict[str, dict] = {}
    for t in tests:
        suite = out.setdefault(t["suite"], {"name": t["suite"], "tests": [], "counts": Counter()})
        suite["tests"].append(t)
        suite["counts"]["bad" if t["bad"] else t["kind"]] += 1
    return list(out.values())


def _quiet(tests: list[dict], items: list[Item]) -> list[dict]:
    """What did not run or is known to fail, by reason: a reader must see what a pass leaves open."""
    out = []
    for outcome, title in (("todo", "Known bugs of the platform, still there"), ("fixed", "Known bugs that are gone"),
                           ("skip", "Skipped")):
        reasons: dict[str, list[str]] = {}
        for t in tests:
            for r in t["results"]:
                if r["outcome"] == outcome:
                    names = reasons.setdefault(r["reason"], [])
                    name = t["name"] + (f" ({r['label']})" if r["label"] and t["differs"] else "")
                    if name not in names:
                        names.append(name)
        if reasons:
            out.append({"title": title, "kind": outcome, "rows": list(reasons.items()),
                        "count": sum(len(v) for v in reasons.values())})
    return out


# ---- the machine ----

def _machine(items: list[Item]) -> list[dict]:
    columns = []
    for item in items:
        rows: dict[str, str] = {}
        for key, text in machine_rows(item.found.report):
            rows[key] = f"{rows[key]}\n{text}" if key in rows else text
        rows |= {f"host: {k}": str(v) for k, v in item.host.items() if k in ("machine", "qemu", "smp", "mem", "log")}
        columns.append(rows)
    keys = dict.fromkeys(k for rows in columns for k in rows)
    out = []
    for key in keys:
        values = [rows.get(key, "–") for rows in columns]
        out.append({"key": key, "values": values, "differs": len({stable(key, v) for v in values}) > 1})
    return out


def _trees(items: list[Item]) -> list[dict]:
    out: list[dict] = []
    for item in items:
        rep = item.found.report
        rows = html_topology.flat(html_topology.build(rep))
        shape = [(f.address, f.vendor, f.device, f.failed, f.proven, f.messages, f.iommu) for f in rows]
        same = next((t for t in out if t["shape"] == shape), None)
        if same:
            same["labels"].append(item.label)
        elif rows:
            out.append({"labels": [item.label], "rows": rows, "shape": shape, "iommus": rep.env_of("iommu"),
                        "apic": _first(rep, "apic"), "remapping": _first(rep, "remapping"),
                        "summary": _first(rep, "pci_summary"),
                        "blamed": sum(bool(f.failed) for f in rows)})
    return out


# ---- measurements ----

def _glance(items: list[Item]) -> list[dict]:
    """Rows of one answer a log."""
    every = [{q: (answer, where) for q, answer, where in glance.glance(i.found.report)} for i in items]
    questions = dict.fromkeys(q for told in every for q in told)
    return [{"key": q, "values": [told.get(q, ("–", "")) for told in every]} for q in questions]


def _measures(items: list[Item]) -> list[dict]:
    """By test: charts, and a row a series; of several logs side by side, with the ratio to the first."""
    every = [by_ident(i.found.report) for i in items]
    steps = [clock_step(m) for m in every]
    names = dict.fromkeys(ident[0] for series in every for ident in series)
    drivers = {f.address: f.driver for i in items for root in html_topology.build(i.found.report)
               for f in html_topology.flat([root]) if f.driver}
    costs = [modes.tables(i.found.report) for i in items]
    floors = [_floor(series) for series in every]
    out = []
    for name in names:
        mine = [{k: s for k, s in series.items() if k[0] == name} for series in every]
        charts = html_plots.charts([(items[at].label, list(m.values())) for at, m in enumerate(mine)], drivers)
        scales = {unit: html_plots.BarScale([s for m in mine for s in m.values() if s.unit == unit])
                  for unit in dict.fromkeys(k[2] for m in mine for k in m)}
        idents = list(dict.fromkeys(k for m in mine for k in m))[:ROWS_MOST]
        common = _common([s for m in mine for s in m.values()])
        rows = []
        for ident in idents:
            cells, first = [], mine[0].get(ident)
            for at, m in enumerate(mine):
                cells.append(_cell(m.get(ident), scales[ident[2]], at, first if at else None, steps[0], steps[at]))
            keys = dict(ident[1])
            label = [(k, v) for k, v in keys.items() if k not in common]
            rows.append({"label": label, "unit": ident[2], "cells": cells})
        context = _common_context([s for m in mine for s in m.values()])
        drawn = [{"title": c.title, "svg": _markup(c.svg), "kind": c.kind, "points": c.points,
                                              "legend": [(_markup(s), text) for s, text in c.legend]} for c in charts]
        plain = [c for c in drawn if c["kind"] != "cdf"] or drawn[:CHARTS_OPEN]
        told = [{"label": items[at].label, "heads": heads, "rows": rows_, "note": note}
                for at, found in enumerate(costs) for test, heads, rows_, note in found if test == name]
        out.append({"name": name, "costs": told, "floor": _beside(name, floors, items), "charts": plain, "more": [c for c in drawn if c not in plain], "rows": rows, "folded": len(rows) > ROWS_OPEN, "common": common, "context": context})
    return out


# What a test cannot be quicker than: an operation of perf.exits that it makes at least once.
FLOORS = {"dma": ("mmio_read", "telling the device is one access like it"), "msi": ("mmio_read", "raising is one access like it"),
          "apic": ("icr_write", "sending is one such write"), "vgpu": ("mmio_read", "an access that the host answers")}


def _floor(series: dict[tuple, Series]) -> dict[str, float]:
    return {s.keys.get("op", ""): s.middle for s in series.values() if s.name == "perf.exits" and s.unit == "ns" and s.middle}


def _beside(name: str, floors: list[dict[str, float]], items: list[Item]) -> str:
    """The part of a time that is the exit, for a reader to subtract by eye."""
    op, why = FLOORS.get(name.partition(".")[0], ("", ""))
    if name == "perf.ipi":
        op, why = FLOORS["apic"]
    elif name.startswith("perf.") and name != "perf.exits":
        op, why = "mmio_read", "a certain trap"
    said = [f"{(items[at].label + ' ') if items[at].label else ''}{shown(f[op], 'ns')}" for at, f in enumerate(floors) if f.get(op)]
    return f"The floor: {' · '.join(said)} for {op.replace('_', ' ')} (perf.exits); {why}." if said else ""


def _cell(s: Series | None, scale, color: int, first: Series | None, first_step: float, step: float) -> dict:
    if s is None:
        return {"bar": "", "noisy": False, "p50": "–", "p99": "", "n": "", "ratio": "", "says": ""}
    interval = s.median_interval(0.95)
    said = f"n={s.n}" + "".join(f", {k} {shown(v, s.unit)}" for k, v in s.figures.items() if k not in ("p50.lo", "p50.hi"))
    ratio = ""
    if first and first.middle and s.middle is not None:
        a, b = side_of([(first, first_step)]), side_of([(s, step)])
        low = high = None
        if None not in (a.low, b.low) and a.low > 0 and a.high > 0:
            low, high = b.low / a.high, b.high / a.low
        ratio = ratio_text(Row(s, a, b, s.middle / first.middle, low, high, ""))
    return {"bar": _markup(html_plots.bar(s, scale, color)), "noisy": noise.is_noisy(s, step), "p50": shown(s.middle, s.unit), "p99": shown(s.figures.get("p99"), s.unit),
            "n": str(s.n) if s.n else "", "ratio": ratio,
            "says": said + (f"; median within {shown(interval[0], s.unit)} to {shown(interval[1], s.unit)}" if interval else "")}


def _common(series: list[Series]) -> dict[str, str]:
    """What all of a test's series share: said once."""
    if len(series) < 2:
        return {}
    return {k: v for k, v in series[0].keys.items() if all(s.keys.get(k) == v for s in series)}


def _common_context(series: list[Series]) -> dict[str, str]:
    said = {k: v for k, v in series[0].context.items() if all(s.context.get(k) == v for s in series)} if series else {}
    slow = said.pop("slow", "")
    return {**said, "rounds on a slow machine": slow.replace("/", " of ")} if slow else said


# ---- the raw log ----

def _raw(item: Item, at: int) -> dict:
    """Its lines, in runs: only where a test begins there is a place to jump to."""
    data = item.data[:RAW_MOST]
    lines = data.decode("utf-8", "replace").replace("\r", "").split("\n")
    marks = {t.line: t for t in item.found.report.tests}
    parts, now = [], []
    for number, line in enumerate(lines, 1):
        if number in marks:
            parts.append({"id": now and "", "text": "\n".join(now) + "\n" if now else ""})
            parts.append({"id": f"log{at}-{number}", "text": line + "\n"})
            now = []
        else:
            now.append(line)
    parts.append({"id": "", "text": "\n".join(now)})
    return {"label": item.label, "name": item.name, "lines": len(lines) - (lines[-1] == ""), "parts": [p for p in parts if p["text"]],
            "cut": len(item.data) > RAW_MOST, "panic": item.found.report.panic, "hint": HINT}
