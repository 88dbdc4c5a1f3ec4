// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// Ids: the integers that are looked up, and the containers they may come in.

#include <Eigen/Core>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>
#include <unsupported/Eigen/CXX11/Tensor>
#include <utility>

#include "gpt2/version.hpp"

namespace gpt2::inline GPT2_EMBEDDINGS_ABI {

/// Ids of one sequence, `[seq_length]`.
template <class I>
using IdVector = Eigen::Matrix<I, Eigen::Dynamic, 1>;

/// Ids of a batch of sequences, `[batch, seq_length]`.
template <class I>
using IdMatrix = Eigen::Matrix<I, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

namespace detail {

/// The Eigen expression D of a Matrix, Array, Map, Block, Ref, … or a class derived from one.
template <class D>
D dense_base(const Eigen::DenseBase<D>&);

template <class X>
concept Dense = requires(const X& x) {
  detail::dense_base(x);
};

template <Dense X>
using DenseOf = decltype(detail::dense_base(std::declval<const X&>()));

template <class I>
inline constexpr bool is_id = false;
template <std::integral I>
inline constexpr bool is_id<I> =
    !std::same_as<std::remove_cv_t<I>, bool> && sizeof(I) <= sizeof(std::uint64_t);

/// The rank of an Eigen::Tensor or TensorMap; 0 for anything else.
template <class X>
inline constexpr int tensor_rank = 0;
template <class T, int rank, int options, class I>
inline constexpr int tensor_rank<Eigen::Tensor<T, rank, options, I>> = rank;
template <class Tensor, int options, template <class> class MakePointer>
inline constexpr int tensor_rank<Eigen::TensorMap<Tensor, options, MakePointer>> =
    tensor_rank<std::remove_const_t<Tensor>>;

/// Reasons why a type cannot hold ids, and their scalar if it can.
struct NoIds {};
template <class X>
struct IdScalar {
  using type = NoIds;
};
template <Dense X>
struct IdScalar<X> {
  using type = typename DenseOf<X>::Scalar;
};
template <class X>
requires(!Dense<X> && tensor_rank<X> > 0) struct IdScalar<X> {
  using type = typename X::Scalar;
};
template <class X>
requires(!Dense<X> && tensor_rank<X> == 0 && std::ranges::random_access_range<const X> &&
         std::ranges::sized_range<const X>) struct IdScalar<X> {
  using type = std::ranges::range_value_t<const X>;
};

}  // namespace detail

/// The scalar of X as ids; detail::NoIds if X is neither an Eigen expression or tensor nor a range.
template <class X>
using id_scalar_t = typename detail::IdScalar<std::remove_cvref_t<X>>::type;

// Concepts named for compilers' diagnostics, which show the first one that is not satisfied.

/// Ids come in an Eigen vector, matrix or array, a tensor, or a range.
template <class X>
concept ids_must_be_an_Eigen_object_or_a_range = !std::same_as<id_scalar_t<X>, detail::NoIds>;

/// A tensor of ids has rank 1 or 2.
template <class X>
concept ids_must_have_rank_1_or_2 = detail::tensor_rank<std::remove_cvref_t<X>>
<= 2;

/// Named so that the compiler's diagnostic for other id types explains itself.
template <class I>
concept ids_must_be_integers_not_floating_point_or_bool = detail::is_id<I>;

/// The type of an id: every integral type but bool, up to 64 bits.
template <class I>
concept Id = ids_must_be_integers_not_floating_point_or_bool<I>;

/// The ids that lookups accept, all of integers: an Eigen vector (rank 1) or matrix (rank 2) of any kind; a tensor of
/// rank 1 or 2; or a sized random-access range (rank 1). Ids that are not strided memory (expressions, deques, views)
/// are copied first.
template <class X>
concept Ids = ids_must_be_an_Eigen_object_or_a_range<X> && ids_must_have_rank_1_or_2<X> && Id<id_scalar_t<X>>;

/// The rank of ids: 1 for ranges, `[seq_length]`.
template <class X>
inline constexpr int ids_rank = 1;
/// Of an Eigen expression: 1 for vectors, 2 for matrices, `[batch, seq_length]`.
template <detail::Dense X>
inline constexpr int ids_rank<X> = detail::DenseOf<X>::IsVectorAtCompileTime ? 1 : 2;
/// Of a tensor: its own.
template <class X>
requires(detail::tensor_rank<X> > 0) inline constexpr int ids_rank<X> = detail::tensor_rank<X>;

}  // namespace gpt2
