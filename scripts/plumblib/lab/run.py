# SPDX-License-Identifier: MIT
"""`lab`: scenarios, grouped by the host they want, one boot of it for all of them."""
from __future__ import annotations

import concurrent.futures
import os
import re
import shutil
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

from .. import EXIT_FAIL, EXIT_PASS, ROOT, UsageError, build_dir, qemu, shown, sysroot
from ..guest import scratch
from . import host, image, results, scenario
from .scenario import Scenario

AGAIN = 4                            # boots of a host, where a scenario takes it down
SHARED = 8                           # scenarios that are worth two boots
# QEMU's TCG, now and then (docs/lab.md): a CR8 write while a virtual interrupt waits. Nothing of the scenario's: once more.
OURS_NOT = re.compile(r"assertion failed: \(bql_locked\(\)\)")
DOC = ROOT / "docs" / "lab.md"
_lock = threading.Lock()


def cmd_lab(args) -> int:
    found = scenario.names(args.glob)
    if not found:
        raise UsageError(f"no scenario like {args.glob!r}; there are: {' '.join(scenario.names())}")
    chosen = [scenario.load(name) for name in found]
    if args.list:
        for one in chosen:
            print(f"{one.part}  {one.name:<24} {one.host:<10} {one.description}")
        return EXIT_PASS
    chosen = [replace(one, name=f"{one.name}.{n}") if args.times > 1 else one
              for one in chosen for n in range(1, args.times + 1)]
    start = time.monotonic()
    kernel, archive = image.provision()
    if args.image_only:
        return EXIT_PASS
    images = Path(args.images) if args.images else build_dir()
    for name in ("kernel.elf", "plumb.iso"):
        qemu.check_image(images / name)
    out = build_dir() / "lab" / "out"
    out.mkdir(parents=True, exist_ok=True)
    groups: dict[str, list[Scenario]] = {}
    for one in chosen:
        groups.setdefault(one.host, []).append(one)
    done: dict[str, results.Result] = {}
    notes: list[str] = []
    with concurrent.futures.ThreadPoolExecutor(max(1, args.jobs)) as pool:
        # The longest first: they decide when all is over.
        jobs = [pool.submit(_host, name, label, part, kernel, archive, images, out, done, notes)
                for name, label, part in sorted(parts(groups, args.jobs), key=lambda p: -sum(s.deadline for s in p[2]))]
        try:
            for job in jobs:
                job.result()
        except BaseException:            # a signal, or a host that we could not even write down
            host.STOP.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    everything = [done[one.name] for one in sorted(chosen, key=lambda s: (s.part, s.name))]
    seconds = time.monotonic() - start
    bad = sum(r.word == "FAIL" for r in everything)
    todo = sum(r.word == "todo" for r in everything)
    head = (f"lab: {len(everything) - bad - todo} ok, {todo} but for known faults of the platform, {bad} failed"
            f" in {seconds:.0f} s")
    report = build_dir() / "lab" / "report.md"
    report.write_text(results.as_markdown(everything, head) + "\n" + "".join(f"- {n}\n" for n in sorted(notes)))
    report.with_suffix(".html").write_text(results.as_html(everything, head, out))
    if args.write:
        if args.glob != "*" or args.times != 1:
            raise UsageError("--write tells of a whole run")
        results.write(DOC, everything, f"{head}; {machine_text()}")
    print(results.as_text(everything))
    print(f"{head}     {shown(report)}")
    return EXIT_FAIL if bad else EXIT_PASS


def machine_text() -> str:
    return f"{os.cpu_count()} cores, load {os.getloadavg()[2]:.1f} (15 min), QEMU {image.QEMU}, images there"


def parts(groups: dict[str, list[Scenario]], jobs: int):
    """(host, label, scenarios) of each boot: a host that many want is booted as often as there are jobs."""
    for name, group in groups.items():
        ways = jobs if len(group) >= SHARED else 1
        for n in range(ways):
            yield name, f"{name}.{n + 1}" if ways > 1 else name, group[n::ways]


