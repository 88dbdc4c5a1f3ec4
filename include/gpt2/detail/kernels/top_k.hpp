// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// The k highest of many logits, selected while they are formed, a round of the vocabulary at a time.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "gpt2/detail/kernels/head.hpp"
#include "gpt2/detail/kernels/parallel.hpp"
#include "gpt2/detail/rows.hpp"
#include "gpt2/ids.hpp"
#include "gpt2/scalar.hpp"

namespace gpt2::inline GPT2_EMBEDDINGS_ABI::detail {

/// A token and its logit.
template <class A>
struct Candidate {
  A logit;
  std::int64_t id;
};

/// The order of top_k: NaNs, then descending logits; among equals the lower id.
template <class A>
[[nodiscard]] bool ranks_before(const Candidate<A>& a, const Candidate<A>& b) {
  if (a.logit > b.logit) return true;
  if (a.logit < b.logit) return false;
  if (std::isnan(a.logit) != std::isnan(b.logit)) return std::isnan(a.logit);
  return a.id < b.id;
}

/// Adds the logits of ids first, first + 1, … and keeps the best of all so far in `best`: a heap with the last-ranked
/// on top, of as many elements as there were ids before, at most best.size().
template <class A>
void keep_best(std::span<Candidate<A>> best, Index first, const A* logits, Index size) {
  const auto k = static_cast<Index>(best.size());
  for (Index j = 0; j < size; ++j) {
    const Candidate<A> candidate{logits[j], first + j};
    if (first + j < k) {
      best[static_cast<std::size_t>(first + j)] = candidate;
      std::push_heap(best.begin(), best.begin() + (first + j + 1), ranks_before<A>);
    } else if (!(candidate.logit <= best.front().logit) && ranks_before(candidate, best.front())) {
      std::pop_heap(best.begin(), best.end(), ranks_before<A>);
      best.back() = candidate;
      std::push_heap(best.begin(), best.end(), ranks_before<A>);
    }
  }
}

/// Writes the k best tokens of each state, best first.
template <class Rows, class A, class D>
void find_top_k(const Head<Rows>& head, const RowView<const A>& states, IdMatrix<std::int64_t>& ids,
                Matrix<A>& logits, const HeadTiling& tiling, const D& device) {
  const Index k = ids.cols();
  if (ids.size() == 0) return;
  std::vector<Candidate<A>> candidates(static_cast<std::size_t>(ids.size()));
  const auto best = [&](Index i) {
    return std::span(candidates).subspan(static_cast<std::size_t>(i * k), static_cast<std::size_t>(k));
  };
  LogitsMemory<A> memory(states.rows, head.vocab_size(), tiling.rows_per_round<A>(states.rows), false);
  for_rounds(head, states, memory, false, tiling, device, [&](Index first, const RowView<A>& out) {
    for_rows(device, states.rows, out.cols * Index{sizeof(A)}, [&](Index begin, Index end) {
      for (Index i = begin; i < end; ++i) keep_best(best(i), first, out.row(i), out.cols);
    });
  });
  for (Index i = 0; i < states.rows; ++i) {
    const auto ranked = best(i);
    std::sort_heap(ranked.begin(), ranked.end(), ranks_before<A>);
    for (Index j = 0; j < k; ++j) {
      ids(i, j) = ranked[static_cast<std::size_t>(j)].id;
      logits(i, j) = ranked[static_cast<std::size_t>(j)].logit;
    }
  }
}

}  // namespace gpt2::detail
