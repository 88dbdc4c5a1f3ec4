// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// The cross-entropy of hidden states against the whole vocabulary, in a limited memory for logits. One pass over the
/// vocabulary finds the sum of each state's exponentials, with a running maximum; a second one turns logits into their
/// gradient. If there is memory for all logits of a chunk of states the second pass uses those of the first, otherwise
/// it forms them again.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <span>
#include <vector>

#include "gpt2/detail/kernels/head.hpp"
#include "gpt2/detail/kernels/packets.hpp"
#include "gpt2/detail/kernels/parallel.hpp"
#include "gpt2/detail/rows.hpp"
#include "gpt2/scalar.hpp"

namespace gpt2::inline GPT2_EMBEDDINGS_ABI::detail {

/// The chunks of states and rounds of the vocabulary of a loss. They depend on shapes and workspace alone, and so do
/// its bits.
struct LossPlan {
  Index states;    // of a chunk, at most
  Index columns;   // of a round: rows of the table
  bool keeps_all;  // whether there is memory for all logits of a chunk, so that each is formed once
};

/// With room for fewer states than this, it is faster to form logits twice, because each chunk adds to the whole
/// gradient of the table.
inline constexpr Index fewest_states_of_a_chunk = 64;

template <class A>
[[nodiscard]] LossPlan loss_plan(Index states, Index vocab_size, std::size_t workspace_bytes,
                                 const HeadTiling& tiling) {
  const std::size_t logits =
      workspace_bytes / sizeof(A) / static_cast<std::size_t>((std::max)(vocab_size, Index{1}));
  const auto all = static_cast<std::size_t>((std::max)(states, Index{1}));
  const bool keeps_all = logits >= (std::min)(all, static_cast<std::size_t>(fewest_states_of_a_chunk));
  // A round has at least one tile's columns.
  const Index least = (std::max)(tiling.bytes_per_round / Index{sizeof(A)} / tiling.rows, Index{1});
  const Index room = keeps_all ? static_cast<Index>((std::min)(logits, all)) : least;
  // Chunks of about equal size.
  const Index chunks = (states + room - 1) / room;
  const Index chunk = chunks == 0 ? 0 : (states + chunks - 1) / chunks;
  return {chunk, tiling.rows_per_round<A>(chunk), keeps_all};
}

/// The statistics of a state's logits that the loss needs.
template <class A>
struct Softmax {
  A max = -std::numeric_limits<A>::infinity();  // NaN if there is one, or an infinity
  double sum = 0;                               // of exp(logit - max)
  A label_logit = 0;

  /// Updates max for more logits. A maximum that is NaN stays NaN.
  void raise_max(A other) {
    if (!(other > max || std::isnan(other))) return;
    sum *= std::exp(static_cast<double>(max) - static_cast<double>(other));
    max = other;
  }

  /// Adds the statistics of the logits of other rows of the vocabulary, except for the label's logit, which the owner
  /// of the label has.
  void merge(Softmax other) {
    raise_max(other.max);
    other.raise_max(max);
    sum += other.sum;
  }

