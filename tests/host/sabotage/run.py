#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Misprograms the machine on purpose, one fault a boot, and sees that the test which should catch it does.

    tests/host/sabotage/run.py [-k GLOB]

sabotages.toml says what each fault is and which tests must fail for it. The same tests on the same machine and
image must pass without the fault: a test that always fails would catch everything. Every SABOTAGE() in the
sources has an entry and the other way round, and the release image holds none of them.
"""
import argparse
import concurrent.futures
import fnmatch
import os
import pathlib
import re
import subprocess
import sys
import tomllib

ROOT = pathlib.Path(__file__).resolve().parents[3]
BUILD = pathlib.Path(os.environ.get("BUILD") or "build")
IMAGES = BUILD / "sabotage"
LOGS = BUILD / "logs"
sys.path.insert(0, str(ROOT / "scripts"))
from plumblib.report import parse_report  # noqa: E402

BAD = ("fail",)


def boot(entry, tests, name):
    """The report of one boot, and why it is none."""
    where = f".{entry['machine']}" if name and "machines" in entry else ""
    log = LOGS / f"sabotage.{name or '-'.join(('none', *filter(None, key(entry)))).replace('/', '_')}{where}.log"
    line = f"only={','.join(sorted(tests))} {entry.get('plumb', '')}" + (f" sabotage={name}" if name else "")
    qemu = ["--qemu", entry["qemu"]] if "qemu" in entry else []
    smp = ["--smp", str(entry["smp"])] if "smp" in entry else []
    done = subprocess.run(["scripts/plumb", "run", "--machine", entry["machine"], "--boot", entry.get("boot", "pvh"),
                           "--accel", "tcg", "--images", str(IMAGES), "--log", str(log), "--plumb", line,
                           "--no-resume", *qemu, *smp],
                          capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=400, check=False)
    if not log.is_file() or done.returncode not in (0, 1):
        return None, (done.stdout + done.stderr).strip().splitlines()[-1:] or ["no log"]
    return parse_report(log.read_bytes()), []


def key(entry):
    return tuple(str(entry.get(k, "")) for k in ("machine", "boot", "qemu", "smp", "plumb"))


def names(entry):
    return set(entry["fails"]) | set(entry.get("passes", []))


def caught(name, entry):
    """What is wrong with this fault's boot; nothing when it was caught."""
    report, why = boot(entry, names(entry), name)
    if not report:
        return [f"no verdict: {why[0]}"]
    tests = {t.name: t for t in report.tests}
    bad = (*BAD, "error") if entry.get("error") else BAD
    wrong = [f"{n} is {tests[n].outcome if n in tests else 'missing'}, must fail" for n in entry["fails"]
             if n not in tests or tests[n].outcome not in bad]
    wrong += [f"{n} is {tests[n].outcome if n in tests else 'missing'}, must pass" for n in entry.get("passes", [])
              if n not in tests or tests[n].outcome != "pass"]
    said = "\n".join(line for n in entry["fails"] if n in tests for line in [tests[n].claim, *tests[n].details])
    said += "\n".join(f"finding {f.ident} {f.text}" for f in report.findings)
    if not wrong and "says" in entry and not re.search(entry["says"], said):
        wrong.append(f"nothing says /{entry['says']}/")
    figures = "\n".join(f"{m.name} " + " ".join(f"{k}={v}" for k, v in m.values.items()) for t in tests.values() for m in t.metrics)
    if not wrong and "figures" in entry and not re.search(entry["figures"], figures):
        wrong.append(f"no figure is like /{entry['figures']}/")
    if f"sabotage {name}" not in [f"sabotage {v.split(':')[0]}" for v in report.env_of("sabotage")]:
        wrong.append("the report does not say that it is a sabotaged one")
    return wrong


def caught_within(name, entry):
    """The same in as many boots as it may take: some faults are races, and show by chance. And in which."""
    for n in range(entry.get("boots", 1)):
        wrong = caught(name, entry)
        if not wrong:
            break
    return wrong, n + 1


def sound(entry, tests):
    """The same tests without a fault."""
    report, why = boot(entry, tests, "")
    if not report:
        return [f"no verdict: {why[0]}"]
    outcomes = {t.name: t.outcome for t in report.tests}
    # A known fault of the platform is no failure; with ours on top of it, it must be one.
    return [f"{n} is {outcomes.get(n, 'missing')} without any fault" for n in sorted(tests)
            if outcomes.get(n) not in ("pass", "todo")]


def complete(table):
    """Sources and table name the same faults; the release image has none."""
    placed = set()
    for folder in ("kernel", "drivers", "tests"):
        for path in (ROOT / folder).rglob("*.[ch]"):
            if path.name != "sabotage.h":
                placed |= set(re.findall(r"\bSABOTAGE\((\w+)\)", path.read_text()))
    release = (ROOT / BUILD / "kernel.debug.elf").read_bytes()
    return [f"{n} is in the sources and not in sabotages.toml" for n in sorted(placed - set(table))] + \
        [f"{n} is in sabotages.toml and not in the sources" for n in sorted(set(table) - placed)] + \
        [f"the release image names {n}" for n in sorted(placed) if n.encode() + b"\0" in release]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-k", metavar="GLOB", default="*")
    args = parser.parse_args()
    os.chdir(ROOT)
    table = tomllib.loads(pathlib.Path(__file__).with_name("sabotages.toml").read_text())
    made = subprocess.run(["make", "--no-print-directory", "-j2", "kernel", "SABOTAGE=1", f"BUILD={IMAGES}"],
                          capture_output=True, text=True, check=False)
    if made.returncode:
        sys.exit(made.stdout[-2000:] + made.stderr[-2000:])
    bad = complete(table)
    print("\n".join(bad), end="\n" if bad else "")
    table = {n: e for n, e in table.items() if fnmatch.fnmatch(n, args.k)}
    entries = [(n, {**e, "machine": m}) for n, e in table.items() for m in e.get("machines") or [e["machine"]]]
    groups = {}
    for _, entry in entries:
        groups.setdefault(key(entry), (entry, set()))[1].update(names(entry))

    def job(item):
        kind, what, entry = item
        return kind, what, entry, *((sound(entry, what), 1) if kind == "sound" else caught_within(what, entry))

    jobs = [("sound", tests, entry) for entry, tests in groups.values()] + [("caught", n, e) for n, e in entries]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for kind, what, entry, wrong, boots in pool.map(job, jobs):
            label = f"no fault, {len(what)} tests" if kind == "sound" else what
            good = "all pass" if kind == "sound" else f"caught by {', '.join(entry['fails'])}" if entry["fails"] else "borne"
            good += f" (in boot {boots})" if boots > 1 else ""
            print(f"{'ok  ' if not wrong else 'FAIL'} {entry['machine']:16} {label:28} {'; '.join(wrong) or good}",
                  flush=True)
            bad += wrong
    print(f"{len(entries)} faults, {len(bad)} complaints")
    return 1 if bad or not table else 0


if __name__ == "__main__":
    sys.exit(main())
