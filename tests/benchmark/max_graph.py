#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Times the sum wte[ids] + wpe[positions] as a graph that MAX has compiled, with all processors.

    max_graph.py RESULTS.json

Needs `pip install max`. MAX has no option for one thread on a processor, so that its results stand in the groups of as
many threads as there are processors. Its first run compiles each graph, which takes a minute or more.
"""

import json
import os
import statistics
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
from max.driver import CPU, Buffer
from max.dtype import DType
from max.engine import InferenceSession
from max.graph import DeviceRef, Graph, TensorType, ops

VOCAB_SIZE, N_POSITIONS, N_EMBD = 50257, 1024, 768
SHAPES = ((1, 1), (1, 64), (1, 1024), (8, 1024), (32, 1024))
UNTIMED, SAMPLES = 3, 15


def compiled(session: InferenceSession, batch: int, seq_length: int) -> object:
    cpu = DeviceRef.CPU()
    types = [
        TensorType(DType.float32, (VOCAB_SIZE, N_EMBD), device=cpu),
        TensorType(DType.float32, (N_POSITIONS, N_EMBD), device=cpu),
        TensorType(DType.int64, (batch, seq_length), device=cpu),
        TensorType(DType.int64, (seq_length,), device=cpu),
    ]
    with Graph(f"sum_{batch}x{seq_length}", input_types=types) as graph:
        wte, wpe, ids, positions = (value.tensor for value in graph.inputs)
        graph.output(ops.gather(wte, ids, axis=0) + ops.gather(wpe, positions, axis=0))
    return session.load(graph)


def microseconds(model: object, inputs: list[list[Buffer]]) -> float:
    """The median time of a call, each with ids of its own."""
    times = []
    for sample in range(SAMPLES):
        for i in range(UNTIMED):
            model.execute(*inputs[(sample + i) % len(inputs)])
        start = time.perf_counter()
        model.execute(*inputs[(sample + UNTIMED) % len(inputs)])
        times.append((time.perf_counter() - start) * 1e6)
    return statistics.median(times)


def main() -> None:
    (path,) = sys.argv[1:]
    random = np.random.default_rng(1)
    session = InferenceSession(devices=[CPU()])
    wte_values = random.standard_normal((VOCAB_SIZE, N_EMBD), dtype=np.float32)
    wpe_values = random.standard_normal((N_POSITIONS, N_EMBD), dtype=np.float32)
    wte, wpe = Buffer.from_numpy(wte_values), Buffer.from_numpy(wpe_values)
    benchmarks = []
    for batch, seq_length in SHAPES:
        model = compiled(session, batch, seq_length)
        places = np.arange(seq_length, dtype=np.int64)
        ids = [random.integers(VOCAB_SIZE, size=(batch, seq_length)) for _ in range(8)]
        inputs = [[wte, wpe, Buffer.from_numpy(draw), Buffer.from_numpy(places)] for draw in ids]
        (result,) = model.execute(*inputs[0])
        if not np.array_equal(result.to_numpy(), wte_values[ids[0]] + wpe_values[places]):
            raise SystemExit(f"MAX's sum of {batch} x {seq_length} is another")
        time_of_call = microseconds(model, inputs)
        name = f"sum/{batch}x{seq_length}/{N_EMBD}/uniform/{os.cpu_count()}/max"
        print(f"{name}: {time_of_call:.1f} us", flush=True)
        benchmarks.append(
            {"run_name": name, "run_type": "iteration", "real_time": time_of_call, "time_unit": "us", "peak_bytes": 0.0}
        )
    content = {"context": {"max": version("max")}, "benchmarks": benchmarks}
    Path(path).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
