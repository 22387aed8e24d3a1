# SPDX-License-Identifier: MIT
"""`qm showcmd VMID --pretty` in, a stock-QEMU twin of that VM out.

The line is untrusted text: it is taken apart, never run. Only drivers and properties named in the tables
below go on, each value checked by a pattern without blanks, quotes or commas; paths never do. What was
changed or left out is said, with what that may hide.
"""
from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass, field

from . import UsageError

MAX_BYTES, MAX_TOKENS = 1 << 20, 4096
MAX_CPUS, MAX_MEM = 256, 1 << 20     # of a VM that we try to copy; memory in MiB
FEW_MEM = 4096                       # MiB; with more than that a twin would only touch it in vain
VALUE = re.compile(r"[A-Za-z0-9_.:+-]{1,64}\Z")
BOOLEAN = re.compile(r"(on|off|yes|no|true|false|0|1)\Z")
NUMBER = re.compile(r"(0x[0-9a-f]{1,8}|[0-9]{1,10})\Z", re.I)
ADDR = re.compile(r"(0x)?[0-9a-f]{1,2}(\.(0x)?[0-7])?\Z", re.I)
MAC = re.compile(r"[0-9A-F]{2}(:[0-9A-F]{2}){5}\Z", re.I)
GUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z", re.I)

# Options that take no argument; every other takes one.
FLAGS = {"daemonize", "no-shutdown", "nodefaults", "nographic", "no-reboot", "no-hpet", "no-acpi", "S", "s",
         "snapshot", "enable-kvm", "no-user-config", "no-fd-bootchk", "only-migratable"}
# What no test of ours can see: PCI, interrupts and DMA are the same without it.
UNSEEN = {"id", "name", "no-shutdown", "chardev", "mon", "qmp", "pidfile", "daemonize", "smbios", "nodefaults",
          "nographic", "boot", "vnc", "spice", "display", "k", "iscsi", "rtc", "uuid", "msg", "vga", "object",
          "blockdev", "drive", "netdev", "numa", "no-user-config", "audiodev", "runas", "tpmdev", "S", "action",
          "watchdog-action", "no-reboot", "enable-kvm", "accel", "monitor", "serial", "parallel"}

PLACE = {"id": VALUE, "bus": VALUE, "addr": ADDR, "multifunction": BOOLEAN}
USB_SLOT = {"id": VALUE, "bus": VALUE, "port": re.compile(r"[0-9.]{1,16}\Z")}
NET = {**PLACE, "mac": MAC, "netdev": VALUE, "rx_queue_size": NUMBER, "tx_queue_size": NUMBER, "vectors": NUMBER,
       "host_mtu": NUMBER, "packed": BOOLEAN}
PORT = {**PLACE, "port": NUMBER, "chassis": NUMBER, "slot": NUMBER, "x-speed": NUMBER, "x-width": NUMBER}
IOMMU = {"intremap": BOOLEAN, "caching-mode": BOOLEAN, "eim": BOOLEAN, "aw-bits": NUMBER, "device-iotlb": BOOLEAN,
         "dma-translation": BOOLEAN}

