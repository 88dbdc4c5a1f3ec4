// SPDX-License-Identifier: MIT
#include "gpt2/scalar.hpp"

#include <concepts>

#include "support.hpp"

namespace scalar_tests {

using namespace gpt2;

TEST_CASE("a table holds float, double, half or bfloat16", "[scalar]") {
  STATIC_REQUIRE((Scalar<float> && Scalar<double> && Scalar<Eigen::half> && Scalar<Eigen::bfloat16>));
  STATIC_REQUIRE_FALSE((Scalar<int> || Scalar<long double> || Scalar<const float>));
  STATIC_REQUIRE((std::same_as<Accumulator<float>, float> && std::same_as<Accumulator<double>, double>));
  STATIC_REQUIRE(
      (std::same_as<Accumulator<Eigen::half>, float> && std::same_as<Accumulator<Eigen::bfloat16>, float>));
}

TEST_CASE("results go to the table's scalar or a wider one", "[scalar]") {
  STATIC_REQUIRE((SameOrWider<float, float> && SameOrWider<double, float> && SameOrWider<double, double>));
  STATIC_REQUIRE((SameOrWider<float, Eigen::half> && SameOrWider<double, Eigen::bfloat16>));
  STATIC_REQUIRE((SameOrWider<Eigen::half, Eigen::half>));
  STATIC_REQUIRE_FALSE((SameOrWider<float, double> || SameOrWider<Eigen::half, float>));
  STATIC_REQUIRE_FALSE((SameOrWider<Eigen::half, Eigen::bfloat16> || SameOrWider<int, Eigen::half>));
}

}  // namespace scalar_tests
