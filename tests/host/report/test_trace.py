# SPDX-License-Identifier: MIT
"""QEMU's trace events: chosen by names a person guesses, joined to the test in which they came, kept small."""
import os
import random
import re

import pytest
from kit import LOGS, judged, plumb
from plumblib import UsageError, outputs, trace
from plumblib.view import Paint

# Of QEMU 10.0 and 11.1 (`-trace help`); test_live.py asks the real ones.
EVENTS = """vtd_inv_desc vtd_dmar_fault vtd_ir_remap_msi vtd_iotlb_page_hit vtd_ce_not_present amdvi_ir_irte amdvi_page_fault
virtio_iommu_map virtio_notify apic_deliver_irq apic_local_deliver ioapic_set_irq pci_cfg_read pci_nvme_irq_msix pic_interrupt
pci_update_mappings_add memory_region_ops_read memory_region_ops_write msix_write_config hpet_ram_read kvm_run_exit vfio_intx_enable_kvm
igb_core_mdic_read serial_write""".split()


class Stream:
    """Feeds a recorder as QEMU does, in either release's form."""

    def __init__(self, groups="vtd,apic", form="10.0"):
        self.recorder = trace.Recorder(trace.choose(groups, EVENTS), form)
        self.out = os.fdopen(os.dup(self.recorder.attach()), "wb")
        self.recorder.started()
        self.form, self.now = form, 1_700_000_000_000_000

    def event(self, name, text="", step=10):
        self.now += step
        seconds, micro = divmod(self.now, 1_000_000)
        day = seconds % 86400
        head = (f"4711@{seconds}.{micro:06d}:" if self.form == "10.0" else
                f"2026-01-02T{day // 3600:02d}:{day // 60 % 60:02d}:{day % 60:02d}.{micro:06d}Z ")
        self.out.write(f"{head}{name} {text}\n".encode())
        return self

    def serial(self, line):
        for byte in (line + "\r\n").encode():
            self.event("serial_write", f"write addr 0x00 val 0x{byte:02x}", 1)
            if byte % 7 == 0:
                self.event("serial_write", "write addr 0x01 val 0x00", 0)   # another register of the port
        return self

    def end(self):
        self.out.close()
        self.recorder.detach()
        return self.recorder.result()


def told(t):
    return [(kind, text) for _, kind, text in t.lines]


@pytest.mark.parametrize("form", ["10.0", "11.1"])
def test_events_go_to_the_test_in_which_they_came(form):
    s = Stream(form=form).event("vtd_inv_desc", "early")
    s.serial("BdsDxe: noise").serial("TAP version 14").serial("# plumb 0.1.0 git=x boot=0123456789abcdef").serial("1..2")
    s.serial("# run 1 apic.ids").event("apic_deliver_irq", "dest 1").event("apic_deliver_irq", "dest 1").serial("ok 1 - apic.ids")
    s.serial("# run 2 ir.update").event("vtd_dmar_fault", "sid 0x38").serial("# expect f.c:1 x: got 1, expected 2")
    s.serial("# metric ir.update unit=ns n=1 value=1").serial("not ok 2 - ir.update").event("vtd_inv_desc", "after").event("odd")
    s.out.write(b"qemu: a line that is no event\n\xff\xfe\n")
    got = s.end()
    assert got.boot == "0123456789abcdef" and got.groups == "vtd,apic"
    assert told(got.tests[""]) == [("e", "vtd_inv_desc early")]
    assert told(got.tests["apic.ids"]) == [("e", "apic_deliver_irq dest 1  ×2"), ("s", "ok 1 - apic.ids")]
    assert told(got.tests["ir.update"]) == [
        ("e", "vtd_dmar_fault sid 0x38"), ("s", "# expect f.c:1 x: got 1, expected 2"), ("s", "not ok 2 - ir.update"),
        ("e", "vtd_inv_desc after"), ("e", "odd")]
    assert got.tests["apic.ids"].events == 2 and got.tests["apic.ids"].counts == {"apic_deliver_irq": 2}
    times = [when for when, _, _ in got.tests["ir.update"].lines]
    assert times == sorted(times) and 0 < times[0] < .001


def test_without_a_uart_the_arrival_of_the_line_must_do():
    s = Stream()
    s.event("vtd_inv_desc", "1").out.flush()
    import time
    time.sleep(.2)
    s.recorder.serial_line("# run 1 ir.update")
    s.event("vtd_inv_desc", "2").out.flush()
    got = s.end()
    assert told(got.tests[""]) == [("e", "vtd_inv_desc 1")] and told(got.tests["ir.update"]) == [("e", "vtd_inv_desc 2")]


