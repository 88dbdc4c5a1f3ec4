// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// More or fewer tokens in a vocabulary, longer or shorter sequences: tables with another number of rows.

#include <cstdint>

#include "gpt2/embedding.hpp"
#include "gpt2/random.hpp"
#include "gpt2/types.hpp"

namespace gpt2::inline GPT2_EMBEDDINGS_ABI {

/// How resize_token_embeddings() sizes and fills a table.
struct ResizeOptions {
  /// Round the number of rows up to a multiple of this; 0 for no rounding.
  Index pad_to_multiple_of = 0;
  /// Draw new rows around the mean of the old ones, so that the logits of the new tokens start inconspicuous;
  /// else from N(0, 0.02²), as a fresh table.
  bool mean_resizing = true;
  /// Of the new rows.
  std::uint64_t seed = default_seed;
};

/// A table with the first rows of another one and new ones after them, or with fewer rows.
///
/// New rows are normally distributed with the mean of all old rows and 1e-9 times their covariance (the sum
/// of products divided by the number of rows). They are that mean itself if the covariance is not positive
/// definite to a double's precision, as when there are no more rows than columns. If there are no old rows, or
/// without mean_resizing, they are N(0, 0.02²). They are computed in double, rounded once, and independent of
/// the numbers that normal_() draws from the same seed.
///
/// The result owns its table and has no gradient. It has the options of the old table; a padding_idx beyond
/// its end is dropped.
/// Shape: `[new_num_tokens, embedding_dim]`, new_num_tokens rounded up.
/// Throws: ArgumentError if new_num_tokens or pad_to_multiple_of is negative or makes the table too large.
/// Complexity: if rows are drawn about the mean, O((num_embeddings + added) * embedding_dim²).
/// Source: transformers.PreTrainedModel.resize_token_embeddings; Hewitt, "Initializing new word embeddings
/// for pretrained language models", 2021.
template <Scalar T>
[[nodiscard]] Embedding<T> resize_token_embeddings(const Embedding<T>& embedding, Index new_num_tokens,
                                                   const ResizeOptions& options = {});

/// The new rows of resize_positions().
enum class PositionGrowth {
  interpolate,  ///< the old rows stretched evenly over all places, linearly; first and last row are kept
  repeat_last,  ///< appends copies of the last row
  zero,         ///< appends zeros
};

/// A position table for longer or shorter sequences. A shorter one is the first rows, whatever the growth;
/// a table without rows grows to zeros. Interpolation is computed in double and rounded once; a row at the
/// place of an old one is that one, bit for bit.
///
/// The result owns its table and has no gradient. It has the options of the old table; a padding_idx beyond
/// its end is dropped.
/// Shape: `[new_n_positions, embedding_dim]`.
/// Throws: ArgumentError if new_n_positions is negative or makes the table too large.
/// Complexity: O(new_n_positions * embedding_dim).
template <Scalar T>
[[nodiscard]] Embedding<T> resize_positions(const Embedding<T>& embedding, Index new_n_positions,
                                            PositionGrowth growth);

}  // namespace gpt2

#include "gpt2/detail/resize.hpp"
