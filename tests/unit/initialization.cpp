// SPDX-License-Identifier: MIT
#include "gpt2/initialization.hpp"

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#include "support.hpp"

namespace initialization_tests {

using namespace gpt2;

namespace {

/// One number for the bits of all of a table's elements (FNV-1a).
template <class T>
std::uint64_t fingerprint(const Matrix<T>& table) {
  std::uint64_t hash = 14695981039346656037U;
  const auto* bytes = reinterpret_cast<const unsigned char*>(table.data());
  for (std::size_t i = 0; i < static_cast<std::size_t>(table.size()) * sizeof(T); ++i) {
    hash = (hash ^ bytes[i]) * 1099511628211U;
  }
  return hash;
}

template <class T>
Matrix<T> drawn(Index rows, Index cols, double stddev, std::uint64_t seed, std::uint64_t stream = 0) {
  Matrix<T> matrix(rows, cols);
  normal_(matrix, stddev, seed, stream);
  return matrix;
}

}  // namespace

TEST_CASE("philox gives the known answers of its authors", "[initialization]") {
  using Block = detail::PhiloxBlock;
  constexpr std::uint32_t ones = ~std::uint32_t{0};
  CHECK(detail::philox({0, 0, 0, 0}, {0, 0}) == Block{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  CHECK(detail::philox({ones, ones, ones, ones}, {ones, ones}) ==
        Block{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
  CHECK(detail::philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}) ==
        Block{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

TEST_CASE("an element's bits do not depend on the order they are asked for", "[initialization]") {
  detail::ElementBits forward(3, 1);
  detail::ElementBits backward(3, 1);
  std::uint32_t ascending[9];
  for (std::uint64_t i = 0; i < 9; ++i) ascending[i] = forward(i);
  for (std::uint64_t i = 9; i-- > 0;) CHECK(backward(i) == ascending[i]);
}

TEST_CASE("the normal quantile is that of the error function", "[initialization]") {
  for (std::uint64_t bits = 0; bits < (std::uint64_t{1} << 32U); bits += 104729) {
    const auto word = static_cast<std::uint32_t>(bits);
    const auto z = static_cast<double>(detail::standard_normal(word));
    // Compare probabilities from the nearer tail, in which they are known to full relative precision.
    const double p = (static_cast<double>(word < 0x80000000U ? word : ~word) + 0.5) / 4294967296.0;
    const double tail = 0.5 * std::erfc(std::abs(z) / std::sqrt(2.0));
    if (std::abs(tail / p - 1) >= 1e-5) FAIL("bits " << word << " give " << z << ", p is " << p);
  }
}

TEST_CASE("the normal quantile is odd", "[initialization]") {
  for (const std::uint32_t bits : {0U, 1U, 12345U, 0x3fffffffU, 0x7fffffffU}) {
    CHECK(detail::standard_normal(bits) == -detail::standard_normal(~bits));
  }
  CHECK(detail::standard_normal(0) < -6.3F);
  CHECK(detail::standard_normal(0x7fffffffU) < 0.0F);
}

TEST_CASE("normal_ gives the same bits on every platform", "[initialization]") {
  const Matrix<float> f = drawn<float>(64, 48, 0.02, 1234);
  const Matrix<double> d = drawn<double>(64, 48, 0.02, 1234);
  const Matrix<Eigen::half> h = drawn<Eigen::half>(64, 48, 0.02, 1234);
  const Matrix<Eigen::bfloat16> b = drawn<Eigen::bfloat16>(64, 48, 0.02, 1234);
  CHECK(fingerprint(f) == 0x25467242385078e9U);
  CHECK(fingerprint(d) == 0x87e70edc264f99dcU);
  CHECK(fingerprint(h) == 0x02d6c5fc3ac0a98fU);
  CHECK(fingerprint(b) == 0xe32bc762c237e031U);
  CHECK(f(0, 0) == -0x1.75740ap-6F);
  CHECK(f(63, 47) == 0x1.d7c554p-8F);
}

TEST_CASE("half and float tables are one sequence, rounded once", "[initialization]") {
  const Matrix<double> d = drawn<double>(9, 7, 0.02, 5);
  CHECK(test::same_bits(drawn<float>(9, 7, 0.02, 5), d.cast<float>().eval()));
  CHECK(test::same_bits(drawn<Eigen::half>(9, 7, 0.02, 5),
                        d.unaryExpr([](double x) { return detail::convert<Eigen::half>(x); }).eval()));
}

TEST_CASE("normal_ has the moments of its distribution", "[initialization]") {
  const Matrix<double> z = drawn<double>(1000, 1000, 3.0, 42);
  const double n = static_cast<double>(z.size());
  const auto standard = z.array() / 3.0;
  // Five standard errors of each moment's estimate.
  CHECK(std::abs(standard.mean()) < 5 / std::sqrt(n));
  CHECK(std::abs(standard.square().mean() - 1) < 5 * std::sqrt(2 / n));
  CHECK(std::abs(standard.cube().mean()) < 5 * std::sqrt(15 / n));
  CHECK(std::abs(standard.square().square().mean() - 3) < 5 * std::sqrt(96 / n));
  const double within_one = (standard.abs() < 1).cast<double>().mean();
  CHECK(std::abs(within_one - 0.682689492) < 5 * std::sqrt(0.68 * 0.32 / n));
  // Neighbours are not correlated.
  const auto left = standard.leftCols(999);
  const auto right = standard.rightCols(999);
  CHECK(std::abs((left * right).mean()) < 5 / std::sqrt(n));
}

TEST_CASE("seeds and streams are independent", "[initialization]") {
  const Matrix<double> a = drawn<double>(300, 300, 1, 0, 0);
  for (const Matrix<double>& b : {drawn<double>(300, 300, 1, 1, 0), drawn<double>(300, 300, 1, 0, 1),
                                  drawn<double>(300, 300, 1, std::uint64_t{1} << 32U, 0)}) {
    CHECK(std::abs((a.array() * b.array()).mean()) < 5.0 / 300);
  }
}

TEST_CASE("elements are numbered in row-major order, whatever the storage", "[initialization]") {
  const Matrix<float> row_major = drawn<float>(5, 6, 1, 9);
  Eigen::MatrixXf column_major(5, 6);
  normal_(column_major, 1, 9);
  CHECK(column_major == row_major);

  Matrix<float> wide = Matrix<float>::Zero(7, 9);
  normal_(wide.block(1, 2, 5, 6), 1, 9);
  CHECK(wide.block(1, 2, 5, 6) == row_major);
  CHECK(wide.row(0).isZero(0));
  CHECK(wide.leftCols(2).isZero(0));
}

TEST_CASE("normal_ fills nothing but tables", "[initialization]") {
  STATIC_REQUIRE((detail::WritableDense<Matrix<float>&> && detail::WritableDense<Eigen::MatrixXd&>));
  STATIC_REQUIRE_FALSE(
      (detail::WritableDense<Eigen::MatrixXi&> || detail::WritableDense<const Matrix<float>&>));
  STATIC_REQUIRE_FALSE(detail::WritableDense<Eigen::Map<const Matrix<float>>&>);
}

TEST_CASE("normal_ with a standard deviation of 0 gives zeros; a bad one is refused untouched",
          "[initialization]") {
  Matrix<float> matrix = Matrix<float>::Ones(2, 2);
  for (const double stddev :
       {-0.1, std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    CHECK(test::error_of<ArgumentError>([&] { normal_(matrix, stddev, 1); }).name() == "stddev");
    CHECK(matrix == Matrix<float>::Ones(2, 2));
  }
  normal_(matrix, 0, 1);
  CHECK(matrix.isZero(0));
  Matrix<float> empty(0, 3);
  CHECK_NOTHROW(normal_(empty, 1, 1));
}

TEST_CASE("the sinusoidal table is sine and cosine of the same angles", "[initialization]") {
  const Matrix<double> table = sinusoidal<double>(50, 8);
  for (Index position = 0; position < 50; ++position) {
    for (Index pair = 0; pair < 4; ++pair) {
      const double angle =
          static_cast<double>(position) / std::pow(10000.0, 2.0 * static_cast<double>(pair) / 8);
      CHECK(table(position, 2 * pair) == Approx(std::sin(angle)).margin(1e-12));
      CHECK(table(position, 2 * pair + 1) == Approx(std::cos(angle)).margin(1e-12));
    }
  }
  CHECK(table.row(0) == (Matrix<double>(1, 8) << 0, 1, 0, 1, 0, 1, 0, 1).finished());
}

TEST_CASE("an odd sinusoidal table ends with a sine", "[initialization]") {
  const Matrix<double> table = sinusoidal<double>(5, 3);
  CHECK(table(4, 2) == Approx(std::sin(4 / std::pow(10000.0, 2.0 / 3))));
}

TEST_CASE("sinusoidal rounds once and refuses negative sizes", "[initialization]") {
  CHECK(test::same_bits(sinusoidal<float>(20, 6), sinusoidal<double>(20, 6).cast<float>().eval()));
  CHECK(sinusoidal<float>(0, 6).cols() == 6);
  CHECK(sinusoidal<float>(6, 0).rows() == 6);
  CHECK(test::error_of<ArgumentError>([] { (void)sinusoidal<float>(-1, 6); }).name() == "n_positions");
  CHECK(test::error_of<ArgumentError>([] { (void)sinusoidal<float>(6, -1); }).name() == "n_embd");
}

}  // namespace initialization_tests
