// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// The definitions of the head over shards: each rank scores its own rows, and the statistics of each state's logits
/// are merged in rank order.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <vector>

#include "gpt2/detail/arguments/hidden.hpp"
#include "gpt2/detail/arguments/labels.hpp"
#include "gpt2/detail/kernels/head.hpp"
#include "gpt2/detail/kernels/softmax.hpp"
#include "gpt2/detail/kernels/top_k.hpp"
#include "gpt2/detail/lm_head.hpp"
#include "gpt2/detail/mpi/all_reduce.hpp"
#include "gpt2/detail/mpi/communicator.hpp"
#include "gpt2/detail/mpi/hash.hpp"
#include "gpt2/detail/mpi/sharded_embedding.hpp"
#include "gpt2/mpi.hpp"

namespace gpt2::inline GPT2_EMBEDDINGS_ABI {

namespace detail {

/// A table that has only a size, for checks.
template <Scalar T>
class SizeOfTable {
 public:
  explicit SizeOfTable(const ShardedEmbedding<T>& table)
      : rows_(table.num_embeddings()), cols_(table.embedding_dim()) {}
  [[nodiscard]] Index num_embeddings() const { return rows_; }
  [[nodiscard]] Index embedding_dim() const { return cols_; }

 private:
  friend RowView<const T> stored_rows(const SizeOfTable& table) noexcept {
    return {nullptr, table.rows_, table.cols_, table.cols_};
  }
  Index rows_;
  Index cols_;
};

/// The heads of all ranks.
template <Scalar T>
struct ShardedHead {
  Head<RowView<const T>> own;  // of this rank's rows
  Index vocab_size;            // of all ranks
  std::span<const Index> offsets;

  /// The number of rows that a rank scores.
  [[nodiscard]] Index rows_of_rank(std::size_t rank) const {
    return std::clamp(vocab_size - offsets[rank], Index{0}, offsets[rank + 1] - offsets[rank]);
  }
  [[nodiscard]] Index most_rows() const {
    Index most = 0;
    for (std::size_t r = 0; r + 1 < offsets.size(); ++r) most = (std::max)(most, rows_of_rank(r));
    return most;
  }
};

/// Throws: ShapeError, ArgumentError.
template <Scalar T>
[[nodiscard]] ShardedHead<T> checked_sharded_head(const ShardedEmbedding<T>& table,
                                                  const HeadOptions& options) {
  check_shard(table);
  auto head = checked_head(SizeOfTable<T>(table), options);
  ShardedHead<T> sharded{head, head.vocab_size(), table.offsets()};
  sharded.own.rows = rows_of(table.shard().weight());
  sharded.own.rows.rows = sharded.rows_of_rank(static_cast<std::size_t>(table.communicator().rank()));
  return sharded;
}

inline void share_head(SharedArguments& arguments, const HeadOptions& options) {
  arguments.add("vocab_size", options.vocab_size);
  arguments.add("logit_soft_cap", options.logit_soft_cap);
}

/// Hidden states of all ranks, in A, and the first one of each rank.
template <class A>
class GatheredStates {
 public:
  explicit GatheredStates(Channel& channel) : channel_(channel) {}

  /// Sends the number of this rank's states to all ranks; collective.
  void count(Index states) {
    const auto out = channel_.counts_out();
    std::fill(out.begin(), out.end(), std::int64_t{states});
    channel_.exchange_counts(out, channel_.counts_in());
  }
  /// Local.
  /// Throws: std::bad_alloc.
  void allocate(Index cols) {
    begins_.resize(static_cast<std::size_t>(channel_.size()) + 1);
    begins_[0] = 0;
    for (std::size_t r = 0; r + 1 < begins_.size(); ++r)
      begins_[r + 1] = begins_[r] + channel_.counts_in()[r];
    // As much as sum_own_states() needs after the states have been used.
    states_ = channel_.buffer(BufferName::rows_in).template get<A>(begins_.back() + channel_.size(), cols);
    cols_ = cols;
  }

