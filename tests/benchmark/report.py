#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Merges the results of both builds and prints ratios: the goals first, then everything.

    report.py [--blas BLAS.json] [--peers PEERS.json] O2.json NATIVE.json COMPILE_TIME.json MERGED.json

BLAS.json has the results of a program with a BLAS, PEERS.json those of contestants that another program has measured.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

BUILDS = ("-O2", "native")
BLAS = "native, BLAS"  # only some groups
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
    denominator: tuple[str, ...]  # empty: the goal is for the numerator itself
    relation: str
    bound: float
    builds: tuple[str, ...] = BUILDS
    quantity: str = "microseconds"
    denominator_group: str = ""  # if it is another


O2 = ("-O2",)
NATIVE = ("native",)
WITH_BLAS = (BLAS,)


def at_most(
    name: str,
    group: str,
    bound: float,
    limit: str = "limit",
    builds: tuple[str, ...] = BUILDS,
    ours: str = "ours",
) -> Goal:
    return Goal(f"{name}: {ours} / {limit}", group, (ours,), (limit,), "<=", bound, builds)


def faster(name: str, group: str, peer: str, factor: float, builds: tuple[str, ...] = BUILDS) -> Goal:
    peers = TORCH if peer == "torch" else (peer,)
    return Goal(f"{name}: {peer} / ours", group, peers, ("ours",), ">=", factor, builds)


def scales(name: str, operation: str, factor: float) -> Goal:
    """One thread's processor time divided by the wall-clock time of two."""
    one, two = f"{operation}/1", f"{operation}/2"
    return Goal(
        f"{name}: one thread / two", one, ("ours",), ("ours",), ">=", factor, denominator_group=two
    )


# The sums' groups in the table of goals.
DRAWS = {"sum": ("uniform", "zipf"), "sum of the same": ("uniform",)}


def variants_of_sum(shape: str) -> Iterator[tuple[str, str]]:
    """Name and group."""
    for operation, draws in DRAWS.items():
        for ids in draws:
            if operation == "sum of the same" and shape == "32x1024":
                continue
            name = f"sum {shape}, {ids if operation == 'sum' else 'same ids'}"
            yield name, f"{operation}/{shape}/768/{ids}/1"


def goals_of_sums() -> Iterator[Goal]:
    for shape, bound in (("8x1024", 1.0), ("32x1024", 1.1)):
        for name, group in variants_of_sum(shape):
            yield at_most(name, group, 1.08, "bare", O2)
            yield at_most(name, group, bound, builds=O2, ours="ours, owned")
            yield at_most(name, group, 1.1, "ours", O2, ours="ours, 16 bytes on")
            yield at_most(name, group, 1.1, "ours", O2, ours="ours, 4 bytes on")
    for shape in ("4x64", "1x1024"):
        for name, group in variants_of_sum(shape):
            yield faster(name, group, "loop", 1.0)
            yield faster(name, group, "torch", 1.2)
    yield Goal("one token: ours, us", "sum/1x1/768/uniform/1", ("ours",), (), "<=", 0.2)
    yield faster("one token", "sum/1x1/768/uniform/1", "torch", 20.0)
    for shape in ("1x8", "1x64"):
        yield faster(f"decoding {shape}", f"sum/{shape}/768/uniform/1", "loop", 1.0)
    for batch in (8, 32):
        group = f"sum and layer norm/{batch}x1024/768/uniform/1"
        yield at_most(f"sum {batch}x1024 and layer norm", group, 0.85, "loop")


def goals_of_lookups_and_gradients() -> Iterator[Goal]:
    for ids in ("uniform", "zipf"):
        for scalar, bound in (("bfloat16", 0.95), ("half", 0.9), ("int8", 0.85)):
            yield at_most(f"{scalar} rows to float, {ids}", f"{scalar} rows/8x1024/768/{ids}/1", bound)
    for ids, factor in (("uniform", 1.3), ("zipf", 1.0)):
        name, group = f"backward 8x1024, {ids}", f"backward/8x1024/768/{ids}/1"
        yield at_most(name, group, 1.3)
        yield faster(name, group, "loop", factor)
        name, group = f"sparse gradient, {ids}", f"sparse gradient/8x1024/768/{ids}/1"
        yield at_most(name, group, 1.9)
        yield faster(name, group, "torch", 1.0)