# Drivers that stock QEMU has: what the twin keeps, and of their properties which.
KEEP = {
    "pci-bridge": {**PLACE, "chassis_nr": NUMBER, "shpc": BOOLEAN},
    "pcie-pci-bridge": PLACE, "i82801b11-bridge": PLACE,
    "pcie-root-port": PORT, "ioh3420": PORT, "x3130-upstream": PLACE, "xio3130-downstream": PORT,
    "vmgenid": {"guid": GUID, "id": VALUE},
    "piix3-usb-uhci": PLACE, "piix4-usb-uhci": PLACE, "usb-ehci": PLACE,
    "nec-usb-xhci": {**PLACE, "p2": NUMBER, "p3": NUMBER}, "qemu-xhci": {**PLACE, "p2": NUMBER, "p3": NUMBER},
    **{f"ich9-usb-uhci{n}": {**PLACE, "masterbus": VALUE, "firstport": NUMBER} for n in range(1, 7)},
    **{f"ich9-usb-ehci{n}": PLACE for n in (1, 2)},
    "usb-tablet": USB_SLOT, "usb-kbd": USB_SLOT, "usb-mouse": USB_SLOT,
    "VGA": {**PLACE, "vgamem_mb": NUMBER, "edid": BOOLEAN}, "cirrus-vga": PLACE, "vmware-svga": PLACE,
    "virtio-vga": PLACE, "virtio-gpu-pci": PLACE, "bochs-display": PLACE,
    "virtio-balloon-pci": {**PLACE, "free-page-reporting": BOOLEAN},
    "virtio-scsi-pci": {**PLACE, "num_queues": NUMBER}, "lsi": PLACE, "lsi53c895a": PLACE, "lsi53c810": PLACE,
    "megasas": PLACE, "megasas-gen2": PLACE, "pvscsi": PLACE, "ahci": PLACE, "virtio-blk-pci": PLACE,
    "virtio-net-pci": NET, "e1000": NET, "e1000e": NET, "e1000-82540em": NET, "rtl8139": NET, "vmxnet3": NET,
    "ne2k_pci": NET, "pcnet": NET, "i82551": NET, "i82557b": NET, "i82559er": NET,
    "virtio-serial-pci": PLACE, "virtio-rng-pci": PLACE, "i6300esb": PLACE,
    "intel-hda": PLACE, "ich9-intel-hda": PLACE,
    "intel-iommu": IOMMU, "virtio-iommu-pci": {**PLACE, "aw-bits": NUMBER}, "amd-iommu": IOMMU,
}
ALIASES = {"virtio-serial": "virtio-serial-pci", "virtio-balloon": "virtio-balloon-pci",
           "virtio-rng": "virtio-rng-pci",
           "virtio-scsi": "virtio-scsi-pci", "virtio-iommu": "virtio-iommu-pci"}
# Drivers that stand in for one that a plain QEMU lacks, and what is lost by it.
INSTEAD = {"qxl-vga": "VGA", "qxl": "bochs-display", "virtio-vga-gl": "virtio-vga"}
# Devices without a PCI function of their own: said in one line.
PARTS = {"scsi-hd", "scsi-cd", "scsi-block", "scsi-generic", "ide-hd", "ide-cd", "virtserialport", "usb-host",
         "usb-redir", "usb-storage", "hda-duplex", "hda-micro", "hda-output", "hda-input", "hda-codec",
         "usb-ccid", "ccid-card-emulated"}
NIC_NEW = {"host_tunnel"}            # properties of the newest QEMU that change no register
GLOBALS = re.compile(r"(PIIX4_PM|ICH9-LPC)\.(disable_s3|disable_s4|acpi-pci-hotplug-with-bridge-support)\Z")
MACHINE = {"hpet": BOOLEAN, "smm": BOOLEAN, "acpi": BOOLEAN, "vmport": BOOLEAN,
           "max-ram-below-4g": re.compile(r"[0-9]{1,12}[KMG]?\Z")}
TYPE = re.compile(r"(pc|q35|pc-i440fx-[0-9]{1,3}\.[0-9]{1,3}|pc-q35-[0-9]{1,3}\.[0-9]{1,3})(\+pve[0-9]{1,3})?\Z")

# pve-q35-4.0.cfg, as facts/pve.md has it: USB 1a and 1d, HDA 1b, root ports 1c, bridge 1e with pci.0 to pci.3.
_UHCI = "multifunction=on,bus=pcie.0"


def _q35(port: str) -> list[str]:
    out = [f"ich9-usb-ehci1,id=ehci,{_UHCI},addr=1d.7"]
    out += [f"ich9-usb-uhci{n + 1},id=uhci-{n + 1},{_UHCI},addr=1d.{n},masterbus=ehci.0,firstport={2 * n}"
            for n in range(3)]
    out += [f"ich9-usb-ehci2,id=ehci-2,{_UHCI},addr=1a.7"]
    out += [f"ich9-usb-uhci{n + 4},id=uhci-{n + 4},{_UHCI},addr=1a.{n},masterbus=ehci-2.0,firstport={2 * n}"
            for n in range(3)]
    out += ["ich9-intel-hda,id=audio0,bus=pcie.0,addr=1b.0"]
    out += [f"{port},id=ich9-pcie-port-{n + 1},{_UHCI},addr=1c.{n},port={n + 1},chassis={n + 1}" for n in range(4)]
    out += ["i82801b11-bridge,id=pcidmi,bus=pcie.0,addr=1e.0"]
    return out + [f"pci-bridge,id=pci.{n},bus=pcidmi,addr={n + 1}.0,chassis_nr={n + 1}" for n in range(4)]


