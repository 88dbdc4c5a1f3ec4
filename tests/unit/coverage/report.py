#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Says which lines of the headers the tests have run, and fails if they are fewer than it is told.

    report.py --tools LLVM_PROFDATA LLVM_COV --profiles DIR --include DIR --at-least PERCENT PROGRAM...

The profiles are those that the programs compiled for it have written since the last report; they are removed.
A line counts as run if one instantiation of its template ran it. A template that no program instantiates does not
count.
"""

import argparse
import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path


def run(*command: str | Path) -> str:
    process = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)  # fmt: skip
    if process.returncode != 0:
        raise SystemExit(f"{command[0]} failed:\n{process.stderr}")
    return process.stdout


def counts_of_lines(lcov: str, include: Path) -> dict[str, dict[int, int]]:
    """How often each line of each header was run, of lcov's records: SF:<file>, then DA:<line>,<count>."""
    counts: dict[str, dict[int, int]] = defaultdict(dict)
    header = None
    for record in lcov.splitlines():
        kind, _, value = record.partition(":")
        if kind == "SF":
            path = Path(value).resolve()
            header = str(path.relative_to(include)) if path.is_relative_to(include) else None
        elif kind == "DA" and header is not None:
            line, count = (int(number) for number in value.split(",")[:2])
            counts[header][line] = max(count, counts[header].get(line, 0))
    return counts


def spans(lines: Iterable[int]) -> str:
    """[3, 4, 5, 9] as '3-5 9'."""
    found: list[list[int]] = []
    for line in sorted(lines):
        if found and found[-1][1] == line - 1:
            found[-1][1] = line
        else:
            found.append([line, line])
    return " ".join(f"{first}-{last}" if first < last else str(first) for first, last in found)


def main() -> int:
    parser = argparse.ArgumentParser(description="Line coverage of the headers.")
    parser.add_argument("--tools", nargs=2, required=True)
    parser.add_argument("--profiles", type=Path, required=True)
    parser.add_argument("--include", type=Path, required=True)
    parser.add_argument("--at-least", type=float, required=True, help="percent of all lines")
    parser.add_argument("programs", nargs="+", type=Path)
    options = parser.parse_args()
    profdata, cov = options.tools

    profiles = sorted(options.profiles.glob("*.profraw"))
    if not profiles:
        raise SystemExit(f"There are no profiles in {options.profiles}: run the tests first")
    with tempfile.NamedTemporaryFile(suffix=".profdata") as merged:
        run(profdata, "merge", "-sparse", "-o", merged.name, *profiles)
        first, *others = options.programs
        objects = [first, *(word for program in others for word in ("-object", program))]
        lcov = run(cov, "export", "-format=lcov", "-instr-profile", merged.name, *objects, options.include)
    for profile in profiles:
        profile.unlink()

    counts = counts_of_lines(lcov, options.include.resolve())
    headers = sorted(str(path.relative_to(options.include)) for path in options.include.rglob("*.hpp"))
    total = 0
    total_run = 0
    print(f"{'header':<42} {'lines':>6} {'run':>8}  not run")
    for header in headers:
        lines = counts.get(header, {})
        missed = [line for line, count in lines.items() if count == 0]
        total += len(lines)
        total_run += len(lines) - len(missed)
        share = f"{100 * (len(lines) - len(missed)) / len(lines):.1f} %" if lines else "-"
        print(f"{header:<42} {len(lines):>6} {share:>8}  {spans(missed)}".rstrip())
    if total == 0:
        raise SystemExit("No program says anything of a line of the headers")
    percent = 100 * total_run / total
    print(f"\nLine coverage of the headers: {percent:.2f} %, {total - total_run} of {total} lines were not run")
    if percent < options.at_least:
        print(f"It must be {options.at_least:g} % at least")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
