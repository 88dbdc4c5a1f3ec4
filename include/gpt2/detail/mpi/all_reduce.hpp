// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// The definitions of all_reduce(): sums in rank order.

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <type_traits>
#include <vector>

#include "gpt2/detail/mpi/communicator.hpp"
#include "gpt2/detail/mpi/gradients.hpp"
#include "gpt2/detail/mpi/sharded_embedding.hpp"
#include "gpt2/mpi.hpp"
#include "gpt2/sparse_gradient.hpp"

namespace gpt2::inline GPT2_EMBEDDINGS_ABI {

namespace detail {

/// Combines elements of all ranks in rank order, with the same bits on all. Each rank combines a part of a slab and
/// sends it to the others.
template <class E>
class OrderedReduction {
 public:
  OrderedReduction(Channel& channel, Index elements)
      : channel_(channel), elements_(elements), slab_((std::min)(elements, slab_of(channel.size()))) {}

  /// Elements of a slab.
  [[nodiscard]] Index slab() const { return slab_; }

  /// Local.
  /// Throws: std::bad_alloc.
  void allocate() {
    const Index part = largest_part();
    in_ = channel_.buffer(BufferName::reduction_in).template get<E>(part * (channel_.size() - 1));
    sum_ = channel_.buffer(BufferName::reduction_sum).template get<E>(part);
  }

  /// Reduces all elements; collective. get(first, size) returns the memory of some of them; put(first, size) is called
  /// when it has the result; add(out, a, b, size) combines size elements.
  template <class Get, class Put, class Add>
  void run(const Get& get, const Put& put, const Add& add) {
    if (channel_.size() == 1) return;
    for (Index first = 0; first < elements_; first += slab_) {
      const Index size = (std::min)(slab_, elements_ - first);
      reduce(get(first, size), size, add);
      put(first, size);
    }
  }
  template <class Add>
  void run(E* data, const Add& add) {
    run([data](Index first, Index) { return data + first; }, [](Index, Index) {}, add);
  }

 private:
  [[nodiscard]] static Index slab_of(int size) {
    constexpr Index least = Index{1} << 20;          // bytes: a slab of two ranks stays in the caches
    constexpr Index least_message = Index{1} << 16;  // so that latency does not matter
    return (std::max)((std::max)(least, least_message * size) / Index{sizeof(E)}, Index{1});
  }
  [[nodiscard]] Index begin_of(int rank, Index size) const {
    return size / channel_.size() * rank + (std::min)(Index{rank}, size % channel_.size());
  }
  [[nodiscard]] Index largest_part() const { return slab_ / channel_.size() + 1; }

  template <class Add>
  void reduce(E* data, Index size, const Add& add) {
    const int rank = channel_.rank();
    const Index first = begin_of(rank, size);
    const Index own = begin_of(rank + 1, size) - first;
    const auto place_in = [&](int r) { return in_ + (r < rank ? r : r - 1) * own; };
    for (int r = 0; r < channel_.size(); ++r) {
      const Index begin = begin_of(r, size);
      channel_.messages()[static_cast<std::size_t>(r)] = {
          data + begin, static_cast<std::size_t>(begin_of(r + 1, size) - begin) * sizeof(E),
          r == rank ? nullptr : place_in(r), static_cast<std::size_t>(own) * sizeof(E)};
    }
    const E* sum = nullptr;  // of the ranks before
    channel_.exchange([&](int r) {
      const E* const terms = r == rank ? data + first : place_in(r);
      if (own == 0) return;
      if (sum == nullptr) {
        sum = terms;
      } else {
        add(sum_, sum, terms, own);
        sum = sum_;
      }
    });
    if (own > 0)
      std::memcpy(static_cast<void*>(data + first), sum_, static_cast<std::size_t>(own) * sizeof(E));
    for (int r = 0; r < channel_.size(); ++r) {
      const Index begin = begin_of(r, size);
      channel_.messages()[static_cast<std::size_t>(r)] = {
          sum_, static_cast<std::size_t>(own) * sizeof(E), data + begin,
          static_cast<std::size_t>(begin_of(r + 1, size) - begin) * sizeof(E)};
    }
    channel_.exchange();
  }

