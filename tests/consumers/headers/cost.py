#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Asks the compiler what each header that does not parse JSON pulls in, and refuses what its users should not pay for.

    cost.py INCLUDE_DIR COMPILER [FLAGS...]
"""

import subprocess
import sys
from pathlib import Path

from layers import LAYER, PARSES_JSON

UNWANTED = {"iostream", "fstream", "filesystem", "regex"}
UNWANTED_FOLDER = "nlohmann"


def files_read(compile_command: list[str], header: str) -> list[Path]:
    """Every file the compiler reads for a program that includes the header alone."""
    process = subprocess.run([*compile_command, "-M", "-x", "c++", "-"], input=f"#include <gpt2/{header}>\n",
                             capture_output=True, text=True, check=False)  # fmt: skip
    if process.returncode != 0:
        raise SystemExit(f"{header} does not compile:\n{process.stderr}")
    return [Path(word) for word in process.stdout.replace("\\\n", " ").split()]


def main() -> int:
    folder, *compile_command = sys.argv[1:]
    faults = 0
    for header in sorted(set(LAYER) - PARSES_JSON):
        if not (Path(folder) / "gpt2" / header).exists():
            continue
        files = files_read(compile_command, header)
        if not any(path.name == header for path in files):
            raise SystemExit(f"{header} is not among the files that the compiler says it reads")
        unwanted = [path for path in files if path.name in UNWANTED or UNWANTED_FOLDER in path.parts]
        print(f"{header}: {len(files)} files")
        for path in unwanted:
            print(f"  pulls in {path}")
        faults += len(unwanted)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
