# SPDX-License-Identifier: MIT
"""A log as a bad machine with a vGPU would give: made up, with every kind of line that a report can have.

`python3 madeup.py > bad.log`. Nothing in it was measured.
"""
import sys
import zlib

CONTEXT = "accel=kvm clock=tsc apic=x2apic-physical iommu=none"


class Log:
    """Keeps the lines' count and the CRC as the guest does."""

    def __init__(self, plan, nonce="9f3c2a1177aa0012", cmdline=""):
        self.lines, self.n = [], 0
        self.tally = dict(passed=0, failed=0, skipped=0, todo=0)
        for line in ("TAP version 14", f"# plumb 0.1.0 git=1a2b3c4d5e6f boot={nonce}", f"1..{plan}",
                     f"# cmdline {cmdline}".rstrip()):
            self.say(line)

    def say(self, *lines):
        self.lines += lines
        return self

    def begin(self, name):
        self.n += 1
        return self.say(f"# run {self.n} {name}")

    def test(self, name, *details, ok=True, directive="", us=None):
        self.begin(name)
        self.say(*details, f"# took {self.n} us={us if us is not None else self.n * 311}")
        kind = directive.split()[0] if directive else ""
        self.tally["skipped" if kind == "SKIP" else "todo" if kind == "TODO" and not ok else "passed" if ok else "failed"] += 1
        return self.say(f"{'ok' if ok else 'not ok'} {self.n} - {name}" + (f" # {directive}" if directive else ""))

    def verdict(self):
        word = "FAIL" if self.tally["failed"] or not self.n else "PASS"
        counts = " ".join(f"{k}={v}" for k, v in self.tally.items())
        head = f"# verdict {word} tests={self.n} {counts} us=2404233 lines={len(self.lines) + 1}"
        return self.say(f"{head} crc={zlib.crc32(chr(10).join([*self.lines, head]).encode()):08x}")

    def bytes(self):
        return "".join(line + "\r\n" for line in self.lines).encode()


