# SPDX-License-Identifier: MIT
"""Plots as inline SVG: no script, no picture file; colours come from the page's style sheet by class.

What is drawn is found in the names of the series, not listed here: a key with several whole numbers
(size, depth, pages) is an axis, `mode` and its like are lines, from/to pairs are a heat map.
"""
from __future__ import annotations

import math
from dataclasses import dataclass, field
from html import escape

from .series import Series, bytes_shown, shown
from .view import clean

W, H = 400, 260
LEFT, RIGHT, TOP, BOTTOM = 68, 12, 10, 42
COLORS, DASHES = 8, 4
MAX_CHARTS, MAX_LINES, MAX_CPUS = 24, 8, 64
AXES = ("size", "pages", "depth", "cpus", "set", "working_set", "batch", "width")   # in order of liking
LINES = ("mode", "via", "kind", "op", "page", "what")
PAIRS = (("from", "to"), ("src", "dst"), ("sender", "target"), ("cpu", "to"), ("cpu", "target"))
NEVER_AXES = ("cpu", "seed", "again", "vector", "gsi")


@dataclass
class Line:
    label: str
    points: list[tuple[float, float]]
    color: int = 0
    dash: int = 0
    log: str = ""                    # the label of its log, where there are several
    spans: list[tuple[float, float, float]] = field(default_factory=list)   # (x, low, high)


@dataclass
class Chart:
    title: str
    svg: str
    legend: list[tuple[str, str]]    # (svg swatch, label)
    points: int
    kind: str                        # lines, cdf, heat


# ---- svg ----

def tag(name: str, body: str = "", **attributes) -> str:
    said = "".join(f' {k.rstrip("_").replace("_", "-")}="{escape(_text(v))}"' for k, v in attributes.items()
                   if v is not None)
    return f"<{name}{said}>{body}</{name}>" if body else f"<{name}{said}/>"


def _text(v) -> str:
    return f"{v:.1f}".rstrip("0").rstrip(".") if isinstance(v, float) else str(v)


def words(x: float, y: float, text: str, cls: str = "", anchor: str = "middle", **more) -> str:
    return tag("text", escape(clean(text)), x=x, y=y, class_=cls or None, text_anchor=anchor, **more)


def _marker(x: float, y: float, color: int, r: float = 3.2) -> str:
    shape = color % 4
    cls = f"m c{color % COLORS}"
    if shape == 0:
        return tag("circle", cx=x, cy=y, r=r, class_=cls)
    if shape == 1:
        return tag("rect", x=x - r * .9, y=y - r * .9, width=r * 1.8, height=r * 1.8, class_=cls)
    points = ((0, -1.25), (1.15, .9), (-1.15, .9)) if shape == 2 else ((0, -1.3), (1.3, 0), (0, 1.3), (-1.3, 0))
    return tag("polygon", points=" ".join(f"{x + a * r:.1f},{y + b * r:.1f}" for a, b in points), class_=cls)


def _legend(lines: list[Line], marker: bool) -> list[tuple[str, str]]:
    """Colours say what, dashes of which log."""
    what = {line.color: line.label for line in lines}
    out = [(swatch(color, 0, marker), label) for color, label in sorted(what.items())]
    logs = {line.dash: line.log for line in lines if line.log}
    return out + [(swatch(-1, dash, False), log) for dash, log in sorted(logs.items())]


def swatch(color: int, dash: int = 0, marker: bool = True) -> str:
    body = tag("line", x1=0, y1=6, x2=26, y2=6, class_=f"l {f'c{color % COLORS}' if color >= 0 else 'any'} d{dash % DASHES}")
    return tag("svg", body + (_marker(13.0, 6.0, color) if marker else ""), class_="swatch", viewBox="0 0 26 12",
               width=26, height=12, aria_hidden="true")


# ---- axes ----

