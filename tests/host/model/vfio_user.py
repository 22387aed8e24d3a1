# SPDX-License-Identifier: MIT
"""A small vfio-user client: what QEMU says to a device, and what no good client says."""
import array
import os
import select
import socket
import struct

(VERSION, DMA_MAP, DMA_UNMAP, GET_INFO, GET_REGION_INFO, GET_REGION_IO_FDS, GET_IRQ_INFO, SET_IRQS, REGION_READ,
 REGION_WRITE, DMA_READ, DMA_WRITE, DEVICE_RESET) = range(1, 14)
REGION_WRITE_MULTI = 15
CONFIG = 7
INTX, MSI, MSIX = 0, 1, 2
NONE, BOOL, EVENTFD, MASK, UNMASK, TRIGGER = 1, 2, 4, 8, 16, 32
CAPABILITIES = (b'{"capabilities": {"migration": {"pgsize": 4096, "max_bitmap_size": 268435456}, "max_msg_fds": 16,'
                b' "max_data_xfer_size": 1048576, "pgsizes": 4096, "max_dma_maps": 65535, "write_multiple": true}}\0')


class Refused(Exception):
    """The server answered with an error; args[0] is its errno."""


class Gone(Exception):
    """The server closed the connection."""


class Client:
    def __init__(self, path, timeout=10.0, version=True):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(timeout)
        self.sock.connect(str(path))
        self.next_id = 1
        self.fds = []
        if version:
            self.version()

    def close(self):
        self.sock.close()
        for fd in self.fds:
            os.close(fd)
        self.fds = []

    # ---- messages ----

    def send(self, data, fds=()):
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        try:
            self.sock.sendmsg([data], rights)
        except (BrokenPipeError, ConnectionResetError):
            raise Gone from None

    def recv(self, n):
        out = b""
        while len(out) < n:
            try:
                data, anc, _, _ = self.sock.recvmsg(n - len(out), socket.CMSG_SPACE(16 * 4))
            except ConnectionResetError:
                raise Gone from None
            for level, kind, raw in anc:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    got = array.array("i")
                    got.frombytes(raw[:len(raw) - len(raw) % got.itemsize])
                    self.fds += got
            if not data:
                raise Gone
            out += data
        return out

    def reply(self):
        """(id, command, payload)"""
        number, command, size, flags, error = struct.unpack("<HHIII", self.recv(16))
        assert flags & 0xf == 1
        payload = self.recv(size - 16)
        if flags & 0x20:
            assert not payload
            raise Refused(error)
        return number, command, payload

    def ask(self, command, payload=b"", fds=()):
        number = self.next_id = self.next_id % 65535 + 1
        self.send(struct.pack("<HHIII", number, command, 16 + len(payload), 0, 0) + payload, fds)
        got = self.reply()
        assert got[:2] == (number, command)
        return got[2]

    # ---- commands ----

    def version(self, text=CAPABILITIES, major=0):
        got = self.ask(VERSION, struct.pack("<HH", major, 0) + text)
        assert struct.unpack("<HH", got[:4]) == (0, 0)
        return got[4:]

    def info(self):
        return struct.unpack("<IIII", self.ask(GET_INFO, struct.pack("<IIII", 16, 0, 0, 0)))

    def region(self, index):
        """(size, flags, fd or None)"""
        before = len(self.fds)
        got = struct.unpack("<IIIIQQ", self.ask(GET_REGION_INFO, struct.pack("<IIIIQQ", 32, 0, index, 0, 0, 0)))
        return got[4], got[1], self.fds[before] if len(self.fds) > before else None

    def irq(self, index):
        """(flags, count)"""
        got = struct.unpack("<IIII", self.ask(GET_IRQ_INFO, struct.pack("<IIII", 16, 0, index, 0)))
        return got[1], got[3]

    def set_irqs(self, flags, index, start=0, count=1, fds=(), data=b""):
        return self.ask(SET_IRQS, struct.pack("<IIIII", 20 + len(data), flags, index, start, count) + data, fds)

    def read_bytes(self, region, off, n):
        got = self.ask(REGION_READ, struct.pack("<QII", off, region, n))
        assert len(got) == 16 + n
        return got[16:]

    def read(self, region, off, n=4):
        return int.from_bytes(self.read_bytes(region, off, n), "little")

    def write(self, region, off, value, n=4):
        self.ask(REGION_WRITE, struct.pack("<QII", off, region, n) + value.to_bytes(n, "little"))

    def dma_map(self, fd, iova, size, offset=0, prot=3):
        self.ask(DMA_MAP, struct.pack("<IIQQQ", 32, prot, offset, iova, size), [] if fd is None else [fd])

    def dma_unmap(self, iova, size, everything=False):
        self.ask(DMA_UNMAP, struct.pack("<IIQQ", 24, 2 if everything else 0, iova, size))

    def reset(self):
        self.ask(DEVICE_RESET)

    # ---- shorthands ----

    def eventfd(self, index, vector=0, action=TRIGGER):
        """A new eventfd for an interrupt."""
        fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.fds.append(fd)
        self.set_irqs(EVENTFD | action, index, vector, 1, [fd])
        return fd


def fired(fd, seconds=0.0):
    """How often an eventfd was signalled since the last look; waits for the first."""
    if not select.select([fd], [], [], seconds)[0]:
        return 0
    return os.eventfd_read(fd)
