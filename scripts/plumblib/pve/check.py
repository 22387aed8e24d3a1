# SPDX-License-Identifier: MIT
"""`plumb pve check`: what the guest cannot see. Each finding says what is wrong, by what evidence, what to do."""
from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path

from .. import EXIT_FAIL, EXIT_PASS, EXIT_UNTRUSTED, EXIT_USAGE, UsageError, view
from . import facts as facts_of
from .facts import Facts
from .run import table
from .tools import Tools

COLORS = {"wrong": "red", "warn": "yellow", "ok": "green", "unknown": "dim"}


@dataclass
class Finding:
    ident: str                       # HOSTnn, never reused: docs/pve.md
    level: str                       # ok, warn, wrong, unknown
    text: str
    do: str = ""
    evidence: str = ""


@dataclass
class Wanted:
    device: str = ""                 # 0000:01:00.0
    mdev: str = ""                   # nvidia-55


def check(f: Facts, want: Wanted) -> list:
    out: list = []
    for part in (iommu, remapping, group, drivers, mdev_types, services, override, secure_boot, messages):
        out += part(f, want)
    return out


def _gpus(f: Facts) -> list:
    return [name for name, d in f.devices.items() if d.ids.startswith("10de:") and d.kind.startswith("03")]


def _wanted_device(f: Facts, want: Wanted) -> str:
    if want.device:
        return want.device if want.device.count(":") == 2 else f"0000:{want.device}"
    parents = sorted({t.parent for t in f.mdev or [] if not want.mdev or t.type == want.mdev})
    return parents[0] if len(parents) == 1 else (_gpus(f)[0] if len(_gpus(f)) == 1 else "")


def _line(text: str, pattern: str) -> str:
    m = re.search(rf"^.*(?:{pattern}).*$", text or "", re.M)
    return m[0].strip()[:200] if m else ""


# ---- the host's IOMMU ----

def iommu(f: Facts, _want: Wanted) -> list:
    words = (f.cmdline or "").split()
    told = [w for w in words if re.match(r"(intel_iommu|amd_iommu|iommu)=", w)]
    evidence = "kernel command line: " + (" ".join(told) or "nothing about an IOMMU") if f.cmdline is not None else ""
    out = []
    if f.groups:
        count = len(set(f.groups.values()))
        out.append(Finding("HOST01", "ok", f"the IOMMU is on: {len(f.groups)} devices in {count} groups", "",
                           evidence))
    elif f.groups is None and f.cmdline is None:
        out.append(Finding("HOST01", "unknown", "whether the IOMMU is on: no IOMMU groups and no kernel command line to read"))
    elif "intel_iommu=off" in words or "amd_iommu=off" in words or "iommu=off" in words:
        out.append(Finding("HOST01", "wrong", "the IOMMU is switched off on the kernel command line",
                           "take it out of /etc/default/grub (update-grub) or /etc/kernel/cmdline"
                           " (proxmox-boot-tool refresh), and boot again", evidence))
    elif f.groups is None:
        out.append(Finding("HOST01", "unknown", "whether there are IOMMU groups: the log does not hold these lines",
                           "", evidence))
    elif "intel_iommu=on" in words or "amd_iommu=on" in words:
        out.append(Finding("HOST01", "wrong", "the kernel was told to use the IOMMU, and there are no IOMMU groups",
                           "switch VT-d or AMD-Vi (IOMMU, SVM's neighbour) on in the board's firmware; a kernel"
                           " without DMAR or IVRS table cannot", evidence))
    else:
        out.append(Finding("HOST01", "wrong", "no IOMMU groups: the IOMMU is off",
                           "on Intel before kernel 6.8 add intel_iommu=on; switch VT-d or AMD-Vi on in the firmware", evidence))
    acs = [w for w in words if w.startswith("pcie_acs_override")]
    if acs:
        out.append(Finding("HOST02", "warn", "the IOMMU groups are split by decree: devices may reach each other's memory",
                           "without pcie_acs_override the real groups show", acs[0]))
    return out


