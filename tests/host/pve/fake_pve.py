#!/usr/bin/python3 -S
# SPDX-License-Identifier: MIT
"""Stands in for qm, pvesh and pvesm (by its name): keeps VMs in a folder, records every call.

A started VM is a process behind a UNIX socket as qemu-server's, `server=on,wait=off`: what it says before
somebody listens is lost. It is a real QEMU with plumb in it (FAKE_QEMU: how to start one) or plays a script
(FAKE_SCRIPT). FAKE_FAIL="qm start=text;…" makes calls fail, FAKE_SLOW="qm create=2;…" makes them slow.
"""
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

DIR = Path(os.environ["FAKE_PVE"])
ME = Path(sys.argv[0]).name
NODE = os.uname().nodename.split(".")[0]


def die(text):
    print(text, file=sys.stderr)
    sys.exit(255)


def flags(words):
    """--key value pairs"""
    return {words[i].lstrip("-"): words[i + 1] for i in range(0, len(words) - 1, 2)}


class Vm:
    def __init__(self, vmid):
        self.vmid, self.file = vmid, DIR / f"{vmid}.json"
        self.pidfile, self.serial, self.qmp = DIR / f"{vmid}.pid", DIR / f"{vmid}.serial0", DIR / f"{vmid}.qmp"
        self.resumed = DIR / f"{vmid}.resumed"

    @property
    def conf(self):
        if not self.file.exists():
            die(f"Configuration file 'nodes/{NODE}/qemu-server/{self.vmid}.conf' does not exist")
        return json.loads(self.file.read_text())

    def save(self, conf):
        self.file.write_text(json.dumps(conf))

    def pid(self):
        try:
            pid = int(self.pidfile.read_text())
            with open(f"/proc/{pid}/stat") as f:
                return 0 if f.read().rpartition(")")[2].split()[0] == "Z" else pid
        except (OSError, ValueError):
            return 0

    def state(self):
        if not self.pid():
            return "stopped"
        return "prelaunch" if self.conf.get("freeze") == "1" and not self.resumed.exists() else "running"

    def create(self, conf):
        if self.file.exists():
            die(f"unable to create VM {self.vmid} - VM {self.vmid} already exists on node '{NODE}'")
        self.save(conf)

    def start(self):
        conf = self.conf
        if self.pid():
            die(f"VM {self.vmid} already running")
        for path in (self.serial, self.qmp, self.resumed):
            path.unlink(missing_ok=True)
        if os.environ.get("FAKE_QEMU"):
            argv = shlex.split(os.environ["FAKE_QEMU"])
            argv += ["-qmp", f"unix:{self.qmp},server=on,wait=off", "-m", "512", "-smp", conf.get("cores", "1")]
            if conf.get("serial0") == "socket":
                argv += ["-chardev", f"socket,id=serial0,path={self.serial},server=on,wait=off",
                         "-device", "isa-serial,chardev=serial0"]
            argv += ["-S"] if conf.get("freeze") == "1" else []
            argv += shlex.split(conf.get("args", ""))
        else:
            argv = [sys.executable, __file__, "play", self.vmid]
        with open(DIR / f"{self.vmid}.out", "wb") as out:
            proc = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True)
        self.pidfile.write_text(str(proc.pid))
        made = self.serial if conf.get("serial0") == "socket" else self.qmp
        end = time.monotonic() + 20
        while not made.exists():
            if proc.poll() is not None or time.monotonic() > end:
                die("start failed: QEMU exited with code 1: " + (DIR / f"{self.vmid}.out").read_text()[-300:])
            time.sleep(0.002)

    def stop(self):
        pid = self.pid()
        if pid:
            os.kill(pid, signal.SIGKILL)
            end = time.monotonic() + 5
            while self.pid() and time.monotonic() < end:
                time.sleep(0.02)

    def resume(self):
        if not self.pid():
            die(f"VM {self.vmid} not running")
        if os.environ.get("FAKE_QEMU"):
            self.ask("cont")
        self.resumed.touch()

    def ask(self, command, **arguments):
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(10)
            s.connect(str(self.qmp))
            f = s.makefile("rwb", buffering=0)
            f.readline()
            for message in ({"execute": "qmp_capabilities"}, {"execute": command, "arguments": arguments}):
                f.write(json.dumps(message).encode() + b"\n")
                while "event" in (answer := json.loads(f.readline())):
                    pass
            return answer.get("return")

    def monitor(self, command):
        if not self.pid():
            return f"ERROR: VM {self.vmid} not running\n"
        if os.environ.get("FAKE_QEMU"):
            return self.ask("human-monitor-command", **{"command-line": command})
        return f"{command}: nothing to see\r\n"

    def destroy(self):
        if self.pid():
            die(f"VM {self.vmid} is running - destroy failed")
        self.file.unlink()


