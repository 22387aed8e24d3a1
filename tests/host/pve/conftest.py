# SPDX-License-Identifier: MIT
"""A Proxmox VE node that is a folder: qm, pvesh and pvesm on PATH are scripts (fake_pve.py)."""
import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT / "scripts"))
sys.path.insert(0, str(ROOT / "tests/host/parser"))  # logs.py

from plumblib import qemu  # noqa: E402

IMAGES = Path(os.environ.get("PLUMB_IMAGES") or ROOT / os.environ.get("BUILD", "build"))
NODE = os.uname().nodename.split(".")[0]


class Pve:
    """The fake node, and what happened on it."""

    def __init__(self, path, monkeypatch):
        self.path, self.monkeypatch = path, monkeypatch
        self.dir, self.build = path / "pve", path / "build"
        self.storage(NODE)

    def storage(self, node, name="local"):
        (self.dir / "storage" / node / name).mkdir(parents=True)

    def api(self, **answers):
        (self.dir / "api.json").write_text(json.dumps({k.replace("__", "/"): v for k, v in answers.items()}))

    def script(self, text, log=b""):
        (self.path / "script.py").write_text(text)
        (self.path / "log.bin").write_bytes(log)
        self.monkeypatch.setenv("FAKE_SCRIPT", str(self.path / "script.py"))
        self.monkeypatch.setenv("FAKE_LOG", str(self.path / "log.bin"))

    def qemu(self):
        """VMs are real: plumb by PVH in QEMU, without any device that ends it but ACPI's S5."""
        kernel = IMAGES / "kernel.elf"
        if not kernel.is_file():
            pytest.fail(f"no {kernel}: make kernel")
        found = qemu.choose(None, say=lambda text: None)
        words = [*found.argv, "-nodefaults", "-no-user-config", "-display", "none", "-machine", "pc", "-accel", "tcg",
                 "-cpu", "max", "-kernel", str(kernel)]
        self.monkeypatch.setenv("FAKE_QEMU", " ".join(shlex.quote(w) for w in words))
        for key, value in found.env.items():
            self.monkeypatch.setenv(key, value)

    def vm(self, vmid, **conf):
        (self.dir / f"{vmid}.json").write_text(json.dumps({k: str(v) for k, v in conf.items()}))

    def conf(self, vmid):
        return json.loads((self.dir / f"{vmid}.json").read_text())

    def plumb(self, *args, timeout=50):
        return subprocess.run([sys.executable, str(ROOT / "scripts/plumb"), "pve", *args], capture_output=True,
                              text=True,
                              timeout=timeout, stdin=subprocess.DEVNULL)

    def spawn(self, *args):
        return subprocess.Popen([sys.executable, str(ROOT / "scripts/plumb"), "pve", *args], text=True,
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    @property
    def calls(self):
        path = self.dir / "calls"
        return path.read_text().splitlines() if path.exists() else []

    @property
    def vms(self):
        return sorted(p.stem for p in self.dir.glob("[0-9]*.json"))

    def running(self):
        found = []
        for p in self.dir.glob("*.pid"):
            pid = int(p.read_text())
            try:
                if f"{self.dir}".encode() in Path(f"/proc/{pid}/cmdline").read_bytes() + Path(f"/proc/{pid}/environ").read_bytes():
                    found.append(pid)
            except OSError:
                pass
        return found


@pytest.fixture
def pve(tmp_path, monkeypatch):
    for name in ("pve", "build", "bin", "tmp"):
        (tmp_path / name).mkdir()
    for name in ("qm", "pvesh", "pvesm"):
        (tmp_path / "bin" / name).symlink_to(HERE / "fake_pve.py")
    (tmp_path / "build/plumb.iso").write_bytes(b"an image")
    for key, value in {"PATH": f"{tmp_path}/bin:{os.environ['PATH']}", "FAKE_PVE": str(tmp_path / "pve"),
                       "PLUMB_PVE_RUN": str(tmp_path / "pve"), "PLUMB_PVE_TMP": str(tmp_path / "tmp"),
                       "BUILD": str(tmp_path / "build")}.items():
        monkeypatch.setenv(key, value)
    for key in ("FAKE_FAIL", "FAKE_SLOW", "FAKE_QEMU", "LOG", "PLUMB"):
        monkeypatch.delenv(key, raising=False)
    node = Pve(tmp_path, monkeypatch)
    yield node
    for pid in node.running():
        os.kill(pid, signal.SIGKILL)
