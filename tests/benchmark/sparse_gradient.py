#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Times sparse_backward against PyTorch's dense backward, on the same machine and the same ids.

    sparse_gradient.py PROGRAM      the program that sparse_gradient.cpp becomes

8,192 tokens of GPT-2's vocabulary: drawn as in text, by Zipf's law, and evenly, which hardly repeats any. Medians.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

VOCAB_SIZE = 50257
N_EMBD = 768
TOKENS = 8192
ROUNDS = 15


def milliseconds_of_pytorch(ids: torch.Tensor) -> float:
    table = torch.nn.Embedding(VOCAB_SIZE, N_EMBD)
    grad_output = torch.randn(TOKENS, N_EMBD)
    times = []
    for _ in range(ROUNDS):
        table.weight.grad = None
        rows = table(ids)
        start = time.perf_counter()
        rows.backward(grad_output)
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)


def compare(program: str, name: str, ids: torch.Tensor, threads: int) -> None:
    torch.set_num_threads(threads)
    pytorch = milliseconds_of_pytorch(ids)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "ids"
        file.write_bytes(ids.numpy().tobytes())
        arguments = [program, str(file), str(threads)]
        output = subprocess.run(arguments, check=True, capture_output=True, text=True).stdout.split()
    rows, sparse, dense = int(output[1]), float(output[2]), float(output[3])
    print(
        f"{name}, {rows} rows, {threads} threads: PyTorch dense {pytorch:.1f} ms, sparse_backward {sparse:.2f} ms, "
        f"{pytorch / sparse:.1f} times faster; backward into a gradient that is there {dense:.2f} ms"
    )


def main() -> None:
    generator = torch.Generator().manual_seed(0)
    frequencies = 1 / torch.arange(1, VOCAB_SIZE + 1)
    as_in_text = torch.randperm(VOCAB_SIZE, generator=generator)[
        torch.multinomial(frequencies, TOKENS, replacement=True, generator=generator)
    ]
    evenly = torch.randint(VOCAB_SIZE, (TOKENS,), generator=generator)
    for threads in sorted({1, torch.get_num_threads()}):
        compare(sys.argv[1], "as in text", as_in_text, threads)
        compare(sys.argv[1], "evenly drawn", evenly, threads)


if __name__ == "__main__":
    main()
