// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// The rows that can be summed: those of a table at ids, consecutive ones, and given ones. A source is called with
/// (sequence, place) and returns a row; those of tables also tell its number.

#include "gpt2/detail/rows.hpp"
#include "gpt2/scalar.hpp"

namespace gpt2::inline GPT2_EMBEDDINGS_ABI::detail {

/// The rows of a table at ids that have been checked.
template <class Rows, class I>
struct RowsAtIds {
  Rows table;
  IdView<I> ids;

  [[nodiscard]] Index number(Index sequence, Index place) const {
    return static_cast<Index>(ids(sequence, place));
  }
  [[nodiscard]] auto operator()(Index sequence, Index place) const {
    return table.row(number(sequence, place));
  }
};
template <class Rows, class I>
RowsAtIds(Rows, IdView<I>) -> RowsAtIds<Rows, I>;

/// Row first + place of a table, in every sequence.
template <class Rows>
struct RowsFrom {
  Rows table;
  Index first;

  [[nodiscard]] Index number(Index /*sequence*/, Index place) const { return first + place; }
  [[nodiscard]] auto operator()(Index sequence, Index place) const {
    return table.row(number(sequence, place));
  }
};
template <class Rows>
RowsFrom(Rows, Index) -> RowsFrom<Rows>;

/// The caller's hidden states.
template <class U>
struct GivenRows {
  RowView<U> rows;
  Index seq_length;

  [[nodiscard]] U* operator()(Index sequence, Index place) const {
    return rows.row(sequence * seq_length + place);
  }
};
template <class U>
GivenRows(RowView<U>, Index) -> GivenRows<U>;

}  // namespace gpt2::detail
