# SPDX-License-Identifier: MIT
"""A damaged log is never called a pass, and the parser survives any bytes."""
import random
import zlib

import pytest
from logs import Log, failing, good
from plumblib.judge import judge_log
from plumblib.report import check_must, parse_report


def verdict(data, status=None):
    return judge_log(data, status).exit_code


def first_problem(data, status=None):
    return parse_report(data, status).problems[0]


def test_good_log_passes():
    rep = parse_report(good().bytes(), 33)
    assert rep.problems == [] and rep.exit_code == 0
    assert [t.outcome for t in rep.tests] == ["pass", "pass", "skip", "todo"]
    assert rep.tests[1].metrics[0].values["p99"] == "4" and rep.tests[1].us == 22
    assert rep.tests[2].reason == "no CPU above 255"
    assert (rep.version, rep.boot) == ("0.1.0", "9f3c2a1177aa0012")


def test_failing_log_fails():
    rep = parse_report(failing().bytes(), 35)
    assert rep.problems == [] and rep.exit_code == 1
    assert [t.cause for t in rep.tests] == ["", "", "timeout"]
    (f,) = rep.findings
    assert (f.ident, f.test, f.evidence, f.do) == ("PLB001", "apic.ids", "MADT 4, CPUID 5", "report it")


@pytest.mark.parametrize("front", [
    b"\x1b[2J\x1b[01;01H\x1b[=3h",                       # no line end: escape codes right before the report
    b"BdsDxe: loading Boot0001\r\n\x1b[0m\x1b[35m",
    b"\x00\xff\xfe\r\r\n\n# verdict PASS\r\nok 1 - a.b\r\n",
    bytes(range(256)) * 3 + b"\n",
])
def test_firmware_noise_in_front(front):
    assert verdict(front + good().bytes()) == 0


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r\r\n"])
def test_line_ends(end):
    assert verdict(good().bytes(end)) == 0


def test_repeated_verdict_is_one():
    data = good().bytes()
    last = data.splitlines(keepends=True)[-1]
    assert verdict(data + last * 3) == 0
    assert verdict(data + last + last[:30]) == 0          # cut in a repetition: the first was whole


def test_no_report_is_no_verdict():
    for data in (b"", b"\n", b"SeaBIOS\r\n", b"\0" * 1000, b"TAP version 14", b"1..0\n"):
        assert verdict(data) == 2


def test_last_words_of_the_firmware():
    said = first_problem(b"\x1b[2J\x1b[1;1Herror: entry point isn't in a segment.\r\n\x1b[0m\r\n\r\n")
    assert said.endswith("never came; the last words: error: entry point isn't in a segment.")


def test_cut_anywhere():
    for log in (good(), failing()):
        data = log.bytes()
        for end in range(len(data)):
            assert verdict(data[:end]) == 2, end
            assert verdict(data[end + 1:]) == 2, end


def test_each_line_dropped_doubled_swapped():
    lines = good().bytes().splitlines(keepends=True)
    for i, line in enumerate(lines):
        assert verdict(b"".join(lines[:i] + lines[i + 1:])) == 2, line
        doubled = verdict(b"".join(lines[:i] + [line, line] + lines[i + 1:]))
        assert doubled == (0 if i == len(lines) - 1 else 2), line
        if i + 1 < len(lines):
            assert verdict(b"".join(lines[:i] + [lines[i + 1], line] + lines[i + 2:])) == 2, line


def test_lines_interleaved_with_another_writer():
    lines = good().bytes().splitlines(keepends=True)
    for i in range(1, len(lines)):
        for noise in (b"\r\n", b"\0\r\n", b"KVM: oops\r\n", b"# note from elsewhere\r\n"):
            assert verdict(b"".join(lines[:i] + [noise] + lines[i:])) == 2, (i, noise)
        for noise in (b"\0", b"x", b"\x1b[0m"):
            half = len(lines[i]) // 2
            assert verdict(b"".join(lines[:i] + [lines[i][:half] + noise + lines[i][half:]] + lines[i + 1:])) == 2


def test_each_byte_changed():
    data = bytearray(good().bytes("\n"))
    rng = random.Random(1)
    for i in range(len(data)):
        old = data[i]
        data[i] ^= 1 << rng.randrange(8)
        assert verdict(bytes(data)) == 2, i
        data[i] = old


