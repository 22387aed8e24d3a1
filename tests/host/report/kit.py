# SPDX-License-Identifier: MIT
"""What the tests of the reports share."""
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "scripts"))
LOGS = Path(__file__).resolve().parent / "logs"
PLUMB = [sys.executable, str(ROOT / "scripts" / "plumb")]
REAL = sorted(LOGS.glob("*.log"))
assert len(REAL) >= 5


def plumb(*args, seconds=50, **kw):
    env = {k: v for k, v in os.environ.items() if k not in ("MACHINE", "BOOT", "SMP", "MEM", "QEMU_ARGS", "PLUMB", "LOG", "ACCEL")}
    return subprocess.run([*PLUMB, *map(str, args)], capture_output=True, text=True, timeout=seconds,
                          stdin=kw.pop("stdin", subprocess.DEVNULL), env={**env, **kw.pop("env", {})}, **kw)


def judged(data):
    from plumblib import judge
    return judge.judge_log(data if isinstance(data, bytes) else Path(data).read_bytes())