def metric(name, series, p50, n=96, unit="ns", spread=1.0):
    """One timed series around p50, histogram included."""
    low, high = int(p50 * .9), int(p50 * (1.3 + spread))
    samples = sorted(int(low + (p50 - low) * 2 * i / n) if i < n * .9 else int(p50 + (high - p50) * (i / n) ** 4) for i in range(n))
    rank = int((n + 1 - (5.024 * n) ** .5) / 2)

    def at(p):
        return samples[-(-n * p // 1000) - 1]
    line = (f"# metric {name} {series} unit={unit} n={n} min={samples[0]} p50={at(500)} p90={at(900)} p99={at(990)} p99.9={at(999)}"
            f" max={samples[-1]} mean={sum(samples) // n} p50.lo={samples[rank - 1]} p50.hi={samples[n - rank]} {CONTEXT}")
    return [line, f"# hist {name} {hist(samples)}"] if unit == "ns" else [line]


def bucket(v, sub=16):
    if v < sub:
        return v
    e = v.bit_length() - sub.bit_length()
    return (e + 1) * sub + (v >> e) - sub


def hist(samples):
    counts = {}
    for v in samples:
        counts[bucket(v)] = counts.get(bucket(v), 0) + 1
    out, last = "sub=16", -9
    for b in sorted(counts):
        out += f",{counts[b]}" if b == last + 1 else f" {b}:{counts[b]}"
        last = b
    return out


def bad(slower=1.0):
    """The vGPU's MSI is not re-armed: the issue that plumb was made for."""
    log = Log(12)
    log.say("# env accel kvm", "# env hypervisor KVMKVMKVM", "# env cpu GenuineIntel Xeon (made up)",
            "# env cpus online=4 of=4 max_apic_id=3 start_us=812", "# env memory total=511M free=500M above_4g=0M",
            "# env firmware SeaBIOS", "# env boot multiboot2 by GRUB", "# env serial 16550 at 0x3f8",
            "# env apic x2apic-physical: no interrupt remapping, all 4 IDs below 255", "# env iommu none",
            "# env pci_summary functions=4 buses=2 roots=1 path=CF8",
            "# env pci 00:00.0 8086:1237 060000 rev=02 hdr=00 sub=1af4:1100",
            "# env pci 00:10.0 10de:1b38 030000 rev=a1 hdr=00 sub=10de:11e8 irq=A msi@68/16 bar0=f9000000+1000000"
            " bar1=e0000000+10000000/64/pref bar3=f0000000+2000000/64/pref",
            "# env pci 00:11.0 1234:11e8 00ff00 rev=10 hdr=00 irq=A msi@40/1 bar0=fea00000+100000",
            "# env pci 00:1e.0 1b36:0001 060400 rev=00 hdr=01 pci=01-01",
            "# env exerciser nvidia 00:10.0", "# env exerciser edu 00:11.0")
    log.test("boot.handoff")
    log.test("boot.noise", f"# metric boot.noise what=longest cpu=0 unit=ns n=248539 value=27750 {CONTEXT}")
    log.test("apic.ids")
    log.test("msi.physical", "# note 00:11.0 edu MSI direct: 4 CPUs")
    log.test("apic.mmio_off", "# expect tests/apic/modes.c:198 x2APIC mode: got a TPR write by MMIO taken, expected not",
             ok=False, directive="TODO QEMU TCG: the xAPIC page keeps answering")
    log.test("ir.enable", directive="SKIP no IOMMU")
    log.test("vgpu.identify", "# note GRID P40-2A, paravirtual (BOOT_1 2)")
    log.test("vgpu.msi_rearm",
             "# expect tests/vgpu/msi.c:88 00:10.0 nvidia: got 1 interrupts, expected 16",
             "# note 16 raised, 16 pending in the GPU, 1 on vector 0x51",
             "# finding PLB012 Only the first MSI of 00:10.0 arrived.",
             "# finding PLB012 evidence 16 raised, 16 pending in the GPU, 1 on vector 0x51; edu at 00:11.0: 16 of 16",
             "# finding PLB012 likely the VMM does not forward NVIDIA's MSI re-arm (config mirror, 0x88704)",
             "# finding PLB012 do use a VMM that traps and forwards writes to 0x88704, or let the guest use INTx",
             "# claim sixteen messages in a row arrive, each after its own re-arm", ok=False, us=412000)
    log.test("msi.storm", "# timeout: no interrupt within 100 ms: 00:11.0 after 12 of 64",
             "# claim N raised with acknowledgement are N received", ok=False)
    pairs = [line for a in range(4) for b in range(4) if a != b
             for line in metric("perf.ipi", f"from={a} to={b} mode=physical", (900 + 450 * abs(a - b)) * slower)]
    log.test("perf.ipi", *pairs)
    sizes = [line for mode, cost in (("off", 1), ("passthrough", 1.04), ("translate", 1.45), ("translate-2m", 1.15))
             for size in (512, 4096, 65536, 1 << 20)
             for line in metric("dma.latency", f"dev=00:11.0 what=read mode={mode} size={size} depth=1",
                                int((9000 + size * .09) * cost * slower))]
    log.test("dma.latency", *sizes)
    log.test("dma.depth", *[f"# metric dma.depth dev=00:11.0 what=read mode={mode} size=4096 depth={d} unit=1/s n=3"
                            f" min={int(v * .9)} p50={v} max={int(v * 1.1)} {CONTEXT}"
                            for mode, k in (("off", 1), ("translate", .8)) for d in (1, 4, 16, 64)
                            for v in [int(70000 * k * d ** .6 / slower)]])
    return log.verdict()


def modes():
    """Every mode that DMA has, told apart: the widest tables."""
    log = Log(1)
    names = ("off", "passthrough", "translate", "strict", "deferred", "scattered", "translate-2m", "translate-1g")
    log.test("dma.latency", *[line for at, mode in enumerate(names) for size in (512, 1 << 20)
                              for line in metric("dma.latency", f"dev=41:00.0 what=write mode={mode} size={size} depth=1",
                                                 int((9000 + size * 97.13) * (1 + .37 * at)))])
    return log.verdict()


HOSTILE = ("<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "\"'><svg onload=alert(1)>", "{{ 7*7 }} {% raw %}",
           "](javascript:alert(1)) `code` | cell **bold**", "</pre></details><h1>owned</h1>", "\u202eevil\u2066 \x1b[31m\x07",
           "&lt;b&gt; &amp; --> ]]>")


def hostile():
    """Text from a machine that wants to be more than text, in every place where text can stand."""
    log = Log(3, cmdline="only=" + HOSTILE[0])
    log.say(*(f"# env {key} {HOSTILE[i % len(HOSTILE)]}" for i, key in enumerate(
        ("accel", "hypervisor", "cpu", "firmware", "boot", "apic", "iommu", "pci_summary", "<b>key</b>", "note"))),
        f"# env pci 00:04.0 1234:11e8 00ff00 rev={HOSTILE[0]} bar0=1+2/<b> msi@<i>/<u>", f"# env exerciser {HOSTILE[1]} 00:04.0",
        "# env exerciser <b>x</b> 00:04.0 not used: <u>why</u>")
    details = [line for text in HOSTILE for line in (
        f"# expect <b>f.c</b>:1 {text}: got {text}, expected {text}", f"# note {text}", f"# error: {text}",
        f"# finding PLB001 {text}", f"# finding PLB001 evidence {text}", f"# finding PLB001 likely {text}",
        f"# finding PLB001 do {text}", f"# claim {text}",
        *(f"# metric apic.ids k={text.replace(' ', '_')} mode={text.split()[0]} size={n} unit=<u>{n}</u> n=9 min=1 p50=2 p90=3 p99=4 max=5 <x>=<y>"
          for n in (1, 1)),
        *(f"# metric {text.split()[0]} k={text.split()[0]} depth={n} unit=<u>x</u> n=9 min={n} p50={n} p90=9 p99=9 max=9" for n in (1, 2, 3)),
        f"# metric apic.ids k={text.replace(' ', '_')} mode={text.split()[0]} size=2 unit=ns n=9 min=1 p50=2 p90=3 p99=4 max=5 accel=<y>",
        f"# metric apic.ids k={text.replace(' ', '_')} mode={text.split()[0]} size=4 unit=ns n=9 min=1 p50=2 p90=3 p99=4 max=5 accel=<y>",
        f"# hist apic.ids {text}")]
    log.test("apic.ids", *details, ok=False)
    log.test("apic.ldr", directive="SKIP " + HOSTILE[1])
    log.test("ir.enable", ok=False, directive="TODO " + HOSTILE[2])
    return log.verdict()


if __name__ == "__main__":
    sys.stdout.buffer.write((hostile() if "hostile" in sys.argv else bad()).bytes())
