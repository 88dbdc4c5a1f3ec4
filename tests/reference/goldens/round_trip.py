"""--check: do the files of the C++ save_pretrained come out equal in safetensors and in transformers?"""

from dataclasses import fields
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import GPT2Config, GPT2Model

from goldens.files import Tensors

TABLES = ("wte.weight", "wpe.weight")
# Fields that say how a file was written, and nothing about the model.
BOOKKEEPING = {"architectures", "dtype", "transformers_version"}


def differences_after_round_trip(written: Path, reference: Path) -> list[str]:
    return (
        _compare_tables("safetensors", _tables_in_files(written), _tables_in_files(reference))
        + _compare_tables("transformers", _tables_in_model(written), _tables_in_model(reference))
        + _loading_problems(written)
        + _metadata_problems(written)
        + _compare_configs(written, reference)
    )


def _compare_tables(reader: str, found: Tensors, expected: Tensors) -> list[str]:
    differences = []
    for name in TABLES:
        if name not in found:
            differences.append(f"{reader}: {name} is missing")
        elif difference := _first_difference(found[name], expected[name]):
            differences.append(f"{reader}: {name}: {difference}")
        else:
            print(f"{reader}: {name} {_describe(found[name])} is equal, bit for bit")
    return differences


def _first_difference(found: torch.Tensor, expected: torch.Tensor) -> str | None:
    if _describe(found) != _describe(expected):
        return f"found {_describe(found)}, expected {_describe(expected)}"
    # Bits, not values: a NaN is unequal to itself, and the two zeros are equal.
    unequal_bytes = found.contiguous().view(torch.uint8) != expected.contiguous().view(torch.uint8)
    unequal = unequal_bytes.unflatten(-1, (-1, found.element_size())).any(-1).nonzero().tolist()
    if not unequal:
        return None
    place = tuple(unequal[0])
    first = f"found {found[place].item()!r}, expected {expected[place].item()!r}"
    return f"{len(unequal)} values differ; at {list(place)}: {first}"


def _describe(tensor: torch.Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"


def _tables_in_files(folder: Path) -> Tensors:
    """The two tables as safetensors reads them, from one file or from shards."""
    tables: Tensors = {}
    for path in sorted(folder.glob("model*.safetensors")):
        for key, tensor in load_file(path).items():
            name = key.removeprefix("transformer.")
            if name in TABLES:
                tables[name] = tensor
    return tables


def _tables_in_model(folder: Path) -> Tensors:
    model = GPT2Model.from_pretrained(folder, dtype="auto")
    return {"wte.weight": model.wte.weight.detach(), "wpe.weight": model.wpe.weight.detach()}


def _loading_problems(written: Path) -> list[str]:
    """The blocks are not in our file, and transformers says so; it must have nothing else to say."""
    _, report = GPT2Model.from_pretrained(written, dtype="auto", output_loading_info=True)
    missing = [key for key in report["missing_keys"] if not key.startswith(("h.", "ln_f."))]
    problems = [f"transformers: missing key {key}" for key in sorted(missing)]
    for kind in ("unexpected_keys", "mismatched_keys"):
        problems += [f"transformers: {kind}: {key}" for key in sorted(map(str, report[kind]))]
    return problems


def _metadata_problems(written: Path) -> list[str]:
    with safe_open(written / "model.safetensors", framework="pt") as file:
        metadata = file.metadata() or {}
    if metadata.get("format") != "pt":
        return [f"metadata: format is {metadata.get('format')!r}, transformers wants 'pt'"]
    print("metadata: format is 'pt'")
    return []


def _compare_configs(written: Path, reference: Path) -> list[str]:
    found, expected = _model_fields(written), _model_fields(reference)
    differences = [
        f"config: {name}: found {found.get(name)!r}, expected {expected.get(name)!r}"
        for name in sorted(found.keys() | expected.keys())
        if found.get(name) != expected.get(name)
    ]
    if not differences:
        print(f"config: {len(found)} fields are equal: {', '.join(sorted(found))}")
    return differences


def _model_fields(folder: Path) -> dict[str, object]:
    config = GPT2Config.from_pretrained(folder)
    names = {field.name for field in fields(config)} - BOOKKEEPING
    return {name: getattr(config, name) for name in names}
