# SPDX-License-Identifier: MIT
"""A VM of Proxmox VE, here by qm or on any node by pvesh: made, started, stopped, destroyed."""
from __future__ import annotations

import re
import secrets
import shlex
import time
from dataclasses import dataclass, field

from .. import UsageError
from ..cmdline import LIMIT, without
from .tools import ToolError, Tools, check_vmid, local_node

STOP = 60.0                          # seconds for a VM to be gone
RING = 4 << 20                       # bytes of the ring that holds a report on another node: all of it
MARK = "made by plumb, run "         # in the description: what we may destroy
# A machine's own options; disks, networks and identities stay with the VM they belong to.
LIKE = re.compile(r"(machine|bios|cpu|cores|sockets|vcpus|memory|numa\d*|vga|hostpci\d+|balloon|scsihw|ostype|hugepages|"
                  r"acpi|kvm|tablet|rng0|affinity|arch)\Z")
HOSTPCI = re.compile(r"[0-9A-Za-z:.;,=_-]{2,200}\Z")


class LocalVm:
    """Through qm."""

    def __init__(self, tools: Tools, vmid: str):
        self.tools, self.vmid, self.node = tools, check_vmid(vmid), local_node()

    def config(self) -> dict:
        """Its options; a description comes URL-encoded."""
        out = {}
        for line in self.tools.ask("qm", "config", self.vmid).splitlines():
            key, sep, value = line.partition(": ")
            if sep and re.match(r"[a-z][a-z0-9-]*\Z", key):
                out[key] = value.strip()
        return out

    def status(self) -> str:
        """stopped, running, prelaunch, paused, internal-error, …"""
        return self.tools.ask("qm", "status", self.vmid).partition("status:")[2].strip() or "unknown"

    def create(self, options: list) -> None:
        self.tools.do("qm", "create", self.vmid, *_flags(options))

    def set(self, *options: str) -> None:
        self.tools.do("qm", "set", self.vmid, *options)

    def start(self) -> None:
        self.tools.do("qm", "start", self.vmid)

    def resume(self) -> None:
        self.tools.do("qm", "resume", self.vmid)

    def stop(self) -> None:
        self.tools.do("qm", "stop", self.vmid, "--skiplock", "1", seconds=STOP)

    def destroy(self) -> None:
        self.tools.do("qm", "destroy", self.vmid, "--purge", "1")

    def monitor(self, command: str, seconds: float = 30) -> str:
        return _monitor(self, command, seconds)


class NodeVm:
    """Through pvesh, on any node of the cluster."""

    def __init__(self, tools: Tools, vmid: str, node: str):
        self.tools, self.vmid, self.node = tools, check_vmid(vmid), node
        self.path = f"/nodes/{node}/qemu/{vmid}"

    def config(self) -> dict:
        found = self.tools.ask_json("pvesh", "get", f"{self.path}/config") or {}
        return {str(k): str(v) for k, v in found.items()}

    def status(self) -> str:
        found = self.tools.ask_json("pvesh", "get", f"{self.path}/status/current") or {}
        return str(found.get("qmpstatus") or found.get("status") or "unknown")

    def create(self, options: list) -> None:
        self.tools.do("pvesh", "create", f"/nodes/{self.node}/qemu", "--vmid", self.vmid, *_flags(options))

    def start(self) -> None:
        self.tools.do("pvesh", "create", f"{self.path}/status/start")

    def resume(self) -> None:
        self.tools.do("pvesh", "create", f"{self.path}/status/resume")

    def stop(self) -> None:
        self.tools.do("pvesh", "create", f"{self.path}/status/stop", "--skiplock", "1", seconds=STOP)

    def destroy(self) -> None:
        self.tools.do("pvesh", "delete", self.path, "--purge", "1")

    def monitor(self, command: str, seconds: float = 30) -> str:
        return _monitor(self, command, seconds)


def _flags(options: list) -> list:
    return [word for key, value in options for word in (f"--{key}", value)]


def _monitor(vm, command: str, seconds: float) -> str:
    """QEMU's monitor by way of the API: works from every node. HMP's text, lines ended by \\r\\n."""
    said = vm.tools.ask_json("pvesh", "create", f"/nodes/{vm.node}/qemu/{vm.vmid}/monitor", "--command", command,
                             seconds=seconds)
    if not isinstance(said, str) or said.startswith("ERROR: "):
        raise ToolError(f"VM {vm.vmid}: monitor: {str(said)[7:200].strip()}")
    return said


def gone(vm, seconds: float) -> bool:
    """Whether the VM is stopped, or becomes so in time."""
    end = time.monotonic() + seconds
    while True:
        if vm.status() == "stopped":
            return True
        if time.monotonic() > end:
            return False
        time.sleep(0.5)


# ---- a VM made for plumb ----

