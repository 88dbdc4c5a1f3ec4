#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Installs the examples' requirements, builds one of them, embed_tokens, and embeds a text or token ids with it: those
# given, with the checkpoint given, or some of the bundled one. From any folder; later runs are quick. Afterwards
# cmake --build build/release builds all examples.
#
#   sh examples/run.sh                                  the bundled checkpoint
#   sh examples/run.sh --text "man bites dog"           the same with your own words, out of its 26
#   sh examples/run.sh CHECKPOINT [OPTIONS...]          a folder with GPT-2's config.json and model.safetensors;
#                                                       the options are those of embed_tokens, see --help
set -eu

top=$(cd "$(dirname "$0")/.." && pwd)
# In a subshell, because the checkpoint may be named relative to the caller's folder.
(
  cd "$top"
  . cmake/setup.sh
  need_build_tools
  # Text needs PCRE2, except with the bundled checkpoint, whose vocabulary is words.
  case ${1:--} in
    -*) ;;
    *)
      for argument do
        if [ "$argument" = --text ]; then
          need_file 'PCRE2, for --text' libpcre2-dev include/pcre2.h
          break
        fi
      done
      ;;
  esac
  install_missing
  # The same build folder as tests/run.sh, which changes these options: neither rebuilds the other's programs.
  configure release -DGPT2_EMBEDDINGS_BUILD_TESTS=OFF -DGPT2_EMBEDDINGS_QUICK_BUILD=OFF
  build release embed_tokens
  step 'running build/release/examples/embed_tokens'
)
exec "$top/build/release/examples/embed_tokens" "$@"