  [[nodiscard]] Index size() const { return begins_.back(); }
  [[nodiscard]] Index begin(int rank) const { return begins_[static_cast<std::size_t>(rank)]; }
  [[nodiscard]] Index count_of(int rank) const { return begin(rank + 1) - begin(rank); }
  [[nodiscard]] RowView<const A> rows() const { return {states_, size(), cols_, cols_}; }
  /// The memory of the states, when they are no longer needed.
  [[nodiscard]] A* memory() const { return states_; }

  /// Sends this rank's states to all ranks; row(i) is the i-th; collective.
  template <class RowAt>
  void exchange(const RowAt& row) {
    A* const own = states_ + begin(channel_.rank()) * cols_;
    for (Index i = 0; i < count_of(channel_.rank()); ++i) widen(cols_, own + i * cols_, row(i));
    gather(states_, cols_);
  }

  /// Sends this rank's rows of elements, which are in their place among all, to all ranks; collective.
  template <class E>
  void gather(E* elements, Index width) {
    const auto bytes = [&](int rank) { return static_cast<std::size_t>(count_of(rank) * width) * sizeof(E); };
    const int self = channel_.rank();
    for (int r = 0; r < channel_.size(); ++r) {
      channel_.messages()[static_cast<std::size_t>(r)] = {elements + begin(self) * width, bytes(self),
                                                          elements + begin(r) * width, bytes(r)};
    }
    channel_.exchange();
  }

 private:
  Channel& channel_;
  std::vector<Index> begins_;
  A* states_ = nullptr;
  Index cols_ = 0;
};

/// Candidates of many ranks for some states, each rank's best first.
template <class A>
struct CandidateLists {
  std::vector<Index> lengths;  // of each rank's lists
  std::vector<IdMatrix<std::int64_t>> ids;
  std::vector<Matrix<A>> logits;
  std::vector<Index> next;

  /// Throws: std::bad_alloc.
  void allocate(Index states) {
    ids.resize(lengths.size());
    logits.resize(lengths.size());
    next.resize(lengths.size());
    for (std::size_t r = 0; r < lengths.size(); ++r) {
      ids[r].resize(states, lengths[r]);
      logits[r].resize(states, lengths[r]);
    }
  }

  /// Writes the k best of state i.
  void merge(Index i, Index k, std::int64_t* best_ids, A* best_logits) {
    std::fill(next.begin(), next.end(), Index{0});
    for (Index j = 0; j < k; ++j) {
      std::size_t best_rank = lengths.size();
      Candidate<A> best{};
      for (std::size_t r = 0; r < lengths.size(); ++r) {
        if (next[r] == lengths[r]) continue;
        const Candidate<A> candidate{logits[r](i, next[r]), ids[r](i, next[r])};
        if (best_rank == lengths.size() || ranks_before(candidate, best)) {
          best = candidate;
          best_rank = r;
        }
      }
      ++next[best_rank];
      best_ids[j] = best.id;
      best_logits[j] = best.logit;
    }
  }
};

/// Merges the statistics of states' logits on the ranks so far with the next rank's.
template <class A>
void merge_softmax(Softmax<A>* out, const Softmax<A>* a, const Softmax<A>* b, Index size) {
  for (Index i = 0; i < size; ++i) {
    Softmax<A> sum = a[i];
    sum.merge(b[i]);
    sum.label_logit += b[i].label_logit;  // of one rank; 0 of the others
    out[i] = sum;
  }
}

/// The losses of states of all ranks over the rows of all ranks. Local except run().
template <Scalar T>
class ShardedLoss {
  using A = Accumulator<T>;

 public:
  ShardedLoss(Channel& channel, Operation operation) : channel_(channel), operation_(operation) {}

  /// Takes checked arguments; labels are rows of the whole table.
  /// Throws: std::bad_alloc.
  void take(const ShardedHead<T>& head, const RowView<const A>& states, std::span<const Index> labels,
            Index first_row, const CrossEntropyOptions& options, bool with_gradients) {
    head_ = head;
    states_ = states;
    labels_.resize(labels.size());
    for (std::size_t i = 0; i < labels.size(); ++i) labels_[i] = labels[i] - first_row;
    softmax_.assign(labels.size(), Softmax<A>());
    // The same plan on all ranks, whose shards may differ in size.
    plan_ = loss_plan<A>(states.rows, head.most_rows(), options.workspace_bytes, tiling_);
    memory_.emplace(plan_.states, head.own.vocab_size(), plan_.columns, with_gradients && plan_.keeps_all);
    reduction_ = options.reduction;
    weight_ = reduction_ == Reduction::sum ? 1.0 : 1.0 / static_cast<double>(labels.size());
    merging_.emplace(channel_, (std::min)(states.rows, (std::max)(plan_.states, Index{1})));
    merging_->allocate();
    if (with_gradients) {
      grads_ = channel_.buffer(BufferName::rows_out).template get<A>(states.rows, states.cols);
    }
  }

