# SPDX-License-Identifier: MIT
"""The report format of docs/results.md: bytes in, Report out.

Pure and bounded: any bytes give a Report, never an exception. Whatever does not add up becomes a
problem in words, and a report with a problem is never a pass.
"""
from __future__ import annotations

import re
import zlib
from dataclasses import dataclass, field

from . import EXIT_FAIL, EXIT_PASS, EXIT_UNTRUSTED
from .cmdline import globs, matches, value

MAX_BYTES = 64 << 20
MAX_LINES = 1_000_000
MAX_PROBLEMS = 40

# QEMU's exit status after isa-debug-exit: (value << 1) | 1.
STATUS_PASS, STATUS_FAIL, STATUS_PANIC = 33, 35, 37

HEADER = b"TAP version 14"
_NAME = r"[a-z0-9_]{1,64}\.[a-z0-9_]{1,64}"
_NUM = r"(\d{1,9})"
_IDENT = re.compile(r"# plumb (\S{1,64}) git=(\S{1,64}) boot=([0-9a-f]{16})\Z")
_PLAN = re.compile(r"1\.\.(\d{1,6})(?: # SKIP ?(.*))?\Z")
_RUN = re.compile(rf"# run {_NUM} ({_NAME})\Z")
_TOOK = re.compile(rf"# took {_NUM} us=(\d{{1,18}})\Z")
_RESULT = re.compile(rf"(ok|not ok) {_NUM} - ({_NAME})(?: # (SKIP|TODO)(?: (.*))?)?\Z")
_FINDING = re.compile(r"# finding (PLB\d{3}) (.*)\Z")
_PAIR = re.compile(r"([A-Za-z0-9_.]+)=(\S*)")
_VERDICT = re.compile(
    r"# verdict (PASS|FAIL)"
    rf" tests={_NUM} passed={_NUM} failed={_NUM} skipped={_NUM} todo={_NUM}"
    rf" us=(\d{{1,18}}) lines={_NUM} crc=([0-9a-f]{{8}})\Z"
)
_ESCAPE = re.compile("\x1b(?:\\[[0-9;?=]{0,16}[A-Za-z]|.)")
# After the verdict the firmware may speak again, the report may not.
_REPORT_LIKE = re.compile(
    r"(?:not )?ok \d|1\.\.\d|# (?:run|took|expect|error:|timeout:|note|metric|hist|env|list|finding|plumb"
    r"|pciconf|acpitable)\b"
)
_COUNTED = {"pass": "passed", "fixed": "passed", "fail": "failed", "skip": "skipped", "todo": "todo"}


@dataclass
class Test:
    number: int
    name: str
    line: int                        # of `# run`, in the log
    outcome: str = "running"         # pass fail skip todo fixed; the runner adds crash hang reset garbled
    reason: str = ""                 # after SKIP or TODO, or what the runner saw
    cause: str = ""                  # "error" or "timeout": ours, not the subject's
    us: int | None = None
    claim: str = ""                  # what it says is so, where it failed
    details: list[str] = field(default_factory=list)  # the lines between, without "# "
    metrics: list[Metric] = field(default_factory=list)


@dataclass
class Metric:
    name: str
    values: dict[str, str]           # in the line's order
    hist: str = ""                   # the `# hist` line that followed, after the name


@dataclass
class Finding:
    ident: str
    text: str
    test: str = ""
    evidence: str = ""
    likely: str = ""
    do: str = ""


@dataclass
class Verdict:
    word: str
    tests: int
    passed: int
    failed: int
    skipped: int
    todo: int
    us: int
    lines: int
    crc: str


