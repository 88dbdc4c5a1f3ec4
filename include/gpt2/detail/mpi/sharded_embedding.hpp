// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// The definitions of ShardedEmbedding.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "gpt2/detail/arguments/hidden.hpp"
#include "gpt2/detail/arguments/ids.hpp"
#include "gpt2/detail/arguments/sizes.hpp"
#include "gpt2/detail/initialization.hpp"
#include "gpt2/detail/kernels/row_sums.hpp"
#include "gpt2/detail/kernels/scatter.hpp"
#include "gpt2/detail/mpi/communicator.hpp"
#include "gpt2/detail/mpi/gradients.hpp"
#include "gpt2/detail/mpi/lookup.hpp"
#include "gpt2/mpi.hpp"

namespace gpt2::inline GPT2_EMBEDDINGS_ABI {

inline Index shard_begin(Index num_embeddings, int rank, int size) {
  detail::check_size("num_embeddings", num_embeddings);
  if (size < 1) throw ArgumentError("size", size, "is less than 1");
  if (rank < 0 || rank > size) {
    throw ArgumentError("rank", rank, "is outside [0, " + detail::to_text(size) + "]");
  }
  if (rank == size) return num_embeddings;
  // floor(num_embeddings * rank / size), without the product, which may overflow.
  const Index begin = num_embeddings / size * rank +
                      static_cast<Index>(static_cast<std::int64_t>(num_embeddings % size) * rank / size);
  // The head's products are cut into tiles of this many rows: shards that begin with a tile have the whole table's
  // bits.
  constexpr Index tile = 256;
  return num_embeddings / (8 * tile) >= size ? begin - begin % tile : begin;
}

namespace detail {

inline constexpr std::array<const char*, 2> batch_words{"same", "own"};
inline constexpr std::array<const char*, 2> order_words{"tokens", "ranks"};
inline constexpr std::array<const char*, 2> reduction_words{"mean", "sum"};
inline constexpr std::array<const char*, 4> scalar_words{"float", "double", "half", "bfloat16"};
template <Scalar T>
inline constexpr std::size_t scalar_word = 0;
template <>
inline constexpr std::size_t scalar_word<double> = 1;
template <>
inline constexpr std::size_t scalar_word<Eigen::half> = 2;
template <>
inline constexpr std::size_t scalar_word<Eigen::bfloat16> = 3;

/// Adds the arguments that must be the same on all ranks for every sharded table.
template <Scalar T>
void share_options(SharedArguments& arguments, Batch batch, const ShardedOptions& options) {
  arguments.add("batch", batch_words.data(), static_cast<std::size_t>(batch));
  arguments.add("dtype", scalar_words.data(), scalar_word<T>);
  arguments.add("padding_idx", options.padding_idx);
  arguments.add("gradient_order", order_words.data(), static_cast<std::size_t>(options.gradient_order));
}

/// The default shards of a table.
[[nodiscard]] inline std::vector<Index> default_offsets(Index num_embeddings, int size) {
  std::vector<Index> offsets(static_cast<std::size_t>(size) + 1);
  for (int r = 0; r <= size; ++r) {
    offsets[static_cast<std::size_t>(r)] = shard_begin(num_embeddings, r, size);
  }
  return offsets;
}

/// A fresh table's rows on this rank. Local.
/// Throws: ArgumentError.
template <Scalar T>
[[nodiscard]] Embedding<T> fresh_shard(const std::vector<Index>& offsets, int rank, Index embedding_dim,
                                       double stddev, std::uint64_t seed, std::optional<Index> padding_idx) {
  const Index first = offsets[static_cast<std::size_t>(rank)];
  const Index last = offsets[static_cast<std::size_t>(rank) + 1];
  OwnedTable<T> rows = fresh_rows<T>(first, last, embedding_dim, stddev, seed, wte_stream);
  if (padding_idx && *padding_idx >= first && *padding_idx < last)
    (*rows).row(*padding_idx - first).setZero();
  return Embedding<T>(std::move(rows));
}

/// Throws: ShapeError if this rank's shard was assigned a table of another size.
template <Scalar T>
void check_shard(const ShardedEmbedding<T>& table) {
  const auto rank = static_cast<std::size_t>(table.communicator().rank());
  const Index rows = table.offsets()[rank + 1] - table.offsets()[rank];
  const Embedding<T>& shard = table.shard();
  if (shard.num_embeddings() == rows && shard.embedding_dim() == table.embedding_dim()) return;
  throw ShapeError("", "shard", to_text({rows, table.embedding_dim()}),
                   to_text({shard.num_embeddings(), shard.embedding_dim()}));
}

template <Scalar T>
[[nodiscard]] FetchedRows<T> fetched_rows(const ShardedEmbedding<T>& table) {
  return {channel_of(table.communicator()), table.offsets(), rows_of(table.shard().weight())};
}

/// Looks up ids. make_out(shape) makes the result, or checks an existing one, and returns its rows.
template <Scalar T, Ids X, class MakeOut, class D>
void sharded_lookup(const ShardedEmbedding<T>& table, const X& ids, const MakeOut& make_out,
                    const D& device) {
  Channel& channel = channel_of(table.communicator());
  auto fetched = fetched_rows(table);
  std::optional<StoredIds<X>> stored;
  std::optional<decltype(make_out(SequenceShape{}))> out;
  SequenceShape shape{};
  channel.agree(Operation::lookup, [&](SharedArguments& arguments) {
    check_threads(device);
    check_shard(table);
    stored.emplace(ids);
    const auto view = checked_ids(*stored, table.num_embeddings(), ids_argument);
    shape = view.shape();
    out.emplace(make_out(shape));
    if (table.batch() == Batch::same) arguments.add_hash("ids", hash_of(view));
    fetched.request(view, table.batch());
  });
  fetched.fetch(Operation::lookup, table.batch());
  sum_rows<Accumulator<T>>(shape, *out, device, fetched.source(shape.seq_length));
}

/// The checked arguments of backward() and sparse_backward().
template <Scalar T, Ids X, class G>
struct LookupGradient {
  std::optional<StoredIds<X>> stored;
  std::optional<TokenRows<typename StoredIds<X>::I>> tokens;
  std::optional<RowView<hidden_scalar_t<const G>>> gradient;

