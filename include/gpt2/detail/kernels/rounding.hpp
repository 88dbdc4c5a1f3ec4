// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// From one scalar to another with a single rounding.

#include <bit>
#include <cmath>
#include <concepts>
#include <cstdint>

#include "gpt2/detail/same.hpp"
#include "gpt2/scalar.hpp"

namespace gpt2::inline GPT2_EMBEDDINGS_ABI::detail {

/// `value` as a float that, rounded again to half or bfloat16, gives the same result as rounding `value` itself.
/// A float to nearest even would not: it may fall on the middle between two halves although `value` does not. So
/// the last bit of an inexact float is set, which keeps it off every such middle.
[[nodiscard]] inline float round_to_odd(double value) noexcept {
  const auto nearest = static_cast<float>(value);
  if (detail::same(static_cast<double>(nearest), value) || std::isnan(value)) return nearest;
  auto representation = std::bit_cast<std::uint32_t>(nearest);
  if (std::abs(static_cast<double>(nearest)) > std::abs(value)) --representation;  // towards zero
  return std::bit_cast<float>(representation | 1U);
}

/// Rounded once, to nearest even.
template <Scalar To, Scalar From>
[[nodiscard]] To convert(From value) noexcept {
  if constexpr (std::same_as<From, double> && !std::floating_point<To>) {
    return static_cast<To>(round_to_odd(value));
  } else if constexpr (std::same_as<From, double>) {
    return static_cast<To>(value);
  } else {
    return static_cast<To>(static_cast<float>(value));
  }
}

}  // namespace gpt2::detail
