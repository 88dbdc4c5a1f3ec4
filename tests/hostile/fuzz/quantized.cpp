// SPDX-License-Identifier: MIT
//
// Tables of any numbers, quantised: each element is as near as promised, or the table is refused because of one
// that no float can hold.

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "fuzz.hpp"
#include "gpt2/quantized_embedding.hpp"

using namespace gpt2;
using fuzz::check;
using fuzz::Choices;

namespace {

/// A number: any, or one near another.
template <class T>
T number(Choices& choices, T before) {
  switch (choices.below(4)) {
    case 0:
      return choices.any<T>();
    case 1:
      return static_cast<T>(static_cast<float>(choices.any<std::int16_t>()) / 1024);
    case 2:
      return before;
    default:
      return static_cast<T>(static_cast<double>(before) * (1 + 0x1p-11 * choices.any<std::int8_t>()));
  }
}

template <class T>
void check_table(Choices& choices) {
  const int rows = choices.below(4);
  Matrix<T> weight(rows, choices.below(40));
  T before{};
  for (Index i = 0; i < weight.size(); ++i) weight.data()[i] = before = number(choices, before);
  const Matrix<double> exact = weight.template cast<double>();
  constexpr double most = std::numeric_limits<float>::max();
  bool legal = true;
  for (const double element : exact.reshaped()) legal = legal && std::abs(element) <= most;
  try {
    const QuantizedEmbedding table{Embedding<T>(weight)};
    check(legal, "a quantised table is one of finite floats");
    const Matrix<float> found = table.dequantize();
    for (Index i = 0; i < weight.rows(); ++i) {
      const double scale{table.scales()[i]};
      const double magnitude = weight.cols() > 0 ? exact.row(i).cwiseAbs().maxCoeff() : 0;
      for (Index j = 0; j < weight.cols(); ++j) {
        const double distance = std::abs(double{found(i, j)} - exact(i, j));
        check(distance <= scale / 2 + 0x1p-23 * (magnitude + scale),
              "no element is farther off than promised");
      }
    }
    std::vector<int> ids(static_cast<std::size_t>(weight.rows()));
    for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int>(i);
    const Matrix<float> looked_up = table(ids);
    for (Index i = 0; i < found.size(); ++i) {
      check(fuzz::same(looked_up.data()[i], found.data()[i]), "a row that is looked up is the table's");
    }
  } catch (const ArgumentError&) {
    check(!legal, "a table of finite floats is quantised");
  }
}

}  // namespace

FUZZ_TARGET(quantized) {
  Choices choices(data, size);
  switch (choices.below(4)) {
    case 0:
      check_table<float>(choices);
      break;
    case 1:
      check_table<double>(choices);
      break;
    case 2:
      check_table<Eigen::half>(choices);
      break;
    default:
      check_table<Eigen::bfloat16>(choices);
  }
  return 0;
}
