# SPDX-License-Identifier: MIT
"""qm, pvesm and pvesh: every command bounded, and a dry run that only says what would be done."""
from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager

from .. import UsageError

QUICK, SLOW = 30.0, 180.0            # seconds: a question, a change
GRACE = 20.0                         # for a change that is under way when we are stopped
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
VMID = re.compile(r"[1-9][0-9]{2,8}\Z")


class ToolError(UsageError):
    """A Proxmox VE command failed, or did not answer."""


@contextmanager
def shielded():
    """Cleaning up is not to be cut short: a signal waits until it is done."""
    got: list = []
    old = {n: signal.signal(n, lambda number, _frame: got.append(number)) for n in SIGNALS}
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
        if got:
            os.kill(os.getpid(), got[0])


class Tools:
    def __init__(self, dry: bool = False, verbose: bool = False, out=None):
        self.dry, self.verbose, self.out = dry, verbose, out or sys.stderr

    def say(self, text: str) -> None:
        print(text, file=self.out, flush=True)

    def ask(self, *argv: str, seconds: float = QUICK) -> str:
        """A question: changes nothing, so a dry run asks it too."""
        return finish(self.spawn(*argv), seconds)

    def ask_json(self, *argv: str, seconds: float = QUICK):
        said = self.ask(*argv, "--output-format", "json", seconds=seconds)
        try:
            return json.loads(said) if said.strip() else None
        except ValueError:
            raise ToolError(f"{_line(argv)}: no JSON in its answer: {said.strip()[:100]!r}") from None

    def do(self, *argv: str, seconds: float = SLOW) -> str:
        """A change. A dry run prints it."""
        if self.dry:
            self.say(f"would run: {_line(argv)}")
            return ""
        if self.verbose:
            self.say(f"+ {_line(argv)}")
        return finish(self.spawn(*argv), seconds)

    def spawn(self, *argv: str) -> subprocess.Popen:
        """In a session of its own: the terminal's Ctrl-C is ours alone."""
        if not shutil.which(argv[0]):
            raise ToolError(f"no {argv[0]} here: this command runs on a Proxmox VE host, as root")
        old = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # its id is known before a signal comes
        try:
            return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                    start_new_session=True, env={**os.environ, "LC_ALL": "C"},
                                    preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_SETMASK, old))
        except OSError as e:
            raise ToolError(f"{argv[0]}: {e.strerror}") from None
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, old)


def finish(proc: subprocess.Popen, seconds: float) -> str:
    """Its output; ToolError where it fails or does not end in time. It never outlives us."""
    try:
        out, err = proc.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        kill(proc)
        raise ToolError(f"{_line(proc.args)}: no end within {seconds:.0f} s") from None
    except BaseException:  # stopped: a change cut short would leave more behind than one that is done
        try:
            proc.communicate(timeout=GRACE)
        except subprocess.TimeoutExpired:
            kill(proc)
        raise
    if proc.returncode:
        words = [w for w in (err or out).decode("utf-8", "replace").strip().splitlines() if w.strip()]
        raise ToolError(f"{_line(proc.args)}: {words[-1].strip() if words else f'status {proc.returncode}'}")
    return out.decode("utf-8", "replace")


def kill(proc: subprocess.Popen) -> None:
    if proc.poll() is None:
        try:
            os.killpg(proc.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    try:
        proc.communicate(timeout=5)
    except (subprocess.TimeoutExpired, ValueError):
        pass  # a grandchild holds the pipe; the process itself is gone


def _line(argv) -> str:
    text = " ".join(shlex.quote(a) for a in argv)
    return text if len(text) < 400 else text[:397] + "…"


def check_vmid(text: str) -> str:
    if not VMID.match(str(text)):
        raise UsageError(f"{text!r} is no VMID")
    return str(text)


def local_node() -> str:
    """As PVE::INotify::nodename(): the host name without its domain."""
    return os.uname().nodename.split(".")[0]


def online_nodes(tools: Tools) -> tuple[list, list]:
    """Names of the cluster's nodes: those that are online, and the others."""
    found = tools.ask_json("pvesh", "get", "/nodes") or []
    names = [(str(n.get("node")), n.get("status") == "online") for n in found if isinstance(n, dict)
             and n.get("node")]
    return sorted(n for n, up in names if up), sorted(n for n, up in names if not up)
