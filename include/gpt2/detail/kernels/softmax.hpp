// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// The cross-entropy of hidden states against the whole vocabulary, without all of its logits in memory: one
/// pass over the vocabulary finds the sum of the exponentials, with a running maximum; a second one forms the
/// logits again for the gradient.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <span>
#include <vector>

#include "gpt2/detail/kernels/head.hpp"
#include "gpt2/detail/kernels/parallel.hpp"
#include "gpt2/detail/rows.hpp"
#include "gpt2/scalar.hpp"

namespace gpt2::inline GPT2_EMBEDDINGS_ABI::detail {

/// What the loss needs to know about a state's logits.
template <class A>
struct Softmax {
  A max = -std::numeric_limits<A>::infinity();  // NaN if there is one, or an infinity
  double sum = 0;                               // of exp(logit - max)
  A label_logit = 0;

  /// -log(softmax of the label); NaN where there is no softmax.
  [[nodiscard]] double loss() const {
    if (!std::isfinite(max)) return std::numeric_limits<double>::quiet_NaN();
    return std::log(sum) + (static_cast<double>(max) - static_cast<double>(label_logit));
  }
};

/// Adds logits to what is known about those before them.
template <class A>
void add_logits(const ConstRow<A>& logits, Softmax<A>& softmax) {
  A max = logits.template maxCoeff<Eigen::PropagateNaN>();
  if (max == std::numeric_limits<A>::infinity()) max = std::numeric_limits<A>::quiet_NaN();
  // A maximum that is NaN stays so; one that is -infinity has nothing to add.
  if (max > softmax.max || std::isnan(max)) {
    softmax.sum *= std::exp(static_cast<double>(softmax.max) - static_cast<double>(max));
    softmax.max = max;
  }
  if (std::isfinite(softmax.max)) {
    softmax.sum += static_cast<double>((logits - softmax.max).exp().sum());
  }
}

/// Turns logits into the gradient of weight * loss, as far as it goes through the softmax alone.
template <class A>
void differentiate(Row<A> logits, const Softmax<A>& softmax, double weight, A soft_cap) {
  if (!std::isfinite(softmax.max)) {
    logits.setConstant(std::numeric_limits<A>::quiet_NaN());
    return;
  }
  const A factor = static_cast<A>(weight / softmax.sum);
  // Eigen's exp ends a little above zero, below the logarithm of the smallest normal number.
  const A lowest = softmax.max + std::log(std::numeric_limits<A>::min());
  if (logits.minCoeff() < lowest) {
    for (A& logit : logits) {
      const A derivative = soft_cap == 0 ? A(1) : capped_derivative(logit, soft_cap);
      logit = std::exp(logit - softmax.max) * factor * derivative;
    }
  } else if (soft_cap == 0) {
    logits = (logits - softmax.max).exp() * factor;
  } else {
    logits = (logits - softmax.max).exp() * factor * (1 - (logits / soft_cap).square());
  }
}

/// Goes through the vocabulary and sums up each state's logits. `round` is where logits are formed.
template <class S, class A, class D>
[[nodiscard]] std::vector<Softmax<A>> softmax_of(const Head<S>& head, const RowView<const A>& states,
                                                 std::span<const Index> labels, Matrix<A>& round,
                                                 const HeadTiling& tiling, const D& device) {
  std::vector<Softmax<A>> softmax(labels.size());
  for_rounds(head, states, round, tiling, device, [&](Index first, const RowView<A>& logits) {
    for_rows(device, states.rows, logits.cols * Index{sizeof(A)}, [&](Index begin, Index end) {
      for (Index i = begin; i < end; ++i) {
        auto& own = softmax[static_cast<std::size_t>(i)];
        add_logits<A>(ConstRow<A>(logits.row(i), logits.cols), own);
        const Index label = labels[static_cast<std::size_t>(i)] - first;
        if (label >= 0 && label < logits.cols) own.label_logit = logits.row(i)[label];
      }
    });
  });
  return softmax;
}

/// Adds the gradients of weight * (the sum of all losses) to those of states and table.
template <class S, class A, class D>
void add_loss_gradients(const Head<S>& head, const RowView<const A>& states, std::span<const Index> labels,
                        const std::vector<Softmax<A>>& softmax, double weight, const RowView<A>& grad_hidden,
                        const RowView<A>& grad, Matrix<A>& round, const HeadTiling& tiling, const D& device) {
  for_rounds(head, states, round, tiling, device, [&](Index first, const RowView<A>& logits) {
    for_rows(device, states.rows, logits.cols * Index{sizeof(A)}, [&](Index begin, Index end) {
      for (Index i = begin; i < end; ++i) {
        const auto& own = softmax[static_cast<std::size_t>(i)];
        differentiate<A>(Row<A>(logits.row(i), logits.cols), own, weight, head.logit_soft_cap);
        const Index label = labels[static_cast<std::size_t>(i)] - first;
        if (label >= 0 && label < logits.cols) {
          const A derivative =
              head.logit_soft_cap == 0 ? A(1) : capped_derivative(own.label_logit, head.logit_soft_cap);
          logits.row(i)[label] -= static_cast<A>(weight) * derivative;
        }
      }
    });
    const RowView<const A> grad_logits{logits.data, logits.rows, logits.cols, logits.row_stride};
    add_head_gradients(head, states, first, grad_logits, grad_hidden, grad, tiling, device);
  });
}

}  // namespace gpt2::inline GPT2_EMBEDDINGS_ABI::detail
