// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// The library's version. It is written here only: CMake reads it from this file.

// Macros for use in `#if`; everything else should use the constants below.
/// gpt2::version_major, for `#if`.
#define GPT2_EMBEDDINGS_VERSION_MAJOR 0
/// gpt2::version_minor, for `#if`.
#define GPT2_EMBEDDINGS_VERSION_MINOR 2
/// gpt2::version_patch, for `#if`.
#define GPT2_EMBEDDINGS_VERSION_PATCH 0

// Two versions may live in one process, in separate libraries, so the version is part of all mangled names. The
// namespace is inline: callers do not write it.
#define GPT2_EMBEDDINGS_ABI_NAME(major, minor, patch) v##major##_##minor##_##patch
#define GPT2_EMBEDDINGS_ABI_OF(major, minor, patch) GPT2_EMBEDDINGS_ABI_NAME(major, minor, patch)
#define GPT2_EMBEDDINGS_ABI                                                            \
  GPT2_EMBEDDINGS_ABI_OF(GPT2_EMBEDDINGS_VERSION_MAJOR, GPT2_EMBEDDINGS_VERSION_MINOR, \
                         GPT2_EMBEDDINGS_VERSION_PATCH)

#if (defined(__GNUC__) && !defined(__cpp_exceptions)) || (defined(_MSC_VER) && !defined(_CPPUNWIND))
#error "gpt2-embeddings reports wrong input by exceptions: compile without -fno-exceptions"
#include "gpt2/exceptions_are_required"  // does not exist, so that the compiler stops here
#endif

// x87 registers round to 64 bits, and again when they are stored. (The macro is -1 with -ffast-math: unknown.)
#if defined(__FLT_EVAL_METHOD__) && (__FLT_EVAL_METHOD__ == 1 || __FLT_EVAL_METHOD__ == 2)
#error \
    "gpt2-embeddings computes in float and double as they are: on 32-bit x86, compile with -msse2 -mfpmath=sse"
#include "gpt2/sse_arithmetic_is_required"  // does not exist, so that the compiler stops here
#endif

namespace gpt2::inline GPT2_EMBEDDINGS_ABI {

/// The version as numbers; semantic versioning.
inline constexpr int version_major = GPT2_EMBEDDINGS_VERSION_MAJOR;
/// Below 1.0, a minor release may break compatibility.
inline constexpr int version_minor = GPT2_EMBEDDINGS_VERSION_MINOR;
/// Patch releases only fix bugs.
inline constexpr int version_patch = GPT2_EMBEDDINGS_VERSION_PATCH;

}  // namespace gpt2
