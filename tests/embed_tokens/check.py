#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs examples/embed_tokens with good and bad input, from a folder of its own.

    check.py EMBED_TOKENS REPOSITORY
"""

import json
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

# Arguments, and what the one line on stderr must say.
BAD_INPUT = [
    (["--ids", "0,99"], "wte: input_ids[0, 1] = 99 is outside [0, 26)"),
    (["--ids=0"], "--ids=0"),
    (["--ids"], "--ids needs a value"),
    (["--ids", ""], "is not a whole number"),
    (["--ids", "0,x"], '"x" is not a whole number'),
    (["--ids", "1.5"], '"1.5" is not a whole number'),
    (["--ids", "99999999999999999999"], "does not fit 64 bits"),
    (["--ids", "0,1;2"], "sequence 1 has 1 numbers"),
    (["--ids", "-1"], "input_ids[0, 0] = -1"),
    (["--past-length", "-1"], "past_length = -1 is negative"),
    (["--past-length", "31"], "n_positions"),
    (["--position-ids", "1,2,33"], "n_positions"),
    (["--position-ids", "1,2,3,4"], "position_ids is [1, 4]"),
    (["--attention-mask", "0,1,2"], "is neither 0 nor 1"),
    (["--attention-mask", "1,1"], "--attention-mask"),
    (["--past-length", "1", "--position-ids", "1,2,3"], "give one of"),
    (["--unknown"], "unknown option --unknown"),
    (["one", "two"], "two checkpoints"),
    (["no-such-folder", "--ids", "0"], "no-such-folder"),
    ([".", "--ids", "0"], "config.json"),
    (["--out", "no-such-folder/hidden.safetensors"], "no-such-folder/hidden.safetensors"),
]


def main() -> int:
    program, repository = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
    faults = []

    with tempfile.TemporaryDirectory(prefix="gpt2-embed-tokens-") as folder:

        def run(*arguments: str) -> subprocess.CompletedProcess:
            return subprocess.run([program, *arguments], cwd=folder, capture_output=True, text=True, timeout=60)

        def succeed(*arguments: str) -> str:
            result = run(*arguments)
            if result.returncode != 0 or result.stderr:
                faults.append(f"{arguments}: status {result.returncode}, {result.stderr!r}")
            return result.stdout

        for arguments, words in BAD_INPUT:
            result = run(*arguments)
            if result.returncode != 2 or result.stderr.count("\n") != 1 or words not in result.stderr:
                faults.append(f"{arguments}: status {result.returncode}, {result.stderr!r}, expected {words!r}")

        if not succeed("--help").startswith("Usage: embed_tokens"):
            faults.append("--help does not print the usage")

        # With no arguments it says what it uses; the same, said explicitly, gives the same table.
        checkpoint = str(repository / "tests/reference/checkpoints/gpt2-tiny")
        table = succeed(checkpoint, "--ids", "0,10,1")
        default = succeed()
        if not default.endswith(table) or "bundled" not in default:
            faults.append(f"without arguments:\n{default}expected to end with\n{table}")

        # Three ways to say where two tokens stand.
        ways = [("--past-length", "2"), ("--position-ids", "2,3")]
        if len({succeed("--ids", "5,6", *way) for way in ways}) != 1:
            faults.append("--past-length 2 and --position-ids 2,3 are different")
        padded = succeed("--ids", "0,5,6", "--attention-mask", "0,1,1").splitlines()
        if padded[-2:] != succeed("--ids", "5,6").splitlines()[-2:] or "(padding)" not in padded[-3]:
            faults.append("a padded sequence is not the sequence behind its padding")

        for ids, shape in [("5,6", [2, 24]), ("5,6;7,8;9,9", [3, 2, 24])]:
            succeed("--ids", ids, "--out", "hidden.safetensors")
            data = (Path(folder) / "hidden.safetensors").read_bytes()
            header = json.loads(data[8 : 8 + struct.unpack("<Q", data[:8])[0]])
            if header["hidden"]["shape"] != shape or header["hidden"]["dtype"] != "F32":
                faults.append(f"--out for {ids} has written {header}")

    for fault in faults:
        print(fault)
    print(f"{len(BAD_INPUT)} kinds of bad input; {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
