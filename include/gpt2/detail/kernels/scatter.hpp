// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// The backward pass of a lookup: the gradient of each row is the sum over the places that looked it up.

#include <algorithm>
#include <array>
#include <cstddef>
#include <optional>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "gpt2/detail/kernels/packets.hpp"
#include "gpt2/detail/kernels/parallel.hpp"
#include "gpt2/detail/rows.hpp"
#include "gpt2/device.hpp"
#include "gpt2/ids.hpp"
#include "gpt2/scalar.hpp"

namespace gpt2::inline GPT2_EMBEDDINGS_ABI::detail {

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

/// out = 0 + from / divisor: the result of accumulate_row() for zeros, which `out` need not hold. (-0 becomes 0.)
template <class A, class From>
void begin_row(Index size, A* out, const From* from, Index divisor) {
  const ConstRow<From> terms(from, size);
  if (divisor == 1) {
    Row<A>(out, size) = terms.template cast<A>() + A{0};
  } else {
    Row<A>(out, size) = terms.template cast<A>() / static_cast<A>(divisor) + A{0};
  }
}

/// Rows of gradients, one of each of some tables, and the row to add to all of them. A row that gets nothing is null.
template <class A, class From, std::size_t tables>
struct RowSum {
  std::array<A*, tables> out;
  const From* from;
};

inline constexpr std::size_t rows_per_addition = 4;

/// out += from for all rows, in their order; rows may occur more than once. One cache line of each in turn, while those
/// of the rows `ahead` are prefetched: that many streams hide the latency of caches and page tables. `ahead` has no
/// more rows than `rows`. Only the first table's rows are prefetched: a second's stay in the caches.
template <class A, class From, std::size_t tables>
void accumulate_rows(Index size, std::span<const RowSum<A, From, tables>> rows,
                     std::span<const RowSum<A, From, tables>> ahead) {
  constexpr Index line = (std::max)(Index{64 / sizeof(A)}, packet_size<A>);
  constexpr auto packets = std::make_index_sequence<static_cast<std::size_t>(line / packet_size<A>)>();
  const Index whole = size - size % line;
  for (Index column = 0; column < whole; column += line) {
    for (std::size_t r = 0; r < rows.size(); ++r) {
      if (r < ahead.size()) {
        if (ahead[r].out[0]) prefetch(ahead[r].out[0] + column);
        prefetch(ahead[r].from + column);
      }
      const From* const from = rows[r].from + column;
      // Unrolled by hand, as GCC does not at -O2.
      [&]<std::size_t... i>(std::index_sequence<i...>) {
        using Eigen::internal::padd;
        using Eigen::internal::ploadu;
        using Eigen::internal::pstoreu;
        const Packet<A> terms[] = {load_widened<Packet<A>>(from + static_cast<Index>(i) * packet_size<A>)...};
        for (A* const row : rows[r].out) {
          if (tables > 1 && !row) continue;
          A* const out = row + column;
          const Packet<A> sums[] = {
              padd(ploadu<Packet<A>>(out + static_cast<Index>(i) * packet_size<A>), terms[i])...};
          (pstoreu(out + static_cast<Index>(i) * packet_size<A>, sums[i]), ...);
        }
      }
      (packets);
    }
  }
  for (const auto& [outs, from] : rows) {
    for (A* const out : outs) {
      if (out) accumulate_row(size - whole, out + whole, from + whole, 1);
    }
  }
}

/// Calls body(first, last) for slices of a row's columns, on the device's threads if there is enough to do.
/// There are only as many slices as threads, because narrow ones waste memory traffic, and they begin at cache lines.
///
/// A backward pass is divided by columns, not by rows: every sum is formed by one thread, in the order of the
/// ids, so it has the same bits for any number of threads.
template <class A, Device D, class Body>
void for_columns(const D& device, Index rows, Index cols, const Body& body) {
  if constexpr (!std::is_same_v<D, Eigen::DefaultDevice>) {
    constexpr Index columns_per_line = 64 / Index{sizeof(A)};
    const Index lines = (cols + columns_per_line - 1) / columns_per_line;
    const Index slices = (std::min<Index>)(lines, device.numThreads());
    if (rows >= fewest_rows_for_threads && slices > 1) {
      const auto begin_of = [&](Index slice) {
        return (std::min)(lines * slice / slices * columns_per_line, cols);
      };
      const auto slices_of = [&](Index first, Index last) { body(begin_of(first), begin_of(last)); };
      for_parts(device, slices, rows * 3 * (cols / slices) * Index{sizeof(A)}, slices_of);
      return;
    }
  }
  body(Index{0}, cols);
}

/// A table's gradient, and the ids of its rows to add to. `ids` is called with (sequence, place): an IdView, or a
/// function that computes them. The row at padding_idx is skipped; without padding, so is an id of -1.
template <class IdAt, class A>
struct ScatterTo {
  IdAt ids;
  RowView<A> grad;
  std::optional<Index> padding_idx;

