#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Copies the headers, with another version and with another word in the messages of one error.

    other_version.py INCLUDE_DIR OUTPUT_DIR
"""

import re
import sys
from pathlib import Path


def main() -> int:
    source, target = map(Path, sys.argv[1:])
    versions = words = 0
    for path in sorted(source.rglob("*.hpp")):
        text = path.read_text(encoding="utf-8")
        text, count = re.subn(r"(?m)^(#define GPT2_EMBEDDINGS_VERSION_PATCH) \d+$", r"\1 99", text)
        versions += count
        text, count = re.subn(r"\bgpt2\.index_error\b", "gpt2.other_index_error", text)
        words += count
        copy = target / path.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(text, encoding="utf-8")
    if versions != 1 or words == 0:
        sys.exit(f"{versions} versions and {words} words were changed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
