# SPDX-License-Identifier: MIT
"""The smallest ivshmem server: one client, its own peer, over an inherited socket.

QEMU docs/specs/ivshmem-spec: on connect the protocol version (0), the client's ID, then -1 with the
shared memory's fd; then for each vector the client's own ID with an eventfd. Each is an int64.
"""
from __future__ import annotations

import array
import os
import socket
import struct

VECTORS = 4
SIZE = 1 << 20
CLIENT_ID = 1


def serve(conn: socket.socket, vectors: int = VECTORS) -> None:
    """Sends all of it at once: it fits the socket's buffer, so nobody has to stay and serve.

    The socket must stay open: QEMU takes its end for the client's leaving.
    """
    shm = os.memfd_create("plumb-ivshmem")
    fds = [shm]
    try:
        os.ftruncate(shm, SIZE)
        _send(conn, 0)
        _send(conn, CLIENT_ID)
        _send(conn, -1, shm)
        for _ in range(vectors):
            fds.append(os.eventfd(0))
            _send(conn, CLIENT_ID, fds[-1])
    finally:
        for fd in fds:  # the messages in flight hold them
            os.close(fd)


def _send(conn: socket.socket, value: int, fd: int | None = None) -> None:
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))] if fd is not None else []
    conn.sendmsg([struct.pack("<q", value)], rights)
