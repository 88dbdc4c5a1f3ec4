#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Merges the results of both builds and prints ratios: the goals first, then everything.

    report.py O2.json NATIVE.json COMPILE_TIME.json MERGED.json
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

BUILDS = ("-O2", "native")
TORCH = ("torch", "torch, reused")
UNITS = {"ns": 1e-3, "us": 1.0, "ms": 1e3, "s": 1e6}

# Group -> contestant -> "microseconds" and "peak_bytes", medians.
Results = dict[str, dict[str, dict[str, float]]]


@dataclass
class Goal:
    """`numerator` divided by `denominator`, each the fastest of these contestants, is at most, or at least,
    `bound` in the builds it is meant for."""

    name: str
    group: str
    numerator: tuple[str, ...]
    denominator: tuple[str, ...]  # none: the numerator itself
    relation: str
    bound: float
    builds: tuple[str, ...] = BUILDS
    quantity: str = "microseconds"


def at_most(
    name: str, group: str, bound: float, limit: str = "limit", builds: tuple[str, ...] = BUILDS
) -> Goal:
    return Goal(f"{name}: ours / {limit}", group, ("ours",), (limit,), "<=", bound, builds)


def faster(name: str, group: str, peer: str, factor: float, builds: tuple[str, ...] = BUILDS) -> Goal:
    peers = TORCH if peer == "torch" else (peer,)
    return Goal(f"{name}: {peer} / ours", group, peers, ("ours",), ">=", factor, builds)


# What the sums' groups are called in the table of goals.
DRAWS = {"sum": ("uniform", "zipf"), "sum of the same": ("uniform",)}


def variants_of_sum(shape: str) -> Iterator[tuple[str, str]]:
    """Name and group."""
    for operation, draws in DRAWS.items():
        for ids in draws:
            name = f"sum {shape}, {ids if operation == 'sum' else 'same ids'}"
            yield name, f"{operation}/{shape}/768/{ids}/1"


def goals_of_sums() -> Iterator[Goal]:
    o2 = ("-O2",)
    for name, group in variants_of_sum("8x1024"):
        yield at_most(name, group, 1.0, builds=o2)
        yield faster(name, group, "loop", 1.5, o2)
        yield faster(name, group, "torch", 2.0, o2)
    for ids in ("uniform", "zipf"):
        yield at_most(f"sum 32x1024, {ids}", f"sum/32x1024/768/{ids}/1", 1.3, builds=o2)
    for shape in ("4x64", "1x1024"):
        for name, group in variants_of_sum(shape):
            yield faster(name, group, "loop", 1.0)
            yield faster(name, group, "torch", 1.2)
    yield Goal("one token: ours, us", "sum/1x1/768/uniform/1", ("ours",), (), "<=", 0.3)
    yield faster("one token", "sum/1x1/768/uniform/1", "torch", 8.0)
    for batch in (8, 32):
        group = f"sum and layer norm/{batch}x1024/768/uniform/1"
        yield at_most(f"sum {batch}x1024 and layer norm", group, 0.85, "loop")


def goals_of_lookups_and_gradients() -> Iterator[Goal]:
    for ids in ("uniform", "zipf"):
        for scalar, bound in (("bfloat16", 1.1), ("half", 0.85), ("int8", 0.8)):
            yield at_most(f"{scalar} rows to float, {ids}", f"{scalar} rows/8x1024/768/{ids}/1", bound)
    for ids in ("uniform", "zipf"):
        name, group = f"backward 8x1024, {ids}", f"backward/8x1024/768/{ids}/1"
        yield at_most(name, group, 1.25, builds=("-O2",))
        yield at_most(name, group, 1.15, builds=("native",))
        yield faster(name, group, "loop", 1.3, ("-O2",))
        name, group = f"sparse gradient, {ids}", f"sparse gradient/8x1024/768/{ids}/1"
        yield at_most(name, group, 2.1)
        yield faster(name, group, "torch", 1.0)


def goals_of_the_head() -> Iterator[Goal]:
    native = ("native",)
    yield at_most("logits n = 1, float", "logits/1/768/-/1", 1.15, builds=native)
    yield at_most("logits n = 1, bfloat16", "bfloat16 logits/1/768/-/1", 1.5, builds=native)
    yield at_most("logits n = 1, bfloat16", "bfloat16 logits/1/768/-/1", 2.0, builds=("-O2",))
    yield at_most("logits n = 1, int8", "int8 logits/1/768/-/1", 1.45, builds=native)
    yield faster("logits n = 8", "logits/8/768/-/1", "eigen", 1.3, native)
    yield at_most("top_k n = 1 (limit: logits)", "top_k/1/768/-/1", 1.07)
    yield at_most("top_k n = 8 (limit: logits)", "top_k/8/768/-/1", 1.07)
    yield at_most("cross-entropy n = 64 (limit: materialised)", "cross entropy/64/768/-/1", 1.1)
    yield Goal(
        "cross-entropy n = 1024: memory, ours / materialised",
        "cross entropy/1024/768/-/1",
        ("ours",),
        ("limit",),
        "<=",
        0.02,
        quantity="peak_bytes",
    )
    yield faster("checkpoint (limit: reading the file)", "checkpoint/1x1024/768/uniform/1", "limit", 50.0)


