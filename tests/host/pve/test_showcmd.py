# SPDX-License-Identifier: MIT
"""The twin of a Proxmox VE machine: what is taken from its command line, what is said, what never gets through."""
import os
import random
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

from plumblib import UsageError, showcmd  # noqa: E402
from plumblib.showcmd import BadLine, properties, twin  # noqa: E402

LINES = {p.stem.split("-")[1]: p for p in (HERE / "fixtures").glob("showcmd-*.txt")}
IMAGES = os.environ.get("PLUMB_IMAGES") or str(ROOT / os.environ.get("BUILD", "build"))


def line(release):
    return LINES[release].read_text()


def said(t):
    return "\n".join(what + " | " + hides for what, hides in t.changed)


def one(*more, machine="type=pc+pve0"):
    return " ".join(["/usr/bin/kvm -id 100", *more, f"-machine '{machine}'"])


def devices(t):
    return [d for d in t.devices if d.startswith("-device ")]


def test_pve7_i440fx():
    t = twin(line("7"))
    assert (t.vmid, t.machine, t.smp, t.mem, t.boot) == ("101", "pc-i440fx-7.1", "4,sockets=1,cores=4,maxcpus=4",
                                                         2048, "bios")
    assert t.cpu == "kvm64,+lahf_lm,+sep,+x2apic"
    assert "-device virtio-scsi-pci,id=virtioscsi0,bus=pci.3,addr=0x1" in t.devices
    assert "-device virtio-net-pci,mac=D6:5F:21:0A:88:13,bus=pci.0,addr=0x12,id=net0,netdev=twin0" in t.devices
    assert not any("vfio" in d or "10" == d for d in t.devices)
    for text in ("hostpci0 (an mdev) at pci.0 0x10 left out", "+pve0 dropped", "enforce +kvm_pv_eoi", "ide2 scsi0",
                 "-daemonize"):
        assert text in said(t), text


def test_pve8_q35():
    t = twin(line("8"), "p40-2a-mdev")
    assert (t.machine, t.smp, t.mem, t.boot, t.needs) == ("pc-q35-8.1", "2,sockets=1,cores=2,maxcpus=2", 4096,
                                                          "uefi", "10.1")
    first = devices(t)[0]
    assert first == "-device intel-iommu,intremap=on,caching-mode=on"
    assert t.vgpu == ["p40-2a-mdev id=hostpci0,bus=ich9-pcie-port-1,addr=0x0"]
    assert sum("pcie-root-port" in d for d in t.devices) == 4 and any("addr=1e.0" in d and "i82801b11" in d
                                                                      for d in t.devices)
    for text in ("hostpci1 (host device 0000:03:00.0)", "16384 MiB of memory are the twin's 4096",
                 "rebuilt from its known content",
                 "hostpci0, an mdev, is the vGPU model", "Secure Boot"):
        assert text in said(t), text
    assert any(d.startswith("-device virtio-blk-pci,") and d.endswith("drive=twinblk1") for d in t.devices)


def test_pve9_blockdev():
    t = twin(line("9"))
    assert (t.vmid, t.machine, t.boot) == ("9001", "pc-q35-10.1,hpet=off", "uefi")
    assert t.smp.startswith("2,") and "1 hot-plugged CPUs" in said(t)      # -smp 1 and one -device …-cpu
    assert t.cpu == "max" and "kvm=off" in said(t)
    assert any("id=ich9-pcie-port-5" in d for d in t.devices) and "-device virtio-iommu-pci" in t.devices
    assert "device tpm-tis" in said(t) and "-fw_cfg" in said(t)
    assert "host_tunnel" not in "".join(t.devices) + said(t)


def test_pretty_and_plain_are_the_same():
    """--pretty breaks the line before every " -", inside quotes too."""
    pretty = one("-smbios 'type=1,product=a -b'", "-m 512").replace(" -", " \\\n  -")
    assert showcmd.options(pretty) == showcmd.options(pretty.replace(" \\\n  -", " -"))
    assert showcmd.options(pretty)[1][1].value == "type=1,product=a -b"


