// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// The definitions of lm_head.hpp: from the arguments to checked rows and labels, and the kernels.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <type_traits>
#include <vector>

#include "gpt2/detail/arguments/hidden.hpp"
#include "gpt2/detail/arguments/labels.hpp"
#include "gpt2/detail/kernels/head.hpp"
#include "gpt2/detail/kernels/softmax.hpp"
#include "gpt2/detail/kernels/top_k.hpp"
#include "gpt2/error.hpp"
#include "gpt2/lm_head.hpp"

namespace gpt2::inline GPT2_EMBEDDINGS_ABI {

namespace detail {

/// The options of an argument that may be options or a device; the defaults if it is a device.
template <class Options, class O>
[[nodiscard]] Options options_of(const O& options) {
  if constexpr (Device<O>) {
    return {};
  } else {
    return options;
  }
}
/// The device of the two arguments.
template <class O, class D>
[[nodiscard]] const auto& device_of(const O& options, const D& device) {
  if constexpr (Device<O>) {
    static_assert(std::is_same_v<D, Eigen::DefaultDevice>, "one device is enough");
    return options;
  } else {
    return device;
  }
}

/// The head of a table's rows and options.
/// Throws: ArgumentError.
template <Table E>
[[nodiscard]] Head<RowsOf<E>> checked_head(const E& wte, const HeadOptions& options) {
  using A = Accumulator<table_scalar_t<E>>;
  Head<RowsOf<E>> head{stored_rows(wte)};
  if (options.vocab_size < 0 || options.vocab_size > head.vocab_size()) {
    throw ArgumentError("vocab_size", options.vocab_size,
                        "is outside [0, " + to_text(head.vocab_size()) + "]");
  }
  const double cap = options.logit_soft_cap;
  constexpr auto least = double{std::numeric_limits<A>::denorm_min()};
  constexpr auto most = double{(std::numeric_limits<A>::max)()};
  if (std::fpclassify(cap) != FP_ZERO && !(cap >= least && cap <= most)) {
    throw ArgumentError("logit_soft_cap", cap,
                        "is not 0 or in [" + to_text(least) + ", " + to_text(most) + "]");
  }
  if (options.vocab_size > 0) head.rows.rows = options.vocab_size;
  head.logit_soft_cap = static_cast<A>(cap);
  return head;
}

/// Any number of hidden states.
/// Throws: ShapeError.
template <class Rows, class H>
[[nodiscard]] auto checked_hidden(const Head<Rows>& head, const H& hidden) {
  return checked_states(hidden, head.embedding_dim(), {"lm_head", "hidden"});
}

/// The rows at some positions, ascending, in A: the rows themselves if they are all, or a copy in `storage`.
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

/// Moves the first rows to their positions, ascending, and fills the others with zeros.
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

/// The factor of each position's loss.
[[nodiscard]] inline double loss_weight(const Labels& labels, Reduction reduction) {
  return reduction == Reduction::sum ? 1.0 : 1.0 / static_cast<double>(labels.size());
}

/// The losses of all positions that have a label, reduced.
template <class A>
[[nodiscard]] A reduced(std::span<const Softmax<A>> softmax, double weight, Reduction reduction) {
  double loss = 0;
  for (const Softmax<A>& own : softmax) loss += own.loss();
  if (!softmax.empty()) return static_cast<A>(loss * weight);
  return reduction == Reduction::mean ? std::numeric_limits<A>::quiet_NaN() : A(0);
}

/// The labels that are not ignored, and the softmax of their positions' logits. No gradients.
template <class A>
struct LabelledSoftmax {
  Labels labels;
  std::vector<Softmax<A>> softmax;
};

/// Throws: as cross_entropy_loss().
template <Table E, class H, class L, class D>
[[nodiscard]] auto labelled_softmax(const E& wte, const H& hidden, const L& labels,
                                    const CrossEntropyOptions& options, const D& device) {
  using A = Accumulator<table_scalar_t<E>>;
  const auto head = checked_head(wte, options.head);
  const auto rows = checked_hidden(head, hidden);
  LabelledSoftmax<A> result{
      checked_labels(labels, shape_of_states(hidden), head.vocab_size(), options.ignore_index), {}};
  result.softmax.resize(result.labels.labels.size());
  Matrix<A> storage;
  const RowView<const A> states = rows_at(rows, result.labels.positions, storage);
  const HeadTiling tiling;
  const auto plan = loss_plan<A>(states.rows, head.vocab_size(), options.workspace_bytes, tiling);
  find_softmax<RowsOf<E>, A>(head, states, result.labels.labels, result.softmax, plan, tiling, device);
  return result;
}

}  // namespace detail

template <Table E, HiddenInput<table_scalar_t<E>, 2> H, HeadOutput<Accumulator<table_scalar_t<E>>> Out,
          OptionsOrDevice<HeadOptions> O, Device D>
void logits_into(const E& wte, const H& hidden, Out&& out, const O& options, const D& device) {
  const auto head = detail::checked_head(wte, detail::options_of<HeadOptions>(options));
  const auto rows = detail::checked_hidden(head, hidden);
  const auto result = detail::checked_like(hidden, out, head.vocab_size(), {"lm_head", "out"});
  Matrix<Accumulator<table_scalar_t<E>>> storage;
  detail::form_logits(head, detail::widened_rows(rows, storage), 0, result, detail::HeadTiling{},
                      detail::device_of(options, device));
}

template <Table E, HiddenInput<table_scalar_t<E>, 2> H, OptionsOrDevice<HeadOptions> O, Device D>
Matrix<Accumulator<table_scalar_t<E>>> logits(const E& wte, const H& hidden, const O& options,
                                              const D& device) {
  const auto head = detail::checked_head(wte, detail::options_of<HeadOptions>(options));
  Matrix<Accumulator<table_scalar_t<E>>> out(detail::checked_hidden(head, hidden).rows, head.vocab_size());
  logits_into(wte, hidden, out, options, device);
  return out;
}

template <Scalar T, HiddenInput<T, 2> H, HiddenInput<T, 2> G, HeadOutput<Accumulator<T>> Out,
          OptionsOrDevice<HeadOptions> O, Device D>
void logits_backward_into(Embedding<T>& wte, const H& hidden, const G& grad_logits, Out&& grad_hidden,
                          const O& options, const D& device) {
  using A = Accumulator<T>;
  const auto head = detail::checked_head(wte, detail::options_of<HeadOptions>(options));
  const auto rows = detail::checked_hidden(head, hidden);
  const auto given = detail::checked_like(hidden, grad_logits, head.vocab_size(), {"lm_head", "grad_logits"});
  const auto result =
      detail::checked_like(hidden, grad_hidden, head.embedding_dim(), {"lm_head", "grad_hidden"});

  const detail::HeadTiling tiling;
  Matrix<A> storage;
  const detail::RowView<const A> states = detail::widened_rows(rows, storage);
  detail::LogitsMemory<A> memory(head.logit_soft_cap > 0 ? states.rows : 0, head.vocab_size(),
                                 tiling.rows_per_round<A>(states.rows), false);
  const detail::RowView<A> grad = detail::rows_of(wte.mutable_grad());
  detail::as_operand(result).setZero();
  detail::add_logits_gradients(head, states, given, result, grad, memory, tiling,
                               detail::device_of(options, device));
}

template <Scalar T, HiddenInput<T, 2> H, HiddenInput<T, 2> G, OptionsOrDevice<HeadOptions> O, Device D>
Matrix<Accumulator<T>> logits_backward(Embedding<T>& wte, const H& hidden, const G& grad_logits,
                                       const O& options, const D& device) {
  Matrix<Accumulator<T>> grad_hidden(detail::all_rows(hidden).rows, wte.embedding_dim());
  logits_backward_into(wte, hidden, grad_logits, grad_hidden, options, device);
  return grad_hidden;
}

template <Table E, HiddenInput<table_scalar_t<E>, 2> H, OptionsOrDevice<HeadOptions> O, Device D>
TopK<Accumulator<table_scalar_t<E>>> top_k(const E& wte, const H& hidden, Index k, const O& options,
                                           const D& device) {
  using A = Accumulator<table_scalar_t<E>>;
  const auto head = detail::checked_head(wte, detail::options_of<HeadOptions>(options));
  if (k < 0 || k > head.vocab_size()) {
    throw ArgumentError("k", k, "is outside [0, " + detail::to_text(head.vocab_size()) + "], the vocabulary");
  }
  const auto rows = detail::checked_hidden(head, hidden);
  TopK<A> best{IdMatrix<std::int64_t>(rows.rows, k), Matrix<A>(rows.rows, k)};
  Matrix<A> storage;
  detail::find_top_k(head, detail::widened_rows(rows, storage), best.ids, best.logits, detail::HeadTiling{},
                     detail::device_of(options, device));
  return best;
}

template <Scalar T, HiddenInput<T, 2> H, Ids L, HeadOutput<Accumulator<T>> Out,
          OptionsOrDevice<CrossEntropyOptions> O, Device D>
Accumulator<T> cross_entropy_into(Embedding<T>& wte, const H& hidden, const L& labels, Out&& grad_hidden,
                                  const O& options, const D& device) {
  using A = Accumulator<T>;
  const auto given = detail::options_of<CrossEntropyOptions>(options);
  const auto head = detail::checked_head(wte, given.head);
  const auto rows = detail::checked_hidden(head, hidden);
  const auto result =
      detail::checked_like(hidden, grad_hidden, head.embedding_dim(), {"lm_head", "grad_hidden"});
  const detail::Labels kept =
      detail::checked_labels(labels, detail::shape_of_states(hidden), head.vocab_size(), given.ignore_index);

  const detail::HeadTiling tiling;
  Matrix<A> storage;
  const detail::RowView<const A> states = detail::rows_at(rows, kept.positions, storage);
  const auto plan = detail::loss_plan<A>(kept.size(), head.vocab_size(), given.workspace_bytes, tiling);
  detail::LogitsMemory<A> memory(plan.states, head.vocab_size(), plan.columns, plan.keeps_all);
  std::vector<detail::Softmax<A>> softmax(kept.labels.size());
  const detail::RowView<A> grad = detail::rows_of(wte.mutable_grad());
  const detail::RowView<A> own_grads = detail::middle_rows(result, 0, kept.size());
  const double weight = detail::loss_weight(kept, given.reduction);
  detail::as_operand(own_grads).setZero();
  detail::find_loss_gradients<const T, A>(head, states, kept.labels, softmax, weight, own_grads, grad, memory,
                                          plan, tiling, detail::device_of(options, device));
  detail::spread_rows(result, kept.positions);
  return detail::reduced<A>(softmax, weight, given.reduction);
}

template <Scalar T, HiddenInput<T, 2> H, Ids L, OptionsOrDevice<CrossEntropyOptions> O, Device D>
CrossEntropy<Accumulator<T>> cross_entropy(Embedding<T>& wte, const H& hidden, const L& labels,
                                           const O& options, const D& device) {
  CrossEntropy<Accumulator<T>> result{
      0, Matrix<Accumulator<T>>(detail::all_rows(hidden).rows, wte.embedding_dim())};
  result.loss = cross_entropy_into(wte, hidden, labels, result.grad_hidden, options, device);
  return result;
}

template <Table E, HiddenInput<table_scalar_t<E>, 2> H, Ids L, OptionsOrDevice<CrossEntropyOptions> O,
          Device D>
Accumulator<table_scalar_t<E>> cross_entropy_loss(const E& wte, const H& hidden, const L& labels,
                                                  const O& options, const D& device) {
  const auto given = detail::options_of<CrossEntropyOptions>(options);
  const auto found = detail::labelled_softmax(wte, hidden, labels, given, detail::device_of(options, device));
  return detail::reduced<Accumulator<table_scalar_t<E>>>(
      found.softmax, detail::loss_weight(found.labels, given.reduction), given.reduction);
}

template <Table E, HiddenInput<table_scalar_t<E>, 2> H, Ids L, OptionsOrDevice<CrossEntropyOptions> O,
          Device D>
Eigen::VectorX<Accumulator<table_scalar_t<E>>> cross_entropy_losses(const E& wte, const H& hidden,
                                                                    const L& labels, const O& options,
                                                                    const D& device) {
  using A = Accumulator<table_scalar_t<E>>;
  Eigen::VectorX<A> losses = Eigen::VectorX<A>::Zero(detail::all_rows(hidden).rows);
  const auto found =
      detail::labelled_softmax(wte, hidden, labels, detail::options_of<CrossEntropyOptions>(options),
                               detail::device_of(options, device));
  for (std::size_t i = 0; i < found.softmax.size(); ++i) {
    losses[found.labels.positions[i]] = static_cast<A>(found.softmax[i].loss());
  }
  return losses;
}

}  // namespace gpt2