def all_goals() -> list[Goal]:
    return [*goals_of_sums(), *goals_of_lookups_and_gradients(), *goals_of_the_head()]


def read_results(path: Path) -> tuple[dict[str, object], Results]:
    """What Google Benchmark writes, as medians; of what was run once, that."""
    content = json.loads(path.read_text(encoding="utf-8"))
    results: Results = {}
    for run in content["benchmarks"]:
        if run["run_type"] == "aggregate" and run["aggregate_name"] != "median":
            continue
        group, contestant = run["run_name"].partition("/iterations:")[0].rsplit("/", 1)
        results.setdefault(group, {})[contestant] = {
            "microseconds": run["real_time"] * UNITS[run["time_unit"]],
            "peak_bytes": run["peak_bytes"],
        }
    return content["context"], results


def least(results: Results, goal: Goal, names: tuple[str, ...]) -> float | None:
    contestants = results.get(goal.group, {})
    return min((contestants[name][goal.quantity] for name in names if name in contestants), default=None)


def ratio(results: Results, goal: Goal) -> float | None:
    above, below = least(results, goal, goal.numerator), least(results, goal, goal.denominator)
    if not goal.denominator:
        return above
    return above / below if above is not None and below else None


def is_met(value: float, goal: Goal) -> bool:
    return value <= goal.bound if goal.relation == "<=" else value >= goal.bound


def print_table(rows: list[list[str]]) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    rows.insert(1, ["-" * width for width in widths])
    for first, *others in rows:
        cells = [
            first.ljust(widths[0]),
            *(cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)),
        ]
        print("| " + " | ".join(cells) + " |")


def judge(results: dict[str, Results]) -> list[dict[str, object]]:
    """Prints the goals, in brackets what is measured in a build that the goal does not speak of."""
    rows = [["goal", "bound", *BUILDS, "met"]]
    judged = []
    for goal in all_goals():
        values = {build: ratio(results[build], goal) for build in BUILDS}
        cells = []
        for build, value in values.items():
            text = "-" if value is None else f"{value:.3g}"
            cells.append(text if build in goal.builds else f"({text})")
        measured = [value for build in goal.builds if (value := values[build]) is not None]
        met = all(is_met(value, goal) for value in measured) if measured else None
        judged.append({**asdict(goal), "values": values, "met": met})
        verdict = {True: "yes", False: "NO", None: "-"}[met]
        rows.append([goal.name, f"{goal.relation} {goal.bound:g}", *cells, verdict])
    print_table(rows)
    return judged


def print_everything(results: Results) -> None:
    """One row for each group: our time, what others take of it, and memory beside inputs and outputs."""
    others = ("limit", "loop", "eigen", *TORCH, "torch, dense", "ours, fresh", "ours, dense", "ours, copied")
    ratios = [f"{name} / ours" for name in others[1:]]
    rows = [["group", "ours us", "ours / limit", *ratios, "ours MB", "torch MB"]]
    for group, contestants in results.items():
        if "ours" not in contestants:
            continue
        ours = contestants["ours"]["microseconds"]
        times = [contestants[name]["microseconds"] if name in contestants else None for name in others]
        cells = [f"{ours:.2f}", f"{ours / times[0]:.2f}" if times[0] else ""]
        cells += [f"{time / ours:.2f}" if time else "" for time in times[1:]]
        for name in ("ours", "torch"):
            cells.append(f"{contestants[name]['peak_bytes'] / 1e6:.2f}" if name in contestants else "")
        rows.append([group, *cells])
    kept = [i for i in range(len(rows[0])) if any(row[i] for row in rows[1:])]
    print_table([[row[i] for i in kept] for row in rows])


def main() -> None:
    *inputs, compile_time, merged = map(Path, sys.argv[1:])
    contexts, results = {}, {}
    for build, path in zip(BUILDS, inputs, strict=True):
        contexts[build], results[build] = read_results(path)
    print("Goals. Times are medians, one thread, n_embd = 768, vocab_size = 50257.\n")
    judged = judge(results)
    for build in BUILDS:
        print(f"\nEverything, {build}: group/shape/n_embd/ids/threads; memory beside inputs and outputs\n")
        print_everything(results[build])
    content = {
        "contexts": contexts,
        "results": results,
        "goals": judged,
        "compile_time": json.loads(compile_time.read_text(encoding="utf-8")),
    }
    merged.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
