// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// The entry point for labels, of which those that are not ignored are collected and checked here.

#include <cstddef>
#include <cstdint>
#include <string>
#include <type_traits>
#include <vector>

#include "gpt2/detail/arguments/ids.hpp"
#include "gpt2/detail/rows.hpp"
#include "gpt2/error.hpp"
#include "gpt2/ids.hpp"
#include "gpt2/scalar.hpp"

namespace gpt2::inline GPT2_EMBEDDINGS_ABI::detail {

/// Whether a label is ignore_index, by value.
template <Id I>
[[nodiscard]] constexpr bool is_ignored(I label, std::int64_t ignore_index) {
  if constexpr (std::is_signed_v<I>) {
    return static_cast<std::int64_t>(label) == ignore_index;
  } else {
    return ignore_index >= 0 && static_cast<std::uint64_t>(label) == static_cast<std::uint64_t>(ignore_index);
  }
}

/// The positions that have a label, ascending, and their labels.
struct Labels {
  std::vector<Index> positions;
  std::vector<Index> labels;

  [[nodiscard]] Index size() const { return static_cast<Index>(labels.size()); }
};

/// The labels of hidden states of a shape.
/// Throws: ShapeError; IndexError naming the first label that is neither ignored nor in [0, vocab_size).
template <Ids L>
[[nodiscard]] Labels checked_labels(const L& labels, const SequenceShape& shape, Index vocab_size,
                                    std::int64_t ignore_index) {
  const StoredIds stored(labels);
  const auto& view = stored.view();
  const bool fits = shape.rank == 2 && view.rank == 2
                        ? view.batch == shape.batch && view.seq_length == shape.seq_length
                        : view.batch * view.seq_length == shape.size();
  if (!fits) {
    const std::string flat = to_text({shape.size()});
    throw ShapeError("lm_head", "labels", shape.rank == 2 ? to_text(shape.extents()) + " or " + flat : flat,
                     to_text(view.shape().extents()));
  }
  Labels kept;
  kept.positions.reserve(static_cast<std::size_t>(shape.size()));
  kept.labels.reserve(static_cast<std::size_t>(shape.size()));
  for (Index sequence = 0; sequence < view.batch; ++sequence) {
    for (Index place = 0; place < view.seq_length; ++place) {
      const auto label = view(sequence, place);
      if (is_ignored(label, ignore_index)) continue;
      if (static_cast<std::uint64_t>(label) >= static_cast<std::uint64_t>(vocab_size)) {
        throw IndexError("lm_head", "labels", view.coordinates(sequence, place), label, vocab_size,
                         ", and not ignore_index, " + to_text(ignore_index));
      }
      kept.positions.push_back(sequence * view.seq_length + place);
      kept.labels.push_back(static_cast<Index>(label));
    }
  }
  return kept;
}

}  // namespace gpt2::detail