def test_random_damage():
    rng = random.Random(2)
    data = good().bytes()
    for _ in range(1500):
        bad = bytearray(data)
        for _ in range(rng.randrange(1, 9)):
            kind, at = rng.randrange(4), rng.randrange(len(bad))
            if kind == 0:
                bad[at] = rng.randrange(256)
            elif kind == 1:
                del bad[at:at + rng.randrange(1, 60)]
            elif kind == 2:
                bad[at:at] = bytes(rng.randrange(256) for _ in range(rng.randrange(1, 20)))
            else:
                bad[at:at] = bad[at:at + rng.randrange(1, 200)]
        if bytes(bad).replace(b"\r", b"") == data.replace(b"\r", b""):
            continue
        # Damage before the header or after the verdict is none; all other must be seen.
        core = bytes(bad)
        begin = core.find(b"TAP version 14\r\n")
        if begin >= 0 and core[begin:].replace(b"\r", b"").startswith(data.replace(b"\r", b"")):
            continue
        assert verdict(core) == 2, core


@pytest.mark.parametrize("seed", range(40))
def test_any_bytes(seed):
    rng = random.Random(seed)
    words = [b"TAP version 14\n", b"1..", b"ok ", b"not ok ", b"# run ", b"# verdict PASS tests=", b"# took ",
             b"# finding PLB001 do x\n", b"# metric ", b"# panic x\n", b" - a.b", b" # SKIP", b"\n", b"\r", b"\0",
             b"9" * 30, b"# plumb 1 git=x boot=0123456789abcdef\n", b"# env\n", b"# list\n", b"#\n", b"# \n", b"\xff"]
    data = b"".join(rng.choice(words) if rng.random() < 0.9 else bytes([rng.randrange(256)]) for _ in range(400))
    for status in (None, 0, 33, -9):
        assert verdict(data, status) == 2
    assert verdict(bytes(rng.randrange(256) for _ in range(2000))) == 2


def test_it_is_bounded():
    rep = parse_report(b"TAP version 14\n" + b"ok x\n" * 5000)
    assert len(rep.problems) <= 40
    assert parse_report(b"TAP version 14\n" + b"#" * 3_000_000).exit_code == 2


# ---- what it says ----

def test_says_where_it_stopped():
    log = Log(20)
    for i in range(16):
        log.test(f"msi.t{i}")
    log.begin("msi.storm").say("# note half way")
    said = " | ".join(parse_report(log.bytes()).problems)
    assert f"line {len(log.lines) - 1}: test 17 has no result: the guest stopped during msi.storm" in said
    assert "no verdict: the report ends after 17 of 20 tests" in said


def test_two_boots_in_one_log():
    data = good().bytes()
    assert "a second report begins" in first_problem(data + good(nonce="0" * 16).bytes())
    assert "after its verdict" in first_problem(data + data)
    part = data[:data.index(b"# took 2")]
    assert "during msi.latency" in first_problem(part + data)
    assert judge_log(part + data).word == "RESET"


def test_counts():
    for wrong in (dict(passed=3), dict(skipped=0), dict(failed=1), dict(todo=0), dict(tests=5)):
        log = good()
        log.lines.pop()
        said = " ".join(parse_report(log.verdict(**wrong).bytes()).problems)
        assert "the verdict says" in said, wrong
        assert "CRC" not in said


def test_lines_and_crc():
    log = good()
    log.lines.pop()
    assert "2 lost" in first_problem(log.verdict(lines=len(log.lines) + 3).bytes())
    log.lines.pop()
    assert "altered on its way" in first_problem(log.verdict(crc="00000000").bytes())


def test_plan():
    log = Log(3)
    log.test("a.b").test("a.c")
    assert "plan not met: 3 tests announced, 2 have a result" in first_problem(log.verdict().bytes())


def test_pass_with_failures_or_without_tests():
    log = failing()
    log.lines.pop()
    assert "PASS, 2 tests failed" in first_problem(log.verdict(word="PASS").bytes())
    assert "no test ran" in first_problem(Log(0).verdict(word="PASS").bytes())
    assert verdict(Log(0).verdict().bytes()) == 1
    log = good()
    log.lines.pop()
    assert "no test failed" in first_problem(log.verdict(word="FAIL").bytes())


