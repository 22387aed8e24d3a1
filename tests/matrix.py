#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The IOMMU suite on every kind of IOMMU, as the table of docs/iommu.md.

    tests/matrix.py [-k GLOB]             boots them and prints the table; -k: of the columns, "q35-vtd 11.1"
    tests/matrix.py --write | --check     … into docs/iommu.md; … or says where that page is not so any more

One boot a column, PVH under TCG; the logs are build/logs/matrix.*.log. Other logs: `scripts/plumb matrix`.
"""
import argparse
import fnmatch
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = pathlib.Path(os.environ.get("BUILD") or "build")
PAGE = ROOT / "docs" / "iommu.md"
ONLY = ["iommu.*", "pci.requester_ids"]
COLUMNS = [("q35-vtd", "10.0"), ("q35-vtd", "11.1"), ("q35-vtd-scalable", "11.1"), ("q35-vtd-cm", "11.1"),
           ("q35-vtd-dtlb", "11.1"), ("q35-vtd-bridge", "11.1"), ("q35-vtd-sriov", "11.1"), ("q35-amdvi", "10.0"), ("q35-amdvi", "11.1"),
           ("q35-virtio-iommu", "10.0"), ("q35-virtio-iommu", "11.1"), ("pc-virtio-iommu", "10.0"),
           ("pc-virtio-iommu", "11.1")]
WORDS = {"q35-vtd-sriov": "vfs=2"}
sys.path.insert(0, str(ROOT / "scripts"))
from plumblib import matrix  # noqa: E402
from plumblib.report import parse_report  # noqa: E402


def boot(machine, qemu):
    log = BUILD / "logs" / f"matrix.{machine}.{qemu}.log"
    done = subprocess.run(["scripts/plumb", "run", "--machine", machine, "--boot", "pvh", "--accel", "tcg", "--qemu", qemu,
                           "--log", str(log), "--plumb", f"only={','.join(ONLY)} {WORDS.get(machine, '')}"],
                          capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=300, check=False)
    if done.returncode not in (0, 1) or not log.is_file():
        sys.exit(f"{machine}, QEMU {qemu}: no verdict\n" + (done.stdout + done.stderr)[-2000:])
    return parse_report(log.read_bytes())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-k", metavar="GLOB", default="*")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    os.chdir(ROOT)
    (BUILD / "logs").mkdir(parents=True, exist_ok=True)
    columns = [(f"{m} {q}", boot(m, q)) for m, q in COLUMNS if fnmatch.fnmatch(f"{m} {q}", args.k)]
    bad = [f"{name}: {t.name} failed" for name, rep in columns for t in rep.tests if matrix.word(t) in ("fail", "error", "timeout")]
    if args.check:
        bad += matrix.differences(matrix.read(PAGE.read_text()), matrix.cells(columns, ONLY))
    elif args.write:
        PAGE.write_text(matrix.replaced(PAGE.read_text(), matrix.table(columns, ONLY)))
    else:
        print(matrix.table(columns, ONLY))
    print("\n".join(bad) if bad else f"{len(columns)} columns, {len(matrix.cells(columns, ONLY))} cells")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
