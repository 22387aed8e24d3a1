# SPDX-License-Identifier: MIT
"""`plumb pve check`: what it makes of recorded hosts, of a host's files, of a node's API."""
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

from plumblib.pve import check, facts  # noqa: E402
from plumblib.pve.check import Wanted  # noqa: E402
from plumblib.pve.facts import Device, Facts, MdevType  # noqa: E402

FIELD = HERE / "fixtures/pve73"
CARD = "0000:03:00.0"


def levels(found):
    return {x.ident: x.level for x in found}


def of(f, want=None):
    return check.check(f, want or Wanted())


def finding(f, ident, want=None):
    return next(x for x in of(f, want) if x.ident == ident)


def host(**more):
    """A host on which everything is right."""
    f = Facts("a host", cmdline="quiet intel_iommu=on iommu=pt",
              dmesg="DMAR-IR: Enabled IRQ remapping in x2apic mode",
              modules={"vfio", "vfio_iommu_type1", "mdev", "nvidia", "nvidia_vgpu_vfio", "vfio_pci"},
              groups={CARD: "11", "0000:00:02.0": "1"},
              devices={CARD: Device("10de:1c03", "030000", "nvidia", True),
                       "0000:00:02.0": Device("8086:3e92", "030000", "i915", True)},
              mdev=[MdevType(CARD, "nvidia-55", "GRID P40-2A", 10), MdevType(CARD, "nvidia-46", "GRID P40-1Q", 0)],
              services={"nvidia-vgpud": "done", "nvidia-vgpu-mgr": "active"},
              override="[profile.nvidia-55]\ndisplay_width = 1920\ndisplay_height = 1080\nmax_pixels = 2073600\n",
              secureboot=False, journal="", nvidia="NVRM 510", release="pve-manager/7.3")
    for key, value in more.items():
        setattr(f, key, value)
    return f


def test_the_field_host():
    f = facts.recorded(FIELD)
    assert f.groups[CARD] == "11" and len(f.groups) == 16 and "iommu=pt" in f.cmdline
    assert {(t.parent, t.type, t.name, t.available) for t in f.mdev
            if t.available} == {(CARD, "nvidia-55", "GRID P40-2A", 10)}
    got = levels(of(f, Wanted(mdev="nvidia-55")))
    assert got["HOST01"] == got["HOST04"] == got["HOST07"] == got["HOST09"] == "ok"
    assert got["HOST03"] == got["HOST06"] == got["HOST08"] == got["HOST10"] == "unknown"    # not recorded is not fine
    assert check.verdict(of(f))[1] == 0


def test_all_is_right():
    assert set(levels(of(host(), Wanted(CARD, "nvidia-55"))).values()) == {"ok"}
    assert "alone in IOMMU group 11" in finding(host(), "HOST04").text


def test_a_log_without_groups_is_not_a_host_without(tmp_path):
    (tmp_path / "dmesg.txt").write_text("[0.0] Command line: quiet intel_iommu=on\n")
    f = facts.recorded(tmp_path)
    assert f.groups is None and finding(f, "HOST01").level == "unknown" and check.verdict(of(f))[1] == 2


