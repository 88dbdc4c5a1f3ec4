// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// The library's version, the one place it is written: CMake reads it from here.

// Macros, so that `#if` can ask; everything else should use the constants below.
#define GPT2_EMBEDDINGS_VERSION_MAJOR 0
#define GPT2_EMBEDDINGS_VERSION_MINOR 1
#define GPT2_EMBEDDINGS_VERSION_PATCH 0

namespace gpt2 {

/// The version as numbers; semantic versioning, so below 1.0 a minor step may break.
inline constexpr int version_major = GPT2_EMBEDDINGS_VERSION_MAJOR;
inline constexpr int version_minor = GPT2_EMBEDDINGS_VERSION_MINOR;
inline constexpr int version_patch = GPT2_EMBEDDINGS_VERSION_PATCH;

}  // namespace gpt2
