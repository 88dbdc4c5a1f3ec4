#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Installs the tests' requirements, builds everything, and runs the whole suite. From any folder; later runs are quick.
#
#   sh tests/run.sh [CMAKE_OPTIONS...]
set -eu

cd "$(dirname "$0")/.."
. cmake/setup.sh

need_build_tools
need_command python3 python3
need_command pkg-config pkg-config
need_file 'Catch2 2.13 or 3' catch2 include/catch2/catch.hpp include/catch2/catch_all.hpp
install_missing

configure release -DGPT2_EMBEDDINGS_BUILD_TESTS=ON -DGPT2_EMBEDDINGS_QUICK_BUILD=ON "$@"
build release
step 'testing'
ctest --preset release --parallel "$processors"
