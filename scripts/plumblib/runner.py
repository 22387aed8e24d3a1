# SPDX-License-Identifier: MIT
"""`run`: boots a machine profile, as often as it takes, and says what came of it."""
from __future__ import annotations

import os
import re
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from . import UsageError, build_dir, judge, symbols, vgpu_model
from .cmdline import LIMIT, globs, with_globs, without
from .guest import Boot, Guest, Limits, scratch
from .judge import Outcome
from .profile import Profile
from .qemu import Options, Qemu, check_image, command
from .report import check_must
from .steady import Steady
from .trace import Recorder, Trace, path_of, save

MAX_BOOTS = 40


@dataclass
class Run:
    """A finished run and where it happened."""
    profile: Profile
    qemu: Qemu
    options: Options
    log: Path
    outcome: Outcome
    seconds: float                   # first process start to last end
    boots: int = 1
    evidence: Path | None = None
    to_report: float | None = None   # first boot: start to the report's first line
    trace: Trace | None = None


def check(prof: Profile, opts: Options) -> None:
    """What cannot work is refused before anything starts."""
    if not prof.can_boot(opts.boot):
        raise UsageError(f"{prof.name} does not boot by {opts.boot}; it has {' '.join(prof.boots)}")
    if opts.accel not in prof.accel:
        raise UsageError(f"{prof.name} does not run under {opts.accel}; it has {' '.join(prof.accel)}")
    if len(opts.cmdline.encode()) > LIMIT:
        raise UsageError(f"the guest command line has {len(opts.cmdline)} bytes, {LIMIT} are the most")
    if opts.medium and opts.boot == "pvh":
        raise UsageError("a PVH boot takes kernel.elf, no medium: BOOT=uefi or bios")
    check_image(opts.image)


def required(prof: Profile, smp: str) -> list[str]:
    """The profile's `must`; nothing where the user took CPUs away that its tests need."""
    def cpus(text):
        return int(re.match(r"(?:cpus=)?(\d+)|", text)[1] or 0)
    return prof.must if not smp or cpus(smp) >= cpus(prof.smp) else []


def guest_cmdline(prof: Profile, user: str, must: list[str]) -> str:
    """What the user says, else the profile; what the machine must have is required of the guest.

    Not where the user asks for part of the suite: the guest takes a required test that is not in its
    plan for a mistake. check_must() looks at those that ran.
    """
    text = user or prof.plumb
    return text if partial(text, prof) else with_globs(text, "require", must)


def partial(cmdline: str, prof: Profile) -> bool:
    """Whether it selects tests or the device under test otherwise than the profile itself."""
    return times(cmdline) != times(prof.plumb) or any(globs(cmdline, key) != globs(prof.plumb, key) for key in ("only", "skip", "device"))


def times(cmdline: str) -> bool:
    """Whether it is the timing suite."""
    return "timing" in cmdline.split()


def again(cmdline: str, done: list[str]) -> str:
    """The command line of a later boot, without the tests that have a result."""
    return with_globs(without(cmdline, "require"), "skip", done) if done else cmdline


def log_path(prof: Profile, opts: Options) -> Path:
    accel = "-kvm" if opts.accel == "kvm" else ""
    return build_dir() / "logs" / f"{prof.name}-{opts.boot}{accel}.log"


def boot_once(qemu: Qemu, prof: Profile, opts: Options, limits: Limits, tmp: Path, **watch) -> Boot:
    with ExitStack() as stack:
        devices = []
        for n, (kind, breaks, place) in enumerate(prof.vgpu_models()):
            vgpu = stack.enter_context(vgpu_model.model(kind, breaks, tmp / f"vgpu{n}"))
            devices.append(vgpu.device(**place))
        guest = stack.enter_context(Guest(lambda fds: command(qemu, prof, opts, tmp, fds, devices),
                                          qemu.env, prof.helpers, limits, **watch))
        boot = guest.run()
    # A QEMU that never ran the guest is the environment's fault, and says why itself.
    if boot.status == 1 and not boot.log.strip():
        raise UsageError("QEMU did not start: " + (boot.stderr.splitlines() or ["status 1, and not a word"])[-1])
    return boot


def run(prof: Profile, qemu: Qemu, opts: Options, log: Path, limits: Limits, view, resume: bool,
        recorder: Recorder | None = None, steady: Steady | None = None) -> Run:
    check(prof, opts)
    log.parent.mkdir(parents=True, exist_ok=True)
    side = log.with_name(log.name + ".evidence.txt")
    side.unlink(missing_ok=True)
    trace_file = path_of(log)
    trace_file.unlink(missing_ok=True)
    start = time.monotonic()
    done: list[str] = []
    boots: list[Outcome] = []
    first = None
    with scratch(build_dir()) as tmp, open(log, "wb", buffering=0) as raw:
        while True:
            left = replace(limits, total=max(1.0, limits.total - (time.monotonic() - start)))
            now = replace(opts, cmdline=again(opts.cmdline, done))
            boot = boot_once(qemu, prof, now, left, tmp, on_bytes=raw.write, on_line=view.line, on_tick=view.tick,
                             recorder=recorder, steady=steady)
            first = first or boot
            found = judge.judge_boot(boot, limits)
            boots.append(found)
            if found.word != "PASS" and (boot.evidence or boot.stderr):
                place = symbols.where(boot.evidence, opts.images / "kernel.debug.elf")
                found.why += f"; {place}" if place else ""
                _keep_evidence(side, found, boot)
            bad = judge.mark(found) if resume else None
            if not bad or bad.name in done:  # the latter: a guest that does not heed skip=
                break
            done += [t.name for t in judge.settled(found)] + [bad.name]
            view.broke(found, bad)
            if len(done) >= (boots[0].report.plan or 0) or len(boots) >= MAX_BOOTS:
                break
            if len(again(opts.cmdline, done).encode()) > LIMIT:
                break  # the guest could not hold the list; what is missing is said
    outcome = judge.merge(boots)
    if outcome.word in ("PASS", "FAIL"):
        check_must(outcome.report, required(prof, opts.smp), whole_suite=not partial(opts.cmdline, prof))
        if outcome.report.must:
            outcome.word = "FAIL"
    trace = recorder.result() if recorder else None
    if trace:
        save(trace, trace_file)
    return Run(prof, qemu, opts, log, outcome, time.monotonic() - start, len(boots),
               side if side.exists() else None, first.to_report, trace)


def _keep_evidence(side: Path, found: Outcome, boot: Boot) -> None:
    with open(side, "a") as f:
        f.write(f"{found.word} {found.why}\nQEMU status {boot.status}, ended by us: {boot.killed or 'no'},"
                f" resets: {boot.resets}\n{boot.stderr}\n{boot.evidence}\n")


def limits_of(prof: Profile, timeout: float | None) -> Limits:
    slow = float(os.environ.get("PLUMB_SLOW", "1"))  # a loaded or instrumented host
    return Limits(prof.boot_timeout * slow, prof.silence * slow, timeout or prof.timeout * slow)
