# SPDX-License-Identifier: MIT
"""One boot of the lab's host: an outer QEMU, its console, its deadlines. It does not outlive us."""
from __future__ import annotations

import ctypes
import mmap
import os
import platform
import re
import shlex
import shutil
import signal
import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from .. import vgpu_model
from ..profile import Profile
from ..qemu import Options, Qemu, command, fw_cfg
from . import truth
from .scenario import Scenario, guest

BOOT = 300.0                         # seconds to the agent's first word
SPARE = 120.0                        # beyond a scenario's own deadline
CPU = "EPYC,+x2apic,+svm"            # TCG's SVM, with nested paging
SMP = 2
AGENT = re.compile(r"^lab: ([\d.]+) (begin|end|up|done) ?(\S*)\r?$", re.M)
# Verbosity is bought with a serial line in software; each scenario's kernel log comes by the shared folder.
# no_timer_check: a kernel that gets no CPU time while it looks whether its timer ticks gives up for good.
APPEND = ("console=ttyS0 quiet loglevel=4 panic=-1 oops=panic intel_iommu=on iommu=nopt amd_iommu=on mitigations=off"
          " no_timer_check")
_RDTSC = bytes.fromhex("0f3148c1e2204809d0c3")  # rdtsc; shl rdx, 32; or rax, rdx; ret
_PR_SET_PDEATHSIG = 1
STOP = threading.Event()             # no host goes on: somebody wants us to end


@dataclass
class Session:
    """How far it came."""
    seconds: float = 0
    up: float | None = None          # the host's own clock at the agent's first word
    done: list = field(default_factory=list)      # scenarios that ended
    running: str = ""                # the one that did not
    took: dict = field(default_factory=dict)
    why: str = ""                    # where it broke off
    console: str = ""


