#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Builds the consumer with a compiler and pkg-config alone.
#
#   pkg_config.sh PREFIX VERSION SOURCE OUTPUT COMPILER...
set -eu

prefix=$1 version=$2 source=$3 output=$4
shift 4
PKG_CONFIG_PATH=$prefix/share/pkgconfig
export PKG_CONFIG_PATH

found=$(pkg-config --modversion gpt2_embeddings)
if [ "$found" != "$version" ]; then
  echo "pkg-config says that version $found is installed, not $version" >&2
  exit 1
fi
# The output of pkg-config is meant to be split into words.
# shellcheck disable=SC2046
"$@" -std=c++20 $(pkg-config --cflags gpt2_embeddings) "$source" -o "$output" $(pkg-config --libs gpt2_embeddings)
"$output"
