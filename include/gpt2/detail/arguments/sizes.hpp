// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// The check of sizes of tables.

#include <limits>
#include <string_view>

#include "gpt2/error.hpp"
#include "gpt2/scalar.hpp"

namespace gpt2::inline GPT2_EMBEDDINGS_ABI::detail {

/// Throws: ArgumentError if size is negative.
inline void check_size(std::string_view name, Index size) {
  if (size < 0) throw ArgumentError(name, size, "is negative");
}

/// Throws: ArgumentError, with the name of the number of rows, unless memory could hold a table of these sizes.
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

/// The padding_idx in [0, num_embeddings); a negative one counts from the end.
/// Throws: ArgumentError.
[[nodiscard]] inline Index checked_padding_idx(Index row, Index num_embeddings) {
  if (row < -num_embeddings || row >= num_embeddings) {
    throw ArgumentError("padding_idx", row,
                        "is outside [" + to_text(-num_embeddings) + ", " + to_text(num_embeddings) + ")");
  }
  return row < 0 ? row + num_embeddings : row;
}

}  // namespace gpt2::detail
