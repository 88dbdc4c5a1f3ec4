#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Draws the output of mpi_model for 2 to 1,024 ranks: the megabytes that a rank sends.

    picture.py MPI_MODEL OUT.svg
"""

import math
import subprocess
import sys
from pathlib import Path

RANKS = [2, 4, 8, 16, 32, 64, 128, 256, 512, 1024]
SHOWN = {  # operation -> colour
    "lookup, own": "#1f77b4",
    "backward, own, tokens": "#ff7f0e",
    "backward, own, ranks": "#2ca02c",
    "all_reduce, sparse": "#9467bd",
    "all_reduce, dense": "#8c564b",
    "cross_entropy, same": "#7f7f7f",
    "cross_entropy, own": "#d62728",
}
LEFT, RIGHT, TOP, BOTTOM, WIDTH, HEIGHT = 70, 190, 40, 50, 760, 420
LOWEST, HIGHEST = 1, 100_000  # MB


def megabytes(program: str, ranks: int) -> dict[str, float]:
    output = subprocess.run([program, f"ranks={ranks}"], capture_output=True, text=True, check=True).stdout
    rows = {}
    for line in output.splitlines()[2:]:
        name, numbers = line[:24].strip(), line[24:].split()
        rows[name] = float(numbers[0]) / 1e6
    return rows


def main() -> int:
    program, out = sys.argv[1:]
    points = {ranks: megabytes(program, ranks) for ranks in RANKS}

    def x(ranks: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (math.log2(ranks) - 1) / 9

    def y(value: float) -> float:
        share = math.log(value / LOWEST) / math.log(HIGHEST / LOWEST)
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share

    svg = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif" '
           'font-size="12">', f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
           f'<text x="{LEFT}" y="22" font-size="14">Megabytes that a rank sends: 8,192 tokens on each, '
           'GPT-2\'s table of 50,257 x 768 floats</text>']  # fmt: skip
    value = LOWEST
    while value <= HIGHEST:
        svg.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}" stroke="#ddd"/>')
        svg.append(f'<text x="{LEFT - 8}" y="{y(value) + 4:.1f}" text-anchor="end">{value:,}</text>')
        value *= 10
    for ranks in RANKS:
        svg.append(f'<text x="{x(ranks):.1f}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle">{ranks}</text>')
    svg.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 10}" text-anchor="middle">ranks</text>')
    taken: list[float] = []
    for name, colour in sorted(SHOWN.items(), key=lambda item: -points[RANKS[-1]][item[0]]):
        line = " ".join(f"{x(ranks):.1f},{y(points[ranks][name]):.1f}" for ranks in RANKS)
        svg.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        place = y(points[RANKS[-1]][name]) + 4
        if taken:
            place = max(place, taken[-1] + 15)
        taken.append(place)
        svg.append(f'<text x="{WIDTH - RIGHT + 8}" y="{place:.1f}" fill="{colour}">{name}</text>')
    Path(out).write_text("\n".join([*svg, "</svg>", ""]), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
