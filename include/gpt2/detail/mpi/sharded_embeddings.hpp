// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// The definitions of ShardedGPT2Embeddings.

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>

#include "gpt2/detail/embeddings.hpp"
#include "gpt2/detail/mpi/gradients.hpp"
#include "gpt2/detail/mpi/sharded_embedding.hpp"
#include "gpt2/mpi.hpp"

namespace gpt2::inline GPT2_EMBEDDINGS_ABI {

namespace detail {

/// Adds position ids, or a past length, which must be the same on all ranks.
template <class P>
void share_positions(SharedArguments& arguments, const StoredIds<P>& position_ids) {
  if constexpr (std::same_as<P, PastLength>) {
    arguments.add("past_length", position_ids.past_length());
  } else {
    arguments.add_hash("position_ids", hash_of(position_ids.view()));
  }
}

/// The checks that GPT2Embeddings makes of its tables.
/// Throws: ShapeError.
template <Scalar T>
void check_sharded_tables(const ShardedEmbedding<T>& wte, const Embedding<T>& wpe) {
  check_shard(wte);
  if (wte.embedding_dim() == wpe.embedding_dim()) return;
  throw ShapeError("", "wpe", to_text({wpe.num_embeddings(), wte.embedding_dim()}),
                   to_text({wpe.num_embeddings(), wpe.embedding_dim()}));
}

/// Adds wpe, whose bits must be the same on all ranks.
template <Scalar T>
void share_wpe(SharedArguments& arguments, const Embedding<T>& wpe) {
  Hash hash;
  hash.add_word(hash_of(rows_of(wpe.weight())));
  hash.add_word(static_cast<std::uint64_t>(wpe.options().padding_idx.value_or(-1)));
  arguments.add_hash("wpe", hash.value());
}

template <Scalar T>
[[nodiscard]] ShardedEmbedding<T> fresh_sharded_wte(const Communicator& comm, Batch batch,
                                                    const GPT2Config& config, std::uint64_t seed,
                                                    const ShardedOptions& options);

}  // namespace detail

template <Scalar T>
ShardedGPT2Embeddings<T>::ShardedGPT2Embeddings(ShardedEmbedding<T> token_table, Embedding<T> position_table)
    : wte(std::move(token_table)), wpe(std::move(position_table)) {
  channel_of(wte.communicator())
      .agree(detail::Operation::sharded_gpt2_embeddings, [&](detail::SharedArguments& arguments) {
        detail::check_sharded_tables(wte, wpe);
        if (wpe.options().scale_grad_by_freq) {
          throw ArgumentError("scale_grad_by_freq", 1,
                              "is an option of wpe, which a sharded layer does not have");
        }
        detail::share_wpe(arguments, wpe);
      });
}

template <Scalar T>
ShardedGPT2Embeddings<T>::ShardedGPT2Embeddings(const Communicator& comm, Batch batch,
                                                const GPT2Config& config, std::uint64_t seed,
                                                const ShardedOptions& options)
    : wte(detail::fresh_sharded_wte<T>(comm, batch, config, seed, options)), wpe(Matrix<T>()) {
  channel_of(comm).agree(detail::Operation::sharded_gpt2_embeddings,
                         [&](detail::SharedArguments&) { wpe = detail::fresh_wpe<T>(config, seed); });
}

namespace detail {

template <Scalar T>
ShardedEmbedding<T> fresh_sharded_wte(const Communicator& comm, Batch batch, const GPT2Config& config,
                                      std::uint64_t seed, const ShardedOptions& options) {
  Embedding<T> rows{Matrix<T>()};
  ShardedOptions normalised = options;
  channel_of(comm).agree(Operation::sharded_gpt2_embeddings, [&](SharedArguments& arguments) {
    config.validate();
    check_table_size<T>("vocab_size", config.vocab_size, config.n_embd);
    check_table_size<T>("n_positions", config.n_positions, config.n_embd);
    if (options.padding_idx)
      normalised.padding_idx = checked_padding_idx(*options.padding_idx, config.vocab_size);
    share_options<T>(arguments, batch, normalised);
    arguments.add("n_embd", config.n_embd);
    arguments.add("vocab_size", config.vocab_size);
    arguments.add("n_positions", config.n_positions);
    arguments.add("initializer_range", config.initializer_range);
    arguments.add_seed("seed", seed);
    const auto offsets = default_offsets(config.vocab_size, comm.size());
    rows = fresh_shard<T>(offsets, comm.rank(), config.n_embd, config.initializer_range, seed,
                          normalised.padding_idx);
  });
  return ShardedEmbedding<T>(comm, batch, std::move(rows), normalised);
}

template <Scalar T, class X, class P, class D, class MakeOut>
void sharded_sum(const ShardedGPT2Embeddings<T>& layer, const X& input_ids, const P& position_ids,
                 const D& device, const MakeOut& make_out) {
  const ShardedEmbedding<T>& wte = layer.wte;
  Channel& channel = channel_of(wte.communicator());
  auto fetched = fetched_rows(wte);
  std::optional<StoredIds<X>> tokens;
  std::optional<StoredIds<P>> places;
  SequenceShape shape{};
  std::optional<decltype(make_out(shape))> out;
  std::optional<decltype(position_rows(layer.wpe, *places, shape))> positions;
  channel.agree(Operation::sum, [&](SharedArguments& arguments) {
    check_threads(device);
    tokens.emplace(input_ids);
    places.emplace(position_ids);
    shape = tokens->shape();
    check_sharded_tables(wte, layer.wpe);
    const auto view = checked_ids(*tokens, wte.num_embeddings(), input_ids_argument);
    positions.emplace(position_rows(layer.wpe, *places, shape));
    out.emplace(make_out(shape));
    if (wte.batch() == Batch::same) {
      arguments.add_hash("input_ids", hash_of(view));
      share_positions(arguments, *places);
    }
    fetched.request(view, wte.batch());
  });
  fetched.fetch(Operation::sum, wte.batch());
  sum_rows<Accumulator<T>>(shape, *out, device, fetched.source(shape.seq_length), *positions);
}

/// The sums of the gradients of positions: row p of wpe is summed by rank p mod size, as its row p / size, which
/// spreads them evenly.
template <class A>
class PositionSums {
 public:
  PositionSums(Channel& channel, Index positions, Index cols)
      : channel_(channel), size_(channel.size()), cols_(cols), most_((positions + size_ - 1) / size_) {}

