# SPDX-License-Identifier: MIT
"""The vGPU model behind QEMU's vfio-user-pci: what a guest sees of it, and of each break that QEMU lets through."""
import os
import re
import shutil
import subprocess
import time

import pytest

from plumblib import build_dir, qemu as qemus, sysroot, vgpu_model
from qtest import Qtest

RID = 0x80                           # 00:10.0
BAR0, BAR1, BAR3, BAR5 = 0xe0000000, 0xd0000000, 0xe4000000, 0xc000
REARM = BAR0 + 0x88704
TARGET = 0x100000                    # where messages are aimed: RAM
SOON, NEVER = 5.0, 0.2


@pytest.fixture(scope="session")
def qemu():
    path = shutil.which("qemu-system-x86_64")
    if path and qemus.as_numbers(qemus.probe([path])) >= (10, 1):
        return qemus.Qemu([path], qemus.probe([path]))
    if not sysroot.fault(sysroot.folder("11.1")):
        return qemus.from_sysroot("11.1")
    pytest.skip("no QEMU 10.1 or newer: scripts/plumb sysroot 11.1")


class Card:
    """A device with its BARs placed."""

    def __init__(self, q, model):
        self.q, self.model = q, model
        for off, addr in ((0x10, BAR0), (0x14, BAR1), (0x18, 0), (0x1c, BAR3), (0x20, 0), (0x24, BAR5)):
            q.config(RID, off, addr)
        q.config(RID, 4, 0x0407, 2)

    def message(self, data=0x4321):
        """Aims the MSI at RAM and enables it."""
        cap = 0x68
        for off, value, n in ((4, TARGET, 4), (8, 0, 4), (12, data, 2), (2, 0x81, 2)):
            self.q.config(RID, cap + off, value, n)
        self.q.write(TARGET, 0)
        return data

    def pbus(self):
        self.q.write(BAR0 + 0x160, 1 << 28)
        self.q.write(BAR0 + 0x1140, 1 << 26)

    def raise_it(self):
        self.q.write(BAR0 + 0x1150, 1)

    def pending(self):
        return bool(self.q.read(BAR0 + 0x100) & 1 << 28)

    def ack(self):
        self.q.write(BAR0 + 0x1100, 1 << 26)

    def took(self, data, seconds=SOON):
        """Did the message arrive? Clears the target."""
        got = self.q.wait(TARGET, data, seconds)
        self.q.write(TARGET, 0)
        return got


@pytest.fixture
def card(qemu, models, tmp_path):
    """A machine with one model in slot 10."""
    running = []

    def start(kind="p40-2a-mdev", *breaks, machine="pc", before=(), options=(), **properties):
        one = models(kind, *breaks, options=["--verbose", *options], connect=False)
        log = open(tmp_path / "qemu.log", "w+")
        q = Qtest(qemu, ["-machine", f"{machine},memory-backend=ram", *vgpu_model.ram_options("64M"), "-m", "64M", *before,
                         "-device", one.device(id="vgpu", addr="0x10", **properties)], log)
        running.append((q, log))
        try:
            return Card(q.__enter__(), one)
        except RuntimeError:
            log.seek(0)
            raise RuntimeError(log.read()) from None
    yield start
    for q, log in running:
        q.__exit__()
        log.close()


def test_memory(card):
    c = card()
    q = c.q
    assert q.config(RID, 0) == 0x1b3810de and q.config(RID, 0x2c) == 0x11f110de
    assert q.read(BAR0) >> 20 == 0x132 and q.read(BAR0 + 4) >> 16 & 3 == 1
    q.write(BAR1 + 0x1234560, 0x11223344)
    q.write(BAR3 + 0x100, 0x55667788)
    assert (q.read(BAR1 + 0x1234560), q.read(BAR3 + 0x100)) == (0x11223344, 0x55667788)
    text = c.model.log.read_text()
    assert "bar3+100 " in text and "bar1+" not in text                         # one trapped, one mapped
    assert q.read(BAR0 + 0x9400) != q.read(BAR0 + 0x9400)


def test_msi_and_rearm(card):
    """QEMU 11.1 puts its NVIDIA quirks on vfio-pci only: here the re-arm comes to BAR0 as it is."""
    c = card()
    data = c.message()
    c.pbus()
    for _ in range(24):
        c.raise_it()
        assert c.pending() and c.took(data)
        c.ack()
        c.q.write(REARM, 0)
    c.raise_it()
    assert c.took(data)
    c.ack()
    c.raise_it()
    assert c.pending() and not c.took(data, NEVER)                             # without a re-arm
    assert "write bar0+88704 4 0" in c.model.log.read_text()


