// SPDX-License-Identifier: MIT
#include "gpt2/lm_head.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>
#include <utility>
#include <vector>

#include "counted_memory.hpp"
#include "support.hpp"

using namespace gpt2;

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();

/// The element as a double, whatever it is.
template <class T>
double number(T x) {
  if constexpr (std::is_floating_point_v<T>) {
    return static_cast<double>(x);
  } else {
    return static_cast<double>(static_cast<float>(x));
  }
}

template <class M>
Matrix<double> in_double(const M& matrix) {
  Matrix<double> result(matrix.rows(), matrix.cols());
  for (Index i = 0; i < matrix.rows(); ++i) {
    for (Index j = 0; j < matrix.cols(); ++j) result(i, j) = number(matrix(i, j));
  }
  return result;
}

/// Logits by a plain loop.
Matrix<double> plain_logits(const Matrix<double>& weight, const Matrix<double>& hidden,
                            const HeadOptions& options = {}) {
  const Index vocab_size = options.vocab_size == 0 ? weight.rows() : options.vocab_size;
  Matrix<double> logits(hidden.rows(), vocab_size);
  for (Index i = 0; i < logits.rows(); ++i) {
    for (Index v = 0; v < vocab_size; ++v) {
      double sum = 0;
      for (Index j = 0; j < weight.cols(); ++j) sum += hidden(i, j) * weight(v, j);
      const double cap = options.logit_soft_cap;
      logits(i, v) = cap == 0 ? sum : cap * std::tanh(sum / cap);
    }
  }
  return logits;
}

/// The loss by a plain loop; label -100 is ignored.
double plain_loss(const Matrix<double>& weight, const Matrix<double>& hidden, const std::vector<int>& labels,
                  const CrossEntropyOptions& options = {}) {
  const Matrix<double> logits = plain_logits(weight, hidden, options.head);
  double sum = 0;
  int count = 0;
  for (Index i = 0; i < logits.rows(); ++i) {
    const int label = labels[static_cast<std::size_t>(i)];
    if (label == -100) continue;
    const double max = logits.row(i).maxCoeff();
    double exponentials = 0;
    for (Index v = 0; v < logits.cols(); ++v) exponentials += std::exp(logits(i, v) - max);
    sum += std::log(exponentials) + max - logits(i, label);
    ++count;
  }
  return options.reduction == Reduction::sum ? sum : sum / count;
}

/// The derivative of value(matrix) for each element, by central differences.
template <class Value>
Matrix<double> differences(Matrix<double> matrix, const Value& value) {
  constexpr double step = 1e-5;
  Matrix<double> result(matrix.rows(), matrix.cols());
  for (Index i = 0; i < matrix.size(); ++i) {
    const double x = matrix.data()[i];
    matrix.data()[i] = x + step;
    const double above = value(matrix);
    matrix.data()[i] = x - step;
    const double below = value(matrix);
    matrix.data()[i] = x;
    result.data()[i] = (above - below) / (2 * step);
  }
  return result;
}

/// The largest difference, relative to the largest element.
template <class A, class B>
double relative_error(const A& found, const B& expected) {
  if (expected.size() == 0) return 0;
  const double scale = in_double(expected).cwiseAbs().maxCoeff();
  return (in_double(found) - in_double(expected)).cwiseAbs().maxCoeff() / (scale == 0 ? 1 : scale);
}

template <class T>
constexpr double tolerance = std::is_same_v<Accumulator<T>, double> ? 1e-12 : 1e-5;

std::vector<int> some_labels(Index n, Index vocab_size) {
  std::vector<int> labels;
  for (Index i = 0; i < n; ++i) labels.push_back(i % 5 == 3 ? -100 : static_cast<int>(i * 37 % vocab_size));
  return labels;
}

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
    // A single one, and zeros elsewhere. Where numbers are finite, the sum is the number.
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
    // The row at padding_idx is trained by the head, too.
    CHECK(relative_error(wte.grad(), differences(weight, of_weight)) < 1e-9);

    // Gradients are summed up over calls.
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
  CHECK(relative_error(grad_hidden, Matrix<double>(given * in_double(wte.weight()))) < 1e-5);
  CHECK(relative_error(wte.grad(), Matrix<double>(given.transpose() * in_double(hidden))) < 1e-5);
}

