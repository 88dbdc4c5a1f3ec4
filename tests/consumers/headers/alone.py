#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Compiles every header alone, and refuses what its users should not have to pay for.

    alone.py [--jobs N] INCLUDE_DIR WORK_DIR COMPILER [FLAGS...]

Most of the time would go into Eigen. A header that includes Eigen's two big ones, itself or by another of ours, gets
them precompiled; nothing is hidden by that. Nor is a header compiled again that the compiler has read in another's
compile as it would in its own: after nothing but what it includes itself, as detail/NAME.hpp at the end of NAME.hpp.
"""

import argparse
import concurrent.futures
import os
import re
import subprocess
import sys
from pathlib import Path

from layers import APART, LAYER, parses_json, reached, read_includes

UNWANTED = {"iostream", "fstream", "filesystem", "regex"}
UNWANTED_FOLDER = "nlohmann"
BIG = {"Eigen/Core", "unsupported/Eigen/CXX11/Tensor"}


def run(command, **options):
    environment = {**os.environ, "LC_ALL": "C"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, **options)


class Headers:
    def __init__(self, folder, work, compile_command, pool):
        self.work = work
        self.compile_command = [*compile_command, f"-I{folder}"]
        self.folder = folder / "gpt2"
        self.includes, _ = read_includes(self.folder)
        self.big = work / "big.hpp"
        self.files_of_big = pool.submit(self.precompile)

    def precompile(self):
        """The files that Eigen's big headers are."""
        self.big.write_text("".join(f"#include <{header}>\n" for header in sorted(BIG)), encoding="utf-8")
        rule = self.work / "big.d"
        made = run([*self.compile_command, "-MD", "-MF", rule, "-x", "c++-header", self.big, "-o", f"{self.big}.gch"])
        if made.returncode != 0:
            raise RuntimeError(made.stderr)
        return files_in(rule)

    def plan(self):
        """The headers to compile; and for each of the others why it need not be."""
        compiled, remarks = [], {}
        for name in sorted(self.includes, key=self.order):
            if self.only_includes(name):
                remarks[name] = "only includes others"
            elif name not in remarks:
                compiled.append(name)
                for other in self.read_as_alone(name):
                    if other not in compiled and not self.must_be_lean(other):
                        remarks.setdefault(other, f"is read by {name} as it would be alone")
        # While that is precompiled, those that do not need it.
        return sorted(compiled, key=self.gets_big), remarks

    def order(self, name):
        """First those that nothing but their own compile can check, then those that read the most."""
        return not self.must_be_lean(name), -len(self.reached(name)), name.startswith("detail/"), name

    def reached(self, *names):
        return set().union(*(reached(name, self.includes, False) for name in names))

    def check(self, name):
        """What is wrong with a header, as lines; a remark."""
        big = self.files_of_big.result() if self.gets_big(name) else []
        rule = self.work / f"{name.replace('/', '_')}.d"
        precompiled = ["-include", self.big] if big else []
        process = run([*self.compile_command, *precompiled, "-fsyntax-only", "-MD", "-MF", rule, "-x", "c++", "-"],
                      input=f"#include <gpt2/{name}>\n")  # fmt: skip
        if re.search(r"fatal error: '?mpi\.h", process.stderr) and needs_mpi(name):
            return [], "is not compiled: there is no MPI"
        if process.returncode != 0 or process.stderr:
            return [f"does not compile cleanly:\n{process.stderr}"], ""
        files = files_in(rule) + big
        if not any(path.parts[-len(Path(name).parts) :] == Path(name).parts for path in files):
            return ["is not among the files that the compiler says it reads"], ""
        if not self.must_be_lean(name):
            return [], "compiles"
        return [f"pulls in {path}" for path in files
                if path.name in UNWANTED or UNWANTED_FOLDER in path.parts], "compiles"  # fmt: skip

    def gets_big(self, name):
        return self.reached(name) >= BIG

    @staticmethod
    def must_be_lean(name):
        return name in LAYER and not parses_json(name)

    def only_includes(self, name):
        text = (self.folder / name).read_text(encoding="utf-8")
        return not re.sub(r"//.*|#\s*(pragma once|include\b.*)|\s", "", text)

    def read_as_alone(self, name):
        """The headers before whose own text a compile of this one has read just what they include."""
        begun, read, found = set(), set(BIG) if self.gets_big(name) else set(), []

        def visit(header):
            if header in begun:
                return
            begun.add(header)
            own = self.includes.get(header, [])
            definitions = own[-1:] if own[-1:] == [f"detail/{header}"] else []
            first = own[: len(own) - len(definitions)]
            for included in first:
                visit(included)
            if header != name and header in self.includes and read <= self.reached(*first) | set(first):
                found.append(header)
            read.add(header)
            for included in definitions:
                visit(included)

        visit(name)
        return found


def files_in(rule):
    return [Path(word) for word in rule.read_text(encoding="utf-8").replace("\\\n", " ").split()]


def needs_mpi(name):
    return name in APART or name.startswith("detail/mpi/")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("folder", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("compiler", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    faulty = 0
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        headers = Headers(arguments.folder, arguments.work, arguments.compiler, pool)
        compiled, remarks = headers.plan()
        for name, (faults, remark) in zip(compiled, pool.map(headers.check, compiled)):
            remarks[name] = remark if not faults else "\n".join(faults)
            faulty += bool(faults)
    for name, remark in sorted(remarks.items()):
        print(f"{name} {remark}")
    print(f"{len(remarks)} headers, {faulty} faulty")
    return 1 if faulty or not compiled else 0


if __name__ == "__main__":
    sys.exit(main())