def test_only_the_first(card):
    c = card("p40-2a-mdev", "no-rearm")
    data = c.message()
    c.pbus()
    for i in range(3):
        c.raise_it()
        assert c.pending() and c.took(data, SOON if i == 0 else NEVER) == (i == 0)
        c.ack()
        c.q.write(REARM, 0)


def test_retarget(card):
    """A new message while it is enabled: QEMU's copy is what counts."""
    c = card()
    c.message()
    c.pbus()
    c.q.config(RID, 0x74, 0x8765, 2)
    c.raise_it()
    assert c.took(0x8765)


def test_no_message(card):
    c = card("p40-2a-mdev", "no-msi")
    data = c.message()
    c.pbus()
    c.raise_it()
    assert c.pending() and not c.took(data, NEVER)


@pytest.mark.parametrize("name", ["msi-register-stuck", "msi-as-intx"])
def test_hidden_capability(card, name):
    """QEMU emulates MSI where it sees it; here it must not."""
    c = card("p40-2a-mdev", name, machine="q35")
    assert c.q.config(RID, 6, n=2) & 0x10 and c.q.config(RID, 0x34, n=1) == 0xd0 and c.q.config(RID, 0xd1, n=1) == 0x68
    assert c.q.config(RID, 0x68, n=1) == 5
    c.q.ask("irq_intercept_in", "ioapic")
    c.message()
    c.q.config(RID, 4, 0x0007, 2)                                              # INTx allowed
    if name == "msi-register-stuck":
        assert c.q.config(RID, 0x6a, n=2) == 0x80 and c.q.config(RID, 0x6c) == 0 and c.q.config(RID, 0x74, n=2) == 0
        return
    assert c.q.config(RID, 0x6a, n=2) == 0x81 and c.q.config(RID, 0x6c) == TARGET
    c.pbus()
    c.raise_it()
    assert c.q.irq()[0] == "raise" and not c.took(0x4321, NEVER)


@pytest.mark.parametrize("kind", ["p40-2a-mdev", "gp102"])
def test_intx(card, kind):
    c = card(kind, machine="q35")
    c.q.config(RID, 4, 0x0007, 2)
    c.q.ask("irq_intercept_in", "ioapic")
    c.q.write(BAR0 + 0x160, 1 << 31)
    for _ in range(5):
        c.q.write(BAR0 + 0x1a0, 1)
        up = c.q.irq()
        assert up and up[0] == "raise" and up[1] >= 16
        c.q.write(BAR0 + 0x1a0, 0)                                             # QEMU takes any BAR access for the EOI
        assert c.q.irq() == ("lower", up[1])
    assert c.q.irq(NEVER) is None


def test_intx_dead(card):
    c = card("p40-2a-mdev", "intx-dead", machine="q35")
    c.q.config(RID, 4, 0x0007, 2)
    c.q.ask("irq_intercept_in", "ioapic")
    c.q.write(BAR0 + 0x160, 1 << 31)
    c.q.write(BAR0 + 0x1a0, 1)
    assert c.q.read(BAR0 + 0x100) == 1 << 31 and c.q.irq(NEVER) is None


def vf_message(c, vector=0, data=0x99):
    entry = BAR0 + 0x10000 + 16 * vector
    for off, value in ((0, TARGET), (4, 0), (8, data), (12, 0)):
        c.q.write(entry + off, value)
    return data


def test_msix(card):
    c = card("tu-vf", machine="q35")
    c.q.config(RID, 0x7e, 0x8000, 2)
    data = vf_message(c)
    c.q.write(TARGET, 0)
    c.q.write(BAR0 + 0x1210, 2)
    c.q.write(BAR0 + 0x1608, 4)
    for _ in range(16):
        c.q.write(BAR0 + 0x1640, 129)
        assert c.took(data)
        c.q.write(BAR0 + 0x1010, 2)
    c.q.write(BAR0 + 0x1000c, 1)                                               # masked
    # QEMU 11.1 masks by itself and does not tell the device, but asks it for the pending bits: they stay 0.
    c.q.write(BAR0 + 0x1640, 129)
    assert not c.took(data, NEVER) and c.q.read(BAR0 + 0x20000) == 0
    c.q.write(BAR0 + 0x1010, 2)
    c.q.write(BAR0 + 0x1000c, 0)
    assert c.took(data)


