// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// Embedding<T>: a table with one row for each id, and the lookup of rows.

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <optional>
#include <utility>

#include "gpt2/detail/lookup.hpp"
#include "gpt2/error.hpp"
#include "gpt2/initialization.hpp"
#include "gpt2/types.hpp"

namespace gpt2 {

/// The options of a table.
struct EmbeddingOptions {
  /// A row that stands for padding: zero in a fresh table, and never trained. In [-num_embeddings,
  /// num_embeddings); a negative one counts from the end. Lookups return the row as it is stored.
  std::optional<Index> padding_idx = std::nullopt;
  /// Divide the gradient of each row by the number of times its id occurs in the ids.
  bool scale_grad_by_freq = false;

  bool operator==(const EmbeddingOptions&) const = default;
};

/// A table of num_embeddings rows and embedding_dim columns, and the lookup of its rows by id.
///
/// The table is owned, or borrowed from memory that others keep, such as a mapped checkpoint. Copies of an
/// owning Embedding own a copy of the table; copies of a borrowing one borrow the same memory. Const member
/// functions may be called from several threads at once.
///
/// Source: torch.nn.Embedding.
template <Scalar T>
class Embedding {
 public:
  /// A fresh table: N(0, 0.02²), GPT-2's initialisation; the padding row is zero.
  /// Throws: ArgumentError if a size is negative, their product overflows, or padding_idx is out of range.
  Embedding(Index num_embeddings, Index embedding_dim, const EmbeddingOptions& options = {},
            std::uint64_t seed = default_seed)
      : Embedding(detail::fresh_table<T>(num_embeddings, embedding_dim, 0.02, seed), options) {
    if (options_.padding_idx) owned_.row(*options_.padding_idx).setZero();
  }

  /// A table that owns its weights, which are taken as they are.
  /// Shape: weight `[num_embeddings, embedding_dim]`.
  /// Throws: ArgumentError if padding_idx is out of range.
  explicit Embedding(Matrix<T> weight, const EmbeddingOptions& options = {})
      : owned_(std::move(weight)), options_(normalised(options, owned_.rows())) {}

  /// A table that borrows its weights and shares in owning what keeps them alive. A null owner is allowed
  /// where the caller keeps the memory alive by other means.
  /// Shape: weight `[num_embeddings, embedding_dim]`.
  /// Throws: ArgumentError if padding_idx is out of range, or weight is null or not aligned for T.
  /// Lifetime: weight's memory must live, unchanged, as long as owner or any copy of it.
  [[nodiscard]] static Embedding view(Eigen::Map<const Matrix<T>> weight, std::shared_ptr<const void> owner,
                                      const EmbeddingOptions& options = {}) {
    return Embedding(weight, std::move(owner), options);
  }

  /// The number of rows.
  [[nodiscard]] Index num_embeddings() const noexcept {
    return borrowed_ ? borrowed_->weight.rows() : owned_.rows();
  }
  /// The number of columns.
  [[nodiscard]] Index embedding_dim() const noexcept {
    return borrowed_ ? borrowed_->weight.cols() : owned_.cols();
  }
  /// The options, with padding_idx normalised to [0, num_embeddings).
  [[nodiscard]] const EmbeddingOptions& options() const noexcept { return options_; }

  /// The table.
  /// Shape: `[num_embeddings, embedding_dim]`.
  /// Lifetime: valid until the Embedding is changed or destroyed.
  [[nodiscard]] Eigen::Map<const Matrix<T>> weight() const noexcept {
    return borrowed_ ? borrowed_->weight
                     : Eigen::Map<const Matrix<T>>(owned_.data(), owned_.rows(), owned_.cols());
  }

  /// The table, to write to. A borrowed one is first copied into the object, once.
  /// Shape: `[num_embeddings, embedding_dim]`.
  /// Lifetime: valid until the Embedding is assigned to or destroyed.
  [[nodiscard]] Eigen::Map<Matrix<T>> mutable_weight() {
    if (borrowed_) {
      owned_ = borrowed_->weight;
      borrowed_.reset();
    }
    return {owned_.data(), owned_.rows(), owned_.cols()};
  }

  /// The rows of the ids, bit for bit.
  /// Shape: ids `[n]` gives a Matrix `[n, embedding_dim]`; `[batch, n]` gives a Tensor3
  /// `[batch, n, embedding_dim]`.
  /// Throws: IndexError if an id is outside [0, num_embeddings).
  /// Source: torch.nn.Embedding.forward.
  template <Ids X, Device D = Eigen::DefaultDevice>
  [[nodiscard]] Hidden<T, ids_rank<X>> operator()(const X& ids, const D& device = {}) const {
    return detail::lookup(detail::rows_of(weight()), ids, device, ids_argument);
  }
  template <Id I, Device D = Eigen::DefaultDevice>
  [[nodiscard]] Matrix<T> operator()(std::initializer_list<I> ids, const D& device = {}) const {
    return (*this)(detail::as_span(ids), device);
  }

  /// Writes the rows of the ids to `out`, converted to its scalar if that is wider. Allocates nothing.
  /// Shape: ids `[n]`, out `[n, embedding_dim]`; or ids `[batch, n]`, out `[batch, n, embedding_dim]` or a
  /// matrix `[batch * n, embedding_dim]`.
  /// Throws: IndexError if an id is outside [0, num_embeddings); ShapeError if out does not fit. Then out is
  /// as it was.
  template <Ids X, HiddenOutput<T, ids_rank<X>> Out, Device D = Eigen::DefaultDevice>
  void forward_into(const X& ids, Out&& out, const D& device = {}) const {
    detail::lookup_into(detail::rows_of(weight()), ids, out, device, ids_argument);
  }

 private:
  struct Borrowed {
    Eigen::Map<const Matrix<T>> weight;
    std::shared_ptr<const void> owner;
  };

  static constexpr detail::IdArgument ids_argument{"embedding", "ids"};

  Embedding(const Eigen::Map<const Matrix<T>>& weight, std::shared_ptr<const void> owner,
            const EmbeddingOptions& options)
      : borrowed_(std::make_shared<const Borrowed>(Borrowed{weight, std::move(owner)})),
        options_(normalised(options, weight.rows())) {
    const auto address = reinterpret_cast<std::uintptr_t>(weight.data());
    if (address % alignof(T) != 0 || (address == 0 && weight.size() != 0)) {
      throw ArgumentError("weight", address, "is not an address of the table's scalars");
    }
  }

  static EmbeddingOptions normalised(EmbeddingOptions options, Index num_embeddings) {
    if (options.padding_idx) {
      Index& row = *options.padding_idx;
      if (row < -num_embeddings || row >= num_embeddings) {
        throw ArgumentError(
            "padding_idx", row,
            "is outside [" + detail::to_text(-num_embeddings) + ", " + detail::to_text(num_embeddings) + ")");
      }
      if (row < 0) row += num_embeddings;
    }
    return options;
  }

  Matrix<T> owned_;                           // empty while borrowed_ is set
  std::shared_ptr<const Borrowed> borrowed_;  // null for an owned table
  EmbeddingOptions options_;
};

}  // namespace gpt2
