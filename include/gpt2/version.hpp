// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// The library's version, the one place it is written: CMake reads it from here.

// Macros, so that `#if` can ask; everything else should use the constants below.
/// gpt2::version_major, for `#if`.
#define GPT2_EMBEDDINGS_VERSION_MAJOR 0
/// gpt2::version_minor, for `#if`.
#define GPT2_EMBEDDINGS_VERSION_MINOR 1
/// gpt2::version_patch, for `#if`.
#define GPT2_EMBEDDINGS_VERSION_PATCH 0

namespace gpt2 {

/// The version as numbers; semantic versioning.
inline constexpr int version_major = GPT2_EMBEDDINGS_VERSION_MAJOR;
/// Below 1.0 a step may break.
inline constexpr int version_minor = GPT2_EMBEDDINGS_VERSION_MINOR;
/// A step repairs, and neither adds nor breaks.
inline constexpr int version_patch = GPT2_EMBEDDINGS_VERSION_PATCH;

}  // namespace gpt2