def remapping(f: Facts, _want: Wanted) -> list:
    log = f.dmesg
    unsafe = "allow_unsafe_interrupts=1" in (f.cmdline or "") or "allow_unsafe_interrupts=1" in (log or "")
    if unsafe:
        return [Finding("HOST03", "warn", "VFIO was told to do without interrupt remapping: a guest can send any interrupt to this host",
                        "take allow_unsafe_interrupts away once remapping is on",
                        _line(f"{f.cmdline}\n{log}", "allow_unsafe_interrupts"))]
    on = _line(log, r"DMAR-IR: Enabled IRQ remapping|AMD-Vi: Interrupt remapping enabled")
    if on:
        return [Finding("HOST03", "ok", "interrupts are remapped", "", on)]
    off = _line(log, r"No interrupt remapping support|Interrupt remapping (?:is )?disabled|Failed to enable irq remapping|"
                     r"IRQ remapping.{0,20}(?:not supported|disabled)|doesn't support X2APIC mode, disable x2apic|nointremap")
    if off or "nointremap" in (f.cmdline or ""):
        return [Finding("HOST03", "wrong", "the host does not remap interrupts: VFIO refuses a device",
                        "switch VT-d and x2APIC on in the firmware; take nointremap off the command line", off
                        or "nointremap")]
    return [Finding("HOST03", "unknown", "whether interrupts are remapped: the log does not say"
                    if log is not None else "whether interrupts are remapped: no kernel log")]


# ---- the device ----

def group(f: Facts, want: Wanted) -> list:
    device = _wanted_device(f, want)
    if not device:
        return [Finding("HOST04", "unknown", "which device is meant: --device 0000:01:00.0")]
    if not f.groups:
        return []
    if device not in f.groups:
        if f.devices and device not in f.devices:
            return [Finding("HOST04", "wrong", f"there is no {device}", "lspci -D names them; after a change of"
                            " hardware the numbers move")]
        return [Finding("HOST04", "wrong", f"{device} is in no IOMMU group", "see HOST01")]
    mine = f.groups[device]
    same_slot = device.rpartition(".")[0]
    others = [n for n, g in f.groups.items() if g == mine and n.rpartition(".")[0] != same_slot
              and not f.devices.get(n, facts_of.Device()).kind.startswith("0604")]
    if others and any(t.parent == device for t in f.mdev or []):
        return [Finding("HOST04", "ok", f"{device} shares group {mine} with {' '.join(others)}; an mdev has a group of its own")]
    if others:
        return [Finding("HOST04", "wrong", f"{device} shares IOMMU group {mine} with {' '.join(others)}: they can only go"
                        " to one VM together (\"group is not viable\")",
                        "another slot (ports with ACS), or hand over all of them",
                        ", ".join(f"{n} {f.devices[n].ids} {f.devices[n].driver}".strip() for n in others
                                  if n in f.devices))]
    return [Finding("HOST04", "ok", f"{device} is alone in IOMMU group {mine}")]


def drivers(f: Facts, want: Wanted) -> list:
    out = []
    device = _wanted_device(f, want)
    driver = f.devices.get(device, facts_of.Device()).driver
    if driver in ("nouveau", "nvidiafb", "radeon", "amdgpu", "i915"):
        out.append(Finding("HOST05", "wrong", f"the host's own driver {driver} holds {device}",
                           f"echo 'blacklist {driver}' > /etc/modprobe.d/plumb.conf; update-initramfs -u; boot again", driver))
    elif f.modules is not None and "nouveau" in f.modules:
        out.append(Finding("HOST05", "warn", "nouveau is loaded: it takes NVIDIA cards before vfio-pci or NVIDIA's driver can",
                           "blacklist nouveau", "modules: nouveau"))
    if f.modules is None:
        return out + [Finding("HOST06", "unknown", "which modules are loaded")]
    vgpu = bool(f.mdev) or want.mdev.startswith("nvidia")
    need = ["vfio", "vfio_iommu_type1"] + (["mdev", "nvidia", "nvidia_vgpu_vfio"] if vgpu else ["vfio_pci"])
    gone = [m for m in need if m not in f.modules]
    if "nvidia" in gone:
        out.append(Finding("HOST06", "wrong", "NVIDIA's host driver is not loaded: no vGPU without it",
                           "install NVIDIA's vGPU host driver for this kernel (dkms status); with Secure Boot it must be signed",
                           "modules: no nvidia"))
    elif "nvidia_vgpu_vfio" in gone:
        out.append(Finding("HOST06", "wrong", "NVIDIA's driver is loaded, but not its vGPU part",
                           "this is the graphics driver, not the vGPU host driver (…-vgpu-kvm.run)",
                           "modules: no nvidia_vgpu_vfio"))
    elif gone:  # in newer kernels some are built in
        out.append(Finding("HOST06", "warn", f"not loaded, or built in: {' '.join(gone)}",
                           f"modprobe {' '.join(gone)}"))
    else:
        out.append(Finding("HOST06", "ok", f"loaded: {' '.join(need)}"))
    return out


