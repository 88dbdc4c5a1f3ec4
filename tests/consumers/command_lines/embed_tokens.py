#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs examples/embed_tokens with good and bad input, from a folder of its own.

    embed_tokens.py EMBED_TOKENS REPOSITORY
"""

import json
import struct
import sys
from pathlib import Path

from command_line import CommandLine, main

# Arguments, and the text that the one line on stderr must contain.
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


def check(command: CommandLine, repository: Path) -> None:
    # With no arguments it says what it uses; the same, said explicitly, gives the same table.
    checkpoint = str(repository / "tests/reference/checkpoints/gpt2-tiny")
    table = command.succeed(checkpoint, "--ids", "0,10,1")
    default = command.succeed()
    if not default.endswith(table) or "bundled" not in default:
        command.fault(f"without arguments:\n{default}expected to end with\n{table}")

    # Two ways to give the positions of two tokens.
    ways = [("--past-length", "2"), ("--position-ids", "2,3")]
    if len({command.succeed("--ids", "5,6", *way) for way in ways}) != 1:
        command.fault("--past-length 2 and --position-ids 2,3 are different")
    padded = command.succeed("--ids", "0,5,6", "--attention-mask", "0,1,1").splitlines()
    if padded[-2:] != command.succeed("--ids", "5,6").splitlines()[-2:] or "(padding)" not in padded[-3]:
        command.fault("a padded sequence is not the sequence after its padding")

    for ids, shape in [("5,6", [2, 24]), ("5,6;7,8;9,9", [3, 2, 24])]:
        command.succeed("--ids", ids, "--out", "hidden.safetensors")
        data = (command.folder / "hidden.safetensors").read_bytes()
        header = json.loads(data[8 : 8 + struct.unpack("<Q", data[:8])[0]])
        if header["hidden"]["shape"] != shape or header["hidden"]["dtype"] != "F32":
            command.fault(f"--out for {ids} has written {header}")


if __name__ == "__main__":
    sys.exit(main(BAD_INPUT, check))