def play(vmid):
    """A VM that does what a script says. A byte said while nobody is connected is gone."""
    vm = Vm(vmid)
    server = socket.socket(socket.AF_UNIX)
    tmp = Path(f"{vm.serial}.new")
    tmp.unlink(missing_ok=True)
    server.bind(str(tmp))
    server.listen(1)
    tmp.rename(vm.serial)
    client = []

    def poll(seconds=0.0):
        if not client:
            server.settimeout(max(seconds, 0.001))
            try:
                client.append(server.accept()[0])
            except socket.timeout:
                pass

    def say(data):
        poll()
        if client:
            client[0].sendall(data)

    def sleep(seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            poll(0.01)
            time.sleep(0.01)

    while vm.conf.get("freeze") == "1" and not vm.resumed.exists():
        sleep(0.01)
    log = Path(os.environ["FAKE_LOG"]).read_bytes()
    exec(Path(os.environ["FAKE_SCRIPT"]).read_text(), {"say": say, "sleep": sleep, "log": log, "os": os})


def qm(args):
    what, rest = args[0], args[1:]
    vm = Vm(rest[0])
    if what == "create":
        vm.create(flags(rest[1:]))
    elif what == "config":
        for key, value in sorted(vm.conf.items()):
            print(f"{key}: {value.replace(' ', '%20') if key == 'description' else value}")
    elif what == "set":
        conf = {**vm.conf, **flags(rest[1:])}
        conf.pop(conf.pop("delete", ""), None)
        vm.save(conf)
    elif what == "status":
        assert vm.conf is not None
        print(f"status: {vm.state()}")
    elif what == "importdisk":
        vm.save({**vm.conf, "unused0": f"{rest[2]}:vm-{rest[0]}-disk-0"})
        print(f"unused0: successfully imported disk '{rest[2]}:vm-{rest[0]}-disk-0'")
    elif what in ("start", "stop", "resume", "destroy"):
        getattr(vm, what)()
    else:
        die(f"unknown command 'qm {what}'")


def pvesh(args):
    verb, path, opts = args[0], args[1].strip("/").split("/"), flags(args[2:])
    table = DIR / "api.json"
    api = json.loads(table.read_text()) if table.exists() else {}
    if args[1] in api:
        out = api[args[1]]
    elif path == ["cluster", "nextid"]:
        out = str(next(n for n in range(100, 999) if not (DIR / f"{n}.json").exists()))
    elif path == ["nodes"]:
        out = [{"node": NODE, "status": "online"}]
    elif path[2] == "storage":
        folder = DIR / "storage" / path[1] / path[3]
        if not folder.is_dir():
            die(f"storage '{path[3]}' does not exist")
        if verb == "get":
            out = [{"volid": f"{path[3]}:iso/{p.name}"} for p in folder.iterdir()]
        else:
            os.rename(opts["tmpfilename"], folder / opts["filename"])
            out = "UPID:x"
    elif path[2] == "qemu" and len(path) == 3:
        Vm(opts["vmid"]).create({k: v for k, v in opts.items() if k not in ("vmid", "output-format")})
        out = None
    else:
        vm, what = Vm(path[3]), "/".join(path[4:])
        if verb == "delete":
            out = vm.destroy()
        elif what == "config":
            out = vm.conf
        elif what == "status/current":
            out = {"status": "running" if vm.pid() else "stopped", "qmpstatus": vm.state()}
        elif what == "monitor":
            out = vm.monitor(opts["command"])
        else:
            out = getattr(vm, path[-1])()
    print(json.dumps(out))


def main():
    if sys.argv[1] == "play":
        return play(sys.argv[2])
    call = " ".join([ME, *sys.argv[1:]])
    with open(DIR / "calls", "a") as f:
        f.write(call + "\n")
    for key, act in (("FAKE_SLOW", lambda v: time.sleep(float(v))), ("FAKE_FAIL", die)):
        for entry in filter(None, os.environ.get(key, "").split(";")):
            prefix, _, value = entry.partition("=")
            if prefix in call:
                act(value)
    {"qm": qm, "pvesh": pvesh}.get(ME, lambda _args: die("what?"))(sys.argv[1:])


main()
