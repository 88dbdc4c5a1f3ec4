#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs examples/inspect_positions with good and bad input, from a folder of its own.

    inspect_positions.py INSPECT_POSITIONS REPOSITORY
"""

import json
import math
import struct
import sys
import zlib
from pathlib import Path

from command_line import CommandLine, main

# Arguments, and the text that the one line on stderr must contain.
BAD_INPUT = [
    (["--cells"], "--cells needs a value"),
    (["--cells", "0"], '"0" is not a whole number of at least 1'),
    (["--cells", "-3"], "is not a whole number"),
    (["--cells", "8x"], "is not a whole number"),
    (["--cells", "99999999999999999999"], "is not a whole number"),
    (["--out"], "--out needs a value"),
    (["--out", "model.safetensors"], "model.safetensors does not end in .png"),
    (["--unknown"], "unknown option --unknown"),
    (["one", "two"], "two checkpoints"),
    (["no-such-folder"], "no-such-folder"),
    (["."], "config.json"),
]

WHITE, RED, BLUE, BAR, NONE = (255, 255, 255), (191, 0, 0), (0, 0, 191), (70, 70, 70), (0, 0, 0)
Pixels = list[list[tuple[int, ...]]]


def write_checkpoint(folder: Path, rows: list[list[float]]) -> None:
    """A checkpoint of which there is no more than a wpe, in F64."""
    folder.mkdir()
    sizes = {"n_positions": len(rows), "n_embd": len(rows[0])}
    (folder / "config.json").write_text(json.dumps(sizes), encoding="utf-8")
    data = b"".join(struct.pack(f"<{len(row)}d", *row) for row in rows)
    shape = list(sizes.values())
    header = json.dumps({"wpe.weight": {"dtype": "F64", "shape": shape, "data_offsets": [0, len(data)]}}).encode()
    header += b" " * (-len(header) % 8)
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + data)


def read_png(path: Path) -> Pixels:
    """The colours of a PNG as the example writes them: a palette, eight bits a pixel, rows as they are."""
    data, chunks, at = path.read_bytes(), {b"IDAT": b""}, 8
    while at < len(data):
        (size,), name = struct.unpack(">I", data[at : at + 4]), data[at + 4 : at + 8]
        chunks[name] = chunks.get(name, b"") + data[at + 8 : at + 8 + size]
        at += 12 + size
    width, height = struct.unpack(">II", chunks[b"IHDR"][:8])
    pixels, palette = zlib.decompress(chunks[b"IDAT"]), chunks[b"PLTE"]
    rows = [pixels[i * (width + 1) : (i + 1) * (width + 1)] for i in range(height)]
    if any(row[0] != 0 for row in rows):
        raise ValueError(f"{path}: a row is filtered, and this reads none that is")
    return [[tuple(palette[3 * i : 3 * i + 3]) for i in row[1:]] for row in rows]


def cells(text: str) -> list[str]:
    """The map that is printed, a character for each cell."""
    return [line.split("|")[1][::2] for line in text.splitlines() if line.count("|") == 2]


def check(command: CommandLine, repository: Path) -> None:
    bundled = str(repository / "tests/reference/checkpoints/gpt2-tiny")
    default, named = command.succeed(), command.succeed(bundled)
    if not default.endswith(named) or "bundled" not in default:
        command.fault(f"without arguments:\n{default}expected to end with\n{named}")
    for count, expected in [("99", 33), ("33", 33), ("32", 17), ("1", 1)]:
        found = cells(command.succeed(bundled, "--cells", count))
        if len(found) != expected or any(len(row) != expected for row in found):
            command.fault(f"--cells {count} prints {found}")

    # Rows of every kind: alike, opposite, across, without a direction, and so long that their squares overflow.
    kinds = [[1.0, 0.0], [2e300, 0.0], [-1e-320, 0.0], [0.0, 3.0], [0.0, 0.0], [math.nan, 1.0], [1.0, math.inf]]
    write_checkpoint(command.folder / "kinds", kinds)
    text = command.succeed("kinds")
    if cells(text) != ["@@ -???", "@@ -???", "  @-???", "---@???"] + ["???????"] * 3:
        command.fault(f"rows of every kind:\n{text}")
    for words in ["norm 2e+300", "norm 3\n", "norm 0\n", "norm nan", "norm inf", "1 row of zeros, the first at position 4",
                  "2 rows with NaN or infinity, the first at position 5"]:
        if words not in text:
            command.fault(f"rows of every kind: no {words!r} in\n{text}")

    # In a larger cell they are left out, except that they make its norm what they are.
    merged = command.succeed("kinds", "--cells", "3")
    if cells(merged) != ["=-?", "-@?", "???"]:
        command.fault(f"rows of every kind, merged:\n{merged}")

    write_checkpoint(command.folder / "one", [[0.5, -0.5, 0.1]])
    if cells(command.succeed("one")) != ["@"]:
        command.fault("one position is not like itself")

    # A circle: each position is like its neighbours, and the opposite of the one half a turn away.
    turn = [2 * math.pi * i / 1500 for i in range(1500)]
    write_checkpoint(command.folder / "circle", [[math.cos(angle), math.sin(angle)] for angle in turn])
    circle = cells(command.succeed("circle"))
    if len(circle) != 32 or any(circle[i][i] != "@" or circle[i][(i + 16) % 32] != " " for i in range(32)):
        command.fault(f"a circle:\n{circle}")

    if "libpng" in command.run("--out", "map.png").stderr:
        command.refuse(["--out", "map.png"], "--out needs libpng")
        return
    command.refuse(["--out", "no-such-folder/map.png"], "no-such-folder/map.png cannot be written")

    command.succeed("kinds", "--out", "kinds.png")
    picture, size = read_png(command.folder / "kinds.png"), 512 // 7
    if (len(picture[0]), len(picture)) != (7 * size, 7 * size + 104):
        command.fault(f"the picture has {len(picture[0])} x {len(picture)} pixels")
    colours = [[picture[i * size + size // 2][j * size + size // 2] for j in range(7)] for i in range(7)]
    expected = [[RED, RED, BLUE, WHITE], [RED, RED, BLUE, WHITE], [BLUE, BLUE, RED, WHITE], [WHITE] * 3 + [RED]]
    if colours != [row + [NONE] * 3 for row in expected] + [[NONE] * 7] * 3:
        command.fault(f"the map is {colours}")
    bars = [picture[-1][j * size + size // 2] for j in range(7)]
    if bars != [WHITE, BAR, WHITE, WHITE, WHITE, NONE, NONE]:
        command.fault(f"the bars are {bars}")

    command.succeed("circle", "--out", "circle.png")
    picture = read_png(command.folder / "circle.png")
    if (len(picture[0]), len(picture)) != (750, 854) or picture[10][10] != RED or picture[10][385] != BLUE:
        command.fault("the picture of 1,500 positions is not one of 750 cells")
    command.succeed("one", "--out", "one.png")
    if set(map(tuple, read_png(command.folder / "one.png"))) != {(RED,) * 512, (WHITE,) * 512, (BAR,) * 512}:
        command.fault("the picture of one position is not one cell, a gap and a bar")


if __name__ == "__main__":
    sys.exit(main(BAD_INPUT, check))
