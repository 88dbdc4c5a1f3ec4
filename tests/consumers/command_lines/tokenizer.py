#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs examples/tokenize with good and bad input, from a folder of its own.

    tokenizer.py TOKENIZE REPOSITORY
"""

import json
import subprocess
import sys
from pathlib import Path

from command_line import CommandLine, main, write_byte_vocabulary

# Arguments, and the text that the one line on stderr must contain.
BAD_INPUT = [
    (["--text"], "--text needs a value"),
    (["--text", "dog", "--decode", "0"], "give one of --text, --file and --decode"),
    (["--text", "dog bites men"], '"men" is none of the 26 words in'),
    (["--file", "no-such-file"], "--file: no-such-file cannot be read"),
    (["--file", "."], "--file: . cannot be read"),
    (["--decode", "0,x"], '"x" is not a whole number'),
    (["--decode", "0,,1"], '"" is not a whole number'),
    (["--decode", "1.5"], '"1.5" is not a whole number'),
    (["--decode", "99999999999999999999"], "does not fit 64 bits"),
    (["--decode", "0,26"], "id 26 is outside [0, 26)"),
    (["--decode", "-1"], "id -1 is outside [0, 26)"),
    (["--unknown"], "unknown option --unknown"),
    (["one", "two"], "two checkpoints"),
    (["some-folder"], "--text, --file or --decode is missing"),
    (["no-such-folder", "--text", "dog"], "no-such-folder"),
    ([".", "--text", "dog"], "config.json"),
]


def check(command: CommandLine, repository: Path) -> None:
    bundled = str(repository / "tests/reference/checkpoints/gpt2-tiny")
    for arguments, expected in [(["--text", "dog bites man."], "0,10,1,23\n"), (["--text", ""], "\n"),
                                (["--decode", "25, 0,10,1"], "<|endoftext|> dog bites man\n"), (["--decode", ""], "\n")]:
        found = command.succeed(bundled, *arguments)
        if found != expected:
            command.fault(f"{arguments}: {found!r}, expected {expected!r}")

    # Vocabulary and config.json are enough. A file's bytes are encoded as they are.
    folder = command.folder / "bytes"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"vocab_size": 257}), encoding="utf-8")
    write_byte_vocabulary(folder)
    data = bytes(range(256)) + b"\r\n\xf0\x9f\x98"
    (command.folder / "file").write_bytes(data)
    ids = ",".join(map(str, data))
    result = subprocess.run([command.program, folder, "--decode", f"{ids},256"], capture_output=True, check=False)
    if result.returncode != 0 or result.stdout != data + b"<|endoftext|>\n":
        command.fault(f"--decode of all bytes: {result}")
    if "libpcre2-dev" in command.run(str(folder), "--text", "a").stderr:
        command.refuse([str(folder), "--text", "a"], "text needs PCRE2")
    elif command.succeed(str(folder), "--file", "file") != f"{ids}\n":
        command.fault("--file of all bytes is not their ids")
    if command.succeed(str(folder), "--text", "<|endoftext|>") != "256\n":
        command.fault("<|endoftext|> is not one token")

    (folder / "merges.txt").write_text("a b\n", encoding="utf-8")
    command.refuse([str(folder), "--text", "a"], 'merges.txt: line 1: "ab", of "a" and "b", is not in ')
    (folder / "merges.txt").unlink()
    command.refuse([str(folder), "--text", "a"], "merges.txt: is missing beside vocab.json")
    (folder / "vocab.json").write_text('{"a": 1, "a": 2}', encoding="utf-8")
    (folder / "merges.txt").write_text("", encoding="utf-8")
    command.refuse([str(folder), "--text", "a"], 'vocab.json: has the key "a" twice in one object')


if __name__ == "__main__":
    sys.exit(main(BAD_INPUT, check))
