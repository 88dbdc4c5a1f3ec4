// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// Shared by the unit tests: asking for an error by type, comparing bits, a plain statement of each
/// operation.

#include <cstdint>
#include <cstring>
#include <exception>
#include <functional>
#include <random>
#include <string>
#include <type_traits>
#include <typeinfo>
#include <utility>

#include "catch.hpp"
#include "gpt2/embedding.hpp"
#include "gpt2/initialization.hpp"
#include "gpt2/types.hpp"

namespace test {

/// The error that an action throws; fails the test if it throws none or one of another type.
template <class E, class Action>
E error_of(Action&& action) {
  try {
    std::forward<Action>(action)();
  } catch (const E& error) {
    REQUIRE(typeid(error) == typeid(E));
    return error;
  } catch (const std::exception& error) {
    FAIL("another error was thrown: " << error.what());
  }
  FAIL("no error was thrown");
  throw std::exception();  // not reached: FAIL throws
}

inline bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

/// Whether two matrices have the same shape and the same bits, NaNs and signed zeros included.
template <class A, class B>
bool same_bits(const Eigen::DenseBase<A>& a, const Eigen::DenseBase<B>& b) {
  using T = typename A::Scalar;
  static_assert(std::is_same_v<T, typename B::Scalar>);
  if (a.rows() != b.rows() || a.cols() != b.cols()) return false;
  for (gpt2::Index i = 0; i < a.rows(); ++i) {
    for (gpt2::Index j = 0; j < a.cols(); ++j) {
      const T x = a.derived().coeff(i, j);
      const T y = b.derived().coeff(i, j);
      if (std::memcmp(&x, &y, sizeof(T)) != 0) return false;
    }
  }
  return true;
}

template <class T, class B>
bool same_bits(const gpt2::Tensor3<T>& a, const Eigen::DenseBase<B>& b) {
  return same_bits(gpt2::as_matrix(a), b);
}

template <class T>
bool same_bits(const gpt2::Tensor3<T>& a, const gpt2::Tensor3<T>& b) {
  return a.dimensions() == b.dimensions() && same_bits(gpt2::as_matrix(a), gpt2::as_matrix(b));
}

/// The product by a plain loop. (Eigen's takes long to compile, anew for each kind of operands.)
inline gpt2::Matrix<double> plain_product(const gpt2::Matrix<double>& a, const gpt2::Matrix<double>& b) {
  REQUIRE(a.cols() == b.rows());
  gpt2::Matrix<double> product = gpt2::Matrix<double>::Zero(a.rows(), b.cols());
  for (gpt2::Index i = 0; i < a.rows(); ++i) {
    double* const sums = product.data() + i * b.cols();
    for (gpt2::Index k = 0; k < b.rows(); ++k) {
      const double factor = a(i, k);
      const double* const row = b.data() + k * b.cols();
      for (gpt2::Index j = 0; j < b.cols(); ++j) sums[j] += factor * row[j];
    }
  }
  return product;
}

/// Ids drawn evenly from [0, bound).
inline gpt2::IdMatrix<std::int64_t> random_ids(gpt2::Index rows, gpt2::Index cols, gpt2::Index bound,
                                               unsigned seed = 1) {
  std::mt19937 random(seed);
  gpt2::IdMatrix<std::int64_t> ids(rows, cols);
  for (gpt2::Index i = 0; i < ids.size(); ++i) ids.data()[i] = static_cast<std::int64_t>(random()) % bound;
  return ids;
}

/// A matrix of N(0, stddev²).
template <class T>
gpt2::Matrix<T> drawn(gpt2::Index rows, gpt2::Index cols, std::uint64_t seed = 1, double stddev = 1) {
  gpt2::Matrix<T> matrix(rows, cols);
  gpt2::normal_(matrix, stddev, seed);
  return matrix;
}

/// A device that cuts its work into uneven parts, in reverse order, on the calling thread.
struct SlicingDevice {
  gpt2::Index slice = 7;
  [[nodiscard]] int numThreads() const { return 4; }
  void parallelFor(gpt2::Index n, const Eigen::TensorOpCost& /*cost*/,
                   std::function<void(gpt2::Index, gpt2::Index)> body) const {
    for (gpt2::Index last = n; last > 0; last -= slice) body(last > slice ? last - slice : 0, last);
  }
};

/// A copy of the weight of a table that may be a temporary.
template <class T>
[[nodiscard]] gpt2::Matrix<T> weight_of(const gpt2::Embedding<T>& table) {
  return table.weight();
}

}  // namespace test
