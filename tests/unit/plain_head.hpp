// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// Shared by the tests of the output head: the head in plain loops and double, and derivatives by differences.

#include <cmath>
#include <cstddef>
#include <limits>
#include <type_traits>
#include <utility>
#include <vector>

#include "gpt2/lm_head.hpp"

namespace test::head {

using namespace gpt2;

inline constexpr double infinity = std::numeric_limits<double>::infinity();
inline constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();

/// The element as a double, whatever its type.
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
inline Matrix<double> plain_logits(const Matrix<double>& weight, const Matrix<double>& hidden,
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
inline double plain_loss(const Matrix<double>& weight, const Matrix<double>& hidden,
                         const std::vector<int>& labels, const CrossEntropyOptions& options = {}) {
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
inline constexpr double tolerance = std::is_same_v<Accumulator<T>, double> ? 1e-12 : 1e-5;

inline std::vector<int> some_labels(Index n, Index vocab_size) {
  std::vector<int> labels;
  for (Index i = 0; i < n; ++i) labels.push_back(i % 5 == 3 ? -100 : static_cast<int>(i * 37 % vocab_size));
  return labels;
}

}  // namespace test::head
