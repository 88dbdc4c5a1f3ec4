#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Opens every case of the corpus of damaged checkpoints, each in a process of its own.

usage: run.py OPEN_CHECKPOINT

A case fails if the program crashes, takes too long, needs too much memory, or if it accepts what it should refuse,
refuses what it should accept, or gives another kind of error or another message than the corpus expects.
"""

import concurrent.futures
import json
import os
import pathlib
import subprocess
import sys
import tempfile

SECONDS = 60  # for machines that are busy, and for sanitizers; a case takes some milliseconds
ADDRESS_SPACE = 512 * 1024  # KiB; the largest file of the corpus, mapped, has 100 MB
LIMITED = ["/bin/sh", "-c", f'ulimit -v {ADDRESS_SPACE} && exec "$0" "$@"']


def run(*command):
    return subprocess.run(command, capture_output=True, timeout=SECONDS)


def fault(program, folder, case):
    """The fault of a case, or nothing."""
    try:
        result = run(*program, case["open"], folder / case["path"])
    except subprocess.TimeoutExpired:
        return f"took more than {SECONDS} s"
    output = result.stdout.decode(errors="backslashreplace").strip()
    kind, _, message = output.partition("\n")
    expected_status = 0 if case["expect"] == "ok" else 2
    if result.returncode != expected_status or kind != case["expect"]:
        return (
            f"status {result.returncode}: {output} {result.stderr.decode(errors='backslashreplace')[:2000]}"
        )
    if case["says"] not in message:
        return f"the message does not say {case['says']!r}: {message}"
    if "\n" in message or len(message) > 2000:
        return f"the message is not one short line: {message[:2000]!r}"
    return None


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    program = os.path.abspath(sys.argv[1])
    with tempfile.TemporaryDirectory(prefix="gpt2-damaged-") as name:
        folder = pathlib.Path(name)
        maker = pathlib.Path(__file__).with_name("make_damaged_checkpoints.py")
        subprocess.run([sys.executable, str(maker), name], check=True)
        cases = json.loads((folder / "manifest.json").read_text())
        # AddressSanitizer reserves terabytes, and does not start with a limit.
        limited = run(*LIMITED, program).returncode == 64
        command = [*LIMITED, program] if limited else [program]
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            faults = list(pool.map(lambda case: fault(command, folder, case), cases))
    failed = [(case, text) for case, text in zip(cases, faults) if text]
    for case, text in failed:
        print(f"FAILED {case['path']} {case['name']!r}: expected {case['expect']}; {text}")
    accepted = sum(case["expect"] == "ok" for case in cases)
    print(
        f"{len(cases)} cases, {accepted} of them legal: {len(cases) - len(failed)} as expected, {len(failed)} not"
        + ("" if limited else "; without a memory limit, which the program does not start with")
    )
    sys.exit(1 if failed or len(cases) < 300 else 0)


if __name__ == "__main__":
    main()
