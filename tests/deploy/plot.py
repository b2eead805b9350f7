"""Draws dashboard panels as SVG from the data of a Prometheus server."""

import math
import re
import time
import xml.sax.saxutils

PANELS = ("Requests by status", "Latency", "Connections", "Computations", "CPU per worker", "Memory")
SECONDS = 18
WIDTH, HEIGHT, MARGIN, COLUMNS = 360, 200, 12, 3
COLOURS = ("#7eb26d", "#eab839", "#6ed0e0", "#ef843c", "#e24d42", "#1f78c1", "#ba43a9", "#705da0")
UNITS = {"s": ((1, "s"), (1e-3, "ms"), (1e-6, "µs")), "bytes": ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"), (1, "B")),
         "reqps": ((1000, "k/s"), (1, "/s"))}


def draw(path, dashboard, query_range):
    """Writes the SVG. `query_range` returns the list of series in the format of the Prometheus API."""
    panels = [panel for name in PANELS for panel in dashboard["panels"]
              if panel["title"] == name and panel["type"] != "row"]
    rows = math.ceil(len(panels) / COLUMNS)
    width, height = COLUMNS * (WIDTH + MARGIN) + MARGIN, rows * (HEIGHT + MARGIN) + MARGIN
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="10">',
             f'<rect width="{width}" height="{height}" fill="#111217"/>']
    for number, panel in enumerate(panels):
        x = MARGIN + number % COLUMNS * (WIDTH + MARGIN)
        y = MARGIN + number // COLUMNS * (HEIGHT + MARGIN)
        parts += [f'<g transform="translate({x} {y})">', *draw_panel(panel, query_range), "</g>"]
    with open(path, "w", encoding="utf-8") as file:
        file.write("\n".join([*parts, "</svg>", ""]))


def with_defaults(expression, interval):
    """Replaces the variables of a dashboard by their defaults, which select everything."""
    expression = expression.replace("$__rate_interval", interval)
    return re.sub(r"\$(job|namespace|release|instance)\b", ".*", expression)


def draw_panel(panel, query_range):
    end = time.time()
    series = []
    for target in panel["targets"]:
        expression = with_defaults(target["expr"], "5s")
        for result in query_range(expression, start=end - SECONDS, end=end, step=1):
            name = target["legendFormat"]
            for label, value in result["metric"].items():
                name = name.replace("{{%s}}" % label, value)
            # Ports are random; use the job's name.
            name = "fibsrv" if name.startswith("127.0.0.1:") else name
            points = [(float(at), float(value)) for at, value in result["values"] if not math.isnan(float(value))]
            series.append((name, points))
    most = max((value for _, points in series for _, value in points), default=0) or 1
    left, top, right, bottom = 46, 26, WIDTH - 8, HEIGHT - 40
    yield f'<rect width="{WIDTH}" height="{HEIGHT}" rx="2" fill="#181b1f" stroke="#2c3235"/>'
    yield f'<text x="8" y="16" fill="#d8d9da" font-size="12">{text(panel["title"])}</text>'
    unit = panel["fieldConfig"]["defaults"]["unit"]
    for part in (0, 0.5, 1):
        y = bottom - part * (bottom - top)
        yield f'<line x1="{left}" x2="{right}" y1="{y}" y2="{y}" stroke="#2c3235"/>'
        yield f'<text x="{left - 4}" y="{y + 3}" fill="#9fa7b3" text-anchor="end">{number(part * most, unit)}</text>'
    for index, (_, points) in enumerate(series):
        line = " ".join(f"{left + (at - end + SECONDS) / SECONDS * (right - left):.1f},{bottom - value / most * (bottom - top):.1f}"
                        for at, value in points)
        yield f'<polyline points="{line}" fill="none" stroke="{COLOURS[index % len(COLOURS)]}" stroke-width="1.5"/>'
    x, y = 8, HEIGHT - 22
    for index, (name, _) in enumerate(series):
        if x > 8 and x + 6 * len(name) + 20 > WIDTH:
            x, y = 8, y + 13
        yield f'<rect x="{x}" y="{y - 6}" width="8" height="3" fill="{COLOURS[index % len(COLOURS)]}"/>'
        yield f'<text x="{x + 11}" y="{y}" fill="#9fa7b3" font-size="9">{text(name)}</text>'
        x += 5 * len(name) + 22


def number(value, unit):
    for size, name in UNITS.get(unit, ((1, ""),)):
        if value >= size:
            return f"{value / size:.3g} {name}".strip()
    return "0" if value == 0 else f"{value:.2g}"


def text(words):
    return xml.sax.saxutils.escape(words)