  /// -log(softmax of the label); NaN if there is no softmax.
  [[nodiscard]] double loss() const {
    if (!std::isfinite(max)) return std::numeric_limits<double>::quiet_NaN();
    return std::log(sum) + (static_cast<double>(max) - static_cast<double>(label_logit));
  }
};

inline namespace GPT2_EMBEDDINGS_PACKETS {

/// The exponential of each element. For very negative elements Eigen's result stays a little above zero.
template <class A>
[[nodiscard]] Packet<A> exponentials(const Packet<A>& x) {
  if constexpr (bool(Eigen::internal::packet_traits<A>::HasExp) || packet_size<A> == 1) {
    return Eigen::internal::pexp(x);
  } else {
    A values[packet_size<A>];
    Eigen::internal::pstoreu(values, x);
    for (A& value : values) value = std::exp(value);
    return Eigen::internal::ploadu<Packet<A>>(values);
  }
}

/// The sum of exp(logit - max). Here and below, the result for an element does not depend on its address.
template <class A>
[[nodiscard]] A sum_of_exponentials(const A* logits, Index size, A max) {
  using Eigen::internal::padd;
  using Eigen::internal::ploadu;
  using Eigen::internal::pset1;
  using Eigen::internal::psub;
  constexpr Index width = packet_size<A>;
  constexpr unsigned streams = 4;
  const auto maxima = pset1<Packet<A>>(max);
  Packet<A> sums[streams];
  std::fill_n(sums, streams, pset1<Packet<A>>(A(0)));
  Index j = 0;
  for (; j + Index{streams} * width <= size; j += Index{streams} * width) {
    GPT2_EMBEDDINGS_UNROLL
    for (unsigned s = 0; s < streams; ++s) {
      const auto some = ploadu<Packet<A>>(logits + j + static_cast<Index>(s) * width);
      sums[s] = padd(sums[s], exponentials<A>(psub(some, maxima)));
    }
  }
  A sum = Eigen::internal::predux(padd(padd(sums[0], sums[1]), padd(sums[2], sums[3])));
  for (; j < size; ++j) sum += std::exp(logits[j] - max);
  return sum;
}

/// row[j] = f(row[j]) for an f of packets.
template <class A, class F>
void transform_packets(A* row, Index size, const F& f) {
  using Eigen::internal::ploadu;
  using Eigen::internal::pstoreu;
  constexpr Index width = packet_size<A>;
  Index j = 0;
  for (; j + width <= size; j += width) pstoreu(row + j, f(ploadu<Packet<A>>(row + j)));
  if (j == size) return;
  A last[static_cast<std::size_t>(width)] = {};
  std::copy(row + j, row + size, last);
  pstoreu(last, f(ploadu<Packet<A>>(last)));
  std::copy(last, last + (size - j), row + j);
}

/// row[j] = exp(row[j] - max) * factor, times the derivative of a soft cap if there is one.
template <class A>
void differentiate_packets(A* row, Index size, A max, A factor, A soft_cap) {
  using Eigen::internal::pmul;
  using Eigen::internal::pnegate;
  using Eigen::internal::pset1;
  using Eigen::internal::psub;
  const auto maxima = pset1<Packet<A>>(max);
  const auto factors = pset1<Packet<A>>(factor);
  if (!(soft_cap > 0)) {
    transform_packets(row, size, [&](const Packet<A>& logits) {
      return pmul(exponentials<A>(psub(logits, maxima)), factors);
    });
  } else {
    const auto caps = pset1<Packet<A>>(soft_cap);
    const auto ones = pset1<Packet<A>>(A(1));
    transform_packets(row, size, [&](const Packet<A>& logits) {
      const auto tanh = Eigen::internal::pdiv(logits, caps);
      return pmul(pmul(exponentials<A>(psub(logits, maxima)), factors),
                  multiply_add(pnegate(tanh), tanh, ones));
    });
  }
}

}  // namespace GPT2_EMBEDDINGS_PACKETS

/// Adds logits to the statistics of the preceding ones.
template <class A>
void add_logits(const A* logits, Index size, Softmax<A>& softmax) {
  A max = ConstRow<A>(logits, size).template maxCoeff<Eigen::PropagateNaN>();
  if (max == std::numeric_limits<A>::infinity()) max = std::numeric_limits<A>::quiet_NaN();
  softmax.raise_max(max);
  // A maximum that is -infinity has nothing to add.
  if (std::isfinite(softmax.max)) {
    softmax.sum += static_cast<double>(sum_of_exponentials(logits, size, softmax.max));
  }
}

/// Turns logits into the gradient of weight * loss, without the label's own term.
template <class A>
void differentiate(A* logits, Index size, const Softmax<A>& softmax, double weight, A soft_cap) {
  if (!std::isfinite(softmax.max)) {
    std::fill_n(logits, size, std::numeric_limits<A>::quiet_NaN());
    return;
  }
  const A factor = static_cast<A>(weight / softmax.sum);
  // Below the logarithm of the smallest normal number Eigen's exp stays a little above zero.
  const A lowest = softmax.max + std::log((std::numeric_limits<A>::min)());
  if (ConstRow<A>(logits, size).minCoeff() < lowest) {
    for (Index j = 0; j < size; ++j) {
      const A derivative = soft_cap > 0 ? capped_derivative(logits[j], soft_cap) : A(1);
      logits[j] = std::exp(logits[j] - softmax.max) * factor * derivative;
    }
  } else {
    differentiate_packets(logits, size, softmax.max, factor, soft_cap);
  }
}

/// Forms the logits of the vocabulary in `memory` and adds them to each state's statistics. A label may be outside the
/// head, if that has only some rows of the vocabulary; its logit is then not found here.
template <class Rows, class A, class D>
void add_softmax(const Head<Rows>& head, const RowView<const A>& states, std::span<const Index> labels,
                 std::span<Softmax<A>> softmax, LogitsMemory<A>& memory, const HeadTiling& tiling,
                 const D& device) {
  for_rounds(head, states, memory, false, tiling, device, [&](Index first, const RowView<A>& logits) {
    for_rows(device, states.rows, logits.cols * Index{sizeof(A)}, [&](Index begin, Index end) {
      for (Index i = begin; i < end; ++i) {
        auto& own = softmax[static_cast<std::size_t>(i)];
        add_logits(logits.row(i), logits.cols, own);
        const Index label = labels[static_cast<std::size_t>(i)] - first;
        if (label >= 0 && label < logits.cols) own.label_logit = logits.row(i)[label];
      }
    });
  });
}

/// Adds the gradients of weight * (the sum of all losses) to those of states and table. `memory` is that of
/// add_softmax(): logits kept in it are not formed again.
template <class S, class A, class D>
void add_loss_gradients(const Head<RowView<S>>& head, const RowView<const A>& states,
                        std::span<const Index> labels, std::span<const Softmax<A>> softmax, double weight,
                        const RowView<A>& grad_hidden, const RowView<A>& grad, LogitsMemory<A>& memory,
                        const HeadTiling& tiling, const D& device) {
  const auto add_round = [&](Index first, const RowView<A>& logits) {
    for_rows(device, states.rows, logits.cols * Index{sizeof(A)}, [&](Index begin, Index end) {
      for (Index i = begin; i < end; ++i) {
        const auto& own = softmax[static_cast<std::size_t>(i)];
        differentiate(logits.row(i), logits.cols, own, weight, head.logit_soft_cap);
        const Index label = labels[static_cast<std::size_t>(i)] - first;
        if (label >= 0 && label < logits.cols) {
          const A derivative =
              head.logit_soft_cap > 0 ? capped_derivative(own.label_logit, head.logit_soft_cap) : A(1);
          A& gradient = logits.row(i)[label];
          gradient = multiply_add(static_cast<A>(-weight), derivative, gradient);
        }
      }
    });
    const RowView<const A> grad_logits{logits.data, logits.rows, logits.cols, logits.row_stride};
    add_head_gradients(head, states, first, grad_logits, grad_hidden, grad, tiling, device);
  };
  for_rounds(head, states, memory, memory.keeps_all(), tiling, device, add_round);
}

/// Calls body(first, size) for chunks of the states.
template <class Body>
void for_chunks(Index states, const LossPlan& plan, const Body& body) {
  for (Index first = 0; first < states; first += plan.states) {
    body(first, (std::min)(plan.states, states - first));
  }
}

/// The statistics of each state's logits, without gradients, in the memory of one round.
template <class Rows, class A, class D>
void find_softmax(const Head<Rows>& head, const RowView<const A>& states, std::span<const Index> labels,
                  std::span<Softmax<A>> softmax, const LossPlan& plan, const HeadTiling& tiling,
                  const D& device) {
  LogitsMemory<A> memory(plan.states, head.vocab_size(), plan.columns, false);
  for_chunks(states.rows, plan, [&](Index first, Index size) {
    const auto from = static_cast<std::size_t>(first);
    const auto count = static_cast<std::size_t>(size);
    add_softmax(head, middle_rows(states, first, size), labels.subspan(from, count),
                softmax.subspan(from, count), memory, tiling, device);
  });
}

/// The same, bit for bit, and adds the gradients of weight * (the sum of all losses) in the memory of the plan.
template <class S, class A, class D>
void find_loss_gradients(const Head<RowView<S>>& head, const RowView<const A>& states,
                         std::span<const Index> labels, std::span<Softmax<A>> softmax, double weight,
                         const RowView<A>& grad_hidden, const RowView<A>& grad, LogitsMemory<A>& memory,
                         const LossPlan& plan, const HeadTiling& tiling, const D& device) {
  for_chunks(states.rows, plan, [&](Index first, Index size) {
    const auto from = static_cast<std::size_t>(first);
    const auto count = static_cast<std::size_t>(size);
    const RowView<const A> some = middle_rows(states, first, size);
    const auto some_labels = labels.subspan(from, count);
    const auto own = softmax.subspan(from, count);
    add_softmax(head, some, some_labels, own, memory, tiling, device);
    add_loss_gradients<S, A>(head, some, some_labels, own, weight, middle_rows(grad_hidden, first, size),
                             grad, memory, tiling, device);
  });
}

}  // namespace gpt2::detail
