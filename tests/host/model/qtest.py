# SPDX-License-Identifier: MIT
"""A QEMU without a guest: its qtest protocol reads and writes ports and memory as a CPU would."""
import os
import selectors
import socket
import subprocess
import time


class Qtest:
    """Context manager. qemu: plumblib's Qemu; args: everything but the accelerator and the qtest socket."""

    def __init__(self, qemu, args, stderr):
        ours, theirs = socket.socketpair()
        ours.settimeout(30)
        self.sock, self.buf, self.irqs = ours, b"", []
        self.proc = subprocess.Popen(
            [*qemu.argv, "-nodefaults", "-no-user-config", "-display", "none", "-accel", "qtest",
             "-chardev", f"socket,id=qtest,fd={theirs.fileno()}", "-qtest", "chardev:qtest", "-qtest-log", "none", *args],
            stdin=subprocess.DEVNULL, stdout=stderr, stderr=stderr, pass_fds=[theirs.fileno()], env={**os.environ, **qemu.env})
        theirs.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.sock.close()
        self.proc.kill()
        self.proc.wait(10)

    def _line(self):
        while b"\n" not in self.buf:
            data = self.sock.recv(65536)
            if not data:
                raise RuntimeError("QEMU is gone")
            self.buf += data
        line, self.buf = self.buf.split(b"\n", 1)
        return line.decode().split()

    def ask(self, *words):
        self.sock.sendall((" ".join(w if isinstance(w, str) else hex(w) for w in words) + "\n").encode())
        while True:
            got = self._line()
            if got[0] == "IRQ":
                self.irqs.append((got[1], int(got[2])))
            elif got[0] == "OK":
                return int(got[1], 16) if len(got) > 1 else None
            else:
                raise RuntimeError(" ".join(got))

    def irq(self, seconds=5.0):
        """The next (raise or lower, GSI), None if there is none in time."""
        end = time.monotonic() + seconds
        with selectors.DefaultSelector() as sel:
            sel.register(self.sock, selectors.EVENT_READ)
            while not self.irqs:
                if b"\n" not in self.buf and not sel.select(max(0, end - time.monotonic())):
                    return None
                got = self._line()
                self.irqs.append((got[1], int(got[2])))
        return self.irqs.pop(0)

    def config(self, rid, off, value=None, n=4):
        self.ask("outl", 0xcf8, 0x80000000 | rid << 8 | off & 0xfc)
        port = 0xcfc + (off & 3)
        size = {1: "b", 2: "w", 4: "l"}[n]
        return self.ask(f"in{size}", port) if value is None else self.ask(f"out{size}", port, value)

    def read(self, addr, n=4):
        return self.ask({1: "readb", 2: "readw", 4: "readl", 8: "readq"}[n], addr)

    def write(self, addr, value, n=4):
        self.ask({1: "writeb", 2: "writew", 4: "writel", 8: "writeq"}[n], addr, value)

    def wait(self, addr, value, seconds=5.0):
        """Does this doubleword of memory become value in time?"""
        end = time.monotonic() + seconds
        while self.read(addr) != value:
            if time.monotonic() > end:
                return False
            time.sleep(0.002)
        return True
