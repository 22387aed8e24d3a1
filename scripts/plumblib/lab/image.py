# SPDX-License-Identifier: MIT
"""The lab's host: Debian's stock kernel and one archive of what runs on it, made under build/lab/ without root.

Debian's packages are unpacked, never installed. Out of them come a kernel, the modules that the scenarios ask
for, busybox, lspci and the project's own QEMU, as one initramfs: no disk, no file system, nothing to mount.
The sample mediated devices are built from linux-source by the compiler that built the kernel.
"""
from __future__ import annotations

import hashlib
import lzma
import os
import re
import shutil
import stat
import subprocess
import tempfile
import time
from pathlib import Path

from .. import ROOT, UsageError, shown, sysroot

SUITE = "trixie"
QEMU = "11.1"                        # vfio-user-pci is in it
SOURCE = "linux-source-6.12"         # of the suite's stock kernel
PACKAGES = ("linux-image-amd64", "linux-headers-amd64", SOURCE, "gcc", "make", "busybox-static", "pciutils")
# With what they depend on. The first line is the exchange with us.
MODULES = ("9p", "9pnet_virtio",
           "kvm-amd", "vfio-pci", "vfio_iommu_type1", "mdev", "igb", "nvme", "edu", "virtio_net", "virtio_blk",
           "vhost_net", "tun")
OPTIONAL = ("edu",)                  # no driver of that name: the device is free
SAMPLES = ("mtty", "mdpy", "mbochs")
OURS = ROOT / "tests" / "lab" / "module" / "labfault.c"
SAMPLES_NEED = ("mdev", "vfio", "vfio_iommu_type1")
PROGRAMS = ("usr/bin/busybox", "usr/bin/lspci", "usr/bin/setpci")
DATA = ("usr/share/misc/pci.ids",)
# Of QEMU's own files.
FIRMWARE = ("usr/share/OVMF/OVMF_CODE_4M.fd", "usr/share/OVMF/OVMF_VARS_4M.fd", "usr/share/seabios/*.bin",
            sysroot.UBOOT, "usr/share/qemu/*.bin", "usr/share/qemu/efi-*.rom", "usr/share/qemu/*.rom")
LEFT = ("dev", "usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info", "usr/lib/x86_64-linux-gnu/perl*",
        "usr/lib/modules/*/kernel/sound", "usr/lib/modules/*/kernel/drivers/gpu", "usr/lib/modules/*/kernel/drivers/media",
        "usr/lib/modules/*/kernel/drivers/iio", "usr/lib/modules/*/kernel/drivers/net/wireless")
DEADLINE = 600
INIT = Path(__file__).with_name("init.sh")


def folder() -> Path:
    return ROOT / "build" / "lab"


def key() -> str:
    """What an image was made by, and where, for QEMU in it stands at the same path: else it is made anew."""
    parts = [p.read_bytes() for p in (Path(__file__), INIT, OURS)]
    return hashlib.sha256(b"".join([*parts, str(ROOT).encode()])).hexdigest()[:16]


def provision() -> tuple[Path, Path]:
    """Kernel and archive; made where they are missing or of another recipe."""
    lab = folder()
    kernel, archive, stamp = lab / "vmlinuz", lab / "host.cpio", lab / "stamp"

    def there() -> bool:
        return kernel.is_file() and archive.is_file() and stamp.is_file() and stamp.read_text() == key()

    if not there():
        with sysroot.locked("lab"):
            if not there():
                _make(lab)
                stamp.write_text(key())
    return kernel, archive


def _make(lab: Path) -> None:
    root = sysroot.provision(QEMU)
    start = time.monotonic()
    sysroot.say(f"making the lab's host from Debian {SUITE} in {shown(lab)}")
    lab.mkdir(parents=True, exist_ok=True)
    for old in lab.glob(".tree-*"):  # left by a killed run; we hold the lock
        shutil.rmtree(old, ignore_errors=True)
    tmp = Path(tempfile.mkdtemp(prefix=".tree-", dir=lab))
    try:
        tree = _unpack(tmp)
        release = kernel_release(tree)
        samples = build_samples(tree, release)
        archive = Archive()
        _base(archive, tree)
        _modules(archive, tree, release, samples)
        _qemu(archive, root)
        (tmp / "host.cpio").write_bytes(archive.bytes())
        (tmp / "host.cpio").rename(lab / "host.cpio")
        shutil.copyfile(tree / f"boot/vmlinuz-{release}", lab / "vmlinuz")
    except (OSError, subprocess.SubprocessError) as e:
        raise UsageError(f"could not make the lab's host: {e}") from None
    finally:
        shutil.rmtree(tmp, ignore_errors=True)
    size = (lab / "host.cpio").stat().st_size >> 20
    sysroot.say(f"Linux {release}, {size} MiB, made in {time.monotonic() - start:.0f} s")