def test_wrong_vector(card):
    c = card("tu-vf", "wrong-vector", machine="q35")
    c.q.config(RID, 0x7e, 0x8000, 2)
    vf_message(c, 0, 0x51)
    vf_message(c, 1, 0x52)
    c.q.write(TARGET, 0)
    c.q.write(BAR0 + 0x1210, 2)
    c.q.write(BAR0 + 0x1608, 4)
    c.q.write(BAR0 + 0x1640, 129)
    assert c.took(0x52)


def test_dma(card):
    c = card("gp102")
    q = c.q
    q.write(0x205010, 0x12345678)
    q.write(BAR0 + 0x1700, 2 << 24 | 0x20)
    assert q.read(BAR0 + 0x705010) == 0x12345678
    q.write(BAR0 + 0x705014, 0xcafef00d)
    assert q.wait(0x205014, 0xcafef00d)
    q.config(RID, 4, 0x0403, 2)                                                # no Bus Master
    assert q.read(BAR0 + 0x705010) == 0xffffffff
    q.config(RID, 4, 0x0407, 2)
    q.write(BAR0 + 0x1700, 2 << 24 | 0x400)                                    # 64 MiB: past its end
    assert q.read(BAR0 + 0x700000) == 0xffffffff
    c = card("gp102", "dma-wrong-page")
    c.q.write(0x205010, 0x12345678)
    c.q.write(0x204010, 0x9abcdef0)
    c.q.write(BAR0 + 0x1700, 2 << 24 | 0x20)
    assert c.q.read(BAR0 + 0x705010) == 0x9abcdef0


class Vtd:
    """As little of VT-d (legacy mode) as it takes to map pages for one device."""
    BASE, ROOT, CONTEXT, LEVELS = 0xfed90000, 0x300000, 0x301000, 0x302000

    def __init__(self, q):
        self.q = q
        for page in range(8):
            q.ask("memset", self.ROOT + 0x1000 * page, 0x1000, 0)
        q.write(self.ROOT, self.CONTEXT | 1, 8)
        q.write(self.CONTEXT + 16 * RID, self.LEVELS | 1, 8)
        q.write(self.CONTEXT + 16 * RID + 8, 2 | 1 << 8, 8)                    # four levels, domain 1
        for level in range(3):                                                 # IOVAs 10000000 to 101fffff
            index = (0x10000000 >> 39 - 9 * level) & 511
            q.write(self.LEVELS + 0x1000 * level + 8 * index, self.LEVELS + 0x1000 * (level + 1) | 3, 8)
        self.leaf = self.LEVELS + 0x3000
        q.write(self.BASE + 0x20, self.ROOT, 8)
        self.command(1 << 30)
        q.write(self.BASE + 0x28, 1 << 63 | 1 << 61, 8)
        self.flush()
        self.command(1 << 31)

    def command(self, bit):
        self.q.write(self.BASE + 0x18, bit)
        assert self.q.read(self.BASE + 0x1c) & bit

    def flush(self):
        at = self.BASE + (self.q.read(self.BASE + 0x10, 8) >> 8 & 0x3ff) * 16
        self.q.write(at + 8, 1 << 63 | 1 << 60, 8)
        assert not self.q.read(at + 8, 8) >> 63

    def entry(self, iova, gpa, prot):
        self.q.write(self.leaf + 8 * (iova >> 12 & 511), gpa | prot, 8)


def test_dma_through_iommu(card):
    c = card("gp102", machine="q35", before=["-device", "intel-iommu,caching-mode=on"])
    q = c.q
    for page, value in ((0x205000, 0x11111111), (0x206000, 0x22222222), (0x207000, 0x33333333)):
        q.write(page + 0x10, value)
    q.write(BAR0 + 0x1700, 2 << 24 | 0x20)
    assert q.read(BAR0 + 0x705010) == 0x11111111                               # off: addresses are physical
    iommu = Vtd(q)
    assert q.read(BAR0 + 0x705010) == 0xffffffff                               # on: nothing is mapped there
    iommu.entry(0x10000000, 0x207000, 3)
    iommu.entry(0x10001000, 0x205000, 1)
    iommu.flush()
    q.write(BAR0 + 0x1700, 2 << 24 | 0x1000)
    assert [q.read(BAR0 + 0x700010 + 0x1000 * i) for i in range(3)] == [0x33333333, 0x11111111, 0xffffffff]
    q.write(BAR0 + 0x700020, 0x44444444)
    q.write(BAR0 + 0x701010, 0x55555555)                                       # read-only
    assert q.wait(0x207020, 0x44444444) and q.read(BAR0) and q.read(0x205010) == 0x11111111
    iommu.entry(0x10000000, 0, 0)
    iommu.flush()
    assert q.read(BAR0 + 0x700010) == 0xffffffff and q.read(BAR0 + 0x701010) == 0x11111111


