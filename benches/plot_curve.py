#!/usr/bin/env python3
"""Draws the curve n -> time of several algorithms as SVG.

    cargo bench --bench curve --features gmp > curve.csv
    plot_curve.py curve.csv > docs/large-numbers-plot.svg

Both axes are logarithmic. Each algorithm's name is written at the end of its line.
"""
import csv, math, sys

LEFT, RIGHT, TOP, BOTTOM, WIDTH, HEIGHT = 70, 110, 20, 50, 820, 460
COLOURS = {"fibsrv": "#c2410c", "GMP": "#1d4ed8", "ibig": "#15803d", "additions": "#6b7280"}
TIMES = [(1, "1 µs"), (10, "10 µs"), (100, "0.1 ms"), (1e3, "1 ms"), (1e4, "10 ms"), (1e5, "0.1 s"), (1e6, "1 s"), (1e7, "10 s")]


def scale(low, high, start, end):
    """Returns the map of a logarithmic range to pixels."""
    return lambda value: start + (end - start) * math.log(value / low) / math.log(high / low)


def main():
    with open(sys.argv[1], newline="") as file:
        rows = [(row["algorithm"], int(row["n"]), float(row["microseconds"])) for row in csv.DictReader(file)]
    x = scale(1e4, max(n for _, n, _ in rows), LEFT, WIDTH - RIGHT)
    low, high = 1, 10 ** math.ceil(math.log10(max(time for _, _, time in rows)))
    y = scale(low, high, HEIGHT - BOTTOM, TOP)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="13">',
        "<title>Time to compute F(n) with its decimal digits, by algorithm</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
    ]
    for exponent in range(4, 9):
        if x(10**exponent) > WIDTH - RIGHT + 1:
            break
        at = f"{x(10**exponent):.1f}"
        out.append(f'<line x1="{at}" y1="{TOP}" x2="{at}" y2="{HEIGHT - BOTTOM}" stroke="#e5e7eb"/>')
        out.append(f'<text x="{at}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle">n = {10**exponent:,}</text>')
    for time, label in TIMES:
        if low <= time <= high:
            at = f"{y(time):.1f}"
            out.append(f'<line x1="{LEFT}" y1="{at}" x2="{WIDTH - RIGHT}" y2="{at}" stroke="#e5e7eb"/>')
            out.append(f'<text x="{LEFT - 8}" y="{y(time) + 4:.1f}" text-anchor="end">{label}</text>')
    for name, colour in COLOURS.items():
        points = [(n, time) for algorithm, n, time in rows if algorithm == name]
        if points:
            line = " ".join(f"{x(n):.1f},{y(time):.1f}" for n, time in points)
            out.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
            n, time = points[-1]
            out.append(f'<text x="{x(n) + 6:.1f}" y="{y(time) + 4:.1f}" fill="{colour}">{name}</text>')
    out.append("</svg>")
    print("\n".join(out))


if __name__ == "__main__":
    main()
