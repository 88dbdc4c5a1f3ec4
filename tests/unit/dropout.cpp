// SPDX-License-Identifier: MIT
#include "gpt2/dropout.hpp"

#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>
#include <vector>

#include "gpt2/initialization.hpp"
#include "support.hpp"

namespace dropout_tests {

using namespace gpt2;

namespace {

template <class D, class H>
concept CanDrop = requires(const D& dropout, H&& hidden) {
  dropout.forward(std::uint64_t{0}, std::forward<H>(hidden));
};

/// Which elements are dropped, as zeros among ones.
Matrix<int> mask(const Dropout& dropout, std::uint64_t step, Index rows, Index cols) {
  Matrix<float> ones = Matrix<float>::Ones(rows, cols);
  dropout.forward(step, ones);
  return (ones.array() == 0).cast<int>();
}

Matrix<float> numbered(Index rows, Index cols) {
  Matrix<float> matrix(rows, cols);
  for (Index i = 0; i < matrix.size(); ++i) matrix.data()[i] = static_cast<float>(i + 1);
  return matrix;
}

}  // namespace

TEST_CASE("the same elements are dropped on every platform", "[dropout]") {
  // From a second implementation of the generator, written in another language.
  const std::vector<int> half{0, 1, 1, 0, 0, 1, 1, 0, 1, 0, 0, 1, 0, 1, 0, 0, 1, 1, 1, 0, 1, 1, 1, 0};
  const std::vector<int> tenth{1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 1, 1, 0, 0, 0};
  const Matrix<int> a = mask(Dropout(0.5, 1234), 7, 4, 6);
  const Matrix<int> b =
      mask(Dropout(0.1, (std::uint64_t{1} << 40U) + 5), (std::uint64_t{1} << 33U) + 1, 3, 8);
  CHECK(std::vector<int>(a.data(), a.data() + a.size()) == half);
  CHECK(std::vector<int>(b.data(), b.data() + b.size()) == tenth);

  const Matrix<int> many = mask(Dropout(0.1, 42), 3, 64, 64);
  std::uint64_t hash = 14695981039346656037U;  // FNV-1a
  for (Index i = 0; i < many.size(); ++i) {
    hash = (hash ^ static_cast<std::uint64_t>(many.data()[i])) * 1099511628211U;
  }
  CHECK(hash == 0x2e1b1bde47ab6658U);
}

TEST_CASE("kept elements are scaled by 1 / (1 - p), dropped ones are zero", "[dropout]") {
  const Matrix<float> before = numbered(6, 5);
  Matrix<float> after = before;
  Dropout(0.25, 1).forward(0, after);
  const Matrix<int> dropped = mask(Dropout(0.25, 1), 0, 6, 5);
  CHECK(dropped.sum() > 0);
  for (Index i = 0; i < before.size(); ++i) {
    CHECK(after.data()[i] == (dropped.data()[i] != 0 ? 0.0F : before.data()[i] * (1 / 0.75F)));
  }
}

TEST_CASE("a fraction p is dropped and the mean is kept", "[dropout]") {
  for (const double p : {0.1, 0.5, 0.9}) {
    INFO("p = " << p);
    Matrix<double> values = Matrix<double>::Ones(1000, 768);
    Dropout(p, 11).forward(5, values);
    const auto n = static_cast<double>(values.size());
    const double dropped = (values.array() == 0).cast<double>().mean();
    // Five standard errors of each moment's estimate.
    CHECK(std::abs(dropped - p) < 5 * std::sqrt(p * (1 - p) / n));
    CHECK(std::abs(values.mean() - 1) < 5 * std::sqrt(p / (1 - p) / n));
    const double variance = (values.array() - 1).square().mean();
    const double fourth = p + std::pow(p, 4) / std::pow(1 - p, 3);  // of the values less their mean
    const double expected = p / (1 - p);
    CHECK(std::abs(variance - expected) < 5 * std::sqrt((fourth - expected * expected) / n) + 1e-12);
    // Neighbours in a row and in a column are dropped independently.
    const Matrix<double> centred = values.array() - 1;
    const double bound = 5 * expected / std::sqrt(n);
    CHECK(std::abs(centred.leftCols(767).cwiseProduct(centred.rightCols(767)).mean()) < bound * 1.01);
    CHECK(std::abs(centred.topRows(999).cwiseProduct(centred.bottomRows(999)).mean()) < bound * 1.01);
  }
}

TEST_CASE("steps and seeds have masks of their own", "[dropout]") {
  const Matrix<double> a = mask(Dropout(0.5, 0), 0, 300, 300).cast<double>();
  for (const auto& [seed, step] :
       {std::array<std::uint64_t, 2>{0, 1}, {1, 0}, {0, std::uint64_t{1} << 32U}}) {
    const Matrix<double> b = mask(Dropout(0.5, seed), step, 300, 300).cast<double>();
    CHECK(std::abs(((a.array() - 0.5) * (b.array() - 0.5)).mean()) < 5 * 0.25 / 300);
  }
}

TEST_CASE("no mask shares its random bits with a table of the same seed", "[dropout]") {
  // Equal bits would make the smallest normals those of the dropped elements: a correlation of -0.8.
  Matrix<double> normals(300, 300);
  for (const std::uint64_t step : {0U, 1U, 2U}) {
    normal_(normals, 1, 9, step);
    const Matrix<double> dropped = mask(Dropout(0.5, 9), step, 300, 300).cast<double>();
    CHECK(std::abs((normals.array() * (dropped.array() - 0.5)).mean()) < 5 * 0.5 / 300);
  }
  // The domain is the only difference, and it is one for all streams and elements.
  detail::ElementBits tables(9, 0);
  detail::ElementBits masks(9, 0, detail::RandomDomain::dropout);
  detail::ElementBits resizing(9, 0, detail::RandomDomain::resizing);
  int equal = 0;
  for (std::uint64_t i = 0; i < 1000; ++i) {
    equal += tables(i) == masks(i) || tables(i) == resizing(i) || masks(i) == resizing(i);
  }
  CHECK(equal == 0);
}

TEST_CASE("backward drops and scales what forward did", "[dropout]") {
  const Dropout dropout(0.3, 8);
  Matrix<float> hidden = numbered(70, 9);
  Matrix<float> grad = hidden;
  dropout.forward(12, hidden);
  dropout.backward(12, grad);
  CHECK(test::same_bits(grad, hidden));
  Matrix<float> other = numbered(70, 9);
  dropout.backward(13, other);
  CHECK(other != hidden);
}

TEST_CASE("a matrix, a map, a block, a tensor and a tensor map drop the same elements", "[dropout]") {
  const Dropout dropout(0.5, 21);
  Matrix<float> matrix = numbered(6, 5);
  dropout.forward(1, matrix);

  Matrix<float> memory = numbered(6, 5);
  dropout.forward(1, Eigen::Map<Matrix<float>>(memory.data(), 6, 5));
  CHECK(test::same_bits(memory, matrix));

  Tensor3<float> tensor(2, 3, 5);
  as_matrix(tensor) = numbered(6, 5);
  dropout.forward(1, tensor);
  CHECK(test::same_bits(tensor, matrix));

  Matrix<float> mapped = numbered(6, 5);
  dropout.forward(1, as_tensor3(mapped, 3, 2));
  CHECK(test::same_bits(mapped, matrix));

  Matrix<float> wide = Matrix<float>::Constant(9, 8, -1);
  wide.block(2, 1, 6, 5) = numbered(6, 5);
  dropout.forward(1, wide.block(2, 1, 6, 5));
  CHECK(test::same_bits(wide.block(2, 1, 6, 5), matrix));
  wide.block(2, 1, 6, 5).setConstant(-1);
  CHECK((wide.array() == -1).all());
}

TEST_CASE("no device changes the mask", "[dropout]") {
  const Dropout dropout(0.2, 3);
  for (const Index cols : {1, 3, 8}) {  // so that parts also begin inside a block of random bits
    Matrix<double> one = Matrix<double>::Random(203, cols);
    Matrix<double> sliced = one;
    dropout.forward(6, one);
    for (const Index slice : {1, 7, 1000}) {
      Matrix<double> again = sliced;
      dropout.forward(6, again, test::SlicingDevice{slice});
      CHECK(test::same_bits(again, one));
      Matrix<double> wide = Matrix<double>::Constant(203, cols + 3, -1);
      wide.middleCols(2, cols) = sliced;
      dropout.forward(6, wide.middleCols(2, cols), test::SlicingDevice{slice});
      CHECK(test::same_bits(wide.middleCols(2, cols), one));
    }
  }
}

TEST_CASE("with p = 0 no bit changes, with p = 1 all is zero", "[dropout]") {
  Matrix<float> values(1, 4);
  const std::uint32_t signalling = 0x7fa12345;
  std::memcpy(values.data(), &signalling, sizeof(float));
  values(0, 1) = -0.0F;
  values(0, 2) = std::numeric_limits<float>::infinity();
  values(0, 3) = std::numeric_limits<float>::denorm_min();
  Matrix<float> untouched(1, 4);
  std::memcpy(untouched.data(), values.data(), 4 * sizeof(float));
  Dropout(0).forward(0, values);
  CHECK(std::memcmp(values.data(), untouched.data(), 4 * sizeof(float)) == 0);
  Dropout(1).forward(0, values);
  CHECK(test::same_bits(values, Matrix<float>::Zero(1, 4)));
}

TEST_CASE("dropped elements are 0, even those that were NaN or infinite", "[dropout]") {
  Matrix<float> values = Matrix<float>::Constant(20, 20, std::numeric_limits<float>::quiet_NaN());
  values.topRows(10).setConstant(-std::numeric_limits<float>::infinity());
  Dropout(0.5, 2).forward(0, values);
  const Matrix<int> dropped = mask(Dropout(0.5, 2), 0, 20, 20);
  for (Index i = 0; i < values.size(); ++i) {
    const float value = values.data()[i];
    if (dropped.data()[i] != 0) {
      CHECK((value == 0 && !std::signbit(value)));
    } else {
      CHECK(!std::isfinite(value));
    }
  }
}

TEMPLATE_TEST_CASE("half precision is scaled in float and rounded once", "[dropout]", Eigen::half,
                   Eigen::bfloat16) {
  using T = TestType;
  Matrix<T> values = (Matrix<float>::Random(40, 10)).template cast<T>();
  const Matrix<T> before = values;
  Dropout(0.1, 4).forward(0, values);
  const float scale = static_cast<float>(1 / (1 - 0.1));
  const Matrix<int> dropped = mask(Dropout(0.1, 4), 0, 40, 10);
  for (Index i = 0; i < values.size(); ++i) {
    const float expected = dropped.data()[i] != 0 ? 0.0F : static_cast<float>(before.data()[i]) * scale;
    CHECK(values.data()[i] == static_cast<T>(expected));
  }
}

TEST_CASE("nothing to drop is legal", "[dropout]") {
  Matrix<float> no_rows(0, 3);
  Matrix<float> no_columns(3, 0);
  Tensor3<float> no_sequence(0, 4, 3);
  const Dropout dropout(0.5);
  CHECK_NOTHROW(dropout.forward(0, no_rows));
  CHECK_NOTHROW(dropout.forward(0, no_columns, test::SlicingDevice{}));
  CHECK_NOTHROW(dropout.forward(0, no_sequence));
}

TEST_CASE("a probability outside [0, 1] is refused", "[dropout]") {
  for (const double p : {-0.1, 1.0000001, -std::numeric_limits<double>::infinity(),
                         std::numeric_limits<double>::quiet_NaN()}) {
    const auto error = test::error_of<ArgumentError>([&] { Dropout{p}; });
    CHECK(error.name() == "p");
    CHECK((error.value() == p || std::isnan(p)));
    CHECK(test::contains(error.what(), "is outside [0, 1]"));
  }
  const Dropout dropout(0.25, 17);
  CHECK(dropout.p() == 0.25);
  CHECK(dropout.seed() == 17);
}

TEST_CASE("dropout takes only hidden states that can be written in place", "[dropout]") {
  STATIC_REQUIRE(CanDrop<Dropout, Matrix<float>&>);
  STATIC_REQUIRE(CanDrop<Dropout, Tensor3<Eigen::half>&>);
  STATIC_REQUIRE(!CanDrop<Dropout, const Matrix<float>&>);
  STATIC_REQUIRE(!CanDrop<Dropout, Eigen::Map<const Matrix<float>>>);
  STATIC_REQUIRE(!CanDrop<Dropout, Eigen::TensorMap<const Tensor3<float>>>);
  STATIC_REQUIRE(!CanDrop<Dropout, Matrix<int>&>);
  STATIC_REQUIRE(!CanDrop<Dropout, Eigen::MatrixXf&>);  // column-major: its elements are numbered otherwise
}

}  // namespace dropout_tests
