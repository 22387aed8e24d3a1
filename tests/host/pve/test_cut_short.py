# SPDX-License-Identifier: MIT
"""`plumb pve run` where a command fails or hangs, or where it is stopped itself: nothing stays behind."""
import os
import signal
import time

import pytest
from logs import good

PASS, BEGUN = "say(log)", "say(log[:log.index(b'# took 2')])\n"
NODE = os.uname().nodename.split(".")[0]
QUICK = ("--boot-timeout", "8", "--silence", "1", "--timeout", "20")


def nothing_left(pve):
    assert pve.vms == [] and pve.running() == [] and list((pve.path / "tmp").iterdir()) == []
    return True


@pytest.mark.parametrize("call, text", [
    ("qm create", "hostpci0: no such mapping"),
    ("qm start", "Verify all devices in group 11 are bound to vfio-<bus>"),
    ("qm resume", "got timeout"), ("pvesh create /nodes/" + NODE + "/storage", "no space left"),
    ("nextid", "cluster not ready"),
])
def test_failing_command(pve, call, text):
    pve.monkeypatch.setenv("FAKE_FAIL", f"{call}={text}")
    pve.script(PASS, good().bytes())
    done = pve.plumb("run", *QUICK)
    assert done.returncode == 3 and text in done.stderr and "Traceback" not in done.stderr
    assert nothing_left(pve)


def test_a_vm_that_cannot_be_destroyed_is_named(pve):
    pve.monkeypatch.setenv("FAKE_FAIL", "qm destroy=zfs: dataset is busy")
    pve.script(PASS, good().bytes())
    done = pve.plumb("run", *QUICK)
    assert "LEFT BEHIND: VM 100 is still there" in done.stderr and "dataset is busy" in done.stderr


def test_somebody_elses_vm_is_not_destroyed(pve):
    """The number was free when we asked, and taken when we came."""
    pve.vm(100, name="precious")
    pve.api(__cluster__nextid="100")
    done = pve.plumb("run", *QUICK)
    assert done.returncode == 3 and "already exists" in done.stderr
    assert pve.conf(100) == {"name": "precious"} and not any("destroy" in c or "stop" in c for c in pve.calls)


def test_deadline(pve):
    from plumblib.pve.tools import ToolError, Tools
    pve.monkeypatch.setenv("FAKE_SLOW", "qm start=30")
    began = time.monotonic()
    with pytest.raises(ToolError, match="qm start 100: no end within 1 s"):
        Tools().do("qm", "start", "100", seconds=1)
    assert time.monotonic() - began < 8


@pytest.mark.parametrize("when, number", [
    ("upload", signal.SIGINT), ("qm create", signal.SIGTERM), ("qm start", signal.SIGINT),
    ("qm resume", signal.SIGHUP),
    ("running", signal.SIGINT), ("running", signal.SIGTERM), ("qm stop", signal.SIGINT),
    ("qm destroy", signal.SIGINT),
])
def test_interrupted(pve, when, number):
    pve.monkeypatch.setenv("FAKE_SLOW", f"{when}=1")
    pve.monkeypatch.setenv("PLUMB_PVE_SETTLE", "0.3")
    at_the_end = {"qm destroy": PASS, "qm stop": PASS + "\nsleep(60)"}
    pve.script(at_the_end.get(when, BEGUN + "sleep(60)"), good().bytes())
    proc = pve.spawn("run", "--silence", "60")
    end = time.monotonic() + 30
    log = pve.build / "logs/pve-run.log"
    while time.monotonic() < end:
        if any(when in c for c in pve.calls) or (when == "running" and log.exists() and log.stat().st_size):
            break
        time.sleep(0.02)
    time.sleep(0.2)
    proc.send_signal(number)
    time.sleep(0.2)
    proc.send_signal(number)         # and once more: cleaning up goes on
    out, err = proc.communicate(timeout=40)
    assert proc.returncode == 128 + number and "Traceback" not in err, out + err
    assert nothing_left(pve)


def test_interrupted_existing(pve):
    pve.vm(100, serial0="socket")
    pve.script(BEGUN + "sleep(60)", good().bytes())
    proc = pve.spawn("run", "100", "--freeze", "--silence", "60")
    end = time.monotonic() + 30
    while time.monotonic() < end and not any("resume" in c for c in pve.calls):
        time.sleep(0.02)
    time.sleep(0.5)
    proc.send_signal(signal.SIGINT)
    proc.communicate(timeout=40)
    assert proc.returncode == 130 and pve.conf(100) == {"serial0": "socket"} and pve.running() == []
