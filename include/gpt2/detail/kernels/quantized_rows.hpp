// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// Rows of int8 with a scale and an offset each, as kernels read them.

#include <cstdint>

#include "gpt2/detail/kernels/avx2.hpp"
#include "gpt2/detail/kernels/packets.hpp"
#include "gpt2/detail/kernels/parallel.hpp"
#include "gpt2/detail/kernels/row_sums.hpp"
#include "gpt2/detail/rows.hpp"
#include "gpt2/scalar.hpp"

namespace gpt2::inline GPT2_EMBEDDINGS_ABI::detail {

/// A row of int8, and the numbers that turn them into floats: scale * value + offset.
struct QuantizedRow {
  const std::int8_t* values;
  float scale;
  float offset;
};

/// The rows of a quantised table.
struct QuantizedRows {
  using value_type = float;  // NOLINT(readability-identifier-naming): as in containers

  const std::int8_t* values;
  const float* scales;
  const float* offsets;
  Index rows;
  Index cols;

  [[nodiscard]] QuantizedRow row(Index i) const { return {values + i * cols, scales[i], offsets[i]}; }
};

[[nodiscard]] inline QuantizedRow from_column(const QuantizedRow& row, Index column) {
  return {row.values + column, row.scale, row.offset};
}
inline void prefetch_columns(const QuantizedRow& row, Index first, Index size) {
  prefetch_columns(row.values, first, size);
}

/// See head.hpp.
[[nodiscard]] inline RowView<const std::int8_t> stored_rows_at(const QuantizedRows& rows, Index first,
                                                               Index size) {
  return {rows.values + first * rows.cols, size, rows.cols, rows.cols};
}
/// (scale * q + offset) · h = scale * (q · h) + offset * sum(h); in double, in which neither product overflows. A row
/// of scale 0 is all offset, whatever q · h is.
inline void finish_products(const QuantizedRows& rows, Index first, const RowView<const float>& states,
                            const RowView<float>& products) {
  for (Index i = 0; i < products.rows; ++i) {
    const double sum = ConstRow<float>(states.row(i), states.cols).cast<double>().sum();
    float* const row = products.row(i);
    for (Index j = 0; j < products.cols; ++j) {
      const auto scale = static_cast<double>(rows.scales[first + j]);
      const double scaled = scale > 0 ? scale * static_cast<double>(row[j]) : 0;
      row[j] = static_cast<float>(multiply_add(static_cast<double>(rows.offsets[first + j]), sum, scaled));
    }
  }
}

inline namespace GPT2_EMBEDDINGS_PACKETS {
template <class P>
[[nodiscard]] P dequantized(const QuantizedRow& row, const P& values) {
  using Eigen::internal::pset1;
  return multiply_add(values, pset1<P>(row.scale), pset1<P>(row.offset));
}
template <class A>
[[nodiscard]] Packet<A> load_packet(const QuantizedRow& row, Index column) {
  return dequantized(row, load_packet<A>(row.values, column));
}
template <class A>
[[nodiscard]] Packet<A> load_packet(const QuantizedRow& row, Index column, Index size) {
  return dequantized(row, load_packet<A>(row.values, column, size));
}
#ifdef GPT2_EMBEDDINGS_DISPATCH
[[nodiscard]] GPT2_EMBEDDINGS_AVX2 inline EightFloats load_eight(const QuantizedRow& row) {
  return load_eight(row.values) * row.scale + row.offset;
}
#endif
}  // namespace GPT2_EMBEDDINGS_PACKETS

}  // namespace gpt2::detail
