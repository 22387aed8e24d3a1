# SPDX-License-Identifier: MIT
"""What came of a scenario: plumb's log and the host's, joined and held against what the scenario expects."""
from __future__ import annotations

import re
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from .. import judge
from ..cmdline import matches
from ..report import check_must
from . import truth
from .scenario import Scenario

BAD = ("fail", "error", "timeout", "crash", "hang", "reset", "garbled", "running", "lost")
KILLED = 137                         # timeout -s KILL


@dataclass
class Result:
    scenario: Scenario
    word: str = "FAIL"               # ok, todo (but for known faults of the platform), FAIL
    problems: list = field(default_factory=list)  # why it is no ok
    known: list = field(default_factory=list)     # "test: evidence"
    found: judge.Outcome | None = None
    seconds: float | None = None
    notes: list = field(default_factory=list)     # findings, what was compared
    host: list = field(default_factory=list)      # what the host's kernel said that matters

    def close(self) -> Result:
        self.word = "FAIL" if self.problems else "todo" if self.known else "ok"
        return self

    @property
    def counts(self) -> str:
        if not self.found:
            return ""
        rep = self.found.report
        return (f"{rep.count('pass', 'fixed')} passed, {rep.count('fail')} failed, {rep.count('skip')} skipped"
                + (f", {rep.count('todo')} todo" if rep.count("todo") else ""))


