# SPDX-License-Identifier: MIT
"""The host side of plumb: starts the guest, reads its report, says what came of it."""
import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# One meaning everywhere (docs/results.md).
EXIT_PASS, EXIT_FAIL, EXIT_UNTRUSTED, EXIT_USAGE = 0, 1, 2, 3


class UsageError(Exception):
    """The caller or the machine lacks something; the message names it. Exit status 3."""


def build_dir() -> Path:
    """Where images, logs and caches are: make's BUILD, as make would read it."""
    return ROOT / os.environ.get("BUILD", "build")


def shown(path: Path) -> str:
    """A path as a person at the repository's root would type it."""
    try:
        return str(Path(path).resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)