@dataclass
class Machine:
    """What the user asks of it; empty: Proxmox VE's own default."""
    q35: bool = False
    ovmf: bool = False
    viommu: str = ""                 # intel, virtio
    cores: int = 4
    memory: int = 1024               # MiB
    cpu: str = ""
    hostpci: list = field(default_factory=list)      # as in the configuration: 0000:01:00.0,mdev=nvidia-55
    net: str = ""                    # virtio,bridge=vmbr0
    storage: str = "local-lvm"       # of the EFI variables
    like: dict = field(default_factory=dict)         # another VM's configuration
    more: list = field(default_factory=list)         # KEY=VALUE, as the user has them


def check(m: Machine) -> None:
    """What Proxmox VE would refuse later, or what would not be the machine asked for."""
    if m.viommu not in ("", "intel", "virtio"):
        raise UsageError(f"viommu={m.viommu}: intel or virtio")
    if m.viommu == "intel" and not m.q35:
        raise UsageError("viommu=intel needs --q35")
    for text in m.hostpci:
        if not HOSTPCI.match(text):
            raise UsageError(f"hostpci {text!r}: as in `qm config`, for example 0000:01:00.0,mdev=nvidia-55")
        if "pcie=1" in text.split(",") and not m.q35:
            raise UsageError(f"hostpci {text}: pcie=1 needs --q35")


def options(m: Machine, cdrom: str, cmdline: str, mark: str, ring: bool) -> list:
    """(key, value) for `qm create`. ring: no serial socket, but a ring that the monitor reads."""
    check(m)
    if len(cmdline.encode()) > LIMIT or not all(" " <= c < "\x7f" for c in cmdline):
        raise UsageError(f"the guest command line: at most {LIMIT} characters of ASCII")
    out: dict = {"name": "plumb", "description": f"{MARK}{mark}", "ostype": "l26"}
    if m.like:
        out.update({k: v for k, v in m.like.items() if LIKE.match(k)})
    else:
        out["machine"] = ("q35" if m.q35 else "pc") + (f",viommu={m.viommu}" if m.viommu else "")
        out["bios"] = "ovmf" if m.ovmf else "seabios"
        out["cores"], out["memory"] = str(m.cores), str(m.memory)
        if m.cpu:
            out["cpu"] = m.cpu
    for n, text in enumerate(m.hostpci):
        out[f"hostpci{n}"] = text
    if out.get("bios") == "ovmf":  # enrolled keys are Secure Boot: it refuses a program that nobody signed
        out["efidisk0"] = f"{m.storage}:1,efitype=4m,pre-enrolled-keys=0"
    if m.net:
        out["net0"] = m.net
    if cdrom:
        out["ide2"], out["boot"] = f"{cdrom},media=cdrom", "order=ide2"
    args = []
    if ring:  # it goes when QEMU does: the guest must not switch the machine off
        cmdline = f"{without(cmdline, 'exit')} exit=halt".strip()
    if cmdline:
        args += ["-fw_cfg", "name=opt/plumb/cmdline,string=" + cmdline.replace(",", ",,")]
    if ring:
        args += ["-chardev", f"ringbuf,id=plumb,size={RING}", "-device", "isa-serial,chardev=plumb"]
    else:
        out["serial0"], out["freeze"] = "socket", "1"  # the CPUs wait until somebody reads: nothing is lost
    if args:
        out["args"] = " ".join(shlex.quote(a) for a in args)
    for text in m.more:
        key, sep, value = text.partition("=")
        if not sep or not re.match(r"[a-z][a-z0-9-]*\Z", key):
            raise UsageError(f"--set {text}: KEY=VALUE, as `qm set` knows them")
        out[key] = value
    return list(out.items())


def next_vmid(tools: Tools) -> str:
    try:
        return check_vmid(str(tools.ask_json("pvesh", "get", "/cluster/nextid")))
    except ToolError:
        if tools.dry:
            return "999999999"  # nobody to ask; it shows only in what is printed
        raise


def new_mark() -> str:
    return secrets.token_hex(8)


def is_mine(vm, mark: str) -> bool:
    """Whether that VM carries our mark: another's is never destroyed, whatever happened in between."""
    try:
        return mark in vm.config().get("description", "")
    except ToolError:
        return False


def remove(vm, mark: str) -> str:
    """Stops and destroys a VM of ours, whatever its state. What is left behind, in words; empty: nothing."""
    if vm.tools.dry:
        vm.stop()
        vm.destroy()
        return ""
    if not is_mine(vm, mark):
        return ""
    left = halt(vm)
    try:
        vm.destroy()
        return ""
    except ToolError as e:
        return left or f"VM {vm.vmid} is still there: {e}"


def halt(vm) -> str:
    """Stops it if it runs. What is left behind, in words; empty: nothing."""
    if vm.tools.dry:
        vm.stop()
        return ""
    last = ""
    for _ in range(3):  # a start that was under way may hold its lock
        try:
            if vm.status() == "stopped":
                return ""
            vm.stop()
            if gone(vm, 10):
                return ""
        except ToolError as e:
            last = str(e)
            time.sleep(1)
    return f"VM {vm.vmid} still runs: {last or 'it does not stop'}"