READCONFIG = {
    "pve-q35-4.0.cfg": _q35("pcie-root-port,x-speed=16,x-width=32"),
    "pve-q35.cfg": _q35("ioh3420"),
    "pve-usb.cfg": ["ich9-usb-ehci1,id=ehci,multifunction=on,addr=1d.7"]
                   + [f"ich9-usb-uhci{n + 1},id=uhci-{n + 1},multifunction=on,addr=1d.{n},masterbus=ehci.0,"
                      f"firstport={2 * n}" for n in range(3)],
}


class BadLine(UsageError):
    """The text is no command line of a VM."""


@dataclass
class Option:
    name: str                        # without the dashes
    value: str = ""


@dataclass
class Twin:
    """What to start instead, and what was changed on the way."""
    vmid: str
    machine: str
    cpu: str = "qemu64,+x2apic"
    smp: str = "1"
    mem: int = 512                   # MiB
    boot: str = "bios"               # bios or uefi
    devices: list = field(default_factory=list)      # QEMU options, one string each
    vgpu: list = field(default_factory=list)         # "KIND id=…,bus=…,addr=…": see profile.Profile.vgpu
    changed: list = field(default_factory=list)      # (what, what that may hide), both text; the latter may be ""
    needs: str = "9.0"               # QEMU


# ---- taking the text apart ----

def options(text: str) -> tuple[str, list[Option]]:
    """The program and its options."""
    if len(text) > MAX_BYTES:
        raise BadLine(f"more than {MAX_BYTES >> 20} MiB: that is no command line")
    if "\0" in text:
        raise BadLine("a NUL byte: that is no text")
    # --pretty puts a line break before every " -", inside quotes too.
    text = re.sub(r" \\\r?\n\s+-", " -", text)
    try:
        words = shlex.split(text)
    except ValueError as e:
        raise BadLine(f"not a command line: {e}") from None
    if len(words) > MAX_TOKENS:
        raise BadLine(f"more than {MAX_TOKENS} words: that is no VM's command line")
    start = next((i for i, w in enumerate(words) if re.search(r"(\A|/)(kvm|qemu-system-x86_64)\Z", w)), None)
    if start is None:
        raise BadLine("no `kvm` in it: give the output of `qm showcmd VMID --pretty`")
    found, i = [], start + 1
    while i < len(words):
        word = words[i]
        i += 1
        if not re.match(r"--?[A-Za-z]", word):
            raise BadLine(f"{_short(word)} stands where an option should be")
        name = word.lstrip("-")
        if name in FLAGS:
            found.append(Option(name))
            continue
        if i == len(words):
            raise BadLine(f"-{_short(name)} has no value: the line is cut off")
        found.append(Option(name, words[i]))
        i += 1
    return words[start], found


def properties(text: str, first: str = "driver") -> dict[str, str]:
    """`driver,key=value,…` or JSON; ",," is a comma. The first word without "=" is `first`."""
    if text.startswith("{"):
        try:
            table = json.loads(text)
        except (ValueError, RecursionError):
            raise BadLine(f"damaged JSON: {_short(text)}") from None
        return {str(k): ("on" if v else "off") if isinstance(v, bool) else str(v) if isinstance(v, (int, str))
                else "?"
                for k, v in table.items()}
    out: dict[str, str] = {}
    for part in re.split(r"(?<!,),(?!,)", text.strip(",")):
        key, sep, value = part.replace(",,", ",").partition("=")
        if not sep:
            key, value = (first, key) if first and first not in out and not out else (key, "on")
        out[key] = value
    return out


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "…")


# ---- building the twin ----

def twin(text: str, model: str = "") -> Twin:
    """model: the kind of vGPU model that takes an NVIDIA device's place; none: such a slot stays empty."""
    return _Builder(options(text)[1], model).build()


