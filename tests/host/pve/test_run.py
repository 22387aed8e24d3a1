# SPDX-License-Identifier: MIT
"""`plumb pve run` on a node that is a folder: verdicts, what is left behind, what is said."""
import pytest
from logs import Log, failing, good

PASS = "say(log)"
QUICK = ("--boot-timeout", "8", "--silence", "1", "--timeout", "20")


def nothing_left(pve):
    assert pve.vms == [] and pve.running() == [] and list((pve.path / "tmp").iterdir()) == []
    return True


def made(pve, script=PASS, log=None, *args):
    pve.script(script, good().bytes() if log is None else log)
    done = pve.plumb("run", *QUICK, *args)
    assert "Traceback" not in done.stderr, done.stderr
    assert nothing_left(pve)
    return done


def test_pass(pve):
    done = made(pve)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith("PASS  2 passed, 0 failed, 1 skipped, 1 known bugs")
    words = [c.split()[:2] for c in pve.calls if c.startswith("qm") and c.split()[1] not in ("config", "status")]
    assert [w[1] for w in words] == ["create", "start", "resume", "destroy"]
    create = next(c for c in pve.calls if c.startswith("qm create"))
    assert "--freeze 1" in create and "--serial0 socket" in create and "--bios seabios" in create
    assert (pve.build / "logs/pve-run.log").read_bytes() == good().bytes()


def test_failure_and_files(pve):
    done = made(pve, PASS, failing().bytes(), "--json", str(pve.path / "r.json"), "--junit", str(pve.path / "r.xml"))
    assert done.returncode == 1 and "PLB001 CPU 4 says its APIC ID is 5" in done.stdout
    assert '"verdict": "FAIL"' in (pve.path / "r.json").read_text() and "<testsuites" in (pve.path / "r.xml").read_text()


BEGUN = "say(log[:log.index(b'# took 2')])\n"


@pytest.mark.parametrize("script, word, why", [
    (BEGUN + "sleep(60)", "HANG", "in msi.latency: silent for 1 s"),
    ("sleep(60)", "HANG", "no report within"),
    (BEGUN, "CRASH", "in msi.latency: the VM ended without a verdict"),
    (BEGUN + "say(log)\nsleep(60)", "RESET", "the machine was reset during msi.latency"),
    (BEGUN + "say(b'# panic #PF at 0x10\\r\\n')\nsleep(60)", "CRASH", "#PF at 0x10"),
    ("say(log.replace(b'ok 1', b'ok 9'))", "DAMAGED", "result for test 9"),
    ("say(log[30:])", "DAMAGED", "never came"),
])
def test_no_verdict(pve, script, word, why):
    args = ("--boot-timeout", "2") if "no report" in why else ()
    done = made(pve, script, None, *args)
    assert done.returncode == 2, done.stdout + done.stderr
    assert (word if "never" not in why else "") in done.stdout and why in done.stdout
    if word == "HANG":
        assert "info registers -a: nothing to see" in (pve.build / "logs/pve-run.log.evidence.txt").read_text()


def test_a_machine_that_resets_itself_is_stopped(pve):
    """It would boot again and again: the second report's first line is the end."""
    done = made(pve, "for _ in range(150):\n say(log[:log.index(b'# took 2')])\n sleep(0.1)")
    assert done.returncode == 2 and "RESET" in done.stdout
    assert (pve.build / "logs/pve-run.log").read_bytes().count(b"TAP version 14") < 5


def test_a_verdict_ends_a_vm_that_stays(pve):
    """It repeats its verdict for ever: plumb stops it, and it is a pass."""
    pve.monkeypatch.setenv("PLUMB_PVE_SETTLE", "1")
    done = made(pve, PASS + "\nsleep(60)")
    assert done.returncode == 0, done.stdout + done.stderr
    assert any(c.startswith("qm stop") for c in pve.calls)


def test_garbage_on_the_line_is_bounded(pve):
    done = made(pve, "for i in range(70):\n say(b'x' * (1 << 20))\nsleep(60)", Log(1).bytes(), "--boot-timeout", "20")
    assert done.returncode == 2
