#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""A second opinion on apic.* and ioapic.*: the same image in Bochs, whose interrupt controllers nobody of QEMU wrote.

    tests/host/bochs/run.py [-k GLOB] [-v]           (make second-opinion)

opinions.toml says of each test what comes of it there, on a CPU with x2APIC and on one without, and, where it does not
pass, whose fault that is. All that pass share one boot, each other one has its own: some of them take the machine down.
Status: 0 all as the table says, 1 not, 3 nothing could be run.
"""
import argparse
import fnmatch
import os
import pathlib
import re
import select
import socket
import subprocess
import sys
import tempfile
import time
import tomllib

ROOT = pathlib.Path(__file__).resolve().parents[3]
BUILD = pathlib.Path(os.environ.get("BUILD") or ROOT / "build")
SHARE = pathlib.Path("/usr/share/bochs")
sys.path.insert(0, str(ROOT / "scripts"))
from plumblib.report import parse_report  # noqa: E402

CPUS = {"x2apic": "corei7_skylake_x", "xapic": "core2_penryn_t9600"}
LIMIT, START, LINE_MAX = 240, 20, 1 << 24   # seconds, seconds, bytes of a report
# A second of its clock is 20 million instructions: deadlines that are meant for hardware pass in time. The display is
# a VNC server that waits for nobody; the packaged Bochs stops in its debugger until it is told to continue.
CONFIG = """\
display_library: rfb, options="timeout=0"
cpu: model={cpu}, count=4:1:1, ips=20000000, reset_on_triple_fault=0
megs: 256
romimage: file={share}/BIOS-bochs-latest
vgaromimage: file={share}/VGABIOS-lgpl-latest
ata0-master: type=cdrom, path={iso}, status=inserted
boot: cdrom
com1: enabled=1, mode=socket-client, dev=127.0.0.1:{port}
log: {log}
panic: action=fatal
pci: enabled=1, chipset=i440fx
clock: sync=none
"""


def listen(sock, proc):
    """All that its serial port says, until the verdict, its end, or ours."""
    sock.settimeout(START)
    data = b""
    try:
        conn, _ = sock.accept()
    except TimeoutError:
        return data
    end = time.monotonic() + LIMIT
    with conn:
        while time.monotonic() < end and len(data) < LINE_MAX and proc.poll() is None:
            if not select.select([conn], [], [], 0.5)[0]:
                continue
            part = conn.recv(65536)
            data += part
            if not part or b"\n# verdict" in data and data.endswith(b"\n"):
                break
    return data


def boot(cpu, cmdline, log):
    """The report, or None."""
    with tempfile.TemporaryDirectory(prefix="bochs-") as tmp, socket.socket() as sock:
        folder = pathlib.Path(tmp)
        (folder / "plumb.cfg").write_text(cmdline + "\n")
        subprocess.run(["xorriso", "-indev", BUILD / "plumb.iso", "-outdev", folder / "plumb.iso", "-map",
                        folder / "plumb.cfg", "/plumb.cfg", "-boot_image", "any", "replay"],
                       check=True, capture_output=True, timeout=60)
        sock.bind(("127.0.0.1", 0))
        sock.listen(1)
        (folder / "bochsrc").write_text(CONFIG.format(cpu=CPUS[cpu], share=SHARE, iso=folder / "plumb.iso", log=folder / "log",
                                                      port=sock.getsockname()[1]))
        (folder / "go").write_text("c\n")
        with open(folder / "out", "wb") as out:
            proc = subprocess.Popen(["bochs", "-q", "-f", folder / "bochsrc", "-rc", folder / "go"],
                                    stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=folder)
            try:
                data = listen(sock, proc)
            finally:
                proc.kill()
                proc.wait()
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_bytes(data)
    return parse_report(data) if b"TAP version 14" in data else None


def judge(report, name, want):
    """What is not as the table says; nothing if all is."""
    test = next((t for t in report.tests if t.name == name), None) if report else None
    outcome = test.outcome if test else "missing"
    if outcome != want["is"]:
        return f"{outcome}, expected {want['is']}"
    lacks = [p for p in want.get("says", []) if not any(re.search(p, line) for line in test.details)]
    never = [p for p in want.get("never", []) if any(re.search(p, line) for line in test.details)]
    return f"nothing says /{lacks[0]}/" if lacks else f"it says /{never[0]}/" if never else None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-k", metavar="GLOB", default="*")
    parser.add_argument("-v", action="store_true", help="all that the tests said")
    args = parser.parse_args()
    table = tomllib.loads(pathlib.Path(__file__).with_name("opinions.toml").read_text())
    table = {(cpu, n): e for cpu in CPUS for n, e in table[cpu].items() if fnmatch.fnmatchcase(n, args.k)}
    if not table or not (SHARE / "BIOS-bochs-latest").exists() or not (BUILD / "plumb.iso").exists():
        print("nothing to run: scripts/plumb setup --for opinion, make iso")
        return 3
    groups = {}
    for (cpu, n), e in table.items():
        groups.setdefault((cpu, "pass" if e["is"] == "pass" else n), []).append(n)
    bad = 0
    for (cpu, name), names in groups.items():
        report = boot(cpu, f"only={','.join(names)}", BUILD / "logs" / f"bochs.{cpu}.{name}.log")
        for n in names:
            want = table[cpu, n]
            wrong = judge(report, n, want)
            bad += bool(wrong)
            said = wrong or f"{want['is']:5} {want.get('why', '')}"
            print(f"{'FAIL' if wrong else 'ok  '} {cpu:7} {n:32} {said}".rstrip(), flush=True)
            if args.v and report:
                print("\n".join(f"     {d}" for t in report.tests if t.name == n for d in t.details))
    print(f"{len(table) - bad} as the table says, {bad} not")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
