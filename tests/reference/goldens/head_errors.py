# SPDX-License-Identifier: MIT
"""How far PyTorch's float cross-entropy is from double arithmetic: head_errors.safetensors, and its inputs' formula.

The inputs are not stored: integers make them, which the test makes again. Errors are in units in the last place of the
largest element.

    python3 -m goldens.head_errors OUT        from tests/reference
"""

import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file

# States, rows of the table, columns; the table's elements are evenly spread over (-2^exponent, 2^exponent).
SHAPES = [
    (256, 1000, 64, -5),
    (300, 3000, 128, -5),
    (400, 4000, 64, -2),
    (512, 1000, 256, -3),
    (600, 1000, 96, -5),
    (600, 300, 768, -5),
]


def mixed(size: int, seed: int) -> np.ndarray:
    """32 bits for each of 0, 1, …: two rounds of multiplication and shift."""
    x = (np.arange(size, dtype=np.uint64) + np.uint64(seed * 0x9E3779B1)) & np.uint64(0xFFFFFFFF)
    for factor in (0x7FEB352D, 0x846CA68B):
        x = ((x ^ (x >> np.uint64(16))) * np.uint64(factor)) & np.uint64(0xFFFFFFFF)
    return x ^ (x >> np.uint64(16))


def numbers(rows: int, cols: int, seed: int, exponent: int) -> np.ndarray:
    even = (mixed(rows * cols, seed) >> np.uint64(8)).astype(np.float64) * 2.0**-23 - 1
    return (even * 2.0**exponent).astype(np.float32).reshape(rows, cols)


def labels(size: int, vocab_size: int, seed: int) -> np.ndarray:
    """Small ones are more frequent, as words are."""
    bits = mixed(size, seed)
    high, low = bits >> np.uint64(16), bits & np.uint64(0xFFFF)
    return (high * low * np.uint64(vocab_size) >> np.uint64(32)).astype(np.int64)


def gradients(weight: np.ndarray, hidden: np.ndarray, targets: np.ndarray, dtype: torch.dtype) -> list[np.ndarray]:
    table = torch.tensor(weight, dtype=dtype, requires_grad=True)
    states = torch.tensor(hidden, dtype=dtype, requires_grad=True)
    torch.nn.functional.cross_entropy(states @ table.T, torch.tensor(targets)).backward()
    return [table.grad.numpy(), states.grad.numpy()]


def error(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(found - expected).max() / np.spacing(np.float32(np.abs(expected).max())))


def write_head_errors(path: Path) -> None:
    torch.set_num_threads(1)
    errors = []
    for n, vocab_size, cols, exponent in SHAPES:
        inputs = (numbers(vocab_size, cols, 1, exponent), numbers(n, cols, 2, 1), labels(n, vocab_size, 3))
        exact = gradients(*inputs, torch.float64)
        errors.append([error(*pair) for pair in zip(gradients(*inputs, torch.float32), exact, strict=True)])
    save_file({"shapes": np.array(SHAPES, dtype=np.int64), "errors": np.array(errors)}, path)


if __name__ == "__main__":
    write_head_errors(Path(sys.argv[1]))
