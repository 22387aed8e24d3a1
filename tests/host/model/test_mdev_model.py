# SPDX-License-Identifier: MIT
"""The models of Linux's sample mdevs, oddities included, and under a client that says anything."""
import os
import random
import struct
from contextlib import ExitStack

import pytest

from plumblib import vgpu_model
from vfio_user import CONFIG, EVENTFD, INTX, UNMASK, Client, Gone, Refused, fired

IER, IIR, LSR = 1, 2, 5


@pytest.fixture
def start(tmp_path, monkeypatch):
    monkeypatch.delenv("PLUMB_VGPU", raising=False)
    with ExitStack() as stack:
        def one(kind, *breaks):
            model = stack.enter_context(vgpu_model.model(kind, breaks, tmp_path / "s"))
            client = Client(model.socket)
            stack.callback(client.close)
            return client, model
        yield one


def test_mtty_loops_back_and_interrupts(start):
    c, _ = start("mtty-2")
    assert c.read(CONFIG, 0, 4) == 0x32534348 and c.read(CONFIG, 0x3d, 1) == 1
    assert c.region(0)[0] == c.region(1)[0] == 8 and c.region(2)[0] == 0
    for port in (0, 1):
        for v in (0x00, 0x5a, 0xff):
            c.write(port, 0, v, 1)
        assert [c.read(port, 0, 1) for _ in range(3)] == [0x00, 0x5a, 0xff]
    event = c.eventfd(INTX)
    c.write(0, IER, 2, 1)                # the transmitter is empty
    assert fired(event, 1.0) and c.read(0, IIR, 1) == 0xc2
    c.write(0, IER, 2, 1)                # masked itself: dropped, not kept
    assert not fired(event, 0.1)
    c.set_irqs(1 | UNMASK, INTX)
    assert not fired(event, 0.1)
    c.write(0, IER, 2, 1)
    assert fired(event, 1.0)


def test_sixteen_bytes_are_none(start):
    """Head and tail meet: the sample says that its FIFO is empty."""
    c, _ = start("mtty")
    for v in range(16):
        assert (c.read(0, LSR, 1) & 1) == (v > 0)
        c.write(0, 0, v, 1)
    assert c.read(0, LSR, 1) & 1 == 0 and not c.read(0, LSR, 1) & 2
    c.write(0, 0, 0, 1)
    assert c.read(0, LSR, 1) & 2         # overrun


def test_no_eventfd_to_unmask_by(start):
    c, _ = start("mtty")
    with pytest.raises(Refused) as no:
        c.eventfd(INTX, action=UNMASK)
    assert no.value.args[0] == 25
    assert c.read(CONFIG, 0, 2) == 0x4348


def test_framebuffers(start):
    c, _ = start("mdpy")
    size, flags, fd = c.region(0)
    assert size == 4 << 20 and flags == 7 and os.fstat(fd).st_size == size
    assert c.read_bytes(CONFIG, 0x44, 4) == b"XR24" and struct.unpack("<II", c.read_bytes(CONFIG, 0x48, 8)) == (1024, 768)
    c.write(0, 0x1000, 0x12345678)
    assert os.pread(fd, 4, 0x1000) == b"\x78\x56\x34\x12"


@pytest.mark.parametrize("seed, kind", enumerate(vgpu_model.SAMPLES))
def test_noise(start, seed, kind):
    rng = random.Random(seed)
    c, model = start(kind)
    event = os.eventfd(0, os.EFD_NONBLOCK)
    plain = os.open("/dev/null", os.O_RDONLY)
    c.fds += [event, plain]
    for _ in range(1500):
        payload = bytes(rng.choice((0, 0, 0, 1, 4, 8, 16, 32, 255, rng.randrange(256))) for _ in range(rng.choice((0, 16, 20, 24, 32, 33))))
        try:
            c.ask(rng.randrange(2, 17), payload, [rng.choice((event, plain))] * rng.choice((0, 0, 1, 2)))
        except Refused:
            pass
    c.set_irqs(EVENTFD | 32, INTX, 0, 1, [event])
    assert c.read(CONFIG, 0, 2) in (0x4348, 0x1b36, 0x1234)
    c.send(bytes(rng.randrange(256) for _ in range(4096)))
    c.sock.settimeout(2)
    try:
        while True:
            c.recv(1)
    except (Gone, TimeoutError):
        pass
    c.close()
    assert model.proc.wait(5) == 0
