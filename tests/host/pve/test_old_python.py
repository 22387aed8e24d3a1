# SPDX-License-Identifier: MIT
"""`plumb pve` and `plumb parse` run on a bare Proxmox VE host: Python 3.9, and no module but Python's own."""
import ast
import glob
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from logs import good

ROOT = Path(__file__).resolve().parents[3]
LIB = ROOT / "scripts/plumblib"


def found(version):
    """A Python of that release that runs; "" if there is none."""
    for path in (os.environ.get("PLUMB_PYTHON39", ""), shutil.which(f"python{version}") or "",
                 *glob.glob(os.path.expanduser(f"~/.pyenv/versions/{version}.*/bin/python"))):
        try:
            said = subprocess.run([path, "--version"], capture_output=True, text=True,
                                  timeout=10).stdout if path else ""
        except OSError:
            continue
        if said.startswith(f"Python {version}."):
            return path
    return ""


OLD = {v: found(v) for v in ("3.9", "3.10", "3.13")}


def reached(start):
    """The files that these import, directly or not, where they are not imported inside a function."""
    todo, seen = list(start), set()
    while todo:
        path = todo.pop()
        if path in seen:
            continue
        seen.add(path)
        for node in ast.walk(ast.parse(path.read_text(), feature_version=(3, 9))):
            if isinstance(node, ast.ImportFrom) and node.level:
                base = path.parent if node.level == 1 else path.parent.parent
                names = [node.module.split(".")[0]] if node.module else [a.name for a in node.names]
                todo += [p for n in names for p in (base / f"{n}.py",) if p.is_file()]
            elif isinstance(node, (ast.Import, ast.ImportFrom)):
                for name in ([node.module] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]):
                    top = name.split(".")[0]
                    assert top in sys.stdlib_module_names or top == "plumblib", f"{path.name}: {name}"
    return seen


def test_syntax_and_modules():
    files = reached([ROOT / "scripts/plumb", *sorted((LIB / "pve").glob("*.py")), LIB / "outputs.py",
                     LIB / "view.py"])
    assert {"report.py", "judge.py", "guest.py", "run.py", "check.py"} <= {p.name for p in files}
    for path in files - {LIB / "profile.py"}:
        for node in ast.walk(ast.parse(path.read_text())):
            assert not (isinstance(node, ast.Import) and any(a.name == "tomllib" for a in node.names)), path


def test_nothing_but_the_scripts_folder(tmp_path):
    """Copied alone to a host; no site-packages."""
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    for args in (["pve", "-h"], ["parse", "-h"],
                 ["pve", "check", "--from", str(ROOT / "tests/host/pve/fixtures/pve73")]):
        done = subprocess.run([sys.executable, "-I", "-S", str(tmp_path / "scripts/plumb"), *args],
                              capture_output=True, text=True,
                              timeout=30, cwd=tmp_path)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("version", [pytest.param(v, marks=pytest.mark.skipif(not path, reason=f"no Python {v} here"))
                                     for v, path in OLD.items()])
def test_by_that_python(pve, version):
    """A check, and a whole run on the fake node."""
    plumb = [OLD[version], str(ROOT / "scripts/plumb")]
    done = subprocess.run([*plumb, "pve", "check", "--from", str(ROOT / "tests/host/pve/fixtures/pve73")],
                          capture_output=True,
                          text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    pve.script("say(log)", good().bytes())
    done = subprocess.run([*plumb, "pve", "run"], capture_output=True, text=True, timeout=30,
                          stdin=subprocess.DEVNULL)
    assert done.returncode == 0 and "PASS  2 passed" in done.stdout and "Traceback" not in done.stderr, done.stdout + done.stderr
    log = str(pve.build / "logs/pve-run.log")
    assert subprocess.run([*plumb, "parse", "-q", log], timeout=30).returncode == 0
    assert subprocess.run([*plumb, "run", "--showcmd", "/nowhere"], timeout=30,
                          stderr=subprocess.DEVNULL).returncode == 3
