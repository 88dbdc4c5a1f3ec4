// SPDX-License-Identifier: MIT
#include "gpt2/lm_head.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <string>
#include <vector>

#include "plain_head.hpp"
#include "support.hpp"

namespace lm_head_top_k_tests {

using namespace gpt2;
using namespace test::head;

namespace {

/// The k best of a row of logits, by sorting all.
template <class A>
std::vector<std::int64_t> sorted_ids(const Matrix<A>& logits, Index row, Index k) {
  std::vector<std::int64_t> ids(static_cast<std::size_t>(logits.cols()));
  std::iota(ids.begin(), ids.end(), std::int64_t{0});
  std::stable_sort(ids.begin(), ids.end(), [&](std::int64_t a, std::int64_t b) {
    const A x = logits(row, a);
    const A y = logits(row, b);
    return std::isnan(x) ? !std::isnan(y) : x > y;
  });
  ids.resize(static_cast<std::size_t>(k));
  return ids;
}

template <class T>
void check_top_k(const Embedding<T>& wte, const Matrix<T>& hidden, const HeadOptions& options = {}) {
  const auto all = logits(wte, hidden, options);
  for (const Index k : {Index{0}, Index{1}, Index{3}, all.cols() / 2, all.cols()}) {
    const auto best = top_k(wte, hidden, k, options);
    REQUIRE(best.ids.rows() == hidden.rows());
    REQUIRE(best.ids.cols() == k);
    REQUIRE(best.logits.rows() == hidden.rows());
    REQUIRE(best.logits.cols() == k);
    for (Index i = 0; i < hidden.rows(); ++i) {
      const auto expected = sorted_ids(all, i, k);
      bool same = true;
      for (Index j = 0; j < k; ++j) {
        const std::int64_t id = expected[static_cast<std::size_t>(j)];
        same = same && best.ids(i, j) == id &&
               test::same_bits(best.logits.block(i, j, 1, 1), all.block(i, id, 1, 1));
      }
      INFO("state " << i << ", k " << k);
      CHECK(same);
    }
  }
}

}  // namespace

TEMPLATE_TEST_CASE("top_k is what sorting all logits gives", "[lm_head]", float, double, Eigen::half,
                   Eigen::bfloat16) {
  using T = TestType;
  const auto number_of = [](double x) { return static_cast<T>(static_cast<float>(x)); };
  for (const Index n : {1, 3, 12, 70}) {
    const auto hidden = test::drawn<T>(n, 7, 2, 1);
    Matrix<T> ones(n, 1);
    ones.setConstant(number_of(1));
    Matrix<T> weight(531, 1);

    SECTION("random, " + std::to_string(n)) { check_top_k(Embedding<T>(531, 7), hidden); }
    SECTION("padded and capped, " + std::to_string(n)) {
      check_top_k(Embedding<T>(531, 7), hidden, {.vocab_size = 259, .logit_soft_cap = 0.5});
    }
    SECTION("all equal, " + std::to_string(n)) {
      weight.setConstant(number_of(0.25));
      check_top_k(Embedding<T>(weight), ones);
    }
    SECTION("one outlier, " + std::to_string(n)) {
      weight.setConstant(number_of(0.25));
      weight(300) = number_of(0.5);
      check_top_k(Embedding<T>(weight), ones);
    }
    SECTION("ascending, descending, and in steps, " + std::to_string(n)) {
      for (Index i = 0; i < weight.size(); ++i) weight(i) = number_of(static_cast<double>(i / 16));
      check_top_k(Embedding<T>(weight), ones);
      weight.reverseInPlace();
      check_top_k(Embedding<T>(weight), ones);
    }
    SECTION("zeros of either sign, " + std::to_string(n)) {
      for (Index i = 0; i < weight.size(); ++i) weight(i) = number_of(i % 3 == 0 ? 0.0 : -0.0);
      check_top_k(Embedding<T>(weight), ones);
    }
    SECTION("NaNs and infinities, " + std::to_string(n)) {
      weight = test::drawn<T>(531, 1, 5, 1);
      for (const Index i : {2, 3, 256, 400, 530}) weight(i) = number_of(not_a_number);
      for (const Index i : {0, 4, 257, 402}) weight(i) = number_of(infinity);
      for (const Index i : {1, 5, 258, 403}) weight(i) = number_of(-infinity);
      check_top_k(Embedding<T>(weight), ones);
      const auto best = top_k(Embedding<T>(weight), ones, 7);
      CHECK(best.ids(0, 0) == 2);
      CHECK(best.ids(0, 4) == 530);
      CHECK(best.ids(0, 5) == 0);
    }
    SECTION("nothing but NaNs, " + std::to_string(n)) {
      weight.setConstant(number_of(not_a_number));
      check_top_k(Embedding<T>(weight), ones);
    }
  }
}

TEST_CASE("top_k does not depend on how the work is cut", "[lm_head]") {
  Matrix<double> weight = test::drawn<double>(100, 4, 1, 1);
  weight.row(50) = weight.row(3);
  const Embedding<double> wte(weight);
  const auto hidden = test::drawn<double>(9, 4, 2, 1);
  const auto head = detail::checked_head(wte, {});
  const auto expected = top_k(wte, hidden, 11);
  for (const Index rows : {1, 3, 64, 1000}) {
    for (const Index bytes_per_round : {1, 800, 800000}) {
      TopK<double> found{IdMatrix<std::int64_t>(9, 11), Matrix<double>(9, 11)};
      const detail::RowView<const double> states = detail::all_rows(hidden);
      find_top_k(head, states, found.ids, found.logits,
                 {.states = 2, .rows = rows, .bytes_per_round = bytes_per_round}, Eigen::DefaultDevice{});
      CHECK(found.ids == expected.ids);
      CHECK(relative_error(found.logits, expected.logits) < 1e-15);
    }
  }
}

}  // namespace lm_head_top_k_tests
