# SPDX-License-Identifier: MIT
"""A judged report as text, JSON or JUnit XML."""
from __future__ import annotations

import json
import re
from dataclasses import asdict
from html import escape

from . import noise
from .judge import HINT, Outcome
from .report import Report, Test
from .series import Series, read
from .trace import in_short
from .view import Paint, clean

FORMAT = "plumb-results/1"
_EXPECT = re.compile(r"expect (\S+:\d+) (.*)\Z")
BAD = ("fail", *HINT)


def word(test: Test) -> str:
    """An outcome in one word; an error of ours is not a failure of the subject."""
    return test.cause if test.outcome == "fail" and test.cause else test.outcome


def counts(rep: Report) -> dict[str, int]:
    return {"tests": len(rep.tests), "passed": rep.count("pass", "fixed"), "failed": rep.count(*BAD),
            "skipped": rep.count("skip"), "todo": rep.count("todo")}


# ---- text ----

def summary_line(found: Outcome, seconds: float | None, paint: Paint) -> str:
    rep = found.report
    color = {"PASS": "green", "FAIL": "red"}.get(found.word, "red")
    c = counts(rep)
    parts = [f"{c['passed']} passed", f"{c['failed']} failed", f"{c['skipped']} skipped"]
    if c["todo"]:
        parts.append(f"{c['todo']} known bugs")
    if rep.plan is not None and rep.plan > len(rep.tests):
        parts.append(f"{rep.plan - len(rep.tests)} not run")
    took = f" in {seconds:.1f} s" if seconds is not None else ""
    return f"{paint('bold', paint(color, found.word))}  {', '.join(parts)}{took}"


def failures(rep: Report, paint: Paint, most: int = 12, trace=None) -> list[str]:
    """Each failed test with its diagnostics and what QEMU did meanwhile, findings after them."""
    out = []
    for test in rep.tests:
        if test.outcome not in BAD:
            continue
        label = f"not ok {test.name}" if test.outcome == "fail" else f"{HINT[test.outcome]} {test.name}"
        reason = f"   {clean(test.reason)}" if test.reason else ""
        out.append(paint("red", label) + reason)
        if test.claim:
            out.append(f"    not so: {clean(test.claim)}")
        shown = [d for d in test.details if not d.startswith("metric ")]
        for detail in shown[:most]:
            m = _EXPECT.match(detail)
            out.append("    " + (f"{clean(m[2])}   {paint('dim', clean(m[1]))}" if m else clean(detail)))
        if len(shown) > most:
            out.append(f"    … {len(shown) - most} lines more in the log")
        if trace and test.name in trace.tests:
            out.append(f"    QEMU meanwhile: {in_short(trace.tests[test.name])}")
    for f in rep.findings:
        out.append(f"{paint('yellow', f.ident)} {clean(f.text)}")
        for key in ("evidence", "likely", "do"):
            if getattr(f, key):
                out.append(f"    {key:<9} {clean(getattr(f, key))}")
    return out


def text(found: Outcome, paint: Paint, seconds: float | None = None, log: str = "", title: str = "",
         evidence: str = "", trace=None) -> str:
    rep = found.report
    out = []
    if title:
        out.append(title)
    skips: dict[str, list[str]] = {}
    for t in rep.tests:
        if t.outcome == "skip":
            skips.setdefault(t.reason, []).append(t.name)
    out += [f"  skip {' '.join(names)}: {clean(reason)}" for reason, names in skips.items()]
    out += [f"  known {t.name}: {clean(t.reason)}" for t in rep.tests if t.outcome == "todo"]
    out += [f"  fixed? {t.name}: {clean(t.reason)}" for t in rep.tests if t.outcome == "fixed"]
    out += failures(rep, paint, trace=trace)
    errors = [e for e in rep.errors if not (rep.must and e.startswith("require="))]  # `must` names them all
    out += [paint("red", "error") + f" {clean(e)}" for e in errors[:8]]
    if len(errors) > 8:
        out.append(f"    … {len(errors) - 8} errors more in the log")
    out += [paint("red", "must") + f" {clean(m)}" for m in rep.must]
    if found.word not in ("PASS", "FAIL"):
        out.append(paint("red", f"{found.word}: {clean(found.why)}"))
        out += [f"    {clean(p)}" for p in rep.problems if found.why not in p][:8]
    if evidence:
        more = "" if found.word in ("PASS", "FAIL") else "registers, APICs and "
        out.append(f"    {more}QEMU's last words: {evidence}")
    said = noise.sentence(rep)
    out += [paint("yellow", said)] if said else []
    last = summary_line(found, seconds, paint)
    out.append(last + (f"     log {log}" if log else ""))
    return "\n".join(out)


# ---- JSON ----

