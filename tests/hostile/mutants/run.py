#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Puts known bugs back, one at a time, into a copy of the tree, and expects a test to fail for each.

    python3 tests/hostile/mutants/run.py [--work FOLDER] [--list] [--check] [WORD...]

With words, only bugs that have one of them in their description or test. --list prints the bugs and their places;
--list --check, in a second, fails if the code of one is not found exactly once. Needs CMake, Ninja and the tests'
requirements; uses ccache if it is installed. A bug takes as long as the program that must notice it: all of them
together take half an hour, which is why this is no part of the test suite. Status 1 if a bug goes unnoticed or does not
build, 2 if its code is not found exactly once or if a test fails without it.
"""

import argparse
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

from bugs import BUGS
from places import places, renamed, tokens_of

ROOT = pathlib.Path(__file__).resolve().parents[3]
TEST_SECONDS = 300


def target_of(test):
    return {"damaged": "open_checkpoint"}.get(test, test.replace(".", "_"))


def run(*command, **options):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)


def copy_tree(folder):
    """Copies the files that git has or would add, so no build folders. Unchanged files keep their times."""
    names = run("git", "-C", ROOT, "ls-files", "--cached", "--others", "--exclude-standard").stdout.split("\n")
    for name in filter(None, names):
        source, copy = ROOT / name, folder / name
        if not source.exists():
            continue
        copy.parent.mkdir(parents=True, exist_ok=True)
        if not copy.exists() or copy.read_bytes() != source.read_bytes():
            shutil.copyfile(source, copy)


def configure(tree, build):
    launcher = ["-DCMAKE_CXX_COMPILER_LAUNCHER=ccache"] if shutil.which("ccache") else []
    result = run("cmake", "-G", "Ninja", "-S", tree, "-B", build, "-DCMAKE_CXX_COMPILER=g++", "-DCMAKE_BUILD_TYPE=Debug",
                 "-DCMAKE_CXX_FLAGS_DEBUG=-O1", "-DGPT2_EMBEDDINGS_BUILD_EXAMPLES=OFF", *launcher)
    if result.returncode:
        sys.exit(result.stdout)


def outcome(build, test):
    """The result of a bug: it does not build, its test fails, or the test passes."""
    built = run("cmake", "--build", build, "--target", target_of(test), "--parallel", "1")
    if built.returncode:
        return "does not build", built.stdout
    tested = run("ctest", "--test-dir", build, "-R", f"^{test}$", "--no-tests=error", "--timeout", str(TEST_SECONDS),
                 "--output-on-failure")
    return ("fails" if tested.returncode else None), tested.stdout


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", metavar="WORD")
    parser.add_argument("--work", help="where to build; kept, so that the next run is quicker")
    parser.add_argument("--list", action="store_true", help="only say what the bugs are")
    parser.add_argument("--check", action="store_true", help="fail if a bug's code is not found, even if only listing")
    arguments = parser.parse_args()
    bugs = [bug for bug in BUGS
            if not arguments.words or any(word in text for word in arguments.words for text in (bug[0], bug[3]))]

    include = ROOT / "include/gpt2"
    headers = {path.relative_to(include).as_posix(): tokens_of(path.read_text(encoding="utf-8"))
               for path in sorted(include.rglob("*.hpp"))}
    width = max(len(bug[0]) for bug in BUGS)
    faults = []
    found_bugs = []
    for name, original, replacement, test in bugs:
        found = places(original, headers)
        where = f"in {len(found)} places"
        if len(found) == 1:
            found_bugs.append((name, found[0], renamed(replacement, found[0].names), test))
            where = found[0].header
        else:
            faults.append(f"{name}: its code is in {len(found)} places, not one: {original!r}")
        if arguments.list:
            print(f"{name:{width}}  {test:24}  {where}")
    if not bugs:
        faults = ["no such bug"]
    if faults and (arguments.check or not arguments.list):
        print("\n".join(faults))
        sys.exit(2)
    if arguments.list:
        return

    with tempfile.TemporaryDirectory(prefix="gpt2-mutants-") as temporary:
        work = pathlib.Path(arguments.work or temporary).resolve()
        tree, build = work / "tree", work / "build"
        copy_tree(tree)
        configure(tree, build)
        passing = set()
        results = {"fails": 0, "does not build": 0, None: 0}
        for name, place, replacement, test in found_bugs:
            if test not in passing:
                found, log = outcome(build, test)
                if found:
                    print(f"without any bug, {test} {found}:\n{log}")
                    sys.exit(2)
                passing.add(test)
            path = tree / "include/gpt2" / place.header
            text = path.read_text(encoding="utf-8")
            path.write_text(text[: place.begin] + replacement + text[place.end :], encoding="utf-8")
            started = time.monotonic()
            found, _ = outcome(build, test)
            path.write_text(text, encoding="utf-8")
            results[found] += 1
            print(f"{name:{width}}  {test:24}  {found or 'UNNOTICED':14}  {time.monotonic() - started:4.0f} s",
                  flush=True)
        print(f"{len(found_bugs)} bugs, {results['fails']} noticed, {results[None]} not, "
              f"{results['does not build']} not built")
        sys.exit(0 if results["fails"] == len(found_bugs) else 1)


if __name__ == "__main__":
    main()
