# SPDX-License-Identifier: MIT
"""The vGPU model as a vfio-user client sees it: each kind, each trigger, each break, and hostile clients."""
import os
import random
import signal
import struct
import subprocess
import sys
import time

import pytest

from plumblib import UsageError, vgpu_model
from vfio_user import (BOOL, CONFIG, DMA_MAP, DMA_UNMAP, EVENTFD, GET_INFO, GET_IRQ_INFO, GET_REGION_INFO, INTX, MASK, MSI,
                       MSIX, NONE, REGION_READ, REGION_WRITE, REGION_WRITE_MULTI, SET_IRQS, TRIGGER, UNMASK, VERSION,
                       Client, Gone, Refused, fired)

MIB = 1 << 20
REARM = 0x88704
SOON, NEVER = 5.0, 0.15              # seconds: it must come; long enough to say that it does not


# ---- the guest's driver, in short ----

class Pbus:
    """PBUS' software interrupt."""
    def __init__(self, c):
        self.c = c
        c.write(0, 0x160, 1 << 28)
        c.write(0, 0x1140, 1 << 26)

    def raise_it(self):
        self.c.write(0, 0x1150, 1)

    def pending(self):
        return bool(self.c.read(0, 0x1100) & 1 << 26 and self.c.read(0, 0x100) & 1 << 28)

    def ack(self):
        self.c.write(0, 0x1100, 1 << 26)

    def rearm(self):
        self.c.write(0, REARM, 0)


class PmcSoftware(Pbus):
    def __init__(self, c):
        self.c = c
        c.write(0, 0x160, 1 << 31)

    def raise_it(self):
        self.c.write(0, 0x1a0, 1)

    def pending(self):
        return bool(self.c.read(0, 0x100) & 1 << 31)

    def ack(self):
        self.c.write(0, 0x1a0, 0)


class Alarm(Pbus):
    def __init__(self, c):
        self.c = c
        c.write(0, 0x9100, 1)
        c.write(0, 0x9140, 1)
        c.write(0, 0x160, 1 << 20)

    def raise_it(self):
        """Ahead, and looked at again: it compares for equality, one that was passed would take 4 s more."""
        for ahead in (1_000_000, 10_000_000, 100_000_000, 1_000_000_000):
            now = self.c.read(0, 0x9400)
            self.c.write(0, 0x9420, (now + ahead) & 0xffffffe0)
            if (self.c.read(0, 0x9400) - now) & 0xffffffff < ahead or self.c.read(0, 0x9100) & 1:
                return

    def pending(self):
        return bool(self.c.read(0, 0x9100) & 1 and self.c.read(0, 0x100) & 1 << 20)

    def ack(self):
        self.c.write(0, 0x9100, 1)


class Tree(Pbus):
    """The Turing tree's doorbell vector, 129: leaf 4 bit 1, subtree 2."""
    def __init__(self, c):
        self.c = c
        c.write(0, 0x1210, 2)
        c.write(0, 0x1608, 4)

    def raise_it(self):
        self.c.write(0, 0x1640, 129)

    def pending(self):
        return bool(self.c.read(0, 0x1010) & 2 and self.c.read(0, 0x1600) & 4)

    def ack(self):
        self.c.write(0, 0x1010, 2)

    def rearm(self):
        pass


TRIGGERS = {"pbus": ("p40-2a-mdev", Pbus), "alarm": ("p40-2a-mdev", Alarm), "pmc": ("p40-2a-mdev", PmcSoftware),
            "gp102": ("gp102", Pbus), "tree": ("tu-vf", Tree)}


def message(c, vector=0):
    """Enables MSI or MSI-X and gives its eventfd."""
    c.write(CONFIG, 4, 0x0406, 2)
    if c.irq(MSIX)[1]:
        c.write(CONFIG, 0x7e, 0x8000, 2)
        return c.eventfd(MSIX, vector)
    c.write(CONFIG, 0x6a, 0x0001, 2)
    return c.eventfd(MSI, vector)


def sixteen(c, source, fd):
    """How many of sixteen raised, acknowledged, re-armed interrupts arrive."""
    got = 0
    for _ in range(16):
        source.raise_it()
        got += fired(fd, NEVER)
        source.ack()
        source.rearm()
    return got


# ---- what it is ----

