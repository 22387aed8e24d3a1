# SPDX-License-Identifier: MIT
"""A stock Debian Linux to compare with: its kernel, fio and a small init in one initramfs, under build/.

Debian's packages are unpacked, not installed: no root is needed and nothing of the host is touched. The
one thing that is not Debian's is a module of ours (linux/map_rate.c) that times the kernel's DMA API.
"""
from __future__ import annotations

import lzma
import os
import re
import shutil
import stat
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from . import ROOT, UsageError, shown, sysroot

SUITE = "trixie"
PACKAGES = ("linux-image-amd64", "linux-headers-amd64", "fio", "busybox-static")
SOURCES = Path(__file__).with_name("linux")
LIB = "usr/lib/x86_64-linux-gnu"
LOADER = "usr/lib64/ld-linux-x86-64.so.2"
TAKEN = ("./boot", "./usr/lib/modules", "./usr/bin/fio", "./usr/bin/busybox", f"./{LIB}", "./usr/src", "./usr/lib64")
# Modules that are asked for, with options; what they depend on comes before them.
MODULES = {"nvme": "poll_queues=1", "virtio_blk": ""}
# The kernel's own build tools are Debian's programs of SUITE: run with SUITE's library, wherever this is.
TOOLS = {"scripts/mod/modpost": "scripts/mod/modpost.real-lsb-64", "scripts/basic/fixdep": "",
         "scripts/genksyms/genksyms": "", "scripts/recordmcount": "", "tools/objtool/objtool": "tools/objtool/objtool.real-x86"}
_DEPENDS = re.compile(rb"\0depends=([^\0]*)\0")


@dataclass
class Linux:
    kernel: Path
    initrd: Path
    release: str


def provision() -> Linux:
    """Kernel and initramfs, made where they are missing or older than their sources."""
    root = ROOT / "build" / f"linux-{SUITE}"
    with sysroot.locked(f"linux-{SUITE}"):
        if not (root / "usr/bin/fio").is_file():
            _unpack(root)
        kernel = next(iter(sorted((root / "boot").glob("vmlinuz-*"))), None)
        if not kernel:
            raise UsageError(f"{shown(root)} holds no kernel: remove it, and it is made anew")
        release = kernel.name.removeprefix("vmlinuz-")
        initrd = root / "initrd.cpio"
        sources = [Path(__file__), *SOURCES.iterdir()]
        if not initrd.is_file() or initrd.stat().st_mtime < max(s.stat().st_mtime for s in sources):
            _initrd(root, release, initrd)
    return Linux(kernel, initrd, release)


def _unpack(root: Path) -> None:
    if not shutil.which("mmdebstrap"):
        raise UsageError("mmdebstrap is missing: scripts/plumb setup --for bench")
    sysroot.say(f"fetching Debian {SUITE}'s kernel and fio into {shown(root)}")
    tmp = Path(tempfile.mkdtemp(prefix=f".{root.name}-", dir=root.parent))
    try:
        tar, new = sysroot.fetch((SUITE,), PACKAGES, tmp), tmp / "root"
        new.mkdir()
        kbuild = "./usr/lib/linux-kbuild-*"
        subprocess.run(["tar", "-x", "-f", str(tar), "-C", str(new), "--no-same-owner", "--wildcards", *TAKEN, kbuild],
                       check=True, timeout=sysroot.DEADLINE)
        if root.exists():
            shutil.rmtree(root)
        new.rename(root)
    except (subprocess.SubprocessError, OSError) as e:
        raise UsageError(f"could not unpack {shown(root)}: {e}") from None
    finally:
        shutil.rmtree(tmp, ignore_errors=True)


def _with_its_library(root: Path) -> list[str]:
    lib = root / LIB
    return [str(root / LOADER), "--library-path", f"{lib}:{lib}/ceph"]


# ---- the module ----

