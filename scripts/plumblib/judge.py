# SPDX-License-Identifier: MIT
"""What came of a boot, and of several: pass, fail, crash, hang, reset or a damaged log."""
from __future__ import annotations

from dataclasses import dataclass

from . import EXIT_FAIL, EXIT_PASS, EXIT_UNTRUSTED
from .guest import Boot
from .report import STATUS_FAIL, STATUS_PANIC, STATUS_PASS, Report, Test, parse_report

HINT = {"crash": "CRASH", "hang": "HANG", "reset": "RESET", "garbled": "DAMAGED"}


@dataclass
class Outcome:
    word: str                        # PASS FAIL CRASH HANG RESET DAMAGED
    report: Report
    why: str = ""                    # one line where there is no verdict

    @property
    def exit_code(self) -> int:
        if self.word not in ("PASS", "FAIL"):
            return EXIT_UNTRUSTED
        return EXIT_PASS if self.word == "PASS" else EXIT_FAIL


def judge_log(data: bytes, status: int | None = None) -> Outcome:
    """A log by itself: no process to ask."""
    return _judged(parse_report(data, status))


def _judged(rep: Report) -> Outcome:
    if rep.exit_code != EXIT_UNTRUSTED:
        return Outcome("FAIL" if rep.exit_code else "PASS", rep)
    why = rep.problems[0] if rep.problems else "no verdict"
    if rep.panic:
        return Outcome("CRASH", rep, why)
    if rep.boots > 1:
        return Outcome("RESET", rep, why)
    return Outcome("DAMAGED", rep, why)


def judge_boot(boot: Boot, limits) -> Outcome:
    """A boot: the log decides, what QEMU did explains."""
    rep = parse_report(boot.log, boot.status)
    found = _judged(rep)
    if found.word in ("PASS", "FAIL", "CRASH") or rep.boots > 1:
        return found
    where = f"in {rep.running.name}" if rep.running else (
        "before the report began" if not rep.boots else
        "after the verdict" if rep.verdict else "between tests")
    if boot.killed == "paused":
        return Outcome("CRASH", rep, f"{where}: QEMU stopped the guest: {boot.paused}")
    if boot.killed in ("boot", "silence", "total"):
        said = {"boot": f"no report within {limits.boot:g} s", "silence": f"silent for {limits.silence:g} s",
                "total": f"not done after {limits.total:g} s"}[boot.killed]
        return Outcome("HANG", rep, f"{where}: {said}, QEMU was alive")
    if boot.killed == "flood":
        return Outcome("DAMAGED", rep, f"{where}: the guest would not stop printing")
    if boot.status is not None and not rep.verdict:
        if boot.status == 0:
            reason = next((r for r in boot.resets if "reset" in r), "")
            how = "reset itself (a triple fault?)" if reason or not boot.resets else "was switched off"
            return Outcome("RESET", rep, f"{where}: the machine {how}")
        if boot.status < 0:
            said = f": {boot.stderr.splitlines()[-1]}" if boot.stderr else ""
            return Outcome("CRASH", rep, f"{where}: QEMU died of signal {-boot.status}{said}")
        if boot.status in (STATUS_PASS, STATUS_FAIL):
            return Outcome("DAMAGED", rep, f"the guest ended with a verdict (status {boot.status})"
                                           " that is not in the log")
        if boot.status == STATUS_PANIC:
            return Outcome("CRASH", rep, f"{where}: the guest gave up, and why is not in the log")
        return Outcome("CRASH", rep, f"{where}: QEMU ended with status {boot.status} and no verdict")
    return found


def culprit(found: Outcome) -> Test | None:
    """The test that took the machine down, or before it the one in which the log was damaged."""
    rep = found.report
    if found.word in ("PASS", "FAIL"):
        return None
    return rep.damaged_in or rep.running


def settled(found: Outcome) -> list[Test]:
    """The tests whose results stand: all of a whole report, those before the culprit of another."""
    bad = culprit(found)
    tests = found.report.tests
    return [t for t in (tests[:tests.index(bad)] if bad else tests) if t.outcome not in ("running", "lost")]


def mark(found: Outcome) -> Test | None:
    """Gives the culprit the outcome that the machine could not give it."""
    bad = culprit(found)
    if not bad:
        return None
    if bad is found.report.running and found.word != "DAMAGED":
        bad.outcome = {v: k for k, v in HINT.items()}[found.word]
        bad.reason = found.why
    else:
        bad.outcome = "garbled"
        bad.reason = found.report.problems[0]
    return bad


def merge(boots: list[Outcome]) -> Outcome:
    """One report of several boots, each but the last of which broke off. Never a pass."""
    first = boots[0]
    if len(boots) == 1:
        return first
    whole = first.report
    rep = Report(whole.version, whole.git, whole.boot, whole.plan, cmdline=whole.cmdline, env=whole.env,
                 boots=len(boots))
    for found in boots:
        bad = culprit(found)
        rep.tests += settled(found) + ([bad] if bad else [])
        kept = {t.name for t in rep.tests} | {""}
        rep.findings += [f for f in found.report.findings if f.test in kept and f not in rep.findings]
    for number, test in enumerate(rep.tests, 1):
        test.number = number
    broken = [t for t in rep.tests if t.outcome in HINT]
    rep.problems = [f"{HINT[t.outcome]} {t.reason}" for t in broken]
    if rep.plan is not None and len(rep.tests) != rep.plan:
        rep.problems.append(f"{rep.plan} tests announced, {len(rep.tests)} have a result")
    last = boots[-1]
    if last.word not in ("PASS", "FAIL") and not culprit(last):
        rep.problems.append(f"{last.word} {last.why}")
    worst = broken[0] if broken else None
    return Outcome(HINT[worst.outcome] if worst else "DAMAGED", rep, worst.reason if worst else rep.problems[0])
