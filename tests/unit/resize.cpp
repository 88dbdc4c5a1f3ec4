// SPDX-License-Identifier: MIT
#include "gpt2/resize.hpp"

#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <vector>

#include "gpt2/embedding.hpp"
#include "support.hpp"

namespace resize_tests {

using namespace gpt2;

namespace {

Matrix<double> covariance(const Matrix<double>& rows) {
  const Matrix<double> centred = rows.rowwise() - rows.colwise().mean();
  return test::plain_product(centred.transpose(), centred) / static_cast<double>(rows.rows());
}

Matrix<double> column(std::initializer_list<double> values) {
  Matrix<double> matrix(static_cast<Index>(values.size()), 1);
  std::copy(values.begin(), values.end(), matrix.data());
  return matrix;
}

}  // namespace

// Tokens.

TEMPLATE_TEST_CASE("kept rows are identical, new rows come last", "[resize]", float, double, Eigen::half,
                   Eigen::bfloat16) {
  using T = TestType;
  Matrix<T> weight = test::drawn<T>(6, 4);
  weight(2, 1) = std::numeric_limits<T>::quiet_NaN();
  weight(2, 2) = std::numeric_limits<T>::infinity();
  weight(3, 0) = static_cast<T>(-0.0F);
  const Embedding<T> table(weight);
  for (const bool mean_resizing : {true, false}) {
    const auto longer = resize_token_embeddings(table, 9, {.mean_resizing = mean_resizing});
    CHECK(longer.num_embeddings() == 9);
    CHECK(longer.embedding_dim() == 4);
    CHECK(test::same_bits(longer.weight().topRows(6), weight));
    const auto same = resize_token_embeddings(table, 6, {.mean_resizing = mean_resizing});
    CHECK(test::same_bits(same.weight(), weight));
    const auto shorter = resize_token_embeddings(table, 3, {.mean_resizing = mean_resizing});
    CHECK(test::same_bits(shorter.weight(), weight.topRows(3)));
    CHECK(resize_token_embeddings(table, 0).num_embeddings() == 0);
    CHECK(resize_token_embeddings(table, 0).embedding_dim() == 4);
  }
  CHECK(test::same_bits(table.weight(), weight));
}

TEST_CASE("a size is rounded up to a multiple", "[resize]") {
  const Embedding<float> vocabulary(Matrix<float>::Zero(50257, 1));
  CHECK(resize_token_embeddings(vocabulary, 50257).num_embeddings() == 50257);
  CHECK(resize_token_embeddings(vocabulary, 50257, {.pad_to_multiple_of = 1}).num_embeddings() == 50257);
  CHECK(resize_token_embeddings(vocabulary, 50257, {.pad_to_multiple_of = 64}).num_embeddings() == 50304);
  CHECK(resize_token_embeddings(vocabulary, 50257, {.pad_to_multiple_of = 128}).num_embeddings() == 50304);
  CHECK(resize_token_embeddings(vocabulary, 50304, {.pad_to_multiple_of = 128}).num_embeddings() == 50304);
  CHECK(resize_token_embeddings(vocabulary, 1, {.pad_to_multiple_of = 8}).num_embeddings() == 8);
  CHECK(resize_token_embeddings(vocabulary, 0, {.pad_to_multiple_of = 8}).num_embeddings() == 0);
}

TEST_CASE("new rows have the mean and 1e-9 times the covariance of the old ones", "[resize]") {
  // Columns of different scales that depend on each other; more rows than are taken at once.
  Matrix<double> mixing(4, 4);
  mixing << 3, 1, 0, 0,  //
      0, 1, -2, 0,       //
      0, 0, 0.5, 0.25,   //
      0, 0, 0, 0.01;
  Matrix<double> weight = test::drawn<double>(1500, 4) * mixing;
  weight.rowwise() += Eigen::RowVector4d(5, -7, 0, 100);
  const Embedding<double> table(weight);
  constexpr Index added = 40000;
  const auto resized = resize_token_embeddings(table, 1500 + added);
  const Matrix<double> fresh = resized.weight().bottomRows(added);

  const Matrix<double> expected = 1e-9 * covariance(weight);
  const Eigen::RowVectorXd mean = weight.colwise().mean();
  const Eigen::RowVectorXd standard_error = (expected.diagonal() / added).cwiseSqrt();
  for (Index j = 0; j < 4; ++j) {
    CHECK(std::abs(fresh.col(j).mean() - mean[j]) < 5 * standard_error[j] + 1e-14 * std::abs(mean[j]));
  }
  const Matrix<double> found = covariance(fresh);
  for (Index i = 0; i < 4; ++i) {
    for (Index j = 0; j < 4; ++j) {
      const double scale = std::sqrt(expected(i, i) * expected(j, j));
      CHECK(std::abs(found(i, j) - expected(i, j)) < 5 * scale * std::sqrt(2.0 / added));
    }
  }
}

TEST_CASE("the covariance of the old rows is divided by their number", "[resize]") {
  constexpr Index added = 20000;
  const auto resized = resize_token_embeddings(Embedding<double>(column({-1, 0, 1})), 3 + added);
  // Divided by one row less, it would be half as much again.
  CHECK(covariance(resized.weight().bottomRows(added))(0) == Approx(1e-9 * 2 / 3).epsilon(0.05));
}

TEST_CASE("new rows are the mean if the covariance is not positive definite", "[resize]") {
  const auto new_rows = [](const Matrix<double>& weight) {
    return Matrix<double>(
        test::weight_of(resize_token_embeddings(Embedding<double>(weight), weight.rows() + 3)).bottomRows(3));
  };
  const auto check_mean = [&](const Matrix<double>& weight) {
    const Eigen::RowVectorXd mean = weight.colwise().mean();
    const Matrix<double> rows = new_rows(weight);
    for (Index i = 0; i < 3; ++i) CHECK(rows.row(i).isApprox(mean, 1e-14));
    CHECK(test::same_bits(rows.row(0), rows.row(2)));
  };
  check_mean(test::drawn<double>(1, 4));
  check_mean(test::drawn<double>(4, 4));
  check_mean(test::drawn<double>(5, 8));
  // More rows than columns, but they span less.
  Matrix<double> dependent = test::drawn<double>(500, 4);
  dependent.col(3) = 2 * dependent.col(0) - dependent.col(1) / 3;
  check_mean(dependent);
  Matrix<double> constant = test::drawn<double>(500, 4);
  constant.col(1).setConstant(0.1);
  check_mean(constant);
  check_mean(Matrix<double>::Constant(500, 4, 0.1));
  // One row more than columns is enough: then they scatter.
  const Matrix<double> scattered = new_rows(test::drawn<double>(5, 4));
  CHECK(!test::same_bits(scattered.row(0), scattered.row(1)));
}

TEST_CASE("a table with a NaN has a NaN for its mean, and only in that column", "[resize]") {
  Matrix<double> weight = test::drawn<double>(20, 3);
  weight(7, 1) = std::numeric_limits<double>::quiet_NaN();
  const Matrix<double> rows =
      test::weight_of(resize_token_embeddings(Embedding<double>(weight), 22)).bottomRows(2);
  CHECK(std::isnan(rows(0, 1)));
  CHECK(rows(1, 0) == Approx(weight.col(0).mean()));
  CHECK(rows(1, 2) == Approx(weight.col(2).mean()));
}

TEST_CASE("new rows are computed in double and rounded once", "[resize]") {
  const Matrix<Eigen::half> halves = test::drawn<Eigen::half>(50, 3, 1, 0.02);
  const Embedding<double> exact(Matrix<double>(halves.cast<double>()));
  for (const bool mean_resizing : {true, false}) {
    const ResizeOptions options{.mean_resizing = mean_resizing, .seed = 3};
    const auto in_half = resize_token_embeddings(Embedding<Eigen::half>(halves), 500, options);
    const auto in_double = resize_token_embeddings(exact, 500, options);
    for (Index i = 50; i < 500; ++i) {
      for (Index j = 0; j < 3; ++j) {
        const auto value = static_cast<double>(in_half.weight()(i, j));
        const double error = std::abs(value - in_double.weight()(i, j));
        CHECK(error <= 0.5 * std::ldexp(1, std::max(std::ilogb(value), -14) - 10));
      }
    }
  }
}

TEST_CASE("a mean of many half-precision rows does not stop growing", "[resize]") {
  const Embedding<Eigen::bfloat16> table(Matrix<Eigen::bfloat16>::Constant(3000, 2, Eigen::bfloat16(1.0F)));
  CHECK(static_cast<float>(test::weight_of(resize_token_embeddings(table, 3001))(3000, 1)) == 1.0F);
}

TEST_CASE("without mean_resizing new rows are N(0, 0.02²)", "[resize]") {
  const Embedding<double> table(test::drawn<double>(10, 50, 1, 7));
  const Matrix<double> rows =
      test::weight_of(resize_token_embeddings(table, 2010, {.mean_resizing = false})).bottomRows(2000);
  const auto n = static_cast<double>(rows.size());
  CHECK(std::abs(rows.mean()) < 5 * 0.02 / std::sqrt(n));
  CHECK(std::abs(rows.array().square().mean() / (0.02 * 0.02) - 1) < 5 * std::sqrt(2 / n));
}

TEST_CASE("without old rows, new ones are also N(0, 0.02²)", "[resize]") {
  const auto grown = resize_token_embeddings(Embedding<double>(0, 40), 1000);
  CHECK(grown.weight().array().square().mean() == Approx(0.02 * 0.02).epsilon(0.05));
  const auto no_columns = resize_token_embeddings(Embedding<double>(3, 0), 9);
  CHECK(no_columns.num_embeddings() == 9);
  CHECK(no_columns.embedding_dim() == 0);
}

TEST_CASE("new rows are a function of the seed, and not of how many there are", "[resize]") {
  const Embedding<float> table(test::drawn<float>(30, 5));
  for (const bool mean_resizing : {true, false}) {
    const auto resized = [&](Index rows, std::uint64_t seed) {
      return Matrix<float>(test::weight_of(
          resize_token_embeddings(table, rows, {.mean_resizing = mean_resizing, .seed = seed})));
    };
    CHECK(test::same_bits(resized(40, 2), resized(40, 2)));
    CHECK(resized(40, 2) != resized(40, 3));
    CHECK(resized(99, 2).topRows(40).isApprox(resized(40, 2), 1e-6F));
  }
}

TEST_CASE("new rows do not repeat the table that the same seed gave", "[resize]") {
  const Embedding<double> table(100, 30, {}, 5);
  const Matrix<double> rows =
      test::weight_of(resize_token_embeddings(table, 200, {.mean_resizing = false, .seed = 5}))
          .bottomRows(100);
  const double correlation = rows.cwiseProduct(table.weight()).mean() / (0.02 * 0.02);
  CHECK(std::abs(correlation) < 5 / std::sqrt(3000.0));
}

TEST_CASE("options are carried over, but not a padding_idx beyond the end", "[resize]") {
  const Embedding<float> table(test::drawn<float>(6, 2), {.padding_idx = -2, .scale_grad_by_freq = true});
  CHECK(resize_token_embeddings(table, 9).options() ==
        EmbeddingOptions{.padding_idx = 4, .scale_grad_by_freq = true});
  CHECK(resize_token_embeddings(table, 5).options().padding_idx == 4);
  CHECK(resize_token_embeddings(table, 4).options() ==
        EmbeddingOptions{.padding_idx = std::nullopt, .scale_grad_by_freq = true});
  CHECK(resize_positions(table, 5, PositionGrowth::zero).options().padding_idx == 4);
  CHECK(!resize_positions(table, 2, PositionGrowth::zero).options().padding_idx);
}

TEST_CASE("a resized table owns its rows and has no gradient", "[resize]") {
  auto memory = std::make_shared<Matrix<float>>(test::drawn<float>(6, 2));
  auto table = Embedding<float>::view({memory->data(), 6, 2}, memory);
  table.backward(std::vector<int>{1}, Matrix<float>::Ones(1, 2).eval());
  const Matrix<float> before = *memory;
  for (auto resized : {resize_token_embeddings(table, 6), resize_token_embeddings(table, 8),
                       resize_positions(table, 6, PositionGrowth::zero)}) {
    CHECK(!resized.has_grad());
    resized.mutable_weight().setZero();
    CHECK(*memory == before);
    CHECK(resized.weight().isZero(0));
  }
  CHECK(table.has_grad());
}

TEST_CASE("sizes that cannot be are refused by name", "[resize]") {
  const Embedding<float> table(test::drawn<float>(6, 2));
  constexpr Index largest = std::numeric_limits<Index>::max();
  const auto error = [&](Index size, Index multiple) {
    return test::error_of<ArgumentError>(
        [&] { (void)resize_token_embeddings(table, size, {.pad_to_multiple_of = multiple}); });
  };
  CHECK(error(-1, 0).name() == "new_num_tokens");
  CHECK(error(-1, 0).value() == -1);
  CHECK(error(7, -8).name() == "pad_to_multiple_of");
  CHECK(error(7, -8).value() == -8);
  CHECK(error(largest, 0).name() == "new_num_tokens");
  CHECK(error(largest - 1, 4).name() == "new_num_tokens");
  CHECK(error(largest / 4, 0).name() == "new_num_tokens");
  CHECK(error(7, largest).name() == "new_num_tokens");
  for (const Index size : {Index{-1}, largest, largest / 4}) {
    const auto refused = test::error_of<ArgumentError>(
        [&] { (void)resize_positions(table, size, PositionGrowth::interpolate); });
    CHECK(refused.name() == "new_n_positions");
    CHECK(refused.value() == static_cast<double>(size));
  }
}

// Positions.

TEMPLATE_TEST_CASE("fewer positions are the first ones, whatever the growth", "[resize]", float, double,
                   Eigen::half, Eigen::bfloat16) {
  const Embedding<TestType> table(test::drawn<TestType>(6, 3));
  for (const auto growth : {PositionGrowth::interpolate, PositionGrowth::repeat_last, PositionGrowth::zero}) {
    for (const Index size : {0, 1, 4, 6}) {
      const auto resized = resize_positions(table, size, growth);
      CHECK(test::same_bits(resized.weight(), table.weight().topRows(size)));
    }
  }
}

TEST_CASE("positions grow by their last one, or by zeros", "[resize]") {
  const Embedding<double> table(column({1, 2, 4}));
  CHECK(test::weight_of(resize_positions(table, 5, PositionGrowth::repeat_last)) == column({1, 2, 4, 4, 4}));
  CHECK(test::weight_of(resize_positions(table, 5, PositionGrowth::zero)) == column({1, 2, 4, 0, 0}));
}

TEST_CASE("interpolated positions are stretched linearly, first and last are kept", "[resize]") {
  const Embedding<double> table(column({1, 2, 4}));
  CHECK(test::weight_of(resize_positions(table, 5, PositionGrowth::interpolate)) ==
        column({1, 1.5, 2, 3, 4}));
  CHECK(test::weight_of(resize_positions(table, 9, PositionGrowth::interpolate)) ==
        column({1, 1.25, 1.5, 1.75, 2, 2.5, 3, 3.5, 4}));
  CHECK(test::weight_of(resize_positions(table, 4, PositionGrowth::interpolate))
            .isApprox(column({1, 1 + 2.0 / 3, 2 + 2.0 / 3, 4}), 1e-15));

  // 1,024 positions to 2,048: as NumPy's interp(linspace(0, 1023, 2048), arange(1024), …).
  const Matrix<double> rows = test::drawn<double>(1024, 2);
  const auto longer = resize_positions(Embedding<double>(rows), 2048, PositionGrowth::interpolate);
  for (Index i = 0; i < 2047; ++i) {
    const double place = static_cast<double>(i) * 1023 / 2047;
    const auto below = static_cast<Index>(place);
    const double t = place - static_cast<double>(below);
    for (Index j = 0; j < 2; ++j) {
      CHECK(longer.weight()(i, j) == Approx((1 - t) * rows(below, j) + t * rows(below + 1, j)).margin(1e-12));
    }
  }
  CHECK(test::same_bits(longer.weight().row(0), rows.row(0)));
  CHECK(test::same_bits(longer.weight().row(2047), rows.row(1023)));
}

TEMPLATE_TEST_CASE("rows that fall on old ones are those, bit for bit", "[resize]", float, double,
                   Eigen::half, Eigen::bfloat16) {
  Matrix<TestType> weight = test::drawn<TestType>(5, 3);
  weight(4, 0) = std::numeric_limits<TestType>::infinity();
  weight(0, 1) = static_cast<TestType>(-0.0F);
  const auto longer = resize_positions(Embedding<TestType>(weight), 4 * 7 + 1, PositionGrowth::interpolate);
  for (Index i = 0; i < 5; ++i) CHECK(test::same_bits(longer.weight().row(7 * i), weight.row(i)));
}

TEST_CASE("interpolation is computed in double and rounded once", "[resize]") {
  const Matrix<Eigen::bfloat16> weight = test::drawn<Eigen::bfloat16>(8, 4);
  const auto rounded = resize_positions(Embedding<Eigen::bfloat16>(weight), 50, PositionGrowth::interpolate);
  const auto exact = resize_positions(Embedding<double>(Matrix<double>(weight.cast<double>())), 50,
                                      PositionGrowth::interpolate);
  for (Index i = 0; i < rounded.weight().size(); ++i) {
    const auto value = static_cast<double>(rounded.weight().data()[i]);
    CHECK(std::abs(value - exact.weight().data()[i]) <= 0.5 * std::ldexp(1, std::ilogb(value) - 7));
  }
}

TEST_CASE("one position is repeated, none are zeros", "[resize]") {
  for (const auto growth : {PositionGrowth::interpolate, PositionGrowth::repeat_last}) {
    CHECK(test::weight_of(resize_positions(Embedding<double>(column({3})), 3, growth)) == column({3, 3, 3}));
    CHECK(test::weight_of(resize_positions(Embedding<double>(Matrix<double>(0, 2)), 3, growth)) ==
          Matrix<double>::Zero(3, 2));
    CHECK(resize_positions(Embedding<double>(Matrix<double>(3, 0)), 7, growth).num_embeddings() == 7);
  }
}

}  // namespace resize_tests
