#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs examples/embed_tokens with good and bad input, from a folder of its own.

    embed_tokens.py EMBED_TOKENS REPOSITORY
"""

import json
import re
import shutil
import struct
import sys
from pathlib import Path

from command_line import CommandLine, main

# Arguments, and the text that the one line on stderr must contain.
BAD_INPUT = [
    (["--ids", "0,99"], "wte: input_ids[0, 1] = 99 is outside [0, 26)"),
    (["--ids", "0", "--text", "dog"], "give one of --text and --ids"),
    (["--text"], "--text needs a value"),
    (["--text", "dog bites men"], '"men" is none of the 26 words in'),
    (["--text", "dog", "--position-ids", "33"], "n_positions"),
    (["--text", "dog", "--text", "dog bites", "--past-length", "1"], "leaves no room for --past-length"),
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
    table = command.succeed(checkpoint, "--text", "dog bites man")
    default = command.succeed()
    if not default.endswith(table) or "bundled" not in default:
        command.fault(f"without arguments:\n{default}expected to end with\n{table}")

    # Text has a column more than ids.
    by_ids = command.succeed(checkpoint, "--ids", "0,10,1")
    without_tokens = re.sub(r'  (token  |"dog"  |"bites"|"man"  )', "", table)
    if '  "bites" ' not in table or without_tokens != by_ids:
        command.fault(f"as text:\n{table}as ids:\n{by_ids}")

    # Texts of a batch are padded on the right, which changes nothing of the others.
    pair = command.succeed("--text", "dog", "--text", "who bites man?").splitlines()
    alone = command.succeed("--text", "who bites man?").splitlines()
    if pair[-4:] != alone[-4:] or sum(line.endswith("(padding)") for line in pair) != 3:
        command.fault(f"a batch of two texts: {pair}")
    if "hidden: [0, 24]" not in command.succeed("--text", ""):
        command.fault("an empty text is not a sequence of no tokens")

    # With a vocabulary that has more ids than the model there is no text, but there are ids.
    folder = command.folder / "other"
    shutil.copytree(checkpoint, folder)
    (folder / "vocabulary.txt").write_text((folder / "vocabulary.txt").read_text() + "more\n")
    command.refuse([str(folder), "--text", "dog"], "has ids up to 26, beyond the model's vocab_size, 26")
    (folder / "vocabulary.txt").unlink()
    command.refuse([str(folder), "--text", "dog"], "has no vocabulary")
    if command.succeed(str(folder), "--ids", "0,10,1") != by_ids:
        command.fault("ids need a vocabulary")

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
