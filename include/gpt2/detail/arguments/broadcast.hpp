// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// The checks of position ids and token types, which go with input ids: one sequence of them may stand for a
/// whole batch.

#include <cstdint>
#include <string>

#include "gpt2/detail/arguments/hidden.hpp"
#include "gpt2/detail/arguments/ids.hpp"
#include "gpt2/error.hpp"
#include "gpt2/types.hpp"

namespace gpt2::inline GPT2_EMBEDDINGS_ABI::detail {

/// A view of ids in memory that go with others of a shape.
/// Throws: ShapeError, IndexError.
template <class X>
[[nodiscard]] auto checked_broadcast(const X& ids, const SequenceShape& shape, Index bound,
                                     const IdArgument& argument) {
  auto view = id_view(ids);
  if (view.seq_length != shape.seq_length || (view.batch != shape.batch && view.batch != 1)) {
    const std::string one = to_text({shape.seq_length});
    const std::string row = to_text({1, shape.seq_length});
    const std::string all = to_text({shape.batch, shape.seq_length});
    throw ShapeError(std::string(argument.table) + ": " + argument.name,
                     shape.rank == 1 ? one + " or " + row : one + ", " + row + " or " + all,
                     to_text(shape_of(view).extents()));
  }
  check_ids(view, bound, argument);
  if (view.batch == 1) view.batch_stride = 0;
  return view;
}

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

}  // namespace gpt2::inline GPT2_EMBEDDINGS_ABI::detail
