// SPDX-License-Identifier: MIT
#include "gpt2/hidden.hpp"

#include <utility>

#include "gpt2/types.hpp"
#include "support.hpp"

namespace hidden_tests {

using namespace gpt2;

TEST_CASE("hidden states are row-major matrices, and tensors if ids are of rank 2", "[hidden]") {
  using Block = decltype(std::declval<Matrix<float>&>().topRows(1));
  STATIC_REQUIRE((HiddenOutput<Matrix<float>&, float, 1> && HiddenOutput<Block, float, 1>));
  STATIC_REQUIRE((HiddenOutput<Tensor3<float>&, float, 2> && HiddenOutput<Matrix<float>&, float, 2>));
  STATIC_REQUIRE((HiddenOutput<Eigen::TensorMap<Tensor3<float>>, float, 2>));
  STATIC_REQUIRE_FALSE((HiddenOutput<Tensor3<float>&, float, 1>));
  STATIC_REQUIRE_FALSE((HiddenOutput<Eigen::MatrixXf&, float, 1>));      // column-major
  STATIC_REQUIRE_FALSE((HiddenOutput<const Matrix<float>&, float, 1>));  // not writable
  STATIC_REQUIRE_FALSE((HiddenOutput<Eigen::Map<const Matrix<float>>, float, 1>));
  STATIC_REQUIRE_FALSE((HiddenOutput<Eigen::TensorMap<const Tensor3<float>>, float, 2>));
  STATIC_REQUIRE_FALSE((HiddenOutput<Eigen::Tensor<float, 3>&, float, 2>));  // column-major
}

TEST_CASE("hidden states are read in the table's scalar or its Accumulator", "[hidden]") {
  STATIC_REQUIRE((HiddenInput<const Matrix<float>, Eigen::half, 1>));
  STATIC_REQUIRE((HiddenInput<Eigen::Map<const Matrix<Eigen::half>>, Eigen::half, 1>));
  STATIC_REQUIRE((HiddenInput<Eigen::TensorMap<const Tensor3<double>>, double, 2>));
  STATIC_REQUIRE_FALSE((HiddenInput<Matrix<double>, float, 1> || HiddenInput<Matrix<float>, double, 1>));
  STATIC_REQUIRE_FALSE((HiddenInput<decltype(Matrix<float>() * 2), float, 1>));
  STATIC_REQUIRE_FALSE((HiddenInput<Tensor3<float>, float, 1> || HiddenInput<int, float, 1>));
}

}  // namespace hidden_tests
