# SPDX-License-Identifier: MIT
"""`plumb pve install`, `create` and `run`: the boot medium, a VM for it, a run in it; on one node or on all."""
from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

from .. import EXIT_PASS, EXIT_USAGE, UsageError, build_dir, judge, outputs, shown, symbols, view
from ..guest import Limits
from . import vm as vms
from .console import RingConsole, SocketConsole, serial_path
from .tools import QUICK, SLOW, ToolError, Tools, finish, kill, local_node, online_nodes, shielded
from .watch import Watch

UPLOAD_DIR = "/var/tmp"              # the one place from where the API takes a file
STORAGE = re.compile(r"[A-Za-z][A-Za-z0-9._-]{1,99}\Z")


# ---- the medium ----

def volume(storage: str, image: Path) -> tuple[str, str]:
    """Volume and file name. The name carries the content: one that is there need not be copied again."""
    if not STORAGE.match(storage):
        raise UsageError(f"{storage!r} is no storage")
    if not image.is_file():
        raise UsageError(f"no {shown(image)}: build it with `make`, or give --image")
    if image.suffix != ".iso":
        raise UsageError(f"{shown(image)}: a storage takes the ISO; a disk image goes into a VM: pve create --disk")
    name = f"plumb-{hashlib.sha256(image.read_bytes()).hexdigest()[:12]}.iso"
    return f"{storage}:iso/{name}", name


def installed(tools: Tools, storage: str, volid: str, node: str) -> bool:
    found = tools.ask_json("pvesh", "get", f"/nodes/{node}/storage/{storage}/content", "--content", "iso") or []
    return any(isinstance(v, dict) and v.get("volid") == volid for v in found)


def install(tools: Tools, storage: str, image: Path, node: str) -> str:
    """Puts the ISO into a node's storage, where it is not there yet. Its volume."""
    volid, name = volume(storage, image)
    try:
        if installed(tools, storage, volid, node):
            tools.say(f"plumb: {node}: {volid} is there")
            return volid
    except ToolError:
        if not tools.dry:
            raise
    # The API moves a file from here into the storage, on this node or another, and removes it.
    tmp = Path(os.environ.get("PLUMB_PVE_TMP", UPLOAD_DIR)) / f"pveupload-{secrets.token_hex(16)}"
    try:
        if not tools.dry:
            shutil.copyfile(image, tmp)
        tools.do("pvesh", "create", f"/nodes/{node}/storage/{storage}/upload", "--content", "iso", "--filename", name,
                 "--tmpfilename", str(tmp))
    except OSError as e:
        raise ToolError(f"{tmp}: {e.strerror}") from None
    finally:
        with shielded():
            tmp.unlink(missing_ok=True)
    if not tools.dry:
        if not installed(tools, storage, volid, node):  # a task that failed says so only in its log
            raise ToolError(f"{node}: the upload ended, but {volid} is not in the storage")
        tools.say(f"plumb: {node}: {volid} installed")
    return volid


def attach_disk(tools: Tools, vm, disk: Path, storage: str) -> None:
    """A raw or qcow2 medium as the VM's disk, imported by qm."""
    if not disk.is_file():
        raise UsageError(f"no {shown(disk)}: build it with `make media`")
    tools.do("qm", "importdisk", vm.vmid, str(disk), storage)
    volid = "UNUSED" if tools.dry else vm.config().get("unused0", "")
    if not volid:
        raise ToolError(f"VM {vm.vmid}: the imported disk is nowhere in its configuration")
    vm.set("--sata0", volid, "--boot", "order=sata0")


# ---- one run ----

@dataclass
class Done:
    outcome: judge.Outcome
    seconds: float
    log: Path
    evidence: Path = None
    left: str = ""                   # what could not be taken away


def start_attached(vm, limits: Limits):
    """Starts a VM here so that the first byte is read; its console and when it was started."""
    frozen = vm.config().get("freeze", "0") == "1"
    console = SocketConsole(serial_path(vm.vmid))
    try:
        if frozen:
            vm.start()
            console.attach(QUICK)
            began = time.monotonic()
            vm.resume()
        else:
            began = time.monotonic()
            proc = vm.tools.spawn("qm", "start", vm.vmid)
            try:
                try:
                    console.attach(SLOW, proc)
                finally:
                    finish(proc, SLOW)  # what it says is better than that there is no socket
            finally:
                kill(proc)
    except BaseException:
        console.close()
        raise
    return console, began


def watch(vm, console, began: float, limits: Limits, screen, log: Path) -> Done:
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "wb", buffering=0) as raw:
        boot = Watch(vm, console, limits, screen, raw.write).run(began)
    found = judge.judge_boot(boot, limits)
    if found.word == "DAMAGED" and not boot.killed and not found.report.verdict:
        running = f"in {found.report.running.name}" if found.report.running else (
            "before the report began" if not found.report.boots else "between tests")
        found = judge.Outcome("CRASH", found.report, f"{running}: the VM ended without a verdict: switched off, or"
                              f" QEMU died (journalctl -b | grep {vm.vmid})")
    side = None
    if boot.evidence:
        side = log.with_name(log.name + ".evidence.txt")
        side.write_text(f"{found.word} {found.why}\n{boot.evidence}")
        place = symbols.where(boot.evidence, build_dir() / "kernel.debug.elf")
        found.why += f"; {place}" if place else ""
    judge.mark(found)
    return Done(found, boot.seconds, log, side)


