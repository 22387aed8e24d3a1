# SPDX-License-Identifier: MIT
"""A vGPU model and a client to it."""
import os
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "scripts"))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from plumblib import build_dir, vgpu_model  # noqa: E402
from vfio_user import Client  # noqa: E402


@pytest.fixture
def models(tmp_path, monkeypatch):
    """Starts models; each gives (client, model). All end with the test."""
    monkeypatch.setenv("PLUMB_VGPU", os.environ.get("PLUMB_VGPU") or str(build_dir() / "models" / "vgpu-san"))
    count = 0
    with ExitStack() as stack:
        def start(kind="p40-2a-mdev", *breaks, options=(), version=True, connect=True):
            nonlocal count
            count += 1
            log = stack.enter_context(open(tmp_path / f"model{count}.log", "w+"))
            one = stack.enter_context(vgpu_model.model(kind, breaks, tmp_path / f"s{count}", options, log))
            one.log = tmp_path / f"model{count}.log"
            if not connect:
                return one
            client = Client(one.socket, version=version)
            stack.callback(client.close)
            return client, one
        yield start
        # Whatever a test did, no sanitizer may have spoken.
        for log in tmp_path.glob("model*.log"):
            text = log.read_text(errors="replace")
            assert "Sanitizer" not in text and "runtime error" not in text, text
