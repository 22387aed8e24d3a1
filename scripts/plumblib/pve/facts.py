# SPDX-License-Identifier: MIT
"""What is known of a Proxmox VE host: from the host itself, from recorded files, or from a node's API.

Each fact is None where nobody could tell: "not known" is never "fine".
"""
from __future__ import annotations

import os
import re
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from .. import UsageError
from .tools import ToolError, Tools

MAX_BYTES = 32 << 20
SERVICES = ("nvidia-vgpud", "nvidia-vgpu-mgr")
# Name in a recorded folder -> words one of which a file's name must hold (the shortest name wins).
FILES = {"cmdline": ("cmdline",), "dmesg": ("dmesg", "kernel-log"), "modules": ("modules", "lsmod"),
         "groups": ("iommu-groups", "iommu_groups"), "mdev": ("mdevctl", "mdev-types"), "services": ("services",),
         "override": ("profile_override",), "unlock": ("vgpu_unlock-config", "vgpu_unlock_config"),
         "secureboot": ("secureboot",), "journal": ("journal",), "nvidia": ("nvidia-version",),
         "release": ("pveversion",)}
BDF = r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]"


@dataclass
class Device:
    ids: str = ""                    # 10de:1c03
    kind: str = ""                   # class, six hex digits
    driver: str = ""                 # "" where none is bound, or not known
    known: bool = False              # ids and class are


@dataclass
class MdevType:
    parent: str
    type: str
    name: str = ""
    available: int = 0


@dataclass
class Facts:
    where: str
    cmdline: str = None
    dmesg: str = None
    modules: set = None
    groups: dict = None              # device -> group
    devices: dict = field(default_factory=dict)      # device -> Device
    mdev: list = None
    services: dict = None            # name -> systemd's ActiveState
    override: str = None             # profile_override.toml
    unlock: str = None               # vgpu_unlock's config.toml
    secureboot: bool = None
    journal: str = None
    nvidia: str = None               # version of the loaded driver; "" where it is not loaded
    release: str = None


# ---- a host ----

def live(root: Path = Path("/")) -> Facts:
    here = root == Path("/")
    f = Facts("this host" if here else str(root))
    f.cmdline = _read(root / "proc/cmdline")
    f.modules = _modules(_read(root / "proc/modules"))
    f.dmesg = (_said("journalctl", "-k", "-b", "-o", "short-monotonic", "--no-pager")
               or _said("dmesg")) if here else None
    f.journal = _said("journalctl", "-b", "-t", "nvidia-vgpu-mgr", "-t", "nvidia-vgpud", "-t", "pvedaemon", "-t",
                      "qm",
                      "-t", "QEMU", "-n", "4000", "--no-pager") if here else None
    f.services = {s: _said("systemctl", "show", "-p", "LoadState,ActiveState,Result", s)
                  for s in SERVICES} if here else None
    if f.services is not None:
        f.services = {s: _state(t) for s, t in f.services.items()} if all(t is not None for t in f.services.values()) else None
    f.override = _read(root / "etc/vgpu_unlock/profile_override.toml")
    f.unlock = _read(root / "etc/vgpu_unlock/config.toml")
    f.nvidia = _read(root / "proc/driver/nvidia/version") or ""
    f.release = _said("pveversion") if here else None
    sysfs = root / "sys"
    if (sysfs / "kernel/iommu_groups").is_dir():
        f.groups = {d.name: g.name for g in (sysfs / "kernel/iommu_groups").iterdir()
                    for d in _dir(g / "devices")}
    for d in _dir(sysfs / "bus/pci/devices"):
        ids = [(_read(d / n) or "").strip().replace("0x", "") for n in ("vendor", "device", "class")]
        driver = os.path.basename(os.readlink(d / "driver")) if (d / "driver").is_symlink() else ""
        f.devices[d.name] = Device(f"{ids[0]}:{ids[1]}", ids[2], driver, bool(ids[0]))
    if (sysfs / "bus/pci/devices").is_dir():
        f.mdev = [_mdev(d.name, t) for d in _dir(sysfs / "bus/pci/devices") for t in _dir(d / "mdev_supported_types")]
    f.secureboot = _efivar(sysfs / "firmware")
    return f


