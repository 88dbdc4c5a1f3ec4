"""max.safetensors: results of Modular MAX's `Embedding(n_positions, dim=n_embd)` for GPT-2's positions."""

import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import numpy
import torch
from safetensors.torch import load_file

from goldens.files import write_goldens

RUN_MAX = Path(__file__).resolve().parent / "run_max_embedding.py"
TENSORS = ("position_ids", "hidden", "batch_position_ids", "batch_hidden")


def write_max_goldens(path: Path, checkpoint: Path, python: Path | None) -> None:
    """Leaves the file of an earlier run alone, and says so, if no Python with MAX is at hand."""
    if python is None and find_spec("max") is None:
        print(f"{path.name}: left alone: this Python cannot import max, and no --max-python is given")
        return
    wpe = load_file(checkpoint / "model.safetensors")["wpe.weight"]
    result = _run_max(python or Path(sys.executable), wpe)
    write_goldens(
        path,
        {f"max.{name}": torch.from_numpy(result[name]) for name in TENSORS} | {"max.wpe": wpe},
        {
            "table": f"wpe.weight of {checkpoint.name}",
            "max": str(result["max_version"]),
            "python of max": str(result["python_version"]),
        },
    )


def _run_max(python: Path, table: torch.Tensor) -> dict[str, numpy.ndarray]:
    with tempfile.TemporaryDirectory() as folder:
        table_path, result_path = Path(folder) / "table.npy", Path(folder) / "result.npz"
        numpy.save(table_path, table.numpy())
        print("max: running; the first time it compiles its kernels, which takes some minutes", flush=True)
        # -P: the modules beside the program must not stand in for modules that MAX imports.
        subprocess.run([python, "-P", RUN_MAX, table_path, result_path], check=True)
        with numpy.load(result_path) as result:
            return dict(result)