def _build_module(root: Path, release: str, work: Path) -> Path:
    headers = root / "usr/src" / f"linux-headers-{release}"
    common = next((root / "usr/src").glob("linux-headers-*-common"))
    kbuild = next((root / "usr/lib").glob("linux-kbuild-*"))
    for name, real in TOOLS.items():
        tool, kept = kbuild / name, kbuild / f"{name}.debian"
        if tool.is_file() and not kept.exists():
            shutil.copy2(kbuild / (real or name), kept)
            tool.unlink()
            tool.write_text(f"#!/bin/sh\nexec {' '.join(_with_its_library(root))} \"$0.debian\" \"$@\"\n")
            tool.chmod(0o755)
    (headers / "Makefile").write_text(f"include {common}/Makefile\n")
    # A compiler older than the kernel's lacks one flag, which aligns functions and nothing else.
    compiler = work / "cc"
    compiler.write_text('#!/bin/sh\nfor a; do shift; case "$a" in -fmin-function-alignment=*) '
                        'a="-falign-functions=${a#*=}";; esac; set -- "$@" "$a"; done\nexec gcc "$@"\n')
    compiler.chmod(0o755)
    shutil.copy2(SOURCES / "map_rate.c", work)
    (work / "Makefile").write_text("obj-m := map_rate.o\n")
    env = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "CC", "BUILD", "V")}
    made = subprocess.run(["make", "-C", str(headers), f"M={work}", f"CC={compiler}", "PAHOLE=true", "RESOLVE_BTFIDS=true",
                           "modules"], env=env, capture_output=True, text=True, errors="replace", timeout=300,
                          stdin=subprocess.DEVNULL)
    module = work / "map_rate.ko"
    if made.returncode or not module.is_file():
        raise UsageError("map_rate.ko cannot be built: " + " | ".join((made.stdout + made.stderr).splitlines()[-4:]))
    subprocess.run(["strip", "--strip-debug", str(module)], check=True, timeout=60)
    return module


# ---- the initramfs ----

class Cpio:
    """A "newc" archive, as the kernel unpacks it: written here, so that nobody needs root or the cpio program."""

    def __init__(self):
        self.parts, self.inode, self.folders = [], 0, set()

    def _entry(self, name: str, mode: int, data: bytes = b"") -> None:
        self.inode += 1
        path = name.encode() + b"\0"
        head = "070701" + "".join(f"{v:08x}" for v in (self.inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(path), 0))
        for part in (head.encode() + path, data):
            self.parts.append(part + bytes(-len(part) % 4))

    def add(self, name: str, data: bytes, mode: int = 0o755) -> None:
        for parent in list(Path(name).parents)[-2::-1]:
            if str(parent) not in self.folders:
                self.folders.add(str(parent))
                self._entry(str(parent), stat.S_IFDIR | 0o755)
        self._entry(name, stat.S_IFREG | mode, data)

    def bytes(self) -> bytes:
        self._entry("TRAILER!!!", 0)
        return b"".join(self.parts)


def _initrd(root: Path, release: str, path: Path) -> None:
    out = Cpio()
    out.add("init", (SOURCES / "init").read_bytes())
    out.add("bin/busybox", (root / "usr/bin/busybox").read_bytes())
    fio = root / "usr/bin/fio"
    out.add("bin/fio", fio.read_bytes())
    said = subprocess.run(_with_its_library(root) + ["--list", str(fio)], capture_output=True, text=True, timeout=60, check=True)
    for line in said.stdout.splitlines():
        name, arrow, rest = line.strip().partition(" => ")
        if arrow and rest.startswith("/"):
            out.add(f"lib/{name}", Path(rest.split(" (")[0]).read_bytes())
    out.add("lib64/ld-linux-x86-64.so.2", (root / LOADER).read_bytes())
    order = []
    for name, options in MODULES.items():
        for needed in _with_dependencies(root, release, name):
            if needed not in (n for n, _ in order):
                order.append((needed, options if needed == name else ""))
    for name, _ in order:
        out.add(f"modules/{name}.ko", _module(root, release, name), 0o644)
    out.add("modules/order", "".join(f"{n}.ko {o}\n" for n, o in order).encode(), 0o644)
    with tempfile.TemporaryDirectory(prefix=".module-", dir=root) as work:
        out.add("modules/map_rate.ko", _build_module(root, release, Path(work)).read_bytes(), 0o644)
    new = path.with_suffix(".new")
    new.write_bytes(out.bytes())
    new.rename(path)


def _module(root: Path, release: str, name: str) -> bytes:
    pattern = re.sub("[-_]", "[-_]", name)
    found = sorted((root / "usr/lib/modules" / release / "kernel").rglob(f"{pattern}.ko*"))
    if not found:
        raise UsageError(f"Debian's kernel {release} has no module {name}")
    data = found[0].read_bytes()
    return lzma.decompress(data) if found[0].suffix == ".xz" else data


def _with_dependencies(root: Path, release: str, name: str) -> list[str]:
    """Itself last. The module says itself what it needs."""
    m = _DEPENDS.search(_module(root, release, name))
    out = []
    for needed in filter(None, m[1].decode().split(",") if m else []):
        out += [n for n in _with_dependencies(root, release, needed) if n not in out]
    return [*out, name]
