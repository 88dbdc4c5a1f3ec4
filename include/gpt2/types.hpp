// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// The vocabulary of types: what a table holds, what ids are, what hidden states are.

#include <Eigen/Core>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <ranges>
#include <type_traits>
#include <unsupported/Eigen/CXX11/Tensor>
#include <utility>

#include "gpt2/error.hpp"

/// GPT-2's embedding layers. What is in the nested namespace detail is nobody's to use.
namespace gpt2::inline GPT2_EMBEDDINGS_ABI {

/// Sizes and rows.
using Index = Eigen::Index;

/// A row-major matrix: one row per token, position or table entry.
template <class T>
using Matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// A batch of matrices, `[batch, seq_length, embedding_dim]`, row-major.
template <class T>
using Tensor3 = Eigen::Tensor<T, 3, Eigen::RowMajor>;

/// Ids of one sequence, `[seq_length]`.
template <class I>
using IdVector = Eigen::Matrix<I, Eigen::Dynamic, 1>;

/// Ids of a batch of sequences, `[batch, seq_length]`.
template <class I>
using IdMatrix = Eigen::Matrix<I, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// What a table may hold.
template <class T>
concept Scalar = std::same_as<T, float> || std::same_as<T, double> || std::same_as<T, Eigen::half> ||
    std::same_as<T, Eigen::bfloat16>;

namespace detail {

template <class I>
inline constexpr bool is_id =
    std::integral<I> && !std::same_as<std::remove_cv_t<I>, bool> && sizeof(I) <= sizeof(std::uint64_t);
template <>
inline constexpr bool is_id<void> = false;

}  // namespace detail

/// The reason a compiler gives, in its own words, when somebody passes other ids.
template <class I>
concept ids_must_be_integers_not_floating_point_or_bool = detail::is_id<I>;

/// What an id may be: every integral type but bool, up to 64 bits.
template <class I>
concept Id = ids_must_be_integers_not_floating_point_or_bool<I>;

/// The type in which sums of T are formed: float for everything up to float, double for double.
template <Scalar T>
using Accumulator = std::conditional_t<std::same_as<T, double>, double, float>;

/// U holds every value of T: T itself or a wider floating-point type.
template <class U, class T>
concept SameOrWider = std::same_as<U, T> ||
    (std::floating_point<U>&& Scalar<U>&& Scalar<T> && sizeof(U) > sizeof(T));

namespace detail {

/// The Eigen expression D behind a Matrix, Array, Map, Block, Ref, … or a class derived from one.
template <class D>
D dense_base(const Eigen::DenseBase<D>&);

template <class X>
concept Dense = requires(const X& x) {
  detail::dense_base(x);
};

template <Dense X>
using DenseOf = decltype(detail::dense_base(std::declval<const X&>()));

template <class X>
struct IdScalar {
  using type = void;
};

template <Dense X>
struct IdScalar<X> {
  using type = typename DenseOf<X>::Scalar;
};

template <class X>
requires(!Dense<X> && std::ranges::contiguous_range<const X> &&
         std::ranges::sized_range<const X>) struct IdScalar<X> {
  using type = std::ranges::range_value_t<const X>;
};

}  // namespace detail

/// The scalar of X as ids, void if X is neither an Eigen expression nor a contiguous, sized range.
template <class X>
using id_scalar_t = typename detail::IdScalar<std::remove_cvref_t<X>>::type;

/// What lookups accept as ids: an Eigen vector (rank 1) or matrix (rank 2) of any kind, or a contiguous,
/// sized range (rank 1), of integers.
template <class X>
concept Ids = Id<id_scalar_t<X>>;

/// The rank of ids: 1 for ranges, `[seq_length]`.
template <class X>
inline constexpr int ids_rank = 1;
/// Of an Eigen expression: 1 for vectors, 2 for matrices, `[batch, seq_length]`.
template <detail::Dense X>
inline constexpr int ids_rank<X> = detail::DenseOf<X>::IsVectorAtCompileTime ? 1 : 2;

namespace detail {

template <class H>
inline constexpr bool is_tensor3 = false;
template <class T, int options, class I>
inline constexpr bool is_tensor3<Eigen::Tensor<T, 3, options, I>> = (options & Eigen::RowMajor) != 0;
template <class Tensor, int options, template <class> class MakePointer>
inline constexpr bool is_tensor3<Eigen::TensorMap<Tensor, options, MakePointer>> =
    is_tensor3<std::remove_const_t<Tensor>>;

}  // namespace detail

/// Hidden states as a row-major Eigen Matrix, Map or Block, `[n, embedding_dim]`.
template <class H>
concept MatrixHidden = detail::Dense<H> && bool(detail::DenseOf<H>::IsRowMajor) &&
                       detail::DenseOf<H>::InnerStrideAtCompileTime == 1 &&
                       (detail::DenseOf<H>::Flags & Eigen::DirectAccessBit) != 0;

/// Hidden states as a Tensor3 or a TensorMap of one, `[batch, seq_length, embedding_dim]`.
template <class H>
concept TensorHidden = detail::is_tensor3<std::remove_cvref_t<H>>;

/// The scalar of hidden states, const where H cannot be written through.
template <class H>
requires MatrixHidden<H> || TensorHidden<H>
using hidden_scalar_t = std::remove_pointer_t<decltype(std::declval<std::remove_reference_t<H>&>().data())>;

/// What hidden states that go with ids of a rank may be: a matrix for rank 1; for rank 2 a Tensor3 or a
/// matrix `[batch * seq_length, embedding_dim]`.
template <class H, int rank>
concept HiddenOfRank = MatrixHidden<H> ||(rank == 2 && TensorHidden<H>);

/// Where a result in T can be written: writable hidden states of T or a wider type.
template <class H, class T, int rank>
concept HiddenOutput = HiddenOfRank<H, rank> && SameOrWider<hidden_scalar_t<H>, T>;

/// Hidden states that are read: of T, or of the type its sums are formed in.
template <class H, class T, int rank>
concept HiddenInput = HiddenOfRank<H, rank> &&
    (std::same_as<std::remove_const_t<hidden_scalar_t<H>>, T> ||
     std::same_as<std::remove_const_t<hidden_scalar_t<H>>, Accumulator<T>>);

/// What an operation on ids of a rank returns: `[seq_length, n]` or `[batch, seq_length, n]`.
template <Scalar T, int rank>
using Hidden = std::conditional_t<rank == 1, Matrix<T>, Tensor3<T>>;

/// Where a large operation runs: Eigen::DefaultDevice (the calling thread), Eigen::ThreadPoolDevice, or
/// anything with its numThreads() and parallelFor(n, cost, body(first, last)). Eigen has a ThreadPoolDevice
/// where EIGEN_USE_THREADS is defined before its headers.
template <class D>
concept Device = std::same_as<D, Eigen::DefaultDevice> ||
    requires(const D& device, Index n, const Eigen::TensorOpCost& cost, void (*body)(Index, Index)) {
  { device.numThreads() } -> std::convertible_to<int>;
  device.parallelFor(n, cost, body);
};

/// How the rows of lookups and sums are stored: through the caches, or streaming past them to memory. Streaming
/// saves a quarter of the time where results are larger than the caches, and costs the next layer up to three
/// times its own where they are not.
enum class StorePolicy {
  automatic,  ///< streaming from 8 MiB on
  regular,    ///< through the caches
  streaming,  ///< past them
};

/// A device with a policy, to be given where a device may: `forward_into(ids, out, OnDevice{device, policy})`.
/// Lifetime: refers to the device.
template <Device D>
struct OnDevice {
  const D& device;                                    ///< where it runs
  StorePolicy store_policy = StorePolicy::automatic;  ///< how results are stored

