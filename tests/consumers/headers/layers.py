#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Refuses includes that break the library's layering, and public headers that are too long to be read.

    layers.py INCLUDE_DIR

A public header includes public headers that come before it in the table below, and its own definitions in detail/.
The includes of a detail header count as those of each public header that reaches it. No header without a star includes
one with a star. In detail/, arguments/ reaches no kernel, kernels/ never error.hpp, and files/ never Eigen; and
detail/NAME.hpp, the definitions of NAME.hpp, is reached only from NAME.hpp's row or a later one. The headers that need
MPI are separate.
"""

import re
import sys
from pathlib import Path

# Rows from the ground up; within a row, later steps may include earlier ones. *: parses JSON.
ROWS = [
    ["version", "error"],
    ["scalar device dtype", "ids", "hidden", "types", "config"],
    ["random", "position_ids initialization sparse_gradient safetensors* config_json*"],
    ["table", "embedding", "quantized_embedding"],
    ["dropout resize lm_head position_embeddings"],
    ["embeddings"],
    ["checkpoint*"],
    ["pretrained* quantized_checkpoint*"],
    ["gpt2*"],
    ["communicator", "mpi*"],
]
LONGEST = 315  # lines of a public header
UMBRELLA, APART = "gpt2.hpp", {"communicator.hpp", "mpi.hpp"}

LAYER = {}  # public header -> (row, step)
PARSING = set()
for _row, _steps in enumerate(ROWS):
    for _step, _names in enumerate(_steps):
        for _name in _names.split():
            LAYER[f"{_name.rstrip('*')}.hpp"] = (_row, _step)
            if _name.endswith("*"):
                PARSING.add(f"{_name.rstrip('*')}.hpp")

INCLUDE = re.compile(r'^\s*#\s*include\s*(?:"([^"]+)"|<([^>]+)>)', re.MULTILINE)
EIGEN = re.compile(r"^(unsupported/)?Eigen/")


def parses_json(header: str) -> bool:
    return header in PARSING


def read_includes(folder: Path) -> tuple[dict[str, list[str]], list[str]]:
    """Header -> its includes, ours under the same names as the headers; and faults found on the way."""
    headers, faults = {}, []
    for path in sorted(folder.rglob("*.hpp")):
        name = path.relative_to(folder).as_posix()
        headers[name] = []
        text = path.read_text(encoding="utf-8")
        for quoted, angled in INCLUDE.findall(text):
            if quoted and not quoted.startswith("gpt2/"):
                faults.append(f'{name} includes "{quoted}": our own headers are named "gpt2/…"')
            headers[name].append((quoted or angled).removeprefix("gpt2/"))
        lines = len(text.splitlines())
        if not name.startswith("detail/") and lines > LONGEST:
            faults.append(f"{name} has {lines} lines, more than {LONGEST}: its definitions belong into detail/")
    return headers, faults


def reached(header: str, headers: dict[str, list[str]], only_details: bool) -> dict[str, str]:
    """Every header that a header includes, directly or through ours (or only our detail headers) -> its includer."""
    seen: dict[str, str] = {}
    waiting = [header]
    while waiting:
        through = waiting.pop()
        for included in headers.get(through, []):
            if included not in seen:
                seen[included] = through
                if included in headers and (included.startswith("detail/") or not only_details):
                    waiting.append(included)
    return seen


def check_public(header: str, headers: dict[str, list[str]]) -> list[str]:
    faults = []
    for included, through in sorted(reached(header, headers, only_details=True).items()):
        via = "" if through == header else f" (through {through})"
        owner = included.removeprefix("detail/") if included.startswith("detail/") else ""
        if included in LAYER:
            # A header's own definitions include it.
            if LAYER[included] >= LAYER[header] and included != header:
                faults.append(f"{header} includes {included}{via}, which does not stand before it")
            if included in PARSING and header not in PARSING:
                faults.append(f"{header} includes {included}{via}, which parses JSON")
        elif owner in LAYER and LAYER[owner][0] > LAYER[header][0]:
            faults.append(f"{header} includes {included}{via}, the definitions of a later row")
        elif included.startswith("detail/mpi/") and header not in APART:
            faults.append(f"{header} includes {included}{via}, which is mpi.hpp's")
        elif included.startswith("nlohmann/") and header not in PARSING:
            faults.append(f"{header} includes <{included}>{via}, but is not one that parses JSON")
        elif included == "iostream":
            faults.append(f"{header} includes <iostream>{via}")
    return faults


def check_room(header: str, headers: dict[str, list[str]]) -> list[str]:
    faults = []
    for included, through in sorted(reached(header, headers, only_details=False).items()):
        via = "" if through == header else f" (through {through})"
        if header.startswith("detail/arguments/") and included.startswith("detail/kernels/"):
            faults.append(f"{header} includes {included}{via}: arguments know no kernel")
        if header.startswith("detail/kernels/") and included == "error.hpp":
            faults.append(f"{header} includes error.hpp{via}: kernels throw nothing")
        if header.startswith("detail/files/") and EIGEN.match(included):
            faults.append(f"{header} includes <{included}>{via}: files know no Eigen")
    return faults


def check(folder: Path) -> list[str]:
    """The faults of the headers in a folder, one line each."""
    headers, faults = read_includes(folder)
    for name, includes in headers.items():
        if name not in LAYER and not name.startswith("detail/"):
            faults.append(f"{name} is in no row; the table in {Path(__file__).name} places it")
        for included in includes:
            if included.startswith("detail/") and included not in headers:
                faults.append(f"{name} includes {included}, which does not exist")
            if included in APART and name not in APART and not name.startswith("detail/mpi/"):
                faults.append(f"{name} includes {included}, which stands apart")
        faults += check_public(name, headers) if name in LAYER else check_room(name, headers)
    if UMBRELLA in headers:
        for name in sorted(set(headers) & set(LAYER) - set(headers[UMBRELLA]) - APART - {UMBRELLA}):
            faults.append(f"{UMBRELLA} does not include {name}")
    return faults


def main() -> int:
    folder = Path(sys.argv[1]) / "gpt2"
    faults = check(folder)
    for fault in faults:
        print(fault)
    count = len(list(folder.rglob("*.hpp")))
    print(f"{folder.name}/: {count} headers, {len(faults)} faults")
    return 1 if faults or not count else 0


if __name__ == "__main__":
    sys.exit(main())
