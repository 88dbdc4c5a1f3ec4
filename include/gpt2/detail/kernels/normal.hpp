// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// Standard normal numbers from random bits, the same on every platform and compiler.

#include <cmath>
#include <cstdint>
#include <numbers>

#include "gpt2/version.hpp"

namespace gpt2::inline GPT2_EMBEDDINGS_ABI::detail {

/// a * b + c, rounded to float. The product of two floats is exact in double, so it makes no difference
/// whether the compiler contracts it with the sum, and the bits are the same everywhere.
[[nodiscard]] inline float product_plus(float a, float b, double c) {
  return static_cast<float>(static_cast<double>(a) * static_cast<double>(b) + c);
}

/// The natural logarithm to a float's precision, for normal numbers above 0.
[[nodiscard]] inline float portable_log(double x) {
  int exponent = 0;
  double mantissa = std::frexp(x, &exponent);  // [0.5, 1)
  if (mantissa < std::numbers::sqrt2 / 2) {
    mantissa *= 2;
    --exponent;
  }
  // log(m) = 2 atanh(s) with s = (m - 1) / (m + 1), |s| < 0.172: five terms of its series.
  const auto s = static_cast<float>((mantissa - 1) / (mantissa + 1));
  const float z = product_plus(s, s, 0);
  float series = product_plus(z, 1.0F / 9, 1.0 / 7);
  series = product_plus(z, series, 1.0 / 5);
  series = product_plus(z, series, 1.0 / 3);
  series = product_plus(z, series, 1.0);
  // ln 2 to 32 bits, so that its product with the exponent is exact as well.
  constexpr double ln2 = 0x0.B17217F8p0;
  return product_plus(2 * s, series, ln2 * exponent);
}

/// The p-quantile of N(0, 1) for p = (bits + 0.5) / 2^32, to a float's precision; exactly symmetric.
[[nodiscard]] inline float standard_normal(std::uint32_t bits) {
  // p - 0.5, exactly.
  const double offset = static_cast<double>(2 * static_cast<std::int64_t>(bits) + 1) * 0x1p-33 - 0.5;
  if (std::abs(offset) <= 0.425) {
    const auto q = static_cast<float>(offset);
    const float r = product_plus(-q, q, 0.180625);
    float numerator = product_plus(r, 59.10937472F, 159.29113202);
    numerator = product_plus(r, numerator, 50.434271938);
    numerator = product_plus(r, numerator, 3.3871327179);
    float denominator = product_plus(r, 67.1875636F, 78.757757664);
    denominator = product_plus(r, denominator, 17.895169469);
    denominator = product_plus(r, denominator, 1.0);
    return static_cast<float>(static_cast<double>(q) * static_cast<double>(numerator) /
                              static_cast<double>(denominator));
  }
  const double tail = 0.5 - std::abs(offset);  // exact, at least 2^-33
  const auto r = static_cast<float>(std::sqrt(static_cast<double>(-portable_log(tail))) - 1.6);
  float numerator = product_plus(r, 0.17023821103F, 1.3067284816);
  numerator = product_plus(r, numerator, 2.75681539);
  numerator = product_plus(r, numerator, 1.4234372777);
  float denominator = product_plus(r, 0.12021132975F, 0.7370016425);
  denominator = product_plus(r, denominator, 1.0);
  const auto magnitude =
      static_cast<float>(static_cast<double>(numerator) / static_cast<double>(denominator));
  return offset < 0 ? -magnitude : magnitude;
}

}  // namespace gpt2::detail
