#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Checks that the README and the guides show programs of examples/, each followed by its output.

    check.py REPOSITORY

The README's first program is quickstart.cpp, and its output ends on the first screen. Files that the README and the
guides link to exist.
"""

import re
import sys
from pathlib import Path

LINES_OF_A_SCREEN = 40
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INCLUDE = re.compile(r"^\\(include|verbinclude) (\S+)$", re.MULTILINE)
LINK = re.compile(r"\]\((?!https?:|#)([^)\s]+)\)")


def line_of(text: str, place: int) -> int:
    return text.count("\n", 0, place) + 1


def check_readme(readme: str, examples: Path) -> list[str]:
    sources = {path.read_text(encoding="utf-8"): path for path in sorted(examples.glob("*.cpp"))}
    blocks = list(FENCE.finditer(readme))
    programs = [i for i, block in enumerate(blocks) if block[1] == "cpp" and "int main(" in block[2]]
    if not programs:
        return ["README.md has no program"]
    faults = []
    for i in programs:
        line = line_of(readme, blocks[i].start())
        source = sources.get(blocks[i][2])
        if source is None:
            faults.append(f"README.md:{line}: the program differs from every file of examples/")
        elif i + 1 == len(blocks) or blocks[i + 1][2] != source.with_suffix(".output").read_text(encoding="utf-8"):
            faults.append(f"README.md:{line}: the program is not followed by {source.stem}.output")
    if sources.get(blocks[programs[0]][2]) != examples / "quickstart.cpp":
        faults.append("README.md: the first program is not examples/quickstart.cpp")
    last_line = line_of(readme, blocks[min(programs[0] + 1, len(blocks) - 1)].end())
    if last_line > LINES_OF_A_SCREEN:
        faults.append(f"README.md:{last_line}: the first program's output ends beyond line {LINES_OF_A_SCREEN}")
    return faults


def check_guide(name: str, guide: str, examples: Path) -> list[str]:
    faults = []
    shown = list(INCLUDE.finditer(guide))
    for i, include in enumerate(shown):
        place = f"{name}:{line_of(guide, include.start())}"
        if not (examples / include[2]).is_file():
            faults.append(f"{place}: examples/{include[2]} does not exist")
        output = Path(include[2]).with_suffix(".output").name
        if include[1] == "include" and (i + 1 == len(shown) or shown[i + 1][0] != rf"\verbinclude {output}"):
            faults.append(f"{place}: the program is not followed by {output}")
    return faults


def check_links(name: str, text: str, folder: Path) -> list[str]:
    text = FENCE.sub(lambda block: "\n" * block[0].count("\n"), text)  # a lambda of C++ is no link
    return [f"{name}:{line_of(text, link.start())}: {link[1]} does not exist"
            for link in LINK.finditer(text) if not (folder / link[1].partition("#")[0]).exists()]


def main() -> int:
    repository = Path(sys.argv[1])
    readme = (repository / "README.md").read_text(encoding="utf-8")
    faults = check_readme(readme, repository / "examples") + check_links("README.md", readme, repository)
    for path in sorted((repository / "cmake/docs").glob("*.md")):
        guide = path.read_text(encoding="utf-8")
        faults += check_guide(path.name, guide, repository / "examples")
        faults += check_links(path.name, guide, path.parent)
    for fault in faults:
        print(fault)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
