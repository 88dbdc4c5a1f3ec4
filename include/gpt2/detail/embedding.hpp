// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// The definitions of embedding.hpp, and the gradients of lookups.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "gpt2/detail/arguments/hidden.hpp"
#include "gpt2/detail/arguments/ids.hpp"
#include "gpt2/detail/arguments/sizes.hpp"
#include "gpt2/detail/initialization.hpp"
#include "gpt2/detail/kernels/rounding.hpp"
#include "gpt2/detail/kernels/row_sources.hpp"
#include "gpt2/detail/kernels/scatter.hpp"
#include "gpt2/detail/same.hpp"
#include "gpt2/embedding.hpp"
#include "gpt2/error.hpp"

namespace gpt2::inline GPT2_EMBEDDINGS_ABI {

namespace detail {

/// The number of times each row of a table occurs in a lookup, if its gradient is divided by that; else empty.
template <Scalar T, class Rows, class I>
[[nodiscard]] std::vector<Index> occurrences(const Embedding<T>& table, const RowsAtIds<Rows, I>& rows) {
  std::vector<Index> counts;
  if (!table.options().scale_grad_by_freq) return counts;
  counts.resize(static_cast<std::size_t>(table.num_embeddings()));
  count_ids(rows.ids, std::span(counts));
  return counts;
}
/// Consecutive rows occur once each.
template <Scalar T, class Rows>
[[nodiscard]] std::vector<Index> occurrences(const Embedding<T>& /*table*/, const RowsFrom<Rows>& /*rows*/) {
  return {};
}

/// The table's gradient, already allocated, as the target of a scatter for some rows.
template <Scalar T, class Source>
[[nodiscard]] auto scatter_to(Embedding<T>& table, const Source& rows) {
  const auto number = [rows](Index sequence, Index place) { return rows.number(sequence, place); };
  return ScatterTo{number, rows_of(table.mutable_grad()), table.options().padding_idx};
}

/// Adds the gradient of rows of a table to its gradient. Everything has been checked and allocated.
template <Scalar T, class Source, class G, class D>
void add_gradient(Embedding<T>& table, const SequenceShape& shape, const Source& rows,
                  const std::vector<Index>& counts, const RowView<G>& grad_output, const D& device) {
  const auto to = scatter_to(table, rows);
  scatter_add(shape, to.ids, grad_output, to.grad, to.padding_idx, counts.empty() ? nullptr : counts.data(),
              device);
}

/// Checks ids and grad_output, then adds to the table's gradient.
template <Scalar T, Ids X, class G, class D>
void backward(Embedding<T>& table, const X& ids, const G& grad_output, const D& device,
              const ArgumentName& argument) {
  const StoredIds stored(ids);
  const RowsAtIds rows{stored_rows(table), checked_ids(stored, table.num_embeddings(), argument)};
  const auto shape = stored.shape();
  const auto gradient =
      checked_rows(grad_output, shape, table.embedding_dim(), {argument.table, "grad_output"});
  add_gradient(table, shape, rows, occurrences(table, rows), gradient, device);
}

/// Checks ids and grad_output, then forms the gradient of the rows that occur.
template <Scalar T, Ids X, class G, class D>
[[nodiscard]] SparseGradient<Accumulator<T>> sparse_backward(const Embedding<T>& table, const X& ids,
                                                             const G& grad_output, const D& device,
                                                             const ArgumentName& argument) {
  const StoredIds stored(ids);
  const auto view = checked_ids(stored, table.num_embeddings(), argument);
  const auto gradient =
      checked_rows(grad_output, view.shape(), table.embedding_dim(), {argument.table, "grad_output"});
  const EmbeddingOptions& options = table.options();
  return sparse_gradient<SparseGradient<Accumulator<T>>>(view, gradient, options.padding_idx,
                                                         options.scale_grad_by_freq, device);
}

}  // namespace detail

template <Scalar T>
Embedding<T>::Embedding(Index num_embeddings, Index embedding_dim, const EmbeddingOptions& options,
                        std::uint64_t seed)
    : Embedding(detail::fresh_table<T>(num_embeddings, embedding_dim, 0.02, seed), options) {
  if (options_.padding_idx) (*owned_).row(*options_.padding_idx).setZero();
}

template <Scalar T>
Embedding<T>::Embedding(const Eigen::Map<const Matrix<T>>& weight, std::shared_ptr<const void> owner,
                        const EmbeddingOptions& options)
    : borrowed_(std::make_shared<const Borrowed>(Borrowed{weight, std::move(owner)})),
      options_(normalised(options, weight.rows())) {
  const auto address = reinterpret_cast<std::uintptr_t>(weight.data());
  if (address % alignof(T) != 0 || (address == 0 && weight.size() != 0)) {
    throw ArgumentError("weight", address, "is not an address of the table's scalars");
  }
}

template <Scalar T>
EmbeddingOptions Embedding<T>::normalised(EmbeddingOptions options, Index num_embeddings) {
  if (options.padding_idx)
    options.padding_idx = detail::checked_padding_idx(*options.padding_idx, num_embeddings);
  return options;
}

template <Scalar T>
Eigen::Map<Matrix<T>> Embedding<T>::mutable_weight() & {
  if (borrowed_) {
    owned_ = detail::OwnedTable<T>::copy_of(borrowed_->weight);
    borrowed_.reset();
  }
  return *owned_;
}

template <Scalar T>
Eigen::Map<Matrix<Accumulator<T>>> Embedding<T>::mutable_grad() & {
  if (!has_grad_) {
    grad_ = detail::OwnedTable<Accumulator<T>>::uninitialised(num_embeddings(), embedding_dim());
    (*grad_).setZero();
    has_grad_ = true;
  }
  return grad();
}

template <Scalar T>
void Embedding<T>::check_has_grad() const {
  if (!has_grad_) throw ArgumentError("grad", "there is no gradient before the first backward()");
}

template <Scalar T>
template <Ids X, HiddenInput<T, ids_rank<X>> G, Device D>
void Embedding<T>::backward(const X& ids, const G& grad_output, const D& device) {
  detail::backward(*this, ids, grad_output, device, detail::ids_argument);
}

template <Scalar T>
template <Ids X, HiddenInput<T, ids_rank<X>> G, Device D>
SparseGradient<Accumulator<T>> Embedding<T>::sparse_backward(const X& ids, const G& grad_output,
                                                             const D& device) const {
  return detail::sparse_backward(*this, ids, grad_output, device, detail::ids_argument);
}

template <Scalar T>
template <Ids X>
void Embedding<T>::renorm(const X& ids, double max_norm, double norm_type) {
  const detail::StoredIds stored(ids);
  const auto view = detail::checked_ids(stored, num_embeddings(), detail::ids_argument);
  if (!(max_norm >= 0)) throw ArgumentError("max_norm", max_norm, "is not a number of at least 0");
  if (!(norm_type >= 0)) throw ArgumentError("norm_type", norm_type, "is not a number of at least 0");
  renorm_rows(detail::unique_ids(view), max_norm, norm_type);
}

template <Scalar T>
void Embedding<T>::renorm_rows(const std::vector<Index>& rows, double max_norm, double norm_type) {
  auto table = mutable_weight();
  for (const Index i : rows) {
    auto row = table.row(i);
    const auto magnitudes = row.template cast<double>().array().abs();
    const double norm = detail::same(norm_type, 0)   ? (magnitudes != 0).template cast<double>().sum()
                        : detail::same(norm_type, 1) ? magnitudes.sum()
                        : detail::same(norm_type, 2) ? std::sqrt(magnitudes.square().sum())
                        : std::isinf(norm_type)      ? (magnitudes.size() > 0 ? magnitudes.maxCoeff() : 0.0)
                                                : std::pow(magnitudes.pow(norm_type).sum(), 1 / norm_type);
    if (norm > max_norm) {
      const double factor = max_norm / (norm + 1e-7);
      for (T& element : row) element = detail::convert<T>(static_cast<double>(element) * factor);
    }
  }
}

}  // namespace gpt2
