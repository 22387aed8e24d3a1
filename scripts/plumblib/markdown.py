# SPDX-License-Identifier: MIT
"""A judged report as Markdown: for a job summary on GitHub or GitLab. A log's text is data, never markup."""
from __future__ import annotations

import re

from . import modes, noise
from .cmdline import without
from .judge import HINT, Outcome
from .outputs import BAD, counts, word
from .report import Report
from .series import all_series, shown
from .view import clean

LIMIT = 900_000                      # bytes; GitHub takes 1 MiB of a summary
_MARKUP = re.compile(r"([\\`*_{}\[\]()#+!|~>@$-])")
_SIGN = {"PASS": "✅", "FAIL": "❌"}


def cell(text: str) -> str:
    """Text that means itself, in a paragraph and in a table."""
    text = clean(text).replace("&", "&amp;").replace("<", "&lt;")
    return _MARKUP.sub(r"\\\1", text).replace("\n", " ")


def code(text: str) -> str:
    """A span that shows it as it is; in tables too. Backticks inside ask for a longer fence."""
    text = clean(text).replace("\n", " ").replace("|", "¦")
    fence = "`" * (1 + max((len(m) for m in re.findall(r"`+", text)), default=0))
    pad = " " if text.startswith("`") or text.endswith("`") or not text.strip() else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def block(lines: list[str]) -> list[str]:
    text = [clean(line) for line in lines]
    fence = "`" * max(3, 1 + max((len(m) for line in text for m in re.findall(r"`+", line)), default=0))
    return [f"{fence}text", *text, fence]


def table(head: tuple, rows: list[tuple]) -> list[str]:
    return ["| " + " | ".join(cell(h) for h in head) + " |", "|" + "---|" * len(head),
            *("| " + " | ".join(cell(str(c)) for c in row) + " |" for row in rows)]


def folded(title: str, body: list[str]) -> list[str]:
    return ["", f"<details><summary>{title}</summary>", "", *body, "", "</details>"]


def verdict_sentence(found: Outcome) -> str:
    c = counts(found.report)
    rest = found.report.plan - c["tests"] if found.report.plan else 0
    parts = [f"{c['passed']} passed", f"{c['failed']} failed", f"{c['skipped']} skipped"]
    parts += [f"{c['todo']} known bugs"] if c["todo"] else []
    parts += [f"{rest} not run"] if rest > 0 else []
    return ", ".join(parts)


def as_markdown(found: Outcome, name: str = "", metrics: bool = True) -> str:
    rep = found.report
    out = [f"## {_SIGN.get(found.word, '💥')} plumb: {found.word}" + (f" · {cell(name)}" if name else ""), "",
           f"**{verdict_sentence(found)}**" + (f" in {rep.verdict.us / 1e6:.1f} s" if rep.verdict else "")]
    if found.word not in ("PASS", "FAIL"):
        out += ["", f"**No trustworthy verdict:** {cell(found.why)}"]
        out += [f"- {cell(p)}" for p in rep.problems if found.why not in p][:8]
    out += [f"- {cell(x)}" for x in rep.must + rep.errors]
    said = noise.sentence(rep)
    out += ["", f"*{cell(said)}*"] if said else []
    for f in rep.findings:
        out += ["", f"### {f.ident} {cell(f.text)}", ""]
        out += [f"- **{key}** {cell(getattr(f, key))}" for key in ("evidence", "likely", "do") if getattr(f, key)]
    for t in rep.tests:
        if t.outcome in BAD:
            out += ["", f"### {HINT.get(t.outcome, 'not ok')} {code(t.name)}" + (f" {cell(t.reason)}" if t.reason else "")]
            out += ["", f"It is not so that {cell(t.claim)}."] if t.claim else []
            said = [d for d in t.details if not d.startswith("note ")] or t.details
            out += ["", *block(said[:30])] if said else []
            out += [f"… {len(said) - 30} lines more in the log"] if len(said) > 30 else []
    out += ["", *table(("machine", ""), machine_rows(rep))] if rep.env else []
    for outcome, title in (("todo", "Known bugs of the platform"), ("fixed", "Known bugs that are gone"),
                           ("skip", "Skipped")):
        tests = [t for t in rep.tests if t.outcome == outcome]
        if tests:
            out += folded(f"{title} ({len(tests)})", [f"- {code(t.name)} {cell(t.reason)}" for t in tests])
    if rep.tests:
        rows = [(t.name, word(t), f"{(t.us or 0) / 1000:.1f} ms") for t in rep.tests]
        out += folded(f"All {len(rows)} tests", table(("test", "outcome", "took"), rows))
    for test, heads, rows, note in modes.tables(rep) if metrics else []:
        out += folded(f"What it costs, beside {cell(heads[1])}: {cell(test)}", table(tuple(heads), rows) + ([cell(note)] if note else []))
    series = all_series(rep) if metrics else []
    if series:
        rows = [(s.name, s.label, shown(s.middle, s.unit), shown(s.figures.get("p99"), s.unit), s.n) for s in series]
        out += folded(f"{len(rows)} measurements", table(("test", "series", "p50", "p99", "n"), rows))
    text = "\n".join(out) + "\n"
    if len(text.encode()) > LIMIT and metrics:
        return as_markdown(found, name, metrics=False)
    return text if len(text.encode()) <= LIMIT else text.encode()[:LIMIT].decode("utf-8", "ignore") + "\n…\n"


def machine_rows(rep: Report) -> list[tuple[str, str]]:
    """The facts a person asks for first."""
    rows = []
    for key in ("hypervisor", "cpu", "cpus", "memory", "firmware", "boot", "apic", "iommu", "remapping", "pci_summary"):
        rows += [(key.replace("_", " "), text) for text in dict.fromkeys(rep.env_of(key))]
    devices = ", ".join(" ".join(e.split()[:2]) for e in rep.env_of("exerciser"))
    rows += [("devices under test", devices)] if devices else []
    asked = without(rep.cmdline, "require")  # that list is the machine profile's
    return [*rows, ("plumb", f"{rep.version} git={rep.git}"), *([("command line", asked)] if asked else [])]