  /// The device's.
  [[nodiscard]] int numThreads() const {  // NOLINT(readability-identifier-naming): Eigen's name
    if constexpr (std::same_as<D, Eigen::DefaultDevice>) {
      return 1;
    } else {
      return device.numThreads();
    }
  }
  /// The device's.
  template <class Body>
  // NOLINTNEXTLINE(readability-identifier-naming): Eigen's name
  void parallelFor(Index n, const Eigen::TensorOpCost& cost, Body&& body) const {
    if constexpr (std::same_as<D, Eigen::DefaultDevice>) {
      body(Index{0}, n);
    } else {
      device.parallelFor(n, cost, std::forward<Body>(body));
    }
  }
};
/// So that the device's type need not be named.
template <class D>
OnDevice(const D&, StorePolicy) -> OnDevice<D>;

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

/// A TensorMap is a view already, so a temporary one will do.
template <class T>
[[nodiscard]] Eigen::Map<Matrix<T>> as_matrix(Eigen::TensorMap<Tensor3<T>> tensor) {
  return {tensor.data(), tensor.dimension(0) * tensor.dimension(1), tensor.dimension(2)};
}
template <class T>
[[nodiscard]] Eigen::Map<const Matrix<T>> as_matrix(Eigen::TensorMap<const Tensor3<T>> tensor) {
  return {tensor.data(), tensor.dimension(0) * tensor.dimension(1), tensor.dimension(2)};
}

namespace detail {

template <class D>
[[nodiscard]] StorePolicy store_policy(const D& /*device*/) {
  return StorePolicy::automatic;
}
template <class D>
[[nodiscard]] StorePolicy store_policy(const OnDevice<D>& device) {
  return device.store_policy;
}

/// Throws: ShapeError unless rows can be split into batch sequences of seq_length.
inline void check_split(Index rows, Index batch, Index seq_length) {
  const bool fits =
      batch >= 0 && seq_length >= 0 &&
      (batch == 0 || seq_length == 0 ? rows == 0 : rows % batch == 0 && rows / batch == seq_length);
  if (!fits) {
    throw ShapeError("matrix", to_text(batch) + " * " + to_text(seq_length) + " rows",
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

/// A Map is a view already, so a temporary one will do.
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

}  // namespace gpt2::inline GPT2_EMBEDDINGS_ABI
