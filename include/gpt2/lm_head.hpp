// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// The tied output head of GPT-2: wte a second time, transposed, to score the vocabulary. Logits and their
/// gradient, the k best tokens, and the cross-entropy of a language model.
///
/// What all functions share. T is the table's scalar, A = Accumulator<T> what everything is computed and
/// returned in. hidden: `[n, embedding_dim]`, or a Tensor3 `[batch, seq_length, embedding_dim]` that is seen
/// as `[batch * seq_length, embedding_dim]`; of T or A, or maps of const memory. Hidden states in another
/// type than A, and tables in it, a block at a time, are converted first. Everything is checked before
/// anything is written or a gradient changed; only memory that runs out inside of Eigen's matrix product (it
/// takes less than 1 MB) may leave a gradient with a part of what was to be added. Outputs may not overlap
/// inputs. No result depends on the device, bit for bit. A device may be given without options, too.

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "gpt2/detail/arguments/hidden.hpp"
#include "gpt2/detail/arguments/ids.hpp"
#include "gpt2/detail/kernels/head.hpp"
#include "gpt2/detail/kernels/parallel.hpp"
#include "gpt2/detail/kernels/quantized_rows.hpp"
#include "gpt2/detail/kernels/softmax.hpp"
#include "gpt2/detail/kernels/top_k.hpp"
#include "gpt2/embedding.hpp"
#include "gpt2/error.hpp"
#include "gpt2/table.hpp"
#include "gpt2/types.hpp"

namespace gpt2::inline GPT2_EMBEDDINGS_ABI {

/// The options of the head.
struct HeadOptions {
  /// How many rows of the table are tokens, where it is padded behind them: the other rows have no logits,
  /// and get no gradient. 0 for every row.
  Index vocab_size = 0;
  /// Each logit becomes cap * tanh(logit / cap). 0 for none; else a positive number that A can hold.
  double logit_soft_cap = 0;

