# SPDX-License-Identifier: MIT
"""Scenarios: tests/lab/*.toml. An unknown key is an error, so that none is lost to a typo."""
from __future__ import annotations

import fnmatch
import tomllib
from dataclasses import MISSING, dataclass, field, fields, replace

from .. import ROOT, UsageError, profile
from ..profile import Profile

FOLDER = ROOT / "tests" / "lab"
HOSTS = FOLDER / "hosts"             # outer machines, in the form of tests/machines
VERDICTS = ("PASS", "FAIL", "CRASH", "HANG", "RESET", "DAMAGED")
KINDS = ("guest", "truth")


@dataclass
class Scenario:
    name: str
    description: str
    part: str                        # of what it is a part, a letter of docs/lab.md
    host: str                        # outer machine: a name in tests/lab/hosts
    kind: str = "guest"              # truth: plumb on the outer machine itself, against what its Linux says
    profile: str = ""                # the guest is this machine profile …
    showcmd: str = ""                # … or the twin of this `qm showcmd` …
    guest: dict = field(default_factory=dict)     # … with these keys of a profile instead, or all of it
    boot: str = "pvh"
    plumb: str = ""                  # guest command line
    must: list = field(default_factory=list)      # globs of tests that this is for: run, and not skipped
    like: str = ""                   # another one, whose known and only are this one's too
    known: dict = field(default_factory=dict)     # test (glob) that fails for the platform's fault -> evidence
    only: dict = field(default_factory=dict)      # known test (glob) -> what each of its failed checks must be about
    host_ends: str = ""              # what the host's console says where this takes it down: the outer QEMU's fault
    refused: str = ""                # what the guest's QEMU says where it will not start: no fault of anybody's
    fails: dict = field(default_factory=dict)     # test (glob) that must fail -> what of it must stand in the log
    finds: list = field(default_factory=list)     # identifiers of findings that must be in the report
    verdict: list = field(default_factory=lambda: ["PASS"])  # that are right
    setup: list = field(default_factory=list)     # shell on the host, before, with the agent's functions
    during: list = field(default_factory=list)    # while the guest runs
    after: list = field(default_factory=list)     # must succeed: the host is well, or says what it should
    host_says: list = field(default_factory=list)     # regular expressions for the host's log, all of them
    host_silent: list = field(default_factory=list)   # none of these
    deadline: float = 400            # seconds for the guest: only one that hangs takes them, and a host at load 15 a half


def names(pattern: str = "*") -> list[str]:
    return sorted(p.stem for p in FOLDER.glob("*.toml") if any(
        fnmatch.fnmatchcase(p.stem, one) for one in pattern.split(",")))


def load(name: str) -> Scenario:
    path = FOLDER / f"{name}.toml"
    if "/" in name or not path.is_file():
        raise UsageError(f"no scenario {name!r}; there are: {' '.join(names())}")
    one = parse(name, path.read_text())
    if one.like:
        other = load(one.like)
        one.known, one.only = {**other.known, **one.known}, {**other.only, **one.only}
    return one


def parse(name: str, text: str) -> Scenario:
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as e:
        raise UsageError(f"scenario {name}: {e}") from None
    known = {f.name: f for f in fields(Scenario) if f.name != "name"}
    kinds = {"str": str, "list": list, "dict": dict, "float": (int, float)}
    for key, val in table.items():
        if key not in known:
            raise UsageError(f"scenario {name}: unknown key {key!r}")
        if not isinstance(val, kinds[known[key].type]):
            raise UsageError(f"scenario {name}: {key} must be a {known[key].type}")
    lacks = [k for k, f in known.items() if k not in table and f.default is MISSING and f.default_factory is MISSING]
    if lacks:
        raise UsageError(f"scenario {name}: no {lacks[0]!r}")
    one = Scenario(name=name, **table)
    if one.kind not in KINDS:
        raise UsageError(f"scenario {name}: kind {one.kind!r}, of {' '.join(KINDS)}")
    odd = [v for v in one.verdict if v not in VERDICTS]
    if odd or not one.verdict:
        raise UsageError(f"scenario {name}: verdict {odd or 'empty'}, of {' '.join(VERDICTS)}")
    if one.kind == "guest" and not one.must and not one.fails:
        raise UsageError(f"scenario {name}: neither must nor fails: it would pass on skips alone")
    return one


def host(name: str) -> Profile:
    return profile.load(name, HOSTS)


def guest(one: Scenario) -> Profile:
    """The machine that the host is to run."""
    if one.showcmd:
        from .. import showcmd
        text = (ROOT / one.showcmd).read_text()
        base = showcmd.profile_of(showcmd.twin(text, "p40-2a-mdev"))
        base.machine = showcmd.fit_machine(base.machine, {"q35", "pc"})[0]
    elif one.profile:
        base = profile.load(one.profile)
    else:
        base = Profile(one.name, one.description, "q35", smp="1", mem="256M", boots=[one.boot])
    odd = [k for k in one.guest if k not in {f.name for f in fields(Profile)} - {"name", "description"}]
    if odd:
        raise UsageError(f"scenario {one.name}: guest: unknown key {odd[0]!r}")
    prof = replace(base, **one.guest)
    if prof.helpers:
        # Their servers are this process's; the lab's host has none.
        prof = replace(prof, helpers=[], devices=[d for d in prof.devices if not any(h in d for h in prof.helpers)])
    if not prof.can_boot(one.boot):
        raise UsageError(f"scenario {one.name}: {prof.name} does not boot by {one.boot}")
    return replace(prof, must=list(one.must), known={})
