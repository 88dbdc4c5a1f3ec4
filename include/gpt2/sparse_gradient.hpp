// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// SparseGradient<A>: the gradient of the rows that a batch has used, without the table's other rows.

#include <concepts>
#include <cstdint>
#include <string>
#include <type_traits>
#include <utility>

#include "gpt2/error.hpp"
#include "gpt2/types.hpp"

namespace gpt2::inline GPT2_EMBEDDINGS_ABI {

namespace detail {

/// A matrix of any kind with elements of type A, which can be written to.
template <class M, class A>
concept DenseOfScalar = Dense<M> && std::same_as<typename DenseOf<M>::Scalar, A> &&
                        !std::is_const_v<std::remove_reference_t<M>> &&
                        (DenseOf<M>::Flags & Eigen::LvalueBit) != 0;

/// Throws: ShapeError if a sparse gradient's rows and values differ in number; ArgumentError if the rows are not
/// ascending.
template <class A>
void check_sparse(const IdVector<Index>& rows, const Matrix<A>& values) {
  if (rows.size() != values.rows()) {
    throw ShapeError("", "values", to_text({rows.size(), values.cols()}),
                     to_text({values.rows(), values.cols()}));
  }
  for (Index i = 1; i < rows.size(); ++i) {
    if (rows[i] <= rows[i - 1]) {
      throw ArgumentError("rows", {i}, rows[i], "does not come after " + to_text(rows[i - 1]));
    }
  }
}

}  // namespace detail

/// The rows of a table that have a gradient, and their gradients: sufficient for a row-wise optimizer.
/// Source: a coalesced torch.sparse_coo_tensor, as torch.nn.Embedding(sparse=True) makes it.
template <class A>
struct SparseGradient {
  IdVector<Index> rows;  ///< `[n]`, ascending, each once
  Matrix<A> values;      ///< `[n, embedding_dim]`

  /// Adds the rows to a dense gradient, or to any other matrix of the table's shape.
  /// Shape: dense `[num_embeddings, embedding_dim]`, a writable matrix, map or block of A.
  /// Throws: IndexError if dense does not have one of the rows; ShapeError if it has another number of columns, or if
  /// rows and values differ in number; ArgumentError if the rows are not ascending. Then dense is as it was.
  /// Complexity: O(n * embedding_dim).
  template <detail::DenseOfScalar<A> M>
  void add_to(M&& dense) const;

  /// Adds another gradient of the same table to this one. A row that both have is this one's plus the other's.
  /// Throws: ShapeError if they differ in columns, or rows and values of either in number; ArgumentError if the rows of either are not ascending.
  /// Complexity: O((n + m) * embedding_dim).
  SparseGradient& merge(const SparseGradient& other);
};

// Implementation.

template <class A>
template <detail::DenseOfScalar<A> M>
void SparseGradient<A>::add_to(M&& dense) const {
  detail::check_sparse(rows, values);
  if (rows.size() > 0 && dense.cols() != values.cols()) {
    throw ShapeError("", "dense", detail::to_text({dense.rows(), values.cols()}),
                     detail::to_text({dense.rows(), dense.cols()}));
  }
  for (const Index i : {Index{0}, rows.size() - 1}) {
    if (rows.size() > 0 && (rows[i] < 0 || rows[i] >= dense.rows())) {
      throw IndexError("dense", "rows", {i}, rows[i], dense.rows());
    }
  }
  for (Index i = 0; i < rows.size(); ++i) dense.row(rows[i]) += values.row(i);
}

template <class A>
SparseGradient<A>& SparseGradient<A>::merge(const SparseGradient& other) {
  detail::check_sparse(rows, values);
  detail::check_sparse(other.rows, other.values);
  if (rows.size() == 0) return *this = SparseGradient(other);  // all of it, or nothing if memory runs out
  if (other.rows.size() == 0) return *this;
  if (other.values.cols() != values.cols()) {
    throw ShapeError("", "other", detail::to_text({other.rows.size(), values.cols()}),
                     detail::to_text({other.rows.size(), other.values.cols()}));
  }
  SparseGradient sum{IdVector<Index>(rows.size() + other.rows.size()),
                     Matrix<A>(rows.size() + other.rows.size(), values.cols())};
  Index size = 0;
  for (Index i = 0, j = 0; i < rows.size() || j < other.rows.size(); ++size) {
    const bool take = i < rows.size() && (j == other.rows.size() || rows[i] <= other.rows[j]);
    const bool take_other = j < other.rows.size() && (i == rows.size() || other.rows[j] <= rows[i]);
    sum.rows[size] = take ? rows[i] : other.rows[j];
    if (take && take_other) {
      sum.values.row(size) = values.row(i++) + other.values.row(j++);
    } else if (take) {
      sum.values.row(size) = values.row(i++);
    } else {
      sum.values.row(size) = other.values.row(j++);
    }
  }
  sum.rows.conservativeResize(size);
  sum.values.conservativeResize(size, Eigen::NoChange);
  return *this = std::move(sum);
}

}  // namespace gpt2
