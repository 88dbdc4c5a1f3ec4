// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// Hidden states of every kind seen as rows in memory, and the checks of their shapes.

#include <cstdint>
#include <limits>
#include <new>
#include <string>
#include <string_view>
#include <vector>

#include "gpt2/detail/arguments/ids.hpp"
#include "gpt2/error.hpp"
#include "gpt2/types.hpp"

namespace gpt2::inline GPT2_EMBEDDINGS_ABI::detail {

/// Rows of a table or of hidden states; U is const where they are only read.
template <class U>
struct RowView {
  U* data;
  Index rows;
  Index cols;
  Index row_stride;  // in elements

  [[nodiscard]] U* row(Index i) const { return data + i * row_stride; }
};

/// The shape ids, and what belongs to them, have.
struct SequenceShape {
  Index batch;
  Index seq_length;
  int rank;

  [[nodiscard]] Index size() const { return batch * seq_length; }
  [[nodiscard]] std::vector<std::int64_t> extents() const {
    return rank == 1 ? std::vector<std::int64_t>{seq_length} : std::vector<std::int64_t>{batch, seq_length};
  }
};

template <class I>
[[nodiscard]] SequenceShape shape_of(const IdView<I>& ids) {
  return {ids.batch, ids.seq_length, ids.rank};
}

template <class T>
[[nodiscard]] RowView<const T> rows_of(const Eigen::Map<const Matrix<T>>& table) {
  return {table.data(), table.rows(), table.cols(), table.cols()};
}
template <class T>
[[nodiscard]] RowView<T> rows_of(Eigen::Map<Matrix<T>> table) {
  return {table.data(), table.rows(), table.cols(), table.cols()};
}

/// The rows of hidden states that have been checked to be `shape` of embedding_dim.
/// Throws: ShapeError.
template <class H>
[[nodiscard]] RowView<hidden_scalar_t<H>> checked_rows(H&& hidden, const SequenceShape& shape,
                                                       Index embedding_dim, std::string_view name) {
  std::vector<std::int64_t> expected;
  std::vector<std::int64_t> found;
  if constexpr (TensorHidden<H>) {
    if (hidden.dimension(0) == shape.batch && hidden.dimension(1) == shape.seq_length &&
        hidden.dimension(2) == embedding_dim) {
      return {hidden.data(), shape.size(), embedding_dim, embedding_dim};
    }
    expected = {shape.batch, shape.seq_length, embedding_dim};
    found = {hidden.dimension(0), hidden.dimension(1), hidden.dimension(2)};
  } else {
    if (hidden.rows() == shape.size() && hidden.cols() == embedding_dim) {
      return {hidden.data(), shape.size(), embedding_dim, hidden.outerStride()};
    }
    expected = {shape.size(), embedding_dim};
    found = {hidden.rows(), hidden.cols()};
  }
  throw ShapeError(name, to_text(expected), to_text(found));
}

/// The rows of hidden states of any shape.
template <class H>
[[nodiscard]] RowView<hidden_scalar_t<H>> all_rows(H& hidden) {
  if constexpr (TensorHidden<H>) {
    return {hidden.data(), hidden.dimension(0) * hidden.dimension(1), hidden.dimension(2),
            hidden.dimension(2)};
  } else {
    return {hidden.data(), hidden.rows(), hidden.cols(), hidden.outerStride()};
  }
}

/// Uninitialised hidden states of a shape.
template <Scalar T, int rank>
[[nodiscard]] Hidden<T, rank> make_hidden(const SequenceShape& shape, Index embedding_dim) {
  // Eigen's tensors multiply their dimensions unchecked.
  constexpr Index limit = (std::numeric_limits<Index>::max)() / Index{sizeof(T)};
  if (shape.size() > 0 && embedding_dim > limit / shape.size()) throw std::bad_alloc();
  if constexpr (rank == 1) {
    return Matrix<T>(shape.seq_length, embedding_dim);
  } else {
    return Tensor3<T>(shape.batch, shape.seq_length, embedding_dim);
  }
}

}  // namespace gpt2::inline GPT2_EMBEDDINGS_ABI::detail