TEST_CASE("gradients of logits reach the whole of a large vocabulary", "[lm_head]") {
  const auto weight = test::drawn<double>(9001, 3, 1, 1);  // more rows than are gone through at a time
  const auto hidden = test::drawn<double>(5, 3, 2, 1);
  const auto grad_logits = test::drawn<double>(5, 9001, 3, 1);
  for (const double cap : {0.0, 2.0}) {
    const HeadOptions options{.logit_soft_cap = cap};
    Matrix<double> of_products = grad_logits;
    if (cap != 0) of_products.array() *= 1 - (plain_logits(weight, hidden, options) / cap).array().square();
    Embedding<double> wte(weight);
    const auto grad_hidden = logits_backward(wte, hidden, grad_logits, options);
    CHECK(relative_error(grad_hidden, Matrix<double>(of_products * weight)) < 1e-12);
    CHECK(relative_error(wte.grad(), Matrix<double>(of_products.transpose() * hidden)) < 1e-12);
  }
}

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
    for (const Index logits_per_round : {1, 100, 100000}) {
      const auto found = detail::top_k(head, hidden, 11, Eigen::DefaultDevice{},
                                       {.states = 2, .rows = rows, .logits_per_round = logits_per_round});
      CHECK(found.ids == expected.ids);
      CHECK(relative_error(found.logits, expected.logits) < 1e-15);
    }
  }
}

TEMPLATE_TEST_CASE("the loss is the mean or the sum over positions with a label", "[lm_head]", float, double,
                   Eigen::half, Eigen::bfloat16) {
  using T = TestType;
  using A = Accumulator<T>;
  for (const Index vocab_size : {1, 7, 300}) {
    for (const Index n : {1, 5, 270}) {
      for (const auto reduction : {Reduction::mean, Reduction::sum}) {
        for (const double cap : {0.0, 2.0}) {
          Embedding<T> wte(test::drawn<T>(vocab_size, 9, 1, 0.5));
          const auto hidden = test::drawn<A>(n, 9, 2, 1);
          const auto labels = some_labels(n, vocab_size);
          const CrossEntropyOptions options{.reduction = reduction, .head = {.logit_soft_cap = cap}};
          const auto found = cross_entropy(wte, hidden, labels, options);
          const double expected = plain_loss(in_double(wte.weight()), in_double(hidden), labels, options);
          INFO(n << " states, " << vocab_size << " tokens, cap " << cap);
          CHECK(std::abs(number(found.loss) - expected) <= tolerance<T> * std::max(expected, 1.0));
          CHECK(cross_entropy_loss(wte, hidden, labels, options) == found.loss);

          // The gradient, by way of the logits'.
          Embedding<double> twin(in_double(wte.weight()));
          Matrix<double> grad_logits = plain_logits(in_double(wte.weight()), in_double(hidden), options.head);
          double count = 0;
          for (const int label : labels) count += label != -100;
          for (Index i = 0; i < n; ++i) {
            auto row = grad_logits.row(i).array();
            row = (row - row.maxCoeff()).exp();
            row /= row.sum();
            const int label = labels[static_cast<std::size_t>(i)];
            if (label != -100) row[label] -= 1;
            row *= label == -100 ? 0 : reduction == Reduction::sum ? 1 : 1 / count;
          }
          const auto grad_hidden = logits_backward(twin, in_double(hidden), grad_logits, options.head);
          CHECK((in_double(found.grad_hidden) - grad_hidden).norm() <=
                tolerance<T> * (grad_hidden.norm() + 1e-3));
          CHECK((in_double(wte.grad()) - twin.grad()).norm() <= tolerance<T> * (twin.grad().norm() + 1e-3));
        }
      }
    }
  }
}

