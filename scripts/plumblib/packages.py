# SPDX-License-Identifier: MIT
"""What a fresh Debian lacks to build and test plumb, and its installation."""
from __future__ import annotations

import os
import shutil
import subprocess
import sys
from glob import glob

from . import UsageError

# Debian package -> how to see that it is there: a program, or a file (glob) where it starts with "/".
# Python modules are looked for where /usr/bin/python3 finds Debian's.
RUN = {
    "gcc": "gcc",
    "libc6-dev": "/usr/include/stdlib.h",
    "make": "make",
    "nasm": "nasm",
    "gnu-efi": "/usr/include/efi/efi.h",
    "xorriso": "xorriso",
    "mtools": "mcopy",
    "dosfstools": "/usr/sbin/mkfs.vfat",
    "grub-common": "grub-mkrescue",
    "grub-pc-bin": "/usr/lib/grub/i386-pc/cdboot.img",
    "mmdebstrap": "mmdebstrap",
    "debian-archive-keyring": "/usr/share/keyrings/debian-archive-trixie-stable.*",
    "git": "git",
}
TEST = {
    **RUN,
    "clang": "clang",
    # -fsanitize=fuzzer,address: the package carries clang's major version in its name.
    "libclang-rt-{clang}-dev": "/usr/lib/llvm-*/lib/clang/*/lib/linux/libclang_rt.fuzzer-x86_64.a",
    "clang-format": "clang-format",
    "clang-tidy": "clang-tidy",
    "cppcheck": "cppcheck",
    "shellcheck": "shellcheck",
    "python3-pyflakes": "/usr/lib/python3/dist-packages/pyflakes/__init__.py",
    "python3-pytest": "/usr/lib/python3/dist-packages/pytest/__init__.py",
}
# A page out of a log; the rest of `report` needs nothing.
REPORT = {"python3-jinja2": "/usr/lib/python3/dist-packages/jinja2/__init__.py"}
# The tests of the reports: the page in a browser, the dumps in the tools that are to read them.
TEST |= {
    **REPORT,
    "chromium": "chromium",
    "fonts-dejavu-core": "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf",  # or the page has no letters
    "python3-jsonschema": "/usr/lib/python3/dist-packages/jsonschema/__init__.py",
    "python3-yaml": "/usr/lib/python3/dist-packages/yaml/__init__.py",
    "python3-prometheus-client": "/usr/lib/python3/dist-packages/prometheus_client/__init__.py",
    "pciutils": "lspci",
    "acpica-tools": "iasl",
}
# Linux to compare with comes as packages that are unpacked; its one module is built with gcc and make.
BENCH = {**RUN, "binutils": "strip"}
# The lab's host is unpacked too, and its kernel modules are built by its own compiler; linux-source is xz.
LAB = {**RUN, "xz-utils": "xz"}
TEST |= LAB
# Another emulator, and a front end of its own that needs no display.
OPINION = {**RUN, "bochs-term": "/usr/lib/*/bochs/plugins/libbx_term_gui.so", "bochs": "bochs",
           "bochsbios": "/usr/share/bochs/BIOS-bochs-latest", "vgabios": "/usr/share/bochs/VGABIOS-lgpl-latest"}
NEEDS = {"run": RUN, "lab": LAB, "report": REPORT, "bench": BENCH, "opinion": OPINION, "test": TEST}
UPDATE_DEADLINE, INSTALL_DEADLINE = 300, 1200


def present(sign: str) -> bool:
    return bool(glob(sign)) if sign.startswith("/") else bool(shutil.which(sign))


def missing(purpose: str, here=present) -> list[str]:
    """Debian packages to install for `run` or `test`."""
    return [name for name, sign in NEEDS[purpose].items() if not here(sign)]


def install(names: list[str]) -> None:
    """With apt-get, as root or by sudo without a question; else the caller learns what to type."""
    if not names:
        return
    by_hand = f"apt-get install {' '.join(real(names))}"
    if not shutil.which("apt-get"):
        raise UsageError(f"missing, and this is no Debian: {' '.join(real(names))}")
    if os.geteuid() == 0:
        root = []
    elif shutil.which("sudo") and _quiet(["sudo", "-n", "true"], 10):
        root = ["sudo", "-n"]
    else:
        raise UsageError(f"missing, and only root can install it: {by_hand}")
    _say(f"missing: {' '.join(real(names))}; installing")
    apt = root + ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq", "-o", "DPkg::Lock::Timeout=300"]
    # A fresh machine has no package lists; an old one has stale ones, which the first try shows.
    if _try_install(apt, names, show=False):
        return
    _quiet(apt + ["update"], UPDATE_DEADLINE, show=True)
    if not _try_install(apt, names, show=True):
        raise UsageError(f"apt-get could not install what is missing; try: {by_hand}")


def _try_install(apt: list[str], names: list[str], show: bool) -> bool:
    return _quiet(apt + ["install", "-y", "--no-install-recommends", *real(names)], INSTALL_DEADLINE, show)


def real(names: list[str]) -> list[str]:
    return [name.format(clang=clang_major()) for name in names]


def clang_major() -> str:
    """Of the clang that is installed, else of the one that would be."""
    for argv in (["clang", "-dumpversion"], ["apt-cache", "--no-all-versions", "show", "clang"]):
        try:
            said = subprocess.run(argv, capture_output=True, text=True, timeout=30).stdout
        except (OSError, subprocess.SubprocessError):
            continue
        for line in said.splitlines():
            version = line.removeprefix("Version: ").removeprefix("1:")
            if version[:1].isdigit():
                return version.split(".")[0]
    return "14"


def _quiet(argv: list[str], seconds: float, show: bool = False) -> bool:
    """Runs it; its output only where it failed."""
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              timeout=seconds, text=True, errors="replace")
    except (OSError, subprocess.SubprocessError) as e:
        if show:
            _say(str(e))
        return False
    if done.returncode and show:
        _say("\n".join(done.stdout.splitlines()[-5:]))
    return done.returncode == 0


def _say(text: str) -> None:
    print(f"plumb: {text}", file=sys.stderr, flush=True)
