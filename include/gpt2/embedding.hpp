// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// Embedding<T>: a table with one row for each id, the lookup of rows, and its gradient.

#include <concepts>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "gpt2/detail/lookup.hpp"
#include "gpt2/detail/owned_table.hpp"
#include "gpt2/random.hpp"
#include "gpt2/sparse_gradient.hpp"
#include "gpt2/table.hpp"
#include "gpt2/types.hpp"

namespace gpt2::inline GPT2_EMBEDDINGS_ABI {

/// The options of a table.
struct EmbeddingOptions {
  /// The row of padding: zero in a fresh table, and never trained. In [-num_embeddings,
  /// num_embeddings); a negative one counts from the end. Lookups return the row as it is stored.
  std::optional<Index> padding_idx = std::nullopt;
  /// Divide the gradient of each row by the number of times its id occurs in the ids.
  bool scale_grad_by_freq = false;

  /// Whether all options are equal.
  bool operator==(const EmbeddingOptions&) const = default;
};

/// A table of num_embeddings rows and embedding_dim columns, and the lookup of its rows by id.
///
/// The table is owned, or borrowed from memory owned elsewhere, such as a mapped checkpoint. Copies of an owning
/// Embedding own a copy of the table; copies of a borrowing one borrow the same memory. The gradient is always owned,
/// and copied as well. Const member functions may be called from several threads at once.
///
/// Source: torch.nn.Embedding.
template <Scalar T>
class Embedding {
 public:
  /// A fresh table: N(0, 0.02²), GPT-2's initialisation; the padding row is zero.
  /// Throws: ArgumentError if a size is negative, their product overflows, or padding_idx is out of range.
  Embedding(Index num_embeddings, Index embedding_dim, const EmbeddingOptions& options = {},
            std::uint64_t seed = default_seed);

  /// A table that owns the given weights, unchanged.
  /// Shape: weight `[num_embeddings, embedding_dim]`.
  /// Throws: ArgumentError if padding_idx is out of range.
  explicit Embedding(Matrix<T> weight, const EmbeddingOptions& options = {})
      : Embedding(detail::OwnedTable<T>(std::move(weight)), options) {}
  template <std::same_as<detail::OwnedTable<T>> Owned>  // a template, so that {} is an empty matrix
  explicit Embedding(Owned weight, const EmbeddingOptions& options = {})
      : owned_(std::move(weight)), options_(normalised(options, owned_.rows())) {}

  /// A copy.
  Embedding(const Embedding&) = default;
  /// Leaves an empty table.
  Embedding(Embedding&&) noexcept = default;
  /// If memory runs out, the table is as it was.
  Embedding& operator=(const Embedding& other) {
    *this = Embedding(other);
    return *this;
  }
  Embedding& operator=(Embedding&&) noexcept = default;
  ~Embedding() = default;