# ---- vGPU ----

def mdev_types(f: Facts, want: Wanted) -> list:
    if f.mdev is None:
        return [Finding("HOST07", "unknown", "which mdev types there are")]
    types = [t for t in f.mdev if not want.device or t.parent == _wanted_device(f, want)]
    if not types:
        level = "wrong" if want.mdev or _gpus(f) else "unknown"
        return [Finding("HOST07", level, "no device offers mdev types",
                        "an NVIDIA card: vgpu_unlock for a consumer card, then systemctl restart nvidia-vgpud nvidia-vgpu-mgr;"
                        " Ampere and newer: enable SR-IOV first (/usr/lib/nvidia/sriov-manage -e ALL)"
                        if level == "wrong" else "")]
    if want.mdev:
        mine = [t for t in types if t.type == want.mdev]
        if not mine:
            return [Finding("HOST07", "wrong", f"no device offers {want.mdev}", "types that there are: "
                            + " ".join(sorted({t.type for t in types}))[:200])]
        free = sum(t.available for t in mine)
        if not free:
            other = next((t for t in types if t.available), None)
            return [Finding("HOST07", "wrong", f"{want.mdev} ({mine[0].name}) has no free instance",
                            f"the card is given to {other.type} ({other.name}) now: one size at a time; stop the VMs that use it"
                            if other else "stop a VM that has one; `mdevctl list` names them")]
        return [Finding("HOST07", "ok", f"{want.mdev} ({mine[0].name}): {free} free on {mine[0].parent}")]
    open_ = [t for t in types if t.available]
    if not open_:
        return [Finding("HOST07", "wrong", f"{len(types)} mdev types, none with a free instance",
                        "stop a VM that has one; `mdevctl list` names them")]
    if len(open_) == 1 and len(types) > 1:
        t = open_[0]
        return [Finding("HOST07", "ok", f"only {t.type} ({t.name}) has free instances: {t.available} on {t.parent}; the card"
                        " is given to that size")]
    return [Finding("HOST07", "ok", f"{len(open_)} of {len(types)} mdev types have free instances")]


def services(f: Facts, want: Wanted) -> list:
    nvidia = any(t.type.startswith("nvidia") for t in f.mdev or []) or want.mdev.startswith("nvidia")
    if not nvidia and not f.nvidia:
        return []
    if f.services is None:
        return [Finding("HOST08", "unknown", "whether nvidia-vgpud and nvidia-vgpu-mgr run")]
    bad = []
    for name in facts_of.SERVICES:
        state = f.services.get(name, "unknown")
        if not (state == "active" or (name == "nvidia-vgpud" and state == "done")):
            bad.append(f"{name}: {state}")
    if bad:
        return [Finding("HOST08", "wrong", "NVIDIA's vGPU services do not run: a VM stops at \"Verify all devices in group\"",
                        "systemctl restart nvidia-vgpud nvidia-vgpu-mgr; journalctl -u nvidia-vgpu-mgr",
                        ", ".join(bad))]
    return [Finding("HOST08", "ok", "nvidia-vgpud and nvidia-vgpu-mgr run")]


_OVERRIDE_KEYS = {"num_displays", "display_width", "display_height", "max_pixels", "cuda_enabled", "frl_enabled",
                  "framebuffer", "framebuffer_reservation", "vgpu_type", "card_name", "pci_id", "pci_device_id",
                  "adapter_name", "ecc_supported", "license", "bar1_length", "short_gpu_name", "license_type"}