  [[nodiscard]] TokenRow place_of(Index position) const {
    return {static_cast<int>(position % size_), position / size_};
  }

  /// Allocates memory for the sums, including those of other ranks. Local.
  /// Throws: std::bad_alloc.
  void allocate() {
    places_ = channel_.buffer(BufferName::slots).template get<Index>(most_);
    ids_ = channel_.buffer(BufferName::sum_ids).template get<std::int64_t>(most_, size_ + 1);
    sums_ = channel_.buffer(BufferName::sums).template get<A>(most_ * (size_ + 1), cols_);
    std::fill(places_, places_ + most_, Index{-1});
  }

  /// Adds a term to the sum of one of this rank's rows, which begins with the row of `grad`.
  template <class G>
  void add(Index row, const G* term, const RowView<A>& grad) {
    A* sum = nullptr;
    if (places_[row] < 0) {
      places_[row] = count_;
      ids_[count_] = row;
      sum = sums_ + count_++ * cols_;
      const ConstRow<A> before(grad.row(row * size_ + channel_.rank()), cols_);
      Row<A>(sum, cols_) = before;
    } else {
      sum = sums_ + places_[row] * cols_;
    }
    accumulate_row(cols_, sum, term, 1);
  }

  /// Sends all sums to all ranks; collective.
  void exchange() {
    if (size_ == 1) return;
    const auto out = channel_.more_counts_out();
    const auto in = channel_.more_counts_in();
    std::fill(out.begin(), out.end(), std::int64_t{count_});
    channel_.exchange_counts(out, in);
    for (std::size_t r = 0; r < in.size(); ++r) {
      channel_.messages()[r] = {ids_, static_cast<std::size_t>(count_) * sizeof(*ids_), ids_ + begin(r),
                                static_cast<std::size_t>(in[r]) * sizeof(*ids_)};
    }
    channel_.exchange();
    const std::size_t row_bytes = static_cast<std::size_t>(cols_) * sizeof(A);
    for (std::size_t r = 0; r < in.size(); ++r) {
      channel_.messages()[r] = {sums_, static_cast<std::size_t>(count_) * row_bytes, sums_ + begin(r) * cols_,
                                static_cast<std::size_t>(in[r]) * row_bytes};
    }
    channel_.exchange();
  }

