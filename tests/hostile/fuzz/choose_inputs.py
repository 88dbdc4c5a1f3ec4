#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Makes a corpus of a few dozen inputs out of the many that libFuzzer has found.

usage: choose_inputs.py FUZZ_TARGET CORPUS FOLDER...

Of the inputs of at most 300 bytes in the folders it takes the one that reaches most edges of the program, then the one
that reaches most of the others, and so on, and writes them to CORPUS. Inputs there, such as those of faults, stay.
"""

import hashlib
import pathlib
import subprocess
import sys
import tempfile

MOST_INPUTS = 40
MOST_BYTES = 300


def edges_of(target, inputs):
    """Input -> the edges it reaches, as libFuzzer's greedy merge notes them down."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        (folder / "in").mkdir()
        (folder / "out").mkdir()
        for data in inputs:
            (folder / "in" / hashlib.sha1(data).hexdigest()).write_bytes(data)
        subprocess.run(
            [target, "-set_cover_merge=1", "-use_counters=0", "-merge_control_file=notes", "out", "in"],
            cwd=folder, check=True, stderr=subprocess.DEVNULL)
        # The number of files, that of those in the corpus, their names, and then "FT number edge..." for each.
        lines = (folder / "notes").read_text().split("\n")
        names = lines[2:2 + int(lines[0])]
        notes = (line.split() for line in lines[2 + len(names):] if line.startswith("FT "))
        return {(folder / names[int(note[1])]).read_bytes(): set(note[2:]) for note in notes}


def main():
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    target, corpus = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2])
    found = {path.read_bytes() for folder in sys.argv[3:] for path in pathlib.Path(folder).iterdir()}
    edges = edges_of(target, sorted(data for data in found if len(data) <= MOST_BYTES))
    reached = set()
    for _ in range(MOST_INPUTS):
        best = max(edges, key=lambda data: (len(edges[data] - reached), -len(data)))
        if not edges[best] - reached:
            break
        reached |= edges[best]
        (corpus / hashlib.sha1(best).hexdigest()[:12]).write_bytes(best)
    print(f"{len(reached)} of {len(set().union(*edges.values()))} edges")


if __name__ == "__main__":
    main()