  /// A table that borrows its weights and shares ownership of whatever keeps them alive. A null owner is allowed
  /// if the caller keeps the memory alive by other means.
  /// Shape: weight `[num_embeddings, embedding_dim]`.
  /// Throws: ArgumentError if padding_idx is out of range, or weight is null or not aligned for T.
  /// Lifetime: weight's memory must live, unchanged, as long as owner or any copy of it.
  [[nodiscard]] static Embedding view(Eigen::Map<const Matrix<T>> weight, std::shared_ptr<const void> owner,
                                      const EmbeddingOptions& options = {}) {
    return Embedding(weight, std::move(owner), options);
  }
  template <
      std::same_as<Eigen::Map<Matrix<T>>> M>  // a template, so that a braced list is a map of const memory
  [[nodiscard]] static Embedding view(const M& weight, std::shared_ptr<const void> owner,
                                      const EmbeddingOptions& options = {}) {
    return Embedding({weight.data(), weight.rows(), weight.cols()}, std::move(owner), options);
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
  [[nodiscard]] Eigen::Map<const Matrix<T>> weight() const& noexcept {
    return borrowed_ ? borrowed_->weight : *owned_;
  }
  [[nodiscard]] Eigen::Map<const Matrix<T>> weight() const&& = delete;

  /// The table, to write to. A borrowed one is first copied into the object, once.
  /// Shape: `[num_embeddings, embedding_dim]`.
  /// Lifetime: valid until the Embedding is assigned to or destroyed.
  [[nodiscard]] Eigen::Map<Matrix<T>> mutable_weight() &;
  [[nodiscard]] Eigen::Map<Matrix<T>> mutable_weight() && = delete;

  /// The rows of the ids, bit for bit.
  /// Shape: ids `[n]` gives a Matrix `[n, embedding_dim]`; `[batch, n]` gives a Tensor3
  /// `[batch, n, embedding_dim]`.
  /// Throws: IndexError if an id is outside [0, num_embeddings).
  /// Source: torch.nn.Embedding.forward.
  template <Ids X, Device D = Eigen::DefaultDevice>
  [[nodiscard]] Hidden<T, ids_rank<X>> operator()(const X& ids, const D& device = {}) const {
    return detail::lookup(*this, ids, device, detail::ids_argument);
  }
  template <Id I, Device D = Eigen::DefaultDevice>
  [[nodiscard]] Matrix<T> operator()(std::initializer_list<I> ids, const D& device = {}) const {
    return (*this)(detail::as_span(ids), device);
  }

  /// Writes the rows of the ids to `out`, converted to its scalar if that is wider. Allocates nothing
  /// unless the ids must be copied first (see Ids).
  /// Shape: ids `[n]`, out `[n, embedding_dim]`; or ids `[batch, n]`, out `[batch, n, embedding_dim]` or a
  /// matrix `[batch * n, embedding_dim]`.
  /// Throws: IndexError if an id is outside [0, num_embeddings); ShapeError if out does not fit. Then out is
  /// as it was.
  template <Ids X, HiddenOutput<T, ids_rank<X>> Out, Device D = Eigen::DefaultDevice>
  void forward_into(const X& ids, Out&& out, const D& device = {}) const {
    detail::lookup_into(*this, ids, out, device, detail::ids_argument);
  }

  /// Adds the gradient of a lookup to grad(): grad_output[i] to row ids[i], in the order of the ids; nothing to the row
  /// at padding_idx. With scale_grad_by_freq each term is divided by the number of times its id occurs. Sums are
  /// formed in Accumulator<T>. Allocates at the first call, and with scale_grad_by_freq a count for each row.
  /// Shape: ids `[n]`, grad_output `[n, embedding_dim]`; or ids `[batch, n]`, grad_output
  /// `[batch, n, embedding_dim]` or a matrix `[batch * n, embedding_dim]`; of T or Accumulator<T>.
  /// Throws: IndexError if an id is outside [0, num_embeddings); ShapeError if grad_output does not fit. Then
  /// the gradient is as it was.
  /// Source: torch.nn.Embedding's backward.
  template <Ids X, HiddenInput<T, ids_rank<X>> G, Device D = Eigen::DefaultDevice>
  void backward(const X& ids, const G& grad_output, const D& device = {});

  /// The gradient of a lookup by itself, only the rows that occur, with the bits that
  /// backward() adds to zeros. The row at padding_idx is left out.
  /// Shape: as backward(); `[n]` rows and `[n, embedding_dim]` values for n different ids.
  /// Throws: as backward().
  /// Complexity: O(n log n) in the number of ids, whatever the size of the table.
  /// Source: torch.nn.Embedding(sparse=True), coalesced.
  template <Ids X, HiddenInput<T, ids_rank<X>> G, Device D = Eigen::DefaultDevice>
  [[nodiscard]] SparseGradient<Accumulator<T>> sparse_backward(const X& ids, const G& grad_output,
                                                               const D& device = {}) const;

  /// Whether there is a gradient: from the first backward() on.
  [[nodiscard]] bool has_grad() const noexcept { return has_grad_; }

  /// The gradient.
  /// Shape: `[num_embeddings, embedding_dim]`.
  /// Throws: ArgumentError before the first backward().
  /// Lifetime: valid until the Embedding is assigned to or destroyed.
  [[nodiscard]] Eigen::Map<Matrix<Accumulator<T>>> grad() & {
    check_has_grad();
    return *grad_;
  }
  [[nodiscard]] Eigen::Map<const Matrix<Accumulator<T>>> grad() const& {
    check_has_grad();
    return *grad_;
  }
  [[nodiscard]] Eigen::Map<const Matrix<Accumulator<T>>> grad() const&& = delete;

  /// The gradient, for accumulation; zero-initialised on first use. This is how other users of the table, such as a
  /// tied output head, share one gradient with its lookups.
  /// Shape: `[num_embeddings, embedding_dim]`.
  /// Lifetime: as grad().
  [[nodiscard]] Eigen::Map<Matrix<Accumulator<T>>> mutable_grad() &;
  [[nodiscard]] Eigen::Map<Matrix<Accumulator<T>>> mutable_grad() && = delete;

  /// Sets the gradient to zero, if there is one; its memory is kept.
  void zero_grad() {
    if (has_grad_) (*grad_).setZero();
  }

  /// Scales the rows of the ids, each once, whose norm exceeds max_norm to (nearly) max_norm: by
  /// max_norm / (norm + 1e-7). Norm and factor are computed in double. A borrowed table is first copied.
  /// norm_type is the p of the p-norm: 2 is Euclid's, infinity the largest magnitude, 0 counts non-zeros.
  /// Throws: IndexError if an id is outside [0, num_embeddings); ArgumentError if max_norm or norm_type is
  /// negative or NaN. Then the table is as it was.
  /// Source: torch.nn.Embedding's max_norm, as a step of its own.
  template <Ids X>
  void renorm(const X& ids, double max_norm, double norm_type = 2.0);
  template <Id I>
  void renorm(std::initializer_list<I> ids, double max_norm, double norm_type = 2.0) {
    renorm(detail::as_span(ids), max_norm, norm_type);
  }

 private:
  struct Borrowed {
    Eigen::Map<const Matrix<T>> weight;
    std::shared_ptr<const void> owner;
  };

  Embedding(const Eigen::Map<const Matrix<T>>& weight, std::shared_ptr<const void> owner,
            const EmbeddingOptions& options);

  friend detail::RowView<const T> stored_rows(const Embedding& table) noexcept {
    return detail::rows_of(table.weight());
  }

  void check_has_grad() const;
  void renorm_rows(const std::vector<Index>& rows, double max_norm, double norm_type);
  static EmbeddingOptions normalised(EmbeddingOptions options, Index num_embeddings);

  detail::OwnedTable<T> owned_;               // empty while borrowed_ is set
  std::shared_ptr<const Borrowed> borrowed_;  // null for an owned table
  EmbeddingOptions options_;
  // Not a std::optional: GCC 12 warns of its destructor once that is inlined.
  detail::OwnedTable<Accumulator<T>> grad_;
  bool has_grad_ = false;
};

}  // namespace gpt2

#include "gpt2/detail/embedding.hpp"
