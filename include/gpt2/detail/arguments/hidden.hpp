// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// The entry point for hidden states, which are viewed as rows and whose shapes are checked here.

#include <cstdint>
#include <limits>
#include <new>
#include <vector>

#include "gpt2/detail/arguments/names.hpp"
#include "gpt2/detail/rows.hpp"
#include "gpt2/error.hpp"
#include "gpt2/hidden.hpp"
#include "gpt2/scalar.hpp"

namespace gpt2::inline GPT2_EMBEDDINGS_ABI::detail {

/// The rows of hidden states.
/// Throws: ShapeError unless they have `shape` and embedding_dim.
template <class H>
[[nodiscard]] RowView<hidden_scalar_t<H>> checked_rows(H&& hidden, const SequenceShape& shape,
                                                       Index embedding_dim, const ArgumentName& argument) {
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
  throw ShapeError(argument.table, argument.name, to_text(expected), to_text(found));
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

/// The shape of hidden states without ids, less their last dimension.
template <class H>
[[nodiscard]] SequenceShape shape_of_states(const H& hidden) {
  if constexpr (TensorHidden<H>) {
    return {hidden.dimension(0), hidden.dimension(1), 2};
  } else {
    return {1, hidden.rows(), 1};
  }
}

/// The rows of any number of hidden states of embedding_dim.
/// Throws: ShapeError.
template <class H>
[[nodiscard]] auto checked_states(const H& hidden, Index embedding_dim, const ArgumentName& argument) {
  return checked_rows(hidden, shape_of_states(hidden), embedding_dim, argument);
}

/// The rows of an argument that belongs to hidden states.
/// Throws: ShapeError unless it has their shape, or is a matrix of as many rows, or a tensor of as many rows beside a
/// matrix.
template <class H, class Other>
[[nodiscard]] auto checked_like(const H& hidden, Other& other, Index cols, const ArgumentName& argument) {
  if constexpr (TensorHidden<Other> && !TensorHidden<H>) {
    if (other.dimension(0) * other.dimension(1) == hidden.rows() && other.dimension(2) == cols) {
      return all_rows(other);
    }
    throw ShapeError(argument.table, argument.name, to_text({hidden.rows(), cols}),
                     to_text({other.dimension(0), other.dimension(1), other.dimension(2)}));
  } else {
    return checked_rows(other, shape_of_states(hidden), cols, argument);
  }
}

}  // namespace gpt2::detail
