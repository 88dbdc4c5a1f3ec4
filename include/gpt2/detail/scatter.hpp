// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// The backward pass of a lookup: the gradient of each row is the sum over the places that looked it up.

#include <algorithm>
#include <cstddef>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "gpt2/detail/hidden.hpp"
#include "gpt2/detail/ids.hpp"
#include "gpt2/detail/rows.hpp"
#include "gpt2/sparse_gradient.hpp"
#include "gpt2/types.hpp"

namespace gpt2::detail {

/// out += from / divisor, formed in out's type.
template <class A, class From>
void accumulate_row(Index size, A* out, const From* from, Index divisor) {
  const ConstRow<From> terms(from, size);
  if (divisor == 1) {
    Row<A>(out, size) += terms.template cast<A>();
  } else {
    Row<A>(out, size) += terms.template cast<A>() / static_cast<A>(divisor);
  }
}

/// Calls body(first, last) for slices of a row's columns, on the device's threads if there is enough to do.
/// Slices begin at cache lines. Each column costs about `bytes` of memory traffic.
///
/// A backward pass is divided by columns, not by rows: every sum is formed by one thread, in the order of the
/// ids, so it has the same bits for any number of threads.
template <class A, Device D, class Body>
void for_columns(const D& device, Index rows, Index cols, const Body& body) {
  constexpr Index columns_per_line = 64 / Index{sizeof(A)};
  const Index lines = (cols + columns_per_line - 1) / columns_per_line;
  const auto columns_of = [&](Index first, Index last) {
    body(first * columns_per_line, std::min(last * columns_per_line, cols));
  };
  if (rows < fewest_rows_for_threads) {
    columns_of(0, lines);
  } else {
    for_parts(device, lines, rows * 3 * 64, columns_of);
  }
}

/// grad[id] += grad_output[i] (/ counts[id]) for the id at each place, in their order; the row at padding_idx
/// is passed over. `ids` is called with (sequence, place): an IdView, or something that computes them.
template <class IdAt, class A, class G, class D>
void scatter_add(const SequenceShape& shape, const IdAt& ids, const RowView<G>& grad_output,
                 const RowView<A>& grad, std::optional<Index> padding_idx, const Index* counts,
                 const D& device) {
  const Index skipped = padding_idx.value_or(-1);
  for_columns<A>(device, grad_output.rows, grad.cols, [&](Index first, Index last) {
    Index i = 0;
    for (Index sequence = 0; sequence < shape.batch; ++sequence) {
      for (Index place = 0; place < shape.seq_length; ++place, ++i) {
        const auto row = static_cast<Index>(ids(sequence, place));
        if (row == skipped) continue;
        accumulate_row(last - first, grad.row(row) + first, grad_output.row(i) + first,
                       counts ? counts[row] : 1);
      }
    }
  });
}

/// How often each id occurs, in counts[id]; other elements of counts keep whatever they were.
template <class I>
void count_ids(const IdView<I>& ids, std::span<Index> counts) {
  for (const bool clear : {true, false}) {
    for (Index sequence = 0; sequence < ids.batch; ++sequence) {
      for (Index place = 0; place < ids.seq_length; ++place) {
        Index& count = counts[static_cast<std::size_t>(ids(sequence, place))];
        count = clear ? 0 : count + 1;
      }
    }
  }
}

/// The ids that occur, ascending.
template <class I>
[[nodiscard]] std::vector<Index> unique_ids(const IdView<I>& ids) {
  std::vector<Index> rows;
  rows.reserve(static_cast<std::size_t>(ids.batch * ids.seq_length));
  for (Index sequence = 0; sequence < ids.batch; ++sequence) {
    for (Index place = 0; place < ids.seq_length; ++place) {
      rows.push_back(static_cast<Index>(ids(sequence, place)));
    }
  }
  std::sort(rows.begin(), rows.end());
  rows.erase(std::unique(rows.begin(), rows.end()), rows.end());
  return rows;
}

/// The same gradient as scatter_add() to zeros, but only the rows that occur.
template <class A, class I, class G, class D>
[[nodiscard]] SparseGradient<A> sparse_gradient(const IdView<I>& ids, const RowView<G>& grad_output,
                                                std::optional<Index> padding_idx, bool scale_by_freq,
                                                const D& device) {
  // Sorting the places by row, then by themselves, keeps the order in which each row's terms are summed.
  std::vector<std::pair<Index, Index>> places;
  places.reserve(static_cast<std::size_t>(grad_output.rows));
  for (Index i = 0, sequence = 0; sequence < ids.batch; ++sequence) {
    for (Index place = 0; place < ids.seq_length; ++place, ++i) {
      const auto row = static_cast<Index>(ids(sequence, place));
      if (row != padding_idx) places.emplace_back(row, i);
    }
  }
  std::sort(places.begin(), places.end());
  std::vector<Index> begins;  // of each row's places
  for (std::size_t i = 0; i < places.size(); ++i) {
    if (i == 0 || places[i].first != places[i - 1].first) begins.push_back(static_cast<Index>(i));
  }
  const auto unique = static_cast<Index>(begins.size());
  begins.push_back(static_cast<Index>(places.size()));

  SparseGradient<A> gradient{IdVector<Index>(unique), Matrix<A>::Zero(unique, grad_output.cols)};
  for_rows(device, unique, grad_output.cols * 3 * Index{sizeof(A)}, [&](Index first, Index last) {
    for (Index i = first; i < last; ++i) {
      const Index begin = begins[static_cast<std::size_t>(i)];
      const Index end = begins[static_cast<std::size_t>(i) + 1];
      gradient.rows[i] = places[static_cast<std::size_t>(begin)].first;
      for (Index j = begin; j < end; ++j) {
        accumulate_row(grad_output.cols, gradient.values.data() + i * grad_output.cols,
                       grad_output.row(places[static_cast<std::size_t>(j)].second),
                       scale_by_freq ? end - begin : 1);
      }
    }
  });
  return gradient;
}

}  // namespace gpt2::detail