def _read(path: Path):
    try:
        with open(path, "rb") as f:
            return f.read(MAX_BYTES).decode("utf-8", "replace")
    except OSError:
        return None


def _dir(path: Path) -> list:
    try:
        return sorted(path.iterdir())
    except OSError:
        return []


def _said(*argv: str):
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                              timeout=30, env={**os.environ, "LC_ALL": "C"})
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout[:MAX_BYTES].decode("utf-8", "replace") if done.returncode == 0 else None


def _modules(text) -> set:
    return None if text is None else {line.split()[0].replace("-", "_") for line in text.splitlines() if line.split()}


def _state(text: str) -> str:
    said = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    if said.get("LoadState") == "not-found":
        return "not installed"
    state = said.get("ActiveState", "unknown")
    # nvidia-vgpud of some releases does its work and ends.
    return "done" if state == "inactive" and said.get("Result") == "success" else state


def _mdev(parent: str, t: Path) -> MdevType:
    count = (_read(t / "available_instances") or "").strip()
    return MdevType(parent, t.name, (_read(t / "name") or "").strip(), int(count) if count.isdigit() else 0)


def _efivar(firmware: Path):
    if not (firmware / "efi").is_dir():
        return False if firmware.is_dir() else None  # no UEFI, no Secure Boot
    for var in _dir(firmware / "efi/efivars"):
        if var.name.startswith("SecureBoot-"):
            try:
                return var.read_bytes()[4:5] == b"\1"  # after four bytes of attributes
            except OSError:
                return None
    return None


# ---- recorded files ----

def recorded(folder: Path) -> Facts:
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder")
    names = sorted((p for p in _dir(folder) if p.is_file()), key=lambda p: (len(p.name), p.name))
    found = {key: next((_read(p) for p in names if any(w in p.name for w in words)), None)
             for key, words in FILES.items()}
    if not any(v is not None for v in found.values()):
        raise UsageError(f"{folder}: no recorded file; one needs a name such as dmesg.txt, mdevctl-types.txt, cmdline.txt")
    f = Facts(str(folder))
    f.dmesg, f.cmdline, f.override, f.unlock = (found[k] for k in ("dmesg", "cmdline", "override", "unlock"))
    f.journal, f.nvidia, f.release = found["journal"], found["nvidia"], found["release"]
    f.modules = _modules(found["modules"])
    f.mdev = None if found["mdev"] is None else mdevctl_types(found["mdev"])
    if found["services"] is not None:
        f.services = dict(line.split(None, 1) for line in found["services"].splitlines()
                          if len(line.split(None, 1)) == 2)
        f.services = {k: v.strip() for k, v in f.services.items()}
    if found["secureboot"] is not None:
        f.secureboot = {"on": True, "off": False}.get(found["secureboot"].strip().lower())
    if found["groups"] is not None:
        f.groups = {}
        for m in re.finditer(rf"^(\d+) ({BDF})(?: (\S+) ([0-9a-f]{{6}}) ?(\S*))?$", found["groups"], re.M):
            f.groups[m[2]] = m[1]
            if m[3]:
                f.devices[m[2]] = Device(m[3], m[4], m[5] or "", True)
    return from_log(f)


def from_log(f: Facts) -> Facts:
    """What the kernel's log alone can tell, where nothing else did."""
    if f.dmesg is None:
        return f
    if f.cmdline is None:
        m = re.search(r"(?:Kernel command|Command) line: (.*)", f.dmesg)
        f.cmdline = m[1] if m else None
    if f.groups is None:
        found = re.findall(rf"({BDF}): Adding to iommu group (\d+)", f.dmesg)
        f.groups = dict(found) or None  # a log that was cut off is not a host without groups
    return f


