#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Checks that the README's programs are programs of examples/, and what stands behind each its output.

    check.py REPOSITORY

The first is quickstart.cpp, and ends on the first screen.
"""

import re
import sys
from pathlib import Path

LINES_OF_A_SCREEN = 40
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def check(readme: str, examples: Path) -> list[str]:
    sources = {path.read_text(encoding="utf-8"): path for path in sorted(examples.glob("*.cpp"))}
    blocks = list(FENCE.finditer(readme))
    programs = [i for i, block in enumerate(blocks) if block[1] == "cpp" and "int main(" in block[2]]
    if not programs:
        return ["README.md has no program"]
    faults = []
    for i in programs:
        line = readme.count("\n", 0, blocks[i].start()) + 1
        source = sources.get(blocks[i][2])
        if source is None:
            faults.append(f"line {line}: the program is none of examples/, byte for byte")
        elif i + 1 == len(blocks) or blocks[i + 1][2] != source.with_suffix(".output").read_text(encoding="utf-8"):
            faults.append(f"line {line}: what stands behind the program is not {source.stem}.output")
    if sources.get(blocks[programs[0]][2]) != examples / "quickstart.cpp":
        faults.append("the first program is not examples/quickstart.cpp")
    last_line = readme.count("\n", 0, blocks[min(programs[0] + 1, len(blocks) - 1)].end()) + 1
    if last_line > LINES_OF_A_SCREEN:
        faults.append(f"the first program's output ends in line {last_line}, beyond line {LINES_OF_A_SCREEN}")
    return faults


def main() -> int:
    repository = Path(sys.argv[1])
    faults = check((repository / "README.md").read_text(encoding="utf-8"), repository / "examples")
    for fault in faults:
        print(fault)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
