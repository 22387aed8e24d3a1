# SPDX-License-Identifier: MIT
"""A QEMU that is a script."""
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "scripts"))
sys.path.insert(0, str(Path(__file__).resolve().parent))
FAKE = Path(__file__).with_name("fake_qemu.py")


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """Makes the runner start a script instead of QEMU; gives a function that says what it shall do."""
    build = tmp_path / "build"
    build.mkdir()
    (build / "kernel.elf").write_bytes(b"no kernel")
    (build / "plumb.iso").write_bytes(b"no image")
    monkeypatch.setenv("BUILD", str(build))
    monkeypatch.setenv("QEMU", str(FAKE))
    monkeypatch.setenv("ACCEL", "tcg")
    for name in ("MACHINE", "SMP", "MEM", "QEMU_ARGS", "PLUMB", "LOG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("BOOT", "pvh")
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)  # plumb keeps its bytecode under build/

    def script(text, log=b""):
        (tmp_path / "script.py").write_text(text)
        (tmp_path / "log.bin").write_bytes(log)
        monkeypatch.setenv("FAKE_SCRIPT", str(tmp_path / "script.py"))
        monkeypatch.setenv("FAKE_LOG", str(tmp_path / "log.bin"))
    script.build = build
    script.path = tmp_path
    return script
