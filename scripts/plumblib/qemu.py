# SPDX-License-Identifier: MIT
"""Which QEMU, and its command line."""
from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from . import UsageError, build_dir, shown, sysroot, vgpu_model
from .profile import MACHINES, Profile

FIRMWARE = ("/usr/share/OVMF", "/usr/share/edk2/x64", "/usr/share/edk2/ovmf")
OVMF_PAIRS = (("OVMF_CODE_4M.fd", "OVMF_VARS_4M.fd"), ("OVMF_CODE.fd", "OVMF_VARS.fd"))
FW_CFG_INLINE = 512  # longer strings go by file


@dataclass
class Qemu:
    argv: list[str]                  # to start it, up to its own options
    version: str                     # "10.0.13"
    env: dict = field(default_factory=dict)
    firmware: tuple = FIRMWARE       # where its OVMF may be
    root: Path | None = None         # of the sysroot that it is from

    @property
    def label(self) -> str:
        return f"QEMU {self.version}"

    def ovmf(self) -> tuple[Path, Path]:
        for folder in self.firmware:
            for code, store in OVMF_PAIRS:
                if (Path(folder) / code).is_file() and (Path(folder) / store).is_file():
                    return Path(folder) / code, Path(folder) / store
        # The firmware does not depend on QEMU's version: the project's own will do.
        root = sysroot.provision(sysroot.lowest("0"))
        return root / "usr/share/OVMF/OVMF_CODE_4M.fd", root / "usr/share/OVMF/OVMF_VARS_4M.fd"

    def uboot(self) -> Path:
        """Always the project's own: Debian 12's keeps its ACPI tables in memory that it calls free."""
        return (self.root or sysroot.provision(sysroot.lowest("0"))) / sysroot.UBOOT


def as_numbers(version: str) -> tuple[int, ...]:
    return tuple(int(n) for n in re.findall(r"\d+", version)[:3])


