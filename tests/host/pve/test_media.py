# SPDX-License-Identifier: MIT
"""The boot medium as ISO, raw disk and qcow2: well-formed, and each boots under SeaBIOS and OVMF."""
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "scripts"))

from plumblib import media  # noqa: E402

IMAGES = Path(os.environ.get("PLUMB_IMAGES") or ROOT / os.environ.get("BUILD", "build"))


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("media")
    iso = (IMAGES / "plumb.iso").read_bytes()
    disk = media.raw(iso)
    (folder / "plumb.iso").write_bytes(iso)
    (folder / "plumb.raw").write_bytes(disk)
    (folder / "plumb.qcow2").write_bytes(media.qcow2(disk))
    return folder


def header(disk, lba):
    h = media._HEAD.unpack_from(disk, lba * 512)
    body = bytearray(disk[lba * 512:lba * 512 + h[2]])
    body[16:20] = bytes(4)
    assert h[0] == b"EFI PART" and zlib.crc32(body) == h[3] and h[5] == lba
    table = disk[h[10] * 512:h[10] * 512 + h[11] * h[12]]
    assert zlib.crc32(table) == h[13]
    return h, table


def test_raw_is_a_valid_gpt_disk(images):
    disk = (images / "plumb.raw").read_bytes()
    last = len(disk) // 512 - 1
    assert len(disk) % (4 << 20) == 0
    first, table = header(disk, 1)
    backup, copy = header(disk, last)
    assert first[6] == last and backup[6] == 1 and table == copy and first[8] == backup[8] < backup[10]
    assert struct.unpack_from("<I", disk, 446 + 12)[0] == last and disk[446 + 4] == 0xEE and disk[510:512] == b"\x55\xaa"
    assert disk.count(b"EFI PART") == 2                       # not a third one in the middle
    for n in range(first[11]):
        start, end = struct.unpack_from("<QQ", table, n * first[12] + 32)
        assert end <= first[8] and start <= end


def test_qcow2_holds_the_disk(images):
    """Read back by the format's rules; QEMU reads it below."""
    disk, q = (images / "plumb.raw").read_bytes(), (images / "plumb.qcow2").read_bytes()
    assert struct.unpack_from(">4sI", q) == (b"QFI\xfb", 3) and struct.unpack_from(">Q", q, 24)[0] == len(disk)
    l1 = struct.unpack_from(">Q", q, struct.unpack_from(">Q", q, 40)[0])[0] & ~media.COPIED
    got = b""
    for n in range(len(disk) // 65536):
        at = struct.unpack_from(">Q", q, l1 + 8 * n)[0] & ~media.COPIED
        got += q[at:at + 65536] if at else bytes(65536)
    assert got == disk and len(q) < len(disk) and len(q) % 65536 == 0
    counts = struct.unpack_from(f">{len(q) // 65536}H", q, 2 * 65536)
    assert set(counts) == {1}


@pytest.mark.parametrize("damage, why", [(lambda d: d[:512], ""), (lambda d: bytes(len(d)), "no GPT"),
                                         (lambda d: d[:1100] + b"\xff" * 40 + d[1140:], "damaged")])
def test_no_hybrid_image(images, damage, why):
    with pytest.raises((media.BadImage, struct.error), match=why):
        media.raw(damage((images / "plumb.iso").read_bytes()))


@pytest.mark.parametrize("firmware", ["bios", "uefi"])
@pytest.mark.parametrize("kind", ["iso", "raw", "qcow2"])
def test_boots(images, tmp_path, kind, firmware):
    before = (images / f"plumb.{kind}").read_bytes()
    done = subprocess.run([sys.executable, str(ROOT / "scripts/plumb"), "run", "--machine", "pc-pve", "--accel",
                           "tcg", "--boot", firmware,
                           "--medium", str(images / f"plumb.{kind}"), "--plumb", "only=boot.handoff,boot.smp"],
                          capture_output=True, text=True,
                          timeout=58, stdin=subprocess.DEVNULL,
                          env={**os.environ, "BUILD": str(tmp_path), "QEMU_ARGS": "", "MACHINE": "", "BOOT": "",
                               "LOG": ""})
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    assert ("booted by plumb.efi" if firmware == "uefi" else "booted by GRUB") in done.stdout
    assert (images / f"plumb.{kind}").read_bytes() == before
