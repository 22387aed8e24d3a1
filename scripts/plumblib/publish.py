# SPDX-License-Identifier: MIT
"""Result files of judged logs: HTML, Markdown, JSON, JUnit XML, OpenMetrics, text. `-o FILE` goes by its suffix."""
from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

from . import UsageError, outputs
from .judge import Outcome
from .trace import Trace

SUFFIXES = {".html": "html", ".htm": "html", ".md": "markdown", ".json": "json", ".xml": "junit", ".prom": "openmetrics",
            ".om": "openmetrics", ".txt": "text"}
FORMATS = ("html", "markdown", "json", "junit", "openmetrics", "text")
ONE_LOG = ("json", "junit", "openmetrics")


@dataclass
class Item:
    """One log and what belongs to it."""
    name: str                        # as the user gave it
    found: Outcome
    data: bytes = b""
    trace: Trace | None = None
    host: dict = field(default_factory=dict)
    label: str = ""                  # A, B, …; empty where there is one


def add_arguments(parser) -> None:
    for name, what in (("html", "HTML page"), ("markdown", "Markdown"), ("json", "JSON"), ("junit", "JUnit XML"),
                       ("openmetrics", "OpenMetrics text")):
        parser.add_argument(f"--{name}", metavar="FILE", help=f"write the result as {what} (- for standard output)")
    parser.add_argument("-o", "--output", metavar="FILE", action="append", default=[],
                        help="write FILE in the form that its suffix says: .html .md .json .xml .prom .txt")


def wanted(args) -> list[tuple[str, str]]:
    """(format, file) of each that the user asked for; refuses before anything runs."""
    files = [(name, getattr(args, name)) for name in FORMATS if getattr(args, name, None)]
    for name in getattr(args, "output", []):
        if Path(name).suffix.lower() not in SUFFIXES:
            raise UsageError(f"-o {name}: its form is not known; suffixes are {' '.join(SUFFIXES)}")
        files.append((SUFFIXES[Path(name).suffix.lower()], name))
    if sum(name == "-" for _, name in files) > 1:
        raise UsageError("only one result can go to standard output")
    if any(form == "html" for form, _ in files):
        check_html()
    return files


def check_html() -> None:
    from .html import _environment
    _environment()


def to_stdout(files: list[tuple[str, str]]) -> bool:
    return any(name == "-" for _, name in files)


def render(form: str, items: list[Item], suite: str = "plumb") -> str:
    if form in ONE_LOG and len(items) > 1:
        raise UsageError(f"{form} takes one log; several go into html, markdown and text")
    if form == "html":
        from . import html
        return html.page(items)
    if form == "markdown":
        from . import markdown
        return "\n".join(markdown.as_markdown(i.found, i.host.get("machine") or Path(i.name).name) for i in items)
    if form == "openmetrics":
        from . import openmetrics
        host = items[0].host
        return openmetrics.as_openmetrics(items[0].found, {k: str(host[k]) for k in ("machine", "qemu") if host.get(k)})
    if form == "json":
        return outputs.as_json(items[0].found, items[0].host or {"log": items[0].name}, items[0].trace)
    if form == "junit":
        return outputs.as_junit(items[0].found, suite)
    from .view import Paint
    return "\n".join(outputs.text(i.found, Paint(_Plain()), _seconds(i), i.name) for i in items) + "\n"


class _Plain:
    def isatty(self):
        return False


def _seconds(item: Item) -> float | None:
    v = item.found.report.verdict
    return v.us / 1e6 if v else None


def write(files: list[tuple[str, str]], items: list[Item], suite: str = "plumb") -> None:
    for form, name in files:
        text = render(form, items, suite)
        if name == "-":
            sys.stdout.write(text)
            continue
        path = Path(name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_name(f".{path.name}.{os.getpid()}") if not _is_special(path) else path
            part.write_text(text, encoding="utf-8", errors="replace")
            if part != path:
                part.replace(path)       # a collector never reads half a file
        except OSError as e:
            raise UsageError(f"cannot write {name}: {e.strerror}") from None


def _is_special(path: Path) -> bool:
    return path.exists() and not path.is_file()