class Scale:
    """Maps values to pixels and knows its ticks."""

    def __init__(self, values, start: float, end: float, log: bool, unit: str = "", ticks=None, zero=False):
        values = [v for v in values if v is not None and math.isfinite(v)]
        self.log, self.start, self.end = log, start, end
        low, high = (min(values), max(values)) if values else (1.0, 10.0)
        if log:
            low, high = max(low, 0.5), max(high, 0.5)
            pad = 1.12 if high / low > 1.2 else 1.6
            low, high = low / pad, high * pad
        else:
            low, high = (0.0 if zero else low), high * 1.08 if high else 1.0
        self.low, self.high = low, high
        step = 1024 if unit == "MiB/s" and high >= 1024 else 1   # GiB/s have round figures of their own
        self.ticks = ticks or [(t * step, shown(t * step, unit))
                               for t in (_log_ticks if log else _even_ticks)(low / step, high / step)]

    def __call__(self, v: float) -> float:
        v = min(max(v, self.low), self.high)
        share = (math.log(v / self.low) / math.log(self.high / self.low)) if self.log else (
            (v - self.low) / (self.high - self.low))
        return self.start + share * (self.end - self.start)


def _log_ticks(low: float, high: float) -> list[float]:
    decades = math.log10(high / low)
    mantissas = (1,) if decades > 4 else (1, 3) if decades > 2 else (1, 2, 5) if decades > .8 else (
        1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8)
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    every = max(1, math.ceil((last - first) / 7)) if decades > 4 else 1
    return [m * 10.0 ** e for e in range(first, last + 1, every) for m in mantissas if low <= m * 10.0 ** e <= high]


def _even_ticks(low: float, high: float) -> list[float]:
    rough = (high - low) / 5 or 1
    step = 10 ** math.floor(math.log10(rough))
    step *= next(m for m in (1, 2, 5, 10) if m * step >= rough)
    return [low + i * step for i in range(7) if low + i * step <= high]


class TailScale(Scale):
    """Shares, so that the tail is seen: equal steps at 90, 99, 99.9 %."""

    def __init__(self, start: float, end: float, most: float):
        self.start, self.end, self.top = start, end, max(1.0, most)
        self.ticks = [(p, name) for p, name in ((0.0, "0 %"), (.5, "50 %"), (.9, "90 %"), (.99, "99 %"), (.999, "99.9 %"),
                                                 (.9999, "99.99 %")) if self._place(p) <= self.top]

    @staticmethod
    def _place(p: float) -> float:
        return -math.log10(1 - p) if p < 1 else math.inf

    def __call__(self, p: float) -> float:
        return self.start + min(self._place(p), self.top) / self.top * (self.end - self.start)


def _frame(x: Scale, y: Scale, x_name: str, y_name: str) -> str:
    out, last = [], -99.0
    for value, name in y.ticks:
        at = y(value)
        out.append(tag("line", x1=LEFT, x2=W - RIGHT, y1=at, y2=at, class_="grid"))
        out.append(words(LEFT - 6, at + 3.5, name, "tick", "end"))
    for value, name in x.ticks:
        at = x(value)
        out.append(tag("line", x1=at, x2=at, y1=TOP, y2=H - BOTTOM, class_="grid"))
        if at - last >= 7.0 * len(name):
            out.append(words(at, H - BOTTOM + 15, name, "tick"))
            last = at
    out.append(words((LEFT + W - RIGHT) / 2, H - 6, x_name, "axis"))
    if y_name:
        out.append(words(12.0, (TOP + H - BOTTOM) / 2, y_name, "axis",
                         transform=f"rotate(-90 12 {(TOP + H - BOTTOM) / 2:.0f})"))
    return "".join(out)


def _svg(kind: str, title: str, body: str, points: int, height: int = H) -> str:
    return tag("svg", f"<title>{escape(clean(title))}</title>{body}", class_="plot", viewBox=f"0 0 {W} {height}", role="img",
               data_kind=kind, data_points=points)


# ---- charts ----

def line_chart(title: str, lines: list[Line], unit: str, x_key: str) -> Chart:
    xs = sorted({x for line in lines for x, _ in line.points})
    ys = [v for line in lines for _, v in line.points] + [v for line in lines for s in line.spans for v in s[1:]]
    name = bytes_shown if x_key == "size" else (lambda n: f"{n:g}")
    ticks = [(v, name(int(v)) if float(v).is_integer() else f"{v:g}") for v in xs[:: max(1, math.ceil(len(xs) / 9))]]
    x = Scale(xs, LEFT + 12.0, W - RIGHT - 12.0, bool(xs) and xs[0] > 0, ticks=ticks)
    rate = unit not in ("ns", "cycles")
    y = Scale(ys, float(H - BOTTOM), float(TOP), not rate, unit, zero=rate)
    body, count = [_frame(x, y, x_key, "")], 0
    for line in lines:
        cls = f"c{line.color % COLORS} d{line.dash % DASHES}"
        shift = (line.color - (len(lines) - 1) / 2) * 1.4   # intervals side by side, not on top of each other
        for at, low, high in line.spans:
            px = x(at) + shift
            body.append(tag("line", x1=px, x2=px, y1=y(low), y2=y(high), class_=f"span {cls}"))
        points = [(x(a) + shift, y(b)) for a, b in line.points]
        body.append(tag("polyline", points=" ".join(f"{a:.1f},{b:.1f}" for a, b in points), class_=f"l {cls}"))
        for (px, py), (a, b) in zip(points, line.points):
            body.append(tag("g", tag("title", escape(clean(f"{line.label}{' · ' + line.log if line.log else ''}, {x_key} {name(int(a))}: {shown(b, unit)}")))
                            + _marker(px, py, line.color)))
            count += 1
    return Chart(title, _svg("lines", title, "".join(body), count),
                 _legend(lines, True), count, "lines")


