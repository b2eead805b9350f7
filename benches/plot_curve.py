#!/usr/bin/env python3
"""Draws the curve n -> time of several algorithms as SVG.

    cargo bench --bench curve --features gmp > curve.csv
    plot_curve.py curve.csv > docs/large-numbers-plot.svg

Both axes are logarithmic. Each algorithm's name is written at the end of its line.
"""
import csv, math, sys

LEFT, RIGHT, TOP, BOTTOM, WIDTH, HEIGHT = 70, 110, 20, 50, 820, 460
# The colour of each algorithm, in light and in dark mode.
COLOURS = {"fibsrv": ("#c2410c", "#fb923c"), "GMP": ("#1d4ed8", "#7aa8ff"), "ibig": ("#15803d", "#4ade80"),
           "additions": ("#6b7280", "#9ca3af")}
TIMES = [(1, "1 µs"), (10, "10 µs"), (100, "0.1 ms"), (1e3, "1 ms"), (1e4, "10 ms"), (1e5, "0.1 s"), (1e6, "1 s"), (1e7, "10 s")]


def scale(low, high, start, end):
    """Returns the map of a logarithmic range to pixels."""
    return lambda value: start + (end - start) * math.log(value / low) / math.log(high / low)


def style():
    """Returns the style sheet of both colour schemes."""
    schemes = []
    for mode, (ground, text, grid) in enumerate([("#ffffff", "#1b2430", "#e5e7eb"), ("#0d1117", "#e6edf3", "#30363d")]):
        rules = [f".ground {{ fill: {ground}; }} text {{ fill: {text}; }} .grid {{ stroke: {grid}; }}"]
        for name, colours in COLOURS.items():
            colour = colours[mode]
            rules.append(f"polyline.{name} {{ stroke: {colour}; }} text.{name} {{ fill: {colour}; }}")
        schemes.append("\n".join(rules))
    light, dark = schemes
    return f"<style>\npolyline {{ fill: none; stroke-width: 2; }}\n{light}\n@media (prefers-color-scheme: dark) {{\n{dark}\n}}\n</style>"


def main():
    with open(sys.argv[1], newline="") as file:
        rows = [(row["algorithm"], int(row["n"]), float(row["microseconds"])) for row in csv.DictReader(file)]
    x = scale(1e4, max(n for _, n, _ in rows), LEFT, WIDTH - RIGHT)
    low, high = 1, 10 ** math.ceil(math.log10(max(time for _, _, time in rows)))
    y = scale(low, high, HEIGHT - BOTTOM, TOP)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="13">',
        "<title>Time to compute F(n) with its decimal digits, by algorithm</title>",
        style(),
        f'<rect class="ground" width="{WIDTH}" height="{HEIGHT}"/>',
    ]
    for exponent in range(4, 9):
        if x(10**exponent) > WIDTH - RIGHT + 1:
            break
        at = f"{x(10**exponent):.1f}"
        out.append(f'<line x1="{at}" y1="{TOP}" x2="{at}" y2="{HEIGHT - BOTTOM}" class="grid"/>')
        out.append(f'<text x="{at}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle">n = {10**exponent:,}</text>')
    for time, label in TIMES:
        if low <= time <= high:
            at = f"{y(time):.1f}"
            out.append(f'<line x1="{LEFT}" y1="{at}" x2="{WIDTH - RIGHT}" y2="{at}" class="grid"/>')
            out.append(f'<text x="{LEFT - 8}" y="{y(time) + 4:.1f}" text-anchor="end">{label}</text>')
    for name in COLOURS:
        points = [(n, time) for algorithm, n, time in rows if algorithm == name]
        if points:
            line = " ".join(f"{x(n):.1f},{y(time):.1f}" for n, time in points)
            out.append(f'<polyline class="{name}" points="{line}"/>')
            n, time = points[-1]
            out.append(f'<text class="{name}" x="{x(n) + 6:.1f}" y="{y(time) + 4:.1f}">{name}</text>')
    out.append("</svg>")
    print("\n".join(out))


if __name__ == "__main__":
    main()
