# SPDX-License-Identifier: MIT
"""QEMU's control socket, as far as a runner needs it: events, and a look at a guest that hangs."""
from __future__ import annotations

import json
import socket
import time

MAX_REPLY = 16 << 20


class Qmp:
    """Non-blocking: feed() is called when the socket has bytes. A QEMU that never answers is no error."""

    def __init__(self, sock: socket.socket):
        self.sock = sock
        self.pending = b""
        self.events: list[tuple[str, dict]] = []
        self.replies: dict[int, dict] = {}
        self.next_id = 0
        self.greeted = False
        self.open = True
        sock.setblocking(False)

    def feed(self) -> None:
        try:
            data = self.sock.recv(65536)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data or len(self.pending) > MAX_REPLY:
            self.open = False
            return
        *lines, self.pending = (self.pending + data).split(b"\n")
        for line in lines:
            try:
                message = json.loads(line)
            except ValueError:
                continue
            if not isinstance(message, dict):
                continue
            if "QMP" in message:
                self.greeted = True
                self.send("qmp_capabilities")
            elif "event" in message:
                self.events.append((str(message["event"]), message.get("data") or {}))
            elif isinstance(message.get("id"), int):
                self.replies[message["id"]] = message

    def send(self, command: str, **arguments) -> int:
        self.next_id += 1
        message = {"execute": command, "id": self.next_id, **({"arguments": arguments} if arguments else {})}
        try:
            self.sock.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            pass  # it has gone; what it said before is still to be read, and feed() sees the end
        return self.next_id

    def ask(self, command: str, seconds: float = 3, **arguments):
        """The answer's value, None if there is none in time."""
        end = time.monotonic() + seconds
        self.replies.clear()
        ident = None
        while self.open and time.monotonic() < end:
            self.feed()
            if self.greeted and ident is None:
                ident = self.send(command, **arguments)
            if ident in self.replies:
                return self.replies[ident].get("return")
            time.sleep(0.005)
        return None

    def monitor(self, line: str, seconds: float = 3) -> str:
        said = self.ask("human-monitor-command", seconds, **{"command-line": line})
        return said.replace("\r\n", "\n") if isinstance(said, str) else "(no answer)\n"


def evidence(qmp: Qmp, cpus: int = 8) -> str:
    """What a hanging machine looks like, for the log's side file."""
    if not qmp.open or qmp.ask("query-status") is None:
        return "QEMU's monitor does not answer\n"
    text = ""
    for line in ["info status", "info registers -a", *(f"info lapic {n}" for n in range(cpus)), "info pic"]:
        said = qmp.monitor(line)
        if line.startswith("info lapic") and "APIC state" not in said and "dumping" not in said:
            break  # no such CPU
        text += f"==== {line}\n{said}\n"
    return text