def cdf_chart(title: str, lines: list[Line], unit: str) -> Chart:
    xs = [a for line in lines for a, _ in line.points]
    most = max((1 / (1 - p) for line in lines for _, p in line.points if p < 1), default=10)
    x = Scale(xs, float(LEFT), W - RIGHT - 4.0, True, unit)
    y = TailScale(float(H - BOTTOM), float(TOP), min(4.2, math.log10(most) + .35))
    body, count = [_frame(x, y, "", "samples not above")], 0
    for line in lines:
        path, last = [], y(0.0)
        for a, p in line.points:
            px, py = x(a), y(p)
            path += [f"{px:.1f},{last:.1f}", f"{px:.1f},{py:.1f}"]
            last = py
            count += 1
        body.append(tag("g", tag("title", escape(clean(f"{line.label}{' · ' + line.log if line.log else ''}")))
                        + tag("polyline", points=" ".join(path), class_=f"l c{line.color % COLORS} d{line.dash % DASHES}")))
    return Chart(title, _svg("cdf", title, "".join(body), count),
                 _legend(lines, False), count, "cdf")


def heat_map(title: str, cells: dict[tuple[int, int], float], unit: str, keys: tuple[str, str]) -> Chart:
    rows, columns = (sorted({c[i] for c in cells})[:MAX_CPUS] for i in (0, 1))
    side = min(44.0, (W - LEFT - 10) / max(1, len(columns)))
    height = math.ceil(44 + side * len(rows) + 10)
    low, high = min(cells.values()), max(cells.values())
    spread = math.log(max(high, 1e-9) / max(low, 1e-9)) if low > 0 and high > low else 0
    body, count = [words(LEFT + side * len(columns) / 2, 12.0, f"{keys[1]} CPU", "axis"),
                   words(12.0, 34 + side * len(rows) / 2, f"{keys[0]} CPU", "axis",
                         transform=f"rotate(-90 12 {34 + side * len(rows) / 2:.0f})")], 0
    every = max(1, math.ceil(len(columns) / 16))
    body += [words(LEFT + side * (i + .5), 27.0, str(c), "tick") for i, c in enumerate(columns) if i % every == 0]
    body += [words(LEFT - 6.0, 34 + side * (i + .5) + 3.5, str(r), "tick", "end") for i, r in enumerate(rows) if i % every == 0]
    for i, r in enumerate(rows):
        for j, c in enumerate(columns):
            value = cells.get((r, c))
            if value is None:
                continue
            share = math.log(max(value, 1e-9) / max(low, 1e-9)) / spread if spread else .35
            px, py = LEFT + j * side, 34 + i * side
            inside = tag("title", escape(f"{keys[0]} {r} {keys[1]} {c}: {shown(value, unit)}"))
            inside += tag("rect", x=px + .5, y=py + .5, width=side - 1, height=side - 1, class_="heat",
                          fill_opacity=f"{.08 + .87 * share:.2f}")
            if side >= 40:
                number, _, what = shown(value, unit).partition(" ")
                cls = "cell on" if share > .55 else "cell"
                inside += words(px + side / 2, py + side / 2 - 1, number, cls) + words(px + side / 2, py + side / 2 + 10, what, cls + " small")
            body.append(tag("g", inside))
            count += 1
    legend = f"{shown(low, unit)} (faint) to {shown(high, unit)} (full)"
    return Chart(title, _svg("heat", title, "".join(body), count, height), [("", legend)], count, "heat")