def override(f: Facts, want: Wanted) -> list:
    out = []
    if f.unlock is not None and re.search(r"^\s*unlock\s*=\s*false", f.unlock, re.M):
        out.append(Finding("HOST09", "warn", "vgpu_unlock is installed and switched off",
                           "unlock = true in config.toml", "unlock = false"))
    if f.override is None:
        return out
    profiles, bad = parse_override(f.override)
    if bad:
        return out + [Finding("HOST09", "wrong", "vgpu_unlock's profile_override.toml is damaged: none of it counts",
                              "mend the line, then systemctl restart nvidia-vgpud nvidia-vgpu-mgr", bad)]
    for name, keys in profiles.items():
        odd = sorted(set(keys) - _OVERRIDE_KEYS)
        if odd:
            out.append(Finding("HOST09", "warn", f"[{name}] has keys that are not known here: {' '.join(odd)}",
                               "a misspelt key is ignored by vgpu_unlock"))
        try:
            w, h, most = (int(keys[k], 0) for k in ("display_width", "display_height", "max_pixels"))
            if w * h > most:
                out.append(Finding("HOST09", "wrong", f"[{name}] {w}x{h} is more than its max_pixels",
                                   f"max_pixels = {w * h}",
                                   f"max_pixels = {most}"))
        except (KeyError, ValueError):
            pass
        for key in ("pci_id", "pci_device_id"):
            if key in keys:
                out.append(Finding("HOST09", "warn", f"[{name}] changes the PCI ID that the guest sees ({key} = {keys[key]})",
                                   "the guest's driver goes by it; plumb's vgpu.identify tells what it became"))
    if want.mdev and profiles and f"profile.{want.mdev}" not in profiles:
        out.append(Finding("HOST09", "warn", f"profile_override.toml is for {' '.join(p.rpartition('.')[2] for p in profiles)},"
                           f" not for {want.mdev}", ""))
    if not any(x.level == "wrong" for x in out):
        out.append(Finding("HOST09", "ok", f"vgpu_unlock overrides {' '.join(p.rpartition('.')[2] for p in profiles) or 'nothing'}"))
    return out


def parse_override(text: str) -> tuple:
    """Tables of `key = value`: as much of TOML as that file has. ({table: {key: value}}, the first bad line)"""
    tables: dict = {}
    keys = None
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        m = re.match(r"\[([A-Za-z0-9_.\"-]+)\]\s*(?:#.*)?\Z", line)
        if m:
            keys = tables.setdefault(m[1].replace('"', ""), {})
            continue
        m = re.match(r"([A-Za-z0-9_-]+)\s*=\s*(\"[^\"]*\"|0x[0-9A-Fa-f]+|-?[0-9][0-9_.]*|true|false)\s*(?:#.*)?\Z",
                     line)
        if not m or keys is None:
            return tables, f"line {number}: {line[:80]}"
        keys[m[1]] = m[2].strip('"')
    return tables, ""


def secure_boot(f: Facts, _want: Wanted) -> list:
    if f.secureboot is None:
        return [Finding("HOST10", "unknown", "whether the host booted with Secure Boot")]
    if not f.secureboot:
        return [Finding("HOST10", "ok", "the host booted without Secure Boot: unsigned modules load")]
    if f.modules is not None and "nvidia" in f.modules:
        return [Finding("HOST10", "ok", "the host booted with Secure Boot, and NVIDIA's module was let in")]
    return [Finding("HOST10", "warn", "the host booted with Secure Boot: a module that DKMS built loads only if its key is enrolled",
                    "mokutil --import /var/lib/dkms/mok.pub and boot again, or switch Secure Boot off")]


# ---- what was said when it went wrong ----

SAYINGS = (
    ("HOST11", r"Verify all devices in group \d+ are bound to vfio-", "wrong",
     "a VM's device was refused: its group is not bound to VFIO",
     "an mdev: its manager refused it (bad override, no -uuid for the VM, version mismatch): journalctl -u nvidia-vgpu-mgr;"
     " a whole device: every function of the group must go to vfio-pci"),
    ("HOST12", r"group \d+ is not viable", "wrong",
     "a VM's device was refused: another device of its group is in use by the host",
     "see HOST04"),
    ("HOST13", r"No interrupt remapping.*|interrupt remapping.*allow_unsafe", "wrong",
     "VFIO refused: no interrupt remapping", "see HOST03"),
    ("HOST14", r"BAR \d+: can't reserve \[mem", "wrong",
     "a BAR is held by somebody else on the host: mostly the boot framebuffer",
     "initcall_blacklist=sysfb_init on the kernel command line (before 5.15: video=efifb:off), or another card as the console"),
    ("HOST15", r"API mismatch|version mismatch", "wrong",
     "NVIDIA's kernel module and its user part are of different versions",
     "install one version of both; boot again after an update"),
    ("HOST16", r"DMAR:.*(?:DMA Read|DMA Write|fault)|AMD-Vi: Event logged|IO_PAGE_FAULT", "warn",
     "the host's IOMMU reported faults",
     "the line names the device; an RMRR or a device that does DMA to what it does not own"),
    ("HOST17", r"Device is ineligible for IOMMU domain attach due to platform RMRR", "wrong",
     "the board's firmware reserves memory for that device (RMRR): VFIO may not take it",
     "the board's firmware has a switch for it, or another slot"),
    ("HOST18", r"NVRM: .*(?:RmInitAdapter failed|GPU .* is already bound|Xid)", "warn",
     "NVIDIA's driver reported trouble with the card",
     "the line names it"),
)


