// SPDX-License-Identifier: MIT
//
// The layers over several ranks against the same ones in one process.

#define EIGEN_USE_THREADS
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <filesystem>
#include <fstream>
#include <functional>
#include <gpt2/mpi.hpp>
#include <iterator>
#include <limits>
#include <new>
#include <random>
#include <string>
#include <type_traits>
#include <vector>

#include "ranks.hpp"

namespace {

// Allocations that fail: of operator new alone, so that MPI's own do not.
std::atomic<long> allocations_until_failure{-1};

}  // namespace

void* operator new(std::size_t size) {
  if (allocations_until_failure >= 0 && allocations_until_failure-- == 0) throw std::bad_alloc();
  if (void* const memory = std::malloc(size == 0 ? 1 : size)) return memory;
  throw std::bad_alloc();
}
void* operator new[](std::size_t size) { return operator new(size); }
void* operator new(std::size_t size, const std::nothrow_t& /*tag*/) noexcept {
  try {
    return operator new(size);
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmismatched-new-delete"  // it sees through one of the two
#endif
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t) noexcept { std::free(memory); }

namespace {

using gpt2::Batch;
using gpt2::Communicator;
using gpt2::GradientOrder;
using gpt2::Index;
using gpt2::Matrix;
using gpt2::OnRank;
using Ids = gpt2::IdMatrix<std::int64_t>;

template <class A, class B>
bool same_bits(const A& a, const B& b) {
  if (a.rows() != b.rows() || a.cols() != b.cols()) return false;
  for (Index i = 0; i < a.rows(); ++i) {
    for (Index j = 0; j < a.cols(); ++j) {
      const auto x = a.coeff(i, j);
      const decltype(x) y = b.coeff(i, j);
      if (std::memcmp(&x, &y, sizeof(x)) != 0) return false;
    }
  }
  return true;
}
template <class T>
bool same_bits(const gpt2::Tensor3<T>& a, const gpt2::Tensor3<T>& b) {
  return a.dimensions() == b.dimensions() && same_bits(gpt2::as_matrix(a), gpt2::as_matrix(b));
}

template <class T>
Matrix<T> drawn(Index rows, Index cols, std::uint64_t seed) {
  Matrix<T> matrix(rows, cols);
  gpt2::normal_(matrix, 1, seed);
  return matrix;
}

Ids drawn_ids(Index batch, Index length, Index bound, unsigned seed) {
  std::mt19937 random(seed);
  Ids ids(batch, length);
  for (Index i = 0; i < ids.size(); ++i) ids.data()[i] = static_cast<Index>(random()) % bound;
  return ids;
}

/// The arguments of each rank: ids and gradients of its own, or the same, and those that one process would get.
template <class T>
struct Batches {
  Ids own;
  Matrix<T> own_grad;
  Ids all;  // one sequence
  Matrix<T> all_grad;

  Batches(const Communicator& comm, Batch batch, Index bound, Index cols, unsigned seed) {
    const int parts = batch == Batch::same ? 1 : comm.size();
    std::vector<Ids> ids;
    std::vector<Matrix<T>> grads;
    Index total = 0;
    for (int r = 0; r < parts; ++r) {
      // One of them has nothing.
      const Index length = r == 1 ? 0 : 5 + r;
      ids.push_back(drawn_ids(2, length, bound, seed + static_cast<unsigned>(r)));
      grads.push_back(drawn<T>(2 * length, cols, seed + static_cast<unsigned>(r)));
      total += 2 * length;
    }
    const auto self = static_cast<std::size_t>(batch == Batch::same ? 0 : comm.rank());
    own = ids[self];
    own_grad = grads[self];
    all.resize(1, total);
    all_grad.resize(total, cols);
    Index begin = 0;
    for (std::size_t r = 0; r < ids.size(); ++r) {
      for (Index i = 0; i < ids[r].size(); ++i) all(0, begin + i) = ids[r].data()[i];
      all_grad.middleRows(begin, grads[r].rows()) = grads[r];
      begin += ids[r].size();
    }
  }
};

/// Two sizes: smaller than the number of ranks, and not divisible by it.
constexpr Index table_sizes[] = {2, 101};

template <class T>
void test_lookups(const Communicator& comm, Batch batch) {
  for (const Index size : table_sizes) {
    gpt2::Embedding<T> whole(size, 7, {.padding_idx = -1}, 3);
    gpt2::ShardedEmbedding<T> table(comm, batch, size, 7, {.padding_idx = -1}, 3);
    CHECK(table.num_embeddings() == size && table.embedding_dim() == 7);
    CHECK(table.options().padding_idx == size - 1);
    CHECK(table.first_row() == gpt2::shard_begin(size, comm.rank(), comm.size()));
    const Index rows = table.offsets()[static_cast<std::size_t>(comm.rank()) + 1] - table.first_row();
    CHECK(same_bits(table.shard().weight(), whole.weight().middleRows(table.first_row(), rows)));

    // NaN payloads and -0 arrive.
    auto weight = whole.mutable_weight();
    std::memset(static_cast<void*>(weight.data()), 0xFF, sizeof(T));
    weight(size - 1, 1) = -T(0);
    table = gpt2::ShardedEmbedding<T>(
        comm, batch, gpt2::Embedding<T>(Matrix<T>(weight.middleRows(table.first_row(), rows))),
        {.padding_idx = -1});
    const Batches<T> given(comm, batch, size, 7, 1);
    CHECK(same_bits(table(given.own), whole(given.own)));
    const std::vector<int> few =
        batch == Batch::same || comm.rank() == 0 ? std::vector<int>{1, 0, 1} : std::vector<int>{};
    CHECK(same_bits(table(few), whole(few)));
    // One row more than is written: blocks of a matrix without rows begin beside a null pointer.
    const Index n = given.own.size();
    Matrix<T> out = Matrix<T>::Zero(n + 1, 9);
    table.forward_into(given.own, out.block(0, 2, n, 7));
    Matrix<T> expected = Matrix<T>::Zero(n + 1, 9);
    whole.forward_into(given.own, expected.block(0, 2, n, 7));
    CHECK(same_bits(out, expected));
    Matrix<double> wide(given.own.size(), 7);
    Matrix<double> expected_wide(given.own.size(), 7);
    table.forward_into(given.own, wide);
    whole.forward_into(given.own, expected_wide);
    CHECK(same_bits(wide, expected_wide));
  }
  // Parts of the caller's, all rows on the last rank.
  const gpt2::Embedding<T> whole(5, 3);
  const bool last = comm.rank() == comm.size() - 1;
  const gpt2::ShardedEmbedding<T> table(comm, batch, last ? whole : gpt2::Embedding<T>(Matrix<T>(0, 3)));
  CHECK(table.num_embeddings() == 5);
  CHECK(same_bits(table({4, 0, 2}), whole({4, 0, 2})));
  // No rows and no columns.
  const gpt2::ShardedEmbedding<T> none(comm, batch, 0, 4);
  CHECK(none(std::vector<int>{}).rows() == 0);
  const gpt2::ShardedEmbedding<T> thin(comm, batch, 3, 0);
  CHECK(thin({1, 2}).cols() == 0);
}

template <class T>
void test_gradients(const Communicator& comm, Batch batch, GradientOrder order) {
  using A = gpt2::Accumulator<T>;
  for (const Index size : table_sizes) {
    gpt2::ShardedEmbedding<T> table(comm, batch, size, 6, {.padding_idx = 1, .gradient_order = order});
    gpt2::Embedding<T> whole(size, 6, {.padding_idx = 1});
    const Index rows = table.shard().num_embeddings();
    const auto part = [&](const auto& matrix) { return matrix.middleRows(table.first_row(), rows); };
    for (unsigned step = 0; step < 2; ++step) {
      const Batches<A> given(comm, batch, size, 6, 10 + step);
      gpt2::SparseGradient<A> sparse;
      if (batch == Batch::same || order == GradientOrder::tokens) {
        whole.backward(given.all, given.all_grad);
        sparse = whole.sparse_backward(given.all, given.all_grad);
      } else {
        for (int r = 0; r < comm.size(); ++r) {
          const Index length = r == 1 ? 0 : 5 + r;
          const auto one =
              whole.sparse_backward(drawn_ids(2, length, size, 10 + step + static_cast<unsigned>(r)),
                                    drawn<A>(2 * length, 6, 10 + step + static_cast<unsigned>(r)));
          one.add_to(whole.mutable_grad());
          sparse.merge(one);
        }
      }
      table.backward(given.own, given.own_grad);
      CHECK(same_bits(table.shard().grad(), part(whole.mutable_grad())));
      const auto own = table.sparse_backward(given.own, given.own_grad);
      Index count = 0;
      for (Index i = 0; i < sparse.rows.size(); ++i) {
        if (sparse.rows[i] < table.first_row() || sparse.rows[i] >= table.first_row() + rows) continue;
        CHECK(count < own.rows.size() && own.rows[count] == sparse.rows[i] - table.first_row());
        if (count < own.rows.size()) CHECK(same_bits(own.values.row(count), sparse.values.row(i)));
        ++count;
      }
      CHECK(count == own.rows.size());
    }
  }
}

template <class T>
void test_sum(const Communicator& comm, Batch batch, GradientOrder order) {
  using A = gpt2::Accumulator<T>;
  const gpt2::GPT2Config config{.vocab_size = 23, .n_positions = 9, .n_embd = 6, .n_layer = 1, .n_head = 1};
  gpt2::GPT2Embeddings<T> whole(config, 5);
  gpt2::ShardedGPT2Embeddings<T> layer(comm, batch, config, 5, {.gradient_order = order});
  const Index rows = layer.wte.shard().num_embeddings();
  CHECK(same_bits(layer.wte.shard().weight(), whole.wte.weight().middleRows(layer.wte.first_row(), rows)));
  CHECK(same_bits(layer.wpe.weight(), whole.wpe.weight()));
  CHECK(layer.parameters()[0].embedding == &layer.wte.shard() &&
        layer.parameters()[1].embedding == &layer.wpe);
  const Batches<A> given(comm, batch, 23, 6, 1);
  CHECK(same_bits(layer(given.own), whole(given.own)));
  CHECK(same_bits(layer(given.own, gpt2::PastLength{1}), whole(given.own, gpt2::PastLength{1})));
  const Ids positions = drawn_ids(2, given.own.cols(), 9, 4);
  CHECK(same_bits(layer(given.own, positions), whole(given.own, positions)));
  CHECK(same_bits(layer({1, 2}, {0, 8}), whole({1, 2}, {0, 8})));
  // Gradients: one process's, to which the ranks' batches come in rank order.
  const int parts = batch == Batch::same ? 1 : comm.size();
  for (int step = 0; step < 2; ++step) {
    layer.backward(given.own, gpt2::PastLength{1}, given.own_grad);
    for (int r = 0; r < parts; ++r) {
      const Index length = r == 1 ? 0 : 5 + r;
      const Ids ids = drawn_ids(2, length, 23, 1 + static_cast<unsigned>(r));
      const Matrix<A> grad = drawn<A>(2 * length, 6, 1 + static_cast<unsigned>(r));
      if (order == GradientOrder::tokens || batch == Batch::same) {
        whole.backward(ids, gpt2::PastLength{1}, grad);
      } else {
        const gpt2::IdVector<Index> places = gpt2::arange(Index{1}, length + 1);
        whole.wte.sparse_backward(ids, grad).add_to(whole.wte.mutable_grad());
        const Ids all_places = places.transpose().replicate(2, 1);
        whole.wpe.sparse_backward(all_places, grad).add_to(whole.wpe.mutable_grad());
      }
    }
    CHECK(same_bits(layer.wpe.grad(), whole.wpe.mutable_grad()));
    CHECK(same_bits(layer.wte.shard().grad(),
                    whole.wte.mutable_grad().middleRows(layer.wte.first_row(), rows)));
  }
}

template <class A>
void test_all_reduce(const Communicator& comm) {
  for (const Index size : {Index{0}, Index{1}, Index{7}, Index{300}, Index{100000}}) {
    Matrix<A> sum = drawn<A>(size, 3, 0);
    for (int r = 1; r < comm.size(); ++r) sum += drawn<A>(size, 3, static_cast<std::uint64_t>(r));
    Matrix<A> own = drawn<A>(size, 3, static_cast<std::uint64_t>(comm.rank()));
    gpt2::all_reduce(comm, own);
    CHECK(same_bits(own, sum));
    // On some ranks a part of a larger matrix.
    Matrix<A> packed = drawn<A>(size, 3, static_cast<std::uint64_t>(comm.rank()));
    if (comm.rank() % 2 == 0) {
      Matrix<A> larger = Matrix<A>::Ones(size + 1, 5);
      larger.block(0, 1, size, 3) = packed;
      gpt2::all_reduce(comm, larger.block(0, 1, size, 3));
      CHECK(same_bits(larger.block(0, 1, size, 3), sum));
      CHECK((larger.row(size).array() == 1).all());
      CHECK((larger.col(0).array() == 1).all() && (larger.col(4).array() == 1).all());
    } else {
      gpt2::all_reduce(comm, Eigen::Map<Matrix<A>>(packed.data(), size, 3));
      CHECK(same_bits(packed, sum));
    }
  }
  const auto sparse_of = [&](int r) {
    std::vector<Index> rows;
    for (Index row = 0; row < 40; ++row) {
      if (r != 1 && (row * (r + 3)) % 7 < 3) rows.push_back(row);
    }
    gpt2::SparseGradient<A> sparse{
        gpt2::IdVector<Index>(static_cast<Index>(rows.size())),
        drawn<A>(static_cast<Index>(rows.size()), 4, static_cast<std::uint64_t>(r))};
    for (std::size_t i = 0; i < rows.size(); ++i) sparse.rows[static_cast<Index>(i)] = rows[i];
    return sparse;
  };
  gpt2::SparseGradient<A> merged = sparse_of(0);
  for (int r = 1; r < comm.size(); ++r) merged.merge(sparse_of(r));
  const gpt2::SparseGradient<A> own = sparse_of(comm.rank());
  const gpt2::SparseGradient<A> sum = gpt2::all_reduce(comm, own);
  CHECK(same_bits(sum.rows, merged.rows) && same_bits(sum.values, merged.values));
}

template <class A>
bool is_close(const Matrix<A>& found, const Matrix<A>& expected) {
  if (found.rows() != expected.rows() || found.cols() != expected.cols()) return false;
  if (found.size() == 0) return true;
  const A most = expected.array().abs().maxCoeff();
  return (found - expected).array().abs().maxCoeff() <= 64 * std::numeric_limits<A>::epsilon() * most;
}

template <class T>
void test_head(const Communicator& comm, Batch batch) {
  using A = gpt2::Accumulator<T>;
  // Parts that begin at multiples of 256, and others; with more states than chunks have, and a padded vocabulary.
  struct Case {
    Index rows;
    Index vocab_size;
    Index states;
    std::size_t workspace;
    double cap;
  };
  const Index large = 2048 * comm.size() + 100;
  for (const Case& c : {Case{large, 0, 3, 64 << 20, 0}, Case{large, large - 2000, 70, 70 * 4096, 0},
                        Case{101, 60, 9, 64 << 20, 1.5}, Case{2, 1, 4, 0, 0}, Case{101, 0, 0, 1000, 0}}) {
    gpt2::Embedding<T> whole(c.rows, 16, {}, 2);
    gpt2::ShardedEmbedding<T> table(comm, batch, c.rows, 16, {}, 2);
    const gpt2::HeadOptions options{.vocab_size = c.vocab_size, .logit_soft_cap = c.cap};
    const Index vocab = c.vocab_size == 0 ? c.rows : c.vocab_size;
    const int parts = batch == Batch::same ? 1 : comm.size();
    const auto count = [&](int r) { return r == 1 ? Index{0} : c.states + r; };
    const auto states = [&](int r) {
      return Matrix<A>(drawn<A>(count(r), 16, 50 + static_cast<std::uint64_t>(r)));
    };
    const auto labels = [&](int r) {
      gpt2::IdVector<std::int64_t> ids =
          drawn_ids(1, count(r), vocab, 60 + static_cast<unsigned>(r)).transpose();
      for (Index i = 2; i < ids.size(); i += 3) ids[i] = -100;
      return ids;
    };
    const int self = batch == Batch::same ? 0 : comm.rank();
    Matrix<A> hidden = states(self);

    const Index rows = table.shard().num_embeddings();
    const Matrix<A> part = gpt2::logits(table, hidden, options);
    const Index scored = std::clamp(vocab - table.first_row(), Index{0}, rows);
    CHECK(part.rows() == hidden.rows() && part.cols() == scored);
    const Matrix<A> all = gpt2::logits(whole, hidden, options);
    const gpt2::TopK<A> best = gpt2::top_k(table, hidden, std::min<Index>(vocab, 40), options);
    const gpt2::TopK<A> expected_best = gpt2::top_k(whole, hidden, std::min<Index>(vocab, 40), options);
    if (c.rows == large || comm.size() == 1) {
      if (all.rows() > 0) CHECK(same_bits(part, all.middleCols(table.first_row(), scored)));
      CHECK(same_bits(best.ids, expected_best.ids) && same_bits(best.logits, expected_best.logits));
    } else {
      CHECK(is_close<A>(best.logits, expected_best.logits));
    }
    if (batch == Batch::same && c.rows == large && c.states == 3) {
      // Ties, infinities and NaN in whichever shard.
      Matrix<A> odd = hidden;
      odd.row(0).setZero();
      odd(1, 0) = std::numeric_limits<A>::infinity();
      odd(2, 0) = std::numeric_limits<A>::quiet_NaN();
      const auto found = gpt2::top_k(table, odd, 30);
      const auto expected = gpt2::top_k(whole, odd, 30);
      CHECK(same_bits(found.ids, expected.ids));
      const std::vector<int> some(3, 5);
      CHECK(std::isnan(gpt2::cross_entropy_loss(table, odd, some)));
      const auto r = gpt2::cross_entropy(table, odd, some);
      CHECK(std::isnan(r.loss) && r.grad_hidden.row(1).array().isNaN().all() &&
            !r.grad_hidden.row(0).array().isNaN().any());
      table.shard().zero_grad();
    }

    // One process with all states.
    Index total = 0;
    for (int r = 0; r < parts; ++r) total += count(r);
    Matrix<A> all_hidden(total, 16);
    gpt2::IdVector<std::int64_t> all_labels(total);
    Index begin = 0;
    Index own_begin = 0;
    for (int r = 0; r < parts; ++r) {
      if (r == self) own_begin = begin;
      all_hidden.middleRows(begin, count(r)) = states(r);
      all_labels.segment(begin, count(r)) = labels(r);
      begin += count(r);
    }
    for (const auto reduction : {gpt2::Reduction::mean, gpt2::Reduction::sum}) {
      const gpt2::CrossEntropyOptions loss_options{
          .reduction = reduction, .head = options, .workspace_bytes = c.workspace};
      whole.zero_grad();
      table.shard().zero_grad();
      const auto expected = gpt2::cross_entropy(whole, all_hidden, all_labels, loss_options);
      const auto found = gpt2::cross_entropy(table, hidden, labels(self), loss_options);
      const A loss = gpt2::cross_entropy_loss(table, hidden, labels(self), loss_options);
      CHECK(std::memcmp(&loss, &found.loss, sizeof(A)) == 0 || (std::isnan(loss) && std::isnan(found.loss)));
      const Matrix<A> expected_hidden = expected.grad_hidden.middleRows(own_begin, count(self));
      const Matrix<A> expected_grad = whole.mutable_grad().middleRows(table.first_row(), rows);
      const Matrix<A> found_grad = table.shard().grad();
      if (comm.size() == 1) {
        CHECK(std::memcmp(&expected.loss, &found.loss, sizeof(A)) == 0);
        CHECK(same_bits(found.grad_hidden, expected_hidden) && same_bits(found_grad, expected_grad));
      } else {
        CHECK(std::isnan(expected.loss)
                  ? std::isnan(found.loss)
                  : std::abs(found.loss - expected.loss) <=
                        64 * std::numeric_limits<A>::epsilon() * std::abs(expected.loss));
        const A most_hidden =
            expected.grad_hidden.size() > 0 ? expected.grad_hidden.array().abs().maxCoeff() : 0;
        const A most = whole.mutable_grad().array().abs().maxCoeff();
        const A bound = 64 * std::numeric_limits<A>::epsilon();
        CHECK(((found.grad_hidden - expected_hidden).array().abs() <= bound * most_hidden).all());
        CHECK(((found_grad - expected_grad).array().abs() <= bound * most).all());
      }
      // Again, into memory of the caller's: the same bits.
      Matrix<A> again(hidden.rows(), 16);
      table.shard().zero_grad();
      (void)gpt2::cross_entropy_into(table, hidden, labels(self), again, loss_options);
      CHECK(same_bits(again, found.grad_hidden) && same_bits(table.shard().grad(), found_grad));
    }
  }
}

/// Every collective operation as the tests of faults call it.
struct Operations {
  using T = float;
  const Communicator& comm;
  gpt2::ShardedEmbedding<T> table;
  gpt2::ShardedGPT2Embeddings<T> layer;
  gpt2::ShardedEmbedding<T> moved_table = table;  // arguments by value are copied by the caller
  gpt2::Embedding<T> moved_wpe = gpt2::Embedding<T>(9, 6);
  gpt2::Embedding<T> moved_rows = gpt2::Embedding<T>(3, 6);
  Ids ids = drawn_ids(2, 4, 20, 1);
  Matrix<T> grad = drawn<T>(8, 6, 1);
  gpt2::IdVector<std::int64_t> labels = drawn_ids(1, 8, 20, 2).transpose();
  gpt2::SparseGradient<T> sparse = gpt2::Embedding<T>(20, 6).sparse_backward(ids, grad);
  Matrix<T> out = Matrix<T>::Constant(8, 6, 7);
  std::vector<std::pair<std::string, std::function<void()>>> all;

  Operations(const Communicator& c, Batch batch, GradientOrder order)
      : comm(c), table(c, batch, 20, 6, {.gradient_order = order}), layer(table, gpt2::Embedding<T>(9, 6)) {
    all = {
        {"Communicator", [this] { (void)Communicator(comm.get()); }},
        {"ShardedEmbedding", [this, batch] { (void)gpt2::ShardedEmbedding<T>(comm, batch, 20, 6); }},
        {"ShardedGPT2Embeddings",
         [this] { (void)gpt2::ShardedGPT2Embeddings<T>(std::move(moved_table), std::move(moved_wpe)); }},
        {"ShardedEmbedding",
         [this, batch] { (void)gpt2::ShardedEmbedding<T>(comm, batch, std::move(moved_rows)); }},
        {"lookup", [this] { table.forward_into(ids, out); }},
        {"sum", [this] { layer.forward_into(ids, out); }},
        {"backward", [this] { table.backward(ids, grad); }},
        {"sparse_backward", [this] { (void)table.sparse_backward(ids, grad); }},
        {"backward of the sum", [this] { layer.backward(ids, gpt2::PastLength{0}, grad); }},
        {"all_reduce(dense)", [this] { gpt2::all_reduce(comm, out); }},
        {"all_reduce(sparse)", [this] { (void)gpt2::all_reduce(comm, sparse); }},
        {"top_k", [this] { (void)gpt2::top_k(table, grad, 3); }},
        {"cross_entropy_loss", [this] { (void)gpt2::cross_entropy_loss(table, grad, labels); }},
        {"cross_entropy", [this] { (void)gpt2::cross_entropy_into(table, grad, labels, out); }},
    };
  }

  /// Whether the state that must not change is as before.
  [[nodiscard]] bool is_as_before(const Operations& before) const {
    const auto same_grad = [](const gpt2::Embedding<T>& a, const gpt2::Embedding<T>& b) {
      if (!a.has_grad()) return !b.has_grad();
      return b.has_grad() ? same_bits(a.grad(), b.grad()) : (a.grad().array() == 0).all();
    };
    return same_bits(out, before.out) && same_bits(grad, before.grad) &&
           same_grad(table.shard(), before.table.shard()) &&
           same_grad(layer.wte.shard(), before.layer.wte.shard()) && same_grad(layer.wpe, before.layer.wpe) &&
           same_bits(table.shard().weight(), before.table.shard().weight());
  }
};

void test_memory(const Communicator& comm, Batch batch, GradientOrder order,
                 const std::vector<std::string>& names = {}) {
  const int last = comm.size() - 1;
  Operations before(comm, batch, order);
  for (std::size_t o = 0; o < before.all.size(); ++o) {
    if (!names.empty() && std::find(names.begin(), names.end(), before.all[o].first) == names.end()) continue;
    bool succeeded = false;
    for (long n = 0; !succeeded && n < 400; ++n) {
      // A channel of its own, whose buffers have to be allocated.
      const Communicator fresh(comm.get());
      Operations now(fresh, batch, order);
      if (comm.rank() == last) allocations_until_failure = n;
      try {
        now.all[o].second();
        succeeded = true;
      } catch (const OnRank<std::bad_alloc>& error) {
        allocations_until_failure = -1;
        CHECK(error.rank() == last);
        CHECK(error.what() == "rank " + std::to_string(last) + ": std::bad_alloc");
        CHECK(now.is_as_before(before));
      } catch (const std::exception& error) {
        allocations_until_failure = -1;
        check(false, (before.all[o].first + ": " + error.what()).c_str(), __LINE__);
      }
      allocations_until_failure = -1;
      int one = succeeded ? 1 : 0;
      int both[2] = {one, -one};
      MPI_Allreduce(MPI_IN_PLACE, both, 2, MPI_INT, MPI_MAX, comm.get());
      CHECK(both[0] == -both[1]);  // on all ranks or on none
      (void)now.table({1, 2});     // the communicator can be used on
    }
    CHECK(succeeded);
  }
}

void test_steps(const Communicator& comm, Batch batch) {
  if (comm.size() == 1) return;
  Operations now(comm, batch, GradientOrder::tokens);
  const Operations before = [&] { return Operations(comm, batch, GradientOrder::tokens); }();
  for (std::size_t a = 0; a < now.all.size(); ++a) {
    const std::size_t b = (a + 1) % now.all.size();
    const std::string text =
        TEXT_OF(MpiError, 1, (comm.rank() == 1 ? now.all[b].second() : now.all[a].second()));
    CHECK(text ==
          "[gpt2.mpi_error] rank 1: called " + now.all[b].first + " where rank 0 called " + now.all[a].first);
    CHECK(now.is_as_before(before));
  }
  CHECK(now.table({1, 2}).rows() == 2);
}

void test_arguments(const Communicator& comm, Batch batch) {
  using gpt2::ArgumentError;
  using T = float;
  const int last = comm.size() - 1;
  const bool wrong = comm.rank() == last;
  const std::string who = "rank " + std::to_string(last) + ": ";
  Operations now(comm, batch, GradientOrder::tokens);
  const Operations before(comm, batch, GradientOrder::tokens);

  Ids ids = now.ids;
  if (wrong) ids(1, 3) = 20;
  const std::string fault = who + "embedding: ids[1, 3] = 20 is outside [0, 20)";
  CHECK(TEXT_OF(IndexError, last, now.table(ids)) == "[gpt2.index_error] " + fault);
  CHECK(TEXT_OF(IndexError, last, now.table.backward(ids, now.grad)) == "[gpt2.index_error] " + fault);
  CHECK(TEXT_OF(IndexError, last, now.table.sparse_backward(ids, now.grad)) == "[gpt2.index_error] " + fault);
  const std::string sum_fault = who + "wte: input_ids[1, 3] = 20 is outside [0, 20)";
  CHECK(TEXT_OF(IndexError, last, now.layer(ids)) == "[gpt2.index_error] " + sum_fault);
  CHECK(TEXT_OF(IndexError, last, now.layer.backward(ids, now.grad)) == "[gpt2.index_error] " + sum_fault);
  CHECK(TEXT_OF(IndexError, last, now.layer(now.ids, gpt2::PastLength{wrong ? 6 : 0}))
            .starts_with("[gpt2.index_error] " + who + "wpe: position_ids"));
  CHECK(TEXT_OF(ArgumentError, last, now.layer(now.ids, gpt2::PastLength{wrong ? -1 : 0})) ==
        "[gpt2.argument_error] " + who + "past_length = -1 is negative");
  gpt2::IdVector<std::int64_t> labels = now.labels;
  if (wrong) labels[5] = -7;
  CHECK(TEXT_OF(IndexError, last, gpt2::cross_entropy(now.table, now.grad, labels)) ==
        "[gpt2.index_error] " + who +
            "lm_head: labels[5] = -7 is outside [0, 20), and not ignore_index, -100");
  CHECK(TEXT_OF(IndexError, last, gpt2::cross_entropy_loss(now.table, now.grad, labels)).size() > 20);
  try {
    (void)now.table(ids);
  } catch (const gpt2::IndexError& error) {
    CHECK(error.table() == "embedding" && error.name() == "ids" && error.value() == 20 &&
          error.bound() == 20);
    CHECK(error.coordinates() == std::vector<std::int64_t>{1, 3});
  }

  Matrix<T> grad(wrong ? 7 : 8, 6);
  grad.setZero();
  CHECK(TEXT_OF(ShapeError, last, now.table.backward(now.ids, grad)) ==
        "[gpt2.shape_error] " + who + "embedding: grad_output is [7, 6], expected [8, 6]");
  CHECK(TEXT_OF(ShapeError, last, now.table.sparse_backward(now.ids, grad)).size() > 20);
  CHECK(TEXT_OF(ShapeError, last, now.table.forward_into(now.ids, grad)).size() > 20);
  CHECK(TEXT_OF(ShapeError, last, now.layer.forward_into(now.ids, grad)).size() > 20);
  CHECK(TEXT_OF(ShapeError, last, now.layer.backward(now.ids, grad)).size() > 20);
  Matrix<T> narrow(8, wrong ? 5 : 6);
  narrow.setZero();
  CHECK(TEXT_OF(ShapeError, last, gpt2::top_k(now.table, narrow, 2)) ==
        "[gpt2.shape_error] " + who + "lm_head: hidden is [8, 5], expected [8, 6]");
  CHECK(TEXT_OF(ShapeError, last, gpt2::cross_entropy(now.table, narrow, now.labels)).size() > 20);
  gpt2::SparseGradient<T> sparse = now.sparse;
  if (wrong) std::swap(sparse.rows[0], sparse.rows[1]);
  CHECK(TEXT_OF(ArgumentError, last, gpt2::all_reduce(comm, sparse))
            .starts_with("[gpt2.argument_error] " + who + "rows[1]"));
  CHECK(TEXT_OF(ArgumentError, last, gpt2::top_k(now.table, now.grad, wrong ? 21 : 2)) ==
        "[gpt2.argument_error] " + who + "k = 21 is outside [0, 20], the vocabulary");
  CHECK(TEXT_OF(ArgumentError, last, gpt2::top_k(now.table, now.grad, 2, {.vocab_size = wrong ? 21 : 0})) ==
        "[gpt2.argument_error] " + who + "vocab_size = 21 is outside [0, 20]");
  CHECK(TEXT_OF(ArgumentError, last, gpt2::ShardedEmbedding<T>(comm, batch, wrong ? -1 : 3, 2)) ==
        "[gpt2.argument_error] " + who + "num_embeddings = -1 is negative");
  CHECK(TEXT_OF(ArgumentError, last,
                gpt2::ShardedEmbedding<T>(comm, batch, 3, 2, {.padding_idx = wrong ? 3 : 0})) ==
        "[gpt2.argument_error] " + who + "padding_idx = 3 is outside [-3, 3)");
  const gpt2::EmbeddingOptions own_options{.padding_idx = wrong ? std::optional<Index>(0) : std::nullopt};
  CHECK(TEXT_OF(ArgumentError, last,
                gpt2::ShardedEmbedding<T>(comm, batch, gpt2::Embedding<T>(1, 2, own_options)))
            .starts_with("[gpt2.argument_error] " + who + "padding_idx = 0"));
  gpt2::GPT2Config config{
      .vocab_size = 20, .n_positions = 9, .n_embd = 6, .n_layer = wrong ? 0 : 1, .n_head = 1};
  CHECK(TEXT_OF(ConfigError, last, gpt2::ShardedGPT2Embeddings<T>(comm, batch, config)) ==
        "[gpt2.config_error] " + who + "n_layer = 0 is less than 1");
  gpt2::ShardedEmbedding<T> changed = now.table;
  if (wrong) changed.shard() = gpt2::Embedding<T>(50, 6);
  CHECK(TEXT_OF(ShapeError, last, changed(now.ids))
            .starts_with("[gpt2.shape_error] " + who + "shard is [50, 6]"));
  // An error of the caller's own iterators.
  struct Thrower {
    std::int64_t operator()(Index) const { throw 3; }
  };
  if (wrong) {
    const auto bad = gpt2::IdVector<std::int64_t>::NullaryExpr(2, Thrower());
    CHECK(TEXT_OF(Error, last, now.table(bad)) == "[gpt2.error] " + who + "an exception of an unknown type");
  } else {
    const gpt2::IdVector<std::int64_t> good = gpt2::IdVector<std::int64_t>::Zero(2);
    CHECK(TEXT_OF(Error, last, now.table(good)).starts_with("[gpt2.error] "));
  }
  CHECK(now.is_as_before(before));

  // Arguments that must be the same, and are not.
  if (comm.size() == 1) return;
  const auto differs = [&](const std::string& text) { return "[gpt2.argument_error] " + who + text; };
  CHECK(TEXT_OF(ArgumentError, last, gpt2::top_k(now.table, now.grad, wrong ? 3 : 2)) ==
        differs("k = 3 is not rank 0's, 2"));
  CHECK(
      TEXT_OF(ArgumentError, last, gpt2::ShardedEmbedding<T>(comm, wrong ? Batch::own : Batch::same, 3, 2)) ==
      differs("batch = own is not rank 0's, same"));
  CHECK(TEXT_OF(ArgumentError, last, gpt2::ShardedEmbedding<T>(comm, batch, 3, wrong ? 2 : 3)) ==
        differs("embedding_dim = 2 is not rank 0's, 3"));
  CHECK(TEXT_OF(ArgumentError, last,
                gpt2::ShardedEmbedding<T>(comm, batch, 3, 2,
                                          {.padding_idx = wrong ? std::optional<Index>(1) : std::nullopt})) ==
        differs("padding_idx = 1 is not rank 0's, none"));
  Matrix<T> one_more(wrong ? 3 : 2, 2);
  one_more.setOnes();
  CHECK(TEXT_OF(ArgumentError, last, gpt2::all_reduce(comm, one_more)) ==
        differs("rows = 3 is not rank 0's, 2"));
  CHECK((one_more.array() == 1).all());
  gpt2::SparseGradient<T> none{gpt2::IdVector<Index>(0), Matrix<T>(0, wrong ? 3 : 2)};
  CHECK(TEXT_OF(ArgumentError, last, gpt2::all_reduce(comm, none)) ==
        differs("values = 3 is not rank 0's, 2"));
  gpt2::Embedding<T> wpe(9, 6);
  if (wrong) wpe.mutable_weight()(8, 5) += 1;
  CHECK(TEXT_OF(ArgumentError, last, gpt2::ShardedGPT2Embeddings<T>(now.table, wpe))
            .starts_with(differs("wpe = ")));
  if (batch == Batch::own) return;
  ids = now.ids;
  if (wrong) ids(0, 0) = (ids(0, 0) + 1) % 20;
  const std::string text = TEXT_OF(ArgumentError, last, now.table(ids));
  CHECK(text.starts_with(differs("ids = ")) && text.ends_with(" is a hash of other values than rank 0's"));
  Matrix<T> other = now.grad;
  if (wrong) other(7, 5) += 1;
  CHECK(TEXT_OF(ArgumentError, last, now.table.backward(now.ids, other))
            .starts_with(differs("grad_output = ")));
  CHECK(TEXT_OF(ArgumentError, last, gpt2::top_k(now.table, other, 2)).starts_with(differs("hidden = ")));
  labels = now.labels;
  if (wrong) labels[0] = -100;
  CHECK(TEXT_OF(ArgumentError, last, gpt2::cross_entropy(now.table, now.grad, labels))
            .starts_with(differs("labels = ")));
  CHECK(now.is_as_before(before));
}

void test_messages_do_not_meet(const Communicator& comm) {
  // A receive of the user's from any rank, on the communicator that was duplicated.
  if (comm.size() == 1) return;
  int value = -1;
  MPI_Request request = MPI_REQUEST_NULL;
  if (comm.rank() == 0) MPI_Irecv(&value, 1, MPI_INT, MPI_ANY_SOURCE, MPI_ANY_TAG, MPI_COMM_WORLD, &request);
  const gpt2::ShardedEmbedding<float> table(comm, Batch::own, 100, 8);
  (void)table({1, 60, 99});
  const int sent = 17;
  if (comm.rank() == 1) MPI_Send(&sent, 1, MPI_INT, 0, 5, MPI_COMM_WORLD);
  MPI_Wait(&request, MPI_STATUS_IGNORE);
  CHECK(comm.rank() != 0 || value == 17);
}

void test_parts() {
  CHECK(gpt2::shard_begin(10, 0, 3) == 0 && gpt2::shard_begin(10, 1, 3) == 3 &&
        gpt2::shard_begin(10, 2, 3) == 6);
  CHECK(gpt2::shard_begin(10, 3, 3) == 10);
  CHECK(gpt2::shard_begin(50257, 1, 4) == 12544 && gpt2::shard_begin(50257, 4, 4) == 50257);
  CHECK(gpt2::shard_begin(2047 * 2, 1, 2) == 2047 && gpt2::shard_begin(2048 * 2, 1, 2) == 2048);
  const Index huge = (std::numeric_limits<Index>::max)();
  CHECK(gpt2::shard_begin(huge, 1023, 1024) == (huge / 1024 * 1023 + 1023 * 1023 / 1024) / 256 * 256);
}

void test_threads(const Communicator& comm, Batch batch) {
  Eigen::ThreadPool pool(2);
  const Eigen::ThreadPoolDevice device(&pool, 2);
  gpt2::ShardedEmbedding<float> table(comm, batch, 300, 64);
  gpt2::ShardedEmbedding<float> other = table;
  const Ids ids = drawn_ids(4, 50, 300, batch == Batch::same ? 1 : static_cast<unsigned>(comm.rank()));
  const Matrix<float> grad =
      drawn<float>(200, 64, batch == Batch::same ? 1 : static_cast<std::uint64_t>(comm.rank()));
  CHECK(same_bits(table(ids, device), table(ids)));
  table.backward(ids, grad, device);
  other.backward(ids, grad);
  CHECK(same_bits(table.shard().grad(), other.shard().grad()));
}

template <class T>
void test_scalar(const Communicator& comm, std::initializer_list<Batch> batches) {
  for (const Batch batch : batches) {
    test_lookups<T>(comm, batch);
    for (const auto order : {GradientOrder::tokens, GradientOrder::ranks}) {
      test_gradients<T>(comm, batch, order);
      test_sum<T>(comm, batch, order);
    }
    test_head<T>(comm, batch);
  }
}

std::string bytes_of(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

/// In a folder that is there, and that all ranks see.
void test_checkpoints(const Communicator& comm, const std::filesystem::path& folder) {
  using Sharded = gpt2::ShardedGPT2Embeddings<float>;
  const int last = comm.size() - 1;
  const std::string who = "rank " + std::to_string(last) + ": ";
  const gpt2::GPT2Config config{.vocab_size = 33, .n_positions = 9, .n_embd = 6, .n_layer = 1, .n_head = 1};
  const std::filesystem::path one = folder / ("one" + std::to_string(comm.rank()));
  const std::filesystem::path all = folder / "all";
  if (comm.rank() == 0) std::filesystem::remove_all(all);
  const gpt2::GPT2Embeddings<float> whole(config, 3);
  gpt2::save_pretrained(one, config, whole);
  const Sharded layer(comm, Batch::own, config, 3);
  for (int i = 0; i < 2; ++i) {  // the second time in place of the first
    gpt2::save_pretrained(all, config, layer);
    CHECK(bytes_of(all / "model.safetensors") == bytes_of(one / "model.safetensors"));
    CHECK(bytes_of(all / "config.json") == bytes_of(one / "config.json"));
  }
  for (const auto mode : {gpt2::LoadMode::mapped, gpt2::LoadMode::copied}) {
    const auto loaded = gpt2::from_pretrained<Sharded>(one, comm, Batch::own, {}, mode);
    CHECK(same_bits(loaded.wte.shard().weight(), layer.wte.shard().weight()));
    CHECK(same_bits(loaded.wpe.weight(), layer.wpe.weight()));
    const auto halves =
        gpt2::from_pretrained<gpt2::ShardedGPT2Embeddings<Eigen::half>>(one, comm, Batch::own, {}, mode);
    const auto whole_halves = gpt2::from_pretrained<gpt2::GPT2Embeddings<Eigen::half>>(one, mode);
    CHECK(same_bits(
        halves.wte.shard().weight(),
        whole_halves.wte.weight().middleRows(halves.wte.first_row(), halves.wte.shard().num_embeddings())));
  }
  // Mapped rows of the file that is replaced.
  {
    const auto mapped = gpt2::from_pretrained<Sharded>(all, comm, Batch::same);
    gpt2::save_pretrained(all, config, mapped);
    CHECK(bytes_of(all / "model.safetensors") == bytes_of(one / "model.safetensors"));
  }
  const bool wrong = comm.rank() == last;
  CHECK(TEXT_OF(CheckpointError, last,
                gpt2::from_pretrained<Sharded>(wrong ? folder / "none" : one, comm, Batch::own))
            .starts_with("[gpt2.checkpoint_error] " + who));
  gpt2::GPT2Config other = config;
  other.n_layer = wrong ? 0 : 1;
  CHECK(TEXT_OF(ConfigError, last, gpt2::save_pretrained(all, other, layer)) ==
        "[gpt2.config_error] " + who + "n_layer = 0 is less than 1");
  if (comm.size() > 1) {
    other.n_layer = wrong ? 2 : 1;
    CHECK(TEXT_OF(ArgumentError, last, gpt2::save_pretrained(all, other, layer))
              .starts_with("[gpt2.argument_error] " + who + "config = "));
    // A rank that does not see the folder.
    CHECK(TEXT_OF(CheckpointError, last, gpt2::save_pretrained(wrong ? folder / "none" : all, config, layer))
              .starts_with("[gpt2.checkpoint_error] " + who));
  }
  MPI_Barrier(comm.get());
  CHECK(bytes_of(all / "model.safetensors") == bytes_of(one / "model.safetensors"));
  CHECK(std::distance(std::filesystem::directory_iterator(all), {}) == 2);  // no temporary
}

/// The last rank's memory runs out in every place, or every few: no file is changed, and none is left behind.
void test_memory_of_checkpoints(const Communicator& comm, const std::filesystem::path& folder) {
  using Sharded = gpt2::ShardedGPT2Embeddings<float>;
  const int last = comm.size() - 1;
  const gpt2::GPT2Config config{.vocab_size = 33, .n_positions = 9, .n_embd = 6, .n_layer = 1, .n_head = 1};
  const std::filesystem::path all = folder / "memory";
  const Sharded layer(comm, Batch::own, config, 3);
  gpt2::save_pretrained(all, config, layer);
  const std::string before = bytes_of(all / "model.safetensors");
  for (const bool saves : {true, false}) {
    bool succeeded = false;
    for (long n = 0; !succeeded && n < 3000; n += saves ? 1 : 5) {
      if (comm.rank() == last) allocations_until_failure = n;
      try {
        if (saves) {
          gpt2::save_pretrained(all, config, layer);
        } else {
          (void)gpt2::from_pretrained<Sharded>(all, comm, Batch::own);
        }
        succeeded = true;
      } catch (const OnRank<std::bad_alloc>& error) {
        allocations_until_failure = -1;
        CHECK(error.rank() == last);
      }
      allocations_until_failure = -1;
      MPI_Barrier(comm.get());
      CHECK(bytes_of(all / "model.safetensors") == before);
      CHECK(std::distance(std::filesystem::directory_iterator(all), {}) == 2);
      MPI_Barrier(comm.get());
    }
    CHECK(succeeded);
  }
}

}  // namespace

int main(int argc, char** argv) {
  int level = 0;
  MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &level);
  MPI_Comm_rank(MPI_COMM_WORLD, &world_rank);
  int all_failures = 0;
  std::optional<gpt2::ShardedEmbedding<float>> left_table;
  {
    const Communicator comm(MPI_COMM_WORLD);
    const Communicator small(MPI_COMM_WORLD, {.max_message_bytes = 5});
    left_table.emplace(comm, Batch::own, 10, 2);
    const std::string only = argc > 1 ? argv[1] : "";
    if (only != "faults") {
      run("parts", test_parts);
      run("float", [&] { test_scalar<float>(comm, {Batch::same, Batch::own}); });
      run("double", [&] { test_scalar<double>(comm, {Batch::own}); });
      run("half", [&] { test_scalar<Eigen::half>(comm, {Batch::own}); });
      run("bfloat16", [&] { test_scalar<Eigen::bfloat16>(comm, {Batch::same}); });
      run("float, in messages of 5 bytes",
          [&] { test_gradients<float>(small, Batch::own, GradientOrder::tokens); });
      run("lookups in messages of 5 bytes", [&] { test_lookups<double>(small, Batch::own); });
      run("the sum in messages of 5 bytes",
          [&] { test_sum<float>(small, Batch::own, GradientOrder::tokens); });
      run("all_reduce", [&] { test_all_reduce<float>(comm); });
      run("all_reduce of double", [&] { test_all_reduce<double>(comm); });
      run("messages do not meet the user's", [&] { test_messages_do_not_meet(comm); });
      for (const Batch batch : {Batch::same, Batch::own}) {
        run("two threads", [&] { test_threads(comm, batch); });
      }
      if (argc > 2) {
        run("checkpoints", [&] { test_checkpoints(comm, argv[2]); });
        run("memory of checkpoints", [&] { test_memory_of_checkpoints(comm, argv[2]); });
      }
    }
    for (const Batch batch : {Batch::same, Batch::own}) {
      if (only == "values") break;
      run("arguments", [&] { test_arguments(comm, batch); });
      run("out of step", [&] { test_steps(comm, batch); });
      run("memory", [&] { test_memory(comm, batch, GradientOrder::tokens); });
    }
    if (only != "values")
      run("memory, by ranks", [&] {
        test_memory(comm, Batch::own, GradientOrder::ranks,
                    {"backward", "sparse_backward", "backward of the sum"});
      });
    all_failures = failures_of_all_ranks();
  }
  MPI_Finalize();
  bool is_refused = false;
  try {
    (void)(*left_table)({1});
  } catch (const gpt2::MpiError& error) {
    is_refused = std::string(error.what()).find("finalised") != std::string::npos;
  }
  if (!is_refused) std::printf("after MPI_Finalize a call was not refused\n");
  return all_failures == 0 && is_refused ? 0 : 1;
}
