#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Compiles every header alone, without writing anything, and refuses what its users should not have to pay for.

    alone.py [--jobs N] INCLUDE_DIR WORK_DIR COMPILER [FLAGS...]

Most of the time would go into Eigen and nlohmann/json. The compiler is first asked which files a header reads; those
big ones that it includes anyhow are then given to it precompiled. Nothing is hidden by that: each of our headers that
does not include them is compiled without them.
"""

import argparse
import concurrent.futures
import os
import subprocess
import sys
import threading
from pathlib import Path

from layers import APART, LAYER, parses_json

UNWANTED = {"iostream", "fstream", "filesystem", "regex"}
UNWANTED_FOLDER = "nlohmann"
# The last file of a path that is read tells that the header is included.
BIG = {
    "Eigen/Core": ("Eigen", "Core"),
    "unsupported/Eigen/CXX11/Tensor": ("CXX11", "Tensor"),
    "nlohmann/json.hpp": ("nlohmann", "json.hpp"),
}


def run(command, **options):
    environment = {**os.environ, "LC_ALL": "C"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, **options)


class Headers:
    def __init__(self, folder, work, compile_command):
        self.work = work
        self.compile_command = [*compile_command, f"-I{folder}"]
        self.precompiled = {}
        self.lock = threading.Lock()

    def files_read(self, name):
        """Every file the compiler reads for a program that includes the header alone, or what it says instead."""
        process = run([*self.compile_command, "-M", "-x", "c++", "-"], input=f"#include <gpt2/{name}>\n")
        if process.returncode != 0:
            return None, process.stderr
        return [Path(word) for word in process.stdout.replace("\\\n", " ").split()], ""

    def precompile(self, big):
        """The flags that give the compiler these headers, which it has compiled once."""
        if not big:
            return []
        with self.lock:
            if big not in self.precompiled:
                file = self.work / f"precompiled_{len(self.precompiled)}.hpp"
                file.write_text("".join(f"#include <{header}>\n" for header in big), encoding="utf-8")
                made = run([*self.compile_command, "-x", "c++-header", file, "-o", f"{file}.gch"])
                if made.returncode != 0:
                    raise SystemExit(made.stderr)
                self.precompiled[big] = ["-include", file]
            return self.precompiled[big]

    def check(self, name):
        """What is wrong with a header, as lines; how many files it reads."""
        files, error = self.files_read(name)
        if files is None:
            if name in APART or name.startswith("detail/mpi/"):
                return [], "not compiled: there is no MPI" if "mpi.h" in error else error
            return [f"does not compile:\n{error}"], ""
        if not any(path.parts[-len(Path(name).parts) :] == Path(name).parts for path in files):
            return ["is not among the files that the compiler says it reads"], ""
        faults = []
        if name in LAYER and not parses_json(name):
            faults += [f"pulls in {path}" for path in files
                       if path.name in UNWANTED or UNWANTED_FOLDER in path.parts]  # fmt: skip
        big = tuple(header for header, tail in BIG.items() if any(path.parts[-2:] == tail for path in files))
        process = run([*self.compile_command, *self.precompile(big), "-fsyntax-only", "-x", "c++", "-"],
                      input=f"#include <gpt2/{name}>\n")  # fmt: skip
        if process.returncode != 0 or process.stderr:
            faults.append(f"does not compile cleanly:\n{process.stderr}")
        return faults, f"{len(files)} files"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("folder", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("compiler", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    names = sorted(path.relative_to(arguments.folder / "gpt2").as_posix()
                   for path in (arguments.folder / "gpt2").rglob("*.hpp"))  # fmt: skip
    headers = Headers(arguments.folder, arguments.work, arguments.compiler)
    faulty = 0
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        for name, (faults, remark) in zip(names, pool.map(headers.check, names)):
            print(f"{name}: {remark}" if not faults else "\n".join(f"{name} {fault}" for fault in faults))
            faulty += bool(faults)
    print(f"{len(names)} headers, {faulty} of them faulty")
    return 1 if faulty or not names else 0


if __name__ == "__main__":
    sys.exit(main())