TEST_CASE("the gradient of the loss is that of finite differences", "[lm_head]") {
  const auto weight = test::drawn<double>(23, 5, 1, 0.7);
  const auto hidden = test::drawn<double>(11, 5, 2, 1);
  const auto labels = some_labels(11, 19);
  for (const auto reduction : {Reduction::mean, Reduction::sum}) {
    for (const double cap : {0.0, 1.5}) {
      const CrossEntropyOptions options{.reduction = reduction,
                                        .head = {.vocab_size = 19, .logit_soft_cap = cap}};
      Embedding<double> wte(weight, {.padding_idx = 2});
      const auto found = cross_entropy(wte, hidden, labels, options);
      const auto of_hidden = [&](const Matrix<double>& h) { return plain_loss(weight, h, labels, options); };
      const auto of_weight = [&](const Matrix<double>& w) { return plain_loss(w, hidden, labels, options); };
      CHECK(relative_error(found.grad_hidden, differences(hidden, of_hidden)) < 1e-8);
      CHECK(relative_error(wte.grad(), differences(weight, of_weight)) < 1e-8);

      // Gradients are summed up over calls.
      const Matrix<double> once = wte.grad();
      CHECK(cross_entropy(wte, hidden, labels, options).grad_hidden == found.grad_hidden);
      CHECK(relative_error(wte.grad(), Matrix<double>(2 * once)) < 1e-15);
    }
  }
}

TEMPLATE_TEST_CASE("the loss and its gradients are the same with any chunk size", "[lm_head]", float,
                   double) {
  using T = TestType;
  const auto weight = test::drawn<T>(301, 6, 1, 1);
  const auto hidden = test::drawn<T>(70, 6, 2, 2);
  const auto labels = some_labels(70, 301);
  for (const double cap : {0.0, 3.0}) {
    const CrossEntropyOptions options{.head = {.logit_soft_cap = cap}};
    Embedding<T> wte(weight);
    const auto expected = cross_entropy(wte, hidden, labels, options);
    for (const Index states : {1, 9, 64}) {
      for (const Index rows : {1, 2, 37, 300, 301, 5000}) {
        for (const Index logits_per_round : {1, 3000}) {
          const detail::HeadTiling tiling{states, rows, logits_per_round};
          Embedding<T> twin(weight);
          Matrix<T> grad_hidden(70, 6);
          const T loss = detail::cross_entropy_into(twin, hidden, labels, grad_hidden, options,
                                                    Eigen::DefaultDevice{}, tiling);
          CHECK(std::abs(double{loss} - double{expected.loss}) <= tolerance<T> * double{expected.loss} / 10);
          CHECK(relative_error(grad_hidden, expected.grad_hidden) < tolerance<T>);
          CHECK(relative_error(twin.grad(), wte.grad()) < tolerance<T>);
        }
      }
    }
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
    form_logits(detail::Head<TestType>{detail::rows_of(wte.weight())}, states, 0, result, tiling,
                Eigen::DefaultDevice{});
    return out;
  };
  const Matrix<double> expected =
      hidden.template cast<double>() * wte.weight().template cast<double>().transpose();
  CHECK(relative_error(by(70), expected) < tolerance<A>);
  CHECK(relative_error(by(69), expected) < tolerance<A>);
}

TEST_CASE("large logits neither overflow nor lose the loss", "[lm_head]") {
  Matrix<float> weight(4, 1);
  weight << 30000, 29999, -30000, 0;
  Embedding<float> wte(weight);
  const auto loss = cross_entropy(wte, Matrix<float>(Matrix<float>::Ones(1, 1)), std::vector<int>{1});
  CHECK(loss.loss == Approx(1.3132617).epsilon(1e-6));
  CHECK(wte.grad()(0) == Approx(0.7310586).epsilon(1e-6));
  CHECK(wte.grad()(1) == Approx(-0.7310586).epsilon(1e-6));
  CHECK(wte.grad()(2) == 0);
  CHECK(wte.grad()(3) == 0);
}

