// SPDX-License-Identifier: MIT
#include "gpt2/lm_head.hpp"

#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "plain_head.hpp"
#include "support.hpp"

namespace lm_head_tests {

using namespace gpt2;
using namespace test::head;

TEMPLATE_TEST_CASE("hidden states of the table's type are as good as their sums'", "[lm_head]", Eigen::half,
                   Eigen::bfloat16) {
  using T = TestType;
  Embedding<T> wte(test::drawn<T>(40, 17, 1, 0.02));
  Embedding<T> twin = wte;
  const Matrix<T> hidden = test::drawn<T>(9, 17, 2, 1);
  const Matrix<float> wide = hidden.template cast<float>();
  const Matrix<float> found = logits(wte, hidden);
  CHECK(found == logits(wte, wide));
  CHECK(top_k(wte, hidden, 3).ids == top_k(wte, wide, 3).ids);
  const auto labels = some_labels(9, 40);
  CHECK(cross_entropy(wte, hidden, labels).loss == cross_entropy(twin, wide, labels).loss);
  CHECK(wte.grad() == twin.grad());
  const Matrix<T> grad_logits = test::drawn<T>(9, 40, 3, 1);
  CHECK(logits_backward(wte, hidden, grad_logits) ==
        logits_backward(twin, wide, Matrix<float>(grad_logits.template cast<float>())));
  CHECK(wte.grad() == twin.grad());
}

TEST_CASE("hidden states, outputs and gradients may be tensors, maps and blocks", "[lm_head]") {
  Embedding<float> wte(test::drawn<float>(21, 6, 1, 0.02));
  Tensor3<float> batch(2, 5, 6);
  as_matrix(batch) = test::drawn<float>(10, 6, 2, 1);
  const Matrix<float> hidden = as_matrix(batch);
  const Matrix<float> expected = logits(wte, hidden);

  CHECK(logits(wte, batch) == expected);
  CHECK(logits(wte, Eigen::TensorMap<const Tensor3<float>>(hidden.data(), 2, 5, 6)) == expected);
  CHECK(logits(wte, Eigen::Map<const Matrix<float>>(hidden.data(), 10, 6)) == expected);
  Matrix<float> wide = Matrix<float>::Zero(12, 9);
  wide.block(1, 2, 10, 6) = hidden;
  CHECK(logits(wte, wide.block(1, 2, 10, 6)) == expected);
  CHECK(logits(wte, hidden.row(3)) == logits(wte, Matrix<float>(hidden.row(3))));

  Tensor3<float> out(2, 5, 21);
  logits_into(wte, batch, out);
  CHECK(as_matrix(out) == expected);
  Matrix<float> large = Matrix<float>::Constant(12, 30, 7);
  logits_into(wte, batch, large.block(1, 2, 10, 21));
  CHECK(large.block(1, 2, 10, 21) == expected);
  CHECK(large.sum() == Approx(expected.sum() + 7 * (12 * 30 - 10 * 21)));

  CHECK(top_k(wte, batch, 4).ids == top_k(wte, hidden, 4).ids);

  Embedding<float> twin = wte;
  Tensor3<float> grad_hidden(2, 5, 6);
  const Matrix<float> grad_logits = test::drawn<float>(10, 21, 3, 1);
  logits_backward_into(wte, batch, Eigen::TensorMap<const Tensor3<float>>(grad_logits.data(), 2, 5, 21),
                       grad_hidden);
  CHECK(as_matrix(grad_hidden) == logits_backward(twin, hidden, grad_logits));
  CHECK(wte.grad() == twin.grad());

  const auto labels = some_labels(10, 21);
  const IdMatrix<int> batch_labels = Eigen::Map<const IdMatrix<int>>(labels.data(), 2, 5);
  const auto loss = cross_entropy(twin, hidden, labels);
  CHECK(cross_entropy_into(wte, batch, batch_labels, grad_hidden) == loss.loss);
  CHECK(as_matrix(grad_hidden) == loss.grad_hidden);
  CHECK(cross_entropy_loss(wte, batch, labels) == loss.loss);
  CHECK(cross_entropy_loss(wte, hidden, batch_labels) == loss.loss);
  CHECK(cross_entropy_loss(wte, hidden, batch_labels.cast<std::int64_t>()) == loss.loss);
}

TEST_CASE("rows that pad the table have no logits and get no gradient", "[lm_head]") {
  Matrix<double> weight = test::drawn<double>(20, 4, 1, 0.5);
  weight.bottomRows(7).setConstant(not_a_number);
  Embedding<double> wte(weight);
  Embedding<double> tokens(Matrix<double>(weight.topRows(13)));
  const auto hidden = test::drawn<double>(9, 4, 2, 1);
  const HeadOptions options{.vocab_size = 13};
  CHECK(logits(wte, hidden, options) == logits(tokens, hidden));
  CHECK(top_k(wte, hidden, 13, options).ids == top_k(tokens, hidden, 13).ids);
  const auto grad_logits = test::drawn<double>(9, 13, 3, 1);
  CHECK(logits_backward(wte, hidden, grad_logits, options) == logits_backward(tokens, hidden, grad_logits));
  const auto labels = some_labels(9, 13);
  const auto loss = cross_entropy(wte, hidden, labels, {.head = options});
  CHECK(loss.grad_hidden == cross_entropy(tokens, hidden, labels).grad_hidden);
  CHECK(wte.grad().topRows(13) == tokens.grad());
  CHECK(wte.grad().bottomRows(7).isZero(0));
}

TEST_CASE("empty tables and states of no dimension are legal", "[lm_head]") {
  Embedding<float> no_tokens(0, 3);
  Embedding<float> no_columns(5, 0);
  const Matrix<float> hidden = test::drawn<float>(2, 3, 2, 1);
  CHECK(logits(no_tokens, hidden).cols() == 0);
  CHECK(top_k(no_tokens, hidden, 0).ids.rows() == 2);
  CHECK(logits_backward(no_tokens, hidden, Matrix<float>(2, 0)).isZero(0));
  CHECK(std::isnan(cross_entropy(no_tokens, hidden, std::vector<int>{-100, -100}).loss));
  CHECK(logits(no_columns, Matrix<float>(2, 0)).isZero(0));
  CHECK(top_k(no_columns, Matrix<float>(2, 0), 2).ids.row(1) == Eigen::RowVector2<std::int64_t>(0, 1));
  const auto loss = cross_entropy(no_columns, Matrix<float>(2, 0), std::vector<int>{1, 4});
  CHECK(loss.loss == Approx(std::log(5.0)).epsilon(1e-6));
  CHECK(loss.grad_hidden.rows() == 2);
}

TEST_CASE("what cannot be is refused, and nothing is changed", "[lm_head]") {
  Embedding<float> wte(20, 4);
  wte.mutable_grad().setConstant(3);
  const auto hidden = test::drawn<float>(6, 4, 2, 1);
  Matrix<float> out = Matrix<float>::Constant(6, 20, 7);
  Matrix<float> grad_hidden = Matrix<float>::Constant(6, 4, 7);
  const auto grad_logits = test::drawn<float>(6, 20, 3, 1);
  const std::vector<int> labels{0, 1, 2, 3, 4, 5};

  SECTION("options") {
    for (const Index vocab_size : {Index{-1}, Index{21}, std::numeric_limits<Index>::min()}) {
      const HeadOptions options{.vocab_size = vocab_size};
      const auto check = [&](auto&& action) {
        const auto error = test::error_of<ArgumentError>(action);
        CHECK(error.name() == "vocab_size");
        CHECK(error.value() == static_cast<double>(vocab_size));
        CHECK(test::contains(error.what(), "is outside [0, 20]"));
      };
      check([&] { logits_into(wte, hidden, out, options); });
      check([&] { (void)logits(wte, hidden, options); });
      check([&] { (void)top_k(wte, hidden, 1, options); });
      check([&] { logits_backward_into(wte, hidden, grad_logits, grad_hidden, options); });
      check([&] { (void)logits_backward(wte, hidden, grad_logits, options); });
      check([&] { (void)cross_entropy_into(wte, hidden, labels, grad_hidden, {.head = options}); });
      check([&] { (void)cross_entropy(wte, hidden, labels, {.head = options}); });
      check([&] { (void)cross_entropy_loss(wte, hidden, labels, {.head = options}); });
    }
    for (const double cap : {-1.0, not_a_number, infinity, -infinity, 1e300, 1e-300}) {
      const HeadOptions options{.logit_soft_cap = cap};
      const auto error = test::error_of<ArgumentError>([&] { logits_into(wte, hidden, out, options); });
      CHECK(error.name() == "logit_soft_cap");
      CHECK((error.value() == cap || std::isnan(cap)));
      CHECK(test::error_of<ArgumentError>([&] {
              (void)cross_entropy_into(wte, hidden, labels, grad_hidden, {.head = options});
            }).name() == "logit_soft_cap");
    }
    CHECK(
        logits(Embedding<double>(2, 4), test::drawn<double>(1, 4, 1, 1), {.logit_soft_cap = 1e300}).size() ==
        2);
    for (const Index k : {-1, 21}) {
      const auto error = test::error_of<ArgumentError>([&] { (void)top_k(wte, hidden, k); });
      CHECK(error.name() == "k");
      CHECK(error.value() == static_cast<double>(k));
      CHECK(test::contains(error.what(), "is outside [0, 20]"));
    }
    CHECK(test::error_of<ArgumentError>([&] { (void)top_k(wte, hidden, 11, {.vocab_size = 10}); }).name() ==
          "k");
  }

  SECTION("shapes") {
    const auto check = [](const char* name, const char* expected, const char* found, auto&& action) {
      const auto error = test::error_of<ShapeError>(action);
      CHECK(error.table() == "lm_head");
      CHECK(error.name() == name);
      CHECK(error.expected() == expected);
      CHECK(error.found() == found);
    };
    const auto narrow = test::drawn<float>(6, 3, 2, 1);
    Tensor3<float> batch(2, 3, 4);
    batch.setZero();
    check("hidden", "[6, 4]", "[6, 3]", [&] { logits_into(wte, narrow, out); });
    check("hidden", "[6, 4]", "[6, 3]", [&] { (void)logits(wte, narrow); });
    check("hidden", "[6, 4]", "[6, 3]", [&] { (void)top_k(wte, narrow, 1); });
    check("hidden", "[6, 4]", "[6, 3]", [&] { (void)logits_backward(wte, narrow, grad_logits); });
    check("hidden", "[6, 4]", "[6, 3]", [&] { (void)cross_entropy(wte, narrow, labels); });
    check("hidden", "[6, 4]", "[6, 3]", [&] { (void)cross_entropy_loss(wte, narrow, labels); });
    check("hidden", "[2, 3, 4]", "[2, 3, 5]", [&] { (void)logits(wte, Tensor3<float>(2, 3, 5)); });
    check("out", "[6, 20]", "[5, 20]", [&] { logits_into(wte, hidden, out.topRows(5)); });
    check("out", "[6, 19]", "[6, 20]", [&] { logits_into(wte, hidden, out, {.vocab_size = 19}); });
    Tensor3<float> transposed(3, 2, 20);
    check("out", "[2, 3, 20]", "[3, 2, 20]", [&] { logits_into(wte, batch, transposed); });
    check("grad_logits", "[6, 20]", "[6, 19]",
          [&] { logits_backward_into(wte, hidden, grad_logits.leftCols(19), grad_hidden); });
    check("grad_hidden", "[6, 4]", "[6, 3]",
          [&] { logits_backward_into(wte, hidden, grad_logits, grad_hidden.leftCols(3)); });
    check("grad_hidden", "[6, 4]", "[4, 4]",
          [&] { (void)cross_entropy_into(wte, hidden, labels, grad_hidden.topRows(4)); });
    check("labels", "[6]", "[5]",
          [&] { (void)cross_entropy_into(wte, hidden, std::vector<int>(5, 0), grad_hidden); });
    check("labels", "[6]", "[2, 4]",
          [&] { (void)cross_entropy(wte, hidden, IdMatrix<int>(IdMatrix<int>::Zero(2, 4))); });
    check("labels", "[2, 3] or [6]", "[3, 2]",
          [&] { (void)cross_entropy(wte, batch, IdMatrix<int>(IdMatrix<int>::Zero(3, 2))); });
  }

  SECTION("labels") {
    for (const int label : {-1, 20, -99, 1000}) {
      std::vector<int> wrong = labels;
      wrong[4] = label;
      const auto error =
          test::error_of<IndexError>([&] { (void)cross_entropy_into(wte, hidden, wrong, grad_hidden); });
      CHECK(error.table() == "lm_head");
      CHECK(error.name() == "labels");
      CHECK(error.coordinates() == std::vector<std::int64_t>{4});
      CHECK(error.value() == label);
      CHECK(error.bound() == 20);
      CHECK(test::contains(error.what(), "[gpt2.index_error] lm_head: labels[4] = " + std::to_string(label) +
                                             " is outside [0, 20), and not ignore_index, -100"));
      IdMatrix<int> matrix = Eigen::Map<IdMatrix<int>>(wrong.data(), 2, 3);
      CHECK(test::error_of<IndexError>([&] {
              (void)cross_entropy_loss(wte, hidden, matrix);
            }).coordinates() == std::vector<std::int64_t>{1, 1});
    }
    const auto error = test::error_of<IndexError>(
        [&] { (void)cross_entropy(wte, hidden, labels, {.head = {.vocab_size = 5}}); });
    CHECK(error.value() == 5);
    CHECK(error.bound() == 5);
  }

  CHECK((wte.grad().array() == 3).all());
  CHECK((out.array() == 7).all());
  CHECK((grad_hidden.array() == 7).all());
}

TEST_CASE("a refused call does not make a gradient", "[lm_head]") {
  Embedding<float> wte(20, 4);
  const auto hidden = test::drawn<float>(2, 4, 2, 1);
  (void)test::error_of<IndexError>([&] { (void)cross_entropy(wte, hidden, std::vector<int>{1, 20}); });
  (void)test::error_of<ShapeError>([&] { (void)logits_backward(wte, hidden, Matrix<float>(2, 19)); });
  (void)cross_entropy_loss(wte, hidden, std::vector<int>{1, 2});
  CHECK_FALSE(wte.has_grad());
}

TEMPLATE_TEST_CASE("nothing depends on the device, bit for bit", "[lm_head]", float, Eigen::half) {
  using T = TestType;
  for (const Index n : {1, 20, 300}) {
    const auto hidden = test::drawn<float>(n, 40, 2, 1);
    const auto labels = some_labels(n, 300);
    const auto grad_logits = test::drawn<float>(n, 300, 3, 1);
    Embedding<T> wte(300, 40);
    Embedding<T> twin = wte;
    for (const Index slice : {1, 3, 1000}) {
      const test::SlicingDevice device{slice};
      for (const double cap : {0.0, 2.0}) {
        const HeadOptions head{.logit_soft_cap = cap};
        CHECK(test::same_bits(logits(wte, hidden, head, device), logits(twin, hidden, head)));
        CHECK(top_k(wte, hidden, 5, head, device).ids == top_k(twin, hidden, 5, head).ids);
        CHECK(test::same_bits(logits_backward(wte, hidden, grad_logits, head, device),
                              logits_backward(twin, hidden, grad_logits, head)));
        const CrossEntropyOptions options{.head = head};
        const auto found = cross_entropy(wte, hidden, labels, options, device);
        const auto expected = cross_entropy(twin, hidden, labels, options);
        CHECK(found.loss == expected.loss);
        CHECK(cross_entropy_loss(wte, hidden, labels, options, device) == expected.loss);
        CHECK(test::same_bits(found.grad_hidden, expected.grad_hidden));
        CHECK(test::same_bits(wte.grad(), twin.grad()));
      }
    }
  }
}

}  // namespace lm_head_tests
