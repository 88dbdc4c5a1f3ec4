"""functions.safetensors: results of PyTorch and NumPy for the functions that need no model."""

from pathlib import Path

import numpy
import torch
from torch import nn

from goldens.files import Tensors, write_goldens

Range = tuple[float, float, float]

# (start, end, step); every value of the result is exact in every dtype it is made for.
INTEGER_RANGES: tuple[Range, ...] = (
    (0, 8, 1),
    (5, 12, 1),
    (0, 0, 1),
    (7, 7, -1),
    (0, 10, 3),
    (0, 9, 3),
    (10, 0, -1),
    (10, 0, -4),
    (-5, 6, 5),
    (3, 4, 100),
)
INT64_RANGES: tuple[Range, ...] = (
    (2**53 + 1, 2**53 + 8, 2),
    (2**63 - 4, 2**63 - 1, 1),
    (-(2**63), -(2**63) + 10, 4),
)
DYADIC_RANGES: tuple[Range, ...] = (
    (0.0, 1.0, 0.25),
    (-1.5, 2.0, 0.5),
    (1.0, -1.0, -0.375),
    (0.0, 40.0, 1.0),
)
# The step of these is rounded, and so is every value PyTorch computes, differently for each width of vector
# registers. Only how many there are is a fact.
ROUNDED_RANGES: tuple[Range, ...] = (
    (0.0, 1.0, 0.1),
    (1.0, 1.3, 0.1),
    (0.0, 5.0, 1.0 / 3.0),
    (-3.5, 40.0, 0.7),
    (2.0, -1.0, -0.3),
)

FLOATING_BITS = {
    torch.float64: torch.int64,
    torch.float32: torch.int32,
    torch.float16: torch.int16,
    torch.bfloat16: torch.int16,
}


def write_function_goldens(path: Path) -> None:
    write_goldens(path, _arange() | _sinusoidal() | _lookups() | _padding_index())


def _arange() -> Tensors:
    goldens: Tensors = {}
    for dtype in (torch.int64, torch.int32, torch.float32, torch.float64):
        exact = INTEGER_RANGES
        exact += INT64_RANGES if dtype == torch.int64 else ()
        exact += DYADIC_RANGES if dtype.is_floating_point else ()
        for number, arguments in enumerate(exact):
            case = f"arange.{_name(dtype)}.{number}"
            goldens[f"{case}.arguments"], goldens[f"{case}.values"] = _arange_case(arguments, dtype)
    for dtype in (torch.float32, torch.float64):
        for number, arguments in enumerate(ROUNDED_RANGES):
            case = f"arange_size.{_name(dtype)}.{number}"
            goldens[f"{case}.arguments"], values = _arange_case(arguments, dtype)
            goldens[f"{case}.size"] = torch.tensor(len(values))
    return goldens


def _arange_case(arguments: Range, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    # PyTorch is given the arguments as the dtype holds them, which is how a C++ function of that type gets them.
    rounded = torch.tensor(arguments, dtype=dtype)
    return rounded, torch.arange(*rounded.tolist(), dtype=dtype)


def _sinusoidal() -> Tensors:
    return {
        f"sinusoidal.{n_positions}x{n_embd}": torch.from_numpy(_sinusoidal_table(n_positions, n_embd))
        for n_positions, n_embd in ((40, 16), (9, 7), (3, 1))
    }


def _sinusoidal_table(n_positions: int, n_embd: int) -> numpy.ndarray:
    """Section 3.5 of "Attention Is All You Need" (https://arxiv.org/abs/1706.03762), in double precision."""
    column = numpy.arange(n_embd)
    angles = numpy.arange(n_positions)[:, None] / 10000.0 ** (2 * (column // 2) / n_embd)
    return numpy.where(column % 2 == 0, numpy.sin(angles), numpy.cos(angles))


def _lookups() -> Tensors:
    generator = torch.Generator().manual_seed(0)
    goldens: Tensors = {}
    ids = {
        "rank_1": torch.tensor([0, 6, 3, 3, 1, 2, 4, 5]),
        "rank_2": torch.tensor([[5, 0, 2], [6, 6, 1]]),
        "empty": torch.zeros(0, dtype=torch.int64),
        "empty_rows": torch.zeros(2, 0, dtype=torch.int64),
        "no_rows": torch.zeros(0, 3, dtype=torch.int64),
    }
    for shape, values in ids.items():
        goldens[f"lookup.ids.{shape}"] = values
    for dtype in FLOATING_BITS:
        table = torch.randn(7, 5, generator=generator, dtype=torch.float64).to(dtype)
        table[2:5] = _rows_that_arithmetic_would_change(dtype)
        goldens[f"lookup.{_name(dtype)}.weight"] = table
        for shape, values in ids.items():
            goldens[f"lookup.{_name(dtype)}.{shape}"] = nn.functional.embedding(values, table)
    return goldens


def _rows_that_arithmetic_would_change(dtype: torch.dtype) -> torch.Tensor:
    """NaNs of three payloads and both signs, infinities, negative zero, subnormals, the extremes of `dtype`."""
    info = torch.finfo(dtype)
    to_bits = FLOATING_BITS[dtype]
    infinity = torch.tensor(float("inf"), dtype=dtype).view(to_bits).item()
    quiet = torch.tensor(float("nan"), dtype=dtype).view(to_bits).item()
    sign = torch.iinfo(to_bits).min
    nans = [quiet, quiet + 1, quiet + 2 + sign, infinity + 1, infinity + 3 + sign]
    specials = [infinity, infinity + sign, sign, 1, 2 + sign]
    extremes = torch.tensor([info.max, info.min, info.tiny, -info.tiny, info.eps], dtype=dtype).view(to_bits)
    return torch.stack((torch.tensor(nans, dtype=to_bits), torch.tensor(specials, dtype=to_bits), extremes)).view(dtype)


def _padding_index() -> Tensors:
    """A fresh table gets a row of zeros there, a given one keeps its row; forward returns what is stored."""
    torch.manual_seed(0)
    ids = torch.tensor([[1, 4, 0], [4, 3, 4]])
    goldens: Tensors = {"padding_idx.ids": ids}
    for case, padding_idx in (("positive", 4), ("negative", -3)):
        fresh = nn.Embedding(6, 5, padding_idx=padding_idx)
        given = nn.Embedding.from_pretrained(torch.randn(6, 5), padding_idx=padding_idx)
        goldens |= {
            f"padding_idx.{case}.given": torch.tensor(padding_idx),
            f"padding_idx.{case}.normalised": torch.tensor(fresh.padding_idx),
            f"padding_idx.{case}.fresh.weight": fresh.weight,
            f"padding_idx.{case}.fresh.values": fresh(ids),
            f"padding_idx.{case}.pretrained.weight": given.weight,
            f"padding_idx.{case}.pretrained.values": given(ids),
        }
    return goldens


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
