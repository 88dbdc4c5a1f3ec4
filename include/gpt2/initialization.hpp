// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// Filling fresh tables: normal_, GPT-2's own initialisation, and sinusoidal, the fixed position table of the
/// original Transformer.

#include <cmath>
#include <cstdint>
#include <limits>
#include <numbers>
#include <string_view>
#include <type_traits>

#include "gpt2/detail/kernels/philox.hpp"
#include "gpt2/detail/kernels/rounding.hpp"
#include "gpt2/error.hpp"
#include "gpt2/types.hpp"

namespace gpt2::inline GPT2_EMBEDDINGS_ABI {

/// The seed of everything random that is given none.
inline constexpr std::uint64_t default_seed = 0;

namespace detail {

/// A matrix of any kind that holds what a table may hold, and can be written to.
template <class M>
concept WritableDense = Dense<M> && !std::is_const_v<std::remove_reference_t<M>> &&
                        Scalar<typename DenseOf<M>::Scalar> && (DenseOf<M>::Flags & Eigen::LvalueBit) != 0;

}  // namespace detail

/// Fills a matrix with N(0, stddev²), rounded once to its scalar: the same numbers on every platform with
/// IEEE arithmetic, with every compiler and optimisation level (short of -ffast-math).
///
/// Element i in row-major order, whatever the storage order, is stddev * quantile((bits + 0.5) / 2^32), where
/// bits are element i of the seed's Philox4x32-10 sequence and quantile is that of N(0, 1), to a float's
/// precision. Streams of one seed are independent of each other.
/// Throws: ArgumentError if stddev is negative or not finite.
/// Complexity: O(size).
/// Source: torch.nn.init.normal_ (the name); Wichura, Algorithm AS 241, Applied Statistics 37 (1988).
template <detail::WritableDense M>
void normal_(M&& matrix, double stddev, std::uint64_t seed = default_seed, std::uint64_t stream = 0);

/// The fixed position table of the original Transformer: sin(position / 10000^(column / n_embd)) in the even
/// columns and the cosine of the same angle in the odd column behind each; wavelengths from 2π to 10000 · 2π.
/// Computed in double, rounded once.
/// Shape: `[n_positions, n_embd]`.
/// Throws: ArgumentError if a size is negative.
/// Source: Vaswani et al., "Attention is all you need", 2017, section 3.5.
template <Scalar T>
[[nodiscard]] Matrix<T> sinusoidal(Index n_positions, Index n_embd);

// Implementation.

namespace detail {

/// a * b + c, rounded to float. The product of two floats is exact in double, so it makes no difference
/// whether the compiler contracts it with the sum: this is what keeps the bits the same everywhere.
[[nodiscard]] inline float multiply_add(float a, float b, double c) {
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
  const float z = multiply_add(s, s, 0);
  float series = multiply_add(z, 1.0F / 9, 1.0 / 7);
  series = multiply_add(z, series, 1.0 / 5);
  series = multiply_add(z, series, 1.0 / 3);
  series = multiply_add(z, series, 1.0);
  // ln 2 to 32 bits, so that its product with the exponent is exact, too.
  constexpr double ln2 = 0x0.B17217F8p0;
  return multiply_add(2 * s, series, ln2 * exponent);
}

/// The p-quantile of N(0, 1) for p = (bits + 0.5) / 2^32, to a float's precision; exactly symmetric.
[[nodiscard]] inline float standard_normal(std::uint32_t bits) {
  // p - 0.5, exactly.
  const double offset = static_cast<double>(2 * static_cast<std::int64_t>(bits) + 1) * 0x1p-33 - 0.5;
  if (std::abs(offset) <= 0.425) {
    const auto q = static_cast<float>(offset);
    const float r = multiply_add(-q, q, 0.180625);
    float numerator = multiply_add(r, 59.10937472F, 159.29113202);
    numerator = multiply_add(r, numerator, 50.434271938);
    numerator = multiply_add(r, numerator, 3.3871327179);
    float denominator = multiply_add(r, 67.1875636F, 78.757757664);
    denominator = multiply_add(r, denominator, 17.895169469);
    denominator = multiply_add(r, denominator, 1.0);
    return static_cast<float>(static_cast<double>(q) * static_cast<double>(numerator) /
                              static_cast<double>(denominator));
  }
  const double tail = 0.5 - std::abs(offset);  // exact, at least 2^-33
  const auto r = static_cast<float>(std::sqrt(static_cast<double>(-portable_log(tail))) - 1.6);
  float numerator = multiply_add(r, 0.17023821103F, 1.3067284816);
  numerator = multiply_add(r, numerator, 2.75681539);
  numerator = multiply_add(r, numerator, 1.4234372777);
  float denominator = multiply_add(r, 0.12021132975F, 0.7370016425);
  denominator = multiply_add(r, denominator, 1.0);
  const auto magnitude =
      static_cast<float>(static_cast<double>(numerator) / static_cast<double>(denominator));
  return offset < 0 ? -magnitude : magnitude;
}

inline void check_size(std::string_view name, Index size) {
  if (size < 0) throw ArgumentError(name, size, "is negative");
}

}  // namespace detail

template <detail::WritableDense M>
void normal_(M&& matrix, double stddev, std::uint64_t seed, std::uint64_t stream) {
  using T = typename detail::DenseOf<M>::Scalar;
  if (!(stddev >= 0) || !std::isfinite(stddev)) {
    throw ArgumentError("stddev", stddev, "is not a finite number of at least 0");
  }
  detail::ElementBits bits(seed, stream);
  std::uint64_t element = 0;
  for (Index i = 0; i < matrix.rows(); ++i) {
    for (Index j = 0; j < matrix.cols(); ++j) {
      const double value = stddev * static_cast<double>(detail::standard_normal(bits(element++)));
      matrix.coeffRef(i, j) = detail::convert<T>(value);
    }
  }
}

namespace detail {

/// Each of the model's tables draws from a stream of its own, so that it depends on the seed and its own
/// sizes alone.
inline constexpr std::uint64_t wte_stream = 0;
inline constexpr std::uint64_t wpe_stream = 1;

/// Throws: ArgumentError, by the name of the number of rows, unless memory could hold a table of these sizes.
template <Scalar T>
void check_table_size(std::string_view name, Index num_embeddings, Index embedding_dim) {
  check_size(name, num_embeddings);
  check_size("embedding_dim", embedding_dim);
  constexpr Index limit = (std::numeric_limits<Index>::max)() / Index{sizeof(T)};
  if (embedding_dim > 0 && num_embeddings > limit / embedding_dim) {
    throw ArgumentError(
        name, num_embeddings,
        "makes the table larger than memory can be: embedding_dim is " + to_text(embedding_dim));
  }
}

/// A table of N(0, stddev²).
template <Scalar T>
[[nodiscard]] Matrix<T> fresh_table(Index num_embeddings, Index embedding_dim, double stddev,
                                    std::uint64_t seed, std::uint64_t stream = 0,
                                    std::string_view rows_name = "num_embeddings") {
  check_table_size<T>(rows_name, num_embeddings, embedding_dim);
  Matrix<T> weight(num_embeddings, embedding_dim);
  normal_(weight, stddev, seed, stream);
  return weight;
}

}  // namespace detail

template <Scalar T>
Matrix<T> sinusoidal(Index n_positions, Index n_embd) {
  detail::check_size("n_positions", n_positions);
  detail::check_size("n_embd", n_embd);
  Matrix<T> table(n_positions, n_embd);
  for (Index column = 0; column < n_embd; ++column) {
    const auto pair = static_cast<double>(column - column % 2);
    const double period = std::pow(10000.0, pair / static_cast<double>(n_embd));
    for (Index position = 0; position < n_positions; ++position) {
      const double angle = static_cast<double>(position) / period;
      table(position, column) = detail::convert<T>(column % 2 == 0 ? std::sin(angle) : std::cos(angle));
    }
  }
  return table;
}

}  // namespace gpt2::inline GPT2_EMBEDDINGS_ABI