def test_slow_traps(card, qemu):
    """QEMU gives a device 5 s to answer; x-msg-timeout= lets it wait as long as a real VMM would."""
    c = card("p40-2a-mdev", "slow-traps=300")
    start = time.monotonic()
    assert c.q.read(BAR0) >> 20 == 0x132 and time.monotonic() - start >= 0.3
    known = subprocess.run([*qemu.argv, "-device", "vfio-user-pci,help"], env={**os.environ, **qemu.env}, timeout=20,
                           capture_output=True, text=True).stdout
    if "x-msg-timeout" not in known:
        pytest.skip(f"{qemu.label} has no x-msg-timeout")
    c = card("p40-2a-mdev", "slow-traps=5500", **{"x-msg-timeout": 20000})
    start = time.monotonic()
    assert c.q.read(BAR0) >> 20 == 0x132 and time.monotonic() - start >= 5.5


def test_dies(card):
    c = card("p40-2a-mdev", "die-after=2")
    assert c.q.read(BAR0) >> 20 == 0x132 and c.q.read(BAR0) >> 20 == 0x132
    assert c.q.read(BAR0) == 0xffffffff and c.model.proc.wait(5) == 3
    assert c.q.read(BAR0) == 0xffffffff and c.q.config(0, 0) == 0x12378086     # the machine goes on


def test_config_dead(card):
    c = card("p40-2a-mdev", "config-dead")
    assert c.q.config(RID, 0) == 0xffffffff


def test_bar_sizes(card):
    for breaks, want in (([], 0xff000000), (["bar-small"], 0xfff00000)):
        c = card("p40-2a-mdev", *breaks)
        c.q.config(RID, 4, 0, 2)
        c.q.config(RID, 0x10, 0xffffffff)
        assert c.q.config(RID, 0x10) == want


# ---- our own guest ----

PCI = {
    "p40-2a-mdev": r"10de:1b38 030000 rev=a1 .*sub=10de:11f1 irq=A msi@68/1 bar0=\w+\+1000000 bar1=\w+\+10000000/64/pref"
                   r" bar3=\w+\+2000000/64$",
    "gp102": r"10de:1b06 030000 rev=a1 .*irq=A .*msi@68/1 .*bar1=\w+\+10000000/64/pref bar3=\w+\+2000000/64/pref bar5=\w+\+80/io",
    "tu-vf": r"10de:1eb8 .*msix@7c/6 .*bar0=\w+\+40000 ",
}


@pytest.mark.parametrize("kind", PCI)
@pytest.mark.parametrize("machine", ["pc", "q35"])
def test_guest(qemu, models, tmp_path, machine, kind):
    """Enumerated by SeaBIOS and by plumb, at 00:10.0 of an i440fx and behind a root port of a q35."""
    kernel = build_dir() / "kernel.elf"
    if not kernel.is_file():
        pytest.skip(f"no {kernel}: make kernel")
    one = models(kind, connect=False)
    serial = tmp_path / "serial"
    where = {"bus": "pci.0", "addr": "0x10"} if machine == "pc" else {"bus": "rp1", "addr": "0x0"}
    port = [] if machine == "pc" else ["-device", "pcie-root-port,id=rp1,addr=1c.0,chassis=1,slot=1"]
    done = subprocess.run(
        [*qemu.argv, "-nodefaults", "-display", "none", "-no-reboot", "-machine", f"{machine},memory-backend=ram", "-accel", "tcg",
         "-cpu", "max,+x2apic", "-smp", "2", *vgpu_model.ram_options("256M"), "-m", "256M", "-serial", f"file:{serial}", *port,
         "-device", one.device(**where), "-device", "isa-debug-exit,iobase=0xf4,iosize=0x4", "-kernel", str(kernel),
         "-fw_cfg", "name=opt/plumb/cmdline,string=only=boot.handoff,,pci.* exit=debug"],
        env={**os.environ, **qemu.env}, stdin=subprocess.DEVNULL, capture_output=True, timeout=120)
    text = serial.read_text(errors="replace")
    slot = "00:10.0" if machine == "pc" else "01:00.0"
    line = re.search(rf"# env pci {slot} (.*)", text)
    assert line and re.search(PCI[kind], line[1].strip()), done.stderr.decode() + text
    assert done.returncode == 33, text[-3000:]
