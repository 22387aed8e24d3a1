#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Includes point one way, a test names no device, and only kernel/irq/msg.c composes messages."""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Who may include what; the first prefix that matches a file decides. kernel/main.c is the list of
# initialisation and sees the drivers.
LAYERS = [
    ("kernel/main.c", ("kernel/", "drivers/")),
    ("kernel/lib/", ("kernel/lib/",)),
    ("kernel/", ("kernel/", "boot/")),
    ("boot/", ("boot/", "kernel/lib/")),
    ("drivers/", ("drivers/", "kernel/", "boot/")),
    ("tests/harness/", ("tests/harness/", "drivers/", "kernel/", "boot/")),
    ("tests/host/", ("",)),
    ("tests/", ("tests/", "drivers/", "kernel/", "boot/")),
]
# Register headers of devices are the driver's own; these tests are about registers.
REGISTER_TESTS = ("tests/pci/", "tests/apic/", "tests/host/", "tests/iommu/acpi_")
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"')


def problems():
    for path in sorted(ROOT.glob("*/**/*.[ch]")):
        name = path.relative_to(ROOT).as_posix()
        if name.startswith("build"):
            continue
        allowed = next((to for prefix, to in LAYERS if name.startswith(prefix)), None)
        if allowed is None:
            continue
        text = path.read_text()
        for number, line in enumerate(text.splitlines(), 1):
            where = f"{name}:{number}"
            found = INCLUDE.match(line)
            if found:
                to = found[1]
                if "/" not in to:
                    yield f"{where}: include {to} is not root-relative"
                elif not to.startswith(allowed):
                    yield f"{where}: {to} is above this layer"
                elif name.startswith("tests/") and not name.startswith(REGISTER_TESTS) and to.endswith("regs.h"):
                    yield f"{where}: a test includes a device's registers ({to})"
            if re.search(r"0xfee0{0,5}\b", line, re.I) and not name.startswith(
                    ("kernel/irq/msg.", "tests/host/", "drivers/iommu/pgtable", "drivers/pci/bar")) \
                    and not line.lstrip().startswith(("*", "/*", "//")):
                yield f"{where}: an interrupt message outside kernel/irq/msg.c"
            if re.search(r"\bfor\s*\(;;\)\s*;|\bwhile\s*\(1\)\s*;", line):
                yield f"{where}: a loop without a deadline"
        if name.startswith(("kernel/", "drivers/", "tests/", "boot/")) and "SPDX-License-Identifier: MIT" not in text[:120]:
            yield f"{name}: no licence line"


bad = list(problems())
print("\n".join(bad) if bad else "layers are right")
sys.exit(1 if bad else 0)