  /// Writes all sums to the gradient. Local.
  void write(const RowView<A>& grad) const {
    write_of(0, count_, channel_.rank(), grad);
    for (int r = 0; r < size_; ++r) {
      if (r == channel_.rank()) continue;
      write_of(begin(static_cast<std::size_t>(r)), channel_.more_counts_in()[static_cast<std::size_t>(r)], r,
               grad);
    }
  }

 private:
  /// The first row of a rank's sums; this rank's own come before all others.
  [[nodiscard]] Index begin(std::size_t rank) const { return (static_cast<Index>(rank) + 1) * most_; }
  void write_of(Index first, Index count, int rank, const RowView<A>& grad) const {
    for (Index i = first; i < first + count; ++i) {
      Row<A>(grad.row(static_cast<Index>(ids_[i]) * size_ + rank), cols_) =
          ConstRow<A>(sums_ + i * cols_, cols_);
    }
  }

  Channel& channel_;
  Index size_;
  Index cols_;
  Index most_;
  Index count_ = 0;
  Index* places_ = nullptr;
  std::int64_t* ids_ = nullptr;
  A* sums_ = nullptr;
};

}  // namespace detail

template <Scalar T>
template <class X, class P, class D>
Hidden<T, ids_rank<X>> ShardedGPT2Embeddings<T>::sum(const X& input_ids, const P& position_ids,
                                                     const D& device) const {
  Hidden<T, ids_rank<X>> out;
  detail::sharded_sum(*this, input_ids, position_ids, device, [&](const detail::SequenceShape& shape) {
    out = detail::make_hidden<T, ids_rank<X>>(shape, wte.embedding_dim());
    return detail::all_rows(out);
  });
  return out;
}

template <Scalar T>
template <class X, class P, class Out, class D>
void ShardedGPT2Embeddings<T>::sum_into(const X& input_ids, const P& position_ids, Out& out,
                                        const D& device) const {
  detail::sharded_sum(*this, input_ids, position_ids, device, [&](const detail::SequenceShape& shape) {
    return detail::checked_rows(out, shape, wte.embedding_dim(), detail::out_argument);
  });
}

template <Scalar T>
template <class X, class P, class G, class D>
void ShardedGPT2Embeddings<T>::sum_backward(const X& input_ids, const P& position_ids, const G& grad_output,
                                            const D& device) {
  using A = Accumulator<T>;
  constexpr auto operation = detail::Operation::sum_backward;
  detail::Channel& channel = channel_of(wte.communicator());
  const int rank = channel.rank();
  const bool by_ranks = wte.options().gradient_order == GradientOrder::ranks && wte.batch() == Batch::own;
  const Index cols = wte.embedding_dim();

  std::optional<detail::StoredIds<X>> tokens;
  std::optional<detail::StoredIds<P>> places;
  detail::SequenceShape shape{};
  std::optional<detail::RowView<hidden_scalar_t<const G>>> gradient;
  std::optional<decltype(detail::position_rows(wpe, *places, shape))> positions;
  std::vector<Index> counts;
  detail::RoutedRows<A> token_rows(channel, detail::token_buffers, channel.counts_out(), channel.counts_in(),
                                   cols);
  detail::RoutedRows<A> position_rows(channel, detail::position_buffers, channel.more_counts_out(),
                                      channel.more_counts_in(), cols);
  std::optional<detail::PositionSums<A>> sums;
  std::optional<detail::TokenRows<typename detail::StoredIds<X>::I>> rows;
  SparseGradient<A> own_tokens;  // by_ranks: of this rank's batch, and its rows in this shard
  SparseGradient<A> own_rows;
  SparseGradient<A> own_positions;
  const Index wpe_padding = wpe.options().padding_idx.value_or(-1);
  IdVector<Index> position_of;  // of each token; -1 for padding

  channel.agree(operation, [&](detail::SharedArguments& arguments) {
    detail::check_threads(device);
    tokens.emplace(input_ids);
    places.emplace(position_ids);
    shape = tokens->shape();
    detail::check_sharded_tables(wte, wpe);
    const auto view = detail::checked_ids(*tokens, wte.num_embeddings(), detail::input_ids_argument);
    positions.emplace(detail::position_rows(wpe, *places, shape));
    gradient = detail::checked_rows(grad_output, shape, cols, detail::grad_output_argument);
    rows = {view, wte.offsets(), wte.options().padding_idx.value_or(-1), rank};
    if (wte.batch() == Batch::same) {
      arguments.add_hash("input_ids", detail::hash_of(view));
      detail::share_positions(arguments, *places);
      arguments.add_hash("grad_output", detail::hash_of(*gradient));
      counts = detail::occurrences(wpe, *positions);
    } else {
      sums.emplace(channel, wpe.num_embeddings(), cols);
      sums->allocate();
      position_of.resize(shape.size());
      for (Index i = 0, sequence = 0; sequence < shape.batch; ++sequence) {
        for (Index place = 0; place < shape.seq_length; ++place, ++i) {
          const Index position = positions->number(sequence, place);
          position_of[i] = position == wpe_padding ? Index{-1} : position;
        }
      }
      if (by_ranks) {
        const std::optional<Index> padding =
            rows->padding_idx < 0 ? std::nullopt : std::optional<Index>(rows->padding_idx);
        own_tokens = detail::sparse_gradient<SparseGradient<A>>(view, *gradient, padding, false, device);
        own_rows = detail::own_part(own_tokens, wte.offsets(), rank);
        const detail::IdView<Index> position_view{position_of.data(), 1, position_of.size(), 0, 1, 1};
        own_positions =
            detail::sparse_gradient<SparseGradient<A>>(position_view, *gradient, Index{-1}, false, device);
        const detail::SparseOwners<A> owners{own_tokens, wte.offsets()};
        token_rows.take(own_tokens.rows.size(), owners, [&](Index i) { return owners.row(i); });
        position_rows.take(
            own_positions.rows.size(), [&](Index i) { return sums->place_of(own_positions.rows[i]); },
            [&](Index i) { return own_positions.values.data() + i * cols; });
      } else {
        const auto row_at = [&](Index i) { return gradient->row(i); };
        token_rows.take(rows->size(), *rows, row_at);
        position_rows.take(
            position_of.size(),
            [&](Index i) { return position_of[i] < 0 ? detail::TokenRow{} : sums->place_of(position_of[i]); },
            row_at);
      }
    }
    (void)wte.shard().mutable_grad();
    (void)wpe.mutable_grad();
  });

  const auto wte_grad = detail::rows_of(wte.shard().mutable_grad());
  const auto wpe_grad = detail::rows_of(wpe.mutable_grad());
  const auto add_own_tokens = [&] {
    if (by_ranks) {
      own_rows.add_to(wte.shard().mutable_grad());
    } else {
      detail::scatter_add(
          shape, [&](Index sequence, Index place) { return rows->local(sequence, place); }, *gradient,
          wte_grad, std::nullopt, nullptr, device);
    }
  };
  if (wte.batch() == Batch::same) {
    add_own_tokens();
    detail::add_gradient(wpe, shape, *positions, counts, *gradient, device);
    return;
  }

  token_rows.exchange_counts();
  position_rows.exchange_counts();
  channel.agree(operation, [&](detail::SharedArguments&) {
    token_rows.allocate();
    position_rows.allocate();
  });
  position_rows.exchange(
      [&](int from, std::span<const std::int64_t> ids, const detail::RowView<const A>& terms) {
        if (from != rank) {
          for (Index i = 0; i < terms.rows; ++i) {
            sums->add(static_cast<Index>(ids[static_cast<std::size_t>(i)]), terms.row(i), wpe_grad);
          }
        } else if (by_ranks) {
          for (Index i = 0; i < own_positions.rows.size(); ++i) {
            const detail::TokenRow place = sums->place_of(own_positions.rows[i]);
            if (place.owner == rank) sums->add(place.row, own_positions.values.data() + i * cols, wpe_grad);
          }
        } else {
          for (Index i = 0; i < position_of.size(); ++i) {
            if (position_of[i] < 0) continue;
            const detail::TokenRow place = sums->place_of(position_of[i]);
            if (place.owner == rank) sums->add(place.row, gradient->row(i), wpe_grad);
          }
        }
      });
  sums->exchange();
  token_rows.exchange(
      [&](int from, std::span<const std::int64_t> ids, const detail::RowView<const A>& terms) {
        if (from == rank) {
          add_own_tokens();
        } else {
          const auto row = [&](Index i) { return static_cast<Index>(ids[static_cast<std::size_t>(i)]); };
          detail::add_rows(row, terms, wte_grad, device);
        }
      });
  sums->write(wpe_grad);
}

}  // namespace gpt2
