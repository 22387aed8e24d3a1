# SPDX-License-Identifier: MIT
"""The whole way: the image boots with `dump` while QEMU traces, and every form of result is made of it."""
import json
import re
import subprocess

import pytest
from kit import ROOT, judged, plumb
from plumblib import build_dir, dumps, qemu, series, trace

TESTS = "boot.handoff,pci.topology,ir.update,ir.not_present,perf.exits"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """One boot for all of this file."""
    if not (build_dir() / "kernel.elf").is_file():
        pytest.fail("no kernel.elf: `make kernel` first")
    folder = tmp_path_factory.mktemp("live")
    # The first on a fresh machine fetches a QEMU.
    done = plumb("run", "--machine", "q35-vtd", "--boot", "pvh", "--accel", "tcg", "--log", folder / "run.log", "--trace", "vtd,apic",
                 "--plumb", f"dump only={TESTS}", "-o", folder / "run.html", "-o", folder / "run.json", "-o", folder / "run.md",
                 "-o", folder / "run.prom", seconds=200)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_trace_events_lie_in_their_tests(made):
    """Interrupt entries are invalidated in ir.update and never in pci.topology: the join is right."""
    t = trace.load(made / "run.log.trace", judged(made / "run.log").report.boot)
    assert set(t.tests) == {"", *TESTS.split(",")}
    assert t.tests["ir.update"].counts["vtd_inv_desc_iec"] > 0 and t.tests["ir.not_present"].counts["vtd_dmar_fault"] + \
        t.tests["ir.not_present"].counts["vtd_frr_new"] > 0
    assert not t.tests["pci.topology"].counts.get("vtd_inv_desc_iec") and not t.tests["boot.handoff"].counts.get("vtd_inv_desc_iec")
    said = [text for _, kind, text in t.tests["ir.update"].lines if kind == "s"]
    assert any(re.fullmatch(r"ok \d+ - ir\.update", x) for x in said)
    assert "serial_write" not in {name for x in t.tests.values() for name in x.counts}
    assert all(len(x.lines) < 1000 for x in t.tests.values())
    assert "QEMU meanwhile" in (made / "run.html").read_text()


@pytest.mark.parametrize("release", ["10.0", "11.1"])
def test_groups_exist_in_qemu(release):
    if not (build_dir() / f"sysroot-{release}").is_dir():
        pytest.skip(f"QEMU {release} is not here")
    events = trace.events_of(qemu.from_sysroot(release))
    for name in trace.GROUPS:
        if name == "testdev" and release == "10.0":
            continue   # not there yet
        assert trace.choose(name, events).patterns, name
    assert trace.MARK in events


def test_histograms_and_intervals(made):
    rep = judged(made / "run.log").report
    timed = [s for s in series.all_series(rep) if s.name == "perf.exits" and s.unit == "ns"]
    assert len(timed) >= 5
    for s in timed:
        assert s.hist and s.hist.n == s.n and {"p99.9", "mean", "p50.lo", "p50.hi"} <= set(s.figures)
        for rank, key in ((1, "min"), ((s.n + 1) // 2, "p50"), (s.n, "max")):
            low, high = s.hist.at_rank(rank)
            assert low <= s.figures[key] <= high, (s.label, key)
        assert s.figures["min"] <= s.figures["mean"] <= s.figures["max"]


def test_dumps_are_read_by_the_real_tools(made, tmp_path):
    text = plumb("lspci", made / "run.log")
    assert text.returncode == 0
    (tmp_path / "space").write_text(text.stdout)
    def lspci(*options):
        return subprocess.run(["lspci", "-F", tmp_path / "space", *options], capture_output=True, text=True, timeout=20).stdout
    seen = lspci("-n")
    rep = judged(made / "run.log").report
    space = dumps.config_space(rep)
    seen = {x.split()[0]: x for x in seen.splitlines() if x}
    for words in (f.split() for f in rep.env_of("pci")):   # the guest's own reading of the same registers
        assert f" {words[2][:4]}: {words[1]}" in seen[words[0]]
        assert len(space[words[0]]) == (4096 if any(w.startswith("pcie@") for w in words) else 256)
        told = lspci("-vv", "-s", words[0])
        for at, count in re.findall(r"msix@(\w+)/(\d+)", " ".join(words)):
            assert f"[{at}] MSI-X: Enable- Count={count} " in told
    assert len(seen) == len(rep.env_of("pci")) > 10
    assert re.search(r"\[1[0-9a-f]{2} v", lspci("-vv"))   # and above the first 256 bytes
    assert plumb("acpi", made / "run.log", "-o", tmp_path / "acpi").returncode == 0
    tables = list((tmp_path / "acpi").glob("*.dat"))
    assert len(tables) == len(rep.env_of("acpi")[0].split(" ", 2)[2].split())
    for table in tables:
        assert subprocess.run(["iasl", "-d", table], capture_output=True, timeout=30).returncode == 0


def test_results_beside_the_run(made):
    data = json.loads((made / "run.json").read_text())
    assert data["host"]["machine"] == "q35-vtd" and data["verdict"] == "PASS"
    assert next(t for t in data["tests"] if t["name"] == "ir.update")["trace"]["events"] > 0
    schema = json.loads((ROOT / "docs" / "schema.json").read_text())
    import jsonschema
    jsonschema.Draft202012Validator(schema).validate(data)
    assert 'machine="q35-vtd"' in (made / "run.prom").read_text() and "PASS" in (made / "run.md").read_text()


def test_a_trace_that_cannot_be_is_refused_before_the_boot(tmp_path):
    done = plumb("run", "--machine", "q35-vtd", "--boot", "pvh", "--accel", "tcg", "--trace", "vtdd", "--log", tmp_path / "x.log")
    assert done.returncode == 3 and "no such group" in done.stderr and not (tmp_path / "x.log").exists()
