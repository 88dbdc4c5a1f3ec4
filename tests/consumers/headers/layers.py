#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Refuses includes that go against the library's layers.

    layers.py INCLUDE_DIR

A public header may include headers of lower layers and of detail/, a detail header may include what the lowest
public header that uses it may. Only headers that parse JSON may include others that do, or nlohmann/json itself.
"""

import re
import sys
from pathlib import Path

LAYERS = [
    {"version"},
    {"error"},
    {"types", "config", "dtype"},
    {"position_ids", "initialization", "sparse_gradient", "config_json", "safetensors"},
    {"embedding"},
    {"position_embeddings", "dropout", "resize", "lm_head"},
    {"embeddings", "quantized_embedding"},
    {"checkpoint"},
    {"pretrained", "quantized_checkpoint"},
    {"gpt2"},
]
LAYER = {f"{name}.hpp": layer for layer, names in enumerate(LAYERS) for name in names}
PARSES_JSON = {"config_json.hpp", "safetensors.hpp", "checkpoint.hpp", "pretrained.hpp", "quantized_checkpoint.hpp",
               "gpt2.hpp"}
INCLUDE = re.compile(r'^\s*#\s*include\s*(?:"([^"]+)"|<([^>]+)>)', re.MULTILINE)


def read_includes(folder: Path) -> tuple[dict[str, list[str]], list[str]]:
    """Header -> what it includes, ours under the same names as the headers; and faults found on the way."""
    headers, faults = {}, []
    for path in sorted(folder.rglob("*.hpp")):
        name = path.relative_to(folder).as_posix()
        headers[name] = []
        for quoted, angled in INCLUDE.findall(path.read_text(encoding="utf-8")):
            if quoted and not quoted.startswith("gpt2/"):
                faults.append(f'{name} includes "{quoted}": our own headers are named "gpt2/…"')
            headers[name].append((quoted or angled).removeprefix("gpt2/"))
    return headers, faults


def reached_details(header: str, headers: dict[str, list[str]], seen: set[str]) -> set[str]:
    """The detail headers that header includes, at first hand or through other detail headers."""
    for included in headers.get(header, []):
        if included.startswith("detail/") and included not in seen:
            seen.add(included)
            reached_details(included, headers, seen)
    return seen


def check(folder: Path) -> list[str]:
    headers, faults = read_includes(folder)
    for name in headers:
        if name not in LAYER and not name.startswith("detail/"):
            faults.append(f"{name} is in no layer; the table in {Path(__file__).name} places it")
    for header in sorted(set(headers) & set(LAYER)):
        # What a detail header includes counts as included by every public header that reaches it.
        for through in [header, *sorted(reached_details(header, headers, set()))]:
            via = "" if through == header else f" (through {through})"
            for included in headers.get(through, []):
                if included.startswith("detail/"):
                    if included not in headers:
                        faults.append(f"{header} includes {included}{via}, which does not exist")
                elif included in LAYER:
                    if through == f"detail/{included}":
                        continue  # the definitions of a header include their declarations, to stand alone
                    if LAYER[included] >= LAYER[header]:
                        faults.append(f"{header} (layer {LAYER[header]}) includes {included}{via}"
                                      f" (layer {LAYER[included]}), which is not below it")  # fmt: skip
                    if included in PARSES_JSON and header not in PARSES_JSON:
                        faults.append(f"{header} includes {included}{via}, which parses JSON")
                elif included.startswith("nlohmann/") and header not in PARSES_JSON:
                    faults.append(f"{header} includes <{included}>{via}, but is not one that parses JSON")
                elif included == "iostream":
                    faults.append(f"{header} includes <iostream>{via}")
    umbrella = set(headers.get("gpt2.hpp", []))
    for name in sorted(set(headers) & set(LAYER) - umbrella - {"gpt2.hpp"}):
        faults.append(f"gpt2.hpp does not include {name}")
    return faults


def main() -> int:
    folder = Path(sys.argv[1]) / "gpt2"
    faults = check(folder)
    for fault in faults:
        print(fault)
    print(f"{folder.name}/: {len(list(folder.rglob('*.hpp')))} headers, {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