  /// A row of the gradient from a column on; null for padding.
  [[nodiscard]] A* row(Index sequence, Index place, Index column) const {
    const auto id = static_cast<Index>(ids(sequence, place));
    return id == padding_idx.value_or(-1) ? nullptr : grad.row(id) + column;
  }
};
template <class IdAt, class A>
ScatterTo(IdAt, RowView<A>, std::optional<Index>) -> ScatterTo<IdAt, A>;

/// grad[id] += grad_output[i] for the id at each place, in their order, in the gradients of several tables at once:
/// grad_output is read once.
template <class G, class D, class A, class... IdAt>
void scatter_add(const SequenceShape& shape, const RowView<G>& grad_output, const D& device,
                 const ScatterTo<IdAt, A>&... to) {
  using Sum = RowSum<A, G, sizeof...(to)>;
  for_columns<A>(device, grad_output.rows, grad_output.cols, [&](Index first, Index last) {
    // The rows that are added now, and the next ones, which are prefetched.
    std::array<Sum, 2 * rows_per_addition> rows;
    std::size_t size = 0;
    const auto add_first_rows = [&] {  // and returns their number
      const auto all = std::span<const Sum>(rows).first(size);
      const std::size_t now = (std::min)(size, rows_per_addition);
      accumulate_rows(last - first, all.first(now), all.subspan(now));
      std::copy(rows.begin() + now, rows.begin() + size, rows.begin());
      return now;
    };
    Index i = 0;
    for (Index sequence = 0; sequence < shape.batch; ++sequence) {
      for (Index place = 0; place < shape.seq_length; ++place, ++i) {
        const Sum row{{to.row(sequence, place, first)...}, grad_output.row(i) + first};
        if (std::all_of(row.out.begin(), row.out.end(), [](const A* out) { return out == nullptr; }))
          continue;
        rows[size++] = row;
        if (size == rows.size()) size -= add_first_rows();
      }
    }
    while (size > 0) size -= add_first_rows();
  });
}

/// grad[id] += grad_output[i] / counts[id] for the id at each place, in their order.
template <class G, class D, class A, class IdAt>
void scatter_add_divided(const SequenceShape& shape, const RowView<G>& grad_output, const D& device,
                         const ScatterTo<IdAt, A>& to, const Index* counts) {
  for_columns<A>(device, grad_output.rows, grad_output.cols, [&](Index first, Index last) {
    Index i = 0;
    for (Index sequence = 0; sequence < shape.batch; ++sequence) {
      for (Index place = 0; place < shape.seq_length; ++place, ++i) {
        A* const out = to.row(sequence, place, first);
        if (!out) continue;
        const auto id = static_cast<Index>(to.ids(sequence, place));
        accumulate_row(last - first, out, grad_output.row(i) + first, counts[id]);
      }
    }
  });
}

/// grad[id] += grad_output[i] (/ counts[id]) for the id at each place, in their order; skips the same ids as ScatterTo.
template <class IdAt, class A, class G, class D>
void scatter_add(const SequenceShape& shape, const IdAt& ids, const RowView<G>& grad_output,
                 const RowView<A>& grad, std::optional<Index> padding_idx, const Index* counts,
                 const D& device) {
  const ScatterTo to{ids, grad, padding_idx};
  if (counts) {
    scatter_add_divided(shape, grad_output, device, to, counts);
  } else {
    scatter_add(shape, grad_output, device, to);
  }
}

/// Writes the number of times each id occurs to counts[id]; other elements of counts do not change.
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

/// The same gradient as scatter_add() to zeros, but only the rows that occur: a SparseGradient. Every row is summed by
/// one thread, in the order of its places, so it has the same bits for any number of threads.
template <class Gradient, class I, class G, class D>
[[nodiscard]] Gradient sparse_gradient(const IdView<I>& ids, const RowView<G>& grad_output,
                                       std::optional<Index> padding_idx, bool scale_by_freq,
                                       const D& device) {
  using A = typename decltype(Gradient::values)::Scalar;
  // The places of each row, by row and then by themselves: the order in which its terms are summed.
  std::vector<std::pair<Index, Index>> places;
  places.reserve(static_cast<std::size_t>(grad_output.rows));
  for (Index i = 0, sequence = 0; sequence < ids.batch; ++sequence) {
    for (Index place = 0; place < ids.seq_length; ++place, ++i) {
      const auto row = static_cast<Index>(ids(sequence, place));
      if (row != padding_idx) places.emplace_back(row, i);
    }
  }
  std::sort(places.begin(), places.end());

  // The places of row i of the gradient are [begins[i], begins[i + 1]).
  std::vector<std::size_t> begins;
  begins.reserve(places.size() + 1);
  for (std::size_t p = 0; p < places.size(); ++p) {
    if (p == 0 || places[p].first != places[p - 1].first) begins.push_back(p);
  }
  const auto unique = static_cast<Index>(begins.size());
  begins.push_back(places.size());

  Gradient gradient{IdVector<Index>(unique), Matrix<A>(unique, grad_output.cols)};
  const RowView<A> values{gradient.values.data(), unique, grad_output.cols, grad_output.cols};
  for_rows(device, unique, grad_output.cols * 2 * Index{sizeof(A)}, [&](Index first, Index last) {
    for (Index i = first; i < last; ++i) {
      const std::size_t begin = begins[static_cast<std::size_t>(i)];
      const std::size_t end = begins[static_cast<std::size_t>(i) + 1];
      const Index divisor = scale_by_freq ? static_cast<Index>(end - begin) : 1;
      gradient.rows[i] = places[begin].first;
      for (std::size_t p = begin; p < end; ++p) {
        if (p + 1 < places.size())
          prefetch_columns(grad_output.row(places[p + 1].second), 0, grad_output.cols);
        const G* const from = grad_output.row(places[p].second);
        if (p == begin) {
          begin_row(grad_output.cols, values.row(i), from, divisor);
        } else {
          accumulate_row(grad_output.cols, values.row(i), from, divisor);
        }
      }
    }
  });
  return gradient;
}

}  // namespace gpt2::detail
