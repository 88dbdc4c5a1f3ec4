#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Makes one header of the library, for Compiler Explorer and for projects that copy a file.

    amalgamate.py [--without-json] [--forward FOLDER] INCLUDE_DIR OUTPUT

Everything that gpt2/gpt2.hpp includes; with --without-json, everything of that which parses no JSON. Eigen and
nlohmann/json stay included. With --forward, a folder gets a header of each name that includes OUTPUT, so that code
written for the library's own headers compiles against it.
"""

import argparse
import re
import sys
from pathlib import Path

OURS = re.compile(r'^\s*#\s*include\s*[<"](gpt2/[\w/]+\.hpp)[>"]')
OTHERS = re.compile(r"^\s*#\s*include\s*<([^>]+)>")
CONDITIONAL = re.compile(r"^\s*#\s*(if|ifdef|ifndef|endif)\b")
ONCE = re.compile(r"^\s*#\s*pragma\s+once\b")
SPDX = "// SPDX-License-Identifier:"


class Amalgamation:
    def __init__(self, include: Path):
        self.include = include
        self.lines: list[str] = []
        self.seen: set[str] = set()

    def text_of(self, name: str) -> list[str]:
        return (self.include / name).read_text(encoding="utf-8").splitlines()

    def parses_json(self, name: str, seen: set[str] | None = None) -> bool:
        seen = set() if seen is None else seen
        if name in seen:
            return False
        seen.add(name)
        for line in self.text_of(name):
            ours, others = OURS.match(line), OTHERS.match(line)
            if ours and self.parses_json(ours[1], seen):
                return True
            if others and others[1].startswith("nlohmann/"):
                return True
        return False

    def add(self, name: str, wanted=lambda name: True) -> None:
        """A header, and in the place of each include of ours that header, if it has not been there before."""
        if name in self.seen:
            return
        self.seen.add(name)
        depth = 0
        self.lines += ["", f"// ---- {name}"]
        for line in self.text_of(name):
            ours = OURS.match(line)
            if condition := CONDITIONAL.match(line):
                depth += -1 if condition[1] == "endif" else 1
            if ours and depth:
                # It stays under the condition. Its own includes must not, so they come before.
                for inner in map(OURS.match, self.text_of(ours[1])):
                    if inner and inner[1] not in self.seen:
                        raise SystemExit(f"{name} includes {ours[1]} under a condition, and before {inner[1]}")
            if ours:
                if wanted(ours[1]):
                    self.add(ours[1])
            elif not ONCE.match(line) and not line.startswith(SPDX):
                self.lines.append(line)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--without-json", action="store_true")
    parser.add_argument("--forward", type=Path)
    parser.add_argument("include", type=Path)
    parser.add_argument("output", type=Path)
    arguments = parser.parse_args()

    made = Amalgamation(arguments.include)
    made.add("gpt2/gpt2.hpp", (lambda name: not made.parses_json(name)) if arguments.without_json else lambda name: True)
    numbers = [re.search(rf"^#define GPT2_EMBEDDINGS_VERSION_{part} (\d+)$", "\n".join(made.lines), re.MULTILINE)
               for part in ("MAJOR", "MINOR", "PATCH")]  # fmt: skip
    if not all(numbers):
        raise SystemExit("the version is not among the headers")
    version = ".".join(number[1] for number in numbers)
    licence = (arguments.include.parent / "LICENSE").read_text(encoding="utf-8").rstrip().splitlines()
    head = [
        f"{SPDX} MIT",
        "//",
        f"// gpt2-embeddings {version}, all headers in one{' but those that parse JSON' if arguments.without_json else ''}."
        " Made by cmake/amalgamate.py; do not edit.",
        "//",
        *(f"// {line}".rstrip() for line in licence),
        "",
        "#pragma once",
    ]
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text("\n".join(head + made.lines) + "\n", encoding="utf-8")

    if arguments.forward:
        for name in made.seen:
            path = arguments.forward / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f'#pragma once\n#include "{arguments.output.resolve().as_posix()}"\n', encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
