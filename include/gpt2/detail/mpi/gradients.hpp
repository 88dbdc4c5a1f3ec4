// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// Rows of gradients on their way to the ranks that sum them.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "gpt2/detail/kernels/packets.hpp"
#include "gpt2/detail/kernels/scatter.hpp"
#include "gpt2/detail/mpi/communicator.hpp"
#include "gpt2/detail/mpi/lookup.hpp"
#include "gpt2/detail/rows.hpp"
#include "gpt2/mpi.hpp"
#include "gpt2/sparse_gradient.hpp"

namespace gpt2::inline GPT2_EMBEDDINGS_ABI::detail {

/// The row that a token's gradient belongs to.
struct TokenRow {
  int owner = -1;  // the rank that sums it; -1 for no rank, as for padding
  Index row = -1;  // by the owner's numbers
};

/// The buffers of one exchange of rows.
struct RouteBuffers {
  BufferName ids_out;
  BufferName ids_in;
  BufferName rows_out;
  BufferName rows_in;
};
inline constexpr RouteBuffers token_buffers{BufferName::ids_out, BufferName::ids_in, BufferName::rows_out,
                                            BufferName::rows_in};
inline constexpr RouteBuffers position_buffers{BufferName::position_ids_out, BufferName::position_ids_in,
                                               BufferName::position_rows_out, BufferName::position_rows_in};

/// Rows that each rank has for each other one. Its own are not copied.
template <class A>
class RoutedRows {
 public:
  RoutedRows(Channel& channel, const RouteBuffers& buffers, std::span<std::int64_t> counts_out,
             std::span<std::int64_t> counts_in, Index cols)
      : channel_(channel), names_(buffers), out_(counts_out), in_(counts_in), cols_(cols) {}

  /// Takes rows [0, size). at(i) is the TokenRow of row i, and row(i) its elements. Local.
  /// Throws: std::bad_alloc.
  template <class At, class RowAt>
  void take(Index size, const At& at, const RowAt& row) {
    std::fill(out_.begin(), out_.end(), std::int64_t{0});
    for (Index i = 0; i < size; ++i) {
      const int owner = at(i).owner;
      if (owner >= 0 && owner != channel_.rank()) ++out_[static_cast<std::size_t>(owner)];
    }
    Index total = 0;
    for (const std::int64_t count : out_) total += count;
    ids_out_ = channel_.buffer(names_.ids_out).template get<std::int64_t>(total);
    rows_out_ = channel_.buffer(names_.rows_out).template get<A>(total, cols_);
    const auto next = begins(out_);
    for (Index i = 0; i < size; ++i) {
      const TokenRow place = at(i);
      if (place.owner < 0 || place.owner == channel_.rank()) continue;
      const Index to = next[static_cast<std::size_t>(place.owner)]++;
      ids_out_[to] = place.row;
      widen(cols_, rows_out_ + to * cols_, row(i));
    }
  }

  /// Sends the numbers of rows to the other ranks; collective.
  void exchange_counts() {
    channel_.exchange_counts(out_, in_);
    total_in_ = 0;
    for (const std::int64_t count : in_) total_in_ += count;
  }
  /// The number of rows from other ranks.
  [[nodiscard]] Index total_in() const { return total_in_; }
  [[nodiscard]] Index count_in(int rank) const { return in_[static_cast<std::size_t>(rank)]; }

  /// Allocates memory for them. Local.
  /// Throws: std::bad_alloc.
  void allocate() {
    ids_in_ = channel_.buffer(names_.ids_in).template get<std::int64_t>(total_in_);
    rows_in_ = channel_.buffer(names_.rows_in).template get<A>(total_in_, cols_);
  }

  /// Exchanges the rows; collective. Calls arrived(rank, ids, rows) for all ranks in their order, with no rows for this
  /// one.
  template <class Arrived>
  void exchange(const Arrived& arrived) {
    if (channel_.size() > 1) {
      for_each_rank([&](std::size_t r, Index out, Index in) {
        channel_.messages()[r] = {ids_out_ + out, static_cast<std::size_t>(out_[r]) * sizeof(std::int64_t),
                                  ids_in_ + in, static_cast<std::size_t>(in_[r]) * sizeof(std::int64_t)};
      });
      channel_.exchange();
    }
    for_each_rank([&](std::size_t r, Index out, Index in) {
      channel_.messages()[r] = {rows_out_ + out * cols_, bytes(out_[r]), rows_in_ + in * cols_,
                                bytes(in_[r])};
    });
    Index begin = 0;
    channel_.exchange([&](int rank) {
      const Index count = in_[static_cast<std::size_t>(rank)];
      const auto ids = std::span<const std::int64_t>(ids_in_ + begin, static_cast<std::size_t>(count));
      arrived(rank, ids, RowView<const A>{rows_in_ + begin * cols_, count, cols_, cols_});
      begin += count;
    });
  }

