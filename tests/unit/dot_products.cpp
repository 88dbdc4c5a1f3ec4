// SPDX-License-Identifier: MIT
//
// The products of a head's few states against plain sums in double. CMake builds this again as other processors run
// it.

#include "gpt2/detail/kernels/dot_products.hpp"

#include <cmath>
#include <cstdint>
#include <limits>

#include "support.hpp"

namespace dot_products_tests {

using namespace gpt2;

namespace {

/// A table of any stored scalar.
template <class S>
Matrix<S> stored(Index rows, Index cols) {
  const Matrix<float> numbers = (40 * test::drawn<float>(rows, cols, 1)).cwiseMax(-127).cwiseMin(127);
  return numbers.cast<S>();
}

template <class U>
detail::RowView<const U> view(const Matrix<U>& rows) {
  return {rows.data(), rows.rows(), rows.cols(), rows.cols()};
}

template <class A, class S>
Matrix<A> products(const Matrix<A>& states, const Matrix<S>& rows) {
  Matrix<A> out = Matrix<A>::Constant(states.rows() + 1, rows.rows() + 3, A(-77));
  const detail::RowView<A> result{out.data(), states.rows(), rows.rows(), out.cols()};
  detail::dot_products(view(states), view(rows), result);
  CHECK((out.rightCols(3).array() == A(-77)).all());
  CHECK((out.bottomRows(1).array() == A(-77)).all());
  return out.topLeftCorner(states.rows(), rows.rows());
}

/// Whether the products are plain sums, with errors of at most `tolerance` times the sums of magnitudes.
bool are_products(const Matrix<double>& found, const Matrix<double>& states, const Matrix<double>& rows,
                  double tolerance) {
  const Matrix<double> columns = rows.transpose();
  const Matrix<double> expected = test::plain_product(states, columns);
  const Matrix<double> scale = test::plain_product(states.cwiseAbs(), columns.cwiseAbs());
  return ((found - expected).array().abs() <= tolerance * scale.array()).all();
}

}  // namespace

TEMPLATE_TEST_CASE("products of every width and number of states", "[dot_products]", float, double,
                   Eigen::half, Eigen::bfloat16, std::int8_t) {
  using A = std::conditional_t<std::is_same_v<TestType, double>, double, float>;
  for (const Index width : {0, 1, 7, 8, 9, 65, 768}) {
    for (const Index size : {0, 1, 5, 6, 7, 70}) {
      const Matrix<TestType> rows = stored<TestType>(size, width);
      for (const Index count : {0, 1, 2, 3, 4, 5, 8, 37}) {
        INFO(width << " columns, " << size << " rows, " << count << " states");
        const Matrix<A> states = test::drawn<A>(count, width, 2);
        const Matrix<A> found = products(states, rows);
        const double tolerance = 8 * double{std::numeric_limits<A>::epsilon()};
        CHECK(are_products(found.template cast<double>(), states.template cast<double>(),
                           rows.template cast<double>(), tolerance));
      }
    }
  }
}

TEMPLATE_TEST_CASE("a product's bits depend on its state and its row alone", "[dot_products]", float,
                   Eigen::half, std::int8_t) {
  const Matrix<TestType> rows = stored<TestType>(70, 65);
  const Matrix<float> states = test::drawn<float>(37, 65, 2);
  const Matrix<float> all = products(states, rows);
  for (Index s = 0; s < states.rows(); ++s) {
    const Matrix<float> state = states.row(s);
    const Matrix<TestType> last = rows.bottomRows(9);
    const Matrix<float> expected = all.row(s).tail(9);
    CHECK(test::same_bits(products(state, last), expected));
  }
}

TEST_CASE("NaN and infinities of a row stay in its products", "[dot_products]") {
  Matrix<float> rows = Matrix<float>::Ones(20, 19);
  rows(7, 18) = std::numeric_limits<float>::quiet_NaN();
  rows(8, 3) = std::numeric_limits<float>::infinity();
  const Matrix<float> found = products(Matrix<float>(Matrix<float>::Ones(3, 19)), rows);
  for (Index s = 0; s < 3; ++s) {
    for (Index r = 0; r < 20; ++r) {
      if (r == 7) {
        CHECK(std::isnan(found(s, r)));
      } else {
        CHECK(found(s, r) == (r == 8 ? std::numeric_limits<float>::infinity() : 19.0F));
      }
    }
  }
}

}  // namespace dot_products_tests
