#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Draws the results merged by report.py: distances from limits, and a token's cost in batches and tables of all sizes.

    chart.py MERGED.json CHART.svg
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import matplotlib as mpl

mpl.use("svg")
import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402

Results = dict[str, dict[str, dict[str, float]]]

OPERATIONS = {
    "sum, 8×1024": "sum/8x1024/768/uniform/1",
    "sum, 32×1024": "sum/32x1024/768/uniform/1",
    "bfloat16 rows": "bfloat16 rows/8x1024/768/uniform/1",
    "half rows": "half rows/8x1024/768/uniform/1",
    "int8 rows": "int8 rows/8x1024/768/uniform/1",
    "backward, 8×1024": "backward/8x1024/768/uniform/1",
    "sparse gradient": "sparse gradient/8x1024/768/uniform/1",
    "logits, 1 state": "logits/1/768/-/1",
    "logits, bfloat16": "bfloat16 logits/1/768/-/1",
    "logits, int8": "int8 logits/1/768/-/1",
    "logits, 8 states": "logits/8/768/-/1",
}
ROWS = (1000, 10000, 100000, 1000000)
SHAPES = ("1x1", "1x8", "1x64", "4x64", "1x1024", "8x1024", "32x1024")

# Contestants of a build, of which the fastest counts: label, build, names, colour, marker.
SERIES = (
    ("this library, -O3 -march=native", "native", ("ours",), "#0b5394", "o"),
    ("this library, -O2", "-O2", ("ours",), "#6fa8dc", "D"),
    ("llm.c's loop, -O3 -march=native", "native", ("loop",), "#38761d", "s"),
    ("Eigen, -O3 -march=native", "native", ("eigen",), "#b45f06", "^"),
    ("PyTorch", "native", ("torch", "torch, reused"), "#cc0000", "X"),
)


def fastest(results: Results, group: str, names: tuple[str, ...]) -> float | None:
    contestants = results.get(group, {})
    return min((contestants[name]["microseconds"] for name in names if name in contestants), default=None)


def tokens(shape: str) -> int:
    batch, seq_length = shape.split("x")
    return int(batch) * int(seq_length)


def distances(results: Results, names: tuple[str, ...]) -> Iterator[tuple[float, int]]:
    """Time divided by that of the limit, and the row it is drawn in."""
    for row, group in enumerate(OPERATIONS.values()):
        time, limit = fastest(results, group, names), fastest(results, group, ("limit",))
        if time is not None and limit is not None:
            yield time / limit, row


def draw_distances(axes: Axes, builds: dict[str, Results]) -> None:
    axes.axvline(1, color="#444444", linewidth=1)
    for order, (label, build, names, colour, marker) in enumerate(SERIES):
        points = list(distances(builds[build], names))
        ratios, rows = [ratio for ratio, _ in points], [row for _, row in points]
        axes.scatter(ratios, rows, label=label, color=colour, marker=marker, s=42, zorder=9 - order, lw=0)
    axes.set_xscale("log")
    ticks = [0.5, 1, 2, 5, 10, 20]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_yticks(range(len(OPERATIONS)), list(OPERATIONS))
    axes.invert_yaxis()
    axes.set_xlabel("time ÷ limit: copying the output, or reading what must be read")
    axes.set_title("One thread, n_embd = 768, vocabulary of 50,257", fontsize=10)
    axes.grid(color="#dddddd", linewidth=0.6)


def draw_times(axes: Axes, builds: dict[str, Results]) -> None:
    for order, (label, build, names, colour, marker) in enumerate(SERIES):
        times = {
            tokens(shape): time / tokens(shape)
            for shape in SHAPES
            if (time := fastest(builds[build], f"sum/{shape}/768/uniform/1", names)) is not None
        }
        (line,) = axes.plot(list(times), list(times.values()), label=label, color=colour, linewidth=1.4)
        line.set(marker=marker, markersize=6, markeredgewidth=0, zorder=9 - order)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(
        [tokens(shape) for shape in SHAPES], [shape.replace("x", "×") for shape in SHAPES], rotation=40
    )
    axes.minorticks_off()
    ticks = [0.1, 0.2, 0.5, 1, 2, 5, 10]
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_ylabel("µs per token")
    axes.set_xlabel("batch × tokens")
    axes.set_title("wte[ids] + wpe[positions], ids drawn evenly", fontsize=10)
    axes.grid(color="#dddddd", linewidth=0.6)


def draw_growth(axes: Axes, builds: dict[str, Results]) -> None:
    for order, (label, build, names, colour, marker) in enumerate(SERIES):
        times = {
            rows: time / 8192
            for rows in ROWS
            if (time := fastest(builds[build], f"lookup in {rows} rows/1x8192/256/uniform/1", names)) is not None
        }
        (line,) = axes.plot(list(times), list(times.values()), label=label, color=colour, linewidth=1.4)
        line.set(marker=marker, markersize=6, markeredgewidth=0, zorder=9 - order)
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.set_xticks(ROWS, [f"{rows:,}" for rows in ROWS], rotation=40)
    axes.minorticks_off()
    axes.set_ylabel("µs per token")
    axes.set_xlabel("rows of the vocabulary, n_embd = 256")
    axes.set_title("lookup of 8,192 ids, drawn evenly", fontsize=10)
    axes.grid(color="#dddddd", linewidth=0.6)


def main() -> None:
    merged, chart = sys.argv[1:]
    builds = json.loads(Path(merged).read_text(encoding="utf-8"))["results"]
    # Text stays text, and the same numbers give the same file.
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "gpt2", "font.size": 9})
    figure, (left, middle, right) = plt.subplots(
        1, 3, figsize=(14, 4.8), width_ratios=(1.15, 1, 0.8), facecolor="white"
    )
    draw_distances(left, builds)
    draw_times(middle, builds)
    draw_growth(right, builds)
    figure.legend(*middle.get_legend_handles_labels(), loc="lower center", ncols=len(SERIES), frameon=False)
    figure.tight_layout(rect=(0, 0.06, 1, 1))
    figure.savefig(chart, metadata={"Date": None})


if __name__ == "__main__":
    main()