def _host(name: str, label: str, group: list[Scenario], kernel, archive, images, out, done, notes) -> None:
    """All scenarios of one boot of a host; booted again where one of them took it down."""
    prof = scenario.host(name)
    machine = qemu.from_sysroot(sysroot.lowest(prof.needs_qemu))
    inner = qemu.from_sysroot(image.QEMU)
    left = sorted(group, key=lambda one: bool(one.host_ends))
    again: set[str] = set()
    shut_down: dict[str, str] = {}
    for _ in range(AGAIN):
        if not left or host.STOP.is_set():
            return
        # 9p serves what is there when the host asks: the folder is made whole before it starts.
        with scratch(build_dir() / "lab") as tmp:
            share = tmp / "share"
            host.lay_out(share, images)
            for one in left:
                host.write(one, share, inner, share)
            line = host.argv(machine, prof, kernel, archive, share)
            bare = {one.name: host.run_bare(host.bare(machine, prof, share, share / one.name / "serial.log", one.plumb),
                                            machine.env, one.deadline) for one in left if one.kind == "truth"}
            try:
                session = host.run(line, machine.env, share, left, lambda what: _say(f"{label}: {what}"))
            finally:
                keep(share, out, label)
        with _lock:
            notes.append(f"host {label}: up after {session.up or 0:.1f} s, ended after {session.seconds:.0f} s"
                         f"{', ' + session.why if session.why else ''}; {len(session.done)} scenarios")
        for one in list(left):
            if one.name in session.done or one.name == session.running:
                broke = session.why if one.name == session.running else ""
                if broke and not one.host_ends and OURS_NOT.search(session.console) and one.name not in again:
                    again.add(one.name)
                    notes.append(f"{one.name} was run again: the host's QEMU had ended itself ({OURS_NOT.search(session.console)[0]})")
                    continue
                result = results.judged(one, out / one.name, broke, bare.get(one.name), session.console)
                shut = results.shutdown(out / one.name)
                if shut and result.problems and one.name not in again:
                    again.add(one.name)
                    shutil.rmtree(out / f"{one.name}.shutdown", ignore_errors=True)
                    (out / one.name).rename(out / f"{one.name}.shutdown")
                    notes.append(f"{one.name} was run again: its guest had shut down: {shut} (out/{one.name}.shutdown/kvm.txt)")
                    shut_down[one.name] = shut
                    continue
                if one.name in shut_down:
                    result.known.append(f"a guest that shut down, the time before: {shut_down[one.name]}. Once in some hundred guests,"
                                        " whatever runs in them (docs/lab.md)")
                    result.close()
                result.seconds = session.took.get(one.name) if not broke else None
                done[one.name] = result
                left.remove(one)
        if not session.running and session.why and not session.done:
            break                    # it does not even come up
    for one in left:
        result = results.Result(one)
        result.problems.append(f"not run: {session.why or 'the host ended'}; {_tail(session.console)}")
        done[one.name] = result


def keep(share: Path, out: Path, name: str) -> None:
    """Logs stay, images go."""
    place = out / f"host-{name}"
    place.mkdir(exist_ok=True)
    for path in share.iterdir():
        if path.is_dir():
            shutil.rmtree(out / path.name, ignore_errors=True)
            shutil.copytree(path, out / path.name, ignore=shutil.ignore_patterns("*.fd"))
        elif path.suffix in (".log", ".txt"):
            shutil.copyfile(path, place / path.name)


def _tail(console: str) -> str:
    lines = [line.strip() for line in console.splitlines() if line.strip() and "TCG doesn't support" not in line]
    return " | ".join(lines[-2:])


def _say(text: str) -> None:
    with _lock:
        print(f"plumb: lab: {text}", file=sys.stderr, flush=True)