def as_dict(found: Outcome, host: dict | None = None, trace=None) -> dict:
    """As docs/schema.json describes it."""
    rep = found.report
    return {
        "format": FORMAT,
        "verdict": found.word, "exit": found.exit_code, "why": found.why, "problems": rep.problems,
        "must": rep.must, "errors": rep.errors,
        "plumb": {"version": rep.version, "git": rep.git, "boot": rep.boot},
        "host": host or {},
        "cmdline": rep.cmdline, "plan": rep.plan, "counts": counts(rep),
        "us": rep.verdict.us if rep.verdict else None,
        "env": [list(pair) for pair in rep.env],
        "tests": [{"name": t.name, "outcome": word(t), "reason": t.reason, "claim": t.claim, "us": t.us, "line": t.line,
                   "details": t.details, "metrics": [_metric(s) for s in map(read, t.metrics) if s],
                   "trace": _trace(trace, t.name)} for t in rep.tests],
        "findings": [{("id" if k == "ident" else k): v for k, v in asdict(f).items()} for f in rep.findings],
        "panic": rep.panic,
    }


def _metric(s: Series) -> dict:
    hist = s.hist and {"sub": s.hist.sub, "buckets": [list(b) for b in s.hist.buckets]}
    interval = s.median_interval()
    return {"series": s.keys, "unit": s.unit, "n": s.n, "figures": s.figures, "context": s.context,
            "median_interval": list(interval) if interval else None, "hist": hist}


def _trace(trace, name: str) -> dict | None:
    mine = trace.tests.get(name) if trace else None
    return mine and {"events": mine.events, "counts": dict(mine.counts), "left_out": mine.left_out,
                     "lines": [list(line) for line in mine.lines]}


def as_json(found: Outcome, host: dict | None = None, trace=None) -> str:
    return json.dumps(as_dict(found, host, trace), indent=1, ensure_ascii=True) + "\n"


# ---- JUnit ----

def _xml(value: str) -> str:
    """Text that XML 1.0 can hold."""
    return escape("".join(c if c in "\t\n" or 0x20 <= ord(c) <= 0xD7FF or 0xE000 <= ord(c) <= 0xFFFD
                          or ord(c) > 0xFFFF else "\ufffd" for c in value))


def _attr(value: str) -> str:
    return '"' + _xml(value).replace("\n", "&#10;") + '"'


def as_junit(found: Outcome, name: str = "plumb") -> str:
    rep = found.report
    suites: dict[str, list[str]] = {}
    tally: dict[str, dict[str, int]] = {}
    for test in rep.tests:
        suite, _, short = test.name.partition(".")
        kind, body = _junit_case(test)
        head = f'  <testcase classname={_attr(name + "." + suite)} name={_attr(short)} time="{(test.us or 0) / 1e6:.6f}"'
        suites.setdefault(suite, []).append(f"{head}>{body}</testcase>" if body else f"{head}/>")
        tally.setdefault(suite, dict(tests=0, failures=0, errors=0, skipped=0))
        tally[suite]["tests"] += 1
        if kind:
            tally[suite][kind] += 1
    trouble = rep.problems + rep.errors + rep.must
    if trouble:  # JUnit has no verdict: one case stands for it
        body = f"<error message={_attr(trouble[0])}>{_xml(chr(10).join(trouble))}</error>"
        suites["report"] = [f'  <testcase classname={_attr(name + ".report")} name="whole">{body}</testcase>']
        tally["report"] = dict(tests=1, failures=0, errors=1, skipped=0)
    out = ['<?xml version="1.0" encoding="UTF-8"?>']
    total = {k: sum(t[k] for t in tally.values()) for k in ("tests", "failures", "errors", "skipped")}
    out.append(f"<testsuites name={_attr(name)} " + " ".join(f'{k}="{v}"' for k, v in total.items()) + ">")
    for suite, cases in suites.items():
        numbers = " ".join(f'{k}="{v}"' for k, v in tally[suite].items())
        out += [f" <testsuite name={_attr(suite)} {numbers}>", *cases, " </testsuite>"]
    return "\n".join(out + ["</testsuites>"]) + "\n"


def _junit_case(test: Test) -> tuple[str, str]:
    detail = "\n".join(test.details)
    first = next((d for d in test.details if d.startswith(("expect ", "error:", "timeout:"))), test.reason)
    if test.outcome == "skip":
        return "skipped", f"<skipped message={_attr(test.reason)}/>"
    if test.outcome == "todo":
        return "skipped", f"<skipped message={_attr('known bug: ' + test.reason)}/>"
    if test.outcome == "fail" and not test.cause:
        return "failures", f"<failure message={_attr(first)}>{_xml(detail)}</failure>"
    if test.outcome in BAD or test.outcome in ("running", "lost"):
        return "errors", f"<error type={_attr(word(test))} message={_attr(first or test.reason)}>{_xml(detail)}</error>"
    return "", f"<system-out>{_xml(detail)}</system-out>" if detail else ""
