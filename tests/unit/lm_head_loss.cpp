// SPDX-License-Identifier: MIT
#include "gpt2/lm_head.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

#include "counted_memory.hpp"
#include "gpt2/quantized_embedding.hpp"
#include "plain_head.hpp"
#include "support.hpp"

namespace lm_head_loss_tests {

using namespace gpt2;
using namespace test::head;

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

      // Gradients accumulate over calls.
      const Matrix<double> once = wte.grad();
      CHECK(cross_entropy(wte, hidden, labels, options).grad_hidden == found.grad_hidden);
      CHECK(relative_error(wte.grad(), Matrix<double>(2 * once)) < 1e-15);
    }
  }
}

TEMPLATE_TEST_CASE("the loss and its gradients agree however states and vocabulary are cut", "[lm_head]",
                   float, double) {
  using T = TestType;
  constexpr Index n = 70;
  constexpr Index vocab_size = 301;
  const auto weight = test::drawn<T>(vocab_size, 6, 1, 1);
  const auto hidden = test::drawn<T>(n, 6, 2, 2);
  const std::vector<Index> labels = [] {
    std::vector<Index> some;
    for (Index i = 0; i < n; ++i) some.push_back(i * 37 % vocab_size);
    return some;
  }();
  for (const double cap : {0.0, 3.0}) {
    Embedding<T> wte(weight);
    const HeadOptions options{.logit_soft_cap = cap};
    const auto expected = cross_entropy(wte, hidden, labels, {.head = options});
    const auto check = [&](const detail::LossPlan& plan, const detail::HeadTiling& tiling) {
      Matrix<T> grad_hidden = Matrix<T>::Zero(n, 6);
      Matrix<T> grad = Matrix<T>::Zero(vocab_size, 6);
      std::vector<detail::Softmax<T>> softmax(labels.size());
      detail::LogitsMemory<T> memory(plan.states, vocab_size, plan.columns, plan.keeps_all);
      const auto head = detail::checked_head(wte, options);
      const detail::RowView<const T> states = detail::all_rows(hidden);
      detail::find_loss_gradients<const T, T>(head, states, labels, softmax, 1.0 / n,
                                              detail::all_rows(grad_hidden), detail::all_rows(grad), memory,
                                              plan, tiling, Eigen::DefaultDevice{});
      double loss = 0;
      for (const auto& own : softmax) loss += own.loss() / n;
      INFO("chunks of " << plan.states << ", rounds of " << plan.columns << ", tiles of " << tiling.states
                        << " x " << tiling.rows << " and " << tiling.hidden_cols
                        << (plan.keeps_all ? ", kept" : ""));
      CHECK(std::abs(loss - double{expected.loss}) <= tolerance<T> * double{expected.loss} / 10);
      CHECK(relative_error(grad_hidden, expected.grad_hidden) < tolerance<T>);
      CHECK(relative_error(grad, wte.grad()) < tolerance<T>);
    };
    for (const Index states : {1, 9, 64}) {
      for (const Index rows : {1, 37, 300, 5000}) {
        for (const bool keeps_all : {false, true}) {
          check({n, rows, keeps_all}, {.states = states, .rows = rows});
          check({states, 2 * rows, keeps_all}, {.states = 5, .rows = rows, .hidden_cols = 4});
        }
      }
    }
  }
}

TEST_CASE("what a workspace leads to depends on its size and the shapes", "[lm_head]") {
  const auto plan = [](Index states, Index vocab_size, std::size_t workspace_bytes) {
    return detail::loss_plan<float>(states, vocab_size, workspace_bytes, {});
  };
  constexpr std::size_t of_64_states = 64 * 50257 * sizeof(float);
  const auto is = [](const detail::LossPlan& found, Index states, bool keeps_all) {
    return found.states == states && found.keeps_all == keeps_all;
  };
  // Room for 64 states, or for all of them, is enough.
  CHECK(is(plan(1024, 50257, of_64_states), 64, true));
  CHECK(is(plan(1024, 50257, of_64_states - 1), 1024, false));
  CHECK(is(plan(10, 50257, of_64_states - 1), 10, true));
  CHECK(is(plan(10, 50257, 0), 10, false));
  // Chunks are of about one size.
  CHECK(is(plan(1024, 50257, std::size_t{64} << 20U), 256, true));
  CHECK(is(plan(335, 50257, std::size_t{64} << 20U), 112, false) == false);
  CHECK(is(plan(335, 50257, std::size_t{64} << 20U), 168, true));
  CHECK(is(plan(5000, 50257, 0), 1667, false));
  CHECK(plan(2048, 50257, 0).columns == 256);
  CHECK(plan(64, 50257, 0).columns == 4096);
  CHECK(is(plan(7, 300, std::numeric_limits<std::size_t>::max()), 7, true));
  CHECK(is(plan(0, 50257, 0), 0, true) == false);
  CHECK(is(plan(3, 0, 0), 3, false));
}