  /// Whether all options are equal.
  bool operator==(const HeadOptions&) const = default;
};

/// Writable rows of A: a Matrix, Map or Block, a Tensor3 or a TensorMap of one.
template <class H, class A>
concept HeadOutput = HiddenOfRank<H, 2> && std::same_as<hidden_scalar_t<H>, A>;

/// The logits, hidden · wteᵀ: there is no bias.
/// Shape: `[n, vocab_size]`.
/// Throws: ArgumentError if vocab_size is outside [0, num_embeddings] or logit_soft_cap is not one;
/// ShapeError if hidden does not fit.
/// Source: lm_head of transformers.GPT2LMHeadModel.
template <Table E, HiddenInput<table_scalar_t<E>, 2> H, Device D = Eigen::DefaultDevice>
[[nodiscard]] Matrix<Accumulator<table_scalar_t<E>>> logits(const E& wte, const H& hidden,
                                                            const HeadOptions& options = {},
                                                            const D& device = {});

/// Writes what logits() returns to `out`. Up to eight hidden states in A, which is decoding, allocate
/// nothing; more of them what Eigen's matrix product takes, and a block of a half table in float.
/// Shape: out `[n, vocab_size]`; for a Tensor3 also `[batch, seq_length, vocab_size]`.
/// Throws: as logits(); ShapeError if out does not fit. Then out is as it was.
template <Table E, HiddenInput<table_scalar_t<E>, 2> H, HeadOutput<Accumulator<table_scalar_t<E>>> Out,
          Device D = Eigen::DefaultDevice>
void logits_into(const E& wte, const H& hidden, Out&& out, const HeadOptions& options = {},
                 const D& device = {});

/// The gradient of the hidden states, grad_logits · wte, and of the table: wte.grad() += grad_logitsᵀ ·
/// hidden. It reaches every row below vocab_size, the one at padding_idx included, as it does with PyTorch's
/// tied weights: padding_idx is about looking rows up.
/// Shape: grad_logits as out of logits_into(), of T or A; result `[n, embedding_dim]`.
/// Throws: as logits(); ShapeError if grad_logits does not fit. Then the gradient is as it was.
/// Complexity: with a soft cap the logits are formed again, some at a time.
template <Scalar T, HiddenInput<T, 2> H, HiddenInput<T, 2> G, Device D = Eigen::DefaultDevice>
[[nodiscard]] Matrix<Accumulator<T>> logits_backward(Embedding<T>& wte, const H& hidden, const G& grad_logits,
                                                     const HeadOptions& options = {}, const D& device = {});

/// Writes what logits_backward() returns to `grad_hidden`.
/// Shape: grad_hidden as hidden, or `[n, embedding_dim]`.
/// Throws: as logits_backward(); ShapeError if grad_hidden does not fit. Then it is as it was.
template <Scalar T, HiddenInput<T, 2> H, HiddenInput<T, 2> G, HeadOutput<Accumulator<T>> Out,
          Device D = Eigen::DefaultDevice>
void logits_backward_into(Embedding<T>& wte, const H& hidden, const G& grad_logits, Out&& grad_hidden,
                          const HeadOptions& options = {}, const D& device = {});

/// The k best tokens of each hidden state, best first.
template <class A>
struct TopK {
  IdMatrix<std::int64_t> ids;  ///< `[n, k]`
  Matrix<A> logits;            ///< `[n, k]`
};

/// The k tokens with the highest logits: what sorting the logits() of all would give, bit for bit. Of equal
/// logits the lower id comes first. A NaN ranks above every number.
/// Shape: `[n, k]`.
/// Throws: as logits(); ArgumentError if k is outside [0, vocab_size].
/// Complexity: memory O(k) for each state, and 2 MiB of float logits (256 of each state if these are more).
/// Source: torch.topk.
template <Table E, HiddenInput<table_scalar_t<E>, 2> H, Device D = Eigen::DefaultDevice>
[[nodiscard]] TopK<Accumulator<table_scalar_t<E>>> top_k(const E& wte, const H& hidden, Index k,
                                                         const HeadOptions& options = {},
                                                         const D& device = {});

/// What becomes of the losses of all positions.
enum class Reduction {
  mean,  ///< over the positions that are not ignored
  sum,   ///< of all of them
};

/// The options of cross_entropy().
struct CrossEntropyOptions {
  /// A label that stands for none: its position has no loss and no gradient, whatever is in it. It need not
  /// be outside the vocabulary.
  std::int64_t ignore_index = -100;
  /// What is returned of the losses of all positions; gradients are those of what is returned.
  Reduction reduction = Reduction::mean;
  /// The options of the logits.
  HeadOptions head = {};

