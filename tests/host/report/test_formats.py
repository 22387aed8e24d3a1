# SPDX-License-Identifier: MIT
"""Markdown, JSON with its schema, OpenMetrics, JUnit: each read by somebody else's reader."""
import copy
import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ET

import jsonschema
import madeup
import pytest
from kit import LOGS, REAL, ROOT, judged, plumb
from plumblib import compare, markdown, openmetrics, outputs, series, trace
from prometheus_client.openmetrics.parser import text_string_to_metric_families

SCHEMA = json.loads((ROOT / "docs" / "schema.json").read_text())
MADE = {"bad": madeup.bad().bytes(), "hostile": madeup.hostile().bytes(), "empty": b"", "cut": madeup.bad().bytes()[:2000]}


def every():
    return [(p.stem, judged(p)) for p in REAL] + [(name, judged(data)) for name, data in MADE.items()]


@pytest.fixture(scope="module")
def validator():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    return jsonschema.Draft202012Validator(SCHEMA)


# ---- JSON ----

@pytest.mark.parametrize("name,found", every())
def test_json_is_as_the_schema_says(validator, name, found):
    beside = trace.load(LOGS / f"{name}.log.trace", found.report.boot)
    assert (beside is not None) == (name == "q35-vtd-stale")
    data = json.loads(outputs.as_json(found, {"log": name}, beside))
    validator.validate(data)
    assert len(data["tests"]) == len(found.report.tests) and data["exit"] == found.exit_code
    metrics = [m for t in data["tests"] for m in t["metrics"]]
    assert len(metrics) == len(series.all_series(found.report))
    if name == "q35-vtd-stale":
        stale = next(t for t in data["tests"] if t["name"] == "iommu.unmap_sync")
        assert stale["trace"]["counts"]["vtd_iotlb_page_hit"] > 0 and stale["claim"] and stale["outcome"] == "fail"


def test_compare_json_is_as_the_schema_says(validator):
    c = compare.compare([("a", judged(MADE["bad"]))], [("b", judged(madeup.bad(1.8).bytes()))])
    validator.validate(json.loads(compare.as_json(c)))


def test_the_schema_can_fail(validator):
    """Each required member taken out, each type turned: the schema sees it."""
    good = json.loads(outputs.as_json(judged(MADE["bad"])))
    for key in good:
        broken = copy.deepcopy(good)
        del broken[key]
        assert not validator.is_valid(broken), key
        broken[key] = 1.5 if key != "us" else "x"
        assert not validator.is_valid(broken), key
    for break_it in (lambda d: d["tests"][0].update(outcome="maybe"), lambda d: d["tests"][0].update(more=1),
                     lambda d: d["tests"][0].pop("metrics"), lambda d: d["findings"][0].update(id="XYZ"),
                     lambda d: d["tests"][9]["metrics"][0]["figures"].update(p50="fast"),
                     lambda d: d["tests"][9]["metrics"][0]["hist"].update(sub=3), lambda d: d.update(format="plumb-results/0")):
        broken = copy.deepcopy(good)
        break_it(broken)
        assert not validator.is_valid(broken)


def test_the_schema_describes_what_it_names():
    def walk(node, path):
        if isinstance(node, dict):
            for key, value in node.get("properties", {}).items():
                assert value.get("description") or "$ref" in value or "const" in value, f"{path}.{key} has no description"
            for key, value in node.items():
                walk(value, f"{path}/{key}")
    walk(SCHEMA, "")


# ---- OpenMetrics ----

@pytest.mark.parametrize("name,found", every())
def test_openmetrics_is_read_by_prometheus_own_parser(name, found):
    families = {f.name: f for f in text_string_to_metric_families(openmetrics.as_openmetrics(found, {"machine": "t"}))}
    assert families["plumb_exit_status"].samples[0].value == found.exit_code
    assert families["plumb_run"].samples[0].labels["verdict"] == found.word
    tests = {s.labels["test"] for s in families["plumb_test_duration_seconds"].samples} if found.report.tests else set()
    assert tests == {t.name for t in found.report.tests if t.us is not None}
    for family in families.values():
        assert all(s.labels["machine"] == "t" for s in family.samples)


def test_openmetrics_figures():
    families = {f.name: f for f in text_string_to_metric_families(openmetrics.as_openmetrics(judged(LOGS / "q35-vtd.log")))}
    rep = judged(LOGS / "q35-vtd.log").report
    ours = next(s for s in series.all_series(rep) if s.name == "dma.latency" and s.keys["mode"] == "translate" and s.keys["size"] == "4096")
    theirs = [s for s in families["plumb_dma_latency_seconds"].samples if {k: v for k, v in s.labels.items() if k != "quantile"} == ours.keys]
    by = {(s.name, s.labels.get("quantile")): s.value for s in theirs}
    assert by["plumb_dma_latency_seconds", "0.5"] == pytest.approx(ours.figures["p50"] * 1e-9)
    assert by["plumb_dma_latency_seconds", "0"] == pytest.approx(ours.figures["min"] * 1e-9)
    assert by["plumb_dma_latency_seconds_count", None] == ours.n
    assert by["plumb_dma_latency_seconds_sum", None] == pytest.approx(ours.n * ours.figures["mean"] * 1e-9)
    assert families["plumb_dma_latency_seconds"].unit == "seconds" and families["plumb_dma_latency_seconds"].type == "summary"
    rate = next(s for s in series.all_series(rep) if s.unit == "MiB/s")
    assert any(s.value == pytest.approx(rate.middle * 2 ** 20) for s in families["plumb_dma_bandwidth_bytes_per_second"].samples)


