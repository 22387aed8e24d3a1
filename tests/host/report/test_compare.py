# SPDX-License-Identifier: MIT
"""`plumb compare`: what it calls slower is slower, what it calls the same may be; and its exit status."""
import json
import random

import madeup
import pytest
from kit import LOGS, REAL, judged, plumb
from plumblib import compare, series
from plumblib.report import Metric


def made(log):
    return judged(log.bytes())


def rows(c, says):
    return [r for r in c.rows if r.says == says]


# ---- series ----

def test_every_metric_of_the_real_logs_is_understood():
    for path in REAL:
        rep = judged(path).report
        for t in rep.tests:
            for m in t.metrics:
                s = series.read(m)
                assert s and s.unit and s.figures and (not m.hist or s.hist), (path, m)
                assert set(s.context) == {"accel", "clock", "apic", "iommu"}
                if s.hist:
                    assert s.hist.n == s.n
                    assert s.hist.buckets[0][0] <= s.figures["min"] and s.hist.buckets[-1][1] >= s.figures["max"]
                    for level, p in series.LEVELS.items():
                        low, high = s.hist.at_rank(-(-int(s.n * p * 1000) // 1000) or 1)
                        assert low <= s.figures[level] <= high or s.n * p % 1, (m, level)
                if "p50.lo" in s.figures:
                    assert s.figures["min"] <= s.figures["p50.lo"] <= s.figures["p50"] <= s.figures["p50.hi"] <= s.figures["max"]


def test_old_logs_and_other_text_parse():
    old = Metric("dma.latency", {"dev": "1", "unit": "ns", "n": "48", "min": "10", "p50": "12", "p90": "15", "p99": "20", "max": "20", "accel": "tcg"})
    s = series.read(old)
    assert s.keys == {"dev": "1"} and s.context == {"accel": "tcg"} and s.hist is None
    assert s.median_interval(.95) == (10, 15)      # ranks 17 and 32 lie between what is known
    assert series.read(Metric("a.b", {"x": "1"})) is None
    assert series.read(Metric("a.b", {"unit": "ns", "n": "x", "p50": "1e99", "min": "5"})).figures == {"min": 5}
    for text in ("", "sub=3 1:2", "sub=16", "sub=16 5:1 4:1", "sub=16 1:0", "sub=16 9999:1", "sub=16 1:1,,2", "sub=16 a:1", "sub=16 -1:1"):
        assert series.parse_hist(text) is None
    # A histogram of another number of samples is not this series'.
    assert series.read(Metric("a.b", {"unit": "ns", "n": "4", "p50": "1"}, "sub=16 1:3")).hist is None


def test_histogram_agrees_with_the_guest():
    """hist_bucket() and hist_lower() in C have a test of their own; these figures are from it."""
    h = series.parse_hist("sub=16 0:2 3:1,1 16:1,1 181:2,1 213:1")
    assert h.n == 10 and h.buckets[0] == (0, 0, 2) and h.buckets[-1][0] <= 90000 <= h.buckets[-1][1]
    assert h.at_rank(7)[0] <= 22082 <= h.at_rank(8)[1] and h.at_rank(1) == (0, 0)
    for sub in (1, 2, 4, 8, 16):
        edges = [series.lower_edge(b, sub) for b in range(60 * sub)]
        assert edges == sorted(set(edges))


def test_rank_is_the_binomials():
    assert [series.interval_rank(n, .95) for n in (5, 6, 8, 9, 16, 48)] == [0, 1, 1, 2, 4, 17]
    assert abs(series.interval_rank(1000, .95) - series.interval_rank(1001, .95)) <= 1


@pytest.mark.parametrize("how", ["figures", "hist", "ends"])
def test_the_interval_holds_the_median_as_often_as_it_says(how):
    """Skewed samples with a long tail, whose true median is known: 95 % and more of the intervals hold it."""
    chance, held, tried = random.Random(7), 0, 400
    truth = 1000 * 2 ** 1.0
    for _ in range(tried):
        n = chance.choice((9, 16, 48, 97))
        samples = sorted(int(1000 / (1 - chance.random()) ** 1.0) for _ in range(n))
        figures = {"min": samples[0], "p50": samples[(n + 1) // 2 - 1], "p90": samples[-(-n * 9 // 10) - 1], "max": samples[-1]}
        if how == "ends":
            rank = series.interval_rank(n, .975)
            figures |= {"p50.lo": samples[rank - 1], "p50.hi": samples[n - rank]}
        m = Metric("a.b", {"unit": "ns", "n": str(n), **{k: str(v) for k, v in figures.items()}}, madeup.hist(samples) if how == "hist" else "")
        s = series.read(m)
        assert (s.hist is not None) == (how == "hist")
        low, high = s.median_interval(.95)
        held += low <= truth <= high
    assert held / tried >= .94


def test_figures_for_people():
    assert [series.shown(v, "ns") for v in (0, 7, 999, 1000, 22082, 999_600, 4_200_000_000)] == [
        "0 ns", "7 ns", "999 ns", "1 µs", "22.1 µs", "1000 µs", "4.2 s"]
    assert series.shown(1536, "MiB/s") == "1.5 GiB/s" and series.shown(None, "ns") == "–" and series.shown(5, "odd") == "5 odd"
    assert series.bytes_shown(4096) == "4 KiB" and series.bytes_shown(512) == "512 B"


# ---- comparisons ----

def test_a_log_equals_itself():
    for path in (LOGS / "q35-vtd.log", LOGS / "pc-pve.log"):
        c = compare.compare([("a", judged(path))], [("b", judged(path))])
        assert c.rows and {r.says for r in c.rows} <= {"same", "unsure"} and not c.changes and not c.machine and c.exit_code == 0
        assert all(r.ratio in (1, None) for r in c.rows)


def test_slower_is_found_and_tolerated():
    old, new = made(madeup.bad()), made(madeup.bad(1.6))
    c = compare.compare([("a", old)], [("b", new)], .25)
    slow = rows(c, "slower")
    assert {r.series.name for r in slow} == {"dma.latency", "perf.ipi"} and len(slow) == 12 + 16 and c.exit_code == 1
    assert all(r.low < 1.6 < r.high and r.low > 1.25 for r in slow)
    back = compare.compare([("a", new)], [("b", old)], .25)
    assert len(rows(back, "faster")) == 28 and not rows(back, "slower") and back.exit_code == 0
    bearable = compare.compare([("a", old)], [("b", new)], 1.0)
    assert len(rows(bearable, "slower within")) == 28 and bearable.exit_code == 0
    # One figure, or three rounds: told, not judged.
    assert {r.series.name for r in rows(c, "unsure")} == {"dma.depth", "boot.noise"}


def test_a_small_change_is_not_seen():
    c = compare.compare([("a", made(madeup.bad()))], [("b", made(madeup.bad(1.01)))])
    assert not rows(c, "slower") and not rows(c, "slower within") and rows(c, "same")


def test_the_clocks_step_is_no_difference():
    def log(empty, op):
        log = madeup.Log(1)
        log.test("perf.exits", f"# metric perf.exits op=empty unit=ns n=256 min=20 p50=20 p90={empty} p99=40 max=40 accel=tcg",
                 f"# metric perf.exits op=msr unit=ns n=256 min={op} p50={op} p90={op} p99={op} max={op} p50.lo={op} p50.hi={op} accel=tcg")
        return made(log.verdict())
    coarse = compare.compare([("a", log(30, 10))], [("b", log(30, 20))])
    assert [r.says for r in coarse.rows if r.series.keys["op"] == "msr"] == ["same"]
    fine = compare.compare([("a", log(21, 10))], [("b", log(21, 20))])
    assert [r.says for r in fine.rows if r.series.keys["op"] == "msr"] == ["slower"]


def test_rates_turn_round():
    def log(rate, what="read"):
        log = madeup.Log(1)
        log.test("dma.bandwidth", f"# metric dma.bandwidth what={what} unit=MiB/s n=3 min={rate} p50={rate} max={rate} accel=tcg")
        return made(log.verdict())
    c = compare.compare([("a", log(100))], [("b", log(50))])
    assert c.rows[0].says == "unsure" and c.rows[0].slowdown == 2 and c.rows[0].series.better == "high"
    assert compare.compare([("a", log(100, "rate"))], [("b", log(50, "rate"))]).rows[0].series.better == ""


def test_a_rate_of_many_rounds_is_judged():
    def log(rate):
        log = madeup.Log(1)
        log.test("msi.storm", f"# metric msi.storm dev=00:04.0 unit=1/s n=32 min={rate * .9} p50={rate} max={rate * 1.1}"
                 f" p50.lo={rate * .97} p50.hi={rate * 1.03} accel=tcg")
        return made(log.verdict())

    def says(a, b):
        c = compare.compare([("a", log(a))], [("b", log(b))])
        return c.rows[0].says, c.exit_code
    assert says(1000, 500) == ("slower", 1) and says(500, 1000) == ("faster", 0)
    assert says(1000, 900) == ("slower within", 0) and says(1000, 990) == ("same", 0)


def test_how_the_cpus_were_run_is_a_fact_of_the_machine():
    def log(more):
        log = madeup.Log(1)
        log.lines.append(f"# env cpus online=4 of=4 max_apic_id=3 start_us={len(more)}{more}")
        return made(log.test("apic.ids").verdict())
    c = compare.compare([("a", log(""))], [("b", log(" in_turn=1"))])
    assert [key for key, _, _ in c.machine] == ["cpus"]
    assert not compare.compare([("a", log(""))], [("b", log(""))]).machine


def test_outcomes():
    good, bad = made(madeup.Log(1).test("apic.ids").verdict()), made(madeup.Log(1).test("apic.ids", ok=False).verdict())
    skip = made(madeup.Log(2).test("apic.ids", directive="SKIP none").test("apic.ldr").verdict())

    def says(a, b):
        return [(x.test, x.says) for x in compare.compare([("a", a)], [("b", b)]).changes]
    assert says(good, bad) == [("apic.ids", "worse")] and says(bad, good) == [("apic.ids", "better")]
    assert says(good, skip) == [("apic.ids", "other"), ("apic.ldr", "other")] and says(good, good) == []
    assert compare.compare([("a", good)], [("b", bad)]).exit_code == 1
    assert compare.compare([("a", good)], [("b", skip)]).exit_code == 0
    hung = judged(LOGS / "selftest-hang.log")
    assert compare.compare([("a", good)], [("b", hung)]).exit_code == 2


def test_several_boots_take_the_hull():
    fast, slow, twice = (made(madeup.bad(k)) for k in (1, 1.5, 2.0))
    one = compare.compare([("a", fast)], [("b", slow)])
    assert rows(one, "slower")
    # That machine is now and then that slow by itself.
    more = compare.compare([("a1", fast), ("a2", slow)], [("b", slow)])
    assert not rows(more, "slower") and len(rows(more, "same")) == 28
    clear = compare.compare([("a1", fast), ("a2", slow)], [("b", made(madeup.bad(4)))])
    assert len(rows(clear, "slower")) == 28
    lucky = compare.compare([("a", fast)], [("b1", twice), ("b2", fast)])
    assert not rows(lucky, "slower") and len(rows(lucky, "same")) == 28


def test_the_command(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new.log"
    old.mkdir()
    (old / "1.log").write_bytes(madeup.bad().bytes())
    (old / "2.log").write_bytes(madeup.bad(1.02).bytes())
    new.write_bytes(madeup.bad(1.8).bytes())
    done = plumb("compare", old, new, "-o", tmp_path / "c.md", "-o", tmp_path / "c.json")
    assert done.returncode == 1 and "SLOWER  28 slower" in done.stdout and "order statistics" in done.stdout
    assert "dma.latency dev=00:11.0 what=read mode=translate size=4096" in done.stdout
    assert done.stdout.index("slower (28)") < done.stdout.index("SLOWER")
    assert plumb("compare", old, new, "--tolerance", "200%").returncode == 0
    only = plumb("compare", old, new, "--only", "perf.*")
    assert only.returncode == 1 and "12 slower" in only.stdout and "dma." not in only.stdout
    assert "| perf.ipi from=0 to=1 mode=physical |" in (tmp_path / "c.md").read_text()
    assert json.loads((tmp_path / "c.json").read_text())["counts"]["slower"] == 28
    assert plumb("compare", old, tmp_path).returncode == 1            # new.log lies there too
    for wrong in (("compare", old), ("compare", old, new, "--tolerance", "x"), ("compare", old, "none.log"),
                  ("compare", old, new, "-o", "x.html")):
        done = plumb(*wrong)
        assert done.returncode == 3 and "Traceback" not in done.stderr, wrong


def test_hostile_logs_compare(tmp_path):
    log = tmp_path / "h.log"
    log.write_bytes(madeup.hostile().bytes())
    done = plumb("compare", log, LOGS / "q35-vtd.log", "-o", tmp_path / "h.md")
    assert done.returncode == 0 and not set("\x1b\x07\u202e") & set(done.stdout)   # bad before, absent now: no worse
    assert "<script" not in (tmp_path / "h.md").read_text()


def test_two_real_machines():
    c = compare.compare([("a", judged(LOGS / "pc-pve.log"))], [("b", judged(LOGS / "q35-vtd.log"))])
    assert {k for k, _, _ in c.machine} >= {"apic", "iommu"} and c.alone["new"] > 50 and c.exit_code in (0, 1)
    assert "differs: iommu: none" in compare.text(c, lambda color, text: text)
