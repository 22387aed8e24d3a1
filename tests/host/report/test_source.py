# SPDX-License-Identifier: MIT
"""`plumb parse` from a file, standard input, a serial line, a socket: it ends when the report does."""
import os
import pty
import socket
import subprocess
import threading
import time

import madeup
import pytest
from kit import LOGS, PLUMB, plumb
from plumblib import UsageError, source

GOOD = (LOGS / "pc-pve.log").read_bytes()


def served(sock, *chunks, hold=0.0, pause=0.02):
    """Accepts once, sends, holds the line open."""
    def run():
        try:
            peer, _ = sock.accept()
            with peer:
                for chunk in chunks:
                    peer.sendall(chunk)
                    time.sleep(pause)
                time.sleep(hold)
        except OSError:
            pass
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


@pytest.fixture(params=["unix", "tcp"])
def line(request, tmp_path):
    """A listening socket and the name that plumb knows it by."""
    if request.param == "unix":
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(str(tmp_path / "serial"))
        name = f"unix:{tmp_path / 'serial'}"
    else:
        sock = socket.socket()
        sock.bind(("127.0.0.1", 0))
        name = f"tcp:127.0.0.1:{sock.getsockname()[1]}"
    sock.listen(1)
    yield sock, name
    sock.close()


def parts(data, n=9):
    step = len(data) // n + 1
    return [data[i:i + step] for i in range(0, len(data), step)]


def test_a_socket_ends_with_the_verdict(line, tmp_path):
    sock, name = line
    served(sock, b"\x1b[2Jfirmware\r\n", *parts(GOOD), hold=30)
    start = time.monotonic()
    done = plumb("parse", name, "--save", tmp_path / "kept.log")
    assert done.returncode == 0 and "PASS" in done.stdout, done.stdout + done.stderr
    assert time.monotonic() - start < 20                  # the line is still open
    assert (tmp_path / "kept.log").read_bytes().endswith(GOOD)


def test_a_line_that_breaks_is_no_verdict(line):
    sock, name = line
    served(sock, GOOD[:5000])
    assert plumb("parse", name).returncode == 2


def test_a_silent_line_ends_at_the_deadline(line):
    sock, name = line
    served(sock, GOOD[:3000], hold=30)
    start = time.monotonic()
    done = plumb("parse", name, "--deadline", "1.5")
    assert done.returncode == 2 and 1.4 < time.monotonic() - start < 15


def test_a_second_boot_right_after_is_seen(line):
    sock, name = line
    served(sock, GOOD, GOOD[:4000], pause=.3, hold=30)
    done = plumb("parse", name)
    assert done.returncode == 2 and "second report" in done.stdout


def test_a_server_that_comes_late(tmp_path):
    name = tmp_path / "late"

    def later():
        time.sleep(.6)
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(str(name))
        sock.listen(1)
        served(sock, GOOD).join(10)
        sock.close()
    thread = threading.Thread(target=later)
    thread.start()
    assert plumb("parse", f"unix:{name}", "--deadline", "20").returncode == 0
    thread.join()


def test_nobody_there(tmp_path):
    for name in (f"unix:{tmp_path / 'none'}", "tcp:127.0.0.1:1"):
        done = plumb("parse", name, "--deadline", "0.5")
        assert done.returncode == 3 and "Traceback" not in done.stderr
    for name in ("tcp:nonsense", "tcp:host:port", "tcp::1", "tcp:h:99999"):
        with pytest.raises(UsageError):
            source.read(name, 1)


def test_a_file_and_standard_input(tmp_path):
    assert plumb("parse", LOGS / "pc-pve.log").returncode == 0
    with open(LOGS / "pc-pve.log", "rb") as f:
        assert plumb("parse", "-", stdin=f).returncode == 0
    assert plumb("parse", tmp_path / "none").returncode == 3
    assert plumb("parse", tmp_path).returncode == 3
    # All of a file is read: what stands behind the verdict is judged too.
    twice = tmp_path / "twice.log"
    twice.write_bytes(GOOD + GOOD)
    assert plumb("parse", twice).returncode == 2
    with open(twice, "rb") as f:
        assert plumb("parse", "-", stdin=f).returncode == 2


def test_a_pipe_that_stays_open():
    proc = subprocess.Popen([*PLUMB, "parse", "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        proc.stdin.write(GOOD)
        proc.stdin.flush()
        assert b"PASS" in proc.stdout.read() and proc.wait(20) == 0
    finally:
        proc.kill()
        proc.wait()
        proc.stdin.close()
        proc.stdout.close()


def test_a_serial_device():
    ours, theirs = pty.openpty()
    import tty
    tty.setraw(theirs)
    name = os.ttyname(theirs)
    proc = subprocess.Popen([*PLUMB, "parse", name], stdout=subprocess.PIPE)
    try:
        left = madeup.bad().bytes()
        while left:
            left = left[os.write(ours, left[:512]):]
        assert b"FAIL" in proc.stdout.read() and proc.wait(20) == 1
    finally:
        proc.kill()
        proc.wait()
        proc.stdout.close()
        os.close(ours)
        os.close(theirs)