@pytest.mark.parametrize("text, want", [
    ("VGA,id=a,addr=0x2", {"driver": "VGA", "id": "a", "addr": "0x2"}),
    ("a,b=c,,d,e=f", {"driver": "a", "b": "c,d", "e": "f"}),
    ('{"driver":"x","on":true,"n":1,"o":{}}', {"driver": "x", "on": "on", "n": "1", "o": "?"}), ("", {"driver": ""}),
])
def test_properties(text, want):
    assert properties(text) == want


@pytest.mark.parametrize("text, why", [
    ("", "no `kvm` in it"), ("ls -la", "no `kvm`"), ("/usr/bin/kvm -id 'x", "not a command line"),
    ("/usr/bin/kvm -id 1", "cut off"),
    ("/usr/bin/kvm -m", "cut off"), (one("stray"), "should be"), (one("-m 0"), "-m"), (one("-m x"), "-m"),
    (one("-smp 0"), "-smp"),
    (one("-smp 4096"), "256 are the most"), (one("-m 9999999999"), "-m"),
    (one(machine="type=virt-9.0"), "i440fx and q35"),
    (one(machine="type=pc-i440fx-9.0;reboot"), "i440fx and q35"), (one("-cpu 'a b'"), "CPU model"), ("\0kvm", "NUL"),
    ("kvm " + "-S " * 5000, "words"), ("x" * (1 << 21), "MiB"), (one("-device '{\"driver\":'"), "damaged JSON"),
])
def test_refused(text, why):
    with pytest.raises(BadLine, match=re.escape(why)):
        twin(text)


HOSTILE = [
    "-device 'VGA,id=a$(touch /tmp/x),addr=0x2'", "-device 'VGA,addr=0x2 -S'", "-device 'edu,addr=5'",
    "-device 'virtio-net-pci,netdev=net0,romfile=/etc/shadow,addr=0x12'", "-device 'e1000,mac=;reboot'",
    "-device 'loader,file=/etc/passwd,addr=0x100000'", "-netdev 'type=tap,id=net0,script=/tmp/evil'",
    "-drive 'file=/etc/shadow,if=ide'",
    "-monitor 'unix:/tmp/m,server=on'", "-readconfig /tmp/evil.cfg", "-set device.vga.addr=3",
    "-fw_cfg name=x,file=/etc/shadow",
    "-chardev file,id=a,path=/etc/cron.d/x", "-device 'pci-bridge,id=\"; reboot,chassis_nr=`id`'",
    "-plugin /tmp/x.so", "-incoming exec:reboot",
    "-global 'driver=cfi.pflash01,property=secure,value=on'",
    "-device 'vfio-pci,host=;id,id=hostpci0,bus=b c,addr=1'", "-cpu 'kvm64,+a;b,$(id)'",
    "-object 'memory-backend-file,id=ivshmem,mem-path=/dev/mem,size=1M'", "-device 'isa-debugcon,chardev=x'",
]


@pytest.mark.parametrize("option", HOSTILE)
def test_nothing_gets_through(option):
    """What does go on is a known driver with checked values: no path, no blank, no shell."""
    t = twin(one("-cpu kvm64", option), "p40-2a-mdev")
    words = " ".join(t.devices + t.vgpu) + t.cpu + t.smp + t.machine
    for bad in ("/", "$", "`", ";", '"', "'", "\\", "evil", "reboot", "shadow", "touch", "exec", "loader", "edu",
                "debugcon", "cfi"):
        assert bad not in words.replace("p40-2a-mdev", ""), (bad, words)
    for d in t.devices:
        assert len(shlex.split(d)) == 2