@pytest.mark.parametrize("change, ident, level, text", [
    (dict(groups={}, cmdline="quiet"), "HOST01", "wrong", "the IOMMU is off"),
    (dict(groups={}), "HOST01", "wrong", "there are no IOMMU groups"),
    (dict(groups={}, cmdline="intel_iommu=off"), "HOST01", "wrong", "switched off on the kernel command line"),
    (dict(groups=None, cmdline=None), "HOST01", "unknown", ""),
    (dict(cmdline="intel_iommu=on pcie_acs_override=downstream"), "HOST02", "warn", "by decree"),
    (dict(dmesg="DMAR-IR: No interrupt remapping support"), "HOST03", "wrong", "does not remap"),
    (dict(dmesg="x"), "HOST03", "unknown", ""),
    (dict(dmesg="x2apic enabled\nDMAR-IR: Enabled IRQ remapping in x2apic mode"), "HOST03", "ok", "remapped"),
    (dict(dmesg="AMD-Vi: Interrupt remapping enabled"), "HOST03", "ok", "remapped"),
    (dict(cmdline="intel_iommu=on vfio_iommu_type1.allow_unsafe_interrupts=1"), "HOST03", "warn", "any interrupt"),
    (dict(groups={CARD: "11", "0000:04:00.0": "11"}, mdev=[]), "HOST04", "wrong",
     "shares IOMMU group 11 with 0000:04:00.0"),
    (dict(groups={CARD: "11", "0000:04:00.0": "11"}), "HOST04", "ok", "an mdev has a group of its own"),
    (dict(groups={CARD: "11", "0000:00:1c.0": "11"}, mdev=[], devices={CARD: Device("10de:1c03", "030000", "", True),
          "0000:00:1c.0": Device("8086:a110", "060400", "pcieport", True)}), "HOST04", "ok", "alone"),
    (dict(groups={"0000:00:02.0": "1"}), "HOST04", "wrong", "in no IOMMU group"),
    (dict(devices={CARD: Device("10de:1c03", "030000", "nouveau", True)}), "HOST05", "wrong", "nouveau holds"),
    (dict(modules={"vfio"}), "HOST06", "wrong", "NVIDIA's host driver is not loaded"),
    (dict(modules={"vfio", "vfio_iommu_type1", "mdev", "nvidia"}), "HOST06", "wrong", "not its vGPU part"),
    (dict(modules=None), "HOST06", "unknown", ""),
    (dict(mdev=[]), "HOST07", "wrong", "no device offers mdev types"),
    (dict(mdev=[MdevType(CARD, "nvidia-55", "GRID P40-2A", 0)]), "HOST07", "wrong", "no free instance"),
    (dict(mdev=[MdevType(CARD, "nvidia-46", "GRID P40-1Q", 4)]), "HOST07", "wrong", "no device offers nvidia-55"),
    (dict(services={"nvidia-vgpud": "done", "nvidia-vgpu-mgr": "failed"}), "HOST08", "wrong", "services do not run"),
    (dict(services=None), "HOST08", "unknown", ""),
    (dict(override="[profile.nvidia-55]\nnum_displays = = 1\n"), "HOST09", "wrong", "damaged"),
    (dict(override="num_displays = 1\n"), "HOST09", "wrong", "damaged"),
    (dict(override="[profile.nvidia-55]\ndisplay_width=3840\ndisplay_height=2160\nmax_pixels=2073600\n"), "HOST09",
     "wrong", "3840x2160"),
    (dict(override="[profile.nvidia-55]\nmaxpixels=1\n"), "HOST09", "warn", "maxpixels"),
    (dict(override="[profile.nvidia-46]\nnum_displays=1\n"), "HOST09", "warn", "not for nvidia-55"),
    (dict(unlock="unlock = false\n"), "HOST09", "warn", "switched off"),
    (dict(secureboot=True, modules={"vfio"}), "HOST10", "warn", "Secure Boot"),
    (dict(secureboot=True), "HOST10", "ok", "was let in"),
    (dict(journal="vfio error: Verify all devices in group 11 are bound to vfio-<bus> or pci-stub"), "HOST11",
     "wrong", "refused"),
    (dict(journal="group 11 is not viable"), "HOST12", "wrong", "another device of its group"),
    (dict(journal="No interrupt remapping for device"), "HOST13", "wrong", "no interrupt remapping"),
    (dict(dmesg="vfio-pci 0000:03:00.0: BAR 1: can't reserve [mem 0xc0000000-0xcfffffff 64bit pref]"), "HOST14",
     "wrong", "BAR"),
    (dict(journal="NVRM: API mismatch: the client has 510, this module 470"), "HOST15", "wrong", "versions"),
    (dict(dmesg="DMAR: [DMA Read NO_PASID] Request device [03:00.0] fault addr 0x0"), "HOST16", "warn", "faults"),
    (dict(dmesg="vfio-pci: Device is ineligible for IOMMU domain attach due to platform RMRR requirement"),
     "HOST17", "wrong", "RMRR"),
])
def test_what_is_wrong(change, ident, level, text):
    want = Wanted(CARD, "" if "HOST04" == ident else "nvidia-55")
    f = finding(host(**change), ident, want)
    assert f.level == level and text in f.text and (f.do or level not in ("wrong",) or "alone" in f.text), f
    if level == "wrong":
        assert check.verdict(of(host(**change), want))[1] == 1


def test_nothing_known_is_no_verdict():
    assert check.verdict(of(Facts("nothing")))[1] == 2


def test_record_and_read_again(tmp_path):
    f = host()
    facts.record(f, tmp_path)
    again = facts.recorded(tmp_path)
    assert levels(of(again, Wanted(CARD, "nvidia-55"))) == levels(of(f, Wanted(CARD, "nvidia-55")))
    assert again.devices == f.devices and again.mdev == f.mdev and again.services == f.services and again.secureboot is False


