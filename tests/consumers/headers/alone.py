#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Compiles every header alone, and refuses what its users should not have to pay for.

    alone.py [--jobs N] INCLUDE_DIR WORK_DIR COMPILER [FLAGS...]

Most of the time would go into Eigen. A header that includes Eigen's two big ones, itself or by another of ours, gets
them precompiled; nothing is hidden by that. If NAME.hpp ends by including detail/NAME.hpp, which includes NAME.hpp, only
NAME.hpp is compiled: whichever is named first, the definitions come after all declarations and their own includes. And
a header that only includes others is left to the programs that include it.
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

    def in_order(self):
        """The headers, first those that are checked while Eigen is precompiled."""
        return sorted(self.includes, key=lambda name: (self.gets_big(name), name))

    def check(self, name):
        """What is wrong with a header, as lines; a remark."""
        if self.follows_its_contract(name):
            return [], "compiles if its contract does"
        if not self.must_be_lean(name) and self.only_includes(name):
            return [], "only includes others"
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
        return reached(name, self.includes, False).keys() >= BIG

    @staticmethod
    def must_be_lean(name):
        return name in LAYER and not parses_json(name)

    def only_includes(self, name):
        text = (self.folder / name).read_text(encoding="utf-8")
        return not re.sub(r"//.*|#\s*(pragma once|include\b.*)|\s", "", text)

    def follows_its_contract(self, name):
        """Whether this is detail/NAME.hpp, includes NAME.hpp by no other header, and is the last thing in that."""
        contract = name.replace("detail/", "", 1)
        own = self.includes[name]
        if contract == name or contract not in own or self.includes.get(contract, [""])[-1] != name:
            return False
        last = (self.folder / contract).read_text(encoding="utf-8").splitlines()[-1]
        others = (header for header in own if header != contract)
        return name in last and not any(contract in reached(header, self.includes, False) for header in others)


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
        names = headers.in_order()
        for name, (faults, remark) in zip(names, pool.map(headers.check, names)):
            print("\n".join(f"{name} {line}" for line in faults or [remark]))
            faulty += bool(faults)
    print(f"{len(names)} headers, {faulty} of them faulty")
    return 1 if faulty or not names else 0


if __name__ == "__main__":
    sys.exit(main())