def test_kinds(models):
    bars = {"p40-2a-mdev": [16 * MIB, 256 * MIB, 0, 32 * MIB, 0, 0, 0], "gp102": [16 * MIB, 256 * MIB, 0, 32 * MIB, 0, 128, 65536],
            "tu-vf": [MIB // 4, 256 * MIB, 0, 32 * MIB, 0, 0, 0]}
    for kind, sizes in bars.items():
        c, _ = models(kind)
        argsz, flags, regions, irqs = c.info()
        assert (argsz, flags, regions, irqs) == (16, 3, 9, 5)
        assert [c.region(i)[0] for i in range(9)] == sizes + [4096, 0]
        assert [i for i in range(9) if c.region(i)[2] is not None] == [1]      # BAR1 alone is mapped
        intx, msi, msix = (c.irq(i)[1] for i in range(3))
        assert (intx, msi, msix) == ((0, 0, 6) if kind == "tu-vf" else (1, 1, 0))
        assert (c.irq(INTX)[0], c.irq(MSI)[0]) == (7, 9)                       # automasked; no resizing


def test_identity(models):
    for kind, chip, virt in (("p40-2a-mdev", 0x132, 1), ("gp102", 0x132, 0), ("tu-vf", 0x164, 2)):
        c, _ = models(kind)
        assert c.read(0, 0) >> 20 == c.read(0, 0xa00) >> 20 == chip
        assert c.read(0, 4) >> 16 & 3 == virt
    c, _ = models("p40-2a-mdev", options=["--pci-id", "10de:1234", "--subsystem", "10de:abcd"])
    assert c.read(CONFIG, 0) == 0x123410de and c.read(CONFIG, 0x2c) == 0xabcd10de


def test_config(models):
    c, _ = models()
    whole = c.read_bytes(CONFIG, 0, 256)
    assert struct.unpack_from("<HH", whole) == (0x10de, 0x1b38)
    assert whole[0x34] == 0xd0 and whole[0xd1] == 0x68 and whole[0x69] == 0
    assert c.read(CONFIG, 0x3d, 1) == 1
    for off, want in ((0x10, 0xff000000), (0x14, 0xf000000c), (0x18, 0xffffffff), (0x1c, 0xfe000004), (0x24, 0)):
        c.write(CONFIG, off, 0xffffffff)
        assert c.read(CONFIG, off) == want
    c.write(CONFIG, 0x6c, 0xfee01008)
    assert c.read(0, 0x88000 + 0x6c) == 0xfee01008                             # the mirror in BAR0
    c.write(0, 0x88000 + 0x74, 0x41, 2)
    assert c.read(CONFIG, 0x74, 2) == 0x41


def test_memory(models):
    c, _ = models()
    size, flags, fd = c.region(1)
    assert flags == 7
    import mmap
    with mmap.mmap(fd, size) as mem:
        mem[0x1234567:0x123456b] = b"plum"
        assert c.read_bytes(1, 0x1234567, 4) == b"plum"
        c.write(1, size - 8, 0x1122334455667788, 8)
        assert mem[size - 8:] == (0x1122334455667788).to_bytes(8, "little")
    with pytest.raises(OSError):
        os.ftruncate(fd, 4096)                                                 # sealed: we have it mapped too
    c.write(3, 0x1fffffc, 0xdeadbeef)
    assert c.read(3, 0x1fffffc) == 0xdeadbeef
    c, _ = models("p40-2a-mdev", options=["--no-mmap", "--bar1-size", "64K"])
    assert c.region(1) == (65536, 3, None)
    c.write(1, 0xfffc, 7)
    assert c.read(1, 0xfffc) == 7
    c, _ = models("gp102")
    rom = c.read_bytes(6, 0, 65536)
    assert rom[:2] == b"\x55\xaa" and rom[rom[0x18]:][:4] == b"PCIR"
    with pytest.raises(Refused):
        c.write(6, 0, 0)
    for off, value in ((0, 1), (4, 1), (8, 0xa00)):                            # the I/O BAR's window
        c.write(5, off, value)
    assert c.read(5, 0xc) == c.read(0, 0xa00)


def test_several(models):
    """Each is a device of its own."""
    a, b = models()[0], models()[0]
    fa, fb = message(a), message(b)
    a.write(1, 0, 0x11111111)
    b.write(1, 0, 0x22222222)
    sa, sb = Pbus(a), Pbus(b)
    sa.raise_it()
    assert fired(fa, SOON) == 1 and fired(fb, NEVER) == 0 and not sb.pending()
    sb.raise_it()
    assert fired(fb, SOON) == 1 and fired(fa, NEVER) == 0
    assert (a.read(1, 0), b.read(1, 0)) == (0x11111111, 0x22222222)


# ---- interrupts ----

@pytest.mark.parametrize("name", TRIGGERS)
def test_triggers(models, name):
    kind, source = TRIGGERS[name]
    c, _ = models(kind)
    fd, s = message(c), source(c)
    assert not s.pending() and not fired(fd, NEVER)
    s.raise_it()
    assert fired(fd, SOON) == 1 and s.pending()
    s.ack()
    assert not s.pending() and not fired(fd, NEVER)
    s.rearm()
    assert not fired(fd, NEVER)
    assert sixteen(c, s, fd) == 16


def test_rearm(models):
    c, _ = models()
    fd, s = message(c), Pbus(c)
    for want in (1, 0, 0):                                                     # only the first without a re-arm
        s.raise_it()
        assert fired(fd, NEVER) == want
        s.ack()
    s.raise_it()
    for i, write in enumerate((lambda: c.write(0, 0x88068, 0xff, 1), lambda: c.write(0, REARM, 0, 1),
                               lambda: c.write(CONFIG, 0x704, 0))):            # Maxwell's; a byte; through config space
        write()
        assert fired(fd, NEVER) == (i == 2)                                    # still pending: comes at the re-arm
    s.ack()


def test_gates(models):
    c, _ = models()
    fd, s = message(c), Pbus(c)
    c.write(CONFIG, 4, 0x0402, 2)                                              # no Bus Master
    s.raise_it()
    assert s.pending() and not fired(fd, NEVER)
    c.write(CONFIG, 4, 0x0406, 2)
    assert fired(fd, SOON) == 1
    s.ack(), s.rearm()
    c.write(CONFIG, 0x6a, 0, 2)                                                # MSI off
    s.raise_it()
    assert s.pending() and not fired(fd, NEVER)
    c.write(CONFIG, 0x6a, 1, 2)
    assert fired(fd, SOON) == 1
    s.ack(), s.rearm()
    c.write(0, 0x180, 1 << 28)                                                 # PMC's enable off
    s.raise_it()
    assert not fired(fd, NEVER)
    c.write(0, 0x160, 1 << 28)
    assert fired(fd, SOON) == 1
    s.ack(), s.rearm()
    c.set_irqs(NONE | TRIGGER, MSI, 0, 1)                                      # by the client's own hand
    assert fired(fd, SOON) == 1
    c.set_irqs(BOOL | TRIGGER, MSI, 0, 1, data=b"\0")
    assert not fired(fd, NEVER)
    c.set_irqs(NONE | TRIGGER, MSI, 0, 0)                                      # switched off
    s.raise_it()
    assert not fired(fd, NEVER)
    c.set_irqs(EVENTFD | TRIGGER, MSI, 0, 1, [fd])
    assert fired(fd, SOON) == 1                                                # and nothing was lost


@pytest.mark.parametrize("kind", ["p40-2a-mdev", "gp102"])
def test_intx(models, kind):
    c, _ = models(kind)
    fd, s = c.eventfd(INTX), PmcSoftware(c)
    s.raise_it()
    assert fired(fd, SOON) == 1 and c.read(CONFIG, 6, 2) & 8
    s.raise_it()
    assert not fired(fd, NEVER)                                                # masked itself
    c.set_irqs(NONE | UNMASK, INTX)
    assert fired(fd, SOON) == 1                                                # still asserted
    s.ack()
    assert not c.read(CONFIG, 6, 2) & 8
    c.set_irqs(NONE | UNMASK, INTX)
    assert not fired(fd, NEVER)
    c.set_irqs(NONE | MASK, INTX)
    s.raise_it()
    assert not fired(fd, NEVER)
    c.set_irqs(BOOL | UNMASK, INTX, data=b"\0")
    assert not fired(fd, NEVER)
    c.set_irqs(BOOL | UNMASK, INTX, data=b"\1")
    assert fired(fd, SOON) == 1
    unmask = c.eventfd(INTX, action=UNMASK)                                    # as KVM's resampling does it
    os.eventfd_write(unmask, 1)
    assert fired(fd, SOON) == 1
    s.ack()
    os.eventfd_write(unmask, 1)
    c.write(CONFIG, 4, 0x400, 2)                                               # INTx disable
    s.raise_it()
    assert not fired(fd, NEVER)
    c.write(CONFIG, 4, 0, 2)
    assert fired(fd, SOON) == 1
    s.ack()


def test_msix_mask(models):
    c, _ = models("tu-vf")
    fd, s = message(c), Tree(c)
    c.set_irqs(NONE | MASK, MSIX)
    s.raise_it()
    assert not fired(fd, NEVER) and c.read(0, 0x20000) == 1
    s.ack()
    c.set_irqs(NONE | UNMASK, MSIX)
    assert fired(fd, SOON) == 1 and c.read(0, 0x20000) == 0
    c.write(CONFIG, 0x7e, 0xc000, 2)                                           # the whole function
    s.raise_it()
    assert not fired(fd, NEVER) and c.read(0, 0x20000) == 1
    c.write(CONFIG, 0x7e, 0x8000, 2)
    assert fired(fd, SOON) == 1


def test_reset(models):
    c, _ = models()
    fd, s = message(c), Pbus(c)
    s.raise_it()
    assert fired(fd, SOON) == 1
    c.reset()
    assert not s.pending() and c.read(0, 0x140) == 0 and c.read(0, 0x1140) == 0
    assert c.read(CONFIG, 4, 2) == 0 and c.read(CONFIG, 0x6a, 2) == 0x80
    c.write(CONFIG, 4, 0x0406, 2)
    c.write(CONFIG, 0x6a, 1, 2)
    Pbus(c).raise_it()
    assert fired(fd, SOON) == 1                                                # the eventfd outlives it


# ---- PTIMER ----

def ptimer(c, high=0x9410, low=0x9400):
    while True:
        hi = c.read(0, high)
        lo = c.read(0, low)
        if hi == c.read(0, high):
            return hi << 32 | lo


def rate(c, **where):
    """PTIMER against the host's clock: (least, most) seconds a second that the readings allow."""
    for _ in range(20):
        times, values = [], []
        for pause in (0.1, 0):
            times.append(time.monotonic_ns())
            values.append(ptimer(c, **where))
            times.append(time.monotonic_ns())
            time.sleep(pause)
        t0a, t0b, t1a, t1b = times
        least, most = (values[1] - values[0]) / (t1b - t0a), (values[1] - values[0]) / (t1a - t0b)
        if t1b - t0a < 1.2 * (t1a - t0b):                                      # else we were kept waiting: again
            break
    return least, most


def steady(c, **where):
    least, most = rate(c, **where)
    return least <= 1.01 and most >= 0.99


def test_ptimer(models):
    c, _ = models("p40-2a-mdev", options=["--ptimer-start", str(0x3_0000_0000)])
    assert ptimer(c) >> 32 >= 3
    before = 0
    for _ in range(200):
        now = ptimer(c)
        assert now >= before and now % 32 == 0
        before = now
    assert steady(c)
    c, _ = models("tu-vf")
    assert steady(c, high=0x30084, low=0x30080)
    assert c.read(0, 0x9400) >> 16 == 0xbadf


# ---- DMA ----

@pytest.fixture
def ram():
    fd = os.memfd_create("ram")
    os.ftruncate(fd, 16 * MIB)
    yield fd
    os.close(fd)


def test_dma(models, ram):
    c, _ = models("gp102")
    os.pwrite(ram, b"\x78\x56\x34\x12", 0x5010)
    c.dma_map(ram, 0, 16 * MIB)
    c.write(0, 0x1700, 2 << 24)
    assert c.read(0, 0x705010) == 0xffffffff                                   # no Bus Master yet
    c.write(CONFIG, 4, 6, 2)
    assert c.read(0, 0x705010) == 0x12345678
    c.write(0, 0x705014, 0xcafef00d)
    assert os.pread(ram, 4, 0x5014) == b"\x0d\xf0\xfe\xca"
    c.write(0, 0x1700, 3 << 24 | 0xf0)                                         # 0xf00000, not coherent
    c.write(0, 0x700000, 0x01020304)
    assert os.pread(ram, 4, 0xf00000) == b"\x04\x03\x02\x01"
    assert c.read(0, 0x7fffff & ~3) == 0
    c.write(0, 0x1700, 2 << 24 | 0x100)                                        # past the end
    assert c.read(0, 0x700000) == 0xffffffff
    c.dma_unmap(0, 16 * MIB)
    c.write(0, 0x1700, 2 << 24)
    assert c.read(0, 0x705010) == 0xffffffff
    c.write(0, 0x705010, 0)
    assert os.pread(ram, 4, 0x5010) == b"\x78\x56\x34\x12"
    # As a virtual IOMMU would have it: pages, shuffled, one read-only.
    c.dma_map(ram, 0x40000000, 0x1000, 0x9000)
    c.dma_map(ram, 0x40001000, 0x1000, 0x5000, prot=1)
    c.write(0, 0x1700, 2 << 24 | 0x4000)
    assert c.read(0, 0x701010) == 0x12345678
    c.write(0, 0x701010, 0)
    c.write(0, 0x700010, 0x99)
    assert os.pread(ram, 4, 0x5010) == b"\x78\x56\x34\x12" and os.pread(ram, 1, 0x9010) == b"\x99"
    assert c.read(0, 0x702010) == 0xffffffff
    c.write(0, 0x1700, 0)                                                      # video memory is BAR1's
    c.write(0, 0x700040, 0x55667788)
    assert c.read(1, 0x40) == 0x55667788
    # A vGPU has no window.
    c, _ = models("p40-2a-mdev")
    c.dma_map(ram, 0, 16 * MIB)
    c.write(CONFIG, 4, 6, 2)
    c.write(0, 0x1700, 2 << 24)
    assert c.read(0, 0x1700) == 0 and c.read(0, 0x705010) == 0


def test_dma_map_rules(models, ram):
    c, _ = models("gp102")
    c.dma_map(ram, 0x1000, 0x4000)
    for iova, size, offset, prot in ((0x2000, 0x1000, 0, 3), (0, 0x10000, 0, 3), (0x10000, 0, 0, 3), (0x10800, 0x1000, 0, 3),
                                     (0xfffffffffffff000, 0x2000, 0, 3),
                                     (0x10000, 0x1000, 0, 7), (0x10000, 0x1000, 0x7ffffffffffff000, 3)):
        with pytest.raises(Refused):
            c.dma_map(ram, iova, size, offset, prot)
    c.dma_map(None, 0x10000, 0x1000)
    for iova, size in ((0x1000, 0x1000), (0, 0x2000), (0x1000, 0), (0xfffffffffffff000, 0x2000)):
        with pytest.raises(Refused):
            c.dma_unmap(iova, size)
    c.dma_unmap(0x100000, 0x1000)                                              # nothing there
    c.dma_unmap(0, 0x8000)
    c.dma_map(ram, 0x2000, 0x1000)
    c.dma_unmap(0, 0, everything=True)
    c.dma_map(ram, 0, 16 * MIB)
    r, w = os.pipe()
    with pytest.raises(Refused):
        c.dma_map(r, 1 << 30, 0x1000)                                          # no file
    os.close(r), os.close(w)
    os.ftruncate(ram, 0x1000)                                                  # cut short behind its back
    c.write(CONFIG, 4, 6, 2)
    c.write(0, 0x1700, 2 << 24)
    assert c.read(0, 0x700ffc) == 0 and c.read(0, 0x705010) == 0xffffffff


def test_thousands_of_maps(models, ram):
    c, _ = models("gp102")
    order = list(range(4000))
    random.Random(1).shuffle(order)
    for i in order:
        c.dma_map(ram, i * 0x2000, 0x1000, i % 4096 * 0x1000)
    with pytest.raises(Refused):
        c.dma_map(ram, 0x2000, 0x1000)
    c.write(CONFIG, 4, 6, 2)
    os.pwrite(ram, b"\x21\x43", 3999 * 0x1000)
    base = 3999 * 0x2000
    c.write(0, 0x1700, 2 << 24 | base >> 16)
    assert c.read(0, 0x700000 + (base & 0xffff)) == 0x4321
    for i in order:
        c.dma_unmap(i * 0x2000, 0x1000)
    assert c.read(0, 0x700000 + (base & 0xffff)) == 0xffffffff


# ---- what is broken is seen; nothing else is ----

def healthy(c, kind="p40-2a-mdev"):
    """None, or the first thing about it that is not as it should be."""
    whole = c.read_bytes(CONFIG, 0, 256)
    c.reset()
    c.read(CONFIG, 0x3d, 1)
    if c.read(CONFIG, 0) == 0xffffffff:
        return "config"
    if whole[0x34] == 0:
        return "capabilities hidden"
    if c.region(0)[0] != 16 * MIB:
        return "bar0 size"
    if c.read(0, 0) == 0xffffffff:
        return "bar0"
    for bar in (1, 3):
        c.write(bar, 0x100, 0x12345678)
        if c.read(bar, 0x100) != 0x12345678:
            return f"bar{bar}"
    if c.read(0, 0) >> 20 != 0x132 or c.read(0, 0xa00) >> 20 != 0x132:
        return "ids"
    if c.read(0, 4) >> 16 & 3 != (0 if kind == "gp102" else 1):
        return "boot1"
    if c.read(0, 0x9400) >> 16 == 0xbadf and c.read(0, 0x9410) >> 16 == 0xbadf:
        return "unposted"
    if not steady(c):
        speed = rate(c)[0]
        return "ptimer stuck" if speed == 0 else "ptimer back" if speed < 0 else "ptimer fast"
    if not c.irq(MSI)[1]:
        return "no msi"
    if not c.read(CONFIG, 0x3d, 1):
        return "no pin"
    c.write(CONFIG, 0x6c, 0xfee00000)
    if c.read(CONFIG, 0x6c) != 0xfee00000:
        return "msi registers"
    for name, kind_of in (("pbus", Pbus), ("alarm", Alarm), ("pmc", PmcSoftware)):
        source = kind_of(c)
        source.raise_it()
        deadline = time.monotonic() + 1.2
        while not source.pending() and time.monotonic() < deadline:
            time.sleep(0.005)
        if not source.pending():
            return f"no {name}"
        source.ack()
        if source.pending():
            return "stuck pending"
    fd, s = message(c), Pbus(c)
    s.raise_it()
    if not fired(fd):                                                          # it comes before the write's answer
        return "late" if fired(fd, 1) else "no message"
    if fired(fd, 0.25):
        return "double"
    s.ack()
    s.rearm()
    if fired(fd, 0.25):
        return "spurious"
    arrived = sixteen(c, s, fd)
    if arrived != 16:
        return f"{arrived} of 16"
    c.write(CONFIG, 0x6a, 0, 2)
    c.write(CONFIG, 4, 6, 2)
    c.set_irqs(NONE | TRIGGER, MSI, 0, 0)
    pin = c.eventfd(INTX)
    s.raise_it()
    if fired(pin, 1) != 1:
        return "no intx"
    s.ack()
    ram = os.memfd_create("ram")
    c.fds.append(ram)
    os.ftruncate(ram, MIB)
    os.pwrite(ram, b"\x11\x11\x11\x11", 0x2000)
    c.dma_map(ram, 0, MIB)
    c.write(0, 0x1700, 2 << 24)
    if kind == "gp102" and c.read(0, 0x702000) != 0x11111111:
        return "dma dead" if c.read(0, 0x702000) == 0xffffffff else "dma elsewhere"
    return None


BREAKS = {
    "no-trigger": "no pbus", "no-pbus": "no pbus", "no-alarm": "no alarm", "no-pmc-sw": "no pmc",
    "stuck-pending": "stuck pending", "no-msi": "no message", "no-rearm": "0 of 16", "double-msi": "double",
    "lose-msi": "13 of 16", "late-msi": "late", "spurious-msi": "spurious", "wrong-vector": "no message",
    "msi-as-intx": "capabilities hidden", "no-msi-cap": "no msi", "msi-register-stuck": "capabilities hidden",
    "intx-dead": "no intx", "no-intx-pin": "no pin", "bar0-dead": "bar0", "bar1-dead": "bar1", "bar3-dead": "bar3",
    "bar-small": "bar0 size", "config-dead": "config", "id-mismatch": "ids", "boot1-mismatch": "boot1",
    "unposted": "unposted", "ptimer-stuck": "ptimer stuck", "ptimer-back": "ptimer back", "ptimer-fast": "ptimer fast",
    "dma-wrong-page": "dma elsewhere", "dma-dead": "dma dead",
}
APART = {"slow-traps", "die-after", "hang-after"}     # tests of their own, below


@pytest.mark.parametrize("kind", ["p40-2a-mdev", "gp102"])
def test_nothing_broken(models, kind):
    assert healthy(models(kind)[0], kind) is None


@pytest.mark.parametrize("name", BREAKS)
def test_break(models, name):
    kind = "gp102" if name.startswith("dma") else "p40-2a-mdev"
    assert healthy(models(kind, name)[0], kind) == BREAKS[name]


def test_all_breaks_are_tested():
    said = subprocess.run([vgpu_model.binary(), "--list-breaks"], capture_output=True, text=True, timeout=20, check=True)
    assert {line.split()[0].split("=")[0] for line in said.stdout.splitlines()} == set(BREAKS) | APART


def test_wrong_vector(models):
    c, _ = models("tu-vf", "wrong-vector")
    fd, s = message(c), Tree(c)
    other = c.eventfd(MSIX, 1)
    s.raise_it()
    assert fired(other, SOON) == 1 and not fired(fd, NEVER)
    c, _ = models("p40-2a-mdev", "wrong-vector")
    assert c.irq(MSI)[1] == 2
    fd, s = message(c), Pbus(c)
    other = c.eventfd(MSI, 1)
    s.raise_it()
    assert fired(other, SOON) == 1 and not fired(fd, NEVER)


def test_hidden_msi(models):
    """What the VMM must not emulate, its one long read does not show; the guest's short ones do."""
    for name in ("msi-register-stuck", "msi-as-intx"):
        c, _ = models("p40-2a-mdev", name)
        whole = c.read_bytes(CONFIG, 0, 4096)
        assert not whole[6] & 0x10 and not whole[0x34]
        assert c.read(CONFIG, 6, 2) & 0x10 and c.read(CONFIG, 0x34, 1) == 0xd0 and c.read(CONFIG, 0xd1, 1) == 0x68
        pin, s = c.eventfd(INTX), Pbus(c)
        c.write(CONFIG, 4, 6, 2)
        c.write(CONFIG, 0x6a, 1, 2)
        assert c.read(CONFIG, 0x6a, 2) & 1 == (name == "msi-as-intx")
        s.raise_it()
        assert fired(pin, SOON) == 1


def test_no_rearm_on_a_vf(models):
    c, _ = models("tu-vf", "no-rearm")
    assert sixteen(c, Tree(c), message(c)) == 1


def test_bar_small(models):
    assert models("p40-2a-mdev", "bar-small=1")[0].region(1)[0] == 16 * MIB
    with pytest.raises(UsageError):
        models("p40-2a-mdev", "bar-small=5")


def test_config_dead(models):
    c, _ = models("p40-2a-mdev", "config-dead=3")
    assert [c.read(CONFIG, 0) for _ in range(4)] == [0x1b3810de] * 4           # a VMM starts
    c.reset()
    assert [c.read(CONFIG, 0) for _ in range(4)] == [0x1b3810de] * 3 + [0xffffffff]
    assert c.read_bytes(CONFIG, 0, 256)[:4] == b"\xde\x10\x38\x1b" and c.read(CONFIG, 0x3d, 1) == 1


def test_slow_traps(models):
    c, one = models("p40-2a-mdev", "slow-traps=400")
    start = time.monotonic()
    assert c.read(CONFIG, 0) == 0x1b3810de                                     # config space is the VMM's
    assert time.monotonic() - start < 0.3
    for access in (lambda: c.read(0, 0), lambda: c.write(0, 0x1150, 1), lambda: c.read(3, 0)):
        start = time.monotonic()
        access()
        assert 0.4 <= time.monotonic() - start < 3
    c.close()
    assert one.proc.wait(5) == 0
    one = models("p40-2a-mdev", "slow-traps=8000", connect=False)              # ends in the middle of one
    c = Client(one.socket)
    c.send(struct.pack("<HHIIIQII", 1, REGION_READ, 32, 0, 0, 0, 0, 4))
    time.sleep(0.2)
    start = time.monotonic()
    one.proc.terminate()
    assert one.proc.wait(5) == 0 and time.monotonic() - start < 2


def test_die_after(models):
    c, one = models("p40-2a-mdev", "die-after=3")
    for _ in range(3):
        c.read(0, 0)
        c.read(CONFIG, 0)
    with pytest.raises(Gone):
        c.read(0, 0)
    assert one.proc.wait(5) == 3 and not one.socket.exists()


def test_hang_after(models):
    c, one = models("p40-2a-mdev", "hang-after=2")
    c.read(0, 0), c.read(0, 0)
    c.sock.settimeout(0.5)
    with pytest.raises(TimeoutError):
        c.read(0, 0)
    c.close()                                                                  # it notices even so
    assert one.proc.wait(5) == 0


# ---- a client that is not QEMU ----

def alive(c):
    return c.read(CONFIG, 0) == 0x1b3810de


def test_write_multiple(models):
    c, _ = models()
    fd, s = message(c), Pbus(c)
    two = struct.pack("<QIIQ", 0x1140, 0, 4, 1 << 26) + struct.pack("<QIIQ", 0x1150, 0, 4, 1)
    assert c.ask(REGION_WRITE_MULTI, struct.pack("<Q", 2) + two) == struct.pack("<Q", 2)
    assert fired(fd, SOON) == 1
    s.ack()
    bad = struct.pack("<QIIQ", 0x1140, 0, 9, 0) + two
    assert c.ask(REGION_WRITE_MULTI, struct.pack("<Q", 3) + bad) == struct.pack("<Q", 0)
    for payload in (b"", struct.pack("<Q", 3) + two, struct.pack("<Q", 1 << 61) + two, struct.pack("<Q", 1) + two):
        with pytest.raises(Refused):
            c.ask(REGION_WRITE_MULTI, payload)
    one, _ = models(version=False)
    one.version(b'{"capabilities":{}}\0')
    with pytest.raises(Refused):                                               # not negotiated
        one.ask(REGION_WRITE_MULTI, struct.pack("<Q", 2) + two)


def test_version(models):
    c, _ = models(version=False)
    with pytest.raises(Refused):
        c.info()                                                               # before the version
    for text in (b"{}", b"{\0", b"\xff\0", b"[" * 100 + b"]" * 100 + b"\0", b"{}\0\0", b" " * 5000 + b"{}\0"):
        with pytest.raises(Refused):
            c.version(text)
    with pytest.raises(Refused):
        c.version(major=1)
    said = c.version()
    assert said.endswith(b"\0") and b'"write_multiple":true' in said and len(said) <= 160
    with pytest.raises(Refused):
        c.version()                                                            # twice
    assert alive(c)
    c, _ = models(version=False)
    assert c.version(b"") == b""                                               # no capabilities: no answer to them
    assert alive(c)


def test_bad_requests(models, ram):
    """Each is answered with an error, and the device goes on."""
    c, _ = models()
    event = os.eventfd(0)
    r, w = os.pipe()
    u32, u64 = (lambda *v: struct.pack(f"<{len(v)}I", *v)), (lambda *v: struct.pack(f"<{len(v)}Q", *v))
    bad = [
        (0, b"", []), (6, b"", []), (11, b"", []), (14, b"", []), (99, b"x" * 100, []), (65535, b"", []),
        (GET_INFO, b"", []), (GET_INFO, u32(15, 0, 0, 0), []), (GET_INFO, u32(16, 0, 0, 0) + b"x", []),
        (GET_INFO, u32(16, 0, 0, 0), [event]),
        (GET_REGION_INFO, u32(32, 0, 9, 0, 0, 0, 0, 0), []), (GET_REGION_INFO, u32(31, 0, 0, 0, 0, 0, 0, 0), []),
        (GET_REGION_INFO, u32(32, 0, 2**32 - 1, 0, 0, 0, 0, 0), []), (GET_REGION_INFO, u32(32, 0, 0), []),
        (GET_IRQ_INFO, u32(16, 0, 5, 0), []), (GET_IRQ_INFO, u32(0, 0, 0, 0), []), (GET_IRQ_INFO, b"", []),
        (REGION_READ, u64(0) + u32(0, 0), []), (REGION_READ, u64(0) + u32(0, 2**20 + 1), []),
        (REGION_READ, u64(16 * MIB) + u32(0, 4), []), (REGION_READ, u64(16 * MIB - 2) + u32(0, 4), []),
        (REGION_READ, u64(2**64 - 2) + u32(0, 4), []), (REGION_READ, u64(2**64 - 4) + u32(CONFIG, 8), []),
        (REGION_READ, u64(0) + u32(2, 4), []), (REGION_READ, u64(0) + u32(2**31, 4), []), (REGION_READ, u64(4095) + u32(CONFIG, 2), []),
        (REGION_READ, u64(0) + u32(0, 4) + b"x", []), (REGION_READ, b"", []),
        (REGION_WRITE, u64(0) + u32(0, 4) + b"xxx", []), (REGION_WRITE, u64(0) + u32(0, 4) + b"xxxxx", []),
        (REGION_WRITE, u64(0) + u32(0, 0), []), (REGION_WRITE, u64(0) + u32(0, 2**32 - 16), []),
        (REGION_WRITE, u64(4096) + u32(CONFIG, 1) + b"x", []), (REGION_WRITE, b"short", []),
        (SET_IRQS, u32(20, EVENTFD | TRIGGER, MSI, 0, 2), [event, event]), (SET_IRQS, u32(20, EVENTFD | TRIGGER, MSI, 1, 1), [event]),
        (SET_IRQS, u32(20, EVENTFD | TRIGGER, MSI, 0, 1), [event, event]), (SET_IRQS, u32(20, EVENTFD | TRIGGER, 5, 0, 1), [event]),
        (SET_IRQS, u32(20, EVENTFD | TRIGGER, MSI, 2**32 - 1, 2), [event]), (SET_IRQS, u32(20, EVENTFD | TRIGGER, MSI, 0, 2**32 - 1), []),
        (SET_IRQS, u32(20, EVENTFD | TRIGGER, MSI, 0, 1), [w]), (SET_IRQS, u32(20, EVENTFD | TRIGGER, MSI, 0, 1), [ram]),
        (SET_IRQS, u32(20, EVENTFD | BOOL | TRIGGER, MSI, 0, 1), []), (SET_IRQS, u32(20, NONE | TRIGGER | MASK, MSI, 0, 1), []),
        (SET_IRQS, u32(20, NONE, MSI, 0, 1), []), (SET_IRQS, u32(20, TRIGGER, MSI, 0, 1), []), (SET_IRQS, u32(20, 2**31 | NONE | TRIGGER, MSI, 0, 1), []),
        (SET_IRQS, u32(20, NONE | MASK, MSI, 0, 1), []), (SET_IRQS, u32(20, BOOL | TRIGGER, MSI, 0, 1), []),
        (SET_IRQS, u32(20, NONE | TRIGGER, MSI, 0, 1), [event]), (SET_IRQS, u32(20, EVENTFD | MASK, INTX, 0, 1), [event]),
        (SET_IRQS, u32(20, NONE | TRIGGER, MSIX, 0, 1), []), (SET_IRQS, b"", []),
        (DMA_MAP, u32(32, 3) + u64(0, 0, 4096), [ram, ram]), (DMA_MAP, b"", []), (DMA_MAP, u32(32, 3) + u64(0, 0), [ram]),
        (DMA_UNMAP, b"", []), (DMA_UNMAP, u32(24, 1) + u64(0, 4096), []), (VERSION, b"", []), (13, b"x", []),
    ]
    for command, payload, fds in bad:
        with pytest.raises(Refused) as e:
            c.ask(command, payload, fds)
        assert 0 < e.value.args[0] < 200
        assert alive(c)
    for fd in (event, r, w):
        os.close(fd)


def test_no_reply_wanted(models):
    c, _ = models()
    c.send(struct.pack("<HHIIIQIII", 7, REGION_WRITE, 36, 0x10, 0, 0x1140, 0, 4, 5))
    assert c.read(0, 0x1140) == 5


def test_bad_streams(models):
    """What cannot be a message ends the connection and, cleanly, the process."""
    for data in (struct.pack("<HHIII", 1, GET_INFO, 15, 0, 0), struct.pack("<HHIII", 1, GET_INFO, 0, 0, 0),
                 struct.pack("<HHIII", 1, REGION_WRITE, 2**21, 0, 0), struct.pack("<HHIII", 1, GET_INFO, 2**32 - 1, 0, 0),
                 struct.pack("<HHIII", 1, GET_INFO, 16, 1, 0), struct.pack("<HHIII", 1, GET_INFO, 16, 0xf, 0), b"\xff" * 64):
        c, one = models()
        c.send(data)
        with pytest.raises(Gone):
            c.reply()
        assert one.proc.wait(5) == 0 and not one.socket.exists()


def test_too_many_fds(models):
    c, one = models()
    c.send(struct.pack("<HHIIIIIIII", 1, SET_IRQS, 36, 0, 0, 20, EVENTFD | TRIGGER, MSI, 0, 9), [0] * 9)
    with pytest.raises(Gone):
        c.reply()
    assert one.proc.wait(5) == 0


def test_slow_client(models):
    """A message in single bytes, one in two halves; a reply that is not fetched."""
    c, one = models()
    ask = struct.pack("<HHIIIQII", 9, REGION_READ, 32, 0, 0, 0, CONFIG, 4)
    for b in ask:
        c.send(bytes([b]))
    assert c.reply()[2][16:] == b"\xde\x10\x38\x1b"
    c.send(ask[:20])
    time.sleep(0.05)
    c.send(ask[20:] + ask)                                                     # and the next right behind
    assert c.reply()[2] == c.reply()[2]
    big = struct.pack("<HHIIIQII", 9, REGION_READ, 32, 0, 0, 0, 3, MIB)
    for _ in range(8):
        c.send(big)
    time.sleep(0.3)
    assert one.proc.poll() is None
    for _ in range(8):
        assert len(c.reply()[2]) == 16 + MIB
    for _ in range(8):
        c.send(big)
    c.close()                                                                  # gone with all of it on the way
    assert one.proc.wait(5) == 0


def test_full_eventfd(models):
    """An eventfd at its limit, blocking: the model does not wait for it."""
    c, _ = models()
    message(c)
    fd = os.eventfd(0)
    c.fds.append(fd)
    os.eventfd_write(fd, 2**64 - 2)
    c.set_irqs(EVENTFD | TRIGGER, MSI, 0, 1, [fd])
    Pbus(c).raise_it()
    assert alive(c)


@pytest.mark.parametrize("seed", range(6))
def test_noise(models, seed):
    """Random messages with right lengths; the process stays whole whatever it makes of them."""
    rng = random.Random(seed)
    c, one = models(["p40-2a-mdev", "gp102", "tu-vf", "gm204", "tu104", "gh100"][seed])
    event = os.eventfd(0, os.EFD_NONBLOCK)
    c.fds.append(event)
    for _ in range(1500):
        payload = bytes(rng.choice((0, 0, 0, 1, 4, 8, 16, 32, 255, rng.randrange(256))) for _ in range(rng.choice((0, 16, 20, 24, 32, 33))))
        try:
            c.ask(rng.randrange(2, 17), payload, [event] * rng.choice((0, 0, 1, 2)))
        except Refused:
            pass
    assert c.read(CONFIG, 0, 2) == 0x10de
    c.send(bytes(rng.randrange(256) for _ in range(4096)))
    c.sock.settimeout(2)
    try:
        while True:
            c.recv(1)
    except (Gone, TimeoutError):
        pass
    c.close()
    assert one.proc.wait(5) == 0


# ---- the process ----

def test_ends(models, tmp_path):
    one = models(connect=False)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        one = models(connect=False)
        one.proc.send_signal(number)
        assert one.proc.wait(5) == 0 and not one.socket.exists()
    c, one = models()
    c.close()
    assert one.proc.wait(5) == 0 and not one.socket.exists()


def test_one_client(models):
    _, one = models()
    with pytest.raises(ConnectionRefusedError):
        Client(one.socket)


def test_parent_death(models, tmp_path):
    """It does not outlive whoever started it, even by SIGKILL."""
    path = tmp_path / "orphan"
    starter = subprocess.Popen([sys.executable, "-c", f"""
import subprocess, sys, time
p = subprocess.Popen([{str(vgpu_model.binary())!r}, "--socket", {str(path)!r}], stdout=subprocess.PIPE)
p.stdout.readline()
print(p.pid, flush=True)
time.sleep(60)
"""], stdout=subprocess.PIPE, text=True)
    pid = int(starter.stdout.readline())
    assert path.exists()
    starter.kill()
    starter.wait()
    starter.stdout.close()
    deadline = time.monotonic() + 5
    while (path.exists() or os.path.exists(f"/proc/{pid}")) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not path.exists()


def test_path_taken(models):
    c, one = models()
    with pytest.raises(UsageError, match="does not start"):
        with vgpu_model.model("gp102", socket=one.socket, stderr=subprocess.DEVNULL):
            pass
    assert one.socket.exists() and alive(c)                                    # the first one is as it was


def test_usage(models, tmp_path):
    run = [str(vgpu_model.binary())]
    for args in ([], ["--socket"], ["--socket", "/tmp/x", "--kind", "p41"], ["--socket", "/tmp/x", "--break", "nothing"],
                 ["--socket", "/tmp/x", "--bar1-size", "100M"], ["--socket", "/tmp/x", "--bar1-size", "-4096"],
                 ["--socket", "/tmp/x", "--bar0-size", "99999999G"], ["--socket", "/tmp/x", "--pci-id", "1b38"],
                 ["--socket", "/tmp/x", "more"], ["--no-such"]):
        done = subprocess.run(run + args, capture_output=True, text=True, timeout=20)
        assert done.returncode == 2 and "vgpu" in done.stderr, args
    done = subprocess.run(run + ["--socket", "/" + "x" * 200], capture_output=True, text=True, timeout=20)
    assert done.returncode == 1 and "longer" in done.stderr
    done = subprocess.run(run + ["--socket", str(tmp_path / "no" / "such")], capture_output=True, text=True, timeout=20)
    assert done.returncode == 1
    for args in (["--help"], ["--list-kinds"], ["--list-breaks"]):
        assert subprocess.run(run + args, capture_output=True, timeout=20).returncode == 0


def test_not_built(monkeypatch, tmp_path):
    monkeypatch.setenv("PLUMB_VGPU", str(tmp_path / "nothing"))
    with pytest.raises(UsageError, match="make models"):
        with vgpu_model.model("gp102", socket=tmp_path / "s"):
            pass
    monkeypatch.setenv("PLUMB_VGPU", "/bin/true")
    with pytest.raises(UsageError, match="does not start"):
        with vgpu_model.model("gp102", socket=tmp_path / "s"):
            pass
    with pytest.raises(UsageError, match="shorter"):
        with vgpu_model.model("gp102", socket=tmp_path / ("x" * 120)):
            pass


def test_nothing_left(models, tmp_path):
    with vgpu_model.model("gp102", socket=tmp_path / "left") as one:
        pass
    assert one.proc.returncode == 0 and not (tmp_path / "left").exists()
    with pytest.raises(RuntimeError):
        with vgpu_model.model("gp102", socket=tmp_path / "left") as one:
            raise RuntimeError
    assert one.proc.returncode == 0 and not (tmp_path / "left").exists()
