#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Installs the library from a build whose dependencies are no packages but folders of sources, and compares the
# installation with the one in PREFIX: it must know nothing of those folders.
#
#   from_sources.sh CMAKE SOURCE BUILD PREFIX [CMAKE_OPTIONS...]
set -eu

cmake=$1 source=$2 build=$3 prefix=$4
shift 4
rm -rf "$build"
"$cmake" -S "$source" -B "$build" -DGPT2_EMBEDDINGS_BUILD_TESTS=OFF -DGPT2_EMBEDDINGS_BUILD_EXAMPLES=OFF "$@"
"$cmake" --install "$build" --prefix "$build/prefix"
diff -r "$prefix" "$build/prefix"
