// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// Lookups in a sharded table: each distinct row is requested once from the rank that has it, and then read in place,
/// as a kernel's row source.

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>

#include "gpt2/detail/arguments/hidden.hpp"
#include "gpt2/detail/arguments/ids.hpp"
#include "gpt2/detail/kernels/row_sums.hpp"
#include "gpt2/detail/mpi/communicator.hpp"
#include "gpt2/detail/rows.hpp"
#include "gpt2/mpi.hpp"

namespace gpt2::inline GPT2_EMBEDDINGS_ABI::detail {

/// The rank that has a row.
[[nodiscard]] inline int owner_of(std::span<const Index> offsets, Index row) {
  return static_cast<int>(std::upper_bound(offsets.begin(), offsets.end(), row) - offsets.begin()) - 1;
}

/// A row source: a pointer for each token.
template <class T>
struct RowsAtPointers {
  const T* const* rows;
  Index seq_length;

  [[nodiscard]] const T* operator()(Index sequence, Index place) const {
    return rows[sequence * seq_length + place];
  }
};

/// The rows of tokens.
template <Scalar T>
class FetchedRows {
 public:
  FetchedRows(Channel& channel, std::span<const Index> offsets, const RowView<const T>& shard)
      : channel_(channel), offsets_(offsets), shard_(shard), rank_(channel.rank()) {}

  /// Finds the distinct rows among checked ids, and the memory for each.
  /// Throws: std::bad_alloc.
  template <class I>
  void request(const IdView<I>& ids, Batch batch) {
    const Index tokens = ids.batch * ids.seq_length;
    const auto capacity = static_cast<Index>(std::bit_ceil(static_cast<std::uint64_t>(2 * tokens + 2)));
    const int shift = 64 - std::countr_zero(static_cast<std::uint64_t>(capacity));
    auto* const slots = channel_.buffer(BufferName::slots).template get<Index>(tokens);
    auto* const table = channel_.buffer(BufferName::table).template get<Index>(capacity);
    distinct_ = channel_.buffer(BufferName::distinct).template get<Index>(tokens);
    owners_ = channel_.buffer(BufferName::owners).template get<int>(tokens);
    pointers_ = channel_.buffer(BufferName::pointers).template get<const T*>(tokens, 2);
    const auto counts = channel_.counts_out();
    std::fill(counts.begin(), counts.end(), std::int64_t{0});
    std::fill(table, table + capacity, Index{-1});
    size_ = 0;
    for (Index i = 0, sequence = 0; sequence < ids.batch; ++sequence) {
      for (Index place = 0; place < ids.seq_length; ++place, ++i) {
        const auto id = static_cast<Index>(ids(sequence, place));
        auto cell = static_cast<Index>((static_cast<std::uint64_t>(id) * 0x9E3779B97F4A7C15U) >> shift);
        while (table[cell] >= 0 && distinct_[table[cell]] != id) cell = (cell + 1) & (capacity - 1);
        if (table[cell] < 0) {
          table[cell] = size_;
          distinct_[size_] = id;
          owners_[size_] = owner_of(offsets_, id);
          ++counts[static_cast<std::size_t>(owners_[size_])];
          ++size_;
        }
        slots[i] = table[cell];
      }
    }
    own_ = counts[static_cast<std::size_t>(rank_)];
    counts[static_cast<std::size_t>(rank_)] = 0;
    rows_in_ = channel_.buffer(BufferName::rows_in).template get<T>(size_ - own_, shard_.cols);
    if (batch == Batch::same) {
      if (channel_.size() > 1) {
        rows_out_ = channel_.buffer(BufferName::rows_out).template get<T>(own_, shard_.cols);
      }
    } else {
      ids_out_ = channel_.buffer(BufferName::ids_out).template get<std::int64_t>(size_ - own_);
    }
    // The rows of a rank are contiguous, in the order of their first ids.
    auto& next = places();
    Index place = 0;
    for (std::size_t r = 0; r < counts.size(); ++r) {
      next[r] = place;
      place += counts[r];
    }
    const T** const pointer_of = pointers_ + tokens;
    for (Index i = 0; i < size_; ++i) {
      const auto owner = static_cast<std::size_t>(owners_[i]);
      if (owners_[i] == rank_) {
        pointer_of[i] = shard_.row(distinct_[i] - offsets_[owner]);
        continue;
      }
      const Index at = next[owner]++;
      pointer_of[i] = rows_in_ + at * shard_.cols;
      if (batch == Batch::own) ids_out_[at] = distinct_[i] - offsets_[owner];
    }
    for (Index i = 0; i < tokens; ++i) pointers_[i] = pointer_of[slots[i]];
  }

