// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// The definitions of initialization.hpp, and fresh tables.

#include <cmath>
#include <cstdint>
#include <string_view>

#include "gpt2/detail/arguments/sizes.hpp"
#include "gpt2/detail/kernels/normal.hpp"
#include "gpt2/detail/kernels/philox.hpp"
#include "gpt2/detail/kernels/rounding.hpp"
#include "gpt2/detail/owned_table.hpp"
#include "gpt2/initialization.hpp"

namespace gpt2::inline GPT2_EMBEDDINGS_ABI {

namespace detail {

/// Fills a matrix with elements first_element, first_element + 1, … of a seed's N(0, stddev²).
/// Throws: ArgumentError.
template <WritableDense M>
void fill_normal(M&& matrix, double stddev, std::uint64_t seed, std::uint64_t stream,
                 std::uint64_t first_element) {
  using T = typename DenseOf<M>::Scalar;
  if (!(stddev >= 0) || !std::isfinite(stddev)) {
    throw ArgumentError("stddev", stddev, "is not a finite number of at least 0");
  }
  ElementBits bits(seed, stream);
  std::uint64_t element = first_element;
  for (Index i = 0; i < matrix.rows(); ++i) {
    for (Index j = 0; j < matrix.cols(); ++j) {
      const double value = stddev * static_cast<double>(standard_normal(bits(element++)));
      matrix.coeffRef(i, j) = convert<T>(value);
    }
  }
}

/// Rows [first, last) of a table of N(0, stddev²).
template <Scalar T>
[[nodiscard]] OwnedTable<T> fresh_rows(Index first, Index last, Index embedding_dim, double stddev,
                                       std::uint64_t seed, std::uint64_t stream) {
  auto weight = OwnedTable<T>::uninitialised(last - first, embedding_dim);
  fill_normal(*weight, stddev, seed, stream,
              static_cast<std::uint64_t>(first) * static_cast<std::uint64_t>(embedding_dim));
  return weight;
}

/// A table of N(0, stddev²).
template <Scalar T>
[[nodiscard]] OwnedTable<T> fresh_table(Index num_embeddings, Index embedding_dim, double stddev,
                                        std::uint64_t seed, std::uint64_t stream = 0,
                                        std::string_view rows_name = "num_embeddings") {
  check_table_size<T>(rows_name, num_embeddings, embedding_dim);
  return fresh_rows<T>(0, num_embeddings, embedding_dim, stddev, seed, stream);
}

}  // namespace detail

template <detail::WritableDense M>
void normal_(M&& matrix, double stddev, std::uint64_t seed, std::uint64_t stream) {
  detail::fill_normal(matrix, stddev, seed, stream, 0);
}

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

}  // namespace gpt2