# ---- Markdown ----

@pytest.mark.parametrize("name,found", every())
def test_markdown_has_all_and_no_markup_of_the_logs(name, found):
    text = markdown.as_markdown(found, name)
    for t in found.report.tests:
        assert t.name.replace("_", "\\_") in text
    assert found.word in text.splitlines()[0]
    # Of HTML only ours, outside of code: what is between backticks or fences is shown as it is.
    bare = re.sub(r"(?ms)^(`{3,})text$.*?^\1$", "", text)
    bare = re.sub(r"(?<!`)(`+)(?!`).*?(?<!`)\1(?!`)", "", bare)
    assert set(re.findall(r"(?<!\\)<[^>]{0,20}", bare)) <= {"<details", "</details", "<summary", "</summary"}
    assert not re.search(r"(?<!\\)\]\(", bare) and not set("\x1b\x07\u202e\u2066") & set(text)
    # Every row of a table has the columns that the line under its head has.
    for rows in re.findall(r"(?m)^\| .*\n\|-.*\n(?:\| .*\n)*", text):
        bars = [len(re.findall(r"(?<!\\)\|", row)) for row in rows.splitlines()]
        assert len(set(bars)) == 1, rows
    assert not re.search(r"(?m)^(?!\|).*\n\| (?!.*\n\|-)", text)


def test_markdown_says_first_what_is_wrong():
    text = markdown.as_markdown(judged(MADE["bad"]))
    places = [text.index(s) for s in ("plumb: FAIL", "8 passed, 2 failed", "### PLB012 Only the first MSI of 00:10.0 arrived.",
                                      "### not ok `vgpu.msi_rearm`", "| machine |", "<details>")]
    assert places == sorted(places)
    assert "sixteen messages in a row arrive" in text


def test_markdown_fits_a_job_summary():
    log = madeup.Log(3000)
    for i in range(3000):
        log.test(f"a.t{i}", f"# note {'x' * 900}", "# expect f.c:1 x: got 1, expected 2" + "y" * 300, ok=False)
    assert len(markdown.as_markdown(judged(log.verdict().bytes())).encode()) < 1 << 20


# ---- JUnit, and the command ----

@pytest.mark.parametrize("name,found", every())
def test_junit_is_xml(name, found):
    root = ET.fromstring(outputs.as_junit(found))
    assert len(root.findall(".//testcase")) >= len(found.report.tests)


def test_results_by_suffix(tmp_path, validator):
    log = LOGS / "q35-vtd.log"
    files = [tmp_path / f"r{s}" for s in (".html", ".md", ".json", ".xml", ".prom", ".txt")]
    done = plumb("report", log, *[a for f in files for a in ("-o", f)], "--markdown", "-")
    assert done.returncode == 0 and done.stdout == files[1].read_text()
    validator.validate(json.loads(files[2].read_text()))
    ET.parse(files[3])
    assert files[4].read_text().endswith("# EOF\n") and "PASS" in files[5].read_text() and files[0].read_text().startswith("<!doctype html>")
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(f.name for f in files)   # no half files left
    for wrong in (["-o", tmp_path / "x.doc"], ["--json", "-", "--html", "-"], ["-o", "/proc/none/x.md"], [log, "--json", tmp_path / "two.json"]):
        bad = plumb("report", log, *wrong)
        assert bad.returncode == 3 and "Traceback" not in bad.stderr, wrong
    two = plumb("report", log, LOGS / "pc-pve.log", "--markdown", "-")
    assert two.stdout.count("## ✅ plumb: PASS") == 2


def test_parse_needs_only_the_standard_library():
    """It must run on a bare host: neither imports of ours beyond it, nor site-packages, nor the report's modules."""
    code = ("import sys, runpy; sys.argv = ['plumb', 'parse', '-q', sys.argv[1]]\n"
            "try: runpy.run_path(%r, run_name='__main__')\n"
            "except SystemExit as e: status = e.code\n"
            "bad = [m for m in sys.modules if m.split('.')[0] in ('jinja2', 'markupsafe', 'jsonschema')] + "
            "[m for m in ('plumblib.html', 'plumblib.html_plots', 'plumblib.compare') if m in sys.modules]\n"
            "print(bad); sys.exit(status if not bad else 9)") % str(ROOT / "scripts" / "plumb")
    for log, status in (("q35-vtd.log", 0), ("q35-vtd-stale.log", 1), ("selftest-hang.log", 2)):
        done = subprocess.run([sys.executable, "-I", "-S", "-c", code, str(LOGS / log)], capture_output=True, text=True, timeout=30)
        assert done.returncode == status, done.stdout + done.stderr