def _unpack(tmp: Path) -> Path:
    tar = sysroot.fetch((SUITE,), PACKAGES, tmp)
    tree = tmp / "tree"
    tree.mkdir()
    # Most of what comes along is not needed, and a busy disk is what this waits for.
    _sh(["tar", "-x", "-f", str(tar), "-C", str(tree), "--no-same-owner", *(f"--exclude=./{name}" for name in LEFT)])
    tar.unlink()
    # Nothing was configured: the merged /usr's links and a shell are ours to make.
    for name in ("bin", "sbin", "lib", "lib64"):
        if not (tree / name).exists():
            (tree / name).symlink_to(f"usr/{name}")
    for name in _applets(tree):
        if not os.path.lexists(tree / "usr/bin" / name):
            (tree / "usr/bin" / name).symlink_to("busybox")
    (tree / "dev").mkdir()
    return tree


def _applets(tree: Path) -> list[str]:
    said = subprocess.run([str(tree / "usr/bin/busybox"), "--list"], capture_output=True, text=True, timeout=30, check=True)
    return said.stdout.split()


def kernel_release(tree: Path) -> str:
    found = sorted(p.name.removeprefix("vmlinuz-") for p in (tree / "boot").glob("vmlinuz-*"))
    if not found:
        raise UsageError("no kernel in the packages that were fetched")
    return found[-1]


def build_samples(tree: Path, release: str) -> list[Path]:
    """CONFIG_SAMPLES is off in Debian's kernel. Built in the tree, with its compiler, as an ordinary user too."""
    work = tree / "build"
    work.mkdir()
    # As with every extracted name: found by pattern, since the folder's name is the package's.
    _sh(["tar", "-x", "-f", str(tree / f"usr/src/{SOURCE}.tar.xz"), "-C", str(work), "--strip-components=3",
         "--wildcards", "*/samples/vfio-mdev/*"])
    shutil.copyfile(OURS, work / OURS.name)
    names = (*SAMPLES, OURS.stem)
    (work / "Makefile").write_text("obj-m := " + " ".join(f"{s}.o" for s in names) + "\n")
    # In a chroot there is no namespace of mounts to be had, and root needs none; elsewhere there may be no device nodes.
    enter = """
        tree=$1
        if [ "$(id -u)" = 0 ] && mknod -m 666 "$tree/dev/null" c 1 3 && : > "$tree/dev/null"; then exec chroot "$@"; fi
        rm -f "$tree/dev/null"
        user=-r; [ "$(id -u)" != 0 ] || user=
        exec unshare $user -m sh -c 'mount --rbind /dev "$1/dev" && exec chroot "$@"' sh "$@" """
    _sh(["sh", "-c", enter, "sh", str(tree), "/usr/bin/env", "-i", "PATH=/usr/bin:/bin",
         "make", "-j2", "-C", f"/usr/src/linux-headers-{release}", "M=/build", "modules"])
    return [work / f"{s}.ko" for s in names]


# ---- what goes into the archive ----

class Archive:
    """An initramfs ("newc" cpio): entries in order, folders made on the way."""

    def __init__(self):
        self.parts, self.known, self.number = [], set(), 0

    def _entry(self, name: str, mode: int, data: bytes = b"", rdev=(0, 0)) -> None:
        if name in self.known:
            return
        self.known.add(name)
        self.number += 1
        raw = name.encode() + b"\0"
        fields = (self.number, mode, 0, 0, 1, 0, len(data), 0, 0, *rdev, len(raw), 0)
        head = b"070701" + b"".join(b"%08x" % f for f in fields) + raw
        self.parts += [head, bytes(-len(head) % 4), data, bytes(-len(data) % 4)]

    def folder(self, name: str) -> None:
        done = ""
        for part in Path(name).parts:
            done = f"{done}/{part}" if done else part
            self._entry(done, stat.S_IFDIR | 0o755)

    def file(self, name: str, data: bytes, mode: int = 0o644) -> None:
        self.folder(str(Path(name).parent))
        self._entry(name, stat.S_IFREG | mode, data)

    def link(self, name: str, to: str) -> None:
        self.folder(str(Path(name).parent))
        self._entry(name, stat.S_IFLNK | 0o777, to.encode())

    def device(self, name: str, major: int, minor: int) -> None:
        self._entry(name, stat.S_IFCHR | 0o600, rdev=(major, minor))

    def copy(self, source: Path, name: str) -> None:
        self.file(name, source.read_bytes(), 0o755 if os.access(source, os.X_OK) else 0o644)

    def bytes(self) -> bytes:
        self._entry("TRAILER!!!", 0)
        return b"".join(self.parts)