def refuse(vm, conf: dict) -> None:
    """What cannot work is said before anything starts."""
    if conf.get("lock"):
        raise UsageError(f"VM {vm.vmid} is locked ({conf['lock']})")
    if conf.get("template", "0") == "1":
        raise UsageError(f"VM {vm.vmid} is a template")
    if conf.get("serial0", "") != "socket":
        raise UsageError(f"VM {vm.vmid} has no serial socket: qm set {vm.vmid} --serial0 socket")
    if vm.status() != "stopped":
        raise UsageError(f"VM {vm.vmid} runs; plumb would have to end it: qm shutdown {vm.vmid}")


def secure_boot(vm, conf: dict) -> str:
    """Why such a VM may never say a word; empty: nothing against it. Its variables may say otherwise by now: no refusal."""
    if conf.get("bios") != "ovmf" or "pre-enrolled-keys=1" not in conf.get("efidisk0", "").split(","):
        return ""
    return (f"VM {vm.vmid} has pre-enrolled-keys=1: with Secure Boot on, its firmware refuses a program that nobody signed;"
            " switch it off in the firmware's menu (Device Manager), or use a VM that plumb makes")


def run_existing(tools: Tools, vm, limits: Limits, screen, log: Path, freeze: bool) -> Done:
    """A VM of the user's: started, watched, stopped. freeze: for this run, and as it was afterwards."""
    if tools.dry:
        _dry_run(vm, freeze)
        return None
    conf = vm.config()
    refuse(vm, conf)
    was = conf.get("freeze")
    change = freeze and was != "1"
    keys = secure_boot(vm, conf)
    if keys:
        tools.say(f"plumb: {keys}")
    started = False
    done, left = None, ""
    try:
        if change:
            started = True
            vm.set("--freeze", "1")
        started = True
        console, began = start_attached(vm, limits)
        try:
            done = watch(vm, console, began, limits, screen, log)
        finally:
            console.close()
    finally:
        if started:
            with shielded():
                left = vms.halt(vm)
                if change:
                    try:
                        vm.set(*(("--delete", "freeze") if was is None else ("--freeze", was)))
                    except ToolError as e:
                        left = left or f"VM {vm.vmid} keeps freeze: 1: {e}"
                if left:
                    tools.say(f"plumb: LEFT BEHIND: {left}")
    done.left = left
    if keys and not done.outcome.report.boots:
        done.outcome.why += f"; {keys}"
    return done


def _dry_run(vm, freeze: bool) -> None:
    if freeze:
        vm.set("--freeze", "1")
    vm.start()
    vm.tools.say(f"would attach: {serial_path(vm.vmid)}")
    vm.resume()
    vm.stop()
    if freeze:
        vm.set("--delete", "freeze")


def run_made(tools: Tools, machine, storage: str, image: Path, cmdline: str, limits: Limits, screen, log: Path,
             node: str = "") -> Done:
    """A VM made for this run and destroyed after it. node: another one of the cluster, or this one by pvesh."""
    ring = bool(node)
    vms.check(machine)
    mark = vms.new_mark()
    cdrom = install(tools, storage, image, node or local_node())
    vmid = vms.next_vmid(tools)
    vm = vms.NodeVm(tools, vmid, node) if ring else vms.LocalVm(tools, vmid)
    done, left = None, ""
    try:
        vm.create(vms.options(machine, cdrom, cmdline, mark, ring))
        if tools.dry:
            vm.start()
            if not ring:
                tools.say(f"would attach: {serial_path(vmid)}")
                vm.resume()
        else:
            began = time.monotonic()
            if ring:
                vm.start()
                console = RingConsole(vm)
            else:
                console, began = start_attached(vm, limits)
            try:
                done = watch(vm, console, began, limits, screen, log)
            finally:
                console.close()
    finally:
        with shielded():
            left = vms.remove(vm, mark)
            if left:
                tools.say(f"plumb: LEFT BEHIND: {left}")
    if done:
        done.left = left
    return done


# ---- the commands ----

def cmd_install(args) -> int:
    tools = Tools(args.dry_run, args.verbose)
    image = Path(args.image) if args.image else build_dir() / "plumb.iso"
    bad = 0
    for node in _nodes(tools, args) or [local_node()]:
        try:
            print(install(tools, args.storage, image, node))
        except ToolError as e:
            bad += 1
            tools.say(f"plumb: {node}: {e}")
    return EXIT_USAGE if bad else EXIT_PASS