def messages(f: Facts, _want: Wanted) -> list:
    text = "\n".join(t for t in (f.dmesg, f.journal) if t)
    out = []
    for ident, pattern, level, what, do in SAYINGS:
        line = _line(text, pattern)
        if line:
            out.append(Finding(ident, level, what, do, line))
    if f.journal is None:
        out.append(Finding("HOST11", "unknown", "what was said when VMs were started: no journal"))
    return out


# ---- the command ----

def verdict(found: list) -> tuple:
    """A word and an exit status. Only what was looked at can be right."""
    if any(x.level == "wrong" for x in found):
        return "WRONG", EXIT_FAIL
    if not any(x.level in ("ok", "warn") for x in found):
        return "UNKNOWN", EXIT_UNTRUSTED
    return "RIGHT, as far as was seen", EXIT_PASS


def text(f: Facts, found: list, paint) -> str:
    out = [paint("bold", f.where) + (f"   {view.clean(f.release.strip())}" if f.release else "")]
    for level in ("wrong", "warn", "ok", "unknown"):
        for x in (x for x in found if x.level == level):
            out.append(f"{paint(COLORS[level], level):<9} {x.ident} {view.clean(x.text)}")
            if x.evidence:
                out.append(f"          evidence  {view.clean(x.evidence)}")
            if x.do and level in ("wrong", "warn"):
                out.append(f"          do        {view.clean(x.do)}")
    count = {level: sum(x.level == level for x in found) for level in COLORS}
    word = verdict(found)[0]
    out.append(f"{word}: {count['wrong']} wrong, {count['warn']} to look at, {count['ok']} right, {count['unknown']} not known")
    return "\n".join(out)


def cmd_check(args) -> int:
    want = Wanted(args.device, args.mdev)
    if args.device and not re.match(rf"({facts_of.BDF}|[0-9a-f]{{2}}:[0-9a-f]{{2}}\.[0-7])\Z", args.device):
        raise UsageError(f"--device {args.device}: as 0000:01:00.0")
    tools = Tools(args.dry_run, args.verbose)
    paint = view.Paint(sys.stdout)
    if args.dry_run:
        tools.say("plumb: a check changes nothing; it reads " + (
            args.source or (f"the API of the nodes {args.nodes}" if args.nodes else
                            "/proc, /sys, /etc/vgpu_unlock, journalctl and systemctl of this host")))
        return EXIT_PASS
    if args.nodes:
        return _check_nodes(tools, args, want, paint)
    f = facts_of.recorded(Path(args.source)) if args.source else facts_of.live()
    if args.record:
        facts_of.record(f, Path(args.record))
    found = check(f, want)
    print(text(f, found, paint))
    return verdict(found)[1]


def _check_nodes(tools: Tools, args, want: Wanted, paint) -> int:
    from .run import _nodes
    rows, worst = [], EXIT_PASS
    for node in _nodes(tools, args):
        try:
            f = facts_of.of_node(tools, node)
        except UsageError as e:
            rows.append((node, "ERROR", "-", "-", "-", str(e)))
            worst = EXIT_USAGE
            continue
        found = check(f, want)
        print(text(f, found, paint) + "\n")
        word, status = verdict(found)
        bad = [x.ident for x in found if x.level == "wrong"]
        free = sum(t.available for t in f.mdev or [] if not want.mdev or t.type == want.mdev)
        rows.append((node, word.split(",")[0], len(set((f.groups or {}).values())),
                     len({t.parent for t in f.mdev or []}), free,
                     " ".join(bad)))
        worst = max(worst, status)
    print(table(("node", "verdict", "groups", "mdev cards", "free", ""), rows))
    return worst
