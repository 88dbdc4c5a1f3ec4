#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs examples/gpt2_generate with good and bad input, from a folder of its own.

    gpt2_generate.py GPT2_GENERATE REPOSITORY
"""

import re
import sys
from pathlib import Path

from command_line import CommandLine, main

# Arguments, and the text that the one line on stderr must contain.
BAD_INPUT = [
    (["--ids", "0,99"], "wte: prompts[0, 1] = 99 is outside [0, 26)"),
    (["--ids", "0;-1"], "prompts[1, 0] = -1"),
    (["--ids"], "--ids needs a value"),
    (["--ids", ""], "is not a whole number"),
    (["--ids", "0;;1"], "is not a whole number"),
    (["--ids", "99999999999999999999"], "does not fit 64 bits"),
    (["--ids", "0", "--max-new-tokens", "-1"], "-1"),
    (["--ids", "0", "--max-new-tokens", "34"], "prompts[0] has 1 tokens, to be followed by 34"),
    (["--ids", "0", "--max-new-tokens", "x"], '"x" is not a whole number'),
    (["--ids", "0,1", "--attention-mask", "0,2"], "neither 0 nor 1"),
    (["--ids", "0,1", "--attention-mask", "0,0"], "leaves nothing"),
    (["--ids", "0,1", "--attention-mask", "1"], "has 1 numbers"),
    (["--ids", "0;1", "--attention-mask", "1"], "a row for every prompt"),
    (["--attention-mask", "1"], "--ids is missing"),
    (["some-folder"], "--ids is missing"),
    (["--unknown"], "unknown option --unknown"),
    (["one", "two"], "two checkpoints"),
    (["no-such-folder", "--ids", "0"], "no-such-folder"),
]


def check(command: CommandLine, repository: Path) -> None:
    checkpoints = repository / "tests/reference/checkpoints"
    bundled = str(checkpoints / "gpt2-tiny")

    def new_tokens(*arguments: str) -> list[str]:
        return re.findall(r"^  new +([0-9,]*)$", command.succeed(bundled, *arguments), re.MULTILINE)

    # "dog bites man . who bites man ?": "dog . <|endoftext|>". In a batch, after padding, or alone.
    alone = new_tokens("--ids", "25,0,10,1,23,22,10,1,24")
    if alone != ["0,23,25"]:
        command.fault(f"who bites man? {alone}")
    padded = new_tokens("--ids", "7,7,25,0,10,1,23,22,10,1,24", "--attention-mask", "0,0,1,1,1,1,1,1,1,1,1")
    batch = new_tokens("--ids", "25,4,14,5,23;25,0,10,1,23,22,10,1,24")
    if padded != alone or batch[1:] != alone:
        command.fault(f"{alone} alone, {padded} padded, {batch} in a batch")
    for size in range(3):
        cut = new_tokens("--ids", "25,0,10,1,23,22,10,1,24", "--max-new-tokens", str(size))
        if cut != [",".join(alone[0].split(",")[:size])]:
            command.fault(f"--max-new-tokens {size}: {cut}")

    timed = command.succeed(bundled, "--ids", "25,4,14,5,23", "--time")
    if len(re.findall(r"^.+: \d+ tokens in \d+\.\d+ s, \d+\.\d tokens/s$", timed, re.MULTILINE)) != 2:
        command.fault(f"--time prints\n{timed}")
    watched = command.run(bundled, "--ids", "25,4,14,5,23", "--progress")
    if watched.returncode != 0 or "7 of 20 tokens, " not in watched.stderr:
        command.fault(f"--progress prints {watched.stderr!r}")

    # Any checkpoint with all of a model's tensors will do: in shards, under either names.
    if "sequence 0" not in command.succeed(str(checkpoints / "lm-head-f32-sharded"), "--ids", "1,2,3"):
        command.fault("a checkpoint in shards generates nothing")


if __name__ == "__main__":
    sys.exit(main(BAD_INPUT, check))
