#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Boots every fault of a table and prints what came of it: the right finding, and no other failure.

    tests/vgpu/knobs.py [TABLE] [-k GLOB] [-j N] [--images DIR] [--qemu 11.1] [-v]

The table is tests/vgpu/knobs.toml, or tests/mdev/knobs.toml. GLOB is of the first column, anywhere in it.

Status: 0 all as expected, 1 not, 3 nothing could be run.
"""
import argparse
import concurrent.futures
import fnmatch
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time
import tomllib

ROOT = pathlib.Path(__file__).resolve().parents[2]
KEYS = {"vgpu", "fails", "finds", "skips", "says", "on", "swap", "plumb", "two", "options", "boots"}


def title(knob):
    extra = [knob.get("on", ""), knob.get("plumb", ""), "two" if knob.get("two") else "", knob.get("options", ""),
             " → ".join(knob.get("swap", [])[:2])]
    return " ".join(t for t in [knob["vgpu"], *extra] if t)


def profile(knob, folder):
    """The machine with this model in it, in a folder of its own; what it must run is not asked."""
    name = knob.get("on", "pc-pve-vgpu")
    text = (ROOT / "tests" / "machines" / f"{name}.toml").read_text()
    place = tomllib.loads(text)["vgpu"][0].partition(" ")[2]
    models = [f"{knob['vgpu']} {place}"]
    if knob.get("two"):
        models.append(f"{knob['vgpu']} id=hostpci2,bus=pci.0,addr=13.0")
    text = re.sub(r"^vgpu = \[.*?\]$", lambda _: f"vgpu = {json.dumps(models)}", text, count=1, flags=re.M | re.S)
    text = text[:text.index("\nmust = [")] + "\n"
    swap = knob.get("swap", [])
    for old, new in zip(swap[::2], swap[1::2]):
        if old not in text:
            sys.exit(f"knobs.toml: {old!r} is not in {name}.toml")
        text = text.replace(old, new)
    (folder / f"{name}.toml").write_text(text.replace("@MACHINES@", str(ROOT / "tests" / "machines")))
    return name


def run(knob, table, args, folder):
    """plumb's JSON, or a text that says why there is none."""
    name = profile(knob, folder)
    out = folder / "result.json"
    env = {**os.environ, "PLUMB_MACHINES": str(folder), "QEMU": args.qemu}
    if "model" in table:
        env["PLUMB_VGPU"] = str(ROOT / table["model"])
    if knob.get("options"):
        build = pathlib.Path(os.environ.get("BUILD") or ROOT / "build")
        model = env.get("PLUMB_VGPU") or build / "models" / "vgpu"
        wrapper = folder / "vgpu"
        wrapper.write_text(f'#!/bin/sh\nexec {model} "$@" {knob["options"]}\n')
        wrapper.chmod(0o755)
        env["PLUMB_VGPU"] = str(wrapper)
    argv = [str(ROOT / "scripts" / "plumb"), "run", "--machine", name, "--boot", args.boot, "--accel", args.accel,
            "--json", str(out), "--log", str(folder / "log"),
            "--plumb", f"only={table.get('only', 'vgpu.*')} {knob.get('plumb', '')}"]
    if args.images:
        argv += ["--images", args.images]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode not in (0, 1):
        return f"status {done.returncode}: {(done.stdout + done.stderr).strip()[-400:]}"
    return json.loads(out.read_text())


def judge(knob, got):
    """What is not as it should be, in words; and what was told."""
    if isinstance(got, str):
        return [got], "", ""
    tests = {t["name"]: t for t in got["tests"]}
    fails = sorted(n for n, t in tests.items() if t["outcome"] not in ("pass", "skip", "todo"))
    finds = sorted({f["id"] for f in got["findings"]})
    lines = [line for t in got["tests"] for line in [t["reason"], *t["details"]]]
    lines += [json.dumps(f, ensure_ascii=False) for f in got["findings"]]
    lines += [json.dumps(m) for t in got["tests"] for m in t["metrics"]]
    bad = []
    if fails != sorted(knob.get("fails", [])):
        bad.append(f"failed: {' '.join(fails) or 'nothing'}, expected {' '.join(knob.get('fails', [])) or 'nothing'}")
    if finds != sorted(knob.get("finds", [])):
        bad.append(f"found: {' '.join(finds) or 'nothing'}, expected {' '.join(knob.get('finds', [])) or 'nothing'}")
    bad += [f"{n} did not skip" for n in knob.get("skips", []) if tests.get(n, {}).get("outcome") != "skip"]
    if knob.get("says") and not any(knob["says"] in line for line in lines):
        bad.append(f"nothing says {knob['says']!r}")
    return bad, " ".join(fails), "; ".join(dict.fromkeys(f"{f['id']} {f['text']}" for f in got["findings"]))


def boot(knob, table, args):
    """The knob's line of the table, and whether it was as expected."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="knob-") as tmp:
        folder = pathlib.Path(tmp)
        # Some show by chance (two signals may become one): where `boots` says so, one of so many must.
        for n in range(knob.get("boots", 1)):
            bad, fails, finds = judge(knob, run(knob, table, args, folder))
            if not bad:
                break
        said = ("yes" if n == 0 else f"yes, in boot {n + 1}") if not bad else "**no**: " + "; ".join(bad)
        if bad and args.v and (folder / "log").exists():
            kept = pathlib.Path(tempfile.mkstemp(prefix="knob-", suffix=".log")[1])
            kept.write_bytes((folder / "log").read_bytes())
            said += f" ({kept})"
    return not bad, f"| {title(knob)} | {fails or '–'} | {finds or '–'} | {said} | {time.monotonic() - start:.1f} |"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", nargs="?", default=ROOT / "tests" / "vgpu" / "knobs.toml", type=pathlib.Path)
    parser.add_argument("-k", default="", metavar="GLOB", help="only those whose first column has it")
    parser.add_argument("-j", type=int, default=2, metavar="N", help="boots at a time (2)")
    parser.add_argument("--images", help="where kernel.elf is")
    parser.add_argument("--qemu", default=os.environ.get("QEMU") or "11.1")
    parser.add_argument("--boot", default="pvh")
    parser.add_argument("--accel", default="tcg")
    parser.add_argument("-v", action="store_true", help="keep the logs of what was not as expected, and name them")
    args = parser.parse_args()
    table = tomllib.loads(args.table.read_text())
    odd = [k for knob in table["knob"] for k in knob if k not in KEYS]
    if odd:
        sys.exit(f"knobs.toml: unknown key {odd[0]!r}")
    knobs = [k for k in table["knob"] if fnmatch.fnmatchcase(title(k), f"*{args.k}*")]
    if not knobs:
        print(f"no knob has {args.k!r} in its title")
        return 3
    good = 0
    print("| the fault | fails | finding | as expected | s |\n|---|---|---|---|---|")
    with concurrent.futures.ThreadPoolExecutor(args.j) as pool:
        for fine, line in pool.map(lambda knob: boot(knob, table, args), knobs):
            good += fine
            print(line, flush=True)
    print(f"\n{good} as expected, {len(knobs) - good} not")
    return 0 if good == len(knobs) else 1


if __name__ == "__main__":
    sys.exit(main())
