#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Linux's sample mdevs (samples/vfio-mdev: mtty, mdpy, mbochs) over vfio-user, for a stock QEMU 10.1 or newer; edu as a
device that a host assigns, which reaches memory by the VMM's maps; and doorbell, a device of up to 32 MSI messages.

So that the guest's mdev tests run where no kernel module can be loaded. It behaves as those drivers do, oddities
included, and not better. The command line is that of build/models/vgpu, so that a machine profile can name it:

    PLUMB_VGPU=tests/mdev/model.py   and in the profile   vgpu = ["mtty:intx-dead id=mtty0,bus=pci.0,addr=10.0"]
"""
import argparse
import array
import mmap
import os
import signal
import socket
import struct
import sys

BREAKS = {
    "edu": {},
    "doorbell": {"dead": "no message is ever sent", "lose": "every eleventh message is lost",
                 "one-message": "all go by message 0", "next": "each goes by the next message"},
    "mtty": {"intx-dead": "no interrupt is ever signalled", "lose": "every eleventh interrupt is lost",
             "double": "each interrupt comes twice", "stuck-bit": "bit 3 of each byte that comes back is 0",
             "swap": "the FIFO gives the newest byte first", "shallow": "the FIFO holds 8",
             "no-overrun": "an overrun is not shown"},
    "mdpy": {"no-mmap": "BAR0 is trapped: the sample writes each word to its beginning",
             "alias": "the upper half of the memory is the lower half", "bad-mode": "a mode of width 0",
             "small-bar": "BAR0 is half of what the mode needs"},
    "mbochs": {"bad-id": "the display interface has another ID", "stuck-xres": "XRES keeps no value",
               "alias": "the upper half of the memory is the lower half", "wrong-size": "it names half of its memory"},
}
VERSION, DMA_MAP, DMA_UNMAP, GET_INFO, REGION_INFO, _, IRQ_INFO, SET_IRQS, READ, WRITE = range(1, 11)
RESET = 13
CONFIG = 7
MESSAGE_MAX = 1 << 20


class Device:
    """Configuration space and the BARs that it names; a kind adds what is behind them."""
    pin = 0

    def __init__(self, breaks):
        self.breaks = breaks
        self.config = bytearray(256)
        self.sizes = {}                  # BAR -> size
        self.memory = {}                 # BAR -> (fd, size) that the client maps
        self.maps = {}                   # IOVA -> (size, fd, offset, flags), as the client has them
        self.intx = None                 # eventfd
        self.masked = False
        self.messages = []               # of MSI: the eventfd of each, or None

    def ids(self, vendor, device, class_code, revision, subvendor=0, subdevice=0):
        struct.pack_into("<HHHH", self.config, 0, vendor, device, 1, 0)
        struct.pack_into("<I", self.config, 8, class_code << 8 | revision)
        struct.pack_into("<HH", self.config, 0x2c, subvendor, subdevice)
        self.config[0x3d] = self.pin

    def bar(self, n, size, flags):
        self.sizes[n] = size
        struct.pack_into("<I", self.config, 0x10 + 4 * n, flags)

    def config_write(self, off, data):
        n, at = divmod(off - 0x10, 4)
        if 0 <= n < 6 and at == 0 and len(data) == 4 and n in self.sizes:
            low = self.config[off] & 0xf
            value = int.from_bytes(data, "little") & ~(self.sizes[n] - 1) & 0xffffffff
            struct.pack_into("<I", self.config, off, value | low)
        elif off == 0x3c:
            self.config[0x3c] = data[0]
        elif off == 4:
            self.config[4:4 + len(data)] = data

    def read(self, bar, off, count):
        return b"\xff" * count

    def write(self, bar, off, data):
        pass

    def signal(self):
        if self.intx is not None and not self.masked and "intx-dead" not in self.breaks:
            self.masked = True
            try:
                os.eventfd_write(self.intx, 1)
            except OSError:
                pass                     # not an eventfd, or one that is full


class Port:
    def __init__(self, dev):
        self.dev, self.breaks = dev, dev.breaks
        self.fifo, self.reg = [], bytearray(8)
        self.full = self.max = 16
        self.level, self.overrun, self.dlab, self.count = 0, False, False, 0

    def trigger(self):
        self.count += 1
        if "lose" in self.breaks and self.count % 11 == 0:
            return
        self.dev.signal()
        if "double" in self.breaks:
            self.dev.again = True

    def empty(self):
        return len(self.fifo) in (0, 16)         # head and tail meet at 16 too

    def get(self):
        v = 0
        if not self.empty():
            v = self.fifo.pop(-1 if "swap" in self.breaks else 0)
        if self.empty() and self.reg[1] & 2:
            self.trigger()
        return v & ~8 if "stuck-bit" in self.breaks else v

    def put(self, v):
        if len(self.fifo) < min(self.max, 8 if "shallow" in self.breaks else 16):
            self.fifo.append(v)
            self.overrun = False
            if self.reg[1] & 1 and len(self.fifo) == self.level:
                self.trigger()
        else:
            self.overrun = "no-overrun" not in self.breaks
            if self.reg[1] & 4:
                self.trigger()

    def read(self, off):
        if off == 0:
            return 0 if self.dlab else self.get()
        if off == 1:
            return self.reg[1] & 0x0f
        if off == 2:
            ier, v = self.reg[1], 0
            v |= 6 if ier & 4 and self.overrun else 0
            v |= 4 if ier & 1 and len(self.fifo) >= self.level else 0
            v |= 2 if ier & 2 and self.empty() else 0
            return (v or 1) | 0xc0
        if off == 5:
            return (0x60 if self.empty() else 1) | (2 if self.overrun else 0)
        return self.reg[off]

    def write(self, off, v):
        if off == 0 and not self.dlab:
            self.put(v)
        elif off == 1 and not self.dlab:
            self.reg[1] = v
            if v & 2 and self.empty():
                self.trigger()
        elif off == 2:
            if v & 6:
                self.fifo.clear()
            self.level, self.max = 1, 16 if v & 1 else 1
        elif off == 3:
            self.dlab = bool(v & 0x80)
            self.reg[3] = v
        elif off == 4:
            self.reg[4] = v
            for bits in (8, 3):
                if self.reg[1] & 8 and v & bits:
                    self.trigger()
        elif off == 7:
            self.reg[7] = v


class Mtty(Device):
    pin = 1

    def __init__(self, breaks, ports=1):
        super().__init__(breaks)
        self.ids(0x4348, 0x3253, 0x070002, 0x10, 0x4348, 0x3253)
        self.ports = [Port(self) for _ in range(ports)]
        self.again = False
        for n in range(ports):
            self.bar(n, 8, 1)

    def read(self, bar, off, count):
        return bytes([self.ports[bar].read(off)]) + bytes(count - 1)

    def write(self, bar, off, data):
        self.ports[bar].write(off, data[0])

    def unmasked(self):
        if self.again:
            self.again = False
            self.signal()


class Frame(Device):
    """Memory that the client maps; with `alias` in two halves that are one."""

    def frame(self, size):
        fd = os.memfd_create("frame")
        os.ftruncate(fd, size)
        self.map = mmap.mmap(fd, size)
        self.size = size
        if not {"no-mmap", "alias"} & self.breaks:
            self.memory[0] = (fd, size)
        self.bar(0, size, 8)

    def at(self, off):
        return off % (self.size // 2) if "alias" in self.breaks else off

    def read(self, bar, off, count):
        off = 0 if "no-mmap" in self.breaks else self.at(off)
        return self.map[off:off + count]

    def write(self, bar, off, data):
        off = 0 if "no-mmap" in self.breaks else self.at(off)
        self.map[off:off + len(data)] = data


class Mdpy(Frame):
    def __init__(self, breaks):
        super().__init__(breaks)
        self.ids(0x1b36, 0x000f, 0x038000, 1, 0x1af4, 0x1100)
        self.config[6] = 0x10
        self.config[0x34] = 0x40
        self.config[0x40:0x43] = bytes([9, 0, 0x10])
        struct.pack_into("<4sII", self.config, 0x44, b"XR24", 0 if "bad-mode" in breaks else 1024, 768)
        self.frame((2 if "small-bar" in breaks else 4) << 20)


class Mbochs(Frame):
    def __init__(self, breaks):
        super().__init__(breaks)
        self.ids(0x1234, 0x1111, 0x038000, 1, 0x1af4, 0x1100)
        self.frame(4 << 20)
        self.bar(2, 4096, 0)
        self.vbe = [0] * 11
        self.vbe[0] = 0xb0c4 if "bad-id" in breaks else 0xb0c5
        self.vbe[10] = self.size >> 16 >> ("wrong-size" in breaks)

    def read(self, bar, off, count):
        if bar == 0:
            return super().read(bar, off, count)
        if count == 2 and 0x500 <= off < 0x516:
            return struct.pack("<H", self.vbe[(off - 0x500) // 2])
        return bytes(count)

    def write(self, bar, off, data):
        if bar == 0:
            super().write(bar, off, data)
        elif len(data) == 2 and 0x500 <= off < 0x516 and not ("stuck-xres" in self.breaks and off == 0x502):
            self.vbe[(off - 0x500) // 2] = int.from_bytes(data, "little")


class Edu(Device):
    """
    QEMU's edu (docs/specs/edu), as a device that a host assigns: it reaches what the client has mapped for it, so
    that under a virtual IOMMU it sees not the guest's tables but what the VMM has made of them. INTx and MSI: none.
    """
    REVISION = 0x51                      # what the guest tells it by
    BUF, SIZE = 0x40000, 4096

    def __init__(self, breaks):
        super().__init__(breaks)
        self.ids(0x1234, 0x11e8, 0x00ff00, self.REVISION, 0x1af4, 0x1100)
        self.bar(0, 1 << 20, 0)
        self.reg = bytearray(0xa0)
        self.buf = bytearray(self.SIZE)

    def read(self, bar, off, count):
        if off == 0:
            return struct.pack("<I", 0x010000ed)[:count]
        if off == 4:
            return bytes(0xff ^ b for b in self.reg[4:8])[:count]
        return bytes(self.reg[off:off + count]).ljust(count, b"\0")

    def write(self, bar, off, data):
        if off + len(data) > len(self.reg):
            return
        self.reg[off:off + len(data)] = data
        if off == 0x98 and data[0] & 1:
            self.run(data[0])
            self.reg[0x98] &= 0xfe

    def run(self, cmd):
        src, dst, count = struct.unpack_from("<QQQ", self.reg, 0x80)
        if not self.config[4] & 4:
            return
        if cmd & 2 and self.BUF <= src and src + count <= self.BUF + self.SIZE:
            self.reach(dst, self.buf[src - self.BUF:src - self.BUF + count], True)
        elif not cmd & 2 and self.BUF <= dst and dst + count <= self.BUF + self.SIZE:
            self.buf[dst - self.BUF:dst - self.BUF + count] = self.reach(src, bytes(count), False)

    def reach(self, at, data, write):
        """As far as the maps allow, page by page; what is read elsewhere is all ones."""
        out = bytearray(b"\xff" * len(data))
        done = 0
        while done < len(data):
            n = min(len(data) - done, 4096 - (at + done) % 4096)
            for start, (size, fd, offset, flags) in self.maps.items():
                if start <= at + done < start + size and flags & (2 if write else 1) and fd is not None:
                    if write:
                        os.pwrite(fd, data[done:done + n], offset + at + done - start)
                    else:
                        out[done:done + n] = os.pread(fd, n, offset + at + done - start)
            done += n
        return bytes(out)


class Doorbell(Device):
    """
    As many MSI messages as a function can have, each sent when it is rung. Its registers, 32 bits each:

        0x00  identity, 0xbe110001           0x08  rung and not acknowledged, a bit a message
        0x04  write N: ring N                0x0c  acknowledge: ones clear those bits

    A message that it has not been granted (Enable, Multiple Message Enable, Bus Master) is not sent: it shares none.
    """
    MSI = 0x40

    def __init__(self, breaks, count=32, wide=True, maskable=True):
        super().__init__(breaks)
        self.ids(0x1234, 0xbe11, 0x00ff00, 1, 0x1af4, 0x1100)
        self.bar(0, 4096, 0)
        self.config[6] = 0x10
        self.config[0x34] = self.MSI
        self.control = (count.bit_length() - 1) << 1 | wide << 7 | maskable << 8
        struct.pack_into("<BBH", self.config, self.MSI, 5, 0, self.control)
        self.messages = [None] * count
        self.rung = self.rings = 0

    def config_write(self, off, data):
        super().config_write(off, data)
        for n, v in enumerate(data):
            if off + n == self.MSI + 2:          # Enable and Multiple Message Enable
                self.config[off + n] = self.control & 0xff | v & 0x71

    def read(self, bar, off, count):
        return struct.pack("<I", {0: 0xbe110001, 8: self.rung}.get(off, 0))[:count]

    def write(self, bar, off, data):
        v = int.from_bytes(data, "little")
        if off == 12:
            self.rung &= ~v
        elif off == 4:
            self.ring(v)

    def ring(self, n):
        control = self.config[self.MSI + 2]
        self.rung |= 1 << n % 32
        if not (control & 1 and self.config[4] & 4 and n < min(1 << (control >> 4 & 7), len(self.messages))):
            return
        self.rings += 1
        if "dead" in self.breaks or "lose" in self.breaks and self.rings % 11 == 0:
            return
        by = 0 if "one-message" in self.breaks else n + ("next" in self.breaks)
        if by < len(self.messages) and self.messages[by] is not None:
            os.eventfd_write(self.messages[by], 1)


KINDS = {"doorbell": Doorbell, "doorbell-16": lambda breaks: Doorbell(breaks, 16, False, False), "edu": Edu, "mtty": Mtty, "mtty-2": lambda breaks: Mtty(breaks, 2), "mdpy": Mdpy, "mbochs": Mbochs}


class Server:
    def __init__(self, dev, conn):
        self.dev, self.conn, self.fds = dev, conn, []

    def take(self, n):
        data = b""
        while len(data) < n:
            part, anc, _, _ = self.conn.recvmsg(n - len(data), socket.CMSG_SPACE(32 * 4))
            for level, kind, raw in anc:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    got = array.array("i")
                    got.frombytes(raw[:len(raw) - len(raw) % got.itemsize])
                    self.fds += got
            if not part:
                raise EOFError
            data += part
        return data

    def drop_fds(self):
        for fd in self.fds:
            os.close(fd)
        self.fds = []

    def answer(self, msg, cmd, body=b"", fd=None, error=0):
        head = struct.pack("<HHIII", msg, cmd, 16 + len(body), 1 | (0x20 if error else 0), error)
        anc = [] if fd is None else [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))]
        self.conn.sendmsg([head, body], anc)

    def run(self):
        while True:
            msg, cmd, size, flags, _ = struct.unpack("<HHIII", self.take(16))
            if not 16 <= size <= MESSAGE_MAX:
                return
            body = self.take(size - 16)
            try:
                reply, fd = self.handle(cmd, body)
                if not flags & 0x10:
                    self.answer(msg, cmd, reply, fd)
            except (struct.error, IndexError, KeyError, ValueError):
                self.answer(msg, cmd, error=22)
            except NotImplementedError:
                self.answer(msg, cmd, error=25)      # ENOTTY
            self.drop_fds()

    def handle(self, cmd, body):
        dev = self.dev
        if cmd == VERSION:
            return struct.pack("<HH", 0, 0) + b'{"capabilities":{}}\0', None
        if cmd == GET_INFO:
            return struct.pack("<IIII", 16, 3, 9, 5), None
        if cmd == REGION_INFO:
            index = struct.unpack_from("<I", body, 8)[0]
            size = 256 if index == CONFIG else dev.sizes.get(index, 0)
            fd = dev.memory.get(index, (None,))[0]
            flags = (3 if size else 0) | (4 if fd is not None else 0)
            return struct.pack("<IIIIQQ", 32, flags, index, 0, size, 0), fd
        if cmd == IRQ_INFO:
            index = struct.unpack_from("<I", body, 8)[0]
            count = (1 if dev.pin else 0, len(dev.messages), 0, 0, 0)[index]
            return struct.pack("<IIII", 16, 7 if index == 0 and count else 1, index, count), None
        if cmd == SET_IRQS:
            self.irqs(*struct.unpack_from("<IIIII", body)[1:])
            return b"", None
        if cmd == READ:
            off, region, count = struct.unpack_from("<QII", body)
            if count > MESSAGE_MAX:
                raise ValueError(count)
            data = bytes(dev.config[off:off + count]) if region == CONFIG else dev.read(region, off, count)
            return body[:16] + data.ljust(count, b"\xff"), None
        if cmd == WRITE:
            off, region, count = struct.unpack_from("<QII", body)
            (dev.config_write if region == CONFIG else lambda o, d: dev.write(region, o, d))(off, body[16:16 + count])
            return body[:16], None
        if cmd == RESET:
            return b"", None
        if cmd == DMA_MAP:
            flags, offset, start, size = struct.unpack_from("<IQQQ", body, 4)
            dev.maps[start] = size, self.fds.pop(0) if self.fds else None, offset, flags
            return b"", None
        if cmd == DMA_UNMAP:
            flags, start, size = struct.unpack_from("<IQQ", body, 4)
            for at in [m for m in dev.maps if flags & 2 or start <= m < start + size]:
                if dev.maps[at][1] is not None:
                    os.close(dev.maps[at][1])
                del dev.maps[at]
            return body[:24], None
        raise ValueError(cmd)

    def irqs(self, flags, index, start, count):
        dev = self.dev
        if index == 1 and flags & 0x20 and start + count <= len(dev.messages):
            which = range(start, start + count) if count else range(len(dev.messages))
            for n, m in enumerate(which):
                if dev.messages[m] is not None:
                    os.close(dev.messages[m])
                # Without fds, or beyond them: taken away.
                dev.messages[m] = self.fds[n] if flags & 4 and n < len(self.fds) else None
                if dev.messages[m] is not None:
                    os.set_blocking(dev.messages[m], False)
            self.fds = self.fds[count if flags & 4 else 0:]
        if index != 0 or start:
            return
        if flags & 4 and flags & 24:
            raise NotImplementedError("the samples take no eventfd to mask or unmask by: KVM's fast INTx is not for them")
        if flags & 0x20 and flags & 4 and self.fds:          # trigger by eventfd
            os.set_blocking(self.fds[0], False)
            if dev.intx is not None:
                os.close(dev.intx)
            dev.intx, dev.masked = self.fds.pop(0), False
        elif flags & 0x20 and count == 0:
            if dev.intx is not None:
                os.close(dev.intx)
            dev.intx = None
        elif flags & 8:
            dev.masked = True
        elif flags & 16:
            dev.masked = False
            if isinstance(dev, Mtty):
                dev.unmasked()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kind", choices=KINDS, default="mtty")
    parser.add_argument("--socket")
    parser.add_argument("--break", dest="breaks", action="append", default=[])
    parser.add_argument("--list-breaks", action="store_true")
    args = parser.parse_args()
    known = BREAKS[args.kind.partition("-")[0]]
    if args.list_breaks:
        for kind, names in BREAKS.items():
            for name, what in names.items():
                print(f"{kind:9}{name:12}{what}")
        return 0
    breaks = {b for text in args.breaks for b in text.split(",")}
    if not args.socket or breaks - set(known):
        parser.error(f"--socket, and breaks of {' '.join(known)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    server = socket.socket(socket.AF_UNIX)
    server.bind(args.socket)
    server.listen(1)
    print(f"{args.kind} at {args.socket}", flush=True)
    conn, _ = server.accept()
    os.unlink(args.socket)
    try:
        Server(KINDS[args.kind](breaks), conn).run()
    except (EOFError, ConnectionError):
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
