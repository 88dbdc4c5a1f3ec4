#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Times the compilation of each public header, beside that of the headers of Eigen and nlohmann/json that it needs.

    compile_time.py RESULTS.json INCLUDE_DIR COMPILER [FLAGS...]
"""

import json
import math
import resource
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "consumers" / "headers"))
from layers import APART, LAYER  # noqa: E402

# The foreign headers that a header may need; the second of Eigen's includes the first.
FOREIGN = ("Eigen/Core", "unsupported/Eigen/CXX11/Tensor", "nlohmann/json.hpp")


def compiled(command: list[str], headers: tuple[str, ...]) -> str:
    """What the compiler prints of a program that only includes headers."""
    program = "".join(f"#include <{header}>\n" for header in headers)
    command = [*command, "-x", "c++", "-"]
    return subprocess.run(command, input=program, text=True, check=True, stdout=subprocess.PIPE).stdout


def files_read(compile_command: list[str], header: str) -> list[Path]:
    """The files that a header of ours includes, as the compiler tells make."""
    rule = compiled([*compile_command, "-M"], (f"gpt2/{header}",))
    return [Path(name) for name in rule.partition(":")[2].replace("\\\n", " ").split() if name != "-"]


def seconds(compile_command: list[str], headers: tuple[str, ...], samples: int = 1) -> float:
    """The compiler's processor time, without that of other programs: the least of some samples."""
    times = []
    for _ in range(samples):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        compiled([*compile_command, "-c", "-o", "/dev/null"], headers)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
    return min(times)


def needed_of_others(compile_command: list[str], header: str) -> tuple[int, tuple[str, ...]]:
    """The number of files that a header reads, and the foreign ones among them."""
    files = [path.as_posix() for path in files_read(compile_command, header)]
    return len(files), tuple(name for name in FOREIGN if any(file.endswith("/" + name) for file in files))


def main() -> None:
    results, folder, *compile_command = sys.argv[1:]
    baselines: dict[tuple[str, ...], float] = {(): math.nan}
    measured = []
    print(f"{'header':28} {'files':>5} {'seconds':>8} {'needed':>8} {'ratio':>6}   needed of others")
    for header in sorted(set(LAYER) - APART, key=lambda name: (LAYER[name], name)):
        if not (Path(folder) / "gpt2" / header).exists():
            continue
        files, needed = needed_of_others(compile_command, header)
        if needed not in baselines:
            baselines[needed] = seconds(compile_command, needed, 3)
        # The one that has a goal is measured as its baseline is.
        samples = 3 if header == "embedding.hpp" else 1
        ours, theirs = seconds(compile_command, (f"gpt2/{header}",), samples), baselines[needed]
        measured.append({"header": header, "files": files, "seconds": ours, "needed": needed})
        times = f"{ours:8.2f} {theirs:8.2f} {ours / theirs:6.2f}"
        print(f"{header:28} {files:5} {times}   {', '.join(needed)}", flush=True)
    of_others = {", ".join(names): time for names, time in baselines.items() if names}
    content = {"headers": measured, "needed": of_others}
    Path(results).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
