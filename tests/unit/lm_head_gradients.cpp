// SPDX-License-Identifier: MIT
#include "gpt2/lm_head.hpp"

#include <vector>

#include "plain_head.hpp"
#include "support.hpp"

namespace lm_head_gradients_tests {

using namespace gpt2;
using namespace test::head;

TEST_CASE("gradients may be taken from blocks and to blocks of larger matrices", "[lm_head]") {
  const auto framed = [](const Matrix<float>& inside) {
    Matrix<float> whole = Matrix<float>::Constant(12, inside.cols() + 5, 7);
    whole.block(1, 2, 10, inside.cols()) = inside;
    return whole;
  };
  const auto hidden = test::drawn<float>(10, 6, 2, 1);
  const auto grad_logits = test::drawn<float>(10, 21, 3, 1);
  const Matrix<float> framed_hidden = framed(hidden);
  const Matrix<float> framed_grad_logits = framed(grad_logits);
  const auto hidden_block = framed_hidden.block(1, 2, 10, 6);
  const auto grad_logits_block = framed_grad_logits.block(1, 2, 10, 21);

  Embedding<float> wte(test::drawn<float>(21, 6, 1, 0.5));
  Embedding<float> twin = wte;
  const auto check = [&](const Matrix<float>& found, const Matrix<float>& expected) {
    CHECK(relative_error(found, expected) < tolerance<float>);
    CHECK(relative_error(wte.grad(), twin.grad()) < tolerance<float>);
  };
  const auto check_written = [&](const Matrix<float>& expected, const auto& write) {
    Matrix<float> out = framed(Matrix<float>::Constant(10, 6, -1));
    auto inside = out.block(1, 2, 10, 6);
    write(inside);
    check(inside, expected);
    inside.setConstant(7);
    CHECK((out.array() == 7).all());
  };
  for (const double cap : {0.0, 2.0}) {
    const HeadOptions head{.logit_soft_cap = cap};
    const auto expected = logits_backward(twin, hidden, grad_logits, head);
    check(logits_backward(wte, hidden_block, grad_logits_block, head), expected);
    (void)logits_backward(twin, hidden, grad_logits, head);
    check_written(expected,
                  [&](auto& out) { logits_backward_into(wte, hidden_block, grad_logits_block, out, head); });

    const CrossEntropyOptions options{.head = head};
    for (const auto& labels : {some_labels(10, 21), std::vector<int>(10, 5)}) {  // some ignored, or none
      const auto loss = cross_entropy(twin, hidden, labels, options);
      const auto found = cross_entropy(wte, hidden_block, labels, options);
      check(found.grad_hidden, loss.grad_hidden);
      CHECK(found.loss == Approx(loss.loss));
      (void)cross_entropy(twin, hidden, labels, options);
      check_written(loss.grad_hidden, [&](auto& out) {
        CHECK(cross_entropy_into(wte, hidden_block, labels, out, options) == Approx(loss.loss));
      });
    }
  }
}

TEST_CASE("the gradient of logits is that of finite differences", "[lm_head]") {
  const auto weight = test::drawn<double>(11, 5, 1, 0.7);
  const auto hidden = test::drawn<double>(10, 5, 2, 1);
  const auto grad_logits = test::drawn<double>(10, 9, 3, 1);
  for (const double cap : {0.0, 1.5}) {
    const HeadOptions options{.vocab_size = 9, .logit_soft_cap = cap};
    Embedding<double> wte(weight, {.padding_idx = 2});
    const auto grad_hidden = logits_backward(wte, hidden, grad_logits, options);
    const auto of_hidden = [&](const Matrix<double>& h) {
      return plain_logits(weight, h, options).cwiseProduct(grad_logits).sum();
    };
    const auto of_weight = [&](const Matrix<double>& w) {
      return plain_logits(w, hidden, options).cwiseProduct(grad_logits).sum();
    };
    CHECK(relative_error(grad_hidden, differences(hidden, of_hidden)) < 1e-9);
    // The head also trains the row at padding_idx.
    CHECK(relative_error(wte.grad(), differences(weight, of_weight)) < 1e-9);

    // Gradients accumulate over calls.
    const Matrix<double> once = wte.grad();
    CHECK(logits_backward(wte, hidden, grad_logits, options) == grad_hidden);
    CHECK(relative_error(wte.grad(), Matrix<double>(2 * once)) < 1e-15);
  }
}

TEMPLATE_TEST_CASE("gradients of logits are as exact as their sums' type", "[lm_head]", float, Eigen::half,
                   Eigen::bfloat16) {
  using T = TestType;
  Embedding<T> wte(test::drawn<T>(600, 37, 1, 0.02));
  const auto hidden = test::drawn<float>(300, 37, 2, 1);
  const auto grad_logits = test::drawn<float>(300, 600, 3, 1);
  const auto grad_hidden = logits_backward(wte, hidden, grad_logits);
  const Matrix<double> given = in_double(grad_logits);
  CHECK(relative_error(grad_hidden, test::plain_product(given, in_double(wte.weight()))) < 1e-5);
  CHECK(relative_error(wte.grad(), test::plain_product(given.transpose(), in_double(hidden))) < 1e-5);
}

TEST_CASE("gradients of logits reach the whole of a large vocabulary", "[lm_head]") {
  const auto weight = test::drawn<double>(9001, 3, 1, 1);  // more rows than are processed at a time
  const auto hidden = test::drawn<double>(5, 3, 2, 1);
  const auto grad_logits = test::drawn<double>(5, 9001, 3, 1);
  for (const double cap : {0.0, 2.0}) {
    const HeadOptions options{.logit_soft_cap = cap};
    Matrix<double> of_products = grad_logits;
    if (cap != 0) of_products.array() *= 1 - (plain_logits(weight, hidden, options) / cap).array().square();
    Embedding<double> wte(weight);
    const auto grad_hidden = logits_backward(wte, hidden, grad_logits, options);
    CHECK(relative_error(grad_hidden, test::plain_product(of_products, weight)) < 1e-12);
    CHECK(relative_error(wte.grad(), test::plain_product(of_products.transpose(), hidden)) < 1e-12);
  }
}

}  // namespace lm_head_gradients_tests
