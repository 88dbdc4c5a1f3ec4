// SPDX-License-Identifier: MIT
#include "gpt2/sparse_gradient.hpp"

#include <algorithm>
#include <cstdint>
#include <random>
#include <vector>

#include "gpt2/embedding.hpp"
#include "gpt2/initialization.hpp"
#include "support.hpp"

namespace sparse_gradient_tests {

using namespace gpt2;

namespace {

SparseGradient<float> gradient(std::vector<Index> rows, std::vector<float> values) {
  const auto n = static_cast<Index>(rows.size());
  return {Eigen::Map<IdVector<Index>>(rows.data(), n),
          Eigen::Map<Matrix<float>>(values.data(), n, n > 0 ? static_cast<Index>(values.size()) / n : 0)};
}

bool equal(const SparseGradient<float>& a, const SparseGradient<float>& b) {
  return test::same_bits(a.rows, b.rows) && test::same_bits(a.values, b.values);
}

}  // namespace

TEMPLATE_TEST_CASE("a sparse gradient is the dense one's rows, bit for bit, on every device",
                   "[sparse_gradient]", float, double, Eigen::half, Eigen::bfloat16) {
  using T = TestType;
  using A = Accumulator<T>;
  constexpr Index num_embeddings = 300;
  const IdMatrix<std::int64_t> ids = test::random_ids(4, 60, num_embeddings);
  std::vector<Index> occurring(ids.data(), ids.data() + ids.size());
  std::sort(occurring.begin(), occurring.end());
  occurring.erase(std::unique(occurring.begin(), occurring.end()), occurring.end());
  const Index padding_idx = occurring[3];
  occurring.erase(occurring.begin() + 3);

  for (const Index cols : {1, 37}) {
    for (const bool by_freq : {false, true}) {
      Embedding<T> table(num_embeddings, cols, {.padding_idx = padding_idx, .scale_grad_by_freq = by_freq});
      const Matrix<T> grad_output = test::drawn<T>(ids.size(), cols);
      table.backward(ids, grad_output);
      const auto check = [&](const SparseGradient<A>& sparse) {
        CHECK(std::vector<Index>(sparse.rows.data(), sparse.rows.data() + sparse.rows.size()) == occurring);
        Matrix<A> dense = Matrix<A>::Zero(num_embeddings, cols);
        sparse.add_to(dense);
        CHECK(test::same_bits(dense, table.grad()));
      };
      check(table.sparse_backward(ids, grad_output));
      check(table.sparse_backward(ids, as_tensor3(grad_output, 4, 60)));
      for (const Index slice : {1, 7, 1000}) {
        check(table.sparse_backward(ids, grad_output, test::SlicingDevice{slice}));
      }
    }
  }
}

TEST_CASE("a sparse gradient has the bits of what backward adds to zeros: -0 becomes 0",
          "[sparse_gradient]") {
  const std::vector<int> ids{2, 0, 2};
  Matrix<float> grad_output(3, 2);
  grad_output << -0.0F, 1, -0.0F, -0.0F, -0.0F, -1;
  for (const bool by_freq : {false, true}) {
    Embedding<float> table(3, 2, {.scale_grad_by_freq = by_freq});
    table.backward(ids, grad_output);
    const auto sparse = table.sparse_backward(ids, grad_output);
    CHECK(equal(sparse, gradient({0, 2}, {0, 0, 0, 0})));
    CHECK(test::same_bits(sparse.values.row(0), table.grad().row(0)));
    CHECK(test::same_bits(sparse.values.row(1), table.grad().row(2)));
  }
}

TEST_CASE("sparse_backward leaves the table and its gradient alone", "[sparse_gradient]") {
  const Embedding<float> table(5, 2);
  const Matrix<float> weight = table.weight();
  const auto sparse = table.sparse_backward(std::vector<int>{4, 1, 4}, Matrix<float>::Ones(3, 2).eval());
  CHECK(equal(sparse, gradient({1, 4}, {1, 1, 2, 2})));
  CHECK(!table.has_grad());
  CHECK(test::same_bits(table.weight(), weight));
}

TEST_CASE("scale_grad_by_freq also works for sparse gradients", "[sparse_gradient]") {
  IdMatrix<int> ids(2, 3);
  ids << 1, 1, 2, 1, 0, 3;
  const Embedding<float> table(4, 1, {.padding_idx = 0, .scale_grad_by_freq = true});
  const auto sparse = table.sparse_backward(ids, Matrix<float>::Ones(6, 1).eval());
  CHECK(equal(sparse, gradient({1, 2, 3}, {1, 1, 1})));
}

TEST_CASE("3,000 gradients of 1 add up to 3,000 in a sparse bfloat16 gradient", "[sparse_gradient]") {
  using T = Eigen::bfloat16;
  const Embedding<T> table(3, 2);
  const auto sparse =
      table.sparse_backward(std::vector<int>(3000, 1), Matrix<T>::Constant(3000, 2, T(1.0F)).eval());
  CHECK(equal(sparse, gradient({1}, {3000, 3000})));
}

TEST_CASE("no ids, or only padding, give no rows", "[sparse_gradient]") {
  const Embedding<float> table(4, 3, {.padding_idx = 2});
  const auto none = table.sparse_backward(std::vector<int>{}, Matrix<float>(0, 3));
  const auto padding = table.sparse_backward(std::vector<int>{2, 2}, Matrix<float>::Ones(2, 3).eval());
  for (const auto& sparse : {none, padding}) {
    CHECK(sparse.rows.size() == 0);
    CHECK(sparse.values.rows() == 0);
    CHECK(sparse.values.cols() == 3);
    Matrix<float> dense = Matrix<float>::Zero(4, 3);
    CHECK_NOTHROW(sparse.add_to(dense));
    CHECK(dense.isZero(0));
  }
}

TEST_CASE("a sparse gradient's ids and shapes are checked", "[sparse_gradient]") {
  const Embedding<float> table(5, 3);
  const Matrix<float> two = Matrix<float>::Ones(2, 3);
  const auto index_error = test::error_of<IndexError>([&] {
    (void)table.sparse_backward(std::vector<int>{0, 5}, two);
  });
  CHECK(index_error.name() == "ids");
  CHECK(index_error.coordinates() == std::vector<std::int64_t>{1});
  CHECK(index_error.value() == 5);
  CHECK(index_error.bound() == 5);
  CHECK(test::error_of<ShapeError>([&] {
          (void)table.sparse_backward(std::vector<int>{0}, two);
        }).expected() == "[1, 3]");
}

TEST_CASE("add_to adds to a matrix, a map or a block of the table's shape", "[sparse_gradient]") {
  const auto sparse = gradient({0, 2}, {1, 2, 30, 40});
  Matrix<float> expected(3, 2);
  expected << 2, 3, 1, 1, 31, 41;
  Matrix<float> dense = Matrix<float>::Ones(3, 2);
  sparse.add_to(dense);
  CHECK(dense == expected);
  dense.setOnes();
  sparse.add_to(Eigen::Map<Matrix<float>>(dense.data(), 3, 2));
  CHECK(dense == expected);
  Matrix<float> wide = Matrix<float>::Ones(5, 5);
  sparse.add_to(wide.block(1, 2, 3, 2));
  CHECK(wide.block(1, 2, 3, 2) == expected);
  CHECK(wide.sum() == 25 - 6 + expected.sum());
  Embedding<float> table(3, 2);
  table.backward(std::vector<int>{0, 1, 2}, Matrix<float>::Ones(3, 2).eval());
  sparse.add_to(table.grad());
  CHECK(table.grad() == expected);
}

TEST_CASE("add_to refuses what does not fit, and changes nothing", "[sparse_gradient]") {
  Matrix<float> dense = Matrix<float>::Ones(3, 2);
  const auto index_error = test::error_of<IndexError>([&] { gradient({0, 3}, {1, 2, 3, 4}).add_to(dense); });
  CHECK(index_error.name() == "rows");
  CHECK(index_error.value() == 3);
  CHECK(index_error.bound() == 3);
  CHECK(index_error.coordinates() == std::vector<std::int64_t>{1});
  CHECK(test::error_of<IndexError>([&] { gradient({-1, 1}, {1, 2, 3, 4}).add_to(dense); }).value() == -1);
  CHECK(test::error_of<ShapeError>([&] { gradient({0}, {1, 2, 3}).add_to(dense); }).name() == "dense");
  CHECK(test::error_of<ArgumentError>([&] { gradient({1, 0}, {1, 2, 3, 4}).add_to(dense); }).value() == 0);
  SparseGradient<float> torn = gradient({0, 1}, {1, 2, 3, 4});
  torn.rows.conservativeResize(1);
  CHECK(test::error_of<ShapeError>([&] { torn.add_to(dense); }).name() == "values");
  CHECK(dense == Matrix<float>::Ones(3, 2));
}

TEST_CASE("merge is the union of rows, summed if both have one", "[sparse_gradient]") {
  const auto a = gradient({1, 4, 7}, {1, 2, 3, 4, 5, 6});
  const auto b = gradient({0, 4, 9}, {10, 20, 30, 40, 50, 60});
  auto sum = a;
  CHECK(&sum.merge(b) == &sum);
  CHECK(equal(sum, gradient({0, 1, 4, 7, 9}, {10, 20, 1, 2, 33, 44, 5, 6, 50, 60})));

  const auto empty = gradient({}, {});
  CHECK(equal(SparseGradient<float>(a).merge(empty), a));
  CHECK(equal(SparseGradient<float>(empty).merge(a), a));
  CHECK(equal(SparseGradient<float>(SparseGradient<float>{}).merge(a), a));
  auto doubled = a;
  doubled.merge(doubled);
  CHECK(equal(doubled, gradient({1, 4, 7}, {2, 4, 6, 8, 10, 12})));
}

TEST_CASE("merging the gradients of two batches is adding their dense ones", "[sparse_gradient]") {
  Embedding<double> table(200, 8);
  const auto first_ids = test::random_ids(1, 150, 200, 1);
  const auto second_ids = test::random_ids(1, 150, 200, 2);
  const Matrix<double> first_grad = test::drawn<double>(150, 8, 1);
  const Matrix<double> second_grad = test::drawn<double>(150, 8, 2);
  auto merged = table.sparse_backward(first_ids, first_grad);
  const auto second = table.sparse_backward(second_ids, second_grad);
  Matrix<double> one_by_one = Matrix<double>::Zero(200, 8);
  merged.add_to(one_by_one);
  second.add_to(one_by_one);
  merged.merge(second);
  Matrix<double> at_once = Matrix<double>::Zero(200, 8);
  merged.add_to(at_once);
  CHECK(test::same_bits(at_once, one_by_one));
  CHECK(std::is_sorted(merged.rows.data(), merged.rows.data() + merged.rows.size()));
}

TEST_CASE("merge refuses what does not fit, and changes nothing", "[sparse_gradient]") {
  auto sum = gradient({1, 4}, {1, 2, 3, 4});
  const auto before = sum;
  const auto shape_error = test::error_of<ShapeError>([&] { sum.merge(gradient({2}, {1, 2, 3})); });
  CHECK(shape_error.name() == "other");
  CHECK(shape_error.expected() == "[1, 2]");
  CHECK(shape_error.found() == "[1, 3]");
  CHECK(test::error_of<ArgumentError>([&] { sum.merge(gradient({5, 5}, {1, 2, 3, 4})); }).name() == "rows");
  CHECK(equal(sum, before));
}

TEST_CASE("a row-wise step with a sparse gradient is the dense step", "[sparse_gradient]") {
  const auto ids = test::random_ids(1, 40, 100);
  const Matrix<float> grad_output = test::drawn<float>(40, 6);
  Embedding<float> dense(100, 6);
  Embedding<float> sparse = dense;
  dense.backward(ids, grad_output);
  dense.mutable_weight() -= 0.25F * dense.grad();
  const auto rows = sparse.sparse_backward(ids, grad_output);
  for (Index i = 0; i < rows.rows.size(); ++i) {
    sparse.mutable_weight().row(rows.rows[i]) -= 0.25F * rows.values.row(i);
  }
  CHECK(test::same_bits(sparse.weight(), dense.weight()));
}

}  // namespace sparse_gradient_tests
