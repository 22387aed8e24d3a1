# SPDX-License-Identifier: MIT
"""Tests by machines: one row a test, one column a log, and why where a cell is no pass. Markdown."""
from __future__ import annotations

import re

from .cmdline import matches
from .outputs import word
from .report import Report

BEGIN, END = "<!-- matrix -->", "<!-- /matrix -->"
WORDS = {"todo": "known", "fixed": "pass"}
_CELL = re.compile(r"(\S+)(?: \[(\d+)\])?\Z")
_NOTE = re.compile(r"(\d+)\. (.*)\Z")

Cells = dict[tuple[str, str], tuple[str, str]]  # (test, column) -> (word, why)


def cells(columns: list[tuple[str, Report]], only: list[str]) -> Cells:
    """Every test of a name that is asked for. A reason is given for what is neither passed nor failed."""
    out = {}
    for name, rep in columns:
        for t in rep.tests:
            if not only or matches(t.name, only):
                said = WORDS.get(word(t), word(t))
                out[t.name, name] = said, t.reason.replace("|", "/") if said in ("skip", "known") else ""
    return out


def table(columns: list[tuple[str, Report]], only: list[str]) -> str:
    found = cells(columns, only)
    notes: dict[str, int] = {}
    names = [n for n, _ in columns]
    out = ["| test | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for test in dict.fromkeys(test for test, _ in found):
        row = []
        for name in names:
            said, why = found.get((test, name), ("-", ""))
            row.append(f"{said} [{notes.setdefault(why, len(notes) + 1)}]" if why else said)
        out.append(f"| {test} | " + " | ".join(row) + " |")
    out += [""] + [f"{n}. {why}" for why, n in notes.items()]
    return "\n".join(out) + "\n"


def read(text: str) -> Cells:
    """The cells of the table between the marks of a page; empty where there is none."""
    body = text.partition(BEGIN)[2].partition(END)[0]
    notes = {m[1]: m[2] for m in map(_NOTE.match, body.splitlines()) if m}
    rows = [[c.strip() for c in line.strip("|").split("|")] for line in body.splitlines() if line.startswith("|")]
    out = {}
    for row in rows[2:]:
        for name, cell in zip(rows[0][1:], row[1:]):
            m = _CELL.match(cell)
            if m and cell != "-":
                out[row[0], name] = m[1], notes.get(m[2] or "", "")
    return out


def replaced(text: str, made: str) -> str:
    before, _, rest = text.partition(BEGIN)
    return before + BEGIN + "\n" + made + END + rest.partition(END)[2]


def differences(page: Cells, now: Cells) -> list[str]:
    """What the page says and these logs do not; of the columns of these logs alone."""
    columns = {c for _, c in now}
    out = [f"{c}: no such column in the page" for c in sorted(columns - {c for _, c in page})]
    page = {k: v for k, v in page.items() if k[1] in columns}
    for test, column in sorted(page.keys() | now.keys()):
        old, new = page.get((test, column)), now.get((test, column))
        if old != new:
            show = [f"{v[0]} ({v[1]})" if v and v[1] else v[0] if v else "nothing" for v in (old, new)]
            out.append(f"{test} on {column}: the page says {show[0]}, the log {show[1]}")
    return out