def cmd_create(args) -> int:
    tools = Tools(args.dry_run, args.verbose)
    image = Path(args.image) if args.image else build_dir() / "plumb.iso"
    machine = _machine(tools, args)
    vms.check(machine)
    cdrom = "" if args.disk else install(tools, args.storage, image, local_node())
    mark = vms.new_mark()
    vm = vms.LocalVm(tools, args.vmid or vms.next_vmid(tools))
    kept = False
    try:
        vm.create(vms.options(machine, cdrom, args.plumb, mark, False))
        if args.disk:
            attach_disk(tools, vm, Path(args.disk), args.disk_storage)
        kept = True
    finally:
        if not kept:
            with shielded():
                left = vms.remove(vm, mark)
                if left:
                    tools.say(f"plumb: LEFT BEHIND: {left}")
    print(f"VM {vm.vmid} made; its verdict: scripts/plumb pve run {vm.vmid}   gone again: qm destroy {vm.vmid} --purge 1")
    return EXIT_PASS


def cmd_run(args) -> int:
    tools = Tools(args.dry_run, args.verbose)
    limits = Limits(args.boot_timeout, args.silence, args.timeout)
    image = Path(args.image) if args.image else build_dir() / "plumb.iso"
    nodes = _nodes(tools, args)
    if args.vmid and nodes:
        raise UsageError("a VM is on one node: no VMID with --nodes")
    if args.vmid and (args.hostpci or args.like or args.plumb):
        raise UsageError("a VM that is there keeps its devices and its command line; without a VMID one is made for the run")
    if nodes:
        return _run_nodes(tools, args, nodes, limits, image)
    name = f"pve-{args.vmid or 'run'}"
    log = Path(args.log) if args.log else build_dir() / "logs" / f"{name}.log"
    screen = view.pick(sys.stdout)
    title = f"VM {args.vmid} on {local_node()}" if args.vmid else f"a VM for this run on {local_node()}"
    screen.begin(title)
    try:
        if args.vmid:
            done = run_existing(tools, vms.LocalVm(tools, args.vmid), limits, screen, log, args.freeze)
        else:
            done = run_made(tools, _machine(tools, args), args.storage, image, args.plumb, limits, screen, log)
    finally:
        screen.end()
    if not done:
        return EXIT_PASS
    print(outputs.text(done.outcome, view.Paint(sys.stdout), done.seconds, shown(done.log),
                       title, shown(done.evidence) if done.evidence else ""))
    _write(args, done)
    return done.outcome.exit_code


def _write(args, done: Done) -> None:
    for where, make in ((args.json, outputs.as_json), (args.junit, outputs.as_junit)):
        if where:
            try:
                Path(where).write_text(make(done.outcome), encoding="utf-8")
            except OSError as e:
                raise UsageError(f"cannot write {where}: {e.strerror}") from None


def _run_nodes(tools: Tools, args, nodes: list, limits: Limits, image: Path) -> int:
    """One after the other, with one table at the end. The worst of them is the exit status."""
    machine = _machine(tools, args)
    rows, worst = [], EXIT_PASS
    for node in nodes:
        log = build_dir() / "logs" / f"pve-node-{node}.log"
        screen = view.pick(sys.stdout)
        screen.begin(f"a VM for this run on {node}")
        done, why = None, ""
        try:
            done = run_made(tools, replace(machine), args.storage, image, args.plumb, limits, screen, log, node)
        except UsageError as e:
            why = str(e)
        finally:
            screen.end()
        if done:
            print(outputs.text(done.outcome, view.Paint(sys.stdout), done.seconds, shown(log), f"node {node}"))
            c = outputs.counts(done.outcome.report)
            findings = " ".join(sorted({f.ident for f in done.outcome.report.findings})) or "-"
            rows.append((node, done.outcome.word, f"{c['passed']}", f"{c['failed']}", f"{c['skipped']}",
                         f"{done.seconds:.1f}", findings, done.left or done.outcome.why or ""))
            worst = max(worst, done.outcome.exit_code)
        elif why:
            rows.append((node, "ERROR", "-", "-", "-", "-", "-", why))
            worst = EXIT_USAGE
    if rows:
        print("\n" + table(("node", "verdict", "passed", "failed", "skipped", "seconds", "findings", ""), rows))
    return worst


def table(head: tuple, rows: list) -> str:
    cells = [head, *[tuple(view.clean(str(c)) for c in row) for row in rows]]
    width = [max(len(row[i]) for row in cells) for i in range(len(head))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(row, width)).rstrip() for row in cells)


def _nodes(tools: Tools, args) -> list:
    """Those that --nodes names: `all`, or names with commas between. A node that is off is said."""
    if not args.nodes:
        return []
    if args.nodes != "all":
        return [n for n in args.nodes.split(",") if n]
    up, down = online_nodes(tools)
    for node in down:
        tools.say(f"plumb: {node}: not online, left out")
    if not up:
        raise ToolError("no node is online")
    return up


def _machine(tools: Tools, args) -> vms.Machine:
    like = vms.LocalVm(tools, args.like).config() if args.like else {}
    if args.like and not tools.dry:
        taken = sorted(k for k in like if re.match(r"(net|scsi|virtio|sata|ide|efidisk|tpmstate)\d|args|smbios1", k))
        tools.say(f"plumb: like VM {args.like}, but without its {' '.join(taken) or 'nothing'}")
    return vms.Machine(args.q35, args.ovmf, args.viommu, args.cores, args.memory, args.cpu, args.hostpci, args.net,
                       args.efi_storage, like, args.set)