def _base(archive: Archive, tree: Path) -> None:
    for name in ("proc", "sys", "dev", "run", "tmp", "etc", "root", "usr/bin", "usr/sbin", "usr/lib", "usr/lib64"):
        archive.folder(name)
    for name in ("bin", "sbin", "lib", "lib64"):
        archive.link(name, f"usr/{name}")
    archive.device("dev/console", 5, 1)
    archive.device("dev/null", 1, 3)
    archive.file("init", INIT.read_bytes(), 0o755)
    for name in PROGRAMS:
        archive.copy((tree / name), name)
    for name in DATA:
        archive.copy((tree / name), name)
    for name in _applets(tree):
        if f"usr/bin/{name}" not in archive.known:
            archive.link(f"usr/bin/{name}", "busybox")
    for name in PROGRAMS[1:]:
        for lib in _libraries(tree, tree / name):
            archive.copy(lib, "usr/lib/x86_64-linux-gnu/" + lib.name)
    archive.link("usr/lib64/ld-linux-x86-64.so.2", "../lib/x86_64-linux-gnu/ld-linux-x86-64.so.2")
    archive.copy((tree / sysroot.LOADER), sysroot.LOADER)


def _libraries(root: Path, program: Path) -> list[Path]:
    """What a program of a tree loads, by that tree's loader."""
    said = subprocess.run([str(root / sysroot.LOADER), "--library-path", str(root / sysroot.LIB), "--list", str(program)],
                          capture_output=True, text=True, timeout=30, check=True).stdout
    names = re.findall(r"^\s*(\S+) => (\S+)", said, re.M)
    strays = [path for _, path in names if not path.startswith(str(root))]
    if strays:
        raise UsageError(f"{program.name} needs {strays[0]}, which is not in its tree")
    return [Path(path) for _, path in names]


def _modules(archive: Archive, tree: Path, release: str, samples: list[Path]) -> None:
    base = tree / f"usr/lib/modules/{release}"
    where = {p.name.split(".")[0].replace("-", "_"): p for p in (base / "kernel").rglob("*.ko*")}
    builtin = {Path(n).stem.replace("-", "_") for n in (base / "modules.builtin").read_text().split()}
    into = f"usr/lib/modules/{release}"
    plain: dict[str, bytes] = {}
    todo = [m.replace("-", "_") for m in (*MODULES, *SAMPLES_NEED)]
    while todo:
        name = todo.pop()
        if name in plain or name in builtin:
            continue
        if name not in where:
            if name in OPTIONAL:
                continue
            raise UsageError(f"Linux {release} has no module {name}")
        data = where[name].read_bytes()
        plain[name] = lzma.decompress(data) if where[name].suffix == ".xz" else data
        todo += needs(plain[name])
    for sample in samples:
        plain[sample.stem] = sample.read_bytes()
    lines = []
    for name, data in sorted(plain.items()):
        archive.file(f"{into}/{name}.ko", data)
        lines.append(f"{name}.ko:" + "".join(f" {d}.ko" for d in _closure(name, plain)))
    archive.file(f"{into}/modules.dep", ("\n".join(lines) + "\n").encode())
    for name in ("modules.alias", "modules.symbols"):
        archive.file(f"{into}/{name}", b"")


def needs(module: bytes) -> list[str]:
    m = re.search(rb"\0depends=([^\0]*)\0", module)
    return [n.replace("-", "_") for n in m[1].decode().split(",") if n] if m else []


def _closure(name: str, plain: dict[str, bytes]) -> list[str]:
    """All that must be there before it, as modules.dep has them: the nearest first."""
    out: list[str] = []
    for dep in needs(plain[name]):
        if dep in plain:
            out = [d for d in out if d not in (dep, *_closure(dep, plain))] + [dep, *_closure(dep, plain)]
    return out


def _qemu(archive: Archive, root: Path) -> None:
    """Where it stands on this machine too: one command line serves both."""
    place = str(root).lstrip("/")
    binary = root / sysroot.BINARY
    archive.copy(binary, f"{place}/{sysroot.BINARY}")
    archive.copy(root / sysroot.LOADER, f"{place}/{sysroot.LOADER}")
    for lib in _libraries(root, binary):
        archive.copy(lib, f"{place}/{sysroot.LIB}/{lib.name}")
    for pattern in FIRMWARE:
        for path in sorted(root.glob(pattern)):
            archive.copy(path, f"{place}/{path.relative_to(root)}")


def _sh(argv: list[str]) -> None:
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=DEADLINE,
                          text=True, errors="replace")
    if done.returncode:
        last = [line for line in done.stdout.splitlines() if line.strip()][-5:]
        raise UsageError(f"{' '.join(a for a in argv[:3] if len(a) < 80)} …: status {done.returncode}: " + " | ".join(last))