@dataclass
class Report:
    version: str = ""
    git: str = ""
    boot: str = ""                   # the boot's nonce
    plan: int | None = None
    plan_skip: str = ""
    cmdline: str = ""
    env: list[tuple[str, str]] = field(default_factory=list)
    listed: list[tuple[str, str]] = field(default_factory=list)
    tests: list[Test] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)  # "# error:" outside any test: the run's own
    notes: list[str] = field(default_factory=list)   # other lines outside any test
    dumps: list[tuple[str, str]] = field(default_factory=list)  # `# pciconf …`, `# acpitable …`
    verdict: Verdict | None = None
    panic: str = ""
    boots: int = 0                   # headers seen
    noise: str = ""                  # the last words before the report
    problems: list[str] = field(default_factory=list)
    must: list[str] = field(default_factory=list)    # what the machine profile asks and did not get
    status: int | None = None
    damaged_in: Test | None = None   # the test to which the first problem belongs

    @property
    def exit_code(self) -> int:
        if self.problems or self.verdict is None:
            return EXIT_UNTRUSTED
        return EXIT_FAIL if self.verdict.word == "FAIL" or self.must else EXIT_PASS

    @property
    def running(self) -> Test | None:
        """The test that began and has no result."""
        return self.tests[-1] if self.tests and self.tests[-1].outcome == "running" else None

    def count(self, *outcomes: str) -> int:
        return sum(t.outcome in outcomes for t in self.tests)

    def env_of(self, key: str) -> list[str]:
        return [text for k, text in self.env if k == key]

    def problem(self, text: str) -> None:
        if not self.problems:
            self.damaged_in = self.running
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(text)


def parse_report(data: bytes, status: int | None = None) -> Report:
    """Reads one log. `status` is QEMU's exit status where there is one: it must agree."""
    rep = Report(status=status)
    if len(data) > MAX_BYTES:
        rep.problem(f"the log is larger than {MAX_BYTES >> 20} MiB; the rest was not read")
        data = data[:MAX_BYTES]
    _Reader(rep, data).read()
    _check_whole(rep)
    if status is not None:
        _check_status(rep, status)
    return rep


def check_must(rep: Report, patterns: list[str], whole_suite: bool) -> None:
    """A machine profile names what may not be missing or skipped there."""
    absent = [p for p in patterns if not any(matches(t.name, [p]) for t in rep.tests)]
    if absent and whole_suite:
        rep.must.append(f"not in the report, and must run on this machine: {' '.join(absent)}")
    rep.must += [f"{t.name}: may not be skipped on this machine: {t.reason}"
                 for t in rep.tests if t.outcome == "skip" and matches(t.name, patterns)]


