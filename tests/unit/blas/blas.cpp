// SPDX-License-Identifier: MIT
//
// The head with the products of a BLAS. The linker leads Eigen's calls of sgemm through __wrap_sgemm_, which counts.

#define EIGEN_USE_THREADS
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <thread>
#include <vector>

#include "gpt2/lm_head.hpp"
#include "plain_head.hpp"
#include "support.hpp"

using namespace gpt2;
using namespace test::head;

namespace {

struct Calls {
  std::atomic<int> made = 0;
  std::atomic<int> of_large_products = 0;
  std::atomic<int> running = 0;
  std::atomic<int> most_at_once = 0;
  std::atomic<int> by_other_threads = 0;
  std::thread::id expected = std::this_thread::get_id();
};
Calls calls;

void forget_calls() {
  calls.made = 0;
  calls.of_large_products = 0;
  calls.most_at_once = 0;
  calls.by_other_threads = 0;
}

}  // namespace

// NOLINTBEGIN: the names are the linker's
extern "C" {
int __real_sgemm_(const char*, const char*, const int*, const int*, const int*, const float*, const float*,
                  const int*, const float*, const int*, const float*, float*, const int*);
int __wrap_sgemm_(const char*, const char*, const int*, const int*, const int*, const float*, const float*,
                  const int*, const float*, const int*, const float*, float*, const int*);

int __wrap_sgemm_(const char* transpose_a, const char* transpose_b, const int* m, const int* n, const int* k,
                  const float* alpha, const float* a, const int* a_stride, const float* b,
                  const int* b_stride, const float* beta, float* c, const int* c_stride) {
  const int now = ++calls.running;
  if (now > calls.most_at_once) calls.most_at_once = now;
  ++calls.made;
  if (std::int64_t{*m} * *n * *k >= 1'000'000) ++calls.of_large_products;
  if (std::this_thread::get_id() != calls.expected) ++calls.by_other_threads;
  (void)__real_sgemm_(transpose_a, transpose_b, m, n, k, alpha, a, a_stride, b, b_stride, beta, c, c_stride);
  --calls.running;
  return 0;
}
}
// NOLINTEND

TEMPLATE_TEST_CASE("with a BLAS the head is what it is without one, to rounding", "[blas]", float, double,
                   Eigen::half) {
  using T = TestType;
  using A = Accumulator<T>;
  constexpr Index vocab_size = 1500;
  for (const Index n : {1, 16, 17, 200}) {
    INFO(n << " states");
    Embedding<T> wte(test::drawn<T>(vocab_size, 40, 1, 0.2));
    const Matrix<double> weight = in_double(wte.weight());
    const auto hidden = test::drawn<A>(n, 40, 2, 1);
    const auto labels = some_labels(n, vocab_size);
    CHECK(relative_error(logits(wte, hidden), plain_logits(weight, in_double(hidden))) < tolerance<T>);

    Embedding<double> in_doubles(weight);
    const Matrix<double> wide = in_double(hidden);
    const auto expected = cross_entropy(in_doubles, wide, labels);
    CHECK(expected.loss == Approx(plain_loss(weight, wide, labels)).epsilon(1e-12));
    for (const std::size_t workspace_bytes : {std::size_t{0}, std::size_t{64} << 20U}) {
      Embedding<T> twin = wte;
      const auto found = cross_entropy(twin, hidden, labels, {.workspace_bytes = workspace_bytes});
      CHECK(double{found.loss} == Approx(expected.loss).epsilon(tolerance<T>));
      CHECK(relative_error(found.grad_hidden, expected.grad_hidden) < tolerance<T>);
      CHECK(relative_error(twin.grad(), in_doubles.grad()) < tolerance<T>);
      CHECK(cross_entropy_loss(twin, hidden, labels, {.workspace_bytes = workspace_bytes}) == found.loss);
    }
  }
}

TEST_CASE("the BLAS is given large products", "[blas]") {
  Embedding<float> wte(test::drawn<float>(3000, 64, 1, 0.2));
  const auto hidden = test::drawn<float>(300, 64, 2, 1);
  forget_calls();
  (void)cross_entropy(wte, hidden, some_labels(300, 3000));
  CHECK(calls.made > 0);
  CHECK(calls.of_large_products >= 6);  // three products, in rounds of the vocabulary
  CHECK(calls.made <= 3 * calls.of_large_products);
}

TEST_CASE("a BLAS is called by the calling thread alone, and the device changes no bit", "[blas]") {
  Eigen::ThreadPool pool(4);
  const Eigen::ThreadPoolDevice device(&pool, 4);
  for (const Index n : {5, 300}) {
    Embedding<float> wte(test::drawn<float>(3000, 64, 1, 0.2));
    Embedding<float> twin = wte;
    const auto hidden = test::drawn<float>(n, 64, 2, 1);
    const auto labels = some_labels(n, 3000);
    const auto grad_logits = test::drawn<float>(n, 3000, 3, 1);
    const HeadOptions capped{.logit_soft_cap = 3};
    forget_calls();
    CHECK(test::same_bits(logits(wte, hidden, capped, device), logits(wte, hidden, capped)));
    CHECK(top_k(wte, hidden, 5, device).ids == top_k(wte, hidden, 5).ids);
    CHECK(test::same_bits(logits_backward(wte, hidden, grad_logits, device),
                          logits_backward(twin, hidden, grad_logits)));
    const auto found = cross_entropy(wte, hidden, labels, device);
    const auto expected = cross_entropy(twin, hidden, labels);
    CHECK(found.loss == expected.loss);
    CHECK(test::same_bits(found.grad_hidden, expected.grad_hidden));
    CHECK(test::same_bits(wte.grad(), twin.grad()));
    CHECK(calls.made > 0);
    CHECK(calls.most_at_once == 1);
    CHECK(calls.by_other_threads == 0);
  }
}
