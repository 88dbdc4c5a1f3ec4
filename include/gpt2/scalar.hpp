// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// The scalars of a table, and the matrices and tensors of them.

#include <Eigen/Core>
#include <concepts>
#include <type_traits>
#include <unsupported/Eigen/CXX11/Tensor>

#include "gpt2/version.hpp"

/// GPT-2's embedding layers. Everything in namespace detail is private.
namespace gpt2::inline GPT2_EMBEDDINGS_ABI {

/// Sizes and rows.
using Index = Eigen::Index;

/// A row-major matrix: one row per token, position or table entry.
template <class T>
using Matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// A batch of matrices, `[batch, seq_length, embedding_dim]`, row-major.
template <class T>
using Tensor3 = Eigen::Tensor<T, 3, Eigen::RowMajor>;

/// The scalars that a table may hold.
template <class T>
concept Scalar = std::same_as<T, float> || std::same_as<T, double> || std::same_as<T, Eigen::half> ||
    std::same_as<T, Eigen::bfloat16>;

/// The type in which sums of T are formed: float for everything up to float, double for double.
template <Scalar T>
using Accumulator = std::conditional_t<std::same_as<T, double>, double, float>;

namespace detail {

template <class U, class T>
inline constexpr bool holds_all_of = std::same_as<U, T>;
template <Scalar U, Scalar T>
requires std::floating_point<U>
inline constexpr bool holds_all_of<U, T> = std::same_as<U, T> || sizeof(U) > sizeof(T);

}  // namespace detail

/// U holds every value of T: T itself or a wider floating-point type.
template <class U, class T>
concept SameOrWider = detail::holds_all_of<U, T>;

}  // namespace gpt2
