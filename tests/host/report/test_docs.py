# SPDX-License-Identifier: MIT
"""docs/ci.md: its jobs are YAML, its commands are plumb's, LAVA's pattern finds what the parser finds."""
import re
import runpy
import shlex

import pytest
import yaml
from kit import LOGS, ROOT, judged

TEXT = (ROOT / "docs" / "ci.md").read_text()
BLOCKS = re.findall(r"(?ms)^```(\w+)\n(.*?)^```$", TEXT)
YAMLS = [yaml.safe_load(body) for kind, body in BLOCKS if kind == "yaml"]


def commands():
    out = []
    for _, body in BLOCKS:
        for found in re.findall(r"scripts/plumb ([a-z]+[^\n;&|'}]*)", body):
            out.append(found.strip().replace("$i", "1"))
    out += [c for c in re.findall(r"`plumb ([a-z]+ [^`;]*)[`;]", TEXT) if "|" not in c]
    return list(dict.fromkeys(out))


def test_there_is_a_job_for_each():
    assert len(YAMLS) == 4 and [kind for kind, _ in BLOCKS].count("groovy") == 1
    github, gitlab, board, definition = YAMLS
    steps = github["jobs"]["plumb"]["steps"]
    assert any("scripts/plumb run" in s.get("run", "") for s in steps) and any("GITHUB_STEP_SUMMARY" in s.get("run", "") for s in steps)
    assert gitlab["plumb"]["artifacts"]["reports"]["junit"] in gitlab["plumb"]["script"][0]
    assert gitlab["plumb"]["artifacts"]["reports"]["metrics"] in gitlab["plumb"]["script"][0]
    assert "plumb parse" in definition["run"]["steps"][0]
    assert board["actions"][2]["test"]["monitors"][0]["fixupdict"] == {"ok": "pass", "not ok": "fail"}


@pytest.mark.parametrize("command", commands())
def test_every_command_is_one(command):
    parser = runpy.run_path(str(ROOT / "scripts" / "plumb"))["parser"]()
    words = [w for w in shlex.split(command.split(" > ")[0]) if w]
    args = parser.parse_args([w for w in words if w not in (">>",)])
    assert callable(args.handler)


def test_commands_were_found():
    assert len(commands()) >= 8 and any(c.startswith("compare") for c in commands())


def test_lavas_monitor_reads_what_the_parser_reads():
    monitor = YAMLS[2]["actions"][2]["test"]["monitors"][0]
    for path in LOGS.glob("q35-vtd*.log"):
        text = path.read_bytes().decode().replace("\r\n", "\n")
        got = {m["test_case_id"]: monitor["fixupdict"][m["result"]] for m in re.finditer(monitor["pattern"], text, re.M)}
        want = {t.name: t.outcome for t in judged(path).report.tests if t.outcome in ("pass", "fail")}
        assert got == want
        assert re.search(monitor["start"], text) and re.search(monitor["end"], text)
