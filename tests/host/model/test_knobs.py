# SPDX-License-Identifier: MIT
"""The tables of knobs are complete: no fault of a model is left out, and no finding of the catalogue is never provoked.

What comes of each is seen by booting them: tests/vgpu/knobs.py.
"""
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from plumblib import vgpu_model

ROOT = Path(__file__).resolve().parents[3]
TABLES = {name: tomllib.loads((ROOT / "tests" / name / "knobs.toml").read_text())["knob"] for name in ("vgpu", "mdev")}
SABOTAGES = tomllib.loads((ROOT / "tests/host/sabotage/sabotages.toml").read_text())


def kind_of(knob):
    return knob["vgpu"].partition(":")[0]


def breaks_of(knob):
    return [b.partition("=")[0] for b in knob["vgpu"].partition(":")[2].split(",") if b]


def listed(kind):
    out = subprocess.run([vgpu_model.binary(kind), "--list-breaks"], capture_output=True, text=True, timeout=20, check=True)
    return [line.split() for line in out.stdout.splitlines()]


def catalogue():
    """Rows of docs/findings.md that say what provokes them: (table, id, provoked by, fails)"""
    table = None
    for line in (ROOT / "docs/findings.md").read_text().splitlines():
        if line.startswith("## "):
            table = {"The vGPU": "vgpu", "Other mdevs": "mdev"}.get(line[3:])
        if table and line.startswith("| PLB"):
            cells = [c.strip() for c in line.strip("|").split("|")]
            assert len(cells) == 5, line
            yield table, cells[0], cells[2], cells[3]


def test_every_fault_of_the_vgpu_model_is_booted():
    names = {words[0].partition("=")[0] for words in listed("")}
    assert len(names) > 30
    assert names - {b for k in TABLES["vgpu"] for b in breaks_of(k)} == set()


def test_every_fault_of_the_sample_models_is_booted():
    known = {(words[0], words[1]) for words in listed("mtty")}
    assert len(known) > 10
    assert known - {(kind_of(k).partition("-")[0], b) for k in TABLES["mdev"] for b in breaks_of(k)} == set()


def test_each_kind_is_booted_whole():
    for table, kinds in (("vgpu", {words[0] for words in kinds_of_model()}), ("mdev", set(vgpu_model.SAMPLES) - {"edu"})):
        whole = {k["vgpu"] for k in TABLES[table] if not {"swap", "two", "options", "fails", "finds"} & set(k)}
        assert kinds - whole == set()


def kinds_of_model():
    out = subprocess.run([vgpu_model.binary(), "--list-kinds"], capture_output=True, text=True, timeout=20, check=True)
    return [line.split() for line in out.stdout.splitlines()]


def test_catalogue_and_sources_have_the_same_findings():
    told = {i for folder in ("tests", "drivers", "kernel") for path in (ROOT / folder).rglob("*.c") if "host" not in path.parts
            for i in re.findall(r'"(PLB\d{3})"', path.read_text())}
    listed_there = re.findall(r"^\| (PLB\d{3}) ", (ROOT / "docs/findings.md").read_text(), re.M)
    assert len(set(listed_there)) == len(listed_there)
    assert set(listed_there) == told


@pytest.mark.parametrize("row", list(catalogue()), ids=lambda row: row[1])
def test_finding_is_provoked_as_the_catalogue_says(row):
    table, ident, provoked, fails = row
    knobs = [k for k in TABLES[table] if ident in k.get("finds", [])]
    by_sabotage = re.findall(r"sabotage=(\w+)", provoked)
    assert knobs or by_sabotage, f"nothing provokes {ident}"
    for name in by_sabotage:
        assert ident in SABOTAGES[name]["says"], f"sabotage={name} is not known to be told as {ident}"
    for name in re.findall(r"[a-z0-9][a-z0-9-]+", re.sub(r"`[^`]*`|\([^)]*\)|sabotage=\w+", "", provoked)):
        assert any(name in breaks_of(k) for k in knobs), f"no knob with {name} has {ident}"
    failing = {f for k in knobs for f in k.get("fails", [])} | {f for n in by_sabotage for f in SABOTAGES[n]["fails"]}
    if fails.startswith("–"):
        assert not failing
    else:
        wanted = set(re.findall(r"(?:vgpu|mdev)\.\w+", fails))
        assert wanted <= failing or not wanted
        assert failing
