// SPDX-License-Identifier: MIT
//
// Every half is widened exactly, in every path, even if the processor takes denormal numbers for zeros: this file is
// compiled with -ffast-math as well. It compares representations, as comparisons of floats might be left out then.

#include <bit>
#include <cstdint>
#include <vector>

#include "catch.hpp"
#include "gpt2/embedding.hpp"

namespace halves_tests {

using namespace gpt2;

namespace {

constexpr Index rows = 4096;
constexpr Index cols = 16;

/// The float that has a half's value; of a NaN, without the bit that says that it is quiet.
std::uint32_t expected(std::uint32_t half) {
  const std::uint32_t sign = (half & 0x8000U) << 16U;
  std::uint32_t exponent = half >> 10U & 0x1FU;
  std::uint32_t fraction = half & 0x3FFU;
  if (exponent == 0x1FU) return sign | 0x7F800000U | fraction << 13U;
  if (exponent == 0) {
    if (fraction == 0) return sign;
    exponent = 113;
    for (; (fraction & 0x400U) == 0; fraction <<= 1U) --exponent;
    return sign | exponent << 23U | (fraction & 0x3FFU) << 13U;
  }
  return sign | (exponent + 112U) << 23U | fraction << 13U;
}

std::uint32_t without_quiet_bit(std::uint32_t representation) {
  const bool nan = (representation & 0x7FFFFFFFU) > 0x7F800000U;
  return nan ? representation & ~0x400000U : representation;
}

bool is_exact(std::uint32_t half, float widened) {
  return without_quiet_bit(std::bit_cast<std::uint32_t>(widened)) == without_quiet_bit(expected(half));
}

Matrix<Eigen::half> all_halves() {
  Matrix<Eigen::half> table(rows, cols);
  for (Index i = 0; i < table.size(); ++i) {
    table.data()[i] = std::bit_cast<Eigen::half>(static_cast<std::uint16_t>(i));
  }
  return table;
}

}  // namespace

TEST_CASE("a half by itself is widened exactly", "[halves]") {
  std::uint32_t wrong = 0;
  for (std::uint32_t half = 0; half < 0x10000U; ++half) {
    const auto stored = std::bit_cast<Eigen::half>(static_cast<std::uint16_t>(half));
    wrong += is_exact(half, detail::widened(stored)) ? 0U : 1U;
  }
  CHECK(wrong == 0U);
}

TEST_CASE("lookups widen halves exactly, whole packets and what is left of a row", "[halves]") {
  const Matrix<Eigen::half> halves = all_halves();
  std::vector<int> ids(rows);
  for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int>(i);
  for (const Index width : {cols, Index{7}, Index{1}}) {
    // Narrow rows begin anywhere in the table, as do those of their results.
    const Index count = halves.size() / width;
    ids.resize(static_cast<std::size_t>(count));
    for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int>(i);
    const auto table = Embedding<Eigen::half>::view({halves.data(), count, width}, nullptr);
    Matrix<float> out(count, width);
    table.forward_into(ids, out);
    std::uint32_t wrong = 0;
    for (Index i = 0; i < out.size(); ++i) {
      wrong += is_exact(static_cast<std::uint32_t>(i), out.data()[i]) ? 0U : 1U;
    }
    CHECK(wrong == 0U);
  }
}

TEST_CASE("gradients of half are added as the floats that they are", "[halves]") {
  // Denormal halves among others: 1, 2, … times the least.
  constexpr Index width = 1023;
  Matrix<Eigen::half> grad(1, width);
  for (Index i = 0; i < width; ++i)
    grad(0, i) = std::bit_cast<Eigen::half>(static_cast<std::uint16_t>(i + 1));
  Embedding<Eigen::half> table(Matrix<Eigen::half>::Zero(2, width).eval());
  const std::vector<int> ids{1};
  table.backward(ids, grad);
  const auto sparse = table.sparse_backward(ids, grad);
  std::uint32_t wrong = 0;
  for (Index i = 0; i < width; ++i) {
    wrong += is_exact(static_cast<std::uint32_t>(i + 1), table.grad()(1, i)) ? 0U : 1U;
    wrong += is_exact(static_cast<std::uint32_t>(i + 1), sparse.values(0, i)) ? 0U : 1U;
  }
  CHECK(wrong == 0U);
}

}  // namespace halves_tests