class _Reader:
    """Walks the lines once. Everything it learns goes into the report."""

    def __init__(self, rep: Report, data: bytes):
        self.rep, self.data = rep, data
        self.no = 0                  # line number in the log
        self.count = 0               # lines of the report
        self.crc = 0
        self.verdict_line = ""
        self.names: set[str] = set()

    def read(self) -> None:
        pos, size = 0, len(self.data)
        while pos < size:
            end = self.data.find(b"\n", pos)
            ended = end >= 0
            raw = self.data[pos:end if ended else size].rstrip(b"\r")
            pos = end + 1 if ended else size
            self.no += 1
            if self.no > MAX_LINES:
                self.rep.problem(f"more than {MAX_LINES} lines; the rest was not read")
                return
            if not self.rep.boots:
                # Firmware may have left an unfinished line of escape codes before it.
                if raw.endswith(HEADER) and ended:
                    self.rep.boots = 1
                    self._counted(HEADER)
                else:
                    self._noise(raw)
                continue
            if raw.endswith(HEADER):
                self._second_header()
                if self.rep.boots > 1:
                    return
            self._line(raw, ended)

    def _counted(self, raw: bytes) -> None:
        self.count += 1
        self.crc = zlib.crc32(raw + b"\n", self.crc)

    def _say(self, text: str) -> None:
        self.rep.problem(f"line {self.no}: {text}")

    def _noise(self, raw: bytes) -> None:
        """The firmware's last line, without the escape codes: it may say why there is no report."""
        text = _ESCAPE.sub("", raw[-400:].decode("utf-8", "replace"))
        text = "".join(c for c in text if c.isprintable()).strip()
        self.rep.noise = text[-200:] or self.rep.noise

    def _second_header(self) -> None:
        self.rep.boots += 1
        during = f" during {self.rep.running.name}" if self.rep.running else ""
        after = " after its verdict" if self.rep.verdict else ""
        self._say(f"a second report begins: the machine was reset{during or after}, or two logs are joined")

    def _line(self, raw: bytes, ended: bool) -> None:
        text = raw.decode("utf-8", "replace")
        if self.rep.verdict:
            self._after_verdict(text, ended)
            return
        if not ended:
            self._say(f"the log ends in the middle of a line ({text[:60]!r})")
            if not text.startswith("# panic "):
                return
        if text.startswith("# verdict "):
            self._verdict(raw, text)
            return
        self._counted(raw)
        if self.count == 2:
            self._ident(text)
        elif self.count == 3:
            self._plan(text)
        elif text.startswith("#"):
            self._comment(text)
        elif m := _RESULT.match(text):
            self._result(m)
        else:
            self._say(f"not a line of a report: {text[:80]!r}")

    def _ident(self, text: str) -> None:
        if m := _IDENT.match(text):
            self.rep.version, self.rep.git, self.rep.boot = m.groups()
        else:
            self._say(f"expected '# plumb VERSION git=… boot=…', got {text[:80]!r}")

    def _plan(self, text: str) -> None:
        if m := _PLAN.match(text):
            self.rep.plan, self.rep.plan_skip = int(m[1]), m[2] or ""
        else:
            self._say(f"expected the plan '1..N', got {text[:80]!r}")

    def _comment(self, text: str) -> None:
        rep, test = self.rep, self.rep.running
        word, _, rest = text[2:].partition(" ")
        if m := _RUN.match(text):
            self._run(int(m[1]), m[2])
        elif m := _TOOK.match(text):
            if test and int(m[1]) == test.number and test.us is None:
                test.us = int(m[2])
            else:
                self._say(f"duration of test {m[1]}, which is not running")
        elif word in ("run", "took"):
            self._say(f"not a line of a report: {text[:80]!r}")
        elif word == "cmdline":
            rep.cmdline = rest
        elif word == "env":
            key, _, fact = rest.partition(" ")
            rep.env.append((key, fact))
        elif word == "list":
            name, _, claim = rest.partition(" ")
            rep.listed.append((name, claim))
        elif m := _FINDING.match(text):
            self._finding(m[1], m[2], test)
        elif word == "metric" and test:
            name, _, pairs = rest.partition(" ")
            test.metrics.append(Metric(name, dict(_PAIR.findall(pairs))))
        elif word == "hist" and test and test.metrics and not test.metrics[-1].hist:
            name, _, counts = rest.partition(" ")
            if name == test.metrics[-1].name:
                test.metrics[-1].hist = counts
        elif word == "claim" and test:
            test.claim = rest
        elif word in ("pciconf", "acpitable"):
            rep.dumps.append((word, rest))
        elif word == "panic":
            rep.panic = rep.panic or rest or "no reason given"
            self._say(f"the guest gave up{' during ' + test.name if test else ''}: {rep.panic}")
        elif word == "error:" and not test:
            rep.errors.append(rest)
        elif test:
            if word in ("error:", "timeout:"):
                test.cause = test.cause or word[:-1]
            test.details.append(text[2:])
        else:
            rep.notes.append(text[2:])

    def _run(self, number: int, name: str) -> None:
        rep = self.rep
        if rep.running:
            self._say(f"test {number} begins while {rep.running.number} ({rep.running.name}) has no result")
            rep.running.outcome = "lost"
        expected = len(rep.tests) + 1
        if number != expected:
            self._say(f"test {number} begins where test {expected} was due")
        if name in self.names:
            self._say(f"{name} runs a second time")
        self.names.add(name)
        rep.tests.append(Test(number, name, self.no))

    def _result(self, m: re.Match) -> None:
        word, number, name, directive, reason = m[1], int(m[2]), m[3], m[4], m[5] or ""
        test = self.rep.running
        if not test:
            self._say(f"result for test {number} ({name}), which did not begin")
            return
        if (number, name) != (test.number, test.name):
            self._say(f"result for test {number} ({name}) while {test.number} ({test.name}) runs")
            return
        if directive == "SKIP" and word != "ok":
            self._say(f"test {number} failed and was skipped at once")
        test.reason = reason
        test.outcome = {
            ("ok", None): "pass", ("not ok", None): "fail",
            ("ok", "TODO"): "fixed", ("not ok", "TODO"): "todo",
        }.get((word, directive), "skip")
        if test.us is None:
            self._say(f"test {number} ({name}) has no duration: a line is missing")

    def _finding(self, ident: str, text: str, test: Test | None) -> None:
        last = self.rep.findings[-1] if self.rep.findings else None
        part, _, rest = text.partition(" ")
        if last and last.ident == ident and part in ("evidence", "likely", "do"):
            old = getattr(last, part)
            setattr(last, part, f"{old}; {rest}" if old else rest)
        else:
            self.rep.findings.append(Finding(ident, text, test.name if test else ""))

    def _verdict(self, raw: bytes, text: str) -> None:
        m = _VERDICT.match(text)
        if not m:
            self._say(f"the verdict line is damaged: {text[:120]!r}")
            return
        v = self.rep.verdict = Verdict(m[1], *(int(m[i]) for i in range(2, 9)), m[9])
        self.verdict_line = text
        crc = zlib.crc32(raw[:raw.rindex(b" crc=")], self.crc)
        if v.lines != self.count + 1:
            lost = v.lines - self.count - 1
            self._say(f"the guest wrote {v.lines} lines, {self.count + 1} are here:"
                      f" {abs(lost)} {'lost' if lost > 0 else 'too many'}")
        if int(v.crc, 16) != crc:
            self._say(f"the report was altered on its way: its CRC is {crc:08x}, the guest's {v.crc}")

    def _after_verdict(self, text: str, ended: bool) -> None:
        if text == self.verdict_line or (not ended and self.verdict_line.startswith(text)):
            return
        if text.startswith("# panic "):
            self.rep.panic = self.rep.panic or text[8:]
            self._say(f"the guest gave up after its verdict: {text[8:]}")
        elif text.startswith("# verdict "):
            self._say("a second, different verdict")
        elif _REPORT_LIKE.match(text):
            self._say(f"the report goes on after its verdict: {text[:80]!r}")