  Channel& channel_;
  Index elements_;
  Index slab_;
  E* in_ = nullptr;
  E* sum_ = nullptr;
};

/// out = a + b.
template <class A>
void add_elements(A* out, const A* a, const A* b, Index size) {
  Row<A>(out, size) = ConstRow<A>(a, size) + ConstRow<A>(b, size);
}

}  // namespace detail

template <detail::Reducible M>
void all_reduce(const Communicator& comm, M&& matrix) {
  using A = typename detail::DenseOf<M>::Scalar;
  detail::Channel& channel = channel_of(comm);
  const Index cols = matrix.cols();
  const bool in_one_piece = matrix.outerStride() == cols || matrix.rows() <= 1;
  std::optional<detail::OrderedReduction<A>> reduction;
  A* packed = nullptr;
  channel.agree(detail::Operation::all_reduce_dense, [&](detail::SharedArguments& arguments) {
    arguments.add("rows", matrix.rows());
    arguments.add("cols", cols);
    arguments.add("dtype", detail::scalar_words.data(), detail::scalar_word<A>);
    reduction.emplace(channel, matrix.rows() * cols);
    reduction->allocate();
    if (!in_one_piece) packed = channel.buffer(detail::BufferName::rows_out).get<A>(reduction->slab());
  });
  if (in_one_piece) {
    reduction->run(matrix.data(), detail::add_elements<A>);
    return;
  }
  // Elements [first, first + size), a row's part at a time.
  const auto for_parts_of_rows = [&](Index first, Index size, const auto& body) {
    for (Index i = 0; i < size;) {
      const Index row = (first + i) / cols;
      const Index col = (first + i) % cols;
      const Index part = (std::min)(cols - col, size - i);
      body(matrix.data() + row * matrix.outerStride() + col, packed + i, part);
      i += part;
    }
  };
  reduction->run(
      [&](Index first, Index size) {
        for_parts_of_rows(first, size,
                          [](const A* from, A* to, Index part) { std::copy(from, from + part, to); });
        return packed;
      },
      [&](Index first, Index size) {
        for_parts_of_rows(first, size,
                          [](A* to, const A* from, Index part) { std::copy(from, from + part, to); });
      },
      detail::add_elements<A>);
}

template <class A>
SparseGradient<A> all_reduce(const Communicator& comm, const SparseGradient<A>& sparse) {
  constexpr auto operation = detail::Operation::all_reduce_sparse;
  detail::Channel& channel = channel_of(comm);
  const Index cols = sparse.values.cols();
  const auto ranks = static_cast<std::size_t>(channel.size());
  const auto self = static_cast<std::size_t>(channel.rank());
  // Row i is summed by rank i mod size, which spreads them evenly.
  const auto place_of = [&](Index i) {
    const auto row = static_cast<std::uint64_t>(sparse.rows[i]);
    return detail::TokenRow{static_cast<int>(row % ranks), sparse.rows[i]};
  };
  const auto row_at = [&](Index i) { return sparse.values.data() + i * cols; };

  detail::RoutedRows<A> routed(channel, detail::token_buffers, channel.counts_out(), channel.counts_in(),
                               cols);
  std::vector<detail::SparseRows<A>> parts;
  IdVector<std::int64_t> own_ids;
  Matrix<A> own_values;
  SparseGradient<A> result;
  channel.agree(operation, [&](detail::SharedArguments& arguments) {
    detail::check_sparse(sparse.rows, sparse.values);
    arguments.add("values", cols);
    arguments.add("dtype", detail::scalar_words.data(), detail::scalar_word<A>);
    if (ranks == 1) {
      result = sparse;
      return;
    }
    routed.take(sparse.rows.size(), place_of, row_at);
    Index own = 0;
    for (Index i = 0; i < sparse.rows.size(); ++i) own += place_of(i).owner == channel.rank() ? 1 : 0;
    own_ids.resize(own);
    own_values.resize(own, cols);
    parts.resize(ranks);
  });
  if (ranks == 1) return result;

  Index own = 0;
  for (Index i = 0; i < sparse.rows.size(); ++i) {
    if (place_of(i).owner != channel.rank()) continue;
    own_ids[own] = sparse.rows[i];
    own_values.row(own++) = sparse.values.row(i);
  }
  routed.exchange_counts();
  channel.agree(operation, [&](detail::SharedArguments&) { routed.allocate(); });
  routed.exchange([&](int rank, std::span<const std::int64_t> rows, const detail::RowView<const A>& values) {
    parts[static_cast<std::size_t>(rank)] = {rows, values};
  });
  parts[self] = {{own_ids.data(), static_cast<std::size_t>(own)}, {own_values.data(), own, cols, cols}};
  SparseGradient<A> sums;  // of the rows that are this rank's
  channel.agree(operation, [&](detail::SharedArguments&) { sums = detail::merged<A>(parts, cols); });

  // The parts of the union, of which no two have a row in common.
  const auto out = channel.counts_out();
  const auto in = channel.counts_in();
  std::fill(out.begin(), out.end(), std::int64_t{sums.rows.size()});
  channel.exchange_counts(out, in);
  Index total = 0;
  for (const std::int64_t count : in) total += count;
  std::int64_t* ids = nullptr;
  A* values = nullptr;
  channel.agree(operation, [&](detail::SharedArguments&) {
    ids = channel.buffer(detail::BufferName::ids_in).get<std::int64_t>(total);
    values = channel.buffer(detail::BufferName::rows_in).get<A>(total, cols);
    own_ids = sums.rows.template cast<std::int64_t>();
  });
  const auto exchange = [&](const auto* own_elements, auto* elements, Index width) {
    const std::size_t row_bytes = static_cast<std::size_t>(width) * sizeof(*elements);
    Index begin = 0;
    for (std::size_t r = 0; r < ranks; ++r) {
      channel.messages()[r] = {own_elements, static_cast<std::size_t>(out[r]) * row_bytes,
                               elements + begin * width, static_cast<std::size_t>(in[r]) * row_bytes};
      begin += in[r];
    }
    channel.exchange();
  };
  exchange(own_ids.data(), ids, Index{1});
  exchange(sums.values.data(), values, cols);
  Index begin = 0;
  for (std::size_t r = 0; r < ranks; ++r) {
    const auto count = static_cast<std::size_t>(in[r]);
    parts[r] = {{ids + begin, count}, {values + begin * cols, in[r], cols, cols}};
    begin += in[r];
  }
  parts[self] = {{own_ids.data(), static_cast<std::size_t>(own_ids.size())},
                 {sums.values.data(), own_ids.size(), cols, cols}};
  channel.agree(operation, [&](detail::SharedArguments&) { result = detail::merged<A>(parts, cols); });
  return result;
}

}  // namespace gpt2
