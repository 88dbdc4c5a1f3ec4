// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// Hidden states and their gradients: the matrices and tensors that go with ids.

#include <concepts>
#include <type_traits>
#include <utility>

#include "gpt2/ids.hpp"
#include "gpt2/scalar.hpp"

namespace gpt2::inline GPT2_EMBEDDINGS_ABI {

namespace detail {

template <class H>
inline constexpr bool is_tensor3 = false;
template <class T, int options, class I>
inline constexpr bool is_tensor3<Eigen::Tensor<T, 3, options, I>> = (options & Eigen::RowMajor) != 0;
template <class Tensor, int options, template <class> class MakePointer>
inline constexpr bool is_tensor3<Eigen::TensorMap<Tensor, options, MakePointer>> =
    is_tensor3<std::remove_const_t<Tensor>>;

template <class H>
inline constexpr bool is_row_major = true;
template <Dense H>
inline constexpr bool is_row_major<H> = bool(DenseOf<H>::IsRowMajor);
template <class H>
requires(tensor_rank<std::remove_cvref_t<H>> >
         0) inline constexpr bool is_row_major<H> = int(std::remove_cvref_t<H>::Layout) ==
                                                    int(Eigen::RowMajor);

template <class H>
inline constexpr bool has_memory = true;
template <Dense H>
inline constexpr bool has_memory<H> = DenseOf<H>::InnerStrideAtCompileTime == 1 &&
                                      (DenseOf<H>::Flags & Eigen::DirectAccessBit) != 0;

}  // namespace detail

// Concepts named for compilers' diagnostics, which show the first one that is not satisfied.

/// gpt2::Matrix is row-major, Eigen::MatrixXf is not.
template <class H>
concept hidden_states_must_be_row_major = detail::is_row_major<H>;

/// Expressions such as `h * 2` must be evaluated first: `gpt2::Matrix<float>(h * 2)`.
template <class H>
concept hidden_states_must_be_in_memory_not_an_expression = detail::has_memory<H>;

/// Hidden states as a row-major Eigen Matrix, Map or Block, `[n, embedding_dim]`.
template <class H>
concept MatrixHidden = detail::Dense<H> && hidden_states_must_be_row_major<H> &&
    hidden_states_must_be_in_memory_not_an_expression<H>;

/// Hidden states as a Tensor3 or a TensorMap of one, `[batch, seq_length, embedding_dim]`.
template <class H>
concept TensorHidden = hidden_states_must_be_row_major<H> && detail::is_tensor3<std::remove_cvref_t<H>>;

/// The scalar of hidden states; const if H cannot be written through.
template <class H>
requires MatrixHidden<H> || TensorHidden<H>
using hidden_scalar_t = std::remove_pointer_t<decltype(std::declval<std::remove_reference_t<H>&>().data())>;

/// Ids `[seq_length]` go with a matrix; ids `[batch, seq_length]` with a Tensor3, or a matrix
/// `[batch * seq_length, embedding_dim]`.
template <class H, int rank>
concept hidden_states_must_be_a_matrix_or_for_ids_of_rank_2_a_Tensor3 = MatrixHidden<H> ||
    (rank == 2 && TensorHidden<H>);

/// Hidden states that go with ids of a rank: a matrix for rank 1; for rank 2 a Tensor3 or a
/// matrix `[batch * seq_length, embedding_dim]`.
template <class H, int rank>
concept HiddenOfRank =
    hidden_states_must_be_row_major<H> && hidden_states_must_be_in_memory_not_an_expression<H> &&
    hidden_states_must_be_a_matrix_or_for_ids_of_rank_2_a_Tensor3<H, rank>;

/// Neither a `const` object nor a map of const memory.
template <class H>
concept output_must_be_writable = !std::is_const_v<hidden_scalar_t<H>>;

/// A result in T is written as T or in a wider type.
template <class H, class T>
concept output_must_be_of_the_tables_scalar_or_wider =
    SameOrWider<std::remove_const_t<hidden_scalar_t<H>>, T>;

/// Input is read as the table's scalar T or as the type in which its sums are formed.
template <class H, class T>
concept hidden_states_must_be_of_the_tables_scalar_or_its_Accumulator =
    std::same_as<std::remove_const_t<hidden_scalar_t<H>>, T> ||
    std::same_as<std::remove_const_t<hidden_scalar_t<H>>, Accumulator<T>>;

/// The output for a result in T: writable hidden states of T or a wider type.
template <class H, class T, int rank>
concept HiddenOutput =
    HiddenOfRank<H, rank> && output_must_be_writable<H> && output_must_be_of_the_tables_scalar_or_wider<H, T>;

/// Hidden states to read: of T, or of the type its sums are formed in.
template <class H, class T, int rank>
concept HiddenInput =
    HiddenOfRank<H, rank> && hidden_states_must_be_of_the_tables_scalar_or_its_Accumulator<H, T>;

/// The result of an operation on ids of a rank: `[seq_length, n]` or `[batch, seq_length, n]`.
template <Scalar T, int rank>
using Hidden = std::conditional_t<rank == 1, Matrix<T>, Tensor3<T>>;

}  // namespace gpt2
