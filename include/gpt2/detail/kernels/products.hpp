// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// Products of matrices that are added to the output. Most are Eigen's; sums are cut into short ones, which have
/// smaller rounding errors, and small products are formed here: Eigen would form them in packets that begin at an
/// aligned address of the output, and no bit may depend on an address.

#include <algorithm>
#include <type_traits>

#include "gpt2/detail/kernels/packets.hpp"
#include "gpt2/detail/rows.hpp"
#include "gpt2/scalar.hpp"

namespace gpt2::inline GPT2_EMBEDDINGS_ABI::detail {

/// Rows as an operand of Eigen's.
template <class A>
[[nodiscard]] auto as_operand(const RowView<A>& rows) {
  using Plain = std::conditional_t<std::is_const_v<A>, const Matrix<std::remove_const_t<A>>, Matrix<A>>;
  return Eigen::Map<Plain, Eigen::Unaligned, Eigen::OuterStride<>>(rows.data, rows.rows, rows.cols,
                                                                   Eigen::OuterStride<>(rows.row_stride));
}

/// Rows [first, first + size) of rows.
template <class U>
[[nodiscard]] RowView<U> middle_rows(const RowView<U>& rows, Index first, Index size) {
  return {rows.row(first), size, rows.cols, rows.row_stride};
}

/// Whether Eigen calls a BLAS for products; a BLAS has its own threads, and is efficient for large products.
#ifdef EIGEN_USE_BLAS
inline constexpr bool uses_blas = true;
#else
inline constexpr bool uses_blas = false;
#endif

/// The number of terms that are summed before their sum is added to the others: errors grow with the length of a sum.
inline constexpr Index terms_per_sum = uses_blas ? 128 : 48;

/// Whether Eigen would not form a product of this size in tiles.
[[nodiscard]] constexpr bool is_small_product(Index rows, Index terms, Index cols) {
#ifdef EIGEN_GEMM_TO_COEFFBASED_THRESHOLD
  return rows + terms + cols < Index{EIGEN_GEMM_TO_COEFFBASED_THRESHOLD};
#else
  return rows + terms + cols < 20;
#endif
}

inline namespace GPT2_EMBEDDINGS_PACKETS {

/// out(i, j) += the sum of factor(i, k) * rows(k, j) over k.
template <class A, class Factor>
void add_small_product(const Factor& factor, const RowView<const A>& rows, const RowView<A>& out) {
  using Eigen::internal::padd;
  using Eigen::internal::ploadu;
  using Eigen::internal::pset1;
  constexpr Index width = packet_size<A>;
  for (Index i = 0; i < out.rows; ++i) {
    A* const to = out.row(i);
    Index j = 0;
    for (; j + width <= out.cols; j += width) {
      auto sum = pset1<Packet<A>>(A(0));
      for (Index k = 0; k < rows.rows; ++k) {
        sum = multiply_add(pset1<Packet<A>>(factor(i, k)), ploadu<Packet<A>>(rows.row(k) + j), sum);
      }
      Eigen::internal::pstoreu(to + j, padd(ploadu<Packet<A>>(to + j), sum));
    }
    for (; j < out.cols; ++j) {
      A sum(0);
      for (Index k = 0; k < rows.rows; ++k) sum = multiply_add(A(factor(i, k)), A(rows.row(k)[j]), sum);
      to[j] += sum;
    }
  }
}

}  // namespace GPT2_EMBEDDINGS_PACKETS

/// out += a * b.
template <class A>
void add_product(const RowView<const A>& a, const RowView<const A>& b, const RowView<A>& out) {
  for (Index first = 0; first < b.rows; first += terms_per_sum) {
    const Index terms = (std::min)(terms_per_sum, b.rows - first);
    const RowView<const A> left{a.data + first, a.rows, terms, a.row_stride};
    const RowView<const A> right = middle_rows(b, first, terms);
    if (is_small_product(out.rows, terms, out.cols)) {
      add_small_product([&](Index i, Index k) { return left.row(i)[k]; }, right, out);
    } else {
      as_operand(out).noalias() += as_operand(left) * as_operand(right);
    }
  }
}

/// out += aᵀ * b.
template <class A>
void add_transposed_product(const RowView<const A>& a, const RowView<const A>& b, const RowView<A>& out) {
  for (Index first = 0; first < b.rows; first += terms_per_sum) {
    const Index terms = (std::min)(terms_per_sum, b.rows - first);
    const RowView<const A> left = middle_rows(a, first, terms);
    const RowView<const A> right = middle_rows(b, first, terms);
    if (is_small_product(out.rows, terms, out.cols)) {
      add_small_product([&](Index i, Index k) { return left.row(k)[i]; }, right, out);
    } else {
      as_operand(out).noalias() += as_operand(left).transpose() * as_operand(right);
    }
  }
}

}  // namespace gpt2::detail