def goals_of_the_head() -> Iterator[Goal]:
    for scalar, bound in (("", 1.0), ("bfloat16 ", 1.05), ("int8 ", 1.1)):
        yield at_most(f"{scalar}logits n = 1", f"{scalar}logits/1/768/-/1", bound)
    yield faster("logits n = 8", "logits/8/768/-/1", "eigen", 3.0, O2)
    yield faster("logits n = 64", "logits/64/768/-/1", "torch", 1.0, NATIVE + WITH_BLAS)
    for n in (1, 8):
        yield at_most(f"top_k n = {n} (limit: logits)", f"top_k/{n}/768/-/1", 1.05)
    for n, builds, bound in ((64, NATIVE, 1.0), (64, WITH_BLAS, 0.7), (1024, NATIVE, 1.1), (1024, WITH_BLAS, 0.95)):
        for threads in (1, 2):
            group = f"cross entropy/{n}/768/-/{threads}"
            yield at_most(f"cross-entropy n = {n}, threads: {threads}", group, bound, "torch", builds)
    yield faster("checkpoint (limit: reading the file)", "checkpoint/1x1024/768/uniform/1", "limit", 300.0)


def goals_of_threads() -> Iterator[Goal]:
    yield scales("sum 8x1024", "sum/8x1024/768/uniform", 1.8)
    yield scales("sum 32x1024", "sum/32x1024/768/uniform", 1.8)
    for n in (1, 8, 64):
        yield scales(f"logits n = {n}", f"logits/{n}/768/-", 1.8)
    yield scales("backward 8x1024", "backward/8x1024/768/uniform", 1.6)
    yield scales("sparse gradient", "sparse gradient/8x1024/768/uniform", 1.6)


def all_goals() -> list[Goal]:
    return [
        *goals_of_sums(),
        *goals_of_lookups_and_gradients(),
        *goals_of_the_head(),
        *goals_of_threads(),
    ]


def read_results(path: Path) -> tuple[dict[str, object], Results]:
    """The results that Google Benchmark wrote: medians, or the only run."""
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


def least(
    results: Results, group: str, names: tuple[str, ...], quantity: str = "microseconds"
) -> float | None:
    contestants = results.get(group, {})
    return min((contestants[name][quantity] for name in names if name in contestants), default=None)


def ratio(results: Results, goal: Goal) -> float | None:
    above = least(results, goal.group, goal.numerator, goal.quantity)
    below = least(results, goal.denominator_group or goal.group, goal.denominator, goal.quantity)
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
    """Prints the goals; results of builds that a goal does not apply to are in brackets."""
    rows = [["goal", "bound", *results, "met"]]
    judged = []
    for goal in all_goals():
        values = {build: ratio(measured, goal) for build, measured in results.items()}
        cells = []
        for build, value in values.items():
            text = "-" if value is None else f"{value:.3g}"
            cells.append(text if build in goal.builds else f"({text})")
        measured = [value for build in goal.builds if (value := values.get(build)) is not None]
        met = all(is_met(value, goal) for value in measured) if measured else None
        judged.append({**asdict(goal), "values": values, "met": met})
        verdict = {True: "yes", False: "NO", None: "-"}[met]
        rows.append([goal.name, f"{goal.relation} {goal.bound:g}", *cells, verdict])
    print_table(rows)
    return judged


def print_everything(results: Results) -> None:
    """One row for each group: our time, the others' relative to it, and memory beside inputs and outputs."""
    others = (
        "limit",
        "bare",
        "loop",
        "eigen",
        *TORCH,
        "max",
        "torch, dense",
        "ours, owned",
        "bare, owned",
        "ours, 16 bytes on",
        "ours, 4 bytes on",
        "ours, fresh",
        "ours, dense",
        "ours, copied",
    )
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


