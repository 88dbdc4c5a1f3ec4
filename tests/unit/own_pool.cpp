// SPDX-License-Identifier: MIT
//
// Operations within tasks of the pool that they are given. If they waited for other tasks of it, all of its threads would
// wait, and none would be left to run: this program would not end.

#define EIGEN_USE_THREADS

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "gpt2/embeddings.hpp"
#include "gpt2/initialization.hpp"
#include "gpt2/lm_head.hpp"
#include "support.hpp"

namespace own_pool_tests {

using namespace gpt2;

namespace {

constexpr int threads = 2;
constexpr std::size_t tasks = 8;

struct Results {
  Tensor3<float> lookup;
  Tensor3<float> sum;
  Matrix<float> wte_grad;
  Matrix<float> wpe_grad;
  SparseGradient<float> sparse;
  Matrix<float> logits;
  float loss = 0;
  Matrix<float> grad_hidden;
};

/// Rows enough for threads in each of them.
template <class D>
Results run(GPT2Embeddings<float> embeddings, const IdMatrix<std::int64_t>& ids, const Matrix<float>& grad,
            const D& device) {
  Results results;
  results.lookup = embeddings.wte(ids, device);
  results.sum = embeddings(ids, PastLength{1}, device);
  embeddings.backward(ids, PastLength{1}, grad, device);
  results.wpe_grad = embeddings.wpe.grad();
  results.sparse = embeddings.wte.sparse_backward(ids, grad, device);
  results.logits = logits(embeddings.wte, grad, {}, device);
  const std::vector<int> labels(static_cast<std::size_t>(grad.rows()), 3);
  auto loss = cross_entropy(embeddings.wte, grad, labels, {}, device);
  results.loss = loss.loss;
  results.grad_hidden = std::move(loss.grad_hidden);
  results.wte_grad = embeddings.wte.grad();
  return results;
}

}  // namespace

TEST_CASE("eight tasks of a pool of two give each operation their own pool", "[own_pool]") {
  const GPT2Config config{.vocab_size = 700, .n_positions = 256, .n_embd = 128};
  const GPT2Embeddings<float> embeddings(config);
  const IdMatrix<std::int64_t> ids = test::random_ids(2, 200, 700, 1);
  Matrix<float> grad(400, 128);
  normal_(grad, 1, 2);
  const Results alone = run(embeddings, ids, grad, Eigen::DefaultDevice{});

  Eigen::ThreadPool pool(threads);
  const Eigen::ThreadPoolDevice device(&pool, threads);
  std::vector<Results> results(tasks);
  Eigen::Barrier done(static_cast<unsigned>(tasks));
  for (std::size_t i = 0; i < tasks; ++i) {
    pool.Schedule([&, i] {
      // Every other task gives the device with a policy, which knows the pool's threads as well.
      results[i] = i % 2 == 0 ? run(embeddings, ids, grad, device)
                              : run(embeddings, ids, grad, OnDevice{device, StorePolicy::automatic});
      done.Notify();
    });
  }
  done.Wait();

  for (const Results& its : results) {
    CHECK(test::same_bits(its.lookup, alone.lookup));
    CHECK(test::same_bits(its.sum, alone.sum));
    CHECK(test::same_bits(its.wte_grad, alone.wte_grad));
    CHECK(test::same_bits(its.wpe_grad, alone.wpe_grad));
    CHECK(test::same_bits(its.sparse.values, alone.sparse.values));
    CHECK(test::same_bits(its.logits, alone.logits));
    CHECK(its.loss == alone.loss);
    CHECK(test::same_bits(its.grad_hidden, alone.grad_hidden));
  }
}

TEST_CASE("a task of another pool uses the threads of the pool that it is given", "[own_pool]") {
  const Embedding<float> table(100, 256);
  const IdMatrix<std::int64_t> ids = test::random_ids(8, 64, 100, 1);
  Eigen::ThreadPool inner_pool(threads);
  const Eigen::ThreadPoolDevice inner(&inner_pool, threads);
  Eigen::ThreadPool outer_pool(threads);
  Tensor3<float> result;
  Eigen::Barrier done(1);
  outer_pool.Schedule([&] {
    result = table(ids, inner);
    done.Notify();
  });
  done.Wait();
  CHECK(test::same_bits(result, table(ids)));
}

}  // namespace own_pool_tests
