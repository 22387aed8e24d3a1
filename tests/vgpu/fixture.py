#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Is pc-pve-vgpu the guest of the field? Compares its functions with the recorded lspci, one by one.

    tests/vgpu/fixture.py [LOG]     without a log it boots the profile (SeaBIOS) for one

Status: 0 the same, 1 not, 3 no log.
"""
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
RECORDED = ROOT / "tests/host/pve/fixtures/pve73/lspci-pve-vgpu-guest.txt"
# What lspci calls these functions: vendor:device, class, and the name that the record has for them.
NAMES = {
    "Host bridge: Intel Corporation 440FX - 82441FX PMC [Natoma]": ("8086:1237", "0600"),
    "ISA bridge: Intel Corporation 82371SB PIIX3 ISA [Natoma/Triton II]": ("8086:7000", "0601"),
    "IDE interface: Intel Corporation 82371SB PIIX3 IDE [Natoma/Triton II]": ("8086:7010", "0101"),
    "USB controller: Intel Corporation 82371SB PIIX3 USB [Natoma/Triton II]": ("8086:7020", "0c03"),
    "Bridge: Intel Corporation 82371AB/EB/MB PIIX4 ACPI": ("8086:7113", "0680"),
    "VGA compatible controller: Device 1234:1111": ("1234:1111", "0300"),
    "Unclassified device [00ff]: Red Hat, Inc. Virtio memory balloon": ("1af4:1002", "00ff"),
    "PCI bridge: Red Hat, Inc. QEMU PCI-PCI bridge": ("1b36:0001", "0604"),
    "VGA compatible controller: NVIDIA Corporation GP102GL [Tesla P40]": ("10de:1b38", "0300"),
    "Ethernet controller: Red Hat, Inc. Virtio network device": ("1af4:1000", "0200"),
    "SCSI storage controller: Red Hat, Inc. Virtio SCSI": ("1af4:1004", "0100"),
}
# Not in the record: what the vGPU is compared with, in the slot of a second host device.
MORE = {"00:11.0": ("1234:11e8", "00ff", "10")}


def recorded():
    """slot -> (IDs, class, revision or None)"""
    out = {}
    for line in RECORDED.read_text().splitlines():
        slot, name, rev = re.match(r"(\S+) (.*?)(?: \(rev (..)\))?$", line).groups()
        out[slot] = (*NAMES[name], rev)
    return out


def seen(log):
    """The same of a report's `# env pci` lines; the first bridge's bus 01 is lspci's 01."""
    found = re.findall(r"^# env pci (\S+) (\S+) (\S{4})\S\S rev=(\S\S)", log, re.M)
    return {slot: (ids, kind, rev) for slot, ids, kind, rev in found}


def boot():
    with tempfile.TemporaryDirectory() as tmp:
        path = pathlib.Path(tmp) / "log"
        argv = [ROOT / "scripts" / "plumb", "run", "--machine", "pc-pve-vgpu", "--boot", "bios", "--accel", "tcg",
                "--plumb", "only=vgpu.identify", "--log", path]
        subprocess.run(argv, stdout=subprocess.DEVNULL, timeout=200, check=False)
        return path.read_text(errors="replace") if path.exists() else ""


def main():
    log = pathlib.Path(sys.argv[1]).read_text(errors="replace") if len(sys.argv) > 1 else boot()
    want, got = recorded(), seen(log)
    if not got:
        print("no `# env pci` line: no report")
        return 3
    bad = 0
    for slot in sorted({*want, *got}):
        w, g = want.get(slot, MORE.get(slot)), got.get(slot)
        # lspci leaves revision 00 out.
        same = w is not None and g is not None and w[:2] == g[:2] and (w[2] or "00") == g[2]
        bad += not same
        if not same:
            print(f"{slot}: the record has {w or 'nothing'}, the machine {g or 'nothing'}")
    print(f"{len(want)} functions recorded, {len(got)} found ({len(MORE)} more on purpose), {bad} differ")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