 private:
  [[nodiscard]] std::size_t bytes(Index rows) const {
    return static_cast<std::size_t>(rows * cols_) * sizeof(A);
  }
  [[nodiscard]] std::span<std::int64_t> begins(std::span<const std::int64_t> counts) {
    auto* const places =
        channel_.buffer(BufferName::places).template get<std::int64_t>(static_cast<Index>(counts.size()));
    std::int64_t begin = 0;
    for (std::size_t r = 0; r < counts.size(); ++r) {
      places[r] = begin;
      begin += counts[r];
    }
    return {places, counts.size()};
  }
  template <class Body>
  void for_each_rank(const Body& body) {
    Index out = 0;
    Index in = 0;
    for (std::size_t r = 0; r < out_.size(); ++r) {
      body(r, out, in);
      out += out_[r];
      in += in_[r];
    }
  }

  Channel& channel_;
  RouteBuffers names_;
  std::span<std::int64_t> out_;
  std::span<std::int64_t> in_;
  Index cols_;
  Index total_in_ = 0;
  std::int64_t* ids_out_ = nullptr;
  std::int64_t* ids_in_ = nullptr;
  A* rows_out_ = nullptr;
  A* rows_in_ = nullptr;
};

/// grad[id_at(i)] += rows[i], in the order of the rows; an id of -1 is skipped.
template <class IdAt, class A, class G, class D>
void add_rows(const IdAt& id_at, const RowView<G>& rows, const RowView<A>& grad, const D& device) {
  scatter_add(
      SequenceShape{1, rows.rows, 1}, [&](Index /*sequence*/, Index place) { return id_at(place); }, rows,
      grad, std::nullopt, nullptr, device);
}

/// Rows `ids` of a gradient, ascending, each once.
template <class A>
struct SparseRows {
  std::span<const std::int64_t> ids;
  RowView<const A> values;
};

/// Sparse gradients merged one after the other.
template <class A>
[[nodiscard]] SparseGradient<A> merged(std::span<const SparseRows<A>> parts, Index cols) {
  std::vector<std::size_t> next(parts.size());
  const auto least = [&](auto& places) {
    std::int64_t row = (std::numeric_limits<std::int64_t>::max)();
    bool found = false;
    for (std::size_t p = 0; p < parts.size(); ++p) {
      if (places[p] == parts[p].ids.size()) continue;
      row = found ? (std::min)(row, parts[p].ids[places[p]]) : parts[p].ids[places[p]];
      found = true;
    }
    return found ? std::optional<std::int64_t>(row) : std::nullopt;
  };
  Index size = 0;
  for (auto row = least(next); row; row = least(next), ++size) {
    for (std::size_t p = 0; p < parts.size(); ++p) {
      if (next[p] < parts[p].ids.size() && parts[p].ids[next[p]] == *row) ++next[p];
    }
  }
  SparseGradient<A> sum{IdVector<Index>(size), Matrix<A>(size, cols)};
  std::fill(next.begin(), next.end(), std::size_t{0});
  for (Index i = 0; i < size; ++i) {
    const std::int64_t row = *least(next);
    sum.rows[i] = static_cast<Index>(row);
    bool first = true;
    for (std::size_t p = 0; p < parts.size(); ++p) {
      if (next[p] == parts[p].ids.size() || parts[p].ids[next[p]] != row) continue;
      const ConstRow<A> values(parts[p].values.row(static_cast<Index>(next[p]++)), cols);
      Row<A> out(sum.values.data() + i * cols, cols);
      if (first) {
        out = values;
      } else {
        out += values;
      }
      first = false;
    }
  }
  return sum;
}

/// The rows of a sharded table that tokens belong to.
template <class I>
struct TokenRows {
  IdView<I> ids;
  std::span<const Index> offsets;
  Index padding_idx;  // -1 if there is no padding
  int rank;

  [[nodiscard]] Index size() const { return ids.batch * ids.seq_length; }
  [[nodiscard]] Index id(Index token) const {
    return static_cast<Index>(ids.batch == 1 ? ids(0, token)
                                             : ids(token / ids.seq_length, token % ids.seq_length));
  }
  /// The rank that sums the gradient of a token, and the row.
  [[nodiscard]] TokenRow operator()(Index token) const {
    const Index row = id(token);
    if (row == padding_idx) return {};
    const int owner = owner_of(offsets, row);
    return {owner, row - offsets[static_cast<std::size_t>(owner)]};
  }
  /// The row of the shard; -1 for one that is not in it, and padding.
  [[nodiscard]] Index local(Index sequence, Index place) const {
    const auto row = static_cast<Index>(ids(sequence, place));
    const Index begin = offsets[static_cast<std::size_t>(rank)];
    const Index end = offsets[static_cast<std::size_t>(rank) + 1];
    return row < begin || row >= end || row == padding_idx ? Index{-1} : row - begin;
  }
};

}  // namespace gpt2::detail
