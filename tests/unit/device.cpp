// SPDX-License-Identifier: MIT
//
// Every operation that takes a device, on Eigen's real thread pool. The library itself needs no
// EIGEN_USE_THREADS; programs that use Eigen's device define it, as this file does.

#define EIGEN_USE_THREADS

#include <cstddef>
#include <cstdint>
#include <new>
#include <vector>

#include "gpt2/detail/kernels/parallel.hpp"
#include "gpt2/dropout.hpp"
#include "gpt2/embeddings.hpp"
#include "gpt2/initialization.hpp"
#include "gpt2/lm_head.hpp"
#include "gpt2/quantized_embedding.hpp"
#include "support.hpp"

namespace device_tests {

using namespace gpt2;

TEMPLATE_TEST_CASE("any number of threads gives the same bits", "[device]", float, Eigen::bfloat16) {
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

TEST_CASE("threads run while the same gradient would be summed in another order by rows", "[device]") {
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

TEST_CASE("any number of threads gives the same head, bit for bit", "[device]") {
  // Several tiles either way, the last ones smaller.
  const Embedding<Eigen::half> fresh(700, 20);
  const auto hidden = test::drawn<float>(600, 20);
  const auto grad_logits = test::drawn<float>(600, 700, 2);
  const auto labels = test::random_ids(1, 600, 700);
  struct Results {
    Matrix<float> logits;
    TopK<float> best;
    CrossEntropy<float> loss;
    Matrix<float> grad_hidden;
    Matrix<float> wte_grad;
  };
  const HeadOptions options{.logit_soft_cap = 2};
  const auto run = [&](const auto& device) {
    Embedding<Eigen::half> wte = fresh;
    Results results{logits(wte, hidden, options, device),
                    top_k(wte, hidden, 5, options, device),
                    cross_entropy(wte, hidden, labels.row(0), {.head = options}, device),
                    logits_backward(wte, hidden, grad_logits, options, device),
                    {}};
    results.wte_grad = wte.grad();
    return results;
  };
  const Results alone = run(Eigen::DefaultDevice{});
  for (const int threads : {2, 8}) {
    INFO(threads << " threads");
    Eigen::ThreadPool pool(threads);
    const Results together = run(Eigen::ThreadPoolDevice(&pool, threads));
    CHECK(test::same_bits(together.logits, alone.logits));
    CHECK(test::same_bits(together.best.ids, alone.best.ids));
    CHECK(test::same_bits(together.best.logits, alone.best.logits));
    CHECK(together.loss.loss == alone.loss.loss);
    CHECK(test::same_bits(together.loss.grad_hidden, alone.loss.grad_hidden));
    CHECK(test::same_bits(together.grad_hidden, alone.grad_hidden));
    CHECK(test::same_bits(together.wte_grad, alone.wte_grad));
  }
}

TEST_CASE("any number of threads gives the same quantised lookups and sums", "[device]") {
  const QuantizedEmbedding wte(Embedding<float>(100, 768));
  const GPT2Embeddings embeddings(wte, QuantizedEmbedding(Embedding<float>(256, 768)));
  const auto ids = test::random_ids(4, 256, 100, 1);
  const auto types = test::random_ids(4, 256, 2, 2);
  for (const int threads : {2, 8}) {
    INFO(threads << " threads");
    Eigen::ThreadPool pool(threads);
    const Eigen::ThreadPoolDevice device(&pool, threads);
    CHECK(test::same_bits(wte(ids, device), wte(ids)));
    CHECK(
        test::same_bits(embeddings(ids, PastLength{}, types, device), embeddings(ids, PastLength{}, types)));
  }
}

TEST_CASE("devices have threads and a parallelFor", "[device]") {
  STATIC_REQUIRE((Device<Eigen::DefaultDevice> && Device<test::SlicingDevice>));
  STATIC_REQUIRE_FALSE((Device<int> || Device<std::vector<int>>));
}

TEST_CASE("an error on another thread reaches the caller, once all parts have ended", "[device]") {
  constexpr Index size = 1000;
  Eigen::ThreadPool pool(2);
  const Eigen::ThreadPoolDevice two_threads(&pool, 2);
  const auto check = [&](const auto& device) {
    std::vector<int> done(size, 0);
    const auto body = [&](Index first, Index last) {
      for (Index i = first; i < last; ++i) done[static_cast<std::size_t>(i)] = 1;
      throw std::bad_alloc();
    };
    CHECK_THROWS_AS(detail::for_parts(device, size, 1 << 20, body), std::bad_alloc);
    CHECK(done == std::vector<int>(size, 1));
  };
  check(two_threads);
  check(test::SlicingDevice{});
}

TEST_CASE("a device with a policy has the device's threads", "[device]") {
  Eigen::ThreadPool pool(2);
  const Eigen::ThreadPoolDevice device(&pool, 2);
  CHECK(OnDevice{device, StorePolicy::regular}.numThreads() == 2);
  CHECK(OnDevice{device, StorePolicy::regular}.currentThreadId() == -1);
  CHECK(OnDevice{Eigen::DefaultDevice(), StorePolicy::regular}.numThreads() == 1);
  CHECK(OnDevice{test::SlicingDevice{}, StorePolicy::regular}.currentThreadId() == -1);
  STATIC_REQUIRE(Device<OnDevice<Eigen::ThreadPoolDevice>>);
}

}  // namespace device_tests
