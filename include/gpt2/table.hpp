// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// The concept Table: anything that can be looked up, summed and scored.

#include <concepts>
#include <utility>

#include "gpt2/detail/rows.hpp"
#include "gpt2/scalar.hpp"

namespace gpt2::inline GPT2_EMBEDDINGS_ABI {

/// A table of num_embeddings rows and embedding_dim columns whose rows kernels can read: Embedding<T> and
/// QuantizedEmbedding. Lookups, GPT2Embeddings, and logits(), top_k(), cross_entropy_loss() and
/// cross_entropy_losses() are written once, for any Table.
///
/// A table has a friend `stored_rows(table)` that returns its rows as kernels read them. They have `rows`, `cols`, a
/// `value_type`, and `row(i)`: a pointer, or whatever load_packet(), from_column() and prefetch_columns() take for one.
template <class E>
concept Table = std::copyable<E> && requires(const E& table) {
  { table.num_embeddings() } -> std::same_as<Index>;
  { table.embedding_dim() } -> std::same_as<Index>;
  stored_rows(table).row(Index{});
  requires Scalar<typename decltype(stored_rows(table))::value_type>;
};

namespace detail {

template <Table E>
using RowsOf = decltype(stored_rows(std::declval<const E&>()));

}  // namespace detail

/// The scalar of a table's lookups: T of an Embedding<T>, float of a QuantizedEmbedding.
template <Table E>
using table_scalar_t = typename detail::RowsOf<E>::value_type;

}  // namespace gpt2
