// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// Looking up checked ids in a table, under the names its owner wants errors to use.

#include <string>

#include "gpt2/detail/arguments/hidden.hpp"
#include "gpt2/detail/arguments/ids.hpp"
#include "gpt2/detail/kernels/row_sums.hpp"
#include "gpt2/types.hpp"

namespace gpt2::inline GPT2_EMBEDDINGS_ABI::detail {

/// out[i] = table[ids[i]] for ids and out that have been checked.
template <class T, class I, class U, class D>
void gather(const RowView<const T>& table, const IdView<I>& ids, const RowView<U>& out, const D& device) {
  const auto row_at = [&](Index sequence, Index place) {
    return table.row(static_cast<Index>(ids(sequence, place)));
  };
  sum_rows<Accumulator<T>>(shape_of(ids), out, device, row_at);
}

/// Checks ids and out, then looks up into out.
template <class T, Ids X, class Out, class D>
void lookup_into(const RowView<const T>& table, const X& ids, Out&& out, const D& device,
                 const IdArgument& argument) {
  const auto& in_memory = evaluated(ids);
  const auto view = id_view(in_memory);
  check_ids(view, table.rows, argument);
  const auto rows = checked_rows(out, shape_of(view), table.cols, std::string(argument.table) + ": out");
  gather(table, view, rows, device);
}

/// Checks ids, then looks up into fresh memory.
template <class T, Ids X, class D>
[[nodiscard]] Hidden<T, ids_rank<X>> lookup(const RowView<const T>& table, const X& ids, const D& device,
                                            const IdArgument& argument) {
  const auto& in_memory = evaluated(ids);
  const auto view = id_view(in_memory);
  check_ids(view, table.rows, argument);
  auto out = make_hidden<T, ids_rank<X>>(shape_of(view), table.cols);
  gather(table, view, checked_rows(out, shape_of(view), table.cols, "out"), device);
  return out;
}

}  // namespace gpt2::detail
