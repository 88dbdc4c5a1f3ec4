#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Checks that the README's program is examples/quickstart.cpp, and the output behind it quickstart.output.

    check.py REPOSITORY
"""

import re
import sys
from pathlib import Path

LINES_OF_A_SCREEN = 40
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def main() -> int:
    repository = Path(sys.argv[1])
    readme = (repository / "README.md").read_text(encoding="utf-8")
    blocks = [(block.group(1), block.group(2), readme.count("\n", 0, block.end()) + 1)
              for block in FENCE.finditer(readme)]  # fmt: skip
    languages = [language for language, _, _ in blocks]
    if "cpp" not in languages:
        print("README.md has no block of cpp")
        return 1
    first = languages.index("cpp")
    expected = [("program", "quickstart.cpp"), ("output", "quickstart.output")]
    faults = 0
    for (what, name), (_, text, last_line) in zip(expected, blocks[first : first + 2]):
        if text != (repository / "examples" / name).read_text(encoding="utf-8"):
            print(f"the README's {what} is not examples/{name}, byte for byte")
            faults += 1
        if last_line > LINES_OF_A_SCREEN:
            print(f"the README's {what} ends in line {last_line}, beyond line {LINES_OF_A_SCREEN}")
            faults += 1
    if len(blocks) < first + 2:
        print("no block follows the README's program: its output is missing")
        faults += 1
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
