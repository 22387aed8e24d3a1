# SPDX-License-Identifier: MIT
"""What the IOMMU costs, what a report says of its own noise, and whether several boots agree."""
import json
import os
import random
import subprocess

import madeup
import pytest
from kit import LOGS, judged, plumb
from plumblib import bench, glance, html, markdown, modes, noise, outputs, series, stability, steady
from plumblib.publish import Item
from plumblib.view import Paint


class Plain:
    isatty = staticmethod(lambda: False)


def line(name, keys, p50, half, n=48, unit="ns"):
    """A metric whose median lies within p50 ± half."""
    return (f"# metric {name} {keys} unit={unit} n={n} min={p50 - 2 * half} p50={p50} p90={p50 + half} p99={p50 + 2 * half}"
            f" p99.9={p50 + 2 * half} max={p50 + 2 * half} mean={p50} p50.lo={p50 - half} p50.hi={p50 + half} {madeup.CONTEXT}")


def log_of(*series, noise_ns=20000):
    log = madeup.Log(2)
    log.test("boot.noise", f"# metric boot.noise what=longest cpu=0 unit=ns n=9 value={noise_ns} {madeup.CONTEXT}")
    log.test("dma.latency", *series)
    return judged(log.verdict().bytes())


SAME = "dev=00:07.0 what=read mode={} size=4096 depth={}"


def latency(mode, p50, half, depth=1):
    return line("dma.latency", SAME.format(mode, depth), p50, half)


# ---- modes ----

def test_costs_are_told_beside_the_mode_without():
    found = log_of(latency("off", 20000, 200), latency("translate", 22000, 300), latency("passthrough", 20100, 300),
                   latency("strict", 40000, 500), latency("translate-1g", 15000, 100))
    (group,) = modes.groups(found.report)
    says = {c.mode: c.says for c in group.costs}
    assert group.base.keys["mode"] == "off"
    assert says["translate"].startswith("+2 µs ×1.10 [1.07, 1.13]") and says["strict"].startswith("+20 µs ×2.00")
    assert says["passthrough"] == modes.NO_DIFFERENCE
    # Quicker than without, beyond the interval: told, and explained.
    assert [c.mode for c in group.costs if c.odd] == ["translate-1g"] and says["translate-1g"].startswith("−5 µs")
    ((_, heads, rows, note),) = modes.tables(found.report)
    assert heads[1:] == ["off", "translate", "passthrough", "strict", "translate-1g"] and note.endswith(modes.ODD)
    assert rows[0][1] == "20 µs" and rows[0][-1].endswith("¹")
    for text in (modes.as_text(found.report), markdown.as_markdown(found).replace("\\", ""),
                 html.page([Item("x.log", found, b"")])):
        assert modes.NO_DIFFERENCE in text and "×2.00" in text


def test_transfers_in_flight_together_have_no_interval():
    found = log_of(latency("off", 20000, 200, depth=32), latency("translate", 30000, 300, depth=32))
    ((cost,),) = [g.costs for g in modes.groups(found.report)]
    assert cost.says.endswith("×1.50 (no interval)") and not cost.odd


def test_nothing_to_compare_with_is_nothing_said():
    assert not modes.groups(log_of(latency("translate", 20000, 200)).report)
    assert not modes.groups(judged(LOGS / "selftest-hang.log").report)
    hits = log_of(line("dma.iotlb", "dev=1 what=hit size=512 pages=1", 1000, 10),
                  line("dma.iotlb", "dev=1 what=miss size=512 pages=1", 2000, 10),
                  line("dma.iotlb", "dev=1 what=swept size=512 pages=16", 2000, 10))
    assert [c.mode for g in modes.groups(hits.report) for c in g.costs] == ["miss"]


def test_the_command_prints_the_table(tmp_path):
    done = plumb("modes", LOGS / "q35-vtd.log")
    assert done.returncode == 0 and "dma.latency" in done.stdout and "passthrough" in done.stdout


# ---- noise ----

def test_a_noisy_machine_says_so_on_top():
    quiet = log_of(*(latency(f"m{i}", 20000, 400) for i in range(10)))
    assert noise.sentence(quiet.report) == ""
    away = log_of(noise_ns=3_000_000)
    assert "CPU 0 was away for 3 ms" in noise.sentence(away.report)
    unsure = log_of(*(latency(f"m{i}", 20000, 4000 if i < 4 else 400) for i in range(10)))
    assert noise.sentence(unsure.report) == ""  # the whole suite's few samples are no noise
    unsure.report.cmdline = "timing"
    assert "4 of 10 medians are uncertain by more than 15%" in noise.sentence(unsure.report)
    for found in (away, unsure):
        said = noise.sentence(found.report)
        assert said in outputs.text(found, Paint(Plain())) and said in markdown.as_markdown(found).replace("\\", "")
        assert said in html.page([Item("x.log", found, b"")])


