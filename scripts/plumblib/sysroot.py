# SPDX-License-Identifier: MIT
"""A QEMU of a newer Debian, unpacked under build/: nothing of the host is touched."""
from __future__ import annotations

import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

from . import ROOT, UsageError, shown

# QEMU release -> suites that have it. Ordered: the first that is new enough serves.
RELEASES = {"10.0": ("trixie",), "11.1": ("trixie", "trixie-backports")}
PACKAGES = ("qemu-system-x86", "qemu-system-common", "qemu-system-data", "ovmf", "seabios", "ipxe-qemu",
            "u-boot-qemu")
LIB = "usr/lib/x86_64-linux-gnu"
UBOOT = "usr/lib/u-boot/qemu-x86_64/u-boot.rom"
LOADER = f"{LIB}/ld-linux-x86-64.so.2"
BINARY = "usr/bin/qemu-system-x86_64"
NEEDED = (LOADER, BINARY, "usr/share/OVMF/OVMF_CODE_4M.fd", "usr/share/OVMF/OVMF_VARS_4M.fd",
          "usr/share/seabios/bios-256k.bin", "usr/share/qemu/pvh.bin", "usr/share/qemu/efi-e1000e.rom", UBOOT)
DEADLINE = 600


def lowest(needs: str) -> str:
    """The release to take where `needs` or newer is asked for."""
    want = tuple(int(n) for n in needs.split("."))
    for release in RELEASES:
        if tuple(int(n) for n in release.split("."))[:len(want)] >= want:
            return release
    raise UsageError(f"QEMU {needs} is not to be had from Debian; give its path with QEMU=")


def folder(release: str) -> Path:
    return ROOT / "build" / f"sysroot-{release}"


def qemu_command(root: Path) -> tuple[list[str], dict]:
    """Its own loader with its own libraries: no chroot, no root."""
    argv = [str(root / LOADER), "--library-path", str(root / LIB), str(root / BINARY),
            "-L", str(root / "usr/share/qemu"), "-L", str(root / "usr/share/seabios")]
    return argv, {"QEMU_MODULE_DIR": str(root / LIB / "qemu")}


def fault(root: Path) -> str | None:
    """What is wrong with a sysroot, None if nothing is."""
    if not root.is_dir():
        return "is not there"
    for name in NEEDED:
        if not (root / name).is_file() or not (root / name).stat().st_size:
            return f"lacks {name}"
    return None


def works(root: Path) -> bool:
    argv, env = qemu_command(root)
    try:
        return subprocess.run(argv + ["--version"], env={**os.environ, **env}, timeout=20,
                              stdin=subprocess.DEVNULL, capture_output=True).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def provision(release: str) -> Path:
    """The sysroot of a QEMU release, made where it is missing or half there."""
    root = folder(release)
    if not fault(root):
        return root
    with locked(release):
        if not fault(root):  # somebody else just made it
            return root
        if root.exists():
            say(f"{shown(root)} {fault(root)}: making it anew")
        _make(release, root)
    return root


@contextmanager
def locked(name: str):
    """One maker at a time of what stands under build/."""
    path = ROOT / "build" / f".sysroot-{name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as f:
        end = time.monotonic() + DEADLINE
        while True:
            try:
                fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise UsageError(f"another process holds {shown(path)} for {DEADLINE} s") from None
                time.sleep(0.2)
        yield


def _make(release: str, root: Path) -> None:
    if not shutil.which("mmdebstrap"):
        raise UsageError("QEMU 9.0 or newer is missing, and mmdebstrap, to fetch one:"
                         " apt-get install mmdebstrap   (or give QEMU=)")
    start = time.monotonic()
    say(f"fetching QEMU {release} from Debian {' + '.join(RELEASES[release])} into {shown(root)}")
    for old in root.parent.glob(f".{root.name}-*"):  # left by a killed run; we hold the lock
        shutil.rmtree(old, ignore_errors=True)
    tmp = Path(tempfile.mkdtemp(prefix=f".{root.name}-", dir=root.parent))
    try:
        tar = fetch(RELEASES[release], PACKAGES, tmp)
        new = tmp / "root"
        new.mkdir()
        # No device nodes, no owners: the same tree whoever makes it.
        subprocess.run(["tar", "-x", "-f", str(tar), "-C", str(new), "--no-same-owner",
                        "--exclude=./dev", "--exclude=./usr/share/doc", "--exclude=./usr/share/man"],
                       check=True, timeout=DEADLINE)
        tar.unlink()
        wrong = fault(new) or (None if works(new) else "does not run")
        if wrong:
            raise UsageError(f"the new sysroot {wrong}")
        new.chmod(0o755)
        if root.exists():
            root.rename(tmp / "old")
        new.rename(root)
    except (subprocess.SubprocessError, OSError) as e:
        raise UsageError(f"could not unpack {shown(root)}: {e}") from None
    finally:
        shutil.rmtree(tmp, ignore_errors=True)
    say(f"{shown(root)} made in {time.monotonic() - start:.0f} s")


def fetch(suites: tuple, names: tuple, tmp: Path) -> Path:
    """An archive of Debian packages and all they depend on, unpacked, not configured; the last suite is preferred."""
    tar = tmp / "root.tar"
    mirror = host_mirror()
    argv = ["mmdebstrap", "--quiet", "--variant=extract", "--architectures=amd64", "--format=tar",
            # Nothing is configured or run in it, so an ordinary user needs no namespaces either.
            f"--mode={'root' if os.geteuid() == 0 else 'chrootless'}", "--include=" + ",".join(names)]
    if len(suites) > 1:
        argv.append(f'--aptopt=APT::Default-Release "{suites[-1]}"')
    argv += [suites[0], str(tar)]
    if mirror:
        argv += [f"deb {mirror} {suite} main" for suite in suites]
    elif len(suites) > 1:
        raise UsageError(f"apt on this host names no Debian mirror to take {suites[-1]} from")
    log = tmp / "log"
    if _run(argv, log, {**os.environ, "TMPDIR": str(tmp)}):
        last = [line for line in log.read_text(errors="replace").splitlines() if line.strip()][-3:]
        raise UsageError("mmdebstrap could not fetch the packages: " + " | ".join(last))
    return tar


def _run(argv: list[str], log: Path, env: dict) -> int:
    """In a process group of its own, which ends with us or at its deadline."""
    with open(log, "wb") as out:
        proc = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=env,
                                start_new_session=True)
        try:
            return proc.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            raise UsageError(f"{argv[0]} did not end within {DEADLINE} s") from None
        finally:
            if proc.poll() is None:
                os.killpg(proc.pid, signal.SIGKILL)
                proc.wait(10)


def host_mirror() -> str | None:
    """The Debian mirror that the host's own apt uses."""
    fmt = "$(LABEL)\t$(RELEASE)\t$(REPO_URI)"
    try:
        said = subprocess.run(["apt-get", "indextargets", "--format", fmt, "Created-By: Packages"],
                              capture_output=True, text=True, timeout=30).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    fallback = None
    for line in said.splitlines():
        label, suite, uri = (line.split("\t") + ["", "", ""])[:3]
        if re.search(r"-(security|updates|backports)", suite) or not uri.startswith(("http", "file", "mirror")):
            continue
        if label == "Debian":
            return uri.rstrip("/")
        # Before the first apt-get update there are no labels yet.
        if re.search(r"/debian/?$", uri):
            fallback = fallback or uri.rstrip("/")
    return fallback


def say(text: str) -> None:
    print(f"plumb: {text}", file=sys.stderr, flush=True)