def probe(argv: list[str], env: dict | None = None) -> str:
    """The version that a QEMU says it has."""
    try:
        said = subprocess.run(argv + ["--version"], env={**os.environ, **(env or {})}, timeout=20,
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
    except (OSError, subprocess.TimeoutExpired) as e:
        raise UsageError(f"{argv[0]} does not run: {e}") from None
    m = re.search(r"QEMU emulator version (\d+\.\d+(?:\.\d+)?)", said.stdout)
    if not m:
        raise UsageError(f"{argv[0]} is no QEMU: --version says {(said.stdout + said.stderr)[:200]!r}")
    return m[1]


def from_sysroot(release: str) -> Qemu:
    root = sysroot.provision(release)
    argv, env = sysroot.qemu_command(root)
    return Qemu(argv, probe(argv, env), env, (str(root / "usr/share/OVMF"),), root)


def choose(wanted: str | None, needs: str = "9.0", say=None) -> Qemu:
    """QEMU= if given (a path, or a release such as 11.1), else the system's if new enough, else ours."""
    say = say or (lambda text: print(f"plumb: {text}", file=sys.stderr))
    if wanted and re.fullmatch(r"\d+(\.\d+)?", wanted):
        return from_sysroot(sysroot.lowest(wanted))
    if wanted:
        path = shutil.which(wanted)
        if not path:
            raise UsageError(f"QEMU={wanted}: no such program")
        found = Qemu([path], probe([path]))
        if as_numbers(found.version) < as_numbers(needs):
            say(f"{wanted} is QEMU {found.version}; this machine profile needs {needs} or newer")
        return found
    path = shutil.which("qemu-system-x86_64")
    if path:
        version = probe([path])
        if as_numbers(version) >= as_numbers(needs):
            return Qemu([path], version)
        say(f"the system's QEMU is {version}, {needs} or newer is needed: using the project's own")
    return from_sysroot(sysroot.lowest(needs))


@dataclass
class Options:
    """What the user chose over the profile."""
    boot: str = "uefi"
    accel: str = "tcg"
    smp: str = ""
    mem: str = ""
    qemu_args: str = ""
    cmdline: str = ""                # the guest's, complete
    images: Path = field(default_factory=build_dir)   # where kernel.elf and plumb.iso are
    medium: Path | None = None       # to boot from, instead of plumb.iso in a CD drive
    in_turn: bool = False            # TCG: one thread runs all CPUs

    @property
    def image(self) -> Path:
        return self.medium or image(self.boot, self.images)


def command(qemu: Qemu, prof: Profile, opts: Options, tmp: Path, fds: dict, more=()) -> list[str]:
    """QEMU's whole command line. fds: a socket, or a -chardev less its id, for `serial`, `qmp` and each helper.
    more: the vGPU models' devices."""
    machine = prof.machine
    if opts.accel == "kvm" and prof.remaps_interrupts and "kernel-irqchip" not in machine:
        machine += ",kernel-irqchip=split"
    argv = list(qemu.argv)
    argv += ["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]
    if more:
        machine += f",memory-backend={vgpu_model.RAM}"
    argv += ["-machine", machine, "-accel", opts.accel + ",thread=single" * opts.in_turn, "-cpu", cpu_model(prof, opts.accel)]
    argv += ["-smp", opts.smp or prof.smp, "-m", opts.mem or prof.mem]
    if more:  # they reach into the guest's memory
        argv += vgpu_model.ram_options(opts.mem or prof.mem)
    argv += ["-chardev", chardev("serial", fds["serial"]), "-serial", "chardev:serial"]
    argv += ["-chardev", chardev("qmp", fds["qmp"]), "-mon", "chardev=qmp,mode=control"]
    argv += ["-device", "isa-debug-exit,iobase=0xf4,iosize=0x4"]
    for helper in prof.helpers:
        argv += ["-chardev", chardev(helper, fds[helper])]
    for device in prof.devices:
        argv += shlex.split(device.replace("@MACHINES@", str(MACHINES)))  # files beside the profiles
    for release, options in prof.since.items():
        if as_numbers(qemu.version) >= as_numbers(release):
            argv += shlex.split(options)
    for release, options in prof.before.items():
        if as_numbers(qemu.version) < as_numbers(release):
            argv += shlex.split(options)
    for device in more:
        argv += ["-device", device]
    argv += fw_cfg("opt/plumb/cmdline", opts.cmdline, tmp)
    argv += fw_cfg("opt/plumb/qemu", qemu.version, tmp)
    argv += boot_options(qemu, opts.boot, opts.images, tmp, opts.medium)
    return argv + shlex.split(opts.qemu_args)


def chardev(name: str, end: int | str) -> str:
    if isinstance(end, int):
        return f"socket,id={name},fd={end}"
    kind, comma, rest = end.partition(",")
    return f"{kind},id={name}{comma}{rest}"


def cpu_model(prof: Profile, accel: str) -> str:
    """The profile's CPU. A nested KVM may show ARCH_CAPABILITIES and refuse to set it; we need none."""
    bare = accel == "kvm" and prof.cpu.split(",")[0] in ("max", "host")
    return prof.cpu + ",-arch-capabilities" if bare else prof.cpu


def fw_cfg(name: str, text: str, tmp: Path) -> list[str]:
    if not text:
        return []
    if len(text) <= FW_CFG_INLINE:
        return ["-fw_cfg", f"name={name},string={text.replace(',', ',,')}"]
    path = tmp / name.rpartition("/")[2]
    path.write_text(text)
    return ["-fw_cfg", f"name={name},file={str(path).replace(',', ',,')}"]


def image(boot: str, images: Path) -> Path:
    return images / ("kernel.elf" if boot == "pvh" else "plumb.iso")


def check_image(path: Path) -> None:
    if not path.is_file():
        raise UsageError(f"no {shown(path)}: build it with `make`")


def boot_options(qemu: Qemu, boot: str, images: Path, tmp: Path, medium: Path | None = None) -> list[str]:
    path = medium or image(boot, images)
    check_image(path)
    if boot == "pvh":
        return ["-kernel", str(path)]
    file = str(path).replace(",", ",,")
    if path.suffix == ".iso" and boot != "uboot":  # that reads no CD
        drive = ["-drive", f"if=none,id=cd,media=cdrom,readonly=on,format=raw,file={file}",
                 "-device", "ide-cd,bus=ide.1,drive=cd,bootindex=0"]
    else:  # a disk; what a firmware writes to it is lost
        form = "qcow2" if path.suffix == ".qcow2" else "raw"
        drive = ["-drive", f"if=none,id=disk,snapshot=on,format={form},file={file}",
                 "-device", "ide-hd,bus=ide.1,drive=disk,bootindex=0"]
    if boot == "bios":
        return drive
    if boot == "uboot":
        return ["-bios", str(qemu.uboot()), *drive]
    code, store = qemu.ovmf()
    shutil.copyfile(store, tmp / "vars.fd")  # OVMF writes to it
    flash = "if=pflash,format=raw,unit="
    return ["-drive", f"{flash}0,readonly=on,file={code}", "-drive", f"{flash}1,file={tmp}/vars.fd"] + drive
