// SPDX-License-Identifier: MIT
#include "gpt2/lm_head.hpp"

#include <cmath>
#include <cstdint>
#include <limits>

#include "counted_memory.hpp"
#include "plain_head.hpp"
#include "support.hpp"

namespace lm_head_logits_tests {

using namespace gpt2;
using namespace test::head;

TEMPLATE_TEST_CASE("logits are the products of hidden states and rows", "[lm_head]", float, double,
                   Eigen::half, Eigen::bfloat16) {
  using T = TestType;
  using A = Accumulator<T>;
  for (const Index dim : {0, 1, 5, 131}) {
    for (const Index vocab_size : {0, 1, 9, 270}) {
      const Embedding<T> wte(test::drawn<T>(vocab_size, dim, 1, 0.02));
      for (const Index n : {0, 1, 2, 3, 8, 9, 270}) {
        const auto hidden = test::drawn<A>(n, dim, 2, 1);
        const Matrix<A> found = logits(wte, hidden);
        const Matrix<double> expected = plain_logits(in_double(wte.weight()), in_double(hidden));
        INFO(n << " states of " << dim << ", " << vocab_size << " tokens");
        REQUIRE(found.rows() == n);
        REQUIRE(found.cols() == vocab_size);
        CHECK(relative_error(found, expected) < tolerance<T>);
      }
    }
  }
}

TEMPLATE_TEST_CASE("rows of more than 256 columns are multiplied to their end", "[lm_head]", Eigen::half,
                   Eigen::bfloat16) {
  using T = TestType;
  for (const Index dim : {257, 600, 768}) {
    const Embedding<T> wte(test::drawn<T>(19, dim, 1, 0.02));
    for (Index n = 1; n <= 9; ++n) {
      const auto hidden = test::drawn<float>(n, dim, 2, 1);
      INFO(n << " states of " << dim);
      CHECK(relative_error(logits(wte, hidden), plain_logits(in_double(wte.weight()), in_double(hidden))) <
            tolerance<T>);
    }
  }
}

TEST_CASE("half tables hold every number they can", "[lm_head]") {
  // Denormals, infinities and NaNs, through the registers of any machine: 2^16 rows of the same two numbers.
  Matrix<Eigen::half> halves(1 << 16, 33);
  Matrix<Eigen::bfloat16> bfloats(1 << 16, 33);
  for (Index i = 0; i < halves.rows(); ++i) {
    halves.row(i).setConstant(Eigen::numext::bit_cast<Eigen::half>(static_cast<std::uint16_t>(i)));
    bfloats.row(i).setConstant(Eigen::numext::bit_cast<Eigen::bfloat16>(static_cast<std::uint16_t>(i)));
  }
  Matrix<float> hidden = Matrix<float>::Zero(1, 33);
  for (const Index place : {0, 32}) {
    // A single 1, and zeros elsewhere. If the row's numbers are finite, the sum is one of them.
    hidden.setZero();
    hidden(0, place) = 1;
    const Matrix<float> from_halves = logits(Embedding<Eigen::half>(halves), hidden);
    const Matrix<float> from_bfloats = logits(Embedding<Eigen::bfloat16>(bfloats), hidden);
    Index wrong = 0;
    for (Index i = 0; i < halves.rows(); ++i) {
      const auto half = static_cast<float>(halves(i, 0));
      const auto bfloat = static_cast<float>(bfloats(i, 0));
      wrong += std::isfinite(half) ? from_halves(0, i) != half : !std::isnan(from_halves(0, i));
      wrong += std::isfinite(bfloat) ? from_bfloats(0, i) != bfloat : !std::isnan(from_bfloats(0, i));
    }
    CHECK(wrong == 0);
  }
  // Of an infinity by ones the sum is infinite.
  hidden.setOnes();
  const Matrix<float> sums = logits(Embedding<Eigen::half>(halves), hidden);
  CHECK(sums(0, 0x7C00) == std::numeric_limits<float>::infinity());
  CHECK(sums(0, 0xFC00) == -std::numeric_limits<float>::infinity());
  CHECK(std::isnan(sums(0, 0x7C01)));
}

TEST_CASE("a soft cap bounds the logits smoothly", "[lm_head]") {
  Matrix<double> weight = test::drawn<double>(50, 4, 1, 5);
  weight(7, 0) = infinity;
  weight(8, 0) = -infinity;
  weight(9, 0) = not_a_number;
  const Embedding<double> wte(weight);
  const Matrix<double> hidden = test::drawn<double>(9, 4, 2, 1).cwiseAbs();
  const HeadOptions options{.logit_soft_cap = 3};
  const auto found = logits(wte, hidden, options);
  CHECK((found.col(7).array() == 3).all());
  CHECK((found.col(8).array() == -3).all());
  CHECK(found.col(9).array().isNaN().all());
  const auto expected = plain_logits(weight, hidden, options);
  CHECK(relative_error(found.leftCols(7), expected.leftCols(7)) < 1e-14);
  CHECK(relative_error(found.rightCols(40), expected.rightCols(40)) < 1e-14);
  CHECK(top_k(wte, hidden, 2, options).ids.col(1) == IdMatrix<std::int64_t>::Constant(9, 1, 7));
}

TEST_CASE("up to eight states' logits are written without an allocation", "[lm_head]") {
  const Embedding<float> floats(300, 70);
  const Embedding<Eigen::bfloat16> bfloats(300, 70);
  for (const Index n : {1, 8}) {
    const auto hidden = test::drawn<float>(n, 70, 2, 1);
    Matrix<float> out(n, 300);
    const test::Allocations made = test::allocations_of([&] {
      logits_into(floats, hidden, out, {.logit_soft_cap = 30});
      logits_into(bfloats, hidden, out);
    });
    CHECK(made.blocks == 0);
  }
}

TEMPLATE_TEST_CASE("logits are the same by dot products and by Eigen's product", "[lm_head]", float, double,
                   Eigen::half, Eigen::bfloat16) {
  using A = Accumulator<TestType>;
  const Embedding<TestType> wte(test::drawn<TestType>(301, 65));
  const Matrix<A> hidden = test::drawn<A>(70, 65, 2);
  const auto by = [&](Index states_for_dot_products) {
    detail::HeadTiling tiling;
    tiling.states_for_dot_products = states_for_dot_products;
    Matrix<A> out(70, 301);
    const detail::RowView<A> result{out.data(), 70, 301, 301};
    const detail::RowView<const A> states{hidden.data(), 70, 65, 65};
    form_logits(detail::Head<detail::RowView<const TestType>>{stored_rows(wte)}, states, 0, result, tiling,
                Eigen::DefaultDevice{});
    return out;
  };
  const Matrix<double> expected = plain_logits(in_double(wte.weight()), in_double(hidden));
  CHECK(relative_error(by(70), expected) < tolerance<A>);
  CHECK(relative_error(by(69), expected) < tolerance<A>);
}

}  // namespace lm_head_logits_tests
