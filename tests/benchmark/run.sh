#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Installs the benchmark's requirements, builds it with -O2, with -O3 -march=native, and with OpenBLAS if it is installed,
# runs them, prints the goals and the measurements, and draws performance.svg. From any folder; takes about twenty
# minutes, during which the machine should be idle otherwise.
#
#   sh tests/benchmark/run.sh                              everything
#   sh tests/benchmark/run.sh --benchmark_filter='^sum'    only some groups; draws nothing
#
# PyTorch and matplotlib come from PyPI, into build/python. GPT2_BENCHMARK_PYTHON names a Python that has them
# instead. Without PyTorch the other contestants are still compared. MAX, of a gigabyte, takes part if that Python has
# it: build/python/bin/python -m pip install max
set -eu

cd "$(dirname "$0")/../.."
. cmake/setup.sh

need_build_tools
need_command python3 python3
need_file 'Google Benchmark 1.7' libbenchmark-dev include/benchmark/benchmark.h
# Required by the tests' configuration, of which the benchmark is a part.
need_file 'Catch2 2.13 or 3' catch2 include/catch2/catch.hpp include/catch2/catch_all.hpp
if [ -z "${GPT2_BENCHMARK_PYTHON:-}" ] && ! python3 -c 'import ensurepip, venv' >/dev/null 2>&1; then
  note_missing "Python's venv" python3-venv
fi
install_missing

python=${GPT2_BENCHMARK_PYTHON:-}
if [ -z "$python" ]; then
  step 'installing PyTorch and matplotlib in build/python'
  python=build/python/bin/python
  [ -x "$python" ] || python3 -m venv build/python
  "$python" -m pip install --quiet matplotlib
  # Without CUDA, if that index can be reached; PyPI's torch has it, and is gigabytes.
  "$python" -m pip install --quiet --retries 1 torch --index-url https://download.pytorch.org/whl/cpu ||
    "$python" -m pip install --quiet torch || echo 'There is no PyTorch to compare with' >&2
fi
"$python" -c 'import matplotlib' # fails now rather than in a quarter of an hour
torch=$("$python" -c 'from importlib.util import find_spec
spec = find_spec("torch")
print(spec.submodule_search_locations[0] if spec else "")')

folder=build/benchmark
if command -v ninja >/dev/null 2>&1; then
  CMAKE_GENERATOR=${CMAKE_GENERATOR:-Ninja}
  export CMAKE_GENERATOR
fi
step "configuring $folder"
cmake --preset release -B "$folder" -DGPT2_EMBEDDINGS_BUILD_TESTS=ON -DGPT2_EMBEDDINGS_BUILD_EXAMPLES=OFF \
  "-DCMAKE_PREFIX_PATH=${torch:+$torch;}${CMAKE_PREFIX_PATH:-}"
step "building $folder with $processors processors"
cmake --build "$folder" --parallel "$processors" --target benchmarks

for name in o2 native; do
  step "measuring $name"
  "$folder/tests/benchmark/benchmark_$name" "$folder/$name.json" "$@"
done
results_of_blas='' results_of_max=''
if [ $# = 0 ] && [ -x "$folder/tests/benchmark/benchmark_blas" ]; then
  step 'measuring the head with OpenBLAS'
  results_of_blas=$folder/blas.json
  "$folder/tests/benchmark/benchmark_blas" "$results_of_blas" \
    --benchmark_filter='^(logits|cross entropy)/'
fi
if [ $# = 0 ] && "$python" -c 'import max.engine' 2>/dev/null; then
  step 'measuring MAX'
  results_of_max=$folder/max.json
  "$python" tests/benchmark/max_graph.py "$results_of_max"
fi
step 'compile time of each header, alone'
cmake --build "$folder" --target benchmark_compile_time
step 'results'
python3 tests/benchmark/report.py ${results_of_blas:+--blas "$results_of_blas"} \
  ${results_of_max:+--peers "$results_of_max"} "$folder/o2.json" "$folder/native.json" \
  "$folder/tests/benchmark/compile_time.json" "$folder/results.json" | tee "$folder/report.txt"
if [ $# = 0 ]; then
  step 'drawing tests/benchmark/performance.svg'
  "$python" tests/benchmark/chart.py "$folder/results.json" tests/benchmark/performance.svg
fi
