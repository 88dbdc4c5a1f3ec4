// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// The lookup of ids in any table, with the names that its owner wants in errors: from the argument to a checked view,
/// a row source, and the kernel.

#include "gpt2/detail/arguments/hidden.hpp"
#include "gpt2/detail/arguments/ids.hpp"
#include "gpt2/detail/kernels/row_sources.hpp"
#include "gpt2/detail/kernels/row_sums.hpp"
#include "gpt2/table.hpp"

namespace gpt2::inline GPT2_EMBEDDINGS_ABI::detail {

/// Checks ids and out, then writes the rows to out.
template <Table E, Ids X, class Out, class D>
void lookup_into(const E& table, const X& ids, Out&& out, const D& device, const ArgumentName& argument) {
  const StoredIds stored(ids);
  const auto view = checked_ids(stored, table.num_embeddings(), argument);
  const auto rows = checked_rows(out, view.shape(), table.embedding_dim(), {argument.table, "out"});
  sum_rows<Accumulator<table_scalar_t<E>>>(view.shape(), rows, device, RowsAtIds{stored_rows(table), view});
}

/// Checks ids, then writes the rows to new memory.
template <Table E, Ids X, class D>
[[nodiscard]] auto lookup(const E& table, const X& ids, const D& device, const ArgumentName& argument) {
  using T = table_scalar_t<E>;
  const StoredIds stored(ids);
  const auto view = checked_ids(stored, table.num_embeddings(), argument);
  auto out = make_hidden<T, ids_rank<X>>(view.shape(), table.embedding_dim());
  sum_rows<Accumulator<T>>(view.shape(), all_rows(out), device, RowsAtIds{stored_rows(table), view});
  return out;
}

}  // namespace gpt2::detail