  /// Exchanges the rows that request() has found; collective.
  void fetch(Operation operation, Batch batch) {
    if (channel_.size() == 1) return;
    if (batch == Batch::same) {
      fetch_same();
    } else {
      fetch_own(operation);
    }
  }

  [[nodiscard]] RowsAtPointers<T> source(Index seq_length) const { return {pointers_, seq_length}; }

 private:
  using Places = std::span<std::int64_t>;
  [[nodiscard]] Places& places() {
    places_ = channel_.more_counts_out();
    return places_;
  }

  [[nodiscard]] std::size_t bytes(Index rows) const {
    return static_cast<std::size_t>(rows * shard_.cols) * sizeof(T);
  }
  void copy_row(T* to, Index row) const {
    if (shard_.cols > 0) std::memcpy(to, shard_.row(row), bytes(1));
  }

  /// All ranks need the same rows, so each sends its own to all.
  void fetch_same() {
    Index place = 0;
    for (Index i = 0; i < size_; ++i) {
      if (owners_[i] != rank_) continue;
      copy_row(rows_out_ + place++ * shard_.cols, distinct_[i] - offsets_[static_cast<std::size_t>(rank_)]);
    }
    const auto counts = channel_.counts_out();
    const T* in = rows_in_;
    for (std::size_t r = 0; r < counts.size(); ++r) {
      channel_.messages()[r] = {rows_out_, bytes(own_), const_cast<T*>(in), bytes(counts[r])};
      in += counts[r] * shard_.cols;
    }
    channel_.exchange();
  }

  void fetch_own(Operation operation) {
    const auto asked = channel_.counts_out();
    const auto wanted = channel_.counts_in();
    channel_.exchange_counts(asked, wanted);
    std::int64_t* ids_in = nullptr;
    Index total = 0;
    for (const std::int64_t count : wanted) total += count;
    channel_.agree(operation, [&](SharedArguments&) {
      ids_in = channel_.buffer(BufferName::ids_in).template get<std::int64_t>(total);
      rows_out_ = channel_.buffer(BufferName::rows_out).template get<T>(total, shard_.cols);
    });
    std::int64_t* in = ids_in;
    const std::int64_t* out = ids_out_;
    for (std::size_t r = 0; r < asked.size(); ++r) {
      channel_.messages()[r] = {out, static_cast<std::size_t>(asked[r]) * sizeof(*out), in,
                                static_cast<std::size_t>(wanted[r]) * sizeof(*in)};
      out += asked[r];
      in += wanted[r];
    }
    channel_.exchange();
    for (Index i = 0; i < total; ++i) copy_row(rows_out_ + i * shard_.cols, ids_in[i]);
    T* rows_in = rows_in_;
    const T* rows_out = rows_out_;
    for (std::size_t r = 0; r < asked.size(); ++r) {
      channel_.messages()[r] = {rows_out, bytes(wanted[r]), rows_in, bytes(asked[r])};
      rows_out += wanted[r] * shard_.cols;
      rows_in += asked[r] * shard_.cols;
    }
    channel_.exchange();
  }

  Channel& channel_;
  std::span<const Index> offsets_;
  RowView<const T> shard_;
  int rank_;
  Index size_ = 0;             // the number of distinct rows
  Index own_ = 0;              // the number of those that this rank has
  Index* distinct_ = nullptr;  // in the order in which they occur
  int* owners_ = nullptr;
  const T** pointers_ = nullptr;
  std::int64_t* ids_out_ = nullptr;
  T* rows_out_ = nullptr;
  T* rows_in_ = nullptr;
  Places places_;
};

}  // namespace gpt2::detail