# ---- which charts a test's series make ----

def charts(logs: list[tuple[str, list[Series]]], drivers: dict[str, str] | None = None) -> list[Chart]:
    """Of one test: `logs` are (label of the log, its series of that test). Several logs share each chart.

    `drivers`: what a device's address is, for the titles.
    """
    out: list[Chart] = []
    units = list(dict.fromkeys(s.unit for _, series in logs for s in series))
    for unit in units:
        mine = [(label, [s for s in series if s.unit == unit and s.middle is not None]) for label, series in logs]
        every = [s for _, series in mine for s in series]
        pair = next((p for p in PAIRS if _is_pair(every, p)), None)
        if pair:
            out += _heats(mine, pair, unit)
            continue
        axis = _axis(every)
        if axis:
            out += _lines(mine, axis, unit)
        if unit in ("ns", "cycles") and not (unit == "cycles" and "ns" in units):
            out += _cdfs(mine, axis, unit)
    for chart in out:
        for address, name in (drivers or {}).items():
            chart.title = chart.title.replace(address, f"{address} {name}")
    return out[:MAX_CHARTS]


def _whole(text: str | None) -> bool:
    return text is not None and text.isascii() and text.isdigit() and len(text) <= 18


def _is_pair(series: list[Series], pair: tuple[str, str]) -> bool:
    mine = [s for s in series if all(_whole(s.keys.get(k)) for k in pair)]
    return len({tuple(s.keys[k] for k in pair) for s in mine}) >= 3 and len(mine) * 2 > len(series)


def _axis(series: list[Series]) -> str:
    counts: dict[str, set[str]] = {}
    for s in series:
        for key, value in s.keys.items():
            if _whole(value) and key not in NEVER_AXES:
                counts.setdefault(key, set()).add(value)
    several = {k: v for k, v in counts.items() if len(v) >= 2}
    for key in AXES:
        if key in several:
            return key
    return max(several, key=lambda k: len(several[k]), default="") if any(len(v) > 2 for v in several.values()) else ""


def _varying(series: list[Series], without=()) -> list[str]:
    keys = dict.fromkeys(k for s in series for k in s.keys)
    return [k for k in keys if k not in without and len({s.keys.get(k) for s in series}) > 1]


def _line_key(series: list[Series], keys: list[str]) -> str:
    fits = [k for k in keys if len({s.keys.get(k) for s in series}) <= MAX_LINES]
    return next((k for k in LINES if k in fits), fits[-1] if fits else "")


def _facets(every: list[Series], keys: list[str]) -> list[tuple[str, ...]]:
    return list(dict.fromkeys(tuple(s.keys.get(k, "") for k in keys) for s in every))


def _title(keys: list[str], facet: tuple[str, ...], what: str) -> str:
    """"00:07.0 read: median by size"; keys whose values speak for themselves are left out."""
    where = " ".join(v if k in (*LINES, "dev", "target") else f"{k} {v}" for k, v in zip(keys, facet) if v)
    return f"{where}: {what}" if where else what


def _is(s: Series, keys: list[str], facet: tuple[str, ...]) -> bool:
    return all(s.keys.get(k, "") == v for k, v in zip(keys, facet))


def _lines(logs, axis: str, unit: str) -> list[Chart]:
    every = [s for _, series in logs for s in series if _whole(s.keys.get(axis))]
    vary = _varying(every, (axis,))
    by = _line_key(every, vary)
    rest = [k for k in vary if k != by]
    values = list(dict.fromkeys(s.keys.get(by, "") for s in every))
    what = "median" if unit in ("ns", "cycles") else {"MiB/s": "bandwidth", "1/s": "rate"}.get(unit, unit)
    out = []
    for facet in _facets(every, rest):
        lines = []
        for at, (label, series) in enumerate(logs):
            for color, value in enumerate(values):
                mine = sorted((s for s in series if _is(s, rest, facet) and s.keys.get(by, "") == value and _whole(s.keys.get(axis))),
                              key=lambda s: int(s.keys[axis]))
                points = [(float(s.keys[axis]), s.middle) for s in mine]
                if not points:
                    continue
                spans = [(float(s.keys[axis]), *i) for s in mine if (i := s.median_interval(0.95))]
                lines.append(Line(value or what, points, color, at, label if len(logs) > 1 else "", spans))
        if lines and max(len(line.points) for line in lines) >= 2:
            out.append(line_chart(_title(rest, facet, f"{what} by {axis}"), lines, unit, axis))
    return out