def test_the_clocks_step_is_no_noise():
    log = madeup.Log(1)
    log.test("perf.exits", line("perf.exits", "op=empty", 40, 10), line("perf.exits", "op=cpuid", 20, 10))
    found = judged(log.verdict().bytes())
    assert noise.noisy_series(noise.by_ident(found.report), 10)[0] == []
    assert len(noise.noisy_series(noise.by_ident(found.report), 0)[0]) == 2


# ---- stability ----

def boots(factors, half=100):
    return [(f"{n}.log", log_of(latency("off", int(20000 * f), half), latency("strict", 40000, 400))) for n, f in enumerate(factors)]


def test_steady_and_unsteady_series():
    good = stability.stability(boots([1, 1.1, 0.95, 1.02, 1]))
    assert good.share == 1 and good.exit_code == 0 and "STEADY" in stability.text(good, Paint(Plain()))
    bad = stability.stability(boots([1, 1, 1, 1, 1.6]))
    assert bad.share == .5 and bad.exit_code == 1
    assert not bad.lines[0].steady and bad.lines[0].noisy == 0 and "unsteady" in stability.text(bad, Paint(Plain()))
    named = stability.stability(boots([1, 1, 1, 1, 1.6], half=6000))
    assert named.lines[0].noisy == 5 and "noisy in 5 of 5 boots" in stability.text(named, Paint(Plain()))
    assert stability.stability([("x", judged(LOGS / "selftest-hang.log"))] * 2).exit_code == 2


def test_the_command_wants_several_logs():
    assert plumb("stability", LOGS / "q35-vtd.log").returncode == 3
    done = plumb("stability", LOGS / "q35-vtd.log", LOGS / "q35-vtd.log")
    assert done.returncode == 0 and "(100%)" in done.stdout


# ---- bench ----

FIO = """boot noise
== linux 6.12.1 clock=tsc
== types off none
== fio mode=off dev=nvme0n1 depth=1 engine=io_uring
fio: a note before it
{ "jobs": [ { "read": { "iops": 9000.5, "lat_ns": { "percentile": { "50.000000": 60000 } } } } ] }
== end
== fio mode=off dev=nvme0n1 depth=1 engine=io_uring-polled
{ "jobs": [ { "read": { "iops": 9000.5, "lat_ns": { "percentile": { "50.000000": 40000 } } } } ] }
== end
== fio mode=off dev=vda depth=32 engine=io_uring
{ "jobs": [ { "read": { "iops": 10000, "lat_ns": {} } } ] }
== end
== map mode=strict dev=0000:00:07.0 n=400 min=1 p50=4000 p90=9 p99=9 max=9
== done
"""


def test_linux_is_read_and_put_beside_plumb():
    pairs = []
    for factor in (1, 2, 3):
        pair = bench.Pair(plumb={("latency", "nvme", "off"): 15000.0 * factor, ("rate", "virtio-blk", "off"): 20000.0,
                                 ("map", "iommu", "strict"): 500000.0, ("rate", "nvme", "off"): 1.0})
        bench.linux_figures(FIO, pair)
        pairs.append(pair)
    found = {(r.what, r.device): r for r in bench.rows(pairs)}
    assert len(found) == 3                                  # what only one side measured is no ratio
    r = found["latency", "nvme"]
    assert (r.ratio, r.spread, r.met, r.polled) == (0.5, (0.25, 0.75), True, 40000) and r.polled_ratio == pytest.approx(.75)
    assert found["rate", "virtio-blk"].ratio == 2 and found["rate", "virtio-blk"].met
    assert found["map", "iommu"].ratio == 2 and not found["map", "iommu"].met
    text = bench.as_text(list(found.values()), "title")
    assert "0.50 [0.25, 0.75]" in text and "NO" in text
    assert json.loads(bench.as_json(list(found.values()), pairs, {}))["rows"][0]["ratio"]
    assert len(set(row.count("|") for row in bench.as_markdown(list(found.values()), "t").splitlines()[2:])) == 1