TEST_CASE("the gradient of a loss is capped where a token's exponential vanishes, too", "[lm_head]") {
  Matrix<float> weight(4, 1);
  weight << 147, 146.5F, -147, 0;  // with the cap, logits of about 90, 90, -90 and 0
  const Matrix<float> hidden = Matrix<float>::Ones(1, 1);
  const std::vector<int> labels{3};
  const CrossEntropyOptions options{.head = {.logit_soft_cap = 100}};
  Embedding<float> wte(weight);
  const auto found = cross_entropy(wte, hidden, labels, options);
  const auto of_hidden = [&](const Matrix<double>& h) {
    return plain_loss(in_double(weight), h, labels, options);
  };
  const auto of_weight = [&](const Matrix<double>& w) {
    return plain_loss(w, in_double(hidden), labels, options);
  };
  CHECK(relative_error(found.grad_hidden, differences(in_double(hidden), of_hidden)) < 1e-4);
  CHECK(relative_error(wte.grad(), differences(in_double(weight), of_weight)) < 1e-4);
}

TEST_CASE("infinite and NaN logits give what they give in PyTorch", "[lm_head]") {
  const auto of = [](std::vector<double> logits, int label) {
    Embedding<double> wte(Matrix<double>(
        Eigen::Map<const Matrix<double>>(logits.data(), static_cast<Index>(logits.size()), 1)));
    const auto found =
        cross_entropy(wte, Matrix<double>(Matrix<double>::Ones(1, 1)), std::vector<int>{label});
    // The hidden state is a single one, so the table's gradient is that of the logits.
    return std::pair<double, Matrix<double>>(found.loss, wte.grad());
  };
  SECTION("a token of probability 0") {
    const auto [loss, gradient] = of({1, -infinity, 3}, 0);
    CHECK(loss == Approx(2.1269280).epsilon(1e-7));
    CHECK(gradient(0) == Approx(-0.8807970).epsilon(1e-6));
    CHECK(gradient(1) == 0);
    CHECK(gradient(2) == Approx(0.8807970).epsilon(1e-6));
  }
  SECTION("a label of probability 0") {
    const auto [loss, gradient] = of({1, -infinity, 3}, 1);
    CHECK(loss == infinity);
    CHECK(gradient(0) == Approx(0.1192029).epsilon(1e-6));
    CHECK(gradient(1) == -1);
    CHECK(gradient(2) == Approx(0.8807970).epsilon(1e-6));
  }
  SECTION("no softmax") {
    for (const auto& logits : {std::vector<double>{1, infinity, 3}, std::vector<double>{1, not_a_number, 3},
                               std::vector<double>(3, -infinity), std::vector<double>(3, infinity)}) {
      for (const int label : {0, 1}) {
        const auto [loss, gradient] = of(logits, label);
        CHECK(std::isnan(loss));
        CHECK(gradient.array().isNaN().all());
      }
    }
  }
  SECTION("in another chunk than the label's") {
    std::vector<double> logits(1000, 0.0);
    logits[999] = not_a_number;
    CHECK(std::isnan(of(logits, 3).first));
    logits[999] = 0;
    logits[0] = not_a_number;
    CHECK(std::isnan(of(logits, 999).first));
    for (std::size_t i = 0; i < 999; ++i) logits[i] = -infinity;
    CHECK(of(logits, 999).first == 0);
    CHECK(of(logits, 3).first == infinity);
  }
}

TEST_CASE("where no position has a label the mean is NaN, the sum 0, the gradients are zeros", "[lm_head]") {
  for (const Index n : {0, 3}) {
    for (const auto reduction : {Reduction::mean, Reduction::sum}) {
      Embedding<float> wte(20, 4);
      const auto found =
          cross_entropy(wte, test::drawn<float>(n, 4, 2, 1),
                        std::vector<int>(static_cast<std::size_t>(n), -100), {.reduction = reduction});
      CHECK((reduction == Reduction::sum ? found.loss == 0 : std::isnan(found.loss)));
      CHECK(found.grad_hidden.rows() == n);
      CHECK(found.grad_hidden.isZero(0));
      CHECK(wte.grad().isZero(0));
    }
  }
}

