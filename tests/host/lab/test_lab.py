# SPDX-License-Identifier: MIT
"""The lab's own judgement, without its host: what passes there, and what may not."""
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "tests/host/parser")]
from logs import Log  # noqa: E402
from plumblib import UsageError, qemu, sysroot  # noqa: E402
from plumblib.lab import host, image, results, run, scenario, truth  # noqa: E402
from plumblib.report import parse_report  # noqa: E402

HEAD = 'description = "x"\npart = "a"\nhost = "vtd"\n'


def one(text='must = ["msi.a"]\n'):
    return scenario.parse("x", HEAD + text)


def leave(folder: Path, log: Log | None, status=33, **files):
    """What the agent leaves."""
    folder.mkdir(exist_ok=True)
    (folder / "status").write_text(f"{status}\n")
    (folder / "serial.log").write_bytes(log.bytes() if log else b"")
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_text(text)
    return folder


def log(*tests, status=None):
    made = Log(len(tests))
    for name, ok, directive, *details in tests:
        made.test(name, ok, directive, *details)
    return made.verdict()


# ---- scenarios ----

def test_all_scenarios_are_sound():
    for name in scenario.names():
        each = scenario.load(name)
        scenario.host(each.host)
        assert all(len(why) > 30 for why in each.known.values()), name
        assert set(each.only) <= set(each.known), name
        if each.kind == "guest":
            scenario.guest(each)


@pytest.mark.parametrize("text, says", [
    ("mst = []\n", "unknown key 'mst'"),
    ("", "would pass on skips alone"),
    ('must = ["a.b"]\nkind = "other"\n', "kind 'other'"),
    ('must = ["a.b"]\nverdict = ["GOOD"]\n', "verdict"),
    ("must = 3\n", "must must be a list"),
    ("must = [\n", "scenario x:"),
])
def test_mistakes_in_a_scenario_are_named(text, says):
    with pytest.raises(UsageError, match=says):
        one(text)


def test_the_guests_line_is_the_runners(tmp_path):
    (tmp_path / "share").mkdir()
    (tmp_path / "share" / "kernel.elf").write_bytes(b"x")
    each = one('must = ["msi.a"]\nplumb = "only=msi.*"\nsetup = ["take 0000:00:04.0"]\n'
               '[guest]\ndevices = ["-device edu"]\n')
    host.write(each, tmp_path / "share", qemu.Qemu(["/q"], "11.1.0", {"A": "b c"}), tmp_path / "share")
    folder = tmp_path / "share" / "x"
    line = (folder / "guest.sh").read_text()
    assert "exec env A='b c' /q " in line and "-accel kvm" in line and "-device edu" in line
    assert "file,id=serial,path=/tmp/serial" in line and "require=msi.a" in line
    assert (folder / "setup.sh").read_text() == "take 0000:00:04.0\n"


# ---- verdicts ----

def test_a_pass(tmp_path):
    r = results.judged(one(), leave(tmp_path, log(("msi.a", True, ""))))
    assert (r.word, r.problems) == ("ok", [])


def test_no_pass_rests_on_a_skip(tmp_path):
    r = results.judged(one(), leave(tmp_path, log(("msi.a", True, "SKIP no device"))))
    assert r.word == "FAIL" and "may not be skipped" in r.problems[0]


def test_nor_on_a_test_that_is_not_there(tmp_path):
    r = results.judged(one(), leave(tmp_path, log(("msi.b", True, ""))))
    assert r.word == "FAIL" and "not in the report" in r.problems[0]


FAILED = ("msi.b", False, "", "# expect a.c:3 fault: got none, expected one")
KNOWN = 'must = ["msi.a"]\n[known]\n"msi.b" = "evidence"\n'


def test_a_known_failure_is_todo_and_another_is_not(tmp_path):
    made = leave(tmp_path, log(("msi.a", True, ""), FAILED), status=35)
    assert results.judged(one(KNOWN), made).word == "todo"
    assert results.judged(one(), made).word == "FAIL"