  void check(const ShardedEmbedding<T>& table, const X& ids, const G& grad_output, SharedArguments& arguments,
             const ArgumentName& argument) {
    check_shard(table);
    stored.emplace(ids);
    const auto view = checked_ids(*stored, table.num_embeddings(), argument);
    gradient =
        checked_rows(grad_output, view.shape(), table.embedding_dim(), {argument.table, "grad_output"});
    tokens = {view, table.offsets(), table.options().padding_idx.value_or(-1), table.communicator().rank()};
    if (table.batch() == Batch::same) {
      arguments.add_hash(argument.name, hash_of(view));
      arguments.add_hash("grad_output", hash_of(*gradient));
    }
  }

  [[nodiscard]] auto row_at() const {
    return [rows = *gradient](Index i) { return rows.row(i); };
  }
  /// Adds the gradients of this rank's own tokens that its shard has.
  template <class A, class D>
  void add_own(const RowView<A>& grad, const D& device) const {
    scatter_add(
        tokens->ids.shape(), [this](Index sequence, Index place) { return tokens->local(sequence, place); },
        *gradient, grad, std::nullopt, nullptr, device);
  }
  /// The sparse gradient of this rank's tokens, by rows of the whole table.
  template <class A, class D>
  [[nodiscard]] SparseGradient<A> sparse(const D& device) const {
    const std::optional<Index> padding =
        tokens->padding_idx < 0 ? std::nullopt : std::optional<Index>(tokens->padding_idx);
    return sparse_gradient<SparseGradient<A>>(tokens->ids, *gradient, padding, false, device);
  }
};

/// The owners of a sparse gradient's rows.
template <class A>
struct SparseOwners {
  const SparseGradient<A>& gradient;
  std::span<const Index> offsets;

