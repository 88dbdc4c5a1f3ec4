// SPDX-License-Identifier: MIT
//
// Compiled twice: also for FMA, which reveals whether a sum is formed by packets or one by one.

#include <cstddef>
#include <cstdint>
#include <vector>

#include "gpt2/lm_head.hpp"
#include "gpt2/quantized_embedding.hpp"
#include "plain_head.hpp"
#include "support.hpp"

namespace lm_head_addresses_tests {

using namespace gpt2;
using namespace test::head;

namespace {

/// A matrix that begins some elements past an address that any packet could be at.
template <class T>
class Shifted {
 public:
  Shifted(const Matrix<T>& values, Index shift)
      : memory_(static_cast<std::size_t>(values.size() + shift) * sizeof(T) + alignment),
        rows_(values.rows()),
        cols_(values.cols()) {
    const auto address = reinterpret_cast<std::uintptr_t>(memory_.data());
    first_ = static_cast<std::size_t>((alignment - address % alignment) % alignment) +
             static_cast<std::size_t>(shift) * sizeof(T);
    map() = values;
  }

  [[nodiscard]] Eigen::Map<Matrix<T>> map() {
    return {reinterpret_cast<T*>(memory_.data() + first_), rows_, cols_};
  }

 private:
  static constexpr std::size_t alignment = 64;
  std::vector<unsigned char> memory_;
  std::size_t first_ = 0;
  Index rows_;
  Index cols_;
};

constexpr Index shifts[] = {0, 1, 2, 3, 5, 7, 8, 12};

template <class T>
void check_shape(Index n, Index vocab_size, Index cols) {
  const auto weight = test::drawn<T>(vocab_size, cols, 1, 0.7);
  const auto hidden = test::drawn<T>(n, cols, 2, 1);
  const auto grad_logits = test::drawn<T>(n, vocab_size, 3, 1);
  std::vector<int> labels;
  for (Index i = 0; i < n; ++i) labels.push_back(static_cast<int>(i * 3 % vocab_size));
  for (const double cap : {0.0, 2.0}) {
    const HeadOptions head{.logit_soft_cap = cap};
    Embedding<T> wte(weight);
    const auto expected_logits = logits(wte, hidden, head);
    const auto expected = cross_entropy(wte, hidden, labels, {.head = head});
    const auto losses = cross_entropy_losses(wte, hidden, labels, {.head = head});
    const auto expected_backward = logits_backward(wte, hidden, grad_logits, head);
    for (const Index shift : shifts) {
      INFO(n << " states, " << vocab_size << " rows, " << cols << " columns, cap " << cap << ", shifted by "
             << shift);
      Shifted<T> table(weight, shift);
      Shifted<T> states(hidden, (shift + 1) % 4);
      Shifted<T> gradients(grad_logits, (shift + 2) % 4);
      Shifted<T> out(expected_logits, shift);
      Shifted<T> grad_hidden(hidden, shift);
      auto borrowed = Embedding<T>::view(table.map(), nullptr);
      out.map().setZero();
      logits_into(borrowed, states.map(), out.map(), head);
      CHECK(test::same_bits(out.map(), expected_logits));
      CHECK(cross_entropy_into(borrowed, states.map(), labels, grad_hidden.map(), {.head = head}) ==
            expected.loss);
      CHECK(test::same_bits(grad_hidden.map(), expected.grad_hidden));
      CHECK(test::same_bits(cross_entropy_losses(borrowed, states.map(), labels, {.head = head}), losses));
      logits_backward_into(borrowed, states.map(), gradients.map(), grad_hidden.map(), head);
      CHECK(test::same_bits(grad_hidden.map(), expected_backward));
      CHECK(test::same_bits(borrowed.grad(), wte.grad()));
    }
  }
}

}  // namespace

TEMPLATE_TEST_CASE("no bit of the head depends on an address", "[lm_head]", float, double) {
  // Eigen forms products with fewer than 20 rows, columns and terms together in another way than larger ones.
  for (const Index n : {1, 2, 5, 6}) {
    for (const Index vocab_size : {1, 3, 6, 7}) {
      for (const Index cols : {1, 3, 4, 7, 8}) check_shape<TestType>(n, vocab_size, cols);
    }
  }
  check_shape<TestType>(1, 300, 33);
  check_shape<TestType>(9, 70, 17);
  check_shape<TestType>(67, 300, 33);
}

TEMPLATE_TEST_CASE("no bit of a product depends on an address", "[lm_head]", float, double) {
  using T = TestType;
  for (const Index rows : {1, 4, 5, 9}) {
    for (const Index terms : {0, 1, 5, 6, 70}) {
      for (const Index cols : {1, 3, 5, 8, 9}) {
        const auto a = test::drawn<T>(rows, terms, 1, 1);
        const Matrix<T> transposed = a.transpose();
        const auto b = test::drawn<T>(terms, cols, 2, 1);
        const auto start = test::drawn<T>(rows, cols, 3, 1);
        const auto sum = [&](bool is_transposed, Index shift) {
          Shifted<T> out(start, shift);
          auto map = out.map();
          const detail::RowView<T> result = detail::all_rows(map);
          const detail::RowView<const T> right = detail::all_rows(b);
          if (is_transposed) {
            detail::add_transposed_product<T>({transposed.data(), terms, rows, rows}, right, result);
          } else {
            detail::add_product<T>({a.data(), rows, terms, terms}, right, result);
          }
          return Matrix<T>(map);
        };
        const Matrix<double> expected = in_double(start) + test::plain_product(in_double(a), in_double(b));
        for (const bool is_transposed : {false, true}) {
          const Matrix<T> first = sum(is_transposed, 0);
          INFO(rows << " x " << terms << " x " << cols << (is_transposed ? ", transposed" : ""));
          CHECK(relative_error(first, expected) < tolerance<T>);
          for (const Index shift : shifts) CHECK(test::same_bits(sum(is_transposed, shift), first));
        }
      }
    }
  }
}

TEST_CASE("no bit of a quantised table's logits depends on an address", "[lm_head]") {
  const QuantizedEmbedding table(Embedding<float>(test::drawn<float>(23, 19, 1, 0.7)));
  const auto hidden = test::drawn<float>(5, 19, 2, 1);
  const auto expected = logits(table, hidden);
  for (const Index shift : shifts) {
    Shifted<float> states(hidden, shift);
    Shifted<float> out(expected, (shift + 1) % 4);
    out.map().setZero();
    logits_into(table, states.map(), out.map());
    CHECK(test::same_bits(out.map(), expected));
  }
}

}  // namespace lm_head_addresses_tests