class _Builder:
    def __init__(self, opts: list[Option], model: str):
        self.opts, self.model = opts, model
        self.twin = Twin(vmid="0", machine="pc")
        self.unseen: list[str] = []
        self.parts: list[str] = []
        self.left: list[str] = []
        self.lost: dict[str, list[str]] = {}     # driver -> properties
        self.cpus = 0                            # -device …-cpu: hot-plugged ones
        self.nets: list[str] = []
        self.blocks = 0
        self.serial = False

    def build(self) -> Twin:
        t = self.twin
        for opt in self.opts:
            handler = getattr(self, "_" + opt.name.replace("-", "_"), None) if opt.name in (
                "id", "machine", "M", "cpu", "smp", "m", "device", "global", "readconfig", "bios", "drive",
                "blockdev", "no-hpet", "no-acpi", "set") else None
            if handler:
                handler(opt.value)
            elif opt.name in UNSEEN:
                self._note_unseen(opt)
            else:
                self.left.append(f"-{_short(opt.name)[1:-1]} {_short(opt.value)}")
        if not any(o.name in ("machine", "M") for o in self.opts):
            raise BadLine("no -machine in it: the line is cut off")
        self._finish_smp()
        self._finish_machine()
        self._say()
        return t

    def change(self, what: str, hides: str = "") -> None:
        self.twin.changed.append((what, hides))

    # ---- options, each by its name ----

    def _id(self, value: str) -> None:
        self.twin.vmid = value if re.fullmatch(r"[0-9]{1,9}", value) else "0"
        self.unseen.append("-id")

    def _machine(self, value: str) -> None:
        props = properties(value, "type")
        kind = props.pop("type", "pc")
        m = TYPE.match(kind)
        if not m:
            raise BadLine(f"machine type {_short(kind)}: i440fx and q35 can be copied")
        if m[2]:
            self.change(f"machine suffix {m[2]} dropped: only Proxmox VE's QEMU knows it")
        self.twin.machine = m[1]
        self.props = {}
        for key, val in props.items():
            if key in MACHINE and MACHINE[key].match(val):
                self.props[key] = val
            elif key in ("kernel-irqchip", "accel", "pflash0", "pflash1", "memory-backend", "usb"):
                pass  # decided anew for the twin
            elif key == "confidential-guest-support":
                self.change("memory encryption left out", "a guest that can only share what it says to share: DMA"
                            " to private pages fails there")
            else:
                self.left.append(f"-machine {_short(key)[1:-1]}")

    _M = _machine
    props: dict = {}

    def _no_hpet(self, _value: str) -> None:
        self.hpet = "off"

    hpet = ""

    def _no_acpi(self, _value: str) -> None:
        self.change("-no-acpi left out: there is nothing to be learnt without tables")

    def _bios(self, value: str) -> None:
        self._firmware(value)

    def _firmware(self, path: str) -> None:
        if re.search(r"OVMF|edk2", path, re.I):
            self.twin.boot = "uefi"
            self.secure = self.secure or bool(re.search(r"secboot|SECBOOT", path))

    secure = False

    def _drive(self, value: str) -> None:
        props = properties(value, "")
        if props.get("if") == "pflash":
            self._firmware(props.get("file", ""))
        self.unseen.append("-drive")

    def _blockdev(self, value: str) -> None:
        # The firmware's file is nested in it; only whether it is OVMF is asked.
        if '"node-name":"pflash0"' in value.replace(" ", ""):
            self._firmware(value)
        self.unseen.append("-blockdev")

    def _set(self, value: str) -> None:
        self.left.append(f"-set {_short(value)}")

    def _cpu(self, value: str) -> None:
        words = value.split(",")
        model, flags, gone = words[0], [], []
        if not VALUE.match(model):
            raise BadLine(f"CPU model {_short(model)}")
        if model == "host":
            model = "max"
            self.change("CPU `host` is the twin's `max`",
                        "what this host's CPU has, QEMU may not emulate, and the reverse")
        for word in words[1:]:
            name = word.lstrip("+-").partition("=")[0]
            if not re.fullmatch(r"[A-Za-z0-9_.-]+(=[A-Za-z0-9_.-]+)?", word.lstrip("+")):
                gone.append(_short(word))
            elif name in ("enforce", "check", "kvm", "host-phys-bits", "guest-phys-bits", "phys-bits", "l3-cache",
                          "vendor", "host-cache-info", "topoext",
                          "model-id") or name.startswith(("hv_", "hv-", "kvm_", "kvm-")):
                gone.append(word)
            elif word.startswith(("+", "-")) or "=" in word:
                flags.append(word)
            else:
                flags.append("+" + word)
        if gone:
            self.change(f"CPU flags left out: {' '.join(gone)}",
                        "paravirtual EOI, timers and IPIs of KVM or Hyper-V; a hidden hypervisor"
                        if any("kvm" in g or g.startswith("hv") for g in gone) else "")
        if not any(f.lstrip("+-").partition("=")[0] == "x2apic" for f in flags) and model != "max":
            flags.append("+x2apic")  # KVM switches it on for every model
        self.twin.cpu = ",".join([model, *flags])

    def _smp(self, value: str) -> None:
        props = properties(value, "cpus")
        numbers = {k: int(v) for k, v in props.items() if re.fullmatch(r"[0-9]{1,4}", v)}
        if numbers.get("cpus", 0) < 1:
            raise BadLine(f"-smp {_short(value)}")
        self.topology = numbers

    topology: dict = {"cpus": 1}

    def _finish_smp(self) -> None:
        n = {k: v for k, v in self.topology.items()
             if k in ("cpus", "sockets", "cores", "threads", "dies", "maxcpus")}
        n["cpus"] += self.cpus
        most = max(n.get("maxcpus", 0), n["cpus"])
        if most > MAX_CPUS:
            raise BadLine(f"{most} CPUs: {MAX_CPUS} are the most")
        if self.cpus:
            self.change(f"{self.cpus} hot-plugged CPUs are there from the start")
        self.twin.smp = ",".join([str(n.pop("cpus")), *(f"{k}={v}" for k, v in n.items())])

    def _m(self, value: str) -> None:
        m = re.match(r"(?:size=)?([0-9]{1,9})([MG]?)(?:,|\Z)", value)
        if not m:
            raise BadLine(f"-m {_short(value)}")
        mem = int(m[1]) * (1024 if m[2] == "G" else 1)
        if not 0 < mem <= MAX_MEM:
            raise BadLine(f"-m {_short(value)}: 1 TiB is the most")
        if mem > FEW_MEM:
            self.change(f"{mem} MiB of memory are the twin's {FEW_MEM}", "where RAM ends and BARs above it begin")
            mem = FEW_MEM
        self.twin.mem = mem

    def _global(self, value: str) -> None:
        key, _, val = value.partition("=")
        if GLOBALS.match(key) and BOOLEAN.match(val):
            self.twin.devices.append(f"-global {key}={val}")
        else:
            self.unseen.append(f"-global {_short(key)[1:-1]}")

    def _readconfig(self, value: str) -> None:
        name = value.rpartition("/")[2]
        if name not in READCONFIG:
            self.left.append(f"-readconfig {_short(value)}")
            return
        self.twin.devices += [f"-device {d}" for d in READCONFIG[name]]
        self.change(f"{name} rebuilt from its known content", "changes somebody made to that file")

    def _device(self, value: str) -> None:
        props = properties(value)
        driver = ALIASES.get(props.get("driver", ""), props.get("driver", ""))
        if driver == "vfio-pci":
            self._hostpci(props)
        elif driver.endswith("-x86_64-cpu"):
            self.cpus += 1
        elif driver == "isa-serial":
            if self.serial:
                self.left.append("a second serial port")
            self.serial = True
        elif driver in PARTS:
            self.parts.append(props.get("id") or driver)
        elif driver in INSTEAD:
            self.change(f"{driver} is the twin's {INSTEAD[driver]}", "that card's BARs and interrupts")
            self._keep(INSTEAD[driver], props)
        elif driver in KEEP:
            self._keep(driver, props)
        else:
            place = f" at {_short(props['bus'])[1:-1]} {_short(props['addr'])[1:-1]}" if {"bus", "addr"} <= set(props) else ""
            self.left.append(f"device {_short(driver)[1:-1]}{place}")

    def _keep(self, driver: str, props: dict) -> None:
        known, words = KEEP[driver], [driver]
        for key, val in props.items():
            if key in ("driver", "netdev"):
                continue
            if key in known and known[key].match(val):
                words.append(f"{key}={val}")
            elif key not in NIC_NEW | {"bootindex", "drive", "iothread", "device_id", "write-cache", "rng",
                                       "romfile", "mq",
                                       "max-bytes", "period", "max_outputs", "xres", "yres"}:
                self.lost.setdefault(driver, []).append(_short(key)[1:-1])
        if known is NET:
            net = f"twin{len(self.nets)}"
            self.nets.append(net)
            self.twin.devices.append(f"-netdev hubport,id={net},hubid={len(self.nets)}")
            words.append(f"netdev={net}")
        elif driver == "virtio-blk-pci":
            self.blocks += 1
            self.twin.devices.append(f"-blockdev driver=null-co,node-name=twinblk{self.blocks},size=1073741824,read-zeroes=on")
            words.append(f"drive=twinblk{self.blocks}")
        elif driver == "virtio-rng-pci":
            self.twin.devices.append("-object rng-builtin,id=twinrng")
            words.append("rng=twinrng")
        self.twin.devices.append("-device " + ",".join(words))

    def _hostpci(self, props: dict) -> None:
        place = {k: props[k] for k in ("id", "bus", "addr", "multifunction")
                 if k in props and PLACE[k].match(props[k])}
        name = place.get("id", "hostpci")
        mdev = "sysfsdev" in props
        what = "an mdev" if mdev else f"host device {_short(props.get('host', '?'))[1:-1]}"
        hides = "everything about that device: its BARs, its interrupts, its DMA"
        if self.model and mdev and {"bus", "addr"} <= set(place) and name.endswith(tuple("0123456789")):
            self.twin.vgpu.append(f"{self.model} " + ",".join(f"{k}={v}" for k, v in place.items()))
            self.change(f"{name}, {what}, is the vGPU model {self.model}",
                        "the real device: the model was written from public facts")
            return
        self.change(f"{name} ({what}) at {place.get('bus', '?')} {place.get('addr', '?')} left out; the slot is empty", hides)

    # ---- the end ----

    def _finish_machine(self) -> None:
        props = dict(self.props)
        if self.hpet:
            props["hpet"] = self.hpet
        props.pop("smm", None)  # no firmware of the twin needs it, and KVM without SMM takes both
        if any(",intremap=on" in d for d in self.twin.devices):
            self.change("the twin's vIOMMU is stock QEMU's", "Proxmox VE's patches to it, if any")
        self.twin.machine += "".join(f",{k}={v}" for k, v in props.items())
        if self.twin.vgpu:
            from .vgpu_model import NEEDS_QEMU
            self.twin.needs = NEEDS_QEMU

    def _note_unseen(self, opt: Option) -> None:
        self.unseen.append("-" + opt.name)

    def _say(self) -> None:
        t = self.twin
        if t.boot == "uefi":
            self.change("the firmware is Debian's OVMF with fresh variables",
                        "Secure Boot: with enrolled keys the VM would refuse to start plumb" if self.secure else
                        "what the VM's own variables hold: boot order, Secure Boot keys")
        self.change("COM1 goes to the runner, and port 0xf4 ends the machine",
                    "" if self.serial else "that the VM has no serial port: qm set VMID --serial0 socket")
        if self.nets:
            self.change(f"{len(self.nets)} network cards are connected to nothing")
        if self.parts:
            self.change(f"disks and parts without a PCI function left out: {' '.join(sorted(set(self.parts)))}")
        for driver, keys in self.lost.items():
            self.change(f"{driver}: left out {' '.join(sorted(set(keys)))}")
        if self.left:
            self.change("left out, not known here: " + "; ".join(self.left), "whatever they do")
        if self.unseen:
            self.change("without effect on the guest's PCI, interrupts and DMA: " + " ".join(sorted(set(self.unseen))))