def test_a_known_failure_is_held_to_what_it_is_about(tmp_path):
    made = leave(tmp_path, log(("msi.a", True, ""), (*FAILED, "# expect a.c:9 byte 3: got 1, expected 2")), status=35)
    only = KNOWN + '[only]\n"msi.b" = "fault|byte"\n'
    assert results.judged(one(only), made).word == "todo"
    r = results.judged(one(only.replace("|byte", "")), made)
    assert r.word == "FAIL" and "known to fail, but not so: expect a.c:9" in r.problems[0]


def test_a_provoked_fault_must_be_found(tmp_path):
    text = 'verdict = ["FAIL"]\n[fails]\n"msi.b" = "got none"\n'
    made = leave(tmp_path, log(("msi.a", True, ""), FAILED), status=35)
    assert results.judged(one(text), made).word == "ok"
    assert "says nothing like" in results.judged(one(text.replace("got none", "lost")), made).problems[0]
    assert "no finding PLB112" in results.judged(one('finds = ["PLB112"]\n' + text), made).problems[0]
    made = leave(tmp_path, log(("msi.a", True, ""), ("msi.b", True, "")))
    assert "msi.b: did not fail" in results.judged(one(text), made).problems


def test_the_hosts_log_is_asked(tmp_path):
    made = leave(tmp_path, log(("msi.a", True, "")), host_log="[    1.5] DMAR: fault at 00:04.0\n")
    r = results.judged(one('must = ["msi.a"]\nhost_says = ["DMAR: fault"]\n'), made)
    assert r.word == "ok" and r.host == ["DMAR: fault at 00:04.0"]
    assert results.judged(one('must = ["msi.a"]\nhost_says = ["other"]\n'), made).word == "FAIL"
    assert results.judged(one('must = ["msi.a"]\nhost_silent = ["DMAR"]\n'), made).word == "FAIL"


def test_steps_of_the_host_count(tmp_path):
    good = log(("msi.a", True, ""))
    for step in ("setup", "during", "after"):
        made = leave(tmp_path / step, good, **{f"{step}_status": "1\n", f"{step}_txt": "no device\n"})
        r = results.judged(one(), made)
        assert r.word == "FAIL" and r.problems == [f"{step}: no device"]


def test_silence_a_deadline_and_a_lost_host(tmp_path):
    r = results.judged(one(), leave(tmp_path, None, status=1, qemu_txt="qemu: no such device\n"))
    assert r.word == "FAIL" and "qemu: no such device" in r.problems[-1]
    begun = Log(2)
    begun.test("msi.a").begin("msi.b")
    r = results.judged(one(), leave(tmp_path, begun, status=results.KILLED))
    assert r.found.word == "HANG" and r.word == "FAIL"
    r = results.judged(one(), leave(tmp_path, begun), broke="Kernel panic")
    assert r.problems[0] == "the host broke off: Kernel panic"


def test_what_is_not_to_be_had_says_so(tmp_path):
    made = leave(tmp_path, None, status=1, qemu_txt="qemu: KVM does not support this\n")
    assert results.judged(one('must = ["msi.a"]\nrefused = "does not support"\n'), made).word == "todo"
    text = 'must = ["msi.a"]\nhost_ends = "assertion"\n'
    assert results.judged(one(text), made, "status -6", console="ERROR: assertion failed\n").word == "todo"
    assert results.judged(one(text), made, "status -6", console="something else\n").word == "FAIL"


def test_reports_name_every_scenario(tmp_path):
    made = leave(tmp_path / "x", log(("msi.a", True, ""), FAILED), status=35)
    rows = [results.judged(one(), made), results.judged(one(KNOWN), made)]
    assert "FAIL msi.b" in results.as_text(rows) and "known msi.b: evidence" in results.as_text(rows)
    assert results.as_markdown(rows, "h").count("| a | x |") == 2
    page = results.as_html(rows, "h<", tmp_path)
    assert "h&lt;" in page and "TAP version 14" in page


# ---- ground truth ----

RES = ("0000:00:00.0 0x8086 0x29c0 0x060000 0x0-0x0-0x0\n"
       "0000:01:00.0 0x1234 0x11e8 0x00ff00 0xfea00000-0xfeafffff-0x40200\n")


