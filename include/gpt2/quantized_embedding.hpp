// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// QuantizedEmbedding: a table in a quarter of the memory, its rows int8 with a scale and an offset each. It infers
/// only.

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <utility>

#include "gpt2/detail/kernels/quantized_rows.hpp"
#include "gpt2/detail/lookup.hpp"
#include "gpt2/detail/owned_table.hpp"
#include "gpt2/embedding.hpp"
#include "gpt2/table.hpp"
#include "gpt2/types.hpp"

namespace gpt2::inline GPT2_EMBEDDINGS_ABI {

/// A table of int8 rows: element (i, j) is scales[i] * values(i, j) + offsets[i], a float.
///
/// An offset is the middle of its row's range, a scale 1/254 of the range, so a row keeps 255 different
/// values, evenly spaced. With M the largest magnitude in the row, an element is off by at most
///
///     scale / 2 + 2^-23 * (M + scale)
///
/// half a step, and the rounding of floats. A scale is never less than the distance of the floats around M, so the
/// first term dominates unless the range is tiny; a row of equal floats is kept exactly, with a scale of 0.
///
/// It takes embedding_dim + 8 bytes for each row: 0.253 of a float table for GPT-2's 768 columns. Const
/// member functions may be called from several threads at once.
class QuantizedEmbedding {
 public:
  /// Quantises a table.
  /// Throws: ArgumentError, with the name "weight" and the coordinates [row, column], if an element is NaN or infinite,
  /// or a double beyond the range of float.
  template <Scalar T>
  explicit QuantizedEmbedding(const Embedding<T>& embedding);

  /// Takes existing parts, from a file, say.
  /// Shape: values `[num_embeddings, embedding_dim]`, scales and offsets `[num_embeddings]`.
  /// Throws: ShapeError if scales or offsets do not have an element for each row; ArgumentError, with the name
  /// "scales" or "offsets" and the coordinate [row], if one is NaN or infinite, or a scale negative.
  QuantizedEmbedding(Matrix<std::int8_t> values, Eigen::VectorXf scales, Eigen::VectorXf offsets)
      : QuantizedEmbedding(detail::OwnedTable<std::int8_t>(std::move(values)), std::move(scales),
                           std::move(offsets)) {}
  template <std::same_as<detail::OwnedTable<std::int8_t>> Owned>  // a template, so that {} is an empty matrix
  QuantizedEmbedding(Owned values, Eigen::VectorXf scales, Eigen::VectorXf offsets);

  /// A copy.
  QuantizedEmbedding(const QuantizedEmbedding&) = default;
  /// Leaves an empty table.
  QuantizedEmbedding(QuantizedEmbedding&&) noexcept = default;
  /// If memory runs out, the table is as it was.
  QuantizedEmbedding& operator=(const QuantizedEmbedding& other) { return *this = QuantizedEmbedding(other); }
  QuantizedEmbedding& operator=(QuantizedEmbedding&&) noexcept = default;
  ~QuantizedEmbedding() = default;

  /// The number of rows.
  [[nodiscard]] Index num_embeddings() const noexcept { return values_.rows(); }
  /// The number of columns.
  [[nodiscard]] Index embedding_dim() const noexcept { return values_.cols(); }
  /// The bytes of the table's three parts.
  [[nodiscard]] std::size_t memory_bytes() const noexcept;

  /// The int8 values of the table.
  /// Shape: `[num_embeddings, embedding_dim]`.
  /// Lifetime: valid until the QuantizedEmbedding is assigned to or destroyed.
  [[nodiscard]] Eigen::Map<const Matrix<std::int8_t>> values() const& noexcept;
  [[nodiscard]] Eigen::Map<const Matrix<std::int8_t>> values() const&& = delete;
  /// A scale for each row.
  /// Shape: `[num_embeddings]`.
  /// Lifetime: as values().
  [[nodiscard]] Eigen::Map<const Eigen::VectorXf> scales() const& noexcept;
  [[nodiscard]] Eigen::Map<const Eigen::VectorXf> scales() const&& = delete;
  /// An offset for each row.
  /// Shape: `[num_embeddings]`.
  /// Lifetime: as values().
  [[nodiscard]] Eigen::Map<const Eigen::VectorXf> offsets() const& noexcept;
  [[nodiscard]] Eigen::Map<const Eigen::VectorXf> offsets() const&& = delete;

  /// The table as floats.
  /// Shape: `[num_embeddings, embedding_dim]`.
  [[nodiscard]] Matrix<float> dequantize() const;

  /// The rows of the ids, as floats.
  /// Shape: ids `[n]` gives a Matrix `[n, embedding_dim]`; `[batch, n]` gives a Tensor3
  /// `[batch, n, embedding_dim]`.
  /// Throws: IndexError if an id is outside [0, num_embeddings).
  template <Ids X, Device D = Eigen::DefaultDevice>
  [[nodiscard]] Hidden<float, ids_rank<X>> operator()(const X& ids, const D& device = {}) const {
    return detail::lookup(*this, ids, device, detail::ids_argument);
  }
  template <Id I, Device D = Eigen::DefaultDevice>
  [[nodiscard]] Matrix<float> operator()(std::initializer_list<I> ids, const D& device = {}) const {
    return (*this)(detail::as_span(ids), device);
  }

  /// Writes the rows of the ids to `out`, of float or double. Allocates nothing unless the ids must be
  /// copied first (see Ids).
  /// Shape: ids `[n]`, out `[n, embedding_dim]`; or ids `[batch, n]`, out `[batch, n, embedding_dim]` or a
  /// matrix `[batch * n, embedding_dim]`.
  /// Throws: IndexError if an id is outside [0, num_embeddings); ShapeError if out does not fit. Then out is
  /// as it was.
  template <Ids X, HiddenOutput<float, ids_rank<X>> Out, Device D = Eigen::DefaultDevice>
  void forward_into(const X& ids, Out&& out, const D& device = {}) const {
    detail::lookup_into(*this, ids, out, device, detail::ids_argument);
  }

 private:
  friend detail::QuantizedRows stored_rows(const QuantizedEmbedding& table) noexcept {
    return {table.values_.data(), table.scales_.data(), table.offsets_.data(), table.values_.rows(),
            table.values_.cols()};
  }

  detail::OwnedTable<std::int8_t> values_;
  Eigen::VectorXf scales_;
  Eigen::VectorXf offsets_;
};

}  // namespace gpt2

#include "gpt2/detail/quantized_embedding.hpp"
