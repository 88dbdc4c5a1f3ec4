// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// The vocabulary of types, scalar.hpp, ids.hpp, hidden.hpp and device.hpp, and views between matrices and tensors.

#include "gpt2/device.hpp"
#include "gpt2/error.hpp"
#include "gpt2/hidden.hpp"
#include "gpt2/ids.hpp"
#include "gpt2/scalar.hpp"

namespace gpt2::inline GPT2_EMBEDDINGS_ABI {

/// The memory of a tensor `[batch, seq_length, n]` seen as a matrix `[batch * seq_length, n]`.
/// Lifetime: a view, valid as long as its argument's memory; so not from temporaries.
/// Complexity: O(1).
template <class T>
[[nodiscard]] Eigen::Map<Matrix<T>> as_matrix(Tensor3<T>& tensor) {
  return {tensor.data(), tensor.dimension(0) * tensor.dimension(1), tensor.dimension(2)};
}
template <class T>
[[nodiscard]] Eigen::Map<const Matrix<T>> as_matrix(const Tensor3<T>& tensor) {
  return {tensor.data(), tensor.dimension(0) * tensor.dimension(1), tensor.dimension(2)};
}
template <class T>
void as_matrix(Tensor3<T>&&) = delete;
template <class T>
void as_matrix(const Tensor3<T>&&) = delete;

/// A TensorMap is itself a view, so it may be a temporary.
template <class T>
[[nodiscard]] Eigen::Map<Matrix<T>> as_matrix(Eigen::TensorMap<Tensor3<T>> tensor) {
  return {tensor.data(), tensor.dimension(0) * tensor.dimension(1), tensor.dimension(2)};
}
template <class T>
[[nodiscard]] Eigen::Map<const Matrix<T>> as_matrix(Eigen::TensorMap<const Tensor3<T>> tensor) {
  return {tensor.data(), tensor.dimension(0) * tensor.dimension(1), tensor.dimension(2)};
}

namespace detail {

/// Throws: ShapeError unless rows can be split into batch sequences of seq_length.
inline void check_split(Index rows, Index batch, Index seq_length) {
  const bool fits =
      batch >= 0 && seq_length >= 0 &&
      (batch == 0 || seq_length == 0 ? rows == 0 : rows % batch == 0 && rows / batch == seq_length);
  if (!fits) {
    throw ShapeError("", "matrix", to_text(batch) + " * " + to_text(seq_length) + " rows",
                     to_text(rows) + " rows");
  }
}

}  // namespace detail

/// The memory of a matrix `[batch * seq_length, n]` seen as a tensor `[batch, seq_length, n]`.
/// Throws: ShapeError if batch * seq_length is not the number of rows.
/// Lifetime: a view, valid as long as the matrix's memory; so not from temporaries.
template <class T>
[[nodiscard]] Eigen::TensorMap<Tensor3<T>> as_tensor3(Matrix<T>& matrix, Index batch, Index seq_length) {
  detail::check_split(matrix.rows(), batch, seq_length);
  return {matrix.data(), batch, seq_length, matrix.cols()};
}
template <class T>
[[nodiscard]] Eigen::TensorMap<const Tensor3<T>> as_tensor3(const Matrix<T>& matrix, Index batch,
                                                            Index seq_length) {
  detail::check_split(matrix.rows(), batch, seq_length);
  return {matrix.data(), batch, seq_length, matrix.cols()};
}
template <class T>
void as_tensor3(Matrix<T>&&, Index, Index) = delete;
template <class T>
void as_tensor3(const Matrix<T>&&, Index, Index) = delete;

/// A Map is itself a view, so it may be a temporary.
template <class T>
[[nodiscard]] Eigen::TensorMap<Tensor3<T>> as_tensor3(Eigen::Map<Matrix<T>> matrix, Index batch,
                                                      Index seq_length) {
  detail::check_split(matrix.rows(), batch, seq_length);
  return {matrix.data(), batch, seq_length, matrix.cols()};
}
template <class T>
[[nodiscard]] Eigen::TensorMap<const Tensor3<T>> as_tensor3(Eigen::Map<const Matrix<T>> matrix, Index batch,
                                                            Index seq_length) {
  detail::check_split(matrix.rows(), batch, seq_length);
  return {matrix.data(), batch, seq_length, matrix.cols()};
}

}  // namespace gpt2
