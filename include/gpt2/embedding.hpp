// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// Embedding<T>: a table with one row for each id, the lookup of rows, and its gradient.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "gpt2/detail/kernels/rounding.hpp"
#include "gpt2/detail/kernels/scatter.hpp"
#include "gpt2/detail/lookup.hpp"
#include "gpt2/error.hpp"
#include "gpt2/initialization.hpp"
#include "gpt2/sparse_gradient.hpp"
#include "gpt2/types.hpp"

namespace gpt2::inline GPT2_EMBEDDINGS_ABI {

/// The options of a table.
struct EmbeddingOptions {
  /// A row that stands for padding: zero in a fresh table, and never trained. In [-num_embeddings,
  /// num_embeddings); a negative one counts from the end. Lookups return the row as it is stored.
  std::optional<Index> padding_idx = std::nullopt;
  /// Divide the gradient of each row by the number of times its id occurs in the ids.
  bool scale_grad_by_freq = false;

  /// Whether all options are equal.
  bool operator==(const EmbeddingOptions&) const = default;
};

/// A table of num_embeddings rows and embedding_dim columns, and the lookup of its rows by id.
///
/// The table is owned, or borrowed from memory that others keep, such as a mapped checkpoint. Copies of an
/// owning Embedding own a copy of the table; copies of a borrowing one borrow the same memory. The gradient is
/// always owned, and copied along. Const member functions may be called from several threads at once.
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

  /// Adds the gradient of a lookup to grad(): row ids[i] gets grad_output[i], in the order of the ids, the row at
  /// padding_idx gets nothing. With scale_grad_by_freq each term is divided by how often its id occurs. Sums are
  /// formed in Accumulator<T>. Allocates at the first call only.
  /// Shape: ids `[n]`, grad_output `[n, embedding_dim]`; or ids `[batch, n]`, grad_output
  /// `[batch, n, embedding_dim]` or a matrix `[batch * n, embedding_dim]`; of T or Accumulator<T>.
  /// Throws: IndexError if an id is outside [0, num_embeddings); ShapeError if grad_output does not fit. Then
  /// the gradient is as it was.
  /// Source: torch.nn.Embedding's backward.
  template <Ids X, HiddenInput<T, ids_rank<X>> G, Device D = Eigen::DefaultDevice>
  void backward(const X& ids, const G& grad_output, const D& device = {}) {
    const auto& in_memory = detail::evaluated(ids);
    const auto view = detail::id_view(in_memory);
    const auto rows = checked_gradient(view, grad_output);
    add_gradient(detail::shape_of(view), view, occurrences(view), rows, device);
  }

  /// The gradient of a lookup by itself, only the rows that occur: what backward() would add to zeros, bit for
  /// bit. The row at padding_idx is left out.
  /// Shape: as backward(); `[n]` rows and `[n, embedding_dim]` values for n different ids.
  /// Throws: as backward().
  /// Complexity: O(n log n) in the number of ids; the size of the table does not matter.
  /// Source: torch.nn.Embedding(sparse=True), coalesced.
  template <Ids X, HiddenInput<T, ids_rank<X>> G, Device D = Eigen::DefaultDevice>
  [[nodiscard]] SparseGradient<Accumulator<T>> sparse_backward(const X& ids, const G& grad_output,
                                                               const D& device = {}) const {
    const auto& in_memory = detail::evaluated(ids);
    const auto view = detail::id_view(in_memory);
    return detail::sparse_gradient<Accumulator<T>>(view, checked_gradient(view, grad_output),
                                                   options_.padding_idx, options_.scale_grad_by_freq, device);
  }

  /// Whether there is a gradient: from the first backward() on.
  [[nodiscard]] bool has_grad() const noexcept { return has_grad_; }

  /// The gradient.
  /// Shape: `[num_embeddings, embedding_dim]`.
  /// Throws: ArgumentError before the first backward().
  /// Lifetime: valid until the Embedding is assigned to or destroyed.
  [[nodiscard]] Eigen::Map<Matrix<Accumulator<T>>> grad() {
    check_has_grad();
    return {grad_.data(), grad_.rows(), grad_.cols()};
  }
  [[nodiscard]] Eigen::Map<const Matrix<Accumulator<T>>> grad() const {
    check_has_grad();
    return {grad_.data(), grad_.rows(), grad_.cols()};
  }

  /// The gradient, to add to: zeros if there was none. This is how other users of the table, such as a tied
  /// output head, share one gradient with its lookups.
  /// Shape: `[num_embeddings, embedding_dim]`.
  /// Lifetime: as grad().
  [[nodiscard]] Eigen::Map<Matrix<Accumulator<T>>> mutable_grad() {
    if (!has_grad_) grad_ = Matrix<Accumulator<T>>::Zero(num_embeddings(), embedding_dim());
    has_grad_ = true;
    return grad();
  }

