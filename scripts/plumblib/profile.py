# SPDX-License-Identifier: MIT
"""Machine profiles: tests/machines/*.toml. An unknown key is an error, so that none is lost to a typo."""
from __future__ import annotations

import os
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path

from . import ROOT, UsageError

MACHINES = Path(os.environ.get("PLUMB_MACHINES") or ROOT / "tests" / "machines")
BOOTS = ("uefi", "pvh", "bios")
ACCELS = ("tcg", "kvm")
HELPERS = ("ivshmem",)
OUTCOMES = ("pass", "fail", "error", "timeout", "skip", "todo", "fixed",
            "crash", "hang", "reset", "garbled")


@dataclass
class Profile:
    name: str
    description: str
    machine: str                     # QEMU's -machine
    cpu: str = "max"
    smp: str = "4"                   # QEMU's -smp
    mem: str = "512M"
    boots: list = field(default_factory=lambda: list(BOOTS))     # that make sense here; first: preferred
    accel: list = field(default_factory=lambda: list(ACCELS))    # accelerators it can run under
    devices: list = field(default_factory=list)   # QEMU options, one string each: "-device edu,addr=05.0"
    since: dict = field(default_factory=dict)     # QEMU release -> options that it and newer ones need
    before: dict = field(default_factory=dict)    # … that older ones need
    helpers: list = field(default_factory=list)   # what the runner must provide (HELPERS)
    vgpu: list = field(default_factory=list)      # vGPU models, each "KIND[:BREAK,…] id=…,bus=…,addr=…" (vgpu_model.py)
    needs_qemu: str = "9.0"          # 9.0: the first whose TCG has x2APIC
    must: list = field(default_factory=list)      # globs of tests that may not SKIP or be missing
    plumb: str = ""                  # guest command line where the user gives none
    resume: bool = False             # boot again after a test that took the machine down
    timeout: float = 300             # seconds: all of a run
    silence: float = 30              # seconds without a byte, once the report has begun
    boot_timeout: float = 60         # seconds to the report's first line
    known: dict = field(default_factory=dict)     # notes for people: what -> why
    expect: dict = field(default_factory=dict)    # test name -> outcome, for run --expect

    def vgpu_models(self) -> list[tuple[str, list[str], dict[str, str]]]:
        """(kind, breaks, QEMU's properties) of each."""
        out = []
        for text in self.vgpu:
            what, _, place = text.partition(" ")
            kind, _, breaks = what.partition(":")
            pairs = [p.partition("=") for p in place.split(",") if p]
            out.append((kind, [b for b in breaks.split(",") if b], {k: v for k, _, v in pairs}))
        return out

    def can_boot(self, boot: str) -> bool:
        """U-Boot is another UEFI firmware: what boots by OVMF boots by that."""
        return ("uefi" if boot == "uboot" else boot) in self.boots

    @property
    def remaps_interrupts(self) -> bool:
        return any("-iommu" in d and "intremap=on" in d for d in self.devices)


def names() -> list[str]:
    return sorted(p.stem for p in MACHINES.glob("*.toml"))


def load(name: str, folder: Path = MACHINES) -> Profile:
    path = folder / f"{name}.toml"
    if "/" in name or not path.is_file():
        raise UsageError(f"no machine profile {name!r}; there are: {' '.join(names())}")
    return parse(name, path.read_bytes().decode("utf-8", "replace"))


def parse(name: str, text: str) -> Profile:
    try:
        import tomllib  # `plumb parse` needs no profile and runs on older hosts
    except ModuleNotFoundError:
        raise UsageError("machine profiles need Python 3.11 or newer") from None
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as e:
        raise UsageError(f"machine profile {name}: {e}") from None
    known = {f.name: f for f in fields(Profile) if f.name != "name"}
    for key, val in table.items():
        if key not in known:
            raise UsageError(f"machine profile {name}: unknown key {key!r}")
        _check_type(name, known[key], val)
    missing = [k for k, f in known.items()
               if k not in table and f.default is MISSING and f.default_factory is MISSING]
    if missing:
        raise UsageError(f"machine profile {name}: no {missing[0]!r}")
    prof = Profile(name=name, **table)
    for key, allowed in (("boots", BOOTS), ("accel", ACCELS), ("helpers", HELPERS)):
        odd = [v for v in getattr(prof, key) if v not in allowed]
        if odd or (key != "helpers" and not getattr(prof, key)):
            raise UsageError(f"machine profile {name}: {key}: {odd or 'empty'}, of {' '.join(allowed)}")
    odd = [v for v in prof.expect.values() if v not in OUTCOMES]
    if odd:
        raise UsageError(f"machine profile {name}: expect: {odd[0]!r} is no outcome")
    return prof


def _check_type(name: str, spec, val) -> None:
    want = {"str": str, "list": list, "bool": bool, "float": (int, float), "dict": dict}[spec.type]
    good = isinstance(val, want) and not (spec.type == "float" and isinstance(val, bool))
    if spec.type == "list":
        good = good and all(isinstance(v, str) for v in val)
    if spec.type == "dict":
        good = good and all(isinstance(v, str) for v in val.values())
    if not good:
        raise UsageError(f"machine profile {name}: {spec.name} must be a {spec.type}"
                         f"{' of strings' if spec.type in ('list', 'dict') else ''}")