  /// The loss; collective. Gradients of the states, as far as they come from this rank's rows, are in grads(); those
  /// of the rows are added to `grad`, unless it is null.
  template <class D>
  [[nodiscard]] A run(const RowView<A>* grad, const D& device) {
    const RowView<A> all_grads{grads_, states_.rows, states_.cols, states_.cols};
    if (grad != nullptr) as_operand(all_grads).setZero();
    const Index chunk = (std::max)(plan_.states, Index{1});
    for (Index first = 0; first < states_.rows + chunk; first += chunk) {
      // The gradients of a chunk, and the logits of the next: in one agreement, as memory may run out in both.
      const Index before = first - chunk;
      channel_.agree(operation_, [&](SharedArguments&) {
        if (grad != nullptr && before >= 0) {
          const Index size = (std::min)(chunk, states_.rows - before);
          add_loss_gradients<const T, A>(
              head_->own, middle_rows(states_, before, size), labels_of(before, size),
              std::span<const Softmax<A>>(softmax_of(before, size)), weight_,
              middle_rows(all_grads, before, size), *grad, *memory_, tiling_, device);
        }
        if (first < states_.rows) {
          const Index size = (std::min)(chunk, states_.rows - first);
          add_softmax<RowView<const T>, A>(head_->own, middle_rows(states_, first, size),
                                           labels_of(first, size), softmax_of(first, size), *memory_, tiling_,
                                           device);
        }
      });
      if (first >= states_.rows) break;
      OrderedReduction<Softmax<A>> merging(channel_, (std::min)(chunk, states_.rows - first));
      merging.allocate();  // take() has made the buffers large enough
      merging.run(softmax_.data() + first, merge_softmax<A>);
    }
    return reduced<A>(softmax_, weight_, reduction_);
  }

  [[nodiscard]] A* grads() const { return grads_; }

 private:
  [[nodiscard]] std::span<const Index> labels_of(Index first, Index size) const {
    return std::span<const Index>(labels_).subspan(static_cast<std::size_t>(first),
                                                   static_cast<std::size_t>(size));
  }
  [[nodiscard]] std::span<Softmax<A>> softmax_of(Index first, Index size) {
    return std::span<Softmax<A>>(softmax_).subspan(static_cast<std::size_t>(first),
                                                   static_cast<std::size_t>(size));
  }

