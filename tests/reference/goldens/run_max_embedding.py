"""Runs MAX's own embedding layer on a table: `run_max_embedding.py TABLE.npy RESULT.npz`.

A program of its own because MAX may live in another environment than PyTorch; it needs max and numpy only.
"""

import importlib.metadata
import platform
import sys
from pathlib import Path

import numpy
from max.driver import CPU
from max.dtype import DType
from max.experimental.nn import Embedding
from max.experimental.tensor import Tensor

SEQ_LENGTH = 17
BATCH_SIZE = 2


def main(table_path: Path, result_path: Path) -> None:
    table = numpy.load(table_path)
    n_positions, n_embd = table.shape
    wpe = Embedding(n_positions, dim=n_embd)
    wpe.weight = Tensor.from_dlpack(table)

    position_ids = Tensor.arange(SEQ_LENGTH, dtype=DType.int64, device=CPU())
    batch_position_ids = Tensor.from_dlpack(numpy.tile(position_ids.to_numpy()[::-1], (BATCH_SIZE, 1)))
    numpy.savez(
        result_path,
        position_ids=position_ids.to_numpy(),
        hidden=wpe(position_ids).to_numpy(),
        batch_position_ids=batch_position_ids.to_numpy(),
        batch_hidden=wpe(batch_position_ids).to_numpy(),
        max_version=importlib.metadata.version("max"),
        python_version=platform.python_version(),
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
