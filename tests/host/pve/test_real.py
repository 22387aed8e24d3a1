# SPDX-License-Identifier: MIT
"""`plumb pve run` with real guests: plumb in QEMU behind a serial socket that forgets what nobody reads, or in a ring."""
import os
import time

import pytest

NODE = os.uname().nodename.split(".")[0]
SOME = "only=boot.handoff,boot.noise,boot.protections,boot.smp,boot.traps,boot.tsc,apic.ids"  # pass here in each boot


@pytest.fixture
def real(pve):
    pve.qemu()
    return pve


def test_not_a_byte_is_lost(real):
    """PVH: the guest speaks within milliseconds of its start, no firmware gives anybody time."""
    for _ in range(3):
        done = real.plumb("run", "--plumb", SOME, "--cores", "2")
        assert done.returncode == 0, done.stdout + done.stderr
        log = (real.build / "logs/pve-run.log").read_bytes()
        assert log.startswith(b"TAP version 14\r\n") and b"\n# verdict PASS tests=7 " in log
    assert real.vms == [] and real.running() == []


def test_whoever_comes_late_gets_nothing(real):
    """The other side of it: the same guest, its CPUs not frozen, and nobody there in time."""
    from plumblib import judge
    from plumblib.pve.console import SocketConsole, serial_path
    from plumblib.pve.vm import LocalVm
    from plumblib.pve.tools import Tools
    real.vm(100, serial0="socket", cores="2", args=f"-fw_cfg name=opt/plumb/cmdline,string={SOME.replace(',', ',,')}")
    vm = LocalVm(Tools(), "100")
    # S5 would end the machine; held there, its socket stays.
    real.monkeypatch.setenv("FAKE_QEMU", os.environ["FAKE_QEMU"] + " -no-shutdown")
    vm.start()
    console = SocketConsole(serial_path("100"))
    time.sleep(4)
    console.attach(5)
    data = b"".join(console.read() for _ in range(5))
    console.close()
    vm.stop()
    assert judge.judge_log(data).exit_code == 2


def test_a_user_vm_without_freeze(real):
    """Attached to while it starts; whatever came of it, no damaged report is taken for a verdict."""
    real.vm(100, serial0="socket", cores="2", args=f"-fw_cfg name=opt/plumb/cmdline,string={SOME.replace(',', ',,')}")
    done = real.plumb("run", "100", "--boot-timeout", "8")
    log = (real.build / "logs/pve-100.log").read_bytes()
    whole = log.startswith(b"TAP version 14\r\n") and b"\n# verdict PASS tests=7 " in log
    assert done.returncode == (0 if whole else 2), done.stdout


def test_a_failing_guest(real):
    done = real.plumb("run", "--plumb", "only=boot.nothing")
    assert done.returncode == 1, done.stdout
    assert "FAIL" in done.stdout.splitlines()[-1]


def test_nodes_through_the_api(real):
    """Another node's serial socket is out of reach: QEMU keeps the report in a ring, the monitor reads it."""
    nodes = [NODE, "pve2", "off"]
    real.api(__nodes=[{"node": n, "status": "offline" if n == "off" else "online"} for n in nodes])
    real.storage("pve2")
    done = real.plumb("run", "--nodes", "all", "--plumb", SOME, "--cores", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    table = done.stdout.splitlines()[-3:]
    assert table[0].split() == ["node", "verdict", "passed", "failed", "skipped", "seconds", "findings"]
    assert [row.split()[:3] for row in table[1:]] == [[n, "PASS", "7"] for n in sorted(nodes[:2])]
    assert "off: not online" in done.stderr and real.vms == [] and real.running() == []
    assert not any(c.startswith("qm") for c in real.calls)
    assert (real.build / "logs/pve-node-pve2.log").read_bytes().startswith(b"TAP version 14\r\n")


def test_one_node_fails(real):
    real.api(__nodes=[{"node": n, "status": "online"} for n in (NODE, "bare")])  # no storage there
    done = real.plumb("run", "--nodes", "all", "--plumb", SOME)
    rows = {line.split()[0]: line for line in done.stdout.splitlines()[-2:]}
    assert done.returncode == 3 and "ERROR" in rows["bare"] and "does not exist" in rows["bare"] and "PASS" in rows[NODE]


def test_a_hanging_guest_shows_where(real):
    real.monkeypatch.setenv("FAKE_QEMU", os.environ["FAKE_QEMU"] + " -no-shutdown")
    real.monkeypatch.setenv("PLUMB_PVE_SETTLE", "600")
    done = real.plumb("run", "--plumb", "only=selftest.hang", "--silence", "2", "--timeout", "15")
    assert done.returncode == 2 and "HANG" in done.stdout, done.stdout
    assert "RIP=" in (real.build / "logs/pve-run.log.evidence.txt").read_text()
    assert real.vms == [] and real.running() == []
