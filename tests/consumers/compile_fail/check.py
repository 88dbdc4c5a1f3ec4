#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Checks that each case is refused in its wrong version, in the words it expects.

    check.py compile MESSAGES COMPILER [FLAGS...]
    check.py refused MESSAGES CASE

The first compiles all cases at once and keeps what the compiler says. The second looks for the words, a regular
expression in the case's own line `// expect: …`, in the errors that are at lines of the case.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

ERROR = re.compile(r"^(.*?):\d+:\d+: (?:fatal )?error: ", re.MULTILINE)
# What GCC says before an error about where it is.
PLACE = re.compile(r"In file included from |\s+from |.*: (In|At) |.*:   required ")


def errors_in(case, output):
    """The errors at lines of a case, each with the notes that follow it."""
    errors = list(ERROR.finditer(output))
    ends = [error.start() for error in errors[1:]] + [len(output)]
    for error, end in zip(errors, ends):
        if Path(error[1]).name == case.name:
            lines = output[error.start() : end].splitlines()
            while PLACE.match(lines[-1]):  # the next error's
                lines.pop()
            yield "\n".join(lines)


def compile_cases(output, command):
    environment = {**os.environ, "LC_ALL": "C"}  # in English, with ASCII quotes
    process = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    output.write_text(process.stderr, encoding="utf-8")
    return "" if process.returncode != 0 else "The wrong versions compile."


def check_refusal(output, case):
    expected = re.search(r"^// expect: (.+)$", case.read_text(encoding="utf-8"), re.MULTILINE)
    if not expected:
        return f"{case} has no line '// expect: …'"
    errors = list(errors_in(case, output.read_text(encoding="utf-8")))
    if not errors:
        return "No error is at a line of the wrong version."
    if not any(re.search(expected[1], error, re.DOTALL) for error in errors):
        return "\n".join([*errors, f"The wrong version is refused, but not with '{expected[1]}'."])
    return ""


def main() -> int:
    if len(sys.argv) > 3 and sys.argv[1] == "compile":
        fault = compile_cases(Path(sys.argv[2]), sys.argv[3:])
    elif len(sys.argv) == 4 and sys.argv[1] == "refused":
        fault = check_refusal(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        raise SystemExit(__doc__)
    if fault:
        print(fault)
    return 1 if fault else 0


if __name__ == "__main__":
    sys.exit(main())