def test_any_text_is_a_twin_or_a_bad_line():
    r = random.Random(7)
    lines = [p.read_text() for p in LINES.values()]
    good = 0
    for _ in range(1500):
        text = list(r.choice(lines))
        for _ in range(r.randrange(1, 12)):
            at = r.randrange(len(text))
            text[at:at + r.randrange(0, 20)] = r.choice(["", "'", '"', ",", "\\", "\n", "{", "}", "=", " -", "\x00",
                                                         "é", "-device", "0" * 50])
        try:
            t = twin("".join(text), "p40-2a-mdev")
            good += 1
        except BadLine:
            continue
        for d in t.devices:
            assert re.fullmatch(r"-(device|global|netdev|blockdev|object) [A-Za-z0-9_.,:=+-]+", d), d
        assert re.fullmatch(r"[A-Za-z0-9_.,=+-]+", t.cpu) and re.fullmatch(r"[a-z0-9,=]+", t.smp)
    assert good > 200


def test_machine_types():
    known = {"pc", "q35", "pc-q35-10.0"}
    assert showcmd.fit_machine("pc-q35-10.0,hpet=off", known) == ("pc-q35-10.0,hpet=off", "")
    assert showcmd.fit_machine("pc-q35-11.0,hpet=off", known)[0] == "q35,hpet=off"
    assert showcmd.fit_machine("pc-i440fx-5.1", known)[0] == "pc"


# ---- and they boot ----

def boot(path, *args, **env):
    return subprocess.run([sys.executable, str(ROOT / "scripts/plumb"), "run", "--showcmd", str(path), "--accel",
                           "tcg", "--boot", "pvh",
                           "--images", IMAGES, *args], capture_output=True, text=True, timeout=55,
                          stdin=subprocess.DEVNULL,
                          env={**os.environ, "MACHINE": "", "BOOT": "", "PLUMB_VGPU": "/nonexistent", **env})


def functions(stdout):
    return {m[1]: m[2] for m in re.finditer(r"^# env pci (\S+) ([0-9a-f]{4}:[0-9a-f]{4}) ", stdout, re.M)}


def test_the_field_machine_function_by_function(tmp_path):
    done = boot(LINES["7"], "--plumb", "only=pci.topology", "--qemu", "10.0", BUILD=str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    real = (HERE / "fixtures/pve73/lspci-pve-vgpu-guest.txt").read_text().splitlines()
    want = {row.split()[0] for row in real} - {"00:10.0"}     # the vGPU's slot is empty without the model
    assert set(functions(done.stdout)) == want


@pytest.mark.parametrize("release, slots", [("8", {"01:00.0": False, "00:1c.3": True, "00:1e.0": True}),
                                            ("9", {"00:10.0": True, "00:1c.0": True})])
def test_q35(tmp_path, release, slots):
    done = boot(LINES[release], "--plumb", "only=pci.topology", "--qemu", "10.0", BUILD=str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    found = functions(done.stdout)
    assert {s: s in found for s in slots} == slots and "plumb: twin of VM" in done.stderr


def test_with_the_vgpu_model(tmp_path):
    model = Path(IMAGES) / "models/vgpu"
    if not model.is_file():
        subprocess.run(["make", "-s", "models", f"BUILD={IMAGES}"], cwd=ROOT, check=True, timeout=50)
    done = boot(LINES["7"], "--plumb", "only=pci.topology", BUILD=str(tmp_path), PLUMB_VGPU=str(model))
    assert done.returncode == 0, done.stdout + done.stderr
    real = (HERE / "fixtures/pve73/lspci-pve-vgpu-guest.txt").read_text().splitlines()
    assert set(functions(done.stdout)) == {row.split()[0] for row in real}
    assert functions(done.stdout)["00:10.0"] == "10de:1b38"


def test_from_standard_input_and_missing(tmp_path):
    done = boot("/nowhere", BUILD=str(tmp_path))
    assert done.returncode == 3 and "cannot read /nowhere" in done.stderr
    bad = tmp_path / "bad"
    bad.write_text("echo hello")
    done = boot(bad, BUILD=str(tmp_path))
    assert done.returncode == 3 and "qm showcmd VMID --pretty" in done.stderr and issubclass(BadLine, UsageError)
