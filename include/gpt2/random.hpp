// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// The seed of everything random.

#include <cstdint>

#include "gpt2/version.hpp"

namespace gpt2::inline GPT2_EMBEDDINGS_ABI {

/// The seed of everything random, if no other is given.
inline constexpr std::uint64_t default_seed = 0;

}  // namespace gpt2