# ---- and starting it ----

def told(t: Twin) -> str:
    """For people: what the twin is, what it is not."""
    kind = "q35" if "q35" in t.machine else "i440fx"
    firmware = "OVMF" if t.boot == "uefi" else "SeaBIOS"
    out = [f"plumb: twin of VM {t.vmid}: {kind}, {firmware}, {t.smp.split(',')[0]} CPUs, {t.mem} MiB"]
    for what, hides in t.changed:
        out.append(f"  {what}" + (f"\n{'':6}may hide: {hides}" if hides else ""))
    return "\n".join(out)


def profile_of(t: Twin):
    from .profile import Profile
    return Profile(f"twin-{t.vmid}", f"a twin of Proxmox VE's VM {t.vmid}", t.machine, t.cpu, t.smp, f"{t.mem}M",
                   boots=[t.boot, "pvh"], devices=t.devices, vgpu=t.vgpu, needs_qemu=t.needs)


def fitted(prof, qemu) -> str:
    """Gives the profile a machine type that this QEMU has; what had to be said of it."""
    import os
    import subprocess
    try:
        said = subprocess.run([*qemu.argv, "-machine", "help"], env={**os.environ, **qemu.env}, timeout=20,
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace").stdout
    except (OSError, subprocess.SubprocessError):
        said = ""
    known = {line.split()[0] for line in said.splitlines() if line.strip()}
    prof.machine, text = fit_machine(prof.machine, known)
    return f"  {text}\n{'':6}may hide: what changed between the two machine types\n" if text else ""


def fit_machine(machine: str, known: set[str]) -> tuple[str, str]:
    """The machine type if that QEMU has it, else its newest of the kind; and what to say of it."""
    kind, _, rest = machine.partition(",")
    if kind in known or not known:
        return machine, ""
    newest = "q35" if "q35" in kind else "pc"
    return newest + ("," + rest if rest else ""), f"machine {kind}, which this QEMU lacks, is its newest {newest}"