TEST_CASE("an ignored position takes no part, whatever is in it", "[lm_head]") {
  Matrix<float> hidden = test::drawn<float>(5, 4, 2, 1);
  Embedding<float> wte(20, 4);
  Embedding<float> twin = wte;
  const Matrix<float> kept = hidden.middleRows(1, 3);
  hidden.row(0).setConstant(std::numeric_limits<float>::quiet_NaN());
  hidden.row(4).setConstant(std::numeric_limits<float>::infinity());
  const auto found = cross_entropy(wte, hidden, std::vector<int>{7, 1, 2, 3, 7}, {.ignore_index = 7});
  const auto expected = cross_entropy(twin, kept, std::vector<int>{1, 2, 3});
  CHECK(found.loss == expected.loss);
  CHECK(found.grad_hidden.middleRows(1, 3) == expected.grad_hidden);
  CHECK(found.grad_hidden.row(0).isZero(0));
  CHECK(found.grad_hidden.row(4).isZero(0));
  CHECK(wte.grad() == twin.grad());
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

TEST_CASE("labels are compared by value, whatever their type", "[lm_head]") {
  const Embedding<float> wte(20, 4);
  const auto hidden = test::drawn<float>(1, 4, 2, 1);
  const auto loss_of = [&](auto label, std::int64_t ignore_index) {
    return cross_entropy_loss(wte, hidden, std::vector{label}, {.ignore_index = ignore_index});
  };
  CHECK(std::isfinite(loss_of(std::uint8_t{3}, -100)));
  CHECK(std::isnan(loss_of(std::uint64_t{200}, 200)));
  CHECK(std::isnan(loss_of(std::int8_t{-100}, -100)));
  const auto refused = [&](auto label, std::int64_t ignore_index) {
    return test::error_of<IndexError>([&] { (void)loss_of(label, ignore_index); });
  };
  CHECK(refused(std::uint8_t{156}, -100).value() == 156);
  CHECK(test::contains(refused(std::uint64_t{0} - 100, -100).what(), "18446744073709551516"));
  CHECK(refused(std::int64_t{4294967297}, -100).value() == 4294967297);
  CHECK(refused(std::int64_t{4294967196}, -100).value() == 4294967196);
  CHECK(refused(-1, 2147483647).value() == -1);
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

TEST_CASE("the loss of 1,024 positions and 50,257 tokens takes no 206 MB", "[lm_head]") {
#ifdef __OPTIMIZE__
  constexpr Index n = 1024;
#else
  constexpr Index n = 64;  // of as many tokens, for it would take minutes: 13 MB
#endif
  constexpr Index vocab_size = 50257;
  Embedding<float> wte(vocab_size, 4);
  (void)wte.mutable_grad();
  const auto hidden = test::drawn<float>(n, 4, 2, 1);
  const std::vector<int> labels(static_cast<std::size_t>(n), 3);
  const auto peak_of = [](auto&& action) {
    const std::size_t before = test::memory.live_bytes;
    test::memory.peak_bytes = before;
    action();
    return test::memory.peak_bytes - before;
  };
  constexpr std::size_t logits_size = n * vocab_size * sizeof(float);
  const std::size_t of_loss = peak_of([&] { (void)cross_entropy(wte, hidden, labels); });
  const std::size_t of_top_k = peak_of([&] { (void)top_k(wte, hidden, 5); });
  CHECK(of_loss < 4'000'000);
  CHECK(of_top_k < 4'000'000);
  // That all of them would have been noticed.
  const std::size_t of_logits = peak_of([&] { (void)logits(wte, hidden); });
  CHECK(of_logits >= (test::counting ? logits_size : 0));
}
