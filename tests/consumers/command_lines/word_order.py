#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs examples/word_order with good and bad input, from a folder of its own.

    word_order.py WORD_ORDER REPOSITORY
"""

import json
import sys
from pathlib import Path

from command_line import CommandLine, main, write_byte_vocabulary, write_tensors

# Arguments, and the text that the one line on stderr must contain.
BAD_INPUT = [
    (["one", "two"], "Usage: word_order"),
    (["one", "two", "three", "four"], "Usage: word_order"),
    (["no-such-folder"], "no-such-folder"),
    (["."], "config.json"),
]


def check(command: CommandLine, repository: Path) -> None:
    bundled = str(repository / "tests/reference/checkpoints/gpt2-tiny")
    if command.succeed(bundled, "dog bites man", "man bites dog") != command.succeed():
        command.fault("the sentences without arguments are others")
    command.refuse([bundled, "dog bites man", "man bites you"], '"you" is none of the 26 words')
    same = command.succeed(bundled, "dog bites man", "dog bites man")
    if same.count("the same vectors in the same order") != 2 or same.count("distance 0, that of wpe's rows 0") != 3:
        command.fault(f"a sentence and itself:\n{same}")
    other = command.succeed(bundled, "dog bites man", "dog sees")
    if other.count("other vectors") != 2 or other.count("distance") != 1:
        command.fault(f"sentences of other words:\n{other}")

    # A vocabulary of bytes: a blank in front makes of " a" and "b" the same tokens as of " b" and "a".
    folder = command.folder / "bytes"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"vocab_size": 257, "n_positions": 8, "n_embd": 2}), encoding="utf-8")
    write_byte_vocabulary(folder)
    write_tensors(folder / "model.safetensors", {
        "wte.weight": [[0.5, id / 256] for id in range(257)], "wpe.weight": [[float(i), 0.0] for i in range(8)]})
    if "libpcre2-dev" in command.run(str(folder), "a b", "b a").stderr:
        command.refuse([str(folder), "a b", "b a"], "text needs PCRE2")
        return
    found = command.succeed(str(folder), "a b", "b a").splitlines()
    expected = ["\"a b\": 32 97 32 98", "\"b a\": 32 98 32 97", "wte[ids]:       the same vectors in another order",
                "wte[ids] + wpe: other vectors", "\" \" at 0 and at 0: distance 0, that of wpe's rows 0",
                "\"a\" at 1 and at 3: distance 2, that of wpe's rows 2"]
    if found[:6] != expected:
        command.fault(f"bytes: {found}")


if __name__ == "__main__":
    sys.exit(main(BAD_INPUT, check))
