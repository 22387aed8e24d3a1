# SPDX-License-Identifier: MIT
"""KVM or TCG. A /dev/kvm that opens may still not run this kind of boot, or not promptly: try it."""
from __future__ import annotations

import hashlib
import json
import os
import platform
import re
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from . import UsageError, build_dir
from .guest import Limits, scratch
from .judge import judge_boot
from .profile import Profile
from .qemu import Options, Qemu
from .runner import boot_once

DEADLINE = 10.0   # seconds for the KVM probe
PATIENCE = 60.0   # where the question is not which is prompt, but whether KVM can at all
FACTOR = 2.0      # KVM may cost this many times TCG's boot,
GRACE = 0.5       # and this many seconds
_SLOW = "no report within"
_PROBE = Profile(name="probe", description="list the tests, leave", machine="q35", cpu="max", smp="2", mem="256M")


@dataclass
class Choice:
    accel: str
    why: str                         # one line
    can_kvm: bool = False            # KVM runs this boot at all
    kvm_seconds: float | None = None
    tcg_seconds: float | None = None


def choose(qemu: Qemu, boot: str, images: Path | None = None) -> Choice:
    """The accelerator for this kind of boot here; a probe's answer is kept in the build folder."""
    try:
        os.close(os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC))
    except OSError as e:
        return Choice("tcg", f"no KVM: /dev/kvm: {e.strerror}")
    path, key = build_dir() / "accel.json", _key(qemu, boot)
    try:
        kept = json.loads(path.read_text())
        return Choice(**kept[key])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    choice, sure = _try(qemu, boot, images or build_dir())
    if sure:
        _keep(path, key, choice)
    return choice


def can_kvm(qemu: Qemu, boot: str) -> Choice:
    """As choose(), but a KVM that was only slow (a loaded host) gets a second, longer try."""
    choice = choose(qemu, boot)
    if not choice.can_kvm and _SLOW in choice.why:
        seconds, _ = _probe(qemu, boot, "kvm", PATIENCE, build_dir())
        if seconds is not None:
            choice = replace(choice, can_kvm=True, kvm_seconds=seconds, why=f"{boot} boot: KVM {seconds:.1f} s")
            _keep(build_dir() / "accel.json", _key(qemu, boot), choice)
    return choice


def _key(qemu: Qemu, boot: str) -> str:
    try:
        with open("/proc/cpuinfo") as f:
            cpu = re.search(r"model name\s*: (.*)", f.read())
    except OSError:
        cpu = None
    parts = (*qemu.argv, qemu.version, cpu[1] if cpu else "", platform.release(), boot)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]


def _keep(path, key: str, choice: Choice) -> None:
    try:
        kept = json.loads(path.read_text())
    except (OSError, ValueError):
        kept = {}
    if not isinstance(kept, dict):
        kept = {}
    kept[key] = asdict(choice)
    tmp = path.with_name(f".accel-{os.getpid()}.json")
    tmp.write_text(json.dumps(kept, indent=1) + "\n")
    tmp.rename(path)


def _try(qemu: Qemu, boot: str, images: Path) -> tuple[Choice, bool]:
    """The choice, and whether it says something about this host: an image that cannot boot does not."""
    kvm, kvm_why = _probe(qemu, boot, "kvm", DEADLINE, images)
    tcg, tcg_why = _probe(qemu, boot, "tcg", 60, images)
    if kvm is None:
        return Choice("tcg", f"KVM cannot run a {boot} boot here: {kvm_why}", tcg_seconds=tcg), tcg is not None
    if tcg is None:
        return Choice("kvm", f"{boot} boot: KVM {kvm:.1f} s; TCG: {tcg_why}", True, kvm), True
    accel = "kvm" if kvm <= FACTOR * tcg + GRACE else "tcg"
    return Choice(accel, f"{boot} boot: KVM {kvm:.1f} s, TCG {tcg:.1f} s", True, kvm, tcg), True


def _probe(qemu: Qemu, boot: str, accel: str, deadline: float, images: Path) -> tuple[float | None, str]:
    """Seconds that a boot took which lists the tests and leaves; or what went wrong."""
    opts = Options(boot=boot, accel=accel, cmdline="list exit=debug", images=images)
    limits = Limits(boot=deadline, silence=deadline, total=deadline)
    try:
        with scratch(build_dir()) as tmp:
            done = boot_once(qemu, _PROBE, opts, limits, tmp)
    except UsageError as e:
        return None, str(e)
    found = judge_boot(done, limits)
    if found.report.listed and found.report.verdict:
        return done.seconds, ""
    return None, found.why