def rewritten(log, change):
    """The same log with its lines changed and the CRC made right again: only the structure is wrong."""
    lines = change(list(log.lines[:-1]))
    head = log.lines[-1].split(" lines=")[0] + f" lines={len(lines) + 1}"
    crc = zlib.crc32("\n".join([*lines, head]).encode())
    return "".join(x + "\n" for x in [*lines, f"{head} crc={crc:08x}"]).encode()


def test_an_error_of_the_run_itself():
    """require= that names nothing: no test failed, and the run has."""
    log = good()
    log.lines.pop()
    log.say("# error: require=msi.strom names no test of this plan")
    assert "PASS, but there was an error" in first_problem(log.verdict().bytes())
    log.lines.pop()
    rep = parse_report(log.verdict(word="FAIL").bytes(), 35)
    assert rep.exit_code == 1 and rep.errors == ["require=msi.strom names no test of this plan"]


@pytest.mark.parametrize("old, new, said", [
    ("# run 2 msi.latency", "# run 3 msi.latency", "test 3 begins where test 2 was due"),
    ("ok 2 - msi.latency", "ok 3 - msi.latency", "result for test 3"),
    ("ok 2 - msi.latency", "ok 2 - msi.storm", "result for test 2 (msi.storm) while 2 (msi.latency) runs"),
    ("# run 2 msi.latency", "# run 2 boot.handoff", "runs a second time"),
    ("# run 2 msi.latency", "# note gone", "which is not running"),
    ("# took 2 us=22", "# took 3 us=22", "duration of test 3"),
    ("# took 2 us=22", "# note gone", "has no duration"),
    ("ok 2 - msi.latency", "# note gone", "begins while 2 (msi.latency) has no result"),
    ("ok 2 - msi.latency", "ok 2 - MSI latency", "not a line of a report"),
    ("1..4", "# note 1..4", "expected the plan"),
    ("1..4", "1..5", "plan not met"),
    ("# plumb 0.1.0 git=1a2b3c4d5e6f boot=9f3c2a1177aa0012", "# plumb 0.1.0", "expected '# plumb"),
    ("ok 3 - ir.wide # SKIP no CPU above 255", "not ok 3 - ir.wide # SKIP no CPU above 255", "skipped at once"),
    ("# note four CPUs", "# panic four CPUs", "the guest gave up during msi.latency: four CPUs"),
    ("# note four CPUs", "four CPUs", "not a line of a report: 'four CPUs'"),
    ("# note four CPUs", "# verdict PASS", "the verdict line is damaged"),
    ("# cmdline", "# cmdline require=ir.*", "was required and skipped"),
])
def test_structure(old, new, said):
    data = rewritten(good(), lambda lines: [new if x == old else x for x in lines])
    rep = parse_report(data)
    assert any(said in p for p in rep.problems), rep.problems
    assert rep.exit_code == 2
    assert verdict(rewritten(good(), lambda lines: lines)) == 0


def test_report_goes_on_after_its_verdict():
    data = good().bytes()
    for more in (b"ok 5 - a.b\r\n", b"# run 5 a.b\r\n", b"# panic x\r\n", b"# verdict PASS tests=4\r\n", b"1..4\r\n"):
        assert verdict(data + more) == 2, more
    assert verdict(data + b"\x1b[2JBdsDxe: next\r\n") == 0


# ---- the status ----

@pytest.mark.parametrize("log, status, code", [
    (good(), 33, 0), (good(), 35, 2), (good(), 37, 2), (good(), 0, 2), (good(), 1, 2), (good(), -9, 2),
    (failing(), 35, 1), (failing(), 33, 2), (failing(), 0, 2),
    (good(cmdline="exit=poweroff"), 0, 0), (good(cmdline="exit=reset"), 0, 0), (good(cmdline="exit=debug"), 0, 2),
])
def test_status_must_agree(log, status, code):
    assert verdict(log.bytes(), status) == code


# ---- must ----

def test_must():
    rep = parse_report(good().bytes())
    check_must(rep, ["boot.*", "msi.latency"], whole_suite=True)
    assert rep.exit_code == 0
    check_must(rep, ["ir.*", "dma.integrity"], whole_suite=False)
    assert rep.must == ["ir.wide: may not be skipped on this machine: no CPU above 255"] and rep.exit_code == 1
    rep.must.clear()
    check_must(rep, ["dma.integrity"], whole_suite=True)
    assert "not in the report" in rep.must[0] and rep.exit_code == 1
