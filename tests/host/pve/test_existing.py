# SPDX-License-Identifier: MIT
"""`plumb pve run VMID` in a VM of the user's: it is as it was afterwards, or never touched."""
import os

import pytest
from logs import good

PASS = "say(log)"
QUICK = ("--boot-timeout", "8", "--silence", "1", "--timeout", "20")


def test_existing(pve):
    pve.vm(100, serial0="socket", name="mine")
    pve.script("sleep(0.3)\n" + PASS, good().bytes())
    done = pve.plumb("run", "100", *QUICK)
    assert done.returncode == 0, done.stdout + done.stderr
    assert pve.conf(100) == {"serial0": "socket", "name": "mine"} and pve.running() == []
    assert not any("qm set" in c or "resume" in c or "destroy" in c for c in pve.calls)


@pytest.mark.parametrize("was", [None, "0"])
def test_existing_frozen_for_this_run(pve, was):
    conf = {"serial0": "socket", **({"freeze": was} if was else {})}
    pve.vm(100, **conf)
    pve.script(PASS, good().bytes())
    done = pve.plumb("run", "100", "--freeze", *QUICK)
    assert done.returncode == 0, done.stdout + done.stderr
    assert pve.conf(100) == conf and any("resume" in c for c in pve.calls)


@pytest.mark.parametrize("conf, why", [
    ({}, "qm set 100 --serial0 socket"), ({"serial0": "/dev/ttyS0"}, "no serial socket"),
    ({"serial0": "socket", "lock": "backup"}, "locked (backup)"),
    ({"serial0": "socket", "template": "1"}, "template"),
])
def test_refused(pve, conf, why):
    pve.vm(100, **conf)
    done = pve.plumb("run", "100")
    assert done.returncode == 3 and why in done.stderr
    assert not any("start" in c or "stop" in c or "set" in c for c in pve.calls)


OVMF = {"serial0": "socket", "bios": "ovmf"}


@pytest.mark.parametrize("conf, word", [
    ({**OVMF, "efidisk0": "local-lvm:vm-100-disk-0,efitype=4m,pre-enrolled-keys=1,size=4M"}, True),
    ({**OVMF, "efidisk0": "local-lvm:vm-100-disk-0,efitype=4m,pre-enrolled-keys=0,size=4M"}, False),
    ({"serial0": "socket", "efidisk0": "local-lvm:vm-100-disk-0,pre-enrolled-keys=1"}, False),
])
def test_secure_boot_keys_are_named_where_nothing_comes(pve, conf, word):
    pve.vm(100, **conf)
    pve.script("sleep(30)")
    done = pve.plumb("run", "100", "--boot-timeout", "2", "--silence", "1", "--timeout", "10")
    assert done.returncode == 2
    assert ("pre-enrolled-keys=1" in done.stderr) == word == ("pre-enrolled-keys=1" in done.stdout)


def test_a_running_vm_is_left_alone(pve):
    pve.vm(100, serial0="socket")
    (pve.dir / "100.pid").write_text(str(os.getpid()))
    done = pve.plumb("run", "100")
    (pve.dir / "100.pid").unlink()
    assert done.returncode == 3 and "VM 100 runs" in done.stderr and not any("stop" in c for c in pve.calls)
