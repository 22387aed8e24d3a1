# SPDX-License-Identifier: MIT
"""`plumb pve install` and `create`, and --dry-run on everything."""
import os

import pytest

NODE = os.uname().nodename.split(".")[0]


def test_install(pve):
    done = pve.plumb("install")
    assert done.returncode == 0, done.stderr
    volid = done.stdout.strip()
    assert (pve.dir / "storage" / NODE / "local" / volid.rpartition("/")[2]).read_bytes() == b"an image"
    again = pve.plumb("install")
    assert again.stdout == done.stdout and sum("upload" in c for c in pve.calls) == 1
    (pve.build / "plumb.iso").write_bytes(b"another image")
    assert pve.plumb("install").stdout != done.stdout


@pytest.mark.parametrize("args, why", [(("--storage", "nas"), "storage 'nas' does not exist"),
                                       (("--storage", "a;b"), "no storage"),
                                       (("--image", "/nowhere.iso"), "build it with")])
def test_install_refused(pve, args, why):
    done = pve.plumb("install", *args)
    assert done.returncode == 3 and why in done.stderr and list((pve.path / "tmp").iterdir()) == []


def test_create(pve):
    done = pve.plumb("create", "200", "--q35", "--ovmf", "--viommu", "intel", "--hostpci",
                     "0000:01:00.0,mdev=nvidia-55,pcie=1",
                     "--plumb", "only=vgpu.*,msi.* seed=1", "--set", "tags=plumb")
    assert done.returncode == 0, done.stderr
    conf = pve.conf(200)
    assert conf["machine"] == "q35,viommu=intel" and conf["bios"] == "ovmf" and conf["tags"] == "plumb"
    assert conf["efidisk0"] == "local-lvm:1,efitype=4m,pre-enrolled-keys=0"
    assert conf["hostpci0"] == "0000:01:00.0,mdev=nvidia-55,pcie=1" and conf["serial0"] == "socket" and conf["freeze"] == "1"
    assert conf["args"] == "-fw_cfg 'name=opt/plumb/cmdline,string=only=vgpu.*,,msi.* seed=1'"
    assert conf["boot"] == "order=ide2" and conf["ide2"].endswith(".iso,media=cdrom") and "net0" not in conf


def test_create_from_a_disk(pve):
    (pve.path / "plumb.qcow2").write_bytes(b"a disk")
    done = pve.plumb("create", "--disk", str(pve.path / "plumb.qcow2"))
    conf = pve.conf(100)
    assert done.returncode == 0 and conf["sata0"] == "local-lvm:vm-100-disk-0" and conf["boot"] == "order=sata0"
    assert "ide2" not in conf


def test_like(pve):
    pve.vm(101, machine="q35", bios="ovmf", cores=6, memory=8192, cpu="host", hostpci0="01:00.0,mdev=nvidia-55",
           scsihw="virtio-scsi-single",
           scsi0="local-lvm:vm-101-disk-0", net0="virtio=AA:BB:CC:DD:EE:FF,bridge=vmbr0",
           efidisk0="local-lvm:vm-101-disk-1", args="-x")
    done = pve.plumb("create", "300", "--like", "101")
    conf = pve.conf(300)
    assert (conf["machine"], conf["cores"], conf["cpu"],
            conf["hostpci0"]) == ("q35", "6", "host", "01:00.0,mdev=nvidia-55")
    assert "scsi0" not in conf and "net0" not in conf and "args" not in conf
    assert conf["efidisk0"].startswith("local-lvm:1,") and "without its args efidisk0 net0 scsi0" in done.stderr


@pytest.mark.parametrize("args, why", [
    (("--viommu", "intel"), "needs --q35"), (("--viommu", "amd"), "intel or virtio"),
    (("--hostpci", "x,pcie=1"), "needs --q35"),
    (("--hostpci", "$(reboot)"), "as in `qm config`"), (("--set", "nonsense"), "KEY=VALUE"),
    (("--plumb", "only=\x07"), "ASCII"),
])
def test_create_refused(pve, args, why):
    done = pve.plumb("create", *args)
    assert done.returncode == 3 and why in done.stderr and pve.vms == []


def test_dry_run_changes_nothing(pve):
    pve.vm(100, serial0="socket")
    before = pve.conf(100)
    for args in (("install",), ("create", "--ovmf"), ("run",), ("run", "100", "--freeze"),
                 ("run", "--nodes", "all"), ("check",)):
        done = pve.plumb(*args, "--dry-run")
        assert done.returncode == 0, (args, done.stderr)
    changes = [c for c in pve.calls if c.split()[0] == "qm" and c.split()[1] not in ("config", "status") or
               c.split()[0] == "pvesh" and c.split()[1] != "get"]
    assert changes == [] and pve.vms == ["100"] and pve.conf(100) == before


def test_dry_run_without_proxmox(pve):
    pve.monkeypatch.setenv("PATH", "/usr/bin:/bin")
    done = pve.plumb("run", "--dry-run", "--hostpci", "mapping=gpu,mdev=nvidia-55")
    assert done.returncode == 0 and "would run: qm create" in done.stderr and "mapping=gpu,mdev=nvidia-55" in done.stderr
    done = pve.plumb("run")
    assert done.returncode == 3 and "runs on a Proxmox VE host" in done.stderr
