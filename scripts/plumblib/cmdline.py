# SPDX-License-Identifier: MIT
"""The guest's command line: words `key` or `key=value`, separated by blanks."""
from __future__ import annotations

from fnmatch import fnmatchcase

LIMIT = 2047  # bytes the guest keeps: BOOT_CMDLINE_MAX less the NUL (boot/boot_info.h)


def globs(text: str, key: str) -> list[str]:
    """The globs of every `key=GLOB,…` in the command line."""
    found = []
    for word in text.split():
        name, _, value = word.partition("=")
        if name == key:
            found += [g for g in value.split(",") if g]
    return found


def with_globs(text: str, key: str, more: list[str]) -> str:
    """The command line with `more` joined to its `key=` list: one word, nothing twice."""
    if not more:
        return text
    merged = list(dict.fromkeys(globs(text, key) + list(more)))
    return f"{without(text, key)} {key}={','.join(merged)}".strip()


def without(text: str, key: str) -> str:
    return " ".join(w for w in text.split() if w.partition("=")[0] != key)


def value(text: str, key: str) -> str | None:
    """The last value given to `key`."""
    found = None
    for word in text.split():
        name, sep, val = word.partition("=")
        if name == key and sep:
            found = val
    return found


def matches(name: str, patterns: list[str]) -> bool:
    return any(fnmatchcase(name, p) for p in patterns)
