# SPDX-License-Identifier: MIT
"""What a person sees while a machine runs: a bar on a terminal, the report's lines in a pipe."""
from __future__ import annotations

import os
import re
import shutil
import time

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069]")
_COLORS = {"red": "31", "green": "32", "yellow": "33", "bold": "1", "dim": "2"}


def clean(text: str) -> str:
    """A guest's text, harmless to a terminal."""
    return _CONTROL.sub(lambda m: f"\\x{ord(m[0]):02x}", text)


class Paint:
    """Colours, where they are wanted."""

    def __init__(self, stream):
        self.on = (stream.isatty() and "NO_COLOR" not in os.environ
                   and os.environ.get("TERM", "dumb") != "dumb")

    def __call__(self, color: str, text: str) -> str:
        return f"\x1b[{_COLORS[color]}m{text}\x1b[0m" if self.on else text


class PlainView:
    """Every line of the report as it comes."""

    def __init__(self, stream):
        self.stream = stream

    def begin(self, title: str) -> None:
        pass  # the summary says it; the report stays what the guest wrote

    def line(self, text: str) -> None:
        print(clean(text), file=self.stream, flush=True)

    def tick(self) -> None:
        pass

    def broke(self, found, test) -> None:
        print(f"# host: {found.word} {clean(found.why)}; booting again without {test.name}",
              file=self.stream, flush=True)

    def end(self) -> None:
        pass


class QuietView(PlainView):
    """Nothing: for probes, and where only the result file is wanted."""

    def line(self, text: str) -> None:
        pass

    def broke(self, found, test) -> None:
        pass


class LiveView:
    """A line that is drawn again and again; it goes when the run ends."""

    WIDTH = 32

    def __init__(self, stream):
        self.stream = stream
        self.paint = Paint(stream)
        self.title = ""
        self.plan = self.done = self.failed = self.functions = 0
        self.buses: set[str] = set()
        self.facts: dict[str, str] = {}
        self.exercisers: list[str] = []
        self.pci = ""
        self.current = ""
        self.drawn = 0.0
        self.start = time.monotonic()
        self.told = False

    def begin(self, title: str) -> None:
        self.title = title

    def line(self, text: str) -> None:
        if text.startswith("# plumb ") and not self.told:
            self._print(self.paint("bold", f"plumb {clean(text.split()[2])} · {self.title}"))
        elif text.startswith("1..") and not self.plan:
            digits = re.match(r"1\.\.(\d{1,6})", text)
            self.plan = int(digits[1]) if digits else 0
        elif text.startswith("# env "):
            self._fact(*(text[6:].split(" ", 1) + [""])[:2])
        elif text.startswith("# run "):
            self._machine()
            self.current = clean(text.rpartition(" ")[2])
        elif re.match(r"(not )?ok \d", text):
            self.done += 1
            self.failed += text.startswith("not ok") and " # TODO" not in text
        self.tick()

    def _fact(self, key: str, text: str) -> None:
        if key == "pci":
            self.functions += 1
            self.buses.add(text.split(":")[0])
        elif key == "pci_summary":
            said = dict(pair.split("=", 1) for pair in text.split() if "=" in pair)
            self.pci = clean(", ".join([f"{said[k]} {k}" for k in ("functions", "buses", "roots") if k in said]
                                       + [said[k].upper() for k in ("path",) if k in said]))
        elif key == "exerciser":
            self.exercisers.append(clean(" ".join(text.split()[:2])))
        elif key in ("cpu", "apic", "iommu"):
            self.facts.setdefault(key, clean(text))

    def _machine(self) -> None:
        if self.told:
            return
        self.told = True
        pci = self.pci or f"{self.functions} functions, {len(self.buses)} buses"
        rows = [("CPU", self.facts.get("cpu")), ("PCI", pci),
                ("APIC", self.facts.get("apic")), ("IOMMU", self.facts.get("iommu")), ("Devices", ", ".join(self.exercisers))]
        width = shutil.get_terminal_size().columns
        for key, text in rows:
            if text:
                self._print(f"  {key:<7} {text}"[:width])

    def tick(self) -> None:
        now = time.monotonic()
        if now - self.drawn < 0.1:
            return
        self.drawn = now
        width = shutil.get_terminal_size().columns
        if self.plan:
            full = min(self.WIDTH, self.WIDTH * self.done // self.plan)
            text = f"  [{'#' * full}{'.' * (self.WIDTH - full)}] {self.done}/{self.plan} {self.current}"
        else:
            text = f"  {self.title}: starting, {now - self.start:.0f} s"
        failed = f"   {self.failed} failed" if self.failed else ""
        text = text[:max(1, width - len(failed) - 1)]
        self.stream.write("\r\x1b[K" + text + (self.paint("red", failed) if failed else ""))
        self.stream.flush()

    def _print(self, text: str) -> None:
        self.stream.write("\r\x1b[K" + text + "\n")
        self.drawn = 0.0

    def broke(self, found, test) -> None:
        self.done += 1
        self.failed += 1
        self._print(self.paint("red", f"  {found.word} {test.name}: {clean(found.why)}"))

    def end(self) -> None:
        self.stream.write("\r\x1b[K")
        self.stream.flush()


def pick(stream):
    live = stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"
    return LiveView(stream) if live else PlainView(stream)