def test_a_flood_stays_small_and_keeps_what_matters():
    s = Stream().serial("TAP version 14").serial("# run 1 iommu.unmap_sync")
    for i in range(3000):
        s.event("vtd_inv_desc", f"number {i}")
    s.event("vtd_iotlb_page_hit", "stale").serial("# expect f.c:1 x: got 1, expected 2")
    for i in range(3000):
        s.event("vtd_dmar_translate", f"later {i}").event("vtd_reg_read", "addr 0x34").event("vtd_reg_read", "addr 0x220")
    t = s.end().tests["iommu.unmap_sync"]
    text = [x for _, _, x in t.lines]
    assert t.events == 3000 + 1 + 9000 and len(t.lines) <= trace.HEAD + trace.TAIL + trace.PLACES * trace.BEFORE + 10
    at = text.index("# expect f.c:1 x: got 1, expected 2")
    assert text[at - 1] == "vtd_iotlb_page_hit stale" and text[at - 2] == "vtd_inv_desc number 2999"
    assert text[0] == "vtd_inv_desc number 0" and any("later 2999" in x for x in text)
    # Every line is either here or counted as left out.
    folded = sum(int(x.rpartition("×")[2]) - 1 for _, kind, x in t.lines if kind == "e" and "  ×" in x)
    here = sum(kind == "e" for _, kind, _ in t.lines) + folded
    assert here < t.events and t.left_out > 1000


def test_filters():
    s = Stream("edu,apic").serial("TAP version 14").serial("# run 1 a.b")
    s.event("memory_region_ops_read", "cpu 0 mr 0x1 addr 0x0 value 0x0 size 4 name 'edu-mmio'")
    s.event("memory_region_ops_read", "cpu 0 mr 0x1 addr 0x0 value 0x0 size 4 name 'serial'").event("apic_deliver_irq", "1")
    assert s.end().tests["a.b"].counts == {"memory_region_ops_read": 1, "apic_deliver_irq": 1}
    both = trace.choose("edu,mmio", EVENTS)
    assert both.filters == []   # all of them were asked for


def test_names_a_person_would_guess():
    for name in [*trace.GROUPS, *trace.ALSO]:
        if trace.ALSO.get(name, name) == "testdev":
            continue   # QEMU 11.1 has it
        assert trace.choose(name, EVENTS).patterns, name
    assert trace.choose("VTD, apic", EVENTS).patterns == ["vtd_*", "apic_*"]
    assert trace.choose("vtd_inv_*", EVENTS).patterns == ["vtd_inv_*"] and trace.choose("pic_interrupt", EVENTS).patterns == ["pic_interrupt"]
    for wrong in ("vtdd", "vtd,nosuch", "no_such_event", "testdev", "", ","):
        with pytest.raises(UsageError):
            trace.choose(wrong, EVENTS)
    assert all(not p.startswith("pci_nvme") for p in trace.choose("pci", EVENTS).patterns)


def test_a_file_of_it_comes_back(tmp_path):
    s = Stream().serial("TAP version 14").serial("# plumb 0.1.0 git=x boot=0123456789abcdef").serial("# run 1 a.b")
    for i in range(900):
        s.event("vtd_inv_desc", f"{i} \u2028 x")
    t = s.serial("# expect x: got 1, expected 2").end()
    trace.save(t, tmp_path / "x.trace")
    back = trace.load(tmp_path / "x.trace", "0123456789abcdef")
    assert back.tests == t.tests and back.groups == t.groups and back.boot == t.boot
    assert trace.load(tmp_path / "x.trace", "ffffffffffffffff") is None     # another boot's
    assert trace.load(tmp_path / "none", "0123456789abcdef") is None


def test_any_file_is_taken_without_an_exception(tmp_path):
    good = (LOGS / "q35-vtd-stale.log.trace").read_bytes()
    boot = judged(LOGS / "q35-vtd-stale.log").report.boot
    assert trace.load(LOGS / "q35-vtd-stale.log.trace", boot).events > 1000
    chance = random.Random(5)
    for _ in range(60):
        data = bytearray(good[:20000])
        for _ in range(40):
            data[chance.randrange(len(data))] = chance.randrange(256)
        (tmp_path / "t").write_bytes(data)
        trace.load(tmp_path / "t", boot)


def test_the_text_report_has_it_too():
    found = judged(LOGS / "q35-vtd-stale.log")
    beside = trace.load(LOGS / "q35-vtd-stale.log.trace", found.report.boot)
    text = outputs.text(found, Paint(open(os.devnull)), trace=beside)
    assert "QEMU meanwhile: " in text and "vtd_" in text
    done = plumb("report", LOGS / "q35-vtd-stale.log")
    assert done.returncode == 1 and "QEMU meanwhile: " in done.stdout
    # What the trace shows of this run: a translation that should have been gone, used.
    before = [x for _, _, x in beside.tests["iommu.unmap_sync"].lines]
    at = next(i for i, x in enumerate(before) if x.startswith("# expect"))
    iova = re.search(r"iova ([0-9a-f]+)\)", before[at])[1]
    assert any("vtd_iotlb_page_hit" in x and f"iova 0x{iova} " in x for x in before[at - 12:at])
