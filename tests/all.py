#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Everything that `make test` and CI run; the last line is `N passed, N failed, N skipped`.

Each check is one command with a deadline: 0 passes, 77 skips (its last line says why), all else fails. What a failed one
said is kept in build/failed/NAME.txt, beside the report of its boot where there is one.
    tests/all.py [-k GLOB] [-v]     only the checks whose names match; -v shows all output
"""
import argparse
import concurrent.futures
import fnmatch
import glob
import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = os.environ.get("BUILD") or "build"
PLUMB = "scripts/plumb"
SKIP = 77
FAILED = pathlib.Path(BUILD) / "failed"
SLOWEST = 10
# What is known to take long goes first, so that the end is not one check on one of two cores.
LONG = ("machine.*-wide.*", "matrix", "machine.*.uefi", "machine.*.ubsan", "pytest.lab.*", "pytest.report.*", "pytest.*",
        "machine.*.17cpus", "machine.q35-*", "lint.cppcheck", "machine.*")
# Lines of a report that say nothing of a failure; the log has them.
NOISE = re.compile(r"(ok|# (env|metric|run|took|note|hist)) ")
# The page of this machine check is CI's sample: build/sample/report.html.
SAMPLE = ("q35-vtd", "pvh")
# One name of each outcome, and how `plumb run` must call it on the selftest machine.
SELFTESTS = {"pass": 0, "skip": 0, "known": 0, "fail": 1, "empty": 1, "fault": 1, "timeout": 1,
             "hang": 2, "reset": 2, "garble": 2}


def of_interest(text):
    """The lines of a failed check to print: of a report all that its failed tests said, figures too, and what follows it."""
    found, block = [], []
    for line in text.splitlines():
        block = [line] if line.startswith(("# run ", "# verdict ")) else [*block, line]
        if line.startswith("not ok ") and "# TODO" not in line:
            found += block
            block = []
    rest = text.splitlines() if not found else block
    return [*found, *(line for line in rest if not NOISE.match(line))]


def last_words(check):
    """What QEMU said in the end, where it said something and the boot did not pass."""
    path = pathlib.Path(check.log + ".evidence.txt")
    return path.read_text(errors="replace").rstrip().splitlines()[-6:] if check.log and path.is_file() else []


class Check:
    def __init__(self, name, *argv, expect=0, seconds=300, says=None, **env):
        self.name, self.argv, self.expect, self.seconds, self.says = name, argv, expect, seconds, says
        self.env = {k: str(v) for k, v in env.items()}

    @property
    def log(self):
        """The serial log of its boot, or ''."""
        return self.argv[self.argv.index("--log") + 1] if "--log" in self.argv else ""

    @property
    def again(self):
        """What does the same by hand."""
        return " ".join([*(f"{k}={shlex.quote(v)}" for k, v in self.env.items()), shlex.join(map(str, self.argv))])

    def run(self):
        """(outcome, seconds, output)"""
        env = {k: v for k, v in os.environ.items() if k not in
               ("MACHINE", "BOOT", "SMP", "MEM", "QEMU_ARGS", "PLUMB", "LOG", "ACCEL", "MAKEFLAGS", "MAKELEVEL")}
        start = time.monotonic()
        try:
            proc = subprocess.Popen(self.argv, cwd=ROOT, env={**env, **self.env}, stdin=subprocess.DEVNULL,
                                    stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
        except OSError as e:  # not built
            return "FAIL", 0.0, f"{e}\n"
        try:
            out, _ = proc.communicate(timeout=self.seconds)
        except subprocess.TimeoutExpired:
            os.killpg(proc.pid, signal.SIGTERM)
            try:
                out, _ = proc.communicate(timeout=10)
            except subprocess.TimeoutExpired:
                os.killpg(proc.pid, signal.SIGKILL)
                out, _ = proc.communicate()
            out += f"\nno end after {self.seconds} s\n".encode()
        text = out.decode(errors="replace")
        took = time.monotonic() - start
        if proc.returncode == SKIP:
            return "skip", took, text
        good = proc.returncode == self.expect and (self.says is None or self.says in text)
        if not good:
            text += f"\nstatus {proc.returncode}, expected {self.expect}"
            text += f", and the text '{self.says}'\n" if self.says else "\n"
        return "ok" if good else "FAIL", took, text


def make(*targets, **variables):
    return ("make", "--no-print-directory", "-j2", *targets, *(f"{k}={v}" for k, v in variables.items()))


def builds():
    yield Check("build.gcc", *make("images", "CC=gcc"), seconds=300)
    yield Check("build.clang", *make("images", "CC=clang", f"BUILD={BUILD}/clang"), seconds=300)
    yield Check("build.ubsan", *make("images", "SAN=1", f"BUILD={BUILD}/ubsan"), seconds=300)
    yield Check("build.size", "tests/lint/size.sh", f"{BUILD}/kernel.elf")
    yield Check("build.host", *make("host-units", "host-fuzzers", "models"), seconds=300)


def host():
    for source in sorted(glob.glob("tests/host/unit/*_test.c", root_dir=ROOT)):
        name = pathlib.Path(source).stem
        yield Check(f"unit.{name.removesuffix('_test')}", f"{BUILD}/host/unit/{name}")
    for source in sorted(glob.glob("tests/host/fuzz/*_fuzz.c", root_dir=ROOT)):
        name = pathlib.Path(source).stem
        corpus = ROOT / "tests/host/fuzz/corpus" / name.removesuffix("_fuzz")
        work = ROOT / BUILD / "host/corpus" / name
        work.mkdir(parents=True, exist_ok=True)
        yield Check(f"fuzz.{name.removesuffix('_fuzz')}", f"{BUILD}/host/fuzz/{name}", "-max_total_time=3",
                    "-timeout=5", "-verbosity=0", "-print_final_stats=1", str(work),
                    *([str(corpus)] if corpus.is_dir() else []))
    for path in sorted(glob.glob("tests/host/*/test_*.py", root_dir=ROOT)):
        folder, name = pathlib.Path(path).parent.name, pathlib.Path(path).stem.removeprefix("test_")
        yield Check(f"pytest.{folder}.{name}", "/usr/bin/python3", "-m", "pytest", "-q", "-p", "no:cacheprovider", path,
                    seconds=240)


def lint():
    for path in sorted(glob.glob("tests/lint/*.*", root_dir=ROOT)):
        name = pathlib.Path(path).stem
        if name != "size":
            yield Check(f"lint.{name}", path, seconds=300)


def run(name, machine, boot, *args, **options):
    env = {k: options.pop(k) for k in ("SMP", "MEM") if k in options}
    accel = options.pop("accel", "tcg")
    log = f"{BUILD}/logs/{name}.log"
    return Check(name, PLUMB, "run", "--machine", machine, "--boot", boot, "--accel", accel, "--log", log,
                 *args, **options, **env)


def machines():
    sys.path.insert(0, str(ROOT / "scripts"))
    from plumblib import profile
    for name in profile.names():
        if name == "selftest":
            continue
        for boot in profile.load(name).boots:
            page = ("-o", f"{BUILD}/sample/report.html") if (name, boot) == SAMPLE else ()
            yield run(f"machine.{name}.{boot}", name, boot, *page)
    yield run("machine.q35-vtd.32M", "q35-vtd", "pvh", MEM="32M")
    yield run("machine.q35-vtd.6G", "q35-vtd", "uefi", MEM="6G")
    yield run("machine.q35-vtd.1cpu", "q35-vtd", "pvh", SMP=1)
    yield run("machine.q35-vtd.17cpus", "q35-vtd", "pvh", SMP=17)
    yield run("machine.q35-xapic.17cpus", "q35-xapic", "pvh", SMP=17)
    yield run("machine.q35-vtd.apic-11.1", "q35-vtd", "pvh", "--qemu", "11.1", "--plumb",
              "only=apic.*,perf.ipi allow=disruptive")
    yield run("machine.q35-xapic.11.1", "q35-xapic", "pvh", "--qemu", "11.1")
    yield run("machine.q35-sparse.finding", "q35-sparse", "pvh", "--plumb", "only=apic.optout", says="PLB060")
    yield run("machine.q35-vtd.storm", "q35-vtd", "pvh", "--plumb", "only=apic.ipi_storm iterations=25000")
    yield run("machine.q35-vtd.timing", "q35-vtd", "pvh", "--plumb", "timing require=perf.exits,dma.map_cost", "--no-steady")
    # Another UEFI firmware. Its report is FAIL by what U-Boot hands over: root=/dev/sdb3 as options.
    yield run("machine.q35-vtd.uboot", "q35-vtd", "uboot", "--plumb", "skip=boot.handoff", expect=1, says=" passed, 0 failed")
    # A clock that stands still, as U-Boot leaves the PM timer: said at once, and the PIT's rate is as right.
    yield run("machine.q35-vtd.dead-clock", "q35-vtd", "uboot", "--plumb", "only=boot.tsc", expect=1,
              says="and it does not run: firmware has not switched it on")
    # All CPUs by one thread of QEMU's: PAUSE must hand over, or each wait lasts until a timer of QEMU's does.
    yield run("machine.q35-vtd.in-turn", "q35-vtd", "pvh", "--steady", says="one thread of QEMU runs all CPUs in turn")
    yield run("machine.q35-vtd.timing-in-turn", "q35-vtd", "pvh", "--plumb", "timing only=boot.tsc,apic.*,perf.*",
              says="one thread of QEMU runs all CPUs in turn")
    # What QEMU mended or broke since: AMD-Vi above all.
    for name in ("q35-amdvi", "q35-amdvi-noxt", "q35-vtd-nics", "q35-vtd-sriov"):
        yield run(f"machine.{name}.11.1", name, "pvh", "--qemu", "11.1")
    # INTx by the firmware's own tables, not by trying: links with a fixed pin, and links set by a register.
    yield run("machine.q35-vtd.prt", "q35-vtd", "pvh", "--plumb", "only=ioapic.intx", says="link GSIE")
    yield run("machine.pc-pve.prt", "pc-pve", "pvh", "--plumb", "only=ioapic.intx", says="PIRQ register")
    # Without an HPET a device's INTx is the level.
    yield run("machine.pc-pve.nohpet", "pc-pve", "pvh", "--plumb", "only=ioapic.* require=ioapic.level,ioapic.eoi",
              "--qemu-args", "-machine hpet=off")
    yield run("machine.q35-vtd.clang", "q35-vtd", "pvh", "--images", f"{BUILD}/clang")
    yield run("machine.q35-vtd.ubsan", "q35-vtd", "uefi", "--images", f"{BUILD}/ubsan")
    yield run("machine.q35-vtd.disruptive", "q35-vtd", "pvh", "--plumb", "allow=disruptive require=pci.flr,pci.power")
    for repeat in range(3):
        yield run(f"machine.q35-vtd.again{repeat + 1}", "q35-vtd", "pvh")
    yield run("machine.q35-virtio-iommu.noviot", "q35-virtio-iommu", "pvh", "--plumb", "only=iommu.tables",
              "--qemu-args", "-machine acpi=off", expect=1, says="PLB081")
    yield Check("matrix", "tests/matrix.py", "--check", seconds=900)
    yield Check("vgpu.fixture", "tests/vgpu/fixture.py")
    yield run("selftest.all", "selftest", "pvh", "--expect", seconds=180)
    for name, status in SELFTESTS.items():
        yield run(f"selftest.{name}", "selftest", "pvh", "--plumb", f"only=selftest.{name}", "--no-resume",
                  expect=status)


def tables():
    """Many short boots each, two at a time by themselves."""
    yield Check("sabotage", "tests/host/sabotage/run.py", seconds=900)
    yield Check("knobs.vgpu", "tests/vgpu/knobs.py", seconds=900)
    yield Check("knobs.mdev", "tests/vgpu/knobs.py", "tests/mdev/knobs.toml", seconds=300)


def samples():
    """The pages that a person looks at: of a machine that is right, and of one whose messages go astray."""
    pages = f"{BUILD}/sample"
    yield run("sample.fault", "q35-plain", "pvh", "--images", f"{BUILD}/sabotage", "--plumb",
              "only=boot.*,apic.ids,apic.ipi_*,pci.topology,msi.physical,msix.*,dma.integrity sabotage=msi_wrong_cpu",
              "-o", f"{pages}/fault.html", expect=1, says="msi.physical")
    for name in ("report", "fault"):
        yield Check(f"sample.{name}_page", "/usr/bin/python3", "tests/host/report/browser.py", f"{pages}/{name}.html",
                    f"{pages}/{name}.png", says="no complaints")
    yield run("finding.PLB100", "q35-vtd", "pvh", "--plumb", "only=perf.bar",
              "--qemu-args", "-device pci-testdev,membar=4M,bus=pcie.0,addr=0a.0", says="PLB100 00:0a.0 BAR2 is memory")


def kvm():
    """A real in-kernel interrupt controller, where there is one that runs a PVH boot at all."""
    probe = subprocess.run([PLUMB, "accel", "--boot", "pvh", "--can-kvm"], stdin=subprocess.DEVNULL,
                           capture_output=True, text=True, timeout=120)
    if probe.returncode:
        yield Check("kvm", "sh", "-c", 'echo "$1"; exit 77', "sh", probe.stdout.strip() or "no KVM here")
        return
    for name in ("q35-vtd", "q35-plain", "pc-pve"):
        yield run(f"kvm.{name}", name, "pvh", "--timeout", "400", accel="kvm", seconds=420)
    # Each instruction may be emulated here: what tells a quiet machine must be short there too.
    yield run("kvm.timing", "q35-vtd", "pvh", "--plumb", "timing only=boot.tsc,dma.map_cost,perf.exits", accel="kvm")


def lab():
    """A Linux host with KVM, VFIO and an IOMMU inside QEMU (docs/lab.md). It fills both cores by itself."""
    yield Check("lab", PLUMB, "lab", seconds=1800)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-k", metavar="GLOB", default="*")
    parser.add_argument("-v", action="store_true")
    args = parser.parse_args()
    os.chdir(ROOT)
    counts = {"ok": 0, "FAIL": 0, "skip": 0}
    failed, times = [], []

    def keep(check, text):
        """All that it said, and the log of its boot, where the next run of it does not reach."""
        FAILED.mkdir(parents=True, exist_ok=True)
        (FAILED / f"{check.name}.txt").write_text(f"$ {check.again}\n{text}")
        for end in ("", ".evidence.txt"):
            if check.log and os.path.isfile(check.log + end):
                shutil.copy(check.log + end, FAILED / f"{check.name}.log{end}")
        print(f"     | kept: {FAILED}/{check.name}.*    again: tests/all.py -vk '{check.name}'", flush=True)

    def take(check, outcome, took, text):
        counts[outcome] += 1
        times.append((took, check.name))
        print(f"{outcome:4} {check.name:34} {took:6.1f} s", flush=True)
        if outcome == "skip":
            print("     " + (text.strip().splitlines() or ["?"])[-1])
        if outcome == "FAIL" or args.v:
            lines = text.splitlines() if args.v else of_interest(text)[-60:]
            print("\n".join("     | " + line for line in [*lines, *last_words(check)]), flush=True)
        if outcome == "FAIL":
            failed.append(check.name)
            keep(check, text)

    def batch(checks, width):
        checks = [c for c in checks if fnmatch.fnmatch(c.name, args.k)]
        width = min(width, os.cpu_count() or 1)
        with concurrent.futures.ThreadPoolExecutor(width) as pool:
            jobs = {pool.submit(c.run): c for c in checks}
            for job in concurrent.futures.as_completed(jobs):
                take(jobs[job], *job.result())

    def longest_first(checks):
        def place(check):
            return next((i for i, glob_ in enumerate(LONG) if fnmatch.fnmatch(check.name, glob_)), len(LONG))
        return sorted(checks, key=place)

    start = time.monotonic()
    shutil.rmtree(FAILED, ignore_errors=True)
    batch(builds(), 1)
    batch(tables(), 1)
    # The lab's image first: it waits for the network and the disk more than for a core.
    batch([Check("lab.image", PLUMB, "lab", "--image-only", seconds=900), *longest_first([*host(), *lint(), *machines()])], 2)
    batch(samples(), 1)
    if args.k == "*" or args.k.startswith("kvm"):
        batch(kvm(), 1)
    batch(lab(), 1)
    print("slowest: " + ", ".join(f"{name} {took:.0f} s" for took, name in sorted(times, reverse=True)[:SLOWEST]))
    for name in failed:
        print(f"FAIL {name}    {FAILED}/{name}.txt")
    print(f"{time.monotonic() - start:.0f} s")
    print(f"{counts['ok']} passed, {counts['FAIL']} failed, {counts['skip']} skipped")
    return 1 if counts["FAIL"] or not counts["ok"] else 0


if __name__ == "__main__":
    sys.exit(main())
