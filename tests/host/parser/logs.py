# SPDX-License-Identifier: MIT
"""Reports as the guest writes them. Imports nothing of pytest: the fake QEMU uses it too."""
import zlib


class Log:
    """Writes a report as the guest does: lines counted, CRC kept."""

    def __init__(self, plan, cmdline="", nonce="9f3c2a1177aa0012"):
        self.lines = []
        self.n = 0
        self.tally = dict(passed=0, failed=0, skipped=0, todo=0)
        self.say("TAP version 14")
        self.say(f"# plumb 0.1.0 git=1a2b3c4d5e6f boot={nonce}")
        self.say(f"1..{plan}")
        self.say(f"# cmdline {cmdline}".rstrip())
        self.say("# env accel tcg")
        self.say("# env apic x2apic-cluster: interrupt remapping with EIM, IDs up to 3")
        self.say("# env pci 00:01.0 1234:11e8 00ff00 rev=10 hdr=00 irq=A msi@40 bar0=fea00000+100000")

    def say(self, line):
        self.lines.append(line)
        return self

    def begin(self, name):
        self.n += 1
        return self.say(f"# run {self.n} {name}")

    def test(self, name, ok=True, directive="", *details):
        self.begin(name)
        for line in details:
            self.say(line)
        self.say(f"# took {self.n} us={self.n * 11}")
        kind = directive.split()[0] if directive else ""
        key = "skipped" if kind == "SKIP" else "todo" if kind == "TODO" and not ok else (
            "passed" if ok else "failed")
        self.tally[key] += 1
        return self.say(f"{'ok' if ok else 'not ok'} {self.n} - {name}" + (f" # {directive}" if directive else ""))

    def verdict(self, **wrong):
        t = dict(self.tally, **wrong)
        word = wrong.get("word") or ("FAIL" if t["failed"] or not self.n else "PASS")
        head = (f"# verdict {word} tests={wrong.get('tests', self.n)} passed={t['passed']} failed={t['failed']}"
                f" skipped={t['skipped']} todo={t['todo']} us=104233 lines={wrong.get('lines', len(self.lines) + 1)}")
        crc = zlib.crc32("\n".join([*self.lines, head]).encode())
        return self.say(f"{head} crc={wrong.get('crc', f'{crc:08x}')}")

    def bytes(self, end="\r\n"):
        return "".join(line + end for line in self.lines).encode()


def good(**kw):
    """A small report with one of everything that passes."""
    log = Log(4, **kw)
    log.test("boot.handoff")
    log.test("msi.latency", True, "", "# note four CPUs", "# metric msi.latency mode=remapped unit=ns n=256"
             " min=1 p50=2 p90=3 p99=4 max=5 accel=tcg clock=tsc apic=x2apic-cluster iommu=vtd")
    log.test("ir.wide", True, "SKIP no CPU above 255")
    log.test("apic.mmio_off", False, "TODO QEMU<99 TCG leaves the page alive",
             "# expect tests/apic/mmio.c:31 read == ~0: got 0x5, expected 0xffffffff")
    return log.verdict()


def failing():
    """A whole report with a failure, an error of ours and a finding."""
    log = Log(3)
    log.test("boot.handoff")
    log.test("apic.ids", False, "", "# expect tests/apic/ids.c:31 apic_id(cpu) == cpu->madt_id: got 0x5, expected 0x4",
             "# finding PLB001 CPU 4 says its APIC ID is 5", "# finding PLB001 evidence MADT 4, CPUID 5",
             "# finding PLB001 likely the VMM numbers CPUs twice", "# finding PLB001 do report it")
    log.test("dma.latency", False, "", "# timeout: no completion within 100 ms")
    return log.verdict()