# The table of the README and of the guide: operation -> group.
QUOTED = {
    "sum wte + wpe, 8 × 1,024": "sum/8x1024/768/uniform/1",
    "the same, ids as frequent as words (Zipf)": "sum/8x1024/768/zipf/1",
    "sum wte + wpe, 32 × 1,024": "sum/32x1024/768/uniform/1",
    "bfloat16 rows to float, 8 × 1,024": "bfloat16 rows/8x1024/768/uniform/1",
    "half rows to float": "half rows/8x1024/768/uniform/1",
    "int8 rows to float": "int8 rows/8x1024/768/uniform/1",
    "backward, 8 × 1,024, dense": "backward/8x1024/768/uniform/1",
    "the same, ids as frequent as words": "backward/8x1024/768/zipf/1",
    "backward, sparse": "sparse gradient/8x1024/768/uniform/1",
    "logits of one state": "logits/1/768/-/1",
    "logits of one state, bfloat16": "bfloat16 logits/1/768/-/1",
    "logits of one state, int8": "int8 logits/1/768/-/1",
    "logits of eight states": "logits/8/768/-/1",
    "sum 8 × 1,024, two threads": "sum/8x1024/768/uniform/2",
    "sum 32 × 1,024, two threads": "sum/32x1024/768/uniform/2",
    "backward 8 × 1,024, two threads": "backward/8x1024/768/uniform/2",
    "logits of one state, two threads": "logits/1/768/-/2",
}

# Its columns: heading, build, contestants of which the fastest counts.
COLUMNS = (
    ("-O2", "-O2", ("ours",)),
    ("-O3 -march=native", "native", ("ours",)),
    ("owned, on huge pages", "-O2", ("ours, owned",)),
    ("bare loop, SSE", "native", ("bare",)),
    ("PyTorch", "native", TORCH),
    ("plain loop (llm.c's), native", "native", ("loop",)),
    ("Eigen expression, native", "native", ("eigen",)),
    ("MAX", "native", ("max",)),
)


def print_quoted(results: dict[str, Results]) -> None:
    """Times divided by that of the limit, as Markdown."""
    print("| | " + " | ".join(heading for heading, _, _ in COLUMNS) + " |")
    print("|---" * (1 + len(COLUMNS)) + "|")
    for name, group in QUOTED.items():
        cells = []
        for _, build, contestants in COLUMNS:
            time = least(results[build], group, contestants)
            limit = least(results[build], group, ("limit",))
            cells.append(f"{time / limit:.2f}" if time is not None and limit else "-")
        print(f"| {name} | " + " | ".join(cells) + " |")


def print_include_time(compile_time: dict[str, list[dict[str, object]]]) -> None:
    """The compile time of embedding.hpp, beside that of the foreign headers that it needs."""
    needed = compile_time["needed"]
    for header in compile_time["headers"]:
        if header["header"] != "embedding.hpp":
            continue
        time = header["seconds"] / needed[", ".join(header["needed"])]
        verdict = "yes" if time <= 1.2 else "NO"
        print(f"\ninclude time of embedding.hpp / what it needs of Eigen: {time:.2f} <= 1.2: {verdict}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--blas", type=Path)
    parser.add_argument("--peers", type=Path)
    for name in ("o2", "native", "compile_time", "merged"):
        parser.add_argument(name, type=Path)
    paths = parser.parse_args()

    contexts, results = {}, {}
    for build, path in zip((*BUILDS, BLAS), (paths.o2, paths.native, paths.blas), strict=True):
        if path:
            contexts[build], results[build] = read_results(path)
    if paths.peers:
        context, peers = read_results(paths.peers)
        for build in BUILDS:
            contexts[build].update(context)
            for group, contestants in peers.items():
                results[build].setdefault(group, {}).update(contestants)
    print("Goals. Times are medians, one thread, n_embd = 768, vocab_size = 50257.\n")
    judged = judge(results)
    times = json.loads(paths.compile_time.read_text(encoding="utf-8"))
    print_include_time(times)
    print("\nTime divided by that of the limit, for the README\n")
    print_quoted(results)
    for build, measured in results.items():
        print(f"\nEverything, {build}: group/shape/n_embd/ids/threads; memory beside inputs and outputs\n")
        print_everything(measured)
    content = {
        "contexts": contexts,
        "results": results,
        "goals": judged,
        "compile_time": times,
    }
    paths.merged.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