def _cdfs(logs, axis: str, unit: str) -> list[Chart]:
    """Distributions; along an axis only one place of it, the most usual size."""
    every = [s for _, series in logs for s in series if s.n >= 9]
    note = ""
    if axis:
        values = sorted({int(s.keys[axis]) for s in every if _whole(s.keys.get(axis))})
        if not values:
            return []
        at = 4096 if axis == "size" and 4096 in values else values[0]
        every = [s for s in every if s.keys.get(axis) == str(at)]
        note = f", {axis} {bytes_shown(at) if axis == 'size' else at}"
    wanted = set(map(id, every))
    vary = _varying(every, (axis,))
    by = [k for k in vary if k in LINES or k == "target"] or vary[-1:]
    if axis:                         # the same lines, in the same colours, as along the axis
        by = [k for k in [_line_key([s for _, series in logs for s in series], vary)] if k]
    rest = [k for k in vary if k not in by]
    # Lines must stay few enough to be told apart: what is too much becomes one more chart.
    while by and len(_facets(every, by)) * len(logs) > (MAX_LINES if len(logs) == 1 else MAX_LINES + 2):
        rest.append(by.pop(0))
    out = []
    for facet in _facets(every, rest):
        values = [v for v in _facets(every, by) if any(_is(s, rest, facet) and _is(s, by, v) for s in every)]
        lines = []
        for index, (label, _) in enumerate(logs):
            for color, value in enumerate(values):
                for s in [s for s in logs[index][1] if id(s) in wanted and _is(s, rest, facet) and _is(s, by, value)][:1]:
                    name = " ".join(v for v in value if v) or s.name
                    lines.append(Line(name, s.points(), color, index, label if len(logs) > 1 else ""))
        lines = [line for line in lines if len(line.points) >= 3]
        if lines:
            out.append(cdf_chart(_title(rest, facet, f"distribution{note}"), lines, unit))
    return out


def _heats(logs, pair: tuple[str, str], unit: str) -> list[Chart]:
    out = []
    for label, series in logs:
        mine = [s for s in series if all(_whole(s.keys.get(k)) for k in pair)]
        rest = _varying(mine, pair)
        for facet in _facets(mine, rest):
            cells = {(int(s.keys[pair[0]]), int(s.keys[pair[1]])): s.middle for s in mine if _is(s, rest, facet)}
            if len(cells) >= 3:
                title = _title(rest, facet, f"{pair[0]} × {pair[1]}")
                out.append(heat_map(title + (f" · {label}" if len(logs) > 1 else ""), cells, unit, pair))
    return out


# ---- a row's own small bar ----

class BarScale:
    """One logarithmic scale for all rows of a table, 0 to 100."""

    def __init__(self, series: list[Series]):
        ends = [v for s in series for k in ("min", "p50", "p99", "value") if (v := s.figures.get(k)) is not None]
        ends = [max(v, .5) for v in ends] or [1.0]
        self.low, self.high = min(ends) / 1.15, max(ends) * 1.15

    def __call__(self, v: float) -> float:
        share = math.log(min(max(v, self.low), self.high) / self.low) / math.log(self.high / self.low)
        return 1 + 98 * share


def bar(s: Series, scale: BarScale, color: int = 0) -> str:
    """min to p99 thin, min to p90 thick, the median a mark."""
    middle = s.middle
    if middle is None:
        return ""
    f = s.figures
    body = ""
    if "min" in f and "p99" in f:
        body += tag("line", x1=scale(f["min"]), x2=scale(f["p99"]), y1=5, y2=5, class_=f"whisker c{color % COLORS}")
    high = f.get("p90", f.get("max"))
    if "min" in f and high is not None:
        body += tag("rect", x=scale(f["min"]), y=2.5, width=max(.4, scale(high) - scale(f["min"])), height=5,
                    class_=f"box c{color % COLORS}")
    elif "value" in f:
        body += tag("rect", x=1, y=2.5, width=scale(middle) - 1, height=5, class_=f"box c{color % COLORS}")
    at = scale(middle)
    body += tag("rect", x=at - .5, y=.5, width=1, height=9, class_=f"median c{color % COLORS}")
    return tag("svg", body, class_="bar", viewBox="0 0 100 10", preserveAspectRatio="none", aria_hidden="true")
