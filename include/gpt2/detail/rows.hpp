// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// Memory as rows and as ids: the vocabulary that checks and kernels share. Nothing is checked here.

#include <cstdint>
#include <type_traits>
#include <vector>

#include "gpt2/scalar.hpp"

namespace gpt2::inline GPT2_EMBEDDINGS_ABI::detail {

/// Rows of a table or of hidden states; U is const if they are only read.
template <class U>
struct RowView {
  using value_type = std::remove_const_t<U>;  // NOLINT(readability-identifier-naming): as in containers

  U* data;
  Index rows;
  Index cols;
  Index row_stride;  // in elements

  [[nodiscard]] U* row(Index i) const { return data + i * row_stride; }
};

template <class T>
[[nodiscard]] RowView<const T> rows_of(const Eigen::Map<const Matrix<T>>& table) {
  return {table.data(), table.rows(), table.cols(), table.cols()};
}
template <class T>
[[nodiscard]] RowView<T> rows_of(Eigen::Map<Matrix<T>> table) {
  return {table.data(), table.rows(), table.cols(), table.cols()};
}

/// The shape of ids, and of everything that belongs to them.
struct SequenceShape {
  Index batch;
  Index seq_length;
  int rank;

  [[nodiscard]] Index size() const { return batch * seq_length; }
  [[nodiscard]] std::vector<std::int64_t> extents() const {
    return rank == 1 ? std::vector<std::int64_t>{seq_length} : std::vector<std::int64_t>{batch, seq_length};
  }
};

/// Ids in memory, `[batch, seq_length]`; those of rank 1 are a batch of one. A batch_stride of 0 gives every
/// sequence of the batch the same ids. (Masks are viewed as well: I may be bool.)
template <class I>
struct IdView {
  const I* data;
  Index batch;
  Index seq_length;
  Index batch_stride;  // in elements, as is seq_stride
  Index seq_stride;
  int rank;

  [[nodiscard]] I operator()(Index sequence, Index place) const {
    return data[sequence * batch_stride + place * seq_stride];
  }
  [[nodiscard]] SequenceShape shape() const { return {batch, seq_length, rank}; }

  /// The place as errors report it.
  [[nodiscard]] std::vector<std::int64_t> coordinates(Index sequence, Index place) const {
    return rank == 1 ? std::vector<std::int64_t>{place} : std::vector<std::int64_t>{sequence, place};
  }
};

}  // namespace gpt2::detail