  /// Whether all options are equal.
  bool operator==(const CrossEntropyOptions&) const = default;
};

/// A loss and its gradient.
template <class A>
struct CrossEntropy {
  A loss;                 ///< of all positions, reduced
  Matrix<A> grad_hidden;  ///< `[n, embedding_dim]`
};

/// The cross-entropy of logits() and labels, its gradient for the hidden states, and that for the table,
/// which is added to wte.grad(); as in logits_backward(), to the row at padding_idx, too. Labels are not
/// shifted: the label of a position is the token that comes behind it.
///
/// All positions ignored, or none there: the mean is NaN, the sum 0, and the gradients are zeros. A logit
/// that is -infinity is a token of probability 0, with an infinite loss if it is the label. A state with a
/// logit that is NaN or infinity, or none above -infinity, has no softmax: loss and gradients are NaN, as
/// PyTorch's are. Exponentials are summed up in A, sums and losses in double.
/// Shape: labels `[n]`, or `[batch, seq_length]` if hidden is a Tensor3 or a matrix of as many rows.
/// Throws: as logits(); ShapeError if labels do not fit; IndexError if a label is neither ignore_index nor in
/// [0, vocab_size). Then the gradient is as it was.
/// Complexity: logits are formed twice, 2 MiB of them in float at a time (256 of each state if these are
/// more). Other memory is the results, a copy of the hidden states where some are ignored, and what Eigen's
/// matrix product takes.
/// Source: torch.nn.functional.cross_entropy.
template <Scalar T, HiddenInput<T, 2> H, Ids L, Device D = Eigen::DefaultDevice>
[[nodiscard]] CrossEntropy<Accumulator<T>> cross_entropy(Embedding<T>& wte, const H& hidden, const L& labels,
                                                         const CrossEntropyOptions& options = {},
                                                         const D& device = {});

/// Writes the gradient of the hidden states to `grad_hidden` and returns the loss; else as cross_entropy().
/// Shape: grad_hidden as hidden, or `[n, embedding_dim]`.
/// Throws: as cross_entropy(); ShapeError if grad_hidden does not fit. Then it is as it was.
template <Scalar T, HiddenInput<T, 2> H, Ids L, HeadOutput<Accumulator<T>> Out,
          Device D = Eigen::DefaultDevice>
Accumulator<T> cross_entropy_into(Embedding<T>& wte, const H& hidden, const L& labels, Out&& grad_hidden,
                                  const CrossEntropyOptions& options = {}, const D& device = {});

/// The loss that cross_entropy() returns, bit for bit, and no gradient.
/// Shape, Throws: as cross_entropy().
/// Complexity: a quarter of cross_entropy()'s work, and no copy of the gradient in memory.
template <Table E, HiddenInput<table_scalar_t<E>, 2> H, Ids L, Device D = Eigen::DefaultDevice>
[[nodiscard]] Accumulator<table_scalar_t<E>> cross_entropy_loss(const E& wte, const H& hidden,
                                                                const L& labels,
                                                                const CrossEntropyOptions& options = {},
                                                                const D& device = {});

/// All of these with a device and no options: `logits(wte, hidden, device)`. For every table that has them.
template <class Table, class H, Device D>
[[nodiscard]] auto logits(const Table& wte, const H& hidden, const D& device)
    -> decltype(logits(wte, hidden, HeadOptions(), device)) {
  return logits(wte, hidden, HeadOptions(), device);
}
template <class Table, class H, class Out, Device D>
auto logits_into(const Table& wte, const H& hidden, Out&& out, const D& device)
    -> decltype(logits_into(wte, hidden, out, HeadOptions(), device)) {
  return logits_into(wte, hidden, out, HeadOptions(), device);
}
template <class Table, class H, class G, Device D>
[[nodiscard]] auto logits_backward(Table& wte, const H& hidden, const G& grad_logits, const D& device)
    -> decltype(logits_backward(wte, hidden, grad_logits, HeadOptions(), device)) {
  return logits_backward(wte, hidden, grad_logits, HeadOptions(), device);
}
template <class Table, class H, class G, class Out, Device D>
auto logits_backward_into(Table& wte, const H& hidden, const G& grad_logits, Out&& grad_hidden,
                          const D& device)
    -> decltype(logits_backward_into(wte, hidden, grad_logits, grad_hidden, HeadOptions(), device)) {
  return logits_backward_into(wte, hidden, grad_logits, grad_hidden, HeadOptions(), device);
}
template <class Table, class H, Device D>
[[nodiscard]] auto top_k(const Table& wte, const H& hidden, Index k, const D& device)
    -> decltype(top_k(wte, hidden, k, HeadOptions(), device)) {
  return top_k(wte, hidden, k, HeadOptions(), device);
}
template <class Table, class H, class L, Device D>
[[nodiscard]] auto cross_entropy(Table& wte, const H& hidden, const L& labels, const D& device)
    -> decltype(cross_entropy(wte, hidden, labels, CrossEntropyOptions(), device)) {
  return cross_entropy(wte, hidden, labels, CrossEntropyOptions(), device);
}
template <class Table, class H, class L, class Out, Device D>
auto cross_entropy_into(Table& wte, const H& hidden, const L& labels, Out&& grad_hidden, const D& device)
    -> decltype(cross_entropy_into(wte, hidden, labels, grad_hidden, CrossEntropyOptions(), device)) {
  return cross_entropy_into(wte, hidden, labels, grad_hidden, CrossEntropyOptions(), device);
}
template <class Table, class H, class L, Device D>
[[nodiscard]] auto cross_entropy_loss(const Table& wte, const H& hidden, const L& labels, const D& device)
    -> decltype(cross_entropy_loss(wte, hidden, labels, CrossEntropyOptions(), device)) {
  return cross_entropy_loss(wte, hidden, labels, CrossEntropyOptions(), device);
}

// Implementation. What follows is made for anything a Head can be made of; see quantized_embedding.hpp.

namespace detail {

/// The head of a table's rows.
/// Throws: ArgumentError.
template <class S>
[[nodiscard]] Head<S> checked_head(Head<S> head, const HeadOptions& options) {
  using A = HeadScalar<S>;
  if (options.vocab_size < 0 || options.vocab_size > head.rows.rows) {
    throw ArgumentError("vocab_size", options.vocab_size, "is outside [0, " + to_text(head.rows.rows) + "]");
  }
  const double cap = options.logit_soft_cap;
  constexpr auto least = double{std::numeric_limits<A>::denorm_min()};
  constexpr auto most = double{(std::numeric_limits<A>::max)()};
  if (cap != 0 && !(cap >= least && cap <= most)) {
    throw ArgumentError("logit_soft_cap", cap,
                        "is not 0 or in [" + to_text(least) + ", " + to_text(most) + "]");
  }
  if (options.vocab_size > 0) head.rows.rows = options.vocab_size;
  head.logit_soft_cap = static_cast<A>(cap);
  return head;
}
template <class T>
[[nodiscard]] Head<T> head_of(const RowView<const T>& rows) {
  return {rows};
}
[[nodiscard]] inline Head<std::int8_t> head_of(const QuantizedRows& rows) {
  return {{rows.values, rows.rows, rows.cols, rows.cols}, rows.scales, rows.offsets};
}
template <Table E>
[[nodiscard]] auto checked_head(const E& wte, const HeadOptions& options) {
  return checked_head(head_of(stored_rows(wte)), options);
}

/// The shape of hidden states, without their last dimension.
template <class H>
[[nodiscard]] SequenceShape sequence_shape(const H& hidden) {
  if constexpr (TensorHidden<H>) {
    return {hidden.dimension(0), hidden.dimension(1), 2};
  } else {
    return {1, hidden.rows(), 1};
  }
}

/// Hidden states of any number, as rows.
/// Throws: ShapeError.
template <class H>
[[nodiscard]] auto checked_states(const H& hidden, Index embedding_dim) {
  return checked_rows(hidden, sequence_shape(hidden), embedding_dim, {"lm_head", "hidden"});
}

/// What belongs to hidden states: of their shape, or a matrix of as many rows.
/// Throws: ShapeError.
template <class H, class Other>
[[nodiscard]] auto checked_like(const H& hidden, Other& other, Index cols, const char* name) {
  if constexpr (TensorHidden<Other> && !TensorHidden<H>) {
    if (other.dimension(0) * other.dimension(1) == hidden.rows() && other.dimension(2) == cols) {
      return all_rows(other);
    }
    throw ShapeError("lm_head", name, to_text({hidden.rows(), cols}),
                     to_text({other.dimension(0), other.dimension(1), other.dimension(2)}));
  } else {
    return checked_rows(other, sequence_shape(hidden), cols, {"lm_head", name});
  }
}

template <class S, class H, class Out, class D>
void logits_into(const Head<S>& head, const H& hidden, Out& out, const D& device) {
  using A = HeadScalar<S>;
  const auto rows = checked_states(hidden, head.rows.cols);
  const auto result = checked_like(hidden, out, head.rows.rows, "out");
  Matrix<A> storage;
  form_logits(head, widened_rows(rows, storage), 0, result, HeadTiling{}, device);
}

template <class S, class H, class D>
[[nodiscard]] Matrix<HeadScalar<S>> logits(const Head<S>& head, const H& hidden, const D& device) {
  Matrix<HeadScalar<S>> out(checked_states(hidden, head.rows.cols).rows, head.rows.rows);
  logits_into(head, hidden, out, device);
  return out;
}

template <class S, class H, class D>
[[nodiscard]] TopK<HeadScalar<S>> top_k(const Head<S>& head, const H& hidden, Index k, const D& device,
                                        const HeadTiling& tiling = {}) {
  using A = HeadScalar<S>;
  if (k < 0 || k > head.rows.rows) {
    throw ArgumentError("k", k, "is outside [0, " + to_text(head.rows.rows) + "], the vocabulary");
  }
  const auto rows = checked_states(hidden, head.rows.cols);
  TopK<A> best{IdMatrix<std::int64_t>(rows.rows, k), Matrix<A>(rows.rows, k)};
  Matrix<A> storage;
  find_top_k(head, widened_rows(rows, storage), best.ids, best.logits, tiling, device);
  return best;
}

/// Whether a label is ignore_index, by value.
template <Id I>
[[nodiscard]] constexpr bool is_ignored(I label, std::int64_t ignore_index) {
  if constexpr (std::is_signed_v<I>) {
    return static_cast<std::int64_t>(label) == ignore_index;
  } else {
    return ignore_index >= 0 && static_cast<std::uint64_t>(label) == static_cast<std::uint64_t>(ignore_index);
  }
}

/// The positions that have a label, and their labels.
struct Labels {
  std::vector<Index> positions;
  std::vector<Index> labels;
};

/// Throws: ShapeError, IndexError.
template <class H, class L>
[[nodiscard]] Labels checked_labels(const H& hidden, const L& labels, Index vocab_size,
                                    std::int64_t ignore_index) {
  const StoredIds stored(labels);
  const auto& view = stored.view();
  const SequenceShape shape = sequence_shape(hidden);
  const bool fits = shape.rank == 2 && view.rank == 2
                        ? view.batch == shape.batch && view.seq_length == shape.seq_length
                        : view.batch * view.seq_length == shape.size();
  if (!fits) {
    const std::string flat = to_text({shape.size()});
    throw ShapeError("lm_head", "labels", shape.rank == 2 ? to_text(shape.extents()) + " or " + flat : flat,
                     to_text(view.shape().extents()));
  }
  Labels kept;
  kept.positions.reserve(static_cast<std::size_t>(shape.size()));
  kept.labels.reserve(static_cast<std::size_t>(shape.size()));
  for (Index sequence = 0; sequence < view.batch; ++sequence) {
    for (Index place = 0; place < view.seq_length; ++place) {
      const auto label = view(sequence, place);
      if (is_ignored(label, ignore_index)) continue;
      if (static_cast<std::uint64_t>(label) >= static_cast<std::uint64_t>(vocab_size)) {
        throw IndexError("lm_head", "labels", view.coordinates(sequence, place), label, vocab_size,
                         ", and not ignore_index, " + to_text(ignore_index));
      }
      kept.positions.push_back(sequence * view.seq_length + place);
      kept.labels.push_back(static_cast<Index>(label));
    }
  }
  return kept;
}

/// The rows at some positions, ascending, in A: the rows themselves where they are, or a copy in `storage`.
template <class A, class S>
[[nodiscard]] RowView<const A> rows_at(const RowView<S>& rows, const std::vector<Index>& positions,
                                       Matrix<A>& storage) {
  const auto size = static_cast<Index>(positions.size());
  if (size == rows.rows) return widened_rows(rows, storage);
  storage.resize(size, rows.cols);
  for (Index i = 0; i < size; ++i) {
    widen(rows.cols, storage.data() + i * rows.cols, rows.row(positions[static_cast<std::size_t>(i)]));
  }
  return {storage.data(), size, rows.cols, rows.cols};
}

/// Moves the first rows to the positions they belong to, ascending, and fills the others with zeros.
template <class A>
void spread_rows(const RowView<A>& rows, const std::vector<Index>& positions) {
  auto from = static_cast<Index>(positions.size());
  for (Index to = rows.rows; to-- > 0;) {
    Row<A> row(rows.row(to), rows.cols);
    if (from > 0 && positions[static_cast<std::size_t>(from - 1)] == to) {
      --from;
      if (from != to) row = ConstRow<A>(rows.row(from), rows.cols);
    } else {
      row.setZero();
    }
  }
}

/// The loss of what has been checked. mutable_grad, called when nothing can go wrong any more, returns where
/// the table's gradient is summed up; grad_hidden is null where no gradient is asked for.
template <class S, class States, class MutableGrad, class D>
[[nodiscard]] HeadScalar<S> checked_cross_entropy(const Head<S>& head, const States& hidden,
                                                  const Labels& labels, Reduction reduction,
                                                  const RowView<HeadScalar<S>>* grad_hidden,
                                                  const MutableGrad& mutable_grad, const D& device,
                                                  const HeadTiling& tiling) {
  using A = HeadScalar<S>;
  const auto count = static_cast<Index>(labels.labels.size());
  const double weight = reduction == Reduction::sum ? 1.0 : 1.0 / static_cast<double>(count);
  Matrix<A> storage;
  const RowView<const A> states = rows_at(hidden, labels.positions, storage);
  Matrix<A> round(count, (std::min)(tiling.rows_per_round(count), head.rows.rows));
  const auto softmax = softmax_of(head, states, labels.labels, round, tiling, device);
  double loss = reduction == Reduction::mean && count == 0 ? std::numeric_limits<double>::quiet_NaN() : 0;
  for (const Softmax<A>& own : softmax) loss += own.loss();
  if (count > 0) loss *= weight;
  if constexpr (!std::is_null_pointer_v<MutableGrad>) {
    const RowView<A> grad = mutable_grad();
    const RowView<A> own_grads = middle_rows(*grad_hidden, 0, count);
    as_operand(own_grads).setZero();
    if (count > 0) {
      add_loss_gradients(head, states, labels.labels, softmax, weight, own_grads, grad, round, tiling,
                         device);
    }
    spread_rows(*grad_hidden, labels.positions);
  }
  return static_cast<A>(loss);
}

template <Scalar T, class H, class L, class Out, class D>
[[nodiscard]] Accumulator<T> cross_entropy_into(Embedding<T>& wte, const H& hidden, const L& labels, Out& out,
                                                const CrossEntropyOptions& options, const D& device,
                                                const HeadTiling& tiling = {}) {
  const Head<T> head = checked_head(wte, options.head);
  const auto rows = checked_states(hidden, head.rows.cols);
  const auto grad_hidden = checked_like(hidden, out, head.rows.cols, "grad_hidden");
  const Labels kept = checked_labels(hidden, labels, head.rows.rows, options.ignore_index);
  const auto mutable_grad = [&wte] { return rows_of(wte.mutable_grad()); };
  return checked_cross_entropy(head, rows, kept, options.reduction, &grad_hidden, mutable_grad, device,
                               tiling);
}

template <class S, class H, class L, class D>
[[nodiscard]] HeadScalar<S> cross_entropy_loss(const Head<S>& head, const H& hidden, const L& labels,
                                               const CrossEntropyOptions& options, const D& device,
                                               const HeadTiling& tiling = {}) {
  const auto rows = checked_states(hidden, head.rows.cols);
  const Labels kept = checked_labels(hidden, labels, head.rows.rows, options.ignore_index);
  return checked_cross_entropy(head, rows, kept, options.reduction, nullptr, nullptr, device, tiling);
}

}  // namespace detail

template <Table E, HiddenInput<table_scalar_t<E>, 2> H, Device D>
Matrix<Accumulator<table_scalar_t<E>>> logits(const E& wte, const H& hidden, const HeadOptions& options,
                                              const D& device) {
  return detail::logits(detail::checked_head(wte, options), hidden, device);
}

template <Table E, HiddenInput<table_scalar_t<E>, 2> H, HeadOutput<Accumulator<table_scalar_t<E>>> Out,
          Device D>
void logits_into(const E& wte, const H& hidden, Out&& out, const HeadOptions& options, const D& device) {
  detail::logits_into(detail::checked_head(wte, options), hidden, out, device);
}

template <Scalar T, HiddenInput<T, 2> H, HiddenInput<T, 2> G, HeadOutput<Accumulator<T>> Out, Device D>
void logits_backward_into(Embedding<T>& wte, const H& hidden, const G& grad_logits, Out&& grad_hidden,
                          const HeadOptions& options, const D& device) {
  using A = Accumulator<T>;
  const detail::Head<T> head = detail::checked_head(wte, options);
  const auto rows = detail::checked_states(hidden, head.rows.cols);
  const auto given = detail::checked_like(hidden, grad_logits, head.rows.rows, "grad_logits");
  const auto result = detail::checked_like(hidden, grad_hidden, head.rows.cols, "grad_hidden");

  Matrix<A> storage;
  const detail::RowView<const A> states = detail::widened_rows(rows, storage);
  const detail::HeadTiling tiling;
  const Index vocab_size = head.rows.rows;
  const A cap = head.logit_soft_cap;
  const Index round_size = (std::min)(tiling.rows_per_round(states.rows), vocab_size);
  Matrix<A> round(cap != 0 ? states.rows : 0, round_size);
  Matrix<A> widened;
  const detail::RowView<A> grad = detail::rows_of(wte.mutable_grad());
  detail::as_operand(result).setZero();
  for (Index first = 0; first < vocab_size; first += round_size) {
    const Index size = (std::min)(round_size, vocab_size - first);
    auto gradients = detail::widened_rows(detail::part(given, {0, states.rows, first, size}), widened);
    if (cap != 0) {
      const detail::RowView<A> logits{round.data(), states.rows, size, round_size};
      detail::form_logits(head, states, first, logits, tiling, device);
      for (Index i = 0; i < states.rows; ++i) {
        for (Index j = 0; j < size; ++j) {
          A& logit = logits.row(i)[j];
          logit = gradients.row(i)[j] * detail::capped_derivative(logit, cap);
        }
      }
      gradients = {logits.data, logits.rows, logits.cols, logits.row_stride};
    }
    detail::add_head_gradients(head, states, first, gradients, result, grad, tiling, device);
  }
}

template <Scalar T, HiddenInput<T, 2> H, HiddenInput<T, 2> G, Device D>
Matrix<Accumulator<T>> logits_backward(Embedding<T>& wte, const H& hidden, const G& grad_logits,
                                       const HeadOptions& options, const D& device) {
  Matrix<Accumulator<T>> grad_hidden(detail::all_rows(hidden).rows, wte.embedding_dim());
  logits_backward_into(wte, hidden, grad_logits, grad_hidden, options, device);
  return grad_hidden;
}

template <Table E, HiddenInput<table_scalar_t<E>, 2> H, Device D>
TopK<Accumulator<table_scalar_t<E>>> top_k(const E& wte, const H& hidden, Index k, const HeadOptions& options,
                                           const D& device) {
  return detail::top_k(detail::checked_head(wte, options), hidden, k, device);
}

template <Scalar T, HiddenInput<T, 2> H, Ids L, HeadOutput<Accumulator<T>> Out, Device D>
Accumulator<T> cross_entropy_into(Embedding<T>& wte, const H& hidden, const L& labels, Out&& grad_hidden,
                                  const CrossEntropyOptions& options, const D& device) {
  return detail::cross_entropy_into(wte, hidden, labels, grad_hidden, options, device);
}

template <Scalar T, HiddenInput<T, 2> H, Ids L, Device D>
CrossEntropy<Accumulator<T>> cross_entropy(Embedding<T>& wte, const H& hidden, const L& labels,
                                           const CrossEntropyOptions& options, const D& device) {
  CrossEntropy<Accumulator<T>> result{
      0, Matrix<Accumulator<T>>(detail::all_rows(hidden).rows, wte.embedding_dim())};
  result.loss = cross_entropy_into(wte, hidden, labels, result.grad_hidden, options, device);
  return result;
}

template <Table E, HiddenInput<table_scalar_t<E>, 2> H, Ids L, Device D>
Accumulator<table_scalar_t<E>> cross_entropy_loss(const E& wte, const H& hidden, const L& labels,
                                                  const CrossEntropyOptions& options, const D& device) {
  return detail::cross_entropy_loss(detail::checked_head(wte, options.head), hidden, labels, options, device);
}

}  // namespace gpt2::inline GPT2_EMBEDDINGS_ABI
