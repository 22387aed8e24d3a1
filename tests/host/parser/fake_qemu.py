#!/usr/bin/python3 -IS
# SPDX-License-Identifier: MIT
"""Stands in for QEMU: same sockets, and then whatever the test's script does with them."""
import os
import sys

if "--version" in sys.argv:
    print(f"QEMU emulator version {os.environ.get('FAKE_VERSION', '10.0.13')} (fake)")
    sys.exit(0)

import json  # noqa: E402
import re  # noqa: E402
import socket  # noqa: E402
import threading  # noqa: E402
import time  # noqa: E402


def inherited(name):
    m = re.search(rf"socket,id={name},fd=(\d+)", " ".join(sys.argv))
    return socket.socket(fileno=int(m[1])) if m else None


serial, qmp = inherited("serial"), inherited("qmp")
cmdline = "".join(a[len("name=opt/plumb/cmdline,string="):].replace(",,", ",")
                  for a in sys.argv if a.startswith("name=opt/plumb/cmdline,string="))
with open(os.environ["FAKE_LOG"], "rb") as f:
    log = f.read()


answers = {"query-status": {"status": "running"}}
monitor = answers.update


def serve():
    """Answers like QEMU's monitor, from the table."""
    qmp.sendall(b'{"QMP": {"version": {}, "capabilities": []}}\r\n')
    for line in qmp.makefile():
        ask = json.loads(line)
        value = answers.get(ask.get("arguments", {}).get("command-line", ask["execute"]), {})
        qmp.sendall(json.dumps({"return": value, "id": ask.get("id")}).encode() + b"\r\n")


threading.Thread(target=serve, daemon=True).start()


def event(name, **data):
    qmp.sendall(json.dumps({"event": name, "data": data}).encode() + b"\r\n")


def say(data=log):
    serial.sendall(data)


with open(os.environ["FAKE_SCRIPT"]) as f:
    exec(f.read(), {"say": say, "event": event, "monitor": monitor, "log": log, "cmdline": cmdline, "argv": sys.argv,
                    "exit": os._exit, "sleep": time.sleep, "os": os, "serial": serial, "qmp": qmp})
os._exit(0)