def test_a_broken_answer_of_fio_is_an_error():
    with pytest.raises(bench.UsageError):
        bench.linux_figures(FIO.replace('"50.000000"', '"median"'), bench.Pair())


def test_cpio_is_what_the_kernel_reads():
    from plumblib.linux_guest import Cpio
    out = Cpio()
    data = random.Random(3).randbytes(1001)
    out.add("a/b/file", data)
    out.add("a/other", b"x", 0o644)
    raw, at, names = out.bytes(), 0, {}
    while True:
        assert raw[at:at + 6] == b"070701" and at % 4 == 0
        f = [int(raw[at + 6 + 8 * i:at + 14 + 8 * i], 16) for i in range(13)]
        name = raw[at + 110:at + 110 + f[11] - 1].decode()
        body = (at + 110 + f[11] + 3) // 4 * 4
        names[name] = (f[1], raw[body:body + f[6]])
        at = (body + f[6] + 3) // 4 * 4
        if name == "TRAILER!!!":
            break
    assert list(names) == ["a", "a/b", "a/b/file", "a/other", "TRAILER!!!"]
    assert names["a/b/file"] == (0o100755, data) and names["a"][0] == 0o040755 and names["a/other"][0] == 0o100644


def test_a_goal_that_the_device_itself_misses_is_said_to_be_so():
    row = bench.Row("map", "iommu", "strict", 600e3, 300e3, None, 2.0, (2.0, 2.0), None, 800e3)
    assert not row.met and row.bound and "device" in bench.as_text([row], "t")
    row.floor = 1000e3
    assert not row.bound and "NO" in bench.as_text([row], "t")


def test_rounds_that_found_the_machine_slow_make_a_series_noisy():
    def said(slow):
        log = log_of(latency("off", 20000, 200).replace(" accel=", f" {slow} accel="))
        return [noise.is_noisy(s) for s in series.all_series(log.report) if s.name == "dma.latency"]
    assert said("") == said("slow=23/32") == [False] and said("slow=24/32") == said("slow=2/2") == [True]
    assert said("slow=0/0") == said("slow=x/9") == said("slow=9") == [False]


# ---- a host that holds still ----

def test_a_steady_host_is_let_go_again():
    class Monitor:
        def ask(self, command):
            return [{"thread-id": sleeper.pid}] if command == "query-cpus-fast" else None
    sleeper = subprocess.Popen(["sleep", "20"])
    before = os.sched_getscheduler(0)
    try:
        held = steady.Steady()
        held.apply(sleeper.pid, Monitor())
        assert len(held.done) + len(held.left) == 2 and held.text()
        if "QEMU in real time" in held.done:
            assert os.sched_getscheduler(sleeper.pid) == os.SCHED_RR and os.sched_getscheduler(0) == os.SCHED_FIFO
        assert "on one CPU" in held.left or os.sched_getaffinity(sleeper.pid) == {held.cpu}
        held.close()
        assert os.sched_getscheduler(0) == before and held.latency is None
        Monitor.ask = lambda self, command: None
        held.apply(sleeper.pid, Monitor())
        assert held.left[-1:] == ["QEMU did not name its threads"]
    finally:
        sleeper.kill()
        sleeper.wait()


def test_two_that_measure_take_turns(tmp_path, monkeypatch):
    monkeypatch.setattr(steady.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(steady, "PATIENCE", 0.3)
    first, second = steady.Steady(), steady.Steady()
    first.open()
    second.open()
    assert not first.left and second.beside and "another one measures" in second.text()
    second.apply(os.getpid(), None)      # nothing is done to it, nor asked
    second.close()
    first.close()
    third = steady.Steady()
    third.open()
    assert not third.beside and third.lock is not None
    third.close()


def test_the_figures_that_a_stranger_asks_for_stand_on_top():
    found = log_of(latency("off", 20000, 200), latency("translate", 22000, 300), latency("strict", 40000, 9000))
    assert glance.glance(found.report) == [
        ("4 KiB DMA", "off 20 µs; translate +2 µs ×1.10 [1.07, 1.13]; strict +20 µs ×2.00 [1.53, 2.47]",
         "dma.latency dev=00:07.0 what=read mode=off size=4096 depth=1")]
    assert "What it costs" in html.page([Item("x.log", found, b"")])
    assert glance.glance(log_of(latency("off", 20000, 9000)).report)[0][1] == "20 µs (noisy)"
    assert not glance.glance(log_of().report) and 'id="glance"' not in html.page([Item("x.log", log_of(), b"")])
