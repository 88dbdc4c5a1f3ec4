// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// Equality, for floating-point numbers that are compared exactly on purpose.

#include <type_traits>

#include "gpt2/version.hpp"

namespace gpt2::inline GPT2_EMBEDDINGS_ABI::detail {

/// a == b, without the warning -Wfloat-equal in users' builds. NaN is not the same as anything.
template <class T>
[[nodiscard]] constexpr bool same(const T& a, const std::type_identity_t<T>& b) {
  if constexpr (std::is_floating_point_v<T>) {
    return a <= b && a >= b;
  } else {
    return a == b;
  }
}

}  // namespace gpt2::detail