def test_a_hosts_files(tmp_path):
    """/proc, /sys and /etc as a host has them."""
    def write(name, text):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    write("proc/cmdline", "quiet amd_iommu=on\n")
    write("proc/modules", "vfio 40960 1 vfio_iommu_type1, Live 0x0\nvfio_iommu_type1 1 0 - Live 0x0\nvfio-pci 1 0 - Live 0x0\n")
    card = tmp_path / "sys/bus/pci/devices" / CARD
    for name, text in {"vendor": "0x10de\n", "device": "0x1b38\n", "class": "0x030200\n",
                       "mdev_supported_types/nvidia-55/name": "GRID P40-2A\n",
                       "mdev_supported_types/nvidia-55/available_instances": "3\n"}.items():
        write(f"sys/bus/pci/devices/{CARD}/{name}", text)
    (tmp_path / "sys/kernel/iommu_groups/7/devices").mkdir(parents=True)
    (tmp_path / "sys/kernel/iommu_groups/7/devices" / CARD).symlink_to(card)
    (tmp_path / "sys/drivers/nouveau").mkdir(parents=True)
    (card / "driver").symlink_to(tmp_path / "sys/drivers/nouveau")
    (tmp_path / "sys/firmware/efi/efivars").mkdir(parents=True)
    (tmp_path / "sys/firmware/efi/efivars/SecureBoot-8be4df61").write_bytes(b"\6\0\0\0\1")
    f = facts.live(tmp_path)
    assert f.groups == {CARD: "7"} and f.devices[CARD] == Device("10de:1b38", "030200", "nouveau", True)
    assert f.mdev == [MdevType(CARD, "nvidia-55", "GRID P40-2A",
                               3)] and f.secureboot is True and "vfio_pci" in f.modules
    got = levels(of(f))
    assert got["HOST01"] == "ok" and got["HOST05"] == "wrong" and got["HOST06"] == "wrong" and got["HOST10"] == "warn"


def plumb(*args):
    return subprocess.run([sys.executable, str(ROOT / "scripts/plumb"), "pve", "check", *args], capture_output=True,
                          text=True,
                          timeout=30, stdin=subprocess.DEVNULL)


def test_command(tmp_path):
    done = plumb("--from", str(FIELD), "--mdev", "nvidia-55")
    assert done.returncode == 0 and done.stdout.splitlines()[-1].startswith("RIGHT, as far as was seen: 0 wrong"), done.stderr
    done = plumb("--from", str(FIELD), "--mdev", "nvidia-46")
    assert done.returncode == 1 and "do        the card is given to nvidia-55" in done.stdout
    for folder, why in ((tmp_path, "no recorded file"), (tmp_path / "none", "no such folder")):
        done = plumb("--from", str(folder))
        assert done.returncode == 3 and why in done.stderr
    assert plumb("--device", "$(id)").returncode == 3


@pytest.mark.parametrize("junk", [b"", b"\xff\xfe\0" * 1000, b"[" * 5000,
                                  b"0000:03:00.0\n  x\n    Available instances: many\n"])
def test_damaged_files(tmp_path, junk):
    for name in ("dmesg.txt", "mdevctl-types.txt", "profile_override.toml", "modules.txt", "iommu-groups.txt",
                 "services.txt", "secureboot.txt"):
        (tmp_path / name).write_bytes(junk)
    done = plumb("--from", str(tmp_path))
    assert done.returncode in (0, 1, 2) and "Traceback" not in done.stderr


def test_nodes(pve):
    """Two nodes by their API: one is right, one has no IOMMU; a third does not answer."""
    pci = [{"id": CARD, "vendor": "0x10de", "device": "0x1c03", "class": "0x030000", "iommugroup": 11, "mdev": True}]
    pve.api(**{"/nodes": [{"node": n, "status": "online"} for n in ("a", "b", "c")],
               "/nodes/a/status": {"pveversion": "pve-manager/9.1", "uptime": 100,
                                   "boot-info": {"mode": "efi", "secureboot": False}},
               "/nodes/a/hardware/pci": pci,
               f"/nodes/a/hardware/pci/{CARD}/mdev": [{"type": "nvidia-55", "name": "GRID P40-2A", "available": 10}],
               "/nodes/a/journal": ["kernel: Command line: quiet intel_iommu=on",
                                    "DMAR-IR: Enabled IRQ remapping in x2apic mode"],
               "/nodes/b/status": {"uptime": 100},
               "/nodes/b/hardware/pci": [{**pci[0], "iommugroup": -1, "mdev": False}],
               "/nodes/b/journal": ["kernel: Command line: quiet"]})
    done = pve.plumb("check", "--nodes", "all", "--mdev", "nvidia-55")
    rows = {line.split()[0]: line.split() for line in done.stdout.splitlines()[-3:]}
    assert rows["a"][1:5] == ["RIGHT", "1", "1", "10"] and rows["b"][1] == "WRONG" and "HOST01" in rows["b"] and rows["c"][1] == "ERROR"
    assert done.returncode == 3 and not any(c.split()[1] != "get" for c in pve.calls)


def test_record_by_command(tmp_path):
    shutil.copytree(FIELD, tmp_path / "in")
    done = plumb("--from", str(tmp_path / "in"), "--record", str(tmp_path / "out"))
    assert done.returncode == 0 and {p.name for p in (tmp_path / "out").iterdir()} == {
        "dmesg.txt", "cmdline.txt", "iommu-groups.txt", "mdevctl.txt", "profile_override.toml"}
    assert json.dumps(levels(of(facts.recorded(tmp_path / "out")))) == json.dumps(levels(of(facts.recorded(FIELD))))
    assert os.path.getsize(tmp_path / "out/dmesg.txt") > 1000