def tsc_khz() -> int:
    """Of this machine, and so of TCG's: a host that measures it while it gets no CPU time may be wrong by eight times,
    and all its clocks with it. 0 where it cannot be told."""
    if platform.machine() != "x86_64":
        return 0
    page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(_RDTSC)
    read = ctypes.CFUNCTYPE(ctypes.c_uint64)(ctypes.addressof(ctypes.c_char.from_buffer(page)))
    found = []
    for _ in range(5):
        c0, t0 = read(), time.monotonic_ns()
        time.sleep(0.04)
        c1, t1 = read(), time.monotonic_ns()
        found.append((c1 - c0) * 1_000_000 // (t1 - t0))
    return sorted(found)[2]


def argv(qemu: Qemu, prof: Profile, kernel: Path, archive: Path, share: Path) -> list[str]:
    """The machine with Linux on it."""
    khz = tsc_khz()
    clock = f" tsc=reliable tsc_early_khz={khz}" if khz else ""
    return machine(qemu, prof, share) + ["-serial", "stdio", "-kernel", str(kernel), "-initrd", str(archive),
                                         "-append", f"{APPEND}{clock} lab={share}"]


def bare(qemu: Qemu, prof: Profile, share: Path, log: Path, plumb: str) -> list[str]:
    """The very same machine with plumb on it."""
    return machine(qemu, prof, share) + [
        "-chardev", f"file,id=serial,path={log}", "-serial", "chardev:serial", "-device", "isa-debug-exit,iobase=0xf4,iosize=0x4",
        *fw_cfg("opt/plumb/cmdline", plumb, log.parent), "-kernel", str(share / "kernel.elf")]


def machine(qemu: Qemu, prof: Profile, share: Path) -> list[str]:
    out = list(qemu.argv) + ["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
                             "-machine", prof.machine, "-accel", "tcg,thread=multi", "-cpu", prof.cpu,
                             "-smp", prof.smp, "-m", prof.mem]
    for device in prof.devices:
        out += shlex.split(device)
    # The exchange is a function of the machine too, the same in every boot of it.
    return out + ["-fsdev", f"local,id=lab,path={str(share).replace(',', ',,')},security_model=none",
                  "-device", "virtio-9p-pci,fsdev=lab,mount_tag=lab,addr=1e.0"]


def write(one: Scenario, share: Path, qemu: Qemu, images: Path) -> None:
    """A scenario's folder, as tests/lab/agent.sh reads it. Its paths are the same on both sides."""
    folder = share / one.name
    folder.mkdir()
    (folder / "deadline").write_text(f"{one.deadline:.0f}\n")
    if one.kind == "truth":
        (folder / "setup.sh").write_text("\n".join([*one.setup, *truth.ASK]) + "\n")
        return
    prof = guest(one)
    start = []                       # before the guest, as children of what becomes its QEMU: they end with it
    devices = []
    for n, (kind, breaks, place) in enumerate(prof.vgpu_models()):
        socket = Path(f"/tmp/vgpu{n}.sock")
        line = [str(images / "vgpu"), "--kind", kind, "--socket", str(socket)]
        for name in breaks:
            line += ["--break", name]
        start += [f"rm -f {socket}; {shlex.join(line)} < /dev/null > vgpu{n}.txt 2>&1 &",
                  f"for i in $(seq 50); do [ -S {socket} ] && break; sleep 0.1; done"]
        devices.append(vgpu_model.device_option(socket, **place))
    for name, lines in (("setup", one.setup), ("during", one.during), ("after", one.after)):
        if lines:
            (folder / f"{name}.sh").write_text("\n".join(lines) + "\n")
    plumb = " ".join(filter(None, [one.plumb, f"require={','.join(one.must)}" if one.must else ""]))
    opts = Options(one.boot, "kvm", cmdline=plumb, images=images)
    line = command(qemu, prof, opts, folder, {"serial": "file,path=/tmp/serial", "qmp": "null"}, devices)
    env = " ".join(f"{k}={shlex.quote(v)}" for k, v in qemu.env.items())
    (folder / "guest.sh").write_text("".join(f"{text}\n" for text in start) + f"exec env {env} {shlex.join(line)}\n")


def run(line: list[str], env: dict, share: Path, plan: list[Scenario], say) -> Session:
    """Boots it and watches the agent go through its plan. say: called with each step, for people."""
    (share / "plan").write_text("".join(f"{one.name}\n" for one in plan))
    left = {one.name: one.deadline + SPARE for one in plan}
    console = share / "console.log"
    session, seen = Session(), 0
    start = mark = time.monotonic()
    limit = BOOT
    with open(console, "wb") as out:
        proc = _spawn(line, env, out)
        try:
            while True:
                ended = proc.poll() is not None
                text = console.read_bytes()[seen:].decode("utf-8", "replace")
                whole = text.rpartition("\n")[0] + "\n" if "\n" in text else ""
                for m in AGENT.finditer(whole):
                    mark = time.monotonic()
                    limit = _step(session, m, left, say)
                seen += len(whole.encode("utf-8", "replace")) if "\ufffd" not in whole else len(whole)
                if ended:
                    break
                if STOP.is_set():
                    session.why = "stopped"
                    break
                if time.monotonic() - mark > limit:
                    session.why = f"no word from the host for {limit:.0f} s"
                    break
                time.sleep(0.2)
        finally:
            _kill(proc)
    session.seconds = time.monotonic() - start
    session.console = console.read_bytes().decode("utf-8", "replace")
    if not session.why and (session.running or len(session.done) < len(plan)):
        panic = re.search(r"Kernel panic[^\r\n]*", session.console)
        session.why = panic[0] if panic else f"the host's QEMU ended with status {proc.returncode}"
    return session


def _step(session: Session, m: re.Match, left: dict, say) -> float:
    """The seconds that the next one may take."""
    clock, what, name = float(m[1]), m[2], m[3]
    if what == "up":
        session.up = clock
    elif what == "begin":
        session.running = name
        session.took[name] = -clock
        return left.get(name, SPARE)
    elif what == "end":
        session.took[name] += clock
        session.done.append(name)
        session.running = ""
        say(name)
    return SPARE


def run_bare(line: list[str], env: dict, seconds: float) -> int | None:
    """QEMU's status; None at the deadline."""
    with open(os.devnull, "wb") as out:
        proc = _spawn(line, env, out)
        try:
            return _wait(proc, seconds)
        finally:
            _kill(proc)


def _wait(proc: subprocess.Popen, seconds: float) -> int | None:
    end = time.monotonic() + seconds
    while proc.poll() is None and time.monotonic() < end and not STOP.is_set():
        time.sleep(0.1)
    return proc.poll()


def _spawn(line: list[str], env: dict, out) -> subprocess.Popen:
    libc = ctypes.CDLL(None)
    parent = os.getpid()

    def child():
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(127)

    return subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, env={**os.environ, **env},
                            start_new_session=True, preexec_fn=child)


def _kill(proc: subprocess.Popen) -> None:
    if proc.poll() is None:
        os.killpg(proc.pid, signal.SIGKILL)
    proc.wait(10)


def lay_out(share: Path, images: Path) -> None:
    """What every scenario uses."""
    share.mkdir(parents=True)
    from .scenario import FOLDER
    shutil.copyfile(FOLDER / "agent.sh", share / "agent.sh")
    for name in ("kernel.elf", "plumb.iso"):
        shutil.copyfile(images / name, share / name)
    model = images / "models" / "vgpu"
    if model.is_file():
        shutil.copy(model, share / "vgpu")