def text_of(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8", "replace")
    except OSError:
        return ""


def _status(path: Path) -> int | None:
    try:
        return int(text_of(path))
    except ValueError:
        return None


def _last(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip() if lines else "not a word"


def judged(one: Scenario, folder: Path, broke: str = "", status: int | None = None, console: str = "") -> Result:
    """broke: why the host did not come to this scenario's end. status: of a QEMU that was not the host's."""
    out = Result(one)
    if broke and one.host_ends and (line := _line(one.host_ends, console)):
        out.known.append(f"the host's QEMU ends itself: {line}")
        return out.close()
    if broke:
        out.problems.append(f"the host broke off: {broke}")
    steps = {name: _status(folder / f"{name}.status") for name in ("setup", "during", "after")}
    if steps["setup"]:
        out.problems.append(f"setup: {_last(text_of(folder / 'setup.txt'))}")
        return out.close()
    data = (folder / "serial.log").read_bytes() if (folder / "serial.log").is_file() else b""
    if one.kind == "guest":
        status = _status(folder / "status")
    killed = status == KILLED
    found = out.found = judge.judge_log(data, None if killed or broke else status)
    if killed and found.word not in ("PASS", "FAIL"):
        found.word, found.why = "HANG", f"ended after {one.deadline:.0f} s"
    if not data.strip() and not broke:
        found.why = f"not a byte; QEMU: {_last(text_of(folder / 'qemu.txt'))}"
    if one.refused and not data.strip() and one.refused in text_of(folder / "qemu.txt"):
        out.known.append(f"not to be had: {_last(text_of(folder / 'qemu.txt'))}")
        return out.close()
    _tests(one, out)
    if one.kind == "truth" and found.word in ("PASS", "FAIL"):
        ours = truth.plumb(found.report)
        theirs = truth.linux(text_of(folder / "groups.txt"), text_of(folder / "resources.txt"))
        wrong = truth.differences(ours, theirs)
        out.problems += wrong
        out.notes += [] if wrong else [truth.summary(ours)]
    for name in ("during", "after"):
        if steps[name]:
            out.problems.append(f"{name}: {_last(text_of(folder / f'{name}.txt'))}")
    log = text_of(folder / "host.log")
    for pattern in one.host_says:
        line = _line(pattern, log)
        if line:
            out.host.append(line)
        else:
            out.problems.append(f"the host's log has nothing like {pattern!r}")
    for pattern in one.host_silent:
        if line := _line(pattern, log):
            out.problems.append(f"the host says: {line}")
    if line := _line(r"BUG:|Oops|WARNING: CPU|Call Trace|rcu.*stall", log):
        out.notes.append(f"the host's log: {line}")
    return out.close()


def _line(pattern: str, log: str) -> str:
    m = re.search(f"^.*(?:{pattern}).*$", log, re.M)
    return re.sub(r"^\[ *[\d.]+\] ", "", m[0].strip()) if m else ""


def shutdown(folder: Path) -> str:
    """What KVM last saw of a guest that it shut down (a triple fault): its exits, "UD excp 0x…, shutdown 0x…"; "" of others."""
    exits = re.findall(r"kvm_exit: vcpu \d+ reason (.+?) rip (0x[0-9a-f]+)", text_of(folder / "kvm.txt"))
    return ", ".join(f"{why} at {rip}" for why, rip in exits[-3:])


def _tests(one: Scenario, out: Result) -> None:
    rep = out.found.report
    check_must(rep, one.must, whole_suite=True)
    out.problems += rep.must
    expected = set()
    for pattern, words in one.fails.items():
        failed = [t for t in rep.tests if t.outcome in BAD and matches(t.name, [pattern])]
        said = [t for t in failed if re.search(words, "\n".join([t.reason, t.claim, *t.details]))]
        expected |= {t.name for t in failed}
        if not said:
            out.problems.append(f"{pattern}: did not fail" if not failed else
                                f"{pattern}: failed, but says nothing like {words!r}")
    for t in rep.tests:
        if t.outcome not in BAD or t.name in expected:
            continue
        why = next((why for pattern, why in one.known.items() if matches(t.name, [pattern])), "")
        other = _other(one, t) if why else ""
        if other:
            out.problems.append(f"{t.name}: known to fail, but not so: {other}")
        elif why:
            out.known.append(f"{t.name}: {why}")
        else:
            out.problems.append(f"{t.name}: {t.outcome} {t.reason or t.claim}".rstrip())
    out.notes += [f"{f.ident} {f.text}" for f in rep.findings]
    out.problems += [f"no finding {i}: plumb does not say what is wrong" for i in one.finds if i not in
                     {f.ident for f in rep.findings}]
    word = out.found.word
    if word == "FAIL" and "FAIL" not in one.verdict and not [e for e in rep.errors if not e.startswith("require=")]:
        word = "PASS"                # each of its failures was looked at above
    if word not in one.verdict:
        out.problems.append(f"verdict {word}, not {' or '.join(one.verdict)}: {out.found.why}".rstrip(": "))


def _other(one: Scenario, test) -> str:
    """A failed check of a test that is known to fail, but not in that."""
    about = [text for pattern, text in one.only.items() if matches(test.name, [pattern])]
    failed = [d for d in test.details if d.startswith(("expect ", "error", "timeout"))]
    return next((d for d in failed for text in about if not re.search(text, d)), "")


# ---- for people ----

def table(results: list[Result]) -> list[tuple[str, ...]]:
    return [(r.scenario.part, r.scenario.name, r.scenario.host, r.word,
             "" if r.seconds is None else f"{r.seconds:.0f} s", r.counts, r.scenario.description) for r in results]


HEAD = ("part", "scenario", "host", "outcome", "took", "in the guest", "what")


def detail(r: Result) -> list[str]:
    return ([f"FAIL {p}" for p in r.problems] + [f"known {k}" for k in r.known] + [f"host: {h}" for h in r.host] + r.notes)


def as_text(results: list[Result]) -> str:
    rows = [HEAD, *table(results)]
    widths = [max(len(row[n]) for row in rows) for n in range(len(HEAD) - 1)]
    out = []
    for row, result in zip(rows, [None, *results]):
        out.append("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths)) + "  " + row[-1])
        if result and result.word != "ok":
            out += [f"      {line}" for line in detail(result)[:12]]
    return "\n".join(out)


def as_markdown(results: list[Result], head: str) -> str:
    def cell(text):
        return text.replace("|", "\\|")
    out = [f"# {head}", "", "| " + " | ".join(HEAD) + " |", "|" + "---|" * len(HEAD)]
    out += ["| " + " | ".join(cell(c) for c in row) + " |" for row in table(results)]
    for r in results:
        if detail(r):
            out += ["", f"## {r.scenario.name}: {r.word}", "", *(f"- {line}" for line in detail(r))]
    return "\n".join(out) + "\n"


MARKS = ("<!-- by scripts/plumb lab --write -->\n", "<!-- end -->\n")


def known_names(r: Result) -> str:
    return ", ".join(k.partition(":")[0] for k in r.known)


def write(doc: Path, results: list[Result], head: str) -> None:
    """The table between the marks of a page."""
    text = doc.read_text()
    before, _, rest = text.partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    rows = [(r.scenario.part, r.scenario.name, r.word, "" if r.seconds is None else f"{r.seconds:.0f} s", r.counts,
             known_names(r)) for r in results]
    out = [head, "", "| part | scenario | outcome | took | in the guest | known faults of the platform |", "|" + "---|" * 6]
    out += ["| " + " | ".join(row) + " |" for row in rows]
    doc.write_text(before + MARKS[0] + "\n".join(out) + "\n" + MARKS[1] + after)


STYLE = ("body{font:14px sans-serif;margin:2em;max-width:80em}table{border-collapse:collapse}td,th{padding:.2em .6em;"
         "border-bottom:1px solid #ccc;text-align:left}.ok{background:#dfd}.todo{background:#ffd}.FAIL{background:#fdd}"
         "summary{cursor:pointer}pre{background:#f4f4f4;padding:.5em;overflow:auto;max-height:30em}")


def as_html(results: list[Result], head: str, folder: Path) -> str:
    rows = "".join(f"<tr class={r.word}>" + "".join(f"<td>{escape(c)}" for c in row) for r, row in zip(results, table(results)))
    parts = []
    for r in results:
        logs = "".join(f"<details><summary>{label}</summary><pre>{escape(text_of(folder / r.scenario.name / name))}</pre></details>"
                       for name, label in (("serial.log", "plumb's log"), ("host.log", "the host's log"),
                                           ("qemu.txt", "the guest's QEMU"), ("guest.sh", "its command line"))
                       if (folder / r.scenario.name / name).is_file())
        parts.append(f"<h2>{escape(r.scenario.name)}: {r.word}</h2><p>{escape(r.scenario.description)}</p>"
                     + "".join(f"<p>{escape(line)}</p>" for line in detail(r)) + logs)
    return (f"<!doctype html><meta charset=utf-8><title>{escape(head)}</title><style>{STYLE}</style><h1>{escape(head)}</h1>"
            f"<table><tr>{''.join(f'<th>{h}' for h in HEAD)}{rows}</table>{''.join(parts)}\n")
