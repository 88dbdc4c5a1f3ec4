// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// The entry point for a past length, which may be given instead of position ids.

#include <cstdint>

#include "gpt2/detail/arguments/ids.hpp"
#include "gpt2/error.hpp"
#include "gpt2/position_ids.hpp"
#include "gpt2/scalar.hpp"

namespace gpt2::inline GPT2_EMBEDDINGS_ABI::detail {

/// Throws: ArgumentError if past_length is negative; IndexError if positions past_length, past_length + 1, …
/// do not fit in wpe.
inline void check_past_length(Index past_length, Index seq_length, Index n_positions) {
  if (past_length < 0) throw ArgumentError("past_length", past_length, "is negative");
  if (past_length > n_positions - seq_length) {
    const auto end = static_cast<std::uint64_t>(past_length) + static_cast<std::uint64_t>(seq_length);
    throw IndexError("wpe", "position_ids", {}, end - 1, n_positions,
                     ": past_length " + to_text(past_length) + " + seq_length " + to_text(seq_length) +
                         " is more than n_positions, " + to_text(n_positions));
  }
}

/// A past length needs no memory.
template <>
class StoredIds<PastLength> {
 public:
  explicit StoredIds(const PastLength& past_length) : past_length_(past_length) {}
  [[nodiscard]] Index past_length() const { return past_length_.value; }

 private:
  PastLength past_length_;
};

}  // namespace gpt2::detail