TEMPLATE_TEST_CASE(
    "any workspace gives the same loss and gradients to rounding, and its own bits on every device",
    "[lm_head]", float, double, Eigen::half, Eigen::bfloat16) {
  using T = TestType;
  using A = Accumulator<T>;
  constexpr Index n = 300;
  constexpr Index vocab_size = 1000;
  const Embedding<T> table(test::drawn<T>(vocab_size, 24, 1, 0.5));
  const auto hidden = test::drawn<A>(n, 24, 2, 1);
  const auto labels = some_labels(n, vocab_size);
  for (const double cap : {0.0, 3.0}) {
    Embedding<T> wte = table;
    const auto expected = cross_entropy(wte, hidden, labels, {.head = {.logit_soft_cap = cap}});
    for (const std::size_t states : {std::size_t{0}, std::size_t{63}, std::size_t{64}, std::size_t{100}}) {
      const CrossEntropyOptions options{.head = {.logit_soft_cap = cap},
                                        .workspace_bytes = states * vocab_size * sizeof(A)};
      INFO("room for " << states << " states");
      Embedding<T> one = table;
      const auto found = cross_entropy(one, hidden, labels, options);
      CHECK(found.loss == Approx(double{expected.loss}).epsilon(tolerance<T> / 10));
      CHECK(relative_error(found.grad_hidden, expected.grad_hidden) < tolerance<T>);
      CHECK(relative_error(one.grad(), wte.grad()) < tolerance<T>);
      CHECK(cross_entropy_loss(table, hidden, labels, options) == found.loss);
      CHECK(cross_entropy_loss(table, hidden, labels, options, test::SlicingDevice{3}) == found.loss);

      Embedding<T> two = table;
      const auto sliced = cross_entropy(two, hidden, labels, options, test::SlicingDevice{3});
      CHECK(sliced.loss == found.loss);
      CHECK(test::same_bits(sliced.grad_hidden, found.grad_hidden));
      CHECK(test::same_bits(two.grad(), one.grad()));
    }
  }
}

TEST_CASE("losses are one for each position, and 0 where it is ignored", "[lm_head]") {
  const Embedding<double> wte(test::drawn<double>(30, 5, 1, 1));
  const auto hidden = test::drawn<double>(12, 5, 2, 1);
  const auto labels = some_labels(12, 20);
  const HeadOptions head{.vocab_size = 20, .logit_soft_cap = 2};
  const Eigen::VectorXd losses = cross_entropy_losses(wte, hidden, labels, {.head = head});
  REQUIRE(losses.size() == 12);
  for (Index i = 0; i < 12; ++i) {
    const int label = labels[static_cast<std::size_t>(i)];
    if (label == -100) {
      CHECK(losses[i] == 0);
    } else {
      const Matrix<double> state = hidden.row(i);
      CHECK(losses[i] ==
            Approx(plain_loss(in_double(wte.weight()), state, {label}, {.head = head})).epsilon(1e-12));
    }
  }
  CHECK(losses.sum() ==
        Approx(cross_entropy_loss(wte, hidden, labels, {.reduction = Reduction::sum, .head = head}))
            .epsilon(1e-14));
  const auto sums = cross_entropy_losses(wte, hidden, labels, {.reduction = Reduction::sum, .head = head},
                                         test::SlicingDevice{});
  CHECK(test::same_bits(sums, losses));

  // Of a tensor, of a quantised table, of no positions, with a device in place of the options.
  const QuantizedEmbedding quantized(wte);
  Tensor3<float> batch(3, 4, 5);
  as_matrix(batch) = hidden.cast<float>();
  const Eigen::VectorXf quick = cross_entropy_losses(quantized, batch, labels, {.head = head});
  CHECK(relative_error(quick, losses) < 0.05);
  CHECK(cross_entropy_losses(wte, Matrix<double>(0, 5), std::vector<int>(), test::SlicingDevice{}).size() ==
        0);
  CHECK(cross_entropy_losses(wte, hidden, std::vector<int>(12, -100)).isZero(0));
  CHECK(test::error_of<IndexError>([&] {
          (void)cross_entropy_losses(wte, hidden, labels, {.head = {.vocab_size = 2}});
        }).name() == "labels");
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
  const std::size_t of_loss =
      peak_of([&] { (void)cross_entropy(wte, hidden, labels, {.workspace_bytes = 0}); });
  const std::size_t of_default = peak_of([&] { (void)cross_entropy(wte, hidden, labels); });
  const std::size_t of_losses = peak_of([&] { (void)cross_entropy_losses(wte, hidden, labels); });
  const std::size_t of_top_k = peak_of([&] { (void)top_k(wte, hidden, 5); });
  CHECK(of_loss < 4'000'000);
  CHECK(of_losses < 4'000'000);
  CHECK(of_default < (std::size_t{64} << 20U) + 4'000'000);
  CHECK(of_top_k < 4'000'000);
  // That all of them would have been noticed.
  const std::size_t of_logits = peak_of([&] { (void)logits(wte, hidden); });
  CHECK(of_logits >= (test::counting ? logits_size : 0));
}

}  // namespace lm_head_loss_tests