def test_a_guest_that_shut_down_says_by_what(tmp_path):
    line = " CPU 0/KVM-167 [001] d..1. 6.48: kvm_exit: vcpu 0 reason {} rip {} info1 0x0 info2 0x0 intr_info 0x80000306\n"
    folder = leave(tmp_path / "x", None, 0, kvm_txt=line.format("cpuid", "0x10") + line.format("UD excp", "0x20")
                   + " CPU 0/KVM-167 [001] .... 6.49: kvm_inj_exception: #UD\n" + line.format("shutdown", "0x20"))
    assert results.shutdown(folder) == "cpuid at 0x10, UD excp at 0x20, shutdown at 0x20"
    assert results.shutdown(leave(tmp_path / "y", log(("msi.a", True, "")))) == ""


def test_the_page_has_every_scenario(tmp_path):
    doc = tmp_path / "lab.md"
    doc.write_text(f"# x\n{results.MARKS[0]}old\n{results.MARKS[1]}end\n")
    made = results.judged(one(), leave(tmp_path, log(("msi.a", True, ""))))
    results.write(doc, [made], "lab: 1 ok")
    assert doc.read_text().startswith("# x\n") and doc.read_text().endswith("end\n") and "| a | x | ok |" in doc.read_text()
    page = run.DOC.read_text()
    assert results.MARKS[0] in page and not [n for n in scenario.names() if f"| {n} |" not in page]


def said(bars="bar0=fea00000+100000", group="00:00.0 01:00.0"):
    made = Log(1)
    made.lines = [line for line in made.lines if "env pci" not in line]
    made.say("# env pci 00:00.0 8086:29c0 060000 rev=00").say(f"# env pci 01:00.0 1234:11e8 00ff00 rev=10 {bars}")
    made.test("pci.acs_groups", True, "", f"# note group {group}")
    return truth.plumb(parse_report(made.verdict().bytes()))


def test_truth_agrees_and_differs():
    theirs = truth.linux("3 0000:00:00.0\n3 0000:01:00.0\n", RES)
    assert truth.differences(said(), theirs) == []
    assert "BAR 0" in truth.differences(said("bar0=fea00000+200000"), theirs)[0]
    assert "BAR 0: plumb does not have it" in truth.differences(said(""), theirs)[0]
    assert len(truth.differences(said(group="00:00.0"), theirs)) == 2
    assert "does not see it" in truth.differences(said(), truth.linux("", RES.splitlines()[0] + "\n"))[0]


# ---- the host's archive ----

def entries(data: bytes):
    at = 0
    while at < len(data):
        assert data[at:at + 6] == b"070701"
        size, name_size = (int(data[at + 6 + 8 * n:at + 14 + 8 * n], 16) for n in (6, 11))
        name = data[at + 110:at + 110 + name_size - 1].decode()
        start = (at + 110 + name_size + 3) & ~3
        yield name, data[start:start + size]
        at = (start + size + 3) & ~3


def test_the_archive_is_newc(tmp_path):
    made = image.Archive()
    made.file("a/b/c", b"12345", 0o755)
    made.link("l", "a/b/c")
    made.file("a/b/c", b"again")
    assert list(entries(made.bytes())) == [("a", b""), ("a/b", b""), ("a/b/c", b"12345"), ("l", b"a/b/c"), ("TRAILER!!!", b"")]


def test_modules_bring_what_they_need():
    assert image.needs(b"x\0depends=vfio-pci,kvm\0y") == ["vfio_pci", "kvm"]
    assert image.needs(b"x\0depends=\0y") == [] == image.needs(b"nothing")


def test_the_agents_words_are_read():
    session, told = host.Session(), []
    for m in host.AGENT.finditer("lab: 5.1 up\nlab: 5.2 begin x\r\nnoise\nlab: 9.2 end x\n"):
        host._step(session, m, {"x": 7.0}, told.append)
    assert (session.up, session.done, told) == (5.1, ["x"], ["x"]) and session.took["x"] == pytest.approx(4.0)


def test_the_suite_is_one_that_qemu_comes_from():
    assert sysroot.lowest(image.QEMU) == image.QEMU


def test_a_host_that_many_want_is_booted_for_each_job():
    many, few = list(range(9)), list(range(3))
    got = list(run.parts({"a": many, "b": few}, 2))
    assert got == [("a", "a.1", many[::2]), ("a", "a.2", many[1::2]), ("b", "b", few)]
    assert [part for _, _, part in run.parts({"a": many}, 1)] == [many]
