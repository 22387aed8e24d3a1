# SPDX-License-Identifier: MIT
"""The hybrid ISO as a disk: raw with its backup GPT at the end, and qcow2. `make media` calls it.

    media.py ISO RAW            media.py --qcow2 RAW QCOW2
"""
from __future__ import annotations

import struct
import sys
import zlib
from pathlib import Path

SECTOR = 512
ROUND = 4 << 20                      # a whole number of LVM's extents
CLUSTER_BITS = 16
CLUSTER = 1 << CLUSTER_BITS
COPIED = 1 << 63


class BadImage(Exception):
    pass


# ---- GPT: UEFI 2.10, 5.3.2. Header: signature, revision, size, CRC, 0, own LBA, other LBA, first, last, … ----

_HEAD = struct.Struct("<8sIIIIQQQQ16sQIII")


def raw(iso: bytes) -> bytes:
    """A disk of whole ROUND bytes: both GPTs and the protective MBR say its size."""
    head = list(_HEAD.unpack_from(iso, SECTOR))
    if head[0] != b"EFI PART" or len(iso) % SECTOR:
        raise BadImage("no hybrid image: it has no GPT")
    table = bytes(iso[head[10] * SECTOR:head[10] * SECTOR + head[11] * head[12]])
    if zlib.crc32(table) != head[13]:
        raise BadImage("its GPT is damaged")
    size = -(-len(iso) // ROUND) * ROUND
    last = size // SECTOR - 1
    room = -(-len(table) // SECTOR)
    if len(iso) > size - (room + 1) * SECTOR:
        size += ROUND
        last = size // SECTOR - 1
    disk = bytearray(iso) + bytes(size - len(iso))
    old = head[6]                    # the backup in the middle: no second GPT is to be found there
    disk[(old - room) * SECTOR:(old + 1) * SECTOR] = bytes((room + 1) * SECTOR)
    head[8] = last - room - 1        # last usable
    for mine, other, entries in ((1, last, head[10]), (last, 1, last - room)):
        head[3], head[5], head[6], head[10] = 0, mine, other, entries
        head[3] = zlib.crc32(_HEAD.pack(*head)[:head[2]])
        disk[mine * SECTOR:mine * SECTOR + _HEAD.size] = _HEAD.pack(*head)
    disk[(last - room) * SECTOR:(last - room) * SECTOR + len(table)] = table
    for entry in range(446, 510, 16):
        if disk[entry + 4] == 0xEE:
            struct.pack_into("<I", disk, entry + 12, last)
    return bytes(disk)


# ---- qcow2, version 3: docs/interop/qcow2. Header, refcount table and block, L1, L2, then data. ----

def qcow2(disk: bytes) -> bytes:
    count = -(-len(disk) // CLUSTER)
    if count > CLUSTER // 8:
        raise BadImage("larger than one L2 table holds (512 MiB)")
    l2, data = [0] * (CLUSTER // 8), bytearray()
    used = 5
    for n in range(count):
        piece = disk[n * CLUSTER:(n + 1) * CLUSTER]
        if piece.count(0) != len(piece):
            l2[n] = used * CLUSTER | COPIED
            data += piece.ljust(CLUSTER, b"\0")
            used += 1
    if used > CLUSTER // 2:
        raise BadImage("larger than one refcount block holds")
    head = struct.pack(">4sIQIIQIIQQIIQQQQII", b"QFI\xfb", 3, 0, 0, CLUSTER_BITS, len(disk), 0, 1, 3 * CLUSTER,
                       CLUSTER, 1, 0, 0, 0, 0, 0, 4, 104)
    parts = (head, struct.pack(">Q", 2 * CLUSTER), struct.pack(">H", 1) * used,
             struct.pack(">Q", 4 * CLUSTER | COPIED), struct.pack(f">{len(l2)}Q", *l2))
    return b"".join(p.ljust(CLUSTER, b"\0") for p in parts) + bytes(data)


def main(argv: list[str]) -> int:
    make = raw
    if argv and argv[0] == "--qcow2":
        make, argv = qcow2, argv[1:]
    if len(argv) != 2:
        print(__doc__, file=sys.stderr)
        return 3
    try:
        out = make(Path(argv[0]).read_bytes())
        tmp = Path(argv[1] + ".new")
        tmp.write_bytes(out)
        tmp.rename(argv[1])
    except (OSError, struct.error, BadImage) as e:
        print(f"media: {argv[0]}: {e}", file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
