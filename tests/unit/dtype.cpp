// SPDX-License-Identifier: MIT
#include "gpt2/dtype.hpp"

#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "catch.hpp"

namespace dtype_tests {

using namespace gpt2;

TEST_CASE("there are 22 dtypes, each with a name and a size", "[dtype]") {
  const std::map<std::string, unsigned> sizes = {
      {"BOOL", 8},        {"F4", 4},          {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"U8", 8},   {"I8", 8},
      {"F8_E5M2", 8},     {"F8_E4M3", 8},     {"F8_E8M0", 8}, {"I16", 16},    {"U16", 16}, {"F16", 16},
      {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8}, {"BF16", 16},   {"I32", 32},    {"U32", 32}, {"F32", 32},
      {"C64", 64},        {"F64", 64},        {"I64", 64},    {"U64", 64}};
  CHECK(sizes.size() == 22);
  for (const auto& [name, size] : sizes) {
    const std::optional<DType> dtype = parse_dtype(name);
    REQUIRE(dtype.has_value());
    CHECK(to_string(*dtype) == name);
    CHECK(bits(*dtype) == size);
  }
  for (const std::string_view name : {"", "F3", "f32", "F32 ", "float32", "F8", "F8_E4M3FN"}) {
    CHECK_FALSE(parse_dtype(name).has_value());
  }
}

}  // namespace dtype_tests
