// SPDX-License-Identifier: MIT
//
// Every operation that takes a device, on Eigen's real thread pool. The library itself needs no
// EIGEN_USE_THREADS; whoever wants Eigen's device defines it, as this file does.

#define EIGEN_USE_THREADS

#include <cstdint>
#include <vector>

#include "gpt2/dropout.hpp"
#include "gpt2/embeddings.hpp"
#include "gpt2/initialization.hpp"
#include "support.hpp"

using namespace gpt2;

TEMPLATE_TEST_CASE("any number of threads gives the same bits", "[thread_pool]", float, Eigen::bfloat16) {
  using T = TestType;
  const GPT2Config config{.vocab_size = 1000, .n_positions = 256, .n_embd = 768};
  const IdMatrix<std::int64_t> ids = test::random_ids(4, 256, 1000, 1);
  const IdMatrix<std::int64_t> types = test::random_ids(4, 256, 2, 2);
  const IdMatrix<std::int64_t> position_ids = test::random_ids(4, 256, 256, 3);
  Matrix<float> grad(4 * 256, 768);
  normal_(grad, 1, 4);
  const GPT2Embeddings<T> fresh(config);

  struct Results {
    Tensor3<T> lookup;
    Tensor3<T> sum;
    Matrix<float> dropped;
    Matrix<float> wte_grad;
    Matrix<float> wpe_grad;
    SparseGradient<float> sparse;
  };
  const auto run = [&](const auto& device) {
    GPT2Embeddings<T> embeddings = fresh;
    Results results;
    results.lookup = embeddings.wte(ids, device);
    results.sum = embeddings(ids, position_ids, types, device);
    results.dropped = grad;
    Dropout(0.1).forward(1, results.dropped, device);
    for (int step = 0; step < 2; ++step) embeddings.backward(ids, position_ids, grad, types, device);
    results.wte_grad = embeddings.wte.grad();
    results.wpe_grad = embeddings.wpe.grad();
    results.sparse = embeddings.wte.sparse_backward(ids, grad, device);
    return results;
  };

  const Results alone = run(Eigen::DefaultDevice{});
  for (const int threads : {1, 2, 3, 8}) {
    INFO(threads << " threads");
    Eigen::ThreadPool pool(threads);
    const Results together = run(Eigen::ThreadPoolDevice(&pool, threads));
    CHECK(test::same_bits(together.lookup, alone.lookup));
    CHECK(test::same_bits(together.sum, alone.sum));
    CHECK(test::same_bits(together.dropped, alone.dropped));
    CHECK(test::same_bits(together.wte_grad, alone.wte_grad));
    CHECK(test::same_bits(together.wpe_grad, alone.wpe_grad));
    CHECK(test::same_bits(together.sparse.rows, alone.sparse.rows));
    CHECK(test::same_bits(together.sparse.values, alone.sparse.values));
  }
}

TEST_CASE("threads run while the same gradient would be summed in another order by rows", "[thread_pool]") {
  // Terms of very different size: any other order of a column's sum would show.
  const std::vector<int> ids(5000, 0);
  Matrix<float> grad(5000, 64);
  normal_(grad, 1, 9);
  for (Index i = 0; i < 5000; ++i) grad.row(i) *= static_cast<float>(1 << (i % 20));
  Matrix<float> expected = Matrix<float>::Zero(1, 64);
  for (Index i = 0; i < 5000; ++i) expected.row(0) += grad.row(i);
  Eigen::ThreadPool pool(4);
  Embedding<float> table(1, 64);
  table.backward(ids, grad, Eigen::ThreadPoolDevice(&pool, 4));
  CHECK(test::same_bits(table.grad(), expected));
}
