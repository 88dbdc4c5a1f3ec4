"""Writes golden files, each with the versions that made it."""

import json
import platform
from pathlib import Path

import numpy
import safetensors
import torch
import transformers
from safetensors.torch import save_file

Tensors = dict[str, torch.Tensor]
Notes = dict[str, str]


def versions() -> Notes:
    return {
        "python": platform.python_version(),
        "numpy": numpy.__version__,
        "safetensors": safetensors.__version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def write_goldens(path: Path, tensors: Tensors, notes: Notes | None = None) -> None:
    """Writes `tensors`, with the versions and `notes` as one JSON text under the metadata key "made_by"."""
    made_by = json.dumps(versions() | (notes or {}), sort_keys=True)
    # The reference writer keeps metadata in a hash map and writes it in a new order each time it runs. One key
    # has only one order.
    save_file({name: _owned(tensor) for name, tensor in tensors.items()}, path, {"made_by": made_by})
    print(f"{path.parent.name}/{path.name}: {len(tensors)} tensors, {path.stat().st_size} bytes")


def _owned(tensor: torch.Tensor) -> torch.Tensor:
    """A dense copy: safetensors refuses tensors that share memory, and a golden must not change afterwards."""
    return tensor.detach().clone(memory_format=torch.contiguous_format)
