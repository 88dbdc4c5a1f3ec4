// SPDX-License-Identifier: MIT
//
// How far the float gradients of the loss are from double arithmetic, beside PyTorch's own distance
// (tests/reference/head_errors.safetensors).

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <limits>
#include <string>
#include <vector>

#include "gpt2/lm_head.hpp"
#include "gpt2/safetensors.hpp"
#include "support.hpp"

namespace reference_head_errors_tests {

using namespace gpt2;

namespace {

// The inputs, as goldens/head_errors.py makes them.

std::uint32_t mixed(std::uint32_t i, std::uint32_t seed) {
  std::uint32_t x = i + seed * 0x9E3779B1U;
  for (const std::uint32_t factor : {0x7FEB352DU, 0x846CA68BU}) x = (x ^ (x >> 16U)) * factor;
  return x ^ (x >> 16U);
}

Matrix<float> numbers(Index rows, Index cols, std::uint32_t seed, int exponent) {
  Matrix<float> matrix(rows, cols);
  for (Index i = 0; i < matrix.size(); ++i) {
    const double even = static_cast<double>(mixed(static_cast<std::uint32_t>(i), seed) >> 8U) * 0x1p-23 - 1;
    matrix.data()[i] = static_cast<float>(std::ldexp(even, exponent));
  }
  return matrix;
}

std::vector<std::int64_t> labels(Index size, Index vocab_size, std::uint32_t seed) {
  std::vector<std::int64_t> result;
  for (Index i = 0; i < size; ++i) {
    const std::uint32_t bits = mixed(static_cast<std::uint32_t>(i), seed);
    const std::uint64_t product = std::uint64_t{bits >> 16U} * (bits & 0xFFFFU);
    result.push_back(static_cast<std::int64_t>(product * static_cast<std::uint64_t>(vocab_size) >> 32U));
  }
  return result;
}

/// The largest error, in units in the last place of the largest element.
template <class Found>
double error(const Found& found, const Matrix<double>& expected) {
  const auto largest = static_cast<float>(expected.cwiseAbs().maxCoeff());
  const float unit = std::nextafter(largest, std::numeric_limits<float>::infinity()) - largest;
  return (found.template cast<double>() - expected).cwiseAbs().maxCoeff() / double{unit};
}

template <class Number>
std::vector<Number> read(const SafeTensors& file, const std::string& name) {
  const TensorView tensor = file[name];
  std::vector<Number> values(tensor.bytes.size() / sizeof(Number));
  std::memcpy(values.data(), tensor.bytes.data(), tensor.bytes.size());
  return values;
}

}  // namespace

TEST_CASE("gradients of the loss are no farther from double arithmetic than PyTorch's", "[reference]") {
  const SafeTensors file =
      SafeTensors::open(std::filesystem::path(GPT2_REFERENCE_DIR) / "head_errors.safetensors");
  const auto shapes = read<std::int64_t>(file, "shapes");
  const auto errors = read<double>(file, "errors");
  REQUIRE(shapes.size() == 2 * errors.size());
  REQUIRE(errors.size() == 12);
  for (std::size_t i = 0; i < errors.size() / 2; ++i) {
    const Index n = static_cast<Index>(shapes[4 * i]);
    const Index vocab_size = static_cast<Index>(shapes[4 * i + 1]);
    const Index cols = static_cast<Index>(shapes[4 * i + 2]);
    const Matrix<float> weight = numbers(vocab_size, cols, 1, static_cast<int>(shapes[4 * i + 3]));
    const Matrix<float> hidden = numbers(n, cols, 2, 1);
    const auto targets = labels(n, vocab_size, 3);

    Embedding<double> exact(Matrix<double>(weight.cast<double>()));
    const auto expected = cross_entropy(exact, Matrix<double>(hidden.cast<double>()), targets);
    for (const std::size_t workspace_bytes : {std::size_t{64} << 20U, std::size_t{0}}) {
      Embedding<float> wte(weight);
      const auto found = cross_entropy(wte, hidden, targets, {.workspace_bytes = workspace_bytes});
      INFO(n << " states, " << vocab_size << " rows, " << cols << " columns, workspace " << workspace_bytes);
      CHECK(error(wte.grad(), exact.grad()) <= errors[2 * i]);
      CHECK(error(found.grad_hidden, expected.grad_hidden) <= errors[2 * i + 1]);
      CHECK(double{found.loss} == Approx(expected.loss).epsilon(1e-6));
    }
  }
}

}  // namespace reference_head_errors_tests
