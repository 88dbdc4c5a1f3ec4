// SPDX-License-Identifier: MIT
#include "gpt2/error.hpp"

#include <cstdint>
#include <limits>
#include <string>
#include <type_traits>
#include <vector>

#include "catch.hpp"

namespace error_tests {

using namespace gpt2;

TEMPLATE_TEST_CASE("every error is an Error, and copies without throwing", "[error]", IndexError, ShapeError,
                   ArgumentError, ConfigError, CheckpointError) {
  STATIC_REQUIRE(std::is_base_of_v<Error, TestType>);
  STATIC_REQUIRE(std::is_base_of_v<std::runtime_error, TestType>);
  STATIC_REQUIRE((std::is_nothrow_copy_constructible_v<TestType> && std::is_copy_assignable_v<TestType>));
}

TEST_CASE("an IndexError says table, argument, place, value and range", "[error]") {
  const IndexError error("wte", "input_ids", {1, 3}, 50257, 50257);
  CHECK(std::string(error.what()) == "[gpt2.index_error] wte: input_ids[1, 3] = 50257 is outside [0, 50257)");
  CHECK(error.table() == "wte");
  CHECK(error.name() == "input_ids");
  CHECK(error.coordinates() == std::vector<std::int64_t>{1, 3});
  CHECK(error.value() == 50257);
  CHECK(error.bound() == 50257);
}

TEST_CASE("an IndexError of no element has no brackets, one without a table no table", "[error]") {
  const IndexError error("", "position_ids", {}, -1, 8, ": why");
  CHECK(std::string(error.what()) == "[gpt2.index_error] position_ids = -1 is outside [0, 8): why");
  CHECK(error.coordinates().empty());
}

TEST_CASE("an IndexError prints unsigned values exactly", "[error]") {
  const IndexError error("embedding", "ids", {0}, std::numeric_limits<std::uint64_t>::max(), 4);
  CHECK(std::string(error.what()) ==
        "[gpt2.index_error] embedding: ids[0] = 18446744073709551615 is outside [0, 4)");
  CHECK(error.value() == std::numeric_limits<std::int64_t>::max());
}

TEST_CASE("an IndexError prints characters as numbers", "[error]") {
  CHECK(std::string(IndexError("embedding", "ids", {0}, 'A', 4).what()) ==
        "[gpt2.index_error] embedding: ids[0] = 65 is outside [0, 4)");
}

TEST_CASE("a ShapeError says what was expected and found", "[error]") {
  const ShapeError error("wte", "out", "[4, 8]", "[4, 7]");
  CHECK(std::string(error.what()) == "[gpt2.shape_error] wte: out is [4, 7], expected [4, 8]");
  CHECK(error.table() == "wte");
  CHECK(error.name() == "out");
  CHECK(error.expected() == "[4, 8]");
  CHECK(error.found() == "[4, 7]");
}

TEST_CASE("an ArgumentError says the option and its value", "[error]") {
  const ArgumentError error("stddev", -0.1, "is negative");
  CHECK(std::string(error.what()) == "[gpt2.argument_error] stddev = -0.1 is negative");
  CHECK(error.name() == "stddev");
  CHECK(error.value() == -0.1);
}

TEST_CASE("an ArgumentError about an element says where it is", "[error]") {
  const ArgumentError error("attention_mask", {1, 3}, 5, "is neither 0 nor 1");
  CHECK(std::string(error.what()) == "[gpt2.argument_error] attention_mask[1, 3] = 5 is neither 0 nor 1");
  CHECK(error.name() == "attention_mask");
  CHECK(error.coordinates() == std::vector<std::int64_t>{1, 3});
  CHECK(error.value() == 5);
}

TEST_CASE("an ArgumentError about something missing is a sentence", "[error]") {
  const ArgumentError error("grad", "there is no gradient before the first backward()");
  CHECK(std::string(error.what()) ==
        "[gpt2.argument_error] there is no gradient before the first backward()");
  CHECK(error.name() == "grad");
  CHECK(error.coordinates().empty());
}

TEST_CASE("a ConfigError says the field and its value; without a field, what is wrong with the text",
          "[error]") {
  const ConfigError error("n_embd", "768.5", "is not an integer");
  CHECK(std::string(error.what()) == "[gpt2.config_error] n_embd = 768.5 is not an integer");
  CHECK(error.field() == "n_embd");
  CHECK(error.value() == "768.5");
  CHECK(std::string(ConfigError("", "", "not JSON").what()) == "[gpt2.config_error] not JSON");
}

TEST_CASE("a CheckpointError says the file, the tensor and the kind", "[error]") {
  const CheckpointError error("gpt2/model.safetensors", "wte.weight", "UnexpectedShape", "expected [2, 3]");
  CHECK(std::string(error.what()) ==
        "[gpt2.checkpoint_error] gpt2/model.safetensors: wte.weight: expected [2, 3] [UnexpectedShape]");
  CHECK(error.path() == "gpt2/model.safetensors");
  CHECK(error.tensor() == "wte.weight");
  CHECK(error.kind() == "UnexpectedShape");
}

TEST_CASE("a copy of an error outlives the original", "[error]") {
  auto original = std::make_unique<IndexError>("wte", "input_ids", std::vector<std::int64_t>{2}, 9, 5);
  const IndexError copy = *original;
  original.reset();
  CHECK(copy.name() == "input_ids");
  CHECK(copy.coordinates() == std::vector<std::int64_t>{2});
  IndexError source = copy;
  const IndexError taken = std::move(source);
  CHECK(source.name() == taken.name());  // a moved-from error still has its details
}

}  // namespace error_tests