  Channel& channel_;
  Operation operation_;
  HeadTiling tiling_;
  std::optional<ShardedHead<T>> head_;
  RowView<const A> states_{};
  std::vector<Index> labels_;
  std::vector<Softmax<A>> softmax_;
  LossPlan plan_{};
  std::optional<LogitsMemory<A>> memory_;
  std::optional<OrderedReduction<Softmax<A>>> merging_;
  Reduction reduction_ = Reduction::mean;
  double weight_ = 1;
  A* grads_ = nullptr;
};

/// The sum of all ranks' gradients of this rank's states, in rank order; collective.
template <class A>
void sum_own_states(Channel& channel, const GatheredStates<A>& states, const A* grads,
                    const RowView<A>& out) {
  const int self = channel.rank();
  const Index cols = out.cols;
  // As many rows at a time as fit the memory of the states.
  const Index slab = (states.size() + channel.size() - 1) / channel.size();
  Index longest = 0;
  for (int r = 0; r < channel.size(); ++r) longest = (std::max)(longest, states.count_of(r));
  for (Index first = 0; first < longest; first += slab) {
    const auto rows = [&](int rank) { return std::clamp(states.count_of(rank) - first, Index{0}, slab); };
    const auto bytes = [&](int rank) { return static_cast<std::size_t>(rows(rank) * cols) * sizeof(A); };
    const auto place_in = [&](int r) { return states.memory() + (r < self ? r : r - 1) * rows(self) * cols; };
    for (int r = 0; r < channel.size(); ++r) {
      channel.messages()[static_cast<std::size_t>(r)] = {grads + (states.begin(r) + first) * cols, bytes(r),
                                                         r == self ? nullptr : place_in(r), bytes(self)};
    }
    channel.exchange([&](int r) {
      const A* const terms = r == self ? grads + (states.begin(self) + first) * cols : place_in(r);
      for (Index i = 0; i < rows(self); ++i) {
        Row<A> sum(out.row(first + i), cols);
        const ConstRow<A> row(terms + i * cols, cols);
        if (r == 0) {
          sum = row;
        } else {
          sum += row;
        }
      }
    });
  }
}

/// The loss; also all gradients, if there is a make_out(), which makes or checks the gradient of the hidden states.
template <Scalar T, class H, class L, class MutableGrad, class MakeOut, class D>
[[nodiscard]] Accumulator<T> sharded_cross_entropy(const ShardedEmbedding<T>& table, const H& hidden,
                                                   const L& labels, const CrossEntropyOptions& options,
                                                   Operation operation, const MutableGrad& mutable_grad,
                                                   const MakeOut& make_out, const D& device) {
  using A = Accumulator<T>;
  constexpr bool with_gradients = !std::is_null_pointer_v<MutableGrad>;
  Channel& channel = channel_of(table.communicator());
  std::optional<ShardedHead<T>> head;
  std::optional<RowView<hidden_scalar_t<const H>>> rows;
  std::optional<RowView<A>> result;
  std::optional<RowView<A>> grad;
  Labels kept;
  Matrix<A> storage;
  ShardedLoss<T> loss(channel, operation);
  std::optional<OrderedReduction<A>> summing;
  const bool same = table.batch() == Batch::same;
  channel.agree(operation, [&](SharedArguments& arguments) {
    check_threads(device);
    head = checked_sharded_head(table, options.head);
    rows = checked_states(hidden, table.embedding_dim(), {"lm_head", "hidden"});
    if constexpr (with_gradients) result = make_out();
    kept = checked_labels(labels, shape_of_states(hidden), head->vocab_size, options.ignore_index);
    share_head(arguments, options.head);
    arguments.add("ignore_index", static_cast<Index>(options.ignore_index));
    arguments.add("reduction", reduction_words.data(), static_cast<std::size_t>(options.reduction));
    arguments.add_seed("workspace_bytes", options.workspace_bytes);
    if (same) {
      arguments.add_hash("hidden", hash_of(*rows));
      Hash hash;
      hash.add(kept.positions.data(), kept.positions.size() * sizeof(Index));
      hash.add(kept.labels.data(), kept.labels.size() * sizeof(Index));
      arguments.add_hash("labels", hash.value());
      const RowView<const A> states = rows_at(*rows, kept.positions, storage);
      loss.take(*head, states, kept.labels, table.first_row(), options, with_gradients);
      if constexpr (with_gradients) {
        summing.emplace(channel, kept.size() * table.embedding_dim());
        summing->allocate();
      }
    }
    if constexpr (with_gradients) grad = rows_of(mutable_grad());
  });
  const RowView<A>* const table_grad = with_gradients ? &*grad : nullptr;

  if (same) {
    const A value = loss.run(table_grad, device);
    if constexpr (with_gradients) {
      summing->allocate();  // the same buffers as before
      summing->run(loss.grads(), add_elements<A>);
      const RowView<const A> sums{loss.grads(), kept.size(), result->cols, result->cols};
      for (Index i = 0; i < kept.size(); ++i)
        Row<A>(result->row(i), result->cols) = ConstRow<A>(sums.row(i), sums.cols);
      spread_rows(*result, kept.positions);
    }
    return value;
  }

  GatheredStates<A> states(channel);
  std::vector<Index> all_labels;
  states.count(kept.size());
  channel.agree(operation, [&](SharedArguments&) {
    states.allocate(table.embedding_dim());
    all_labels.resize(static_cast<std::size_t>(states.size()));
  });
  states.exchange([&](Index i) { return rows->row(kept.positions[static_cast<std::size_t>(i)]); });
  std::copy(kept.labels.begin(), kept.labels.end(), all_labels.begin() + states.begin(channel.rank()));
  states.gather(all_labels.data(), 1);
  channel.agree(operation, [&](SharedArguments&) {
    loss.take(*head, states.rows(), all_labels, table.first_row(), options, with_gradients);
  });
  const A value = loss.run(table_grad, device);
  if constexpr (with_gradients) {
    sum_own_states(channel, states, loss.grads(), middle_rows(*result, 0, kept.size()));
    spread_rows(*result, kept.positions);
  }
  return value;
}

}  // namespace detail

template <Scalar T, HiddenInput<T, 2> H, Device D>
Matrix<Accumulator<T>> logits(const ShardedEmbedding<T>& wte, const H& hidden, const HeadOptions& options,
                              const D& device) {
  using A = Accumulator<T>;
  const auto head = detail::checked_sharded_head(wte, options);
  const auto rows = detail::checked_states(hidden, wte.embedding_dim(), {"lm_head", "hidden"});
  Matrix<A> out(rows.rows, head.own.vocab_size());
  Matrix<A> storage;
  const detail::RowView<A> result{out.data(), out.rows(), out.cols(), out.cols()};
  detail::form_logits(head.own, detail::widened_rows(rows, storage), 0, result, detail::HeadTiling{}, device);
  return out;
}

template <Scalar T, HiddenInput<T, 2> H, Device D>
TopK<Accumulator<T>> top_k(const ShardedEmbedding<T>& wte, const H& hidden, Index k,
                           const HeadOptions& options, const D& device) {
  using A = Accumulator<T>;
  constexpr auto operation = detail::Operation::top_k;
  detail::Channel& channel = channel_of(wte.communicator());
  const int ranks = channel.size();
  const int self = channel.rank();
  const bool same = wte.batch() == Batch::same;
  std::optional<detail::ShardedHead<T>> head;
  std::optional<detail::RowView<hidden_scalar_t<const H>>> rows;
  Matrix<A> storage;
  TopK<A> best;
  IdMatrix<std::int64_t> ids;  // this rank's candidates for all states
  Matrix<A> logits;
  detail::CandidateLists<A> lists;
  detail::GatheredStates<A> states(channel);
  Index own_first = 0;  // the states whose candidates this rank merges
  Index own_size = 0;
  const auto part = [&](int rank) { return rows->rows * rank / ranks; };
  // Finds this rank's candidates for states [first, first + size) of `all`.
  const auto find = [&](const detail::RowView<const A>& all, Index first, Index size) {
    IdMatrix<std::int64_t> some_ids(size, ids.cols());
    Matrix<A> some_logits(size, ids.cols());
    detail::find_top_k(head->own, detail::middle_rows(all, first, size), some_ids, some_logits,
                       detail::HeadTiling{}, device);
    ids.middleRows(first, size) = some_ids.array() + wte.first_row();
    logits.middleRows(first, size) = some_logits;
  };
  channel.agree(operation, [&](detail::SharedArguments& arguments) {
    detail::check_threads(device);
    head = detail::checked_sharded_head(wte, options);
    if (k < 0 || k > head->vocab_size) {
      throw ArgumentError("k", k,
                          "is outside [0, " + detail::to_text(head->vocab_size) + "], the vocabulary");
    }
    rows = detail::checked_states(hidden, wte.embedding_dim(), {"lm_head", "hidden"});
    detail::share_head(arguments, options);
    arguments.add("k", k);
    if (same) arguments.add_hash("hidden", detail::hash_of(*rows));
    best = {IdMatrix<std::int64_t>(rows->rows, k), Matrix<A>(rows->rows, k)};
    lists.lengths.resize(static_cast<std::size_t>(ranks));
    for (std::size_t r = 0; r < lists.lengths.size(); ++r)
      lists.lengths[r] = (std::min)(k, head->rows_of_rank(r));
  });
  const Index own_k = lists.lengths[static_cast<std::size_t>(self)];
  const auto first_of = [&](int rank) { return same ? part(rank) : states.begin(rank); };
  if (!same) {
    states.count(rows->rows);
    channel.agree(operation, [&](detail::SharedArguments&) { states.allocate(wte.embedding_dim()); });
    states.exchange([&](Index i) { return rows->row(i); });
  }
  channel.agree(operation, [&](detail::SharedArguments&) {
    const Index all = same ? rows->rows : states.size();
    ids.resize(all, own_k);
    logits.resize(all, own_k);
    own_first = first_of(self);
    own_size = first_of(self + 1) - own_first;
    lists.allocate(own_size);
    if (same) {
      find(detail::widened_rows(*rows, storage), 0, all);
    } else {
      // The states of each rank by themselves, as on that rank: bits may depend on the number of states.
      for (int r = 0; r < ranks; ++r) find(states.rows(), states.begin(r), states.count_of(r));
    }
  });
  const auto exchange_candidates = [&](auto& own, auto& of_ranks) {
    using E = typename std::decay_t<decltype(own)>::Scalar;
    for (int r = 0; r < ranks; ++r) {
      const auto place = static_cast<std::size_t>(r);
      const Index size = first_of(r + 1) - first_of(r);
      channel.messages()[place] = {own.data() + first_of(r) * own_k,
                                   static_cast<std::size_t>(size * own_k) * sizeof(E), of_ranks[place].data(),
                                   static_cast<std::size_t>(of_ranks[place].size()) * sizeof(E)};
    }
    channel.exchange();
    of_ranks[static_cast<std::size_t>(self)] = own.middleRows(own_first, own_size);
  };
  exchange_candidates(ids, lists.ids);
  exchange_candidates(logits, lists.logits);
  const Index first_result = same ? own_first : Index{0};
  for (Index i = 0; i < own_size; ++i) {
    lists.merge(i, k, best.ids.data() + (first_result + i) * k, best.logits.data() + (first_result + i) * k);
  }
  if (!same) return best;
  const auto gather = [&](auto& matrix) {
    using E = typename std::decay_t<decltype(matrix)>::Scalar;
    const auto bytes = [&](int r) {
      return static_cast<std::size_t>((part(r + 1) - part(r)) * k) * sizeof(E);
    };
    for (int r = 0; r < ranks; ++r) {
      channel.messages()[static_cast<std::size_t>(r)] = {matrix.data() + part(self) * k, bytes(self),
                                                         matrix.data() + part(r) * k, bytes(r)};
    }
    channel.exchange();
  };
  gather(best.ids);
  gather(best.logits);
  return best;
}

template <Scalar T, HiddenInput<T, 2> H, Ids L, HeadOutput<Accumulator<T>> Out, Device D>
Accumulator<T> cross_entropy_into(ShardedEmbedding<T>& wte, const H& hidden, const L& labels,
                                  Out&& grad_hidden, const CrossEntropyOptions& options, const D& device) {
  return detail::sharded_cross_entropy(
      wte, hidden, labels, options, detail::Operation::cross_entropy,
      [&] { return wte.shard().mutable_grad(); },
      [&] {
        return detail::checked_like(hidden, grad_hidden, wte.embedding_dim(), {"lm_head", "grad_hidden"});
      },
      device);
}

template <Scalar T, HiddenInput<T, 2> H, Ids L, Device D>
CrossEntropy<Accumulator<T>> cross_entropy(ShardedEmbedding<T>& wte, const H& hidden, const L& labels,
                                           const CrossEntropyOptions& options, const D& device) {
  CrossEntropy<Accumulator<T>> result{0, {}};
  result.loss = detail::sharded_cross_entropy(
      wte, hidden, labels, options, detail::Operation::cross_entropy,
      [&] { return wte.shard().mutable_grad(); },
      [&] {
        result.grad_hidden = Matrix<Accumulator<T>>(detail::all_rows(hidden).rows, wte.embedding_dim());
        return detail::all_rows(result.grad_hidden);
      },
      device);
  return result;
}

template <Scalar T, HiddenInput<T, 2> H, Ids L, Device D>
Accumulator<T> cross_entropy_loss(const ShardedEmbedding<T>& wte, const H& hidden, const L& labels,
                                  const CrossEntropyOptions& options, const D& device) {
  return detail::sharded_cross_entropy(wte, hidden, labels, options, detail::Operation::cross_entropy_loss,
                                       nullptr, nullptr, device);
}

}  // namespace gpt2
