# SPDX-License-Identifier: MIT
"""Shared by the tests of the examples' command lines."""

import json
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

# Arguments, and the text that the one line on stderr must contain.
BadInput = list[tuple[list[str], str]]


class CommandLine:
    """A program that is run in a folder of its own, and its faults."""

    def __init__(self, program: Path, folder: Path) -> None:
        self.program = program
        self.folder = folder
        self.faults: list[str] = []

    def fault(self, what: str) -> None:
        self.faults.append(what)

    def run(self, *arguments: str) -> subprocess.CompletedProcess:
        command = [self.program, *arguments]
        return subprocess.run(command, cwd=self.folder, capture_output=True, text=True, timeout=120)

    def succeed(self, *arguments: str) -> str:
        """Standard output of a run that must succeed and write nothing to stderr."""
        result = self.run(*arguments)
        if result.returncode != 0 or result.stderr:
            self.fault(f"{arguments}: status {result.returncode}, {result.stderr!r}")
        return result.stdout

    def refuse(self, arguments: list[str], words: str) -> None:
        """A run that must end with status 2 and one line on stderr."""
        result = self.run(*arguments)
        if result.returncode != 2 or result.stderr.count("\n") != 1 or words not in result.stderr:
            self.fault(f"{arguments}: status {result.returncode}, {result.stderr!r}, expected {words!r}")


def write_tensors(path: Path, tensors: dict[str, list[list[float]]]) -> None:
    """A safetensors file of matrices in F32; those of one row are vectors."""
    header, data = {}, b""
    for name, matrix in tensors.items():
        rows, cols = len(matrix), len(matrix[0])
        tensor = b"".join(struct.pack(f"<{cols}f", *row) for row in matrix)
        shape = [rows, cols] if rows > 1 else [cols]
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + len(tensor)]}
        data += tensor
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def write_byte_vocabulary(folder: Path) -> None:
    """A vocabulary as GPT-2's is written, in which each byte is a token, the byte its id, and <|endoftext|> is 256."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    names = {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(others)}
    vocabulary = {names[byte]: byte for byte in range(256)} | {"<|endoftext|>": 256}
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")


def main(bad_input: BadInput, check: Callable[[CommandLine, Path], None]) -> int:
    """Runs a test whose arguments are the program and the repository; returns its exit status."""
    program, repository = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
    with tempfile.TemporaryDirectory(prefix="gpt2-command-line-") as folder:
        command = CommandLine(program, Path(folder))
        for arguments, words in bad_input:
            command.refuse(arguments, words)
        if not command.succeed("--help").startswith(f"Usage: {program.stem}"):
            command.fault("--help does not print the usage")
        check(command, repository)
    for fault in command.faults:
        print(fault)
    print(f"{len(bad_input)} kinds of bad input; {len(command.faults)} faults")
    return 1 if command.faults else 0
