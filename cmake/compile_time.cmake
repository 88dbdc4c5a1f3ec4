# SPDX-License-Identifier: MIT
#
# How tests and examples are compiled in less time.
#
# Headers that many programs of this build begin with are compiled once. Not under ccache, which keeps its results by
# the text of a file with all that it includes, and would find nothing again.

# gpt2_embeddings_precompile(<name> <header>...): an object library from which programs take the headers. It must be
# compiled with the same options as they are.
function(gpt2_embeddings_precompile name)
  set(file ${CMAKE_CURRENT_BINARY_DIR}/${name}.cpp)
  file(CONFIGURE OUTPUT ${file} CONTENT "// Nothing: ${name} is compiled for its precompiled header.\n")
  add_library(${name} OBJECT EXCLUDE_FROM_ALL ${file})
  if(NOT CMAKE_CXX_COMPILER_LAUNCHER MATCHES "ccache")
    target_precompile_headers(${name} PRIVATE ${ARGN})
  endif()
endfunction()

# gpt2_embeddings_begins_with(<target> <name>): gives a program the headers of gpt2_embeddings_precompile.
function(gpt2_embeddings_begins_with target name)
  if(NOT CMAKE_CXX_COMPILER_LAUNCHER MATCHES "ccache")
    target_precompile_headers(${target} REUSE_FROM ${name})
  endif()
endfunction()

option(GPT2_EMBEDDINGS_QUICK_BUILD
  "Compile the unit tests of a room together, and examples with -O1: half the time, of all tests" OFF)

# gpt2_embeddings_optimise_less(<target>): -O1 where a release has more, unless it is made for a processor.
function(gpt2_embeddings_optimise_less target)
  if(CMAKE_CXX_FLAGS MATCHES "-march=")
    return()
  endif()
  target_compile_options(${target} PRIVATE
    $<$<AND:$<CONFIG:Release>,$<CXX_COMPILER_ID:GNU,Clang,AppleClang>>:-O1>
    # GCC 12's analysis at -O1 takes Eigen's uninitialised memory for a mistake.
    $<$<AND:$<CONFIG:Release>,$<CXX_COMPILER_ID:GNU>>:-Wno-maybe-uninitialized>)
endfunction()