def mdevctl_types(text: str) -> list:
    """`mdevctl types`."""
    out, parent = [], ""
    for line in text.splitlines():
        word, _, value = line.strip().partition(":")
        if re.match(rf"{BDF}\Z", line.strip()):
            parent = line.strip()
        elif parent and re.match(r"  \S+\Z", line):
            out.append(MdevType(parent, line.strip()))
        elif out and word == "Available instances" and value.strip().isdigit():
            out[-1].available = int(value)
        elif out and word == "Name":
            out[-1].name = value.strip()
    return out


def record(f: Facts, folder: Path) -> None:
    """Writes what is known, in the form that recorded() reads."""
    texts = {"cmdline": f.cmdline, "dmesg": f.dmesg, "override": f.override, "unlock": f.unlock, "journal": f.journal,
             "nvidia": f.nvidia, "release": f.release,
             "modules": None if f.modules is None else "\n".join(sorted(f.modules)),
             "services": None if f.services is None else "\n".join(f"{k} {v}" for k, v in f.services.items()),
             "secureboot": None if f.secureboot is None else "on" if f.secureboot else "off"}
    if f.groups is not None:
        lines = []
        for name, group in sorted(f.groups.items(), key=lambda item: (int(item[1]), item[0])):
            d = f.devices.get(name, Device())
            lines.append(f"{group} {name}" + (f" {d.ids} {d.kind} {d.driver}".rstrip() if d.known else ""))
        texts["groups"] = "\n".join(lines)
    if f.mdev is not None:
        lines, parent = [], ""
        for t in f.mdev:
            if t.parent != parent:
                parent = t.parent
                lines.append(parent)
            lines += [f"  {t.type}", f"    Available instances: {t.available}", f"    Name: {t.name}"]
        texts["mdev"] = "\n".join(lines)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for key, text in texts.items():
            if text is not None:
                suffix = ".toml" if key in ("override", "unlock") else ".txt"
                (folder / (FILES[key][0] + suffix)).write_text(text.rstrip("\n") + "\n", encoding="utf-8")
    except OSError as e:
        raise UsageError(f"{folder}: {e.strerror}") from None


# ---- a node of the cluster, by its API ----

def of_node(tools: Tools, node: str) -> Facts:
    """Modules, services and vgpu_unlock's files are not to be had that way."""
    f = Facts(f"node {node}")
    status = tools.ask_json("pvesh", "get", f"/nodes/{node}/status") or {}
    f.release = str(status.get("pveversion") or "") or None
    boot = status.get("boot-info") or {}
    if boot.get("mode"):
        f.secureboot = boot["mode"] == "efi" and bool(boot.get("secureboot"))
    f.groups, f.mdev = {}, []
    for d in tools.ask_json("pvesh", "get", f"/nodes/{node}/hardware/pci", "--pci-class-blacklist", "") or []:
        name = str(d.get("id", ""))
        hexed = [str(d.get(k, "")).replace("0x", "") for k in ("vendor", "device", "class")]
        f.devices[name] = Device(f"{hexed[0]}:{hexed[1]}", hexed[2], "", True)
        if int(d.get("iommugroup", -1)) >= 0:
            f.groups[name] = str(d["iommugroup"])
        if d.get("mdev"):
            for t in tools.ask_json("pvesh", "get", f"/nodes/{node}/hardware/pci/{name}/mdev") or []:
                f.mdev.append(MdevType(name, str(t.get("type")), str(t.get("name") or ""),
                                       int(t.get("available") or 0)))
    try:
        since = int(time.time() - float(status.get("uptime") or 0)) - 5
        lines = tools.ask_json("pvesh", "get", f"/nodes/{node}/journal", "--since", str(since), "--until",
                               str(since + 300),
                               seconds=60) or []
        late = tools.ask_json("pvesh", "get", f"/nodes/{node}/journal", "--lastentries", "3000", seconds=60) or []
        f.dmesg = "\n".join(str(line) for line in lines)
        f.journal = "\n".join(str(line) for line in late)
    except ToolError as e:
        tools.say(f"plumb: {node}: no journal: {e}")
    groups = f.groups
    f = from_log(f)
    f.groups = groups
    return f