def _check_whole(rep: Report) -> None:
    """What only the whole report can show."""
    if not rep.boots:
        said = f"; the last words: {rep.noise}" if rep.noise else ""
        rep.problem("no report: the line 'TAP version 14' never came" + said)
        return
    test, v = rep.running, rep.verdict
    if test:
        how = "the log goes on to its verdict" if v else f"the guest stopped during {test.name}"
        rep.problem(f"line {test.line}: test {test.number} has no result: {how}")
    if not v:
        due = f" of {rep.plan}" if rep.plan is not None else ""
        rep.problem(f"no verdict: the report ends after {len(rep.tests)}{due} tests")
        return
    done = [t for t in rep.tests if t.outcome in _COUNTED]
    if rep.plan is not None and rep.plan != len(done):
        rep.problem(f"plan not met: {rep.plan} tests announced, {len(done)} have a result")
    counted = {"tests": len(done)}
    for key in ("passed", "failed", "skipped", "todo"):
        counted[key] = sum(_COUNTED[t.outcome] == key for t in done)
    for key, got in counted.items():
        if getattr(v, key) != got:
            rep.problem(f"the verdict says {key}={getattr(v, key)}, the report shows {got}")
    if v.word == "PASS" and counted["failed"]:
        rep.problem(f"the verdict says PASS, {counted['failed']} tests failed")
    if v.word == "PASS" and rep.errors:
        rep.problem(f"the verdict says PASS, but there was an error: {rep.errors[0]}")
    if v.word == "PASS" and not done:
        rep.problem("the verdict says PASS, but no test ran")
    if v.word == "FAIL" and done and not counted["failed"] and not rep.errors:
        rep.problem("the verdict says FAIL, but no test failed")
    required = globs(rep.cmdline, "require")
    for t in done:
        if t.outcome == "skip" and matches(t.name, required):
            rep.problem(f"line {t.line}: {t.name} was required and skipped, and the guest let it pass")


def _check_status(rep: Report, status: int) -> None:
    """The status must say what the log says: 33 a pass, 35 a failure, 37 a panic."""
    by_itself = value(rep.cmdline, "exit") or "debug"
    if status == 0 and rep.verdict and not rep.problems and by_itself in ("poweroff", "reset"):
        return
    said = {STATUS_PASS: "a pass", STATUS_FAIL: "a failure", STATUS_PANIC: "a panic",
            0: "a reset or power-off (never a pass)"}.get(status, "nothing the guest can say")
    if rep.panic:
        wanted = STATUS_PANIC
    elif rep.verdict:
        wanted = STATUS_PASS if rep.verdict.word == "PASS" else STATUS_FAIL
    else:
        return
    if status != wanted:
        rep.problem(f"QEMU's exit status {status} means {said}; the log says otherwise")