  /// Sets the gradient to zero, if there is one; its memory is kept.
  void zero_grad() {
    if (has_grad_) grad_.setZero();
  }

  /// Scales the rows of the ids, each once, whose norm exceeds max_norm to (nearly) max_norm: by
  /// max_norm / (norm + 1e-7). Norm and factor are computed in double. A borrowed table is first copied.
  /// norm_type is the p of the p-norm: 2 is Euclid's, infinity the largest magnitude, 0 counts non-zeros.
  /// Throws: IndexError if an id is outside [0, num_embeddings); ArgumentError if max_norm or norm_type is
  /// negative or NaN. Then the table is as it was.
  /// Source: torch.nn.Embedding's max_norm, as a step of its own.
  template <Ids X>
  void renorm(const X& ids, double max_norm, double norm_type = 2.0) {
    const auto& in_memory = detail::evaluated(ids);
    const auto view = detail::id_view(in_memory);
    detail::check_ids(view, num_embeddings(), ids_argument);
    if (!(max_norm >= 0)) throw ArgumentError("max_norm", max_norm, "is not a number of at least 0");
    if (!(norm_type >= 0)) throw ArgumentError("norm_type", norm_type, "is not a number of at least 0");
    renorm_rows(detail::unique_ids(view), max_norm, norm_type);
  }
  template <Id I>
  void renorm(std::initializer_list<I> ids, double max_norm, double norm_type = 2.0) {
    renorm(detail::as_span(ids), max_norm, norm_type);
  }

 private:
  template <Scalar>
  friend class GPT2PositionEmbeddings;
  template <Scalar>
  friend class GPT2Embeddings;

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

  void check_has_grad() const {
    if (!has_grad_)
      throw ArgumentError("grad", 0, "elements: there is no gradient before the first backward()");
  }

  template <class I, class G>
  [[nodiscard]] auto checked_gradient(const detail::IdView<I>& ids, const G& grad_output) const {
    detail::check_ids(ids, num_embeddings(), ids_argument);
    return detail::checked_rows(grad_output, detail::shape_of(ids), embedding_dim(),
                                "embedding: grad_output");
  }

  /// Allocates all that add_gradient() and occurrences() need, so that they cannot fail.
  void prepare_gradient() {
    (void)mutable_grad();
    if (options_.scale_grad_by_freq) counts_.resize(static_cast<std::size_t>(num_embeddings()));
  }

  /// How often each of the ids occurs, where scale_grad_by_freq asks; else null.
  template <class I>
  [[nodiscard]] const Index* occurrences(const detail::IdView<I>& ids) {
    if (!options_.scale_grad_by_freq) return nullptr;
    counts_.resize(static_cast<std::size_t>(num_embeddings()));
    detail::count_ids(ids, std::span(counts_));
    return counts_.data();
  }

  /// Adds the gradient of what has been checked.
  template <class IdAt, class G, class D>
  void add_gradient(const detail::SequenceShape& shape, const IdAt& ids, const Index* counts,
                    const detail::RowView<G>& grad_output, const D& device) {
    detail::scatter_add(shape, ids, grad_output, detail::rows_of(mutable_grad()), options_.padding_idx,
                        counts, device);
  }

  void renorm_rows(const std::vector<Index>& rows, double max_norm, double norm_type) {
    auto table = mutable_weight();
    for (const Index i : rows) {
      auto row = table.row(i);
      const auto magnitudes = row.template cast<double>().array().abs();
      const double norm = norm_type == 0          ? (magnitudes != 0).template cast<double>().sum()
                          : norm_type == 1        ? magnitudes.sum()
                          : norm_type == 2        ? std::sqrt(magnitudes.square().sum())
                          : std::isinf(norm_type) ? (magnitudes.size() > 0 ? magnitudes.maxCoeff() : 0.0)
                                                  : std::pow(magnitudes.pow(norm_type).sum(), 1 / norm_type);
      if (norm > max_norm) {
        const double factor = max_norm / (norm + 1e-7);
        for (T& element : row) element = detail::convert<T>(static_cast<double>(element) * factor);
      }
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
  // Not a std::optional: GCC 12 would warn of its destructor where it is inlined.
  Matrix<Accumulator<T>> grad_;
  bool has_grad_ = false;
  std::vector<Index> counts_;  // of ids in the current backward(), kept for its memory
};

}  // namespace gpt2::inline GPT2_EMBEDDINGS_ABI