  [[nodiscard]] TokenRow operator()(Index i) const {
    const int owner = owner_of(offsets, gradient.rows[i]);
    return {owner, gradient.rows[i] - offsets[static_cast<std::size_t>(owner)]};
  }
  [[nodiscard]] const A* row(Index i) const { return gradient.values.data() + i * gradient.values.cols(); }
};

/// The rows of a sparse gradient that a rank owns, by the owner's numbers.
template <class A>
[[nodiscard]] SparseGradient<A> own_part(const SparseGradient<A>& gradient, std::span<const Index> offsets,
                                         int rank) {
  const Index first = offsets[static_cast<std::size_t>(rank)];
  const Index* const rows = gradient.rows.data();
  const Index* const end_of_rows = rows + gradient.rows.size();
  const Index begin = std::lower_bound(rows, end_of_rows, first) - rows;
  const Index end = std::lower_bound(rows, end_of_rows, offsets[static_cast<std::size_t>(rank) + 1]) - rows;
  SparseGradient<A> part{gradient.rows.segment(begin, end - begin),
                         gradient.values.middleRows(begin, end - begin)};
  part.rows.array() -= first;
  return part;
}

}  // namespace detail

template <Scalar T>
ShardedEmbedding<T>::ShardedEmbedding(const Communicator& comm, Batch batch, Index num_embeddings,
                                      Index embedding_dim, const ShardedOptions& options, std::uint64_t seed)
    : comm_(comm), batch_(batch), options_(options), embedding_dim_(embedding_dim), shard_(Matrix<T>()) {
  channel_of(comm_).agree(detail::Operation::sharded_embedding, [&](detail::SharedArguments& arguments) {
    detail::check_table_size<T>("num_embeddings", num_embeddings, embedding_dim);
    if (options_.padding_idx) {
      options_.padding_idx = detail::checked_padding_idx(*options_.padding_idx, num_embeddings);
    }
    detail::share_options<T>(arguments, batch, options_);
    arguments.add("embedding_dim", embedding_dim);
    arguments.add("num_embeddings", num_embeddings);
    arguments.add_seed("seed", seed);
    offsets_ = detail::default_offsets(num_embeddings, comm_.size());
    shard_ = detail::fresh_shard<T>(offsets_, comm_.rank(), embedding_dim, 0.02, seed, options_.padding_idx);
  });
}

template <Scalar T>
ShardedEmbedding<T>::ShardedEmbedding(const Communicator& comm, Batch batch, Embedding<T> rows,
                                      const ShardedOptions& options)
    : comm_(comm),
      batch_(batch),
      options_(options),
      embedding_dim_(rows.embedding_dim()),
      shard_(std::move(rows)) {
  detail::Channel& channel = channel_of(comm_);
  channel.agree(detail::Operation::sharded_embedding, [&](detail::SharedArguments& arguments) {
    const EmbeddingOptions& own = shard_.options();
    if (own.padding_idx) {
      throw ArgumentError("padding_idx", *own.padding_idx,
                          "is an option of rows; it belongs to the whole table");
    }
    if (own.scale_grad_by_freq) {
      throw ArgumentError("scale_grad_by_freq", 1, "is an option of rows; a sharded table has none such");
    }
    detail::share_options<T>(arguments, batch, options_);
    arguments.add("embedding_dim", embedding_dim_);
    offsets_.resize(static_cast<std::size_t>(comm_.size()) + 1);
  });
  const auto counts = channel.counts_out();
  std::fill(counts.begin(), counts.end(), std::int64_t{shard_.num_embeddings()});
  channel.exchange_counts(counts, channel.counts_in());
  channel.agree(detail::Operation::sharded_embedding, [&](detail::SharedArguments&) {
    Index rows_before = 0;
    for (std::size_t r = 0; r + 1 < offsets_.size(); ++r) {
      const auto count = static_cast<Index>(channel.counts_in()[r]);
      if (count > (std::numeric_limits<Index>::max)() - rows_before) {
        throw ArgumentError("num_embeddings", count, "more rows than can be counted");
      }
      offsets_[r] = rows_before;
      rows_before += count;
    }
    offsets_.back() = rows_before;
    detail::check_table_size<T>("num_embeddings", rows_before, embedding_dim_);
    if (options_.padding_idx) {
      options_.padding_idx = detail::checked_padding_idx(*options_.padding_idx, rows_before);
    }
  });
}

template <Scalar T>
template <Ids X, Device D>
Hidden<T, ids_rank<X>> ShardedEmbedding<T>::operator()(const X& ids, const D& device) const {
  Hidden<T, ids_rank<X>> out;
  const auto make_out = [&](const detail::SequenceShape& shape) {
    out = detail::make_hidden<T, ids_rank<X>>(shape, embedding_dim_);
    return detail::all_rows(out);
  };
  detail::sharded_lookup(*this, ids, make_out, device);
  return out;
}

template <Scalar T>
template <Ids X, HiddenOutput<T, ids_rank<X>> Out, Device D>
void ShardedEmbedding<T>::forward_into(const X& ids, Out&& out, const D& device) const {
  const auto check_out = [&](const detail::SequenceShape& shape) {
    return detail::checked_rows(out, shape, embedding_dim_, {detail::ids_argument.table, "out"});
  };
  detail::sharded_lookup(*this, ids, check_out, device);
}

template <Scalar T>
template <Ids X, HiddenInput<T, ids_rank<X>> G, Device D>
void ShardedEmbedding<T>::backward(const X& ids, const G& grad_output, const D& device) {
  using A = Accumulator<T>;
  constexpr auto operation = detail::Operation::backward;
  detail::Channel& channel = channel_of(comm_);
  const bool by_ranks = batch_ == Batch::own && options_.gradient_order == GradientOrder::ranks;
  detail::LookupGradient<T, X, G> given;
  detail::RoutedRows<A> routed(channel, detail::token_buffers, channel.counts_out(), channel.counts_in(),
                               embedding_dim_);
  SparseGradient<A> own;  // by_ranks
  SparseGradient<A> own_rows;
  channel.agree(operation, [&](detail::SharedArguments& arguments) {
    detail::check_threads(device);
    given.check(*this, ids, grad_output, arguments, detail::ids_argument);
    (void)shard_.mutable_grad();
    if (batch_ == Batch::same) return;
    if (by_ranks) {
      own = given.template sparse<A>(device);
      own_rows = detail::own_part(own, offsets_, comm_.rank());
      const detail::SparseOwners<A> owners{own, offsets_};
      routed.take(own.rows.size(), owners, [&](Index i) { return owners.row(i); });
    } else {
      routed.take(given.tokens->size(), *given.tokens, given.row_at());
    }
  });
  const auto grad = detail::rows_of(shard_.mutable_grad());
  if (batch_ == Batch::same || comm_.size() == 1) {
    if (by_ranks) {
      own_rows.add_to(shard_.mutable_grad());
    } else {
      given.add_own(grad, device);
    }
    return;
  }
  routed.exchange_counts();
  channel.agree(operation, [&](detail::SharedArguments&) { routed.allocate(); });
  routed.exchange([&](int rank, std::span<const std::int64_t> rows, const detail::RowView<const A>& values) {
    if (rank != comm_.rank()) {
      const auto row = [&](Index i) { return static_cast<Index>(rows[static_cast<std::size_t>(i)]); };
      detail::add_rows(row, values, grad, device);
    } else if (by_ranks) {
      own_rows.add_to(shard_.mutable_grad());
    } else {
      given.add_own(grad, device);
    }
  });
}

template <Scalar T>
template <Ids X, HiddenInput<T, ids_rank<X>> G, Device D>
SparseGradient<Accumulator<T>> ShardedEmbedding<T>::sparse_backward(const X& ids, const G& grad_output,
                                                                    const D& device) const {
  using A = Accumulator<T>;
  constexpr auto operation = detail::Operation::sparse_backward;
  detail::Channel& channel = channel_of(comm_);
  const bool by_ranks = batch_ == Batch::own && options_.gradient_order == GradientOrder::ranks;
  detail::LookupGradient<T, X, G> given;
  detail::RoutedRows<A> routed(channel, detail::token_buffers, channel.counts_out(), channel.counts_in(),
                               embedding_dim_);
  SparseGradient<A> own_rows;
  channel.agree(operation, [&](detail::SharedArguments& arguments) {
    detail::check_threads(device);
    given.check(*this, ids, grad_output, arguments, detail::ids_argument);
    if (batch_ == Batch::same || comm_.size() == 1) {
      own_rows = detail::own_part(given.template sparse<A>(device), offsets_, comm_.rank());
    } else if (by_ranks) {
      const SparseGradient<A> own = given.template sparse<A>(device);
      own_rows = detail::own_part(own, offsets_, comm_.rank());
      const detail::SparseOwners<A> owners{own, offsets_};
      routed.take(own.rows.size(), owners, [&](Index i) { return owners.row(i); });
    } else {
      routed.take(given.tokens->size(), *given.tokens, given.row_at());
    }
  });
  if (batch_ == Batch::same || comm_.size() == 1) return own_rows;

  routed.exchange_counts();
  std::vector<detail::SparseRows<A>> parts;
  IdVector<std::int64_t> own_ids;  // by_ranks
  IdVector<Index> rows;            // by tokens: of all ranks
  Matrix<A> values;
  channel.agree(operation, [&](detail::SharedArguments&) {
    routed.allocate();
    if (by_ranks) {
      parts.resize(static_cast<std::size_t>(comm_.size()));
      own_ids = own_rows.rows.template cast<std::int64_t>();
    } else {
      Index tokens = routed.total_in();
      for (Index i = 0; i < given.tokens->size(); ++i)
        tokens += (*given.tokens)(i).owner == comm_.rank() ? 1 : 0;
      rows.resize(tokens);
      values.resize(tokens, embedding_dim_);
    }
  });
  Index size = 0;
  const auto append = [&](Index row, const auto* elements) {
    rows[size] = row;
    detail::widen(embedding_dim_, values.data() + size++ * embedding_dim_, elements);
  };
  routed.exchange(
      [&](int rank, std::span<const std::int64_t> ids_in, const detail::RowView<const A>& rows_in) {
        if (by_ranks) {
          auto& part = parts[static_cast<std::size_t>(rank)];
          part = {ids_in, rows_in};
          if (rank == comm_.rank()) {
            part = {{own_ids.data(), static_cast<std::size_t>(own_ids.size())},
                    {own_rows.values.data(), own_ids.size(), embedding_dim_, embedding_dim_}};
          }
        } else if (rank == comm_.rank()) {
          for (Index i = 0; i < given.tokens->size(); ++i) {
            const detail::TokenRow token = (*given.tokens)(i);
            if (token.owner == rank) append(token.row, given.gradient->row(i));
          }
        } else {
          for (Index i = 0; i < rows_in.rows; ++i) {
            append(static_cast<Index>(ids_in[static_cast<std::size_t>(i)]), rows_in.row(i));
          }
        }
      });
  SparseGradient<A> result;
  channel.agree(operation, [&](detail::SharedArguments&) {
    if (by_ranks) {
      result = detail::merged<A>(parts, embedding_dim_);
    } else {
      const detail::IdView<Index> view{rows.data(), 1, rows.size(), 0, 1, 1};
      const detail::RowView<const A> terms{values.data(), rows.size(), embedding_dim_, embedding_dim_};
      result = detail::sparse_gradient<SparseGradient<A>>(view, terms, std::nullopt, false, device);
    }
  });
  return result;
}

}  // namespace gpt2
